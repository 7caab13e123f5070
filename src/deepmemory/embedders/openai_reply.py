"""Reads what an OpenAI-compatible endpoint answered, and trusts none of it."""

import base64
import binascii
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmemory.embedders.checks import unit_rows
from deepmemory.errors import EmbedderError

__all__ = ["UnreadableReplyError", "complaint", "vectors_from_reply"]

_SHOWN_CHARACTERS = 200


class UnreadableReplyError(EmbedderError):
    """The reply is no JSON: what a proxy or a dying server sends, so asking again may help."""


def vectors_from_reply(content: bytes, count: int, dimensions: int | None, source: str) -> NDArray[np.float32]:
    """The vectors in a reply of ``/embeddings``, in the order of the texts.

    Args:
        content: the body of the reply.
        count: how many texts were sent.
        dimensions: what the length of the vectors must be, where it is known.
        source: the address, as the subject of a sentence.

    Returns:
        ``(count, dimensions)`` float32, unit norm.

    Raises:
        UnreadableReplyError: the body is no JSON.
        EmbedderError: it is JSON, and not the vectors of these texts.
    """
    items = _items(content, source)
    if len(items) != count:
        raise EmbedderError(f"{source} answered {count} texts with {len(items)} vectors; expected one each")
    rows: dict[int, Any] = {}
    for item in items:
        index = item.get("index") if isinstance(item, dict) else None
        if not isinstance(index, int) or not 0 <= index < count or index in rows:
            raise EmbedderError(
                f"{source} answered {count} texts with a vector whose index is {index!r}; "
                f"expected each of 0 to {count - 1} once"
            )
        rows[index] = _numbers(item.get("embedding"), index, source)
    return unit_rows([rows[index] for index in range(count)], count, source, dimensions)


def complaint(body: object, secret: str | None) -> str:
    """What a server said was wrong, on one short line, without the key that it may have quoted."""
    text = _message(body) or (body if isinstance(body, str) else "")
    if text.lstrip().startswith("<"):
        return "an HTML page"
    line = " ".join(text.split())
    if secret:
        line = line.replace(secret, "***")
    return line[:_SHOWN_CHARACTERS] + ("..." if len(line) > _SHOWN_CHARACTERS else "")


def _items(content: bytes, source: str) -> list[Any]:
    try:
        reply = json.loads(content)
    except (ValueError, RecursionError):
        raise UnreadableReplyError(
            f"{source} answered with something that is no JSON ({_excerpt(content)}); "
            "check that the address is that of an OpenAI-compatible API"
        ) from None
    items = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(items, list):
        said = complaint(reply, None) if _message(reply) else _excerpt(content)
        raise EmbedderError(f"{source} answered with JSON that has no list 'data' ({said})")
    return items


def _numbers(embedding: object, index: int, source: str) -> object:
    """One embedding as it came: a list of numbers, or float32 numbers in base64."""
    if not isinstance(embedding, str):
        return embedding
    try:
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    except (ValueError, binascii.Error):
        raise EmbedderError(
            f"{source} answered with a vector at index {index} that is neither a list of numbers nor float32 in base64"
        ) from None


def _message(body: object) -> str | None:
    """The message in an error body, in the forms that servers have for it."""
    if not isinstance(body, dict):
        return None
    for key in ("error", "message", "detail"):
        value = body.get(key)
        if isinstance(value, dict):
            return _message(value)
        if isinstance(value, str) and value:
            return value
    return None


def _excerpt(content: bytes) -> str:
    if not content:
        return "an empty body"
    return complaint(content[: 2 * _SHOWN_CHARACTERS].decode(errors="replace"), None)
