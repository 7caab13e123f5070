"""Where a page leads."""

import re
from collections.abc import Iterator

from deepmemory.ingest.html import parse_html
from deepmemory.ingest.text import decode
from deepmemory.ingest.urls import canonical_url

__all__ = ["links_of"]

_REFRESH = re.compile(r"^\s*[\d.]*\s*[;,]\s*url\s*=\s*[\"']?([^\"'\s]+)", re.I)
_SOURCES = {"a": "href", "area": "href", "frame": "src", "iframe": "src"}


def links_of(body: bytes, charset: str | None, url: str) -> Iterator[str]:
    """The addresses that an HTML page links to, navigation included, in order and each once.

    Args:
        body: the page.
        charset: what the server said about its encoding.
        url: the page's own address.
    """
    root = parse_html(decode(body, charset, html=True))
    if root is None:
        return
    base = next((element.get("href") for element in root.iter("base") if element.get("href")), None)
    start = canonical_url(base, url) if base else None
    seen: set[str] = set()
    for element in root.iter("a", "area", "frame", "iframe", "meta"):
        if element.tag != "meta":
            target = element.get(_SOURCES[element.tag])
        else:
            refresh = (element.get("http-equiv") or "").lower() == "refresh"
            match = _REFRESH.match(element.get("content") or "") if refresh else None
            target = match[1] if match else None
        address = canonical_url(target, start or url) if target else None
        if address and address not in seen:
            seen.add(address)
            yield address
