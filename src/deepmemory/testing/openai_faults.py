"""Ways in which an HTTP API misbehaves, for `OpenAIServer.fail_next`."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["Fault"]

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one request; made by the class methods.

    Attributes:
        status: HTTP status of the reply.
        headers: sent with the reply, beside the usual ones.
        body: sent in place of the true reply.
        change: changes the JSON of the true reply in place; what it returns does not matter.
        delay: seconds to wait before the reply.
        kept: the fraction of the body that is sent before the connection is closed.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    change: Callable[[Json], object] | None = None
    delay: float = 0.0
    kept: float = 1.0

    @classmethod
    def http(
        cls,
        status: int,
        message: str = "something is wrong",
        *,
        code: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> "Fault":
        """An HTTP error with OpenAI's JSON body, such as 429 with ``retry_after`` seconds."""
        asked = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
        error = {"message": message, "type": code or "error", "param": None, "code": code}
        return cls(status=status, headers={**asked, **(headers or {})}, body=json.dumps({"error": error}).encode())

    @classmethod
    def raw(cls, body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> "Fault":
        """Any bytes in place of the reply: an HTML page, JSON that breaks off, nothing."""
        return cls(status=status, headers=dict(headers or {}), body=body)

    @classmethod
    def broken_json(cls) -> "Fault":
        """A whole reply that is no JSON."""
        return cls.raw(b'{"object": "list", "data": [')

    @classmethod
    def truncated(cls, kept: float = 0.5) -> "Fault":
        """The true reply, of which only a part arrives before the connection closes."""
        return cls(kept=kept)

    @classmethod
    def dropped(cls) -> "Fault":
        """The connection closes without a reply."""
        return cls(kept=-1.0)

    @classmethod
    def slow(cls, seconds: float) -> "Fault":
        """The true reply, late."""
        return cls(delay=seconds)

    @classmethod
    def with_headers(cls, headers: Mapping[str, str]) -> "Fault":
        """The true reply with further headers, such as ``x-ratelimit-remaining-requests``."""
        return cls(headers=dict(headers))

    @classmethod
    def altered(cls, change: Callable[[Json], object]) -> "Fault":
        """The true reply, if it is no stream, with its JSON changed in place by a function."""
        return cls(change=change)

    @classmethod
    def wrong_count(cls, by: int = -1) -> "Fault":
        """Too few vectors (or choices), or with a positive number too many."""

        def change(reply: Json) -> None:
            items = reply["data"] if "data" in reply else reply["choices"]
            items[:] = items[:by] if by < 0 else items + items[:1] * by

        return cls(change=change)

    def spoil(self, reply: Json) -> bytes:
        """The body to send instead of a true reply."""
        if self.body is not None:
            return self.body
        if self.change is not None:
            self.change(reply)
        return json.dumps(reply).encode()
