"""Addresses: one spelling for each page, what belongs to a site, and what only looks like a page."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from urllib.parse import urljoin

import httpx

__all__ = ["Scope", "canonical_url", "is_same_page", "origin_of", "page_key", "prefix_of", "why_no_page"]

_REMEMBERED = 20_000  # addresses: the links of a site's navigation are on each of its pages
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_LONGEST_URL = 2_000
_MOST_REPEATS = 3
_ESCAPED = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_TRACKING = re.compile(r"(?:utm_\w+|gclid|fbclid|msclkid|mc_cid|mc_eid|_hsenc|_hsmi|igshid)(?:=|$)")
_INDEX_PAGE = re.compile(r"/index\.x?html?$")
_FILES = re.compile(
    r"\.(?:png|jpe?g|gif|webp|avif|svg|ico|bmp|tiff?|css|js|mjs|map|json|xml|rss|atom|woff2?|ttf|otf|eot|zip|gz|bz2|xz|zst"
    r"|tgz|tar|7z|rar|whl|jar|deb|rpm|dmg|exe|msi|iso|bin|mp[34]|webm|ogg|wav|mov|avi|docx?|xlsx?|pptx?|epub|csv|inv)$",
    re.I,
)


def canonical_url(address: str, base: str | None = None) -> str | None:
    """The one spelling of a page's address: no fragment, no default port, no needless escapes, no tracking.

    What may be another page stays another: ``/`` and ``/index.html``, the order of a query.

    Args:
        address: as it stands in a link.
        base: the page that the link is on.

    Returns:
        an http or https address; None where it is none, or names a user.
    """
    try:
        return _canonical(urljoin(base, address.strip()) if base else address.strip())
    except ValueError:
        return None


@lru_cache(maxsize=_REMEMBERED)
def _canonical(address: str) -> str | None:
    try:
        url = httpx.URL(address)
        host = url.raw_host.decode("ascii")
        path, _, query = url.raw_path.decode("ascii").partition("?")
        port = url.port
    except (httpx.InvalidURL, UnicodeError, ValueError, TypeError):
        return None
    if url.scheme not in _DEFAULT_PORTS or url.userinfo or not _HOST.fullmatch(host) or not 0 < (port or 1) < 65536:
        return None
    kept = "&".join(part for part in query.split("&") if part and not _TRACKING.match(part))
    netloc = url.netloc.decode("ascii").removesuffix(_DEFAULT_PORTS[url.scheme])
    return f"{url.scheme}://{netloc}{_ESCAPED.sub(_unescaped, path) or '/'}{'?' if kept else ''}{kept}"


def _unescaped(escape: re.Match[str]) -> str:
    letter = chr(int(escape[1], 16))
    return letter if _UNRESERVED.fullmatch(letter) else escape[0].upper()


@lru_cache(maxsize=_REMEMBERED)
def _parsed(url: str) -> httpx.URL:
    return httpx.URL(url)


def origin_of(url: str) -> str:
    """Scheme, host and port of an address."""
    parsed = _parsed(url)
    return f"{parsed.scheme}://{parsed.netloc.decode('ascii')}"


def page_key(url: str) -> str:
    """What names a page within its site: path and query."""
    return _parsed(url).raw_path.decode("ascii")


def prefix_of(url: str) -> str:
    """The part of a site that an address stands for: the folder of a file, a folder itself."""
    path = page_key(url).partition("?")[0]
    folder, _, last = path.rpartition("/")
    return f"{folder}/" if "." in last or not last else f"{path}/"


def is_same_page(url: str, other: str) -> bool:
    """Whether two addresses differ only as those of one page do: scheme, query, ``index.html``, last slash."""
    one, two = httpx.URL(url), httpx.URL(other)
    return one.host == two.host and _without_index(one.path) == _without_index(two.path)


def _without_index(path: str) -> str:
    return _INDEX_PAGE.sub("/", path).rstrip("/")


@dataclass(frozen=True, slots=True)
class Scope:
    """The part of a site that is crawled.

    Attributes:
        host: with the port where it isn't the scheme's own; http and https are one site.
        prefixes: how paths begin.
        include: patterns of which one must match; every page where there is none.
        exclude: patterns of which none may match.
    """

    host: str
    prefixes: tuple[str, ...]
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __contains__(self, url: object) -> bool:
        parsed = _parsed(str(url))
        if parsed.netloc.decode("ascii") != self.host:
            return False
        path = parsed.raw_path.decode("ascii")
        if not any(path.startswith(prefix) or path == prefix.rstrip("/") for prefix in self.prefixes):
            return False
        return (not self.include or _matches(str(url), path, self.include)) and not _matches(
            str(url), path, self.exclude
        )


def _matches(url: str, path: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern with ``*`` and ``?`` matches the path and query, or the whole address if it is one."""
    return any(fnmatchcase(url if "://" in pattern else path, pattern) for pattern in patterns)


def why_no_page(url: str) -> str | None:
    """Why an address isn't worth asking for, by its looks alone; None where it is."""
    path = _parsed(url).path
    if _FILES.search(path):
        return "not a page by its name"
    if len(url) > _LONGEST_URL:
        return "an address without end"
    segments = [segment for segment in path.split("/") if segment]
    # A relative link that lacks its leading slash grows the path at each step: /docs/docs/docs/...
    if max(Counter(segments).values(), default=0) > _MOST_REPEATS:
        return "an address that repeats itself"
    return None
