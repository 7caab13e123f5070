"""Sitemaps: the pages that a site lists itself, in XML or plain text, also compressed and in parts."""

import zlib
from collections.abc import Iterator

from lxml import etree

from deepmemory.ingest.fetch import FailedError, Fetcher, UnwantedError
from deepmemory.ingest.robots import Robots
from deepmemory.ingest.text import decode
from deepmemory.ingest.urls import Scope, canonical_url, origin_of

__all__ = ["listed_pages"]

_LARGEST = 50 * 2**20  # the protocol's own limit, uncompressed
_MOST_SITEMAPS = 50
_GZIP = b"\x1f\x8b"


def listed_pages(url: str, scope: Scope, robots: Robots, fetcher: Fetcher) -> Iterator[str]:
    """The pages that the site of an address lists and that are in scope, in its order.

    A sitemap that can't be read is passed over: links lead to the pages as well.
    """
    origin = origin_of(url)
    waiting = list(
        dict.fromkeys([*robots.sitemaps, f"{origin}/sitemap.xml", f"{origin}{scope.prefixes[0]}sitemap.xml"])
    )
    seen: set[str] = set()
    while waiting and len(seen) < _MOST_SITEMAPS:
        address = waiting.pop(0)
        if address in seen or not robots.allows(address):
            continue
        seen.add(address)
        pages, sitemaps = _read(address, fetcher)
        waiting += sitemaps
        yield from (page for page in pages if page in scope)


def _read(address: str, fetcher: Fetcher) -> tuple[list[str], list[str]]:
    """Pages and further sitemaps that a sitemap lists."""
    try:
        reply = fetcher.get(address, max_bytes=_LARGEST)
    except (FailedError, UnwantedError):
        return [], []
    if reply.redirect:
        target = canonical_url(reply.redirect, address)
        return [], [target] if target else []
    body = _uncompressed(reply.body)
    if reply.status != 200 or reply.declared == "text/html":
        return [], []
    if not body.lstrip().startswith((b"<", b"\xef\xbb\xbf<")):
        return _addresses(decode(body).split("\n"), address), []
    # A sitemap needs no entities, and those of a hostile one could name files or grow without end.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True, huge_tree=False)
    root = etree.fromstring(body, parser)
    if root is None:
        return [], []
    places = _addresses([place.text or "" for place in root.iter("{*}loc")], address)
    is_index = etree.QName(root).localname == "sitemapindex"
    return ([], places) if is_index else (places, [])


def _addresses(lines: list[str], base: str) -> list[str]:
    found = (canonical_url(line, base) for line in lines if line.strip())
    return [address for address in found if address]


def _uncompressed(body: bytes) -> bytes:
    if not body.startswith(_GZIP):
        return body
    try:
        return zlib.decompressobj(wbits=31).decompress(body, _LARGEST)
    except zlib.error:
        return b""
