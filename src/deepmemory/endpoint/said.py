"""What a server said, on one short line, and none of it trusted."""

import json
from typing import Any

__all__ = ["UnreadableReplyError", "complaint", "excerpt", "json_reply"]

_SHOWN_CHARACTERS = 200


class UnreadableReplyError(Exception):
    """The reply is no JSON: what a proxy or a dying server sends, so asking again may help."""


def json_reply(content: bytes, source: str) -> Any:
    """The JSON value of a reply.

    Raises:
        UnreadableReplyError: it is none; the message names the source.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise UnreadableReplyError(
            f"{source} answered with something that is no JSON ({excerpt(content)}); "
            "check that the address is that of an OpenAI-compatible API"
        ) from None


def complaint(body: object, secret: str | None = None) -> str:
    """What a server said was wrong, on one short line, without the key that it may have quoted.

    Args:
        body: the JSON of an error, or a text.
        secret: what must not be shown.
    """
    text = _message(body) or (body if isinstance(body, str) else "")
    if text.lstrip().startswith("<"):
        return "an HTML page"
    line = " ".join(text.split())
    if secret:
        line = line.replace(secret, "***")
    return line[:_SHOWN_CHARACTERS] + ("..." if len(line) > _SHOWN_CHARACTERS else "")


def excerpt(content: bytes) -> str:
    """How a body begins; the message in it, where it is an error."""
    if not content:
        return "an empty body"
    try:
        said = _message(json.loads(content))
    except (ValueError, RecursionError):
        said = None
    return complaint(said or content[: 2 * _SHOWN_CHARACTERS].decode(errors="replace"))


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
