"""Where an OpenAI-compatible API is, and the key that it wants."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

__all__ = ["OPENAI_URL", "Access"]

OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Access:
    """An address and a key; whether they make sense is asked with `problems`.

    Attributes:
        base_url: such as ``http://localhost:8000/v1``.
        api_key: empty where the server wants none.
    """

    base_url: str
    api_key: str = field(repr=False)

    @classmethod
    def of(cls, base_url: str | None, api_key: str | None) -> Self:
        """What was given, else ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY``, else OpenAI's own address."""
        url = base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
        return cls(url.strip(), (api_key or os.environ.get("OPENAI_API_KEY") or "").strip())

    @property
    def lacks_key(self) -> bool:
        """Whether it is OpenAI itself, which lets nobody in without a key."""
        return not self.api_key and self.base_url.rstrip("/") == OPENAI_URL

    def problems(self, what: str) -> Iterator[str]:
        """What no request could be sent with.

        Args:
            what: is behind the address, such as ``the embeddings endpoint``.
        """
        if not _is_web_address(self.base_url):
            yield f"the base URL of {what} must be like https://host/v1: see OPENAI_BASE_URL"
        if not self.api_key.isascii() or not self.api_key.isprintable():
            yield "the API key holds characters that no HTTP header can carry: see OPENAI_API_KEY"

    def shown(self, path: str) -> str:
        """The address of a route, without a password or a query that the base URL may hold."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}{path}"


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half of an IPv6 address, a port that is no number
        return False
