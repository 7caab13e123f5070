"""robots.txt: what a site asks of those who crawl it, by RFC 9309."""

from dataclasses import dataclass, field

from protego import Protego

from deepmemory.ingest.fetch import FailedError, Fetcher
from deepmemory.ingest.text import decode
from deepmemory.ingest.urls import canonical_url, origin_of

__all__ = ["Robots", "read_robots"]

_AGENT = "deepmemory"
_LARGEST = 500 * 1024
_REDIRECTS = 5


@dataclass(frozen=True, slots=True)
class Robots:
    """The rules of one site.

    Attributes:
        delay: seconds to wait between two requests.
        sitemaps: addresses of sitemaps.
    """

    delay: float = 0.0
    sitemaps: tuple[str, ...] = ()
    _rules: Protego | None = field(default=None, repr=False)

    def allows(self, url: str) -> bool:
        """Whether an address may be asked for."""
        return self._rules is None or bool(self._rules.can_fetch(url, _AGENT))


def read_robots(url: str, fetcher: Fetcher) -> Robots:
    """Read the rules of the site that an address is on; a site without any allows everything.

    Raises:
        FailedError: the rules couldn't be read, so that nothing may be asked for.
    """
    address = f"{origin_of(url)}/robots.txt"
    for _ in range(_REDIRECTS + 1):
        reply = fetcher.get(address, max_bytes=_LARGEST)
        target = canonical_url(reply.redirect, address) if reply.redirect else None
        if target is None:
            break
        address = target
    if reply.status >= 500:
        raise FailedError(f"robots.txt answered {reply.status}")
    # Servers that answer everything with a page of their own have no rules.
    if reply.status != 200 or reply.declared in ("text/html", "application/xhtml+xml"):
        return Robots()
    rules = Protego.parse(decode(reply.body))
    rate = rules.request_rate(_AGENT)
    delays = [rules.crawl_delay(_AGENT) or 0.0, rate.seconds / rate.requests if rate and rate.requests else 0.0]
    sitemaps = (canonical_url(sitemap, address) for sitemap in rules.sitemaps)
    return Robots(max(delays), tuple(found for found in sitemaps if found), rules)
