"""Reads what an OpenAI-compatible endpoint answered, and trusts none of it."""

import base64
import binascii
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmemory.embedders.checks import unit_rows
from deepmemory.endpoint import excerpt, json_reply
from deepmemory.errors import EmbedderError

__all__ = ["vectors_from_reply"]


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


def _items(content: bytes, source: str) -> list[Any]:
    reply = json_reply(content, source)
    items = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(items, list):
        raise EmbedderError(f"{source} answered with JSON that has no list 'data' ({excerpt(content)})")
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
