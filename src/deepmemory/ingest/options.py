"""What can be asked of a crawl, and the numbers that hold when nothing is."""

from dataclasses import dataclass

from deepmemory._version import __version__
from deepmemory.errors import InputError

__all__ = ["CrawlOptions"]

_MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class CrawlOptions:
    """How a site is crawled; always directly, and never through a proxy.

    Attributes:
        max_pages: at most so many pages are read.
        max_depth: at most so many links away from the start; 0 reads the start addresses alone, None has no limit.
        max_page_bytes: a larger page is skipped.
        max_total_bytes: the crawl ends with the page that goes beyond.
        max_seconds: the crawl ends after so long, counting what whoever takes its pages does with them.
        prefix: pages whose path begins with it belong to the site; by default the folder of the start address.
        include: patterns with ``*`` and ``?`` of which a page's path and query must match one (or its whole address,
            where the pattern holds ``://``); the start addresses are always read.
        exclude: patterns of which a page must match none.
        sitemap: whether the pages that the site's sitemap lists are read as well.
        respect_robots: whether robots.txt is obeyed.
        allow_private: whether addresses that are not public, such as this machine's own, may be reached.
        delay: seconds between the beginnings of two requests; robots.txt may ask for more.
        concurrency: how many requests may be under way at once.
        timeout: seconds without an answer after which a request has failed.
        retries: how often a request that failed for now is repeated.
        backoff: seconds before the first repetition, doubled before each further one.
        user_agent: who asks, in each request.
    """

    max_pages: int = 1_000
    max_depth: int | None = None
    max_page_bytes: int = 20 * _MEBIBYTE
    max_total_bytes: int = 1024 * _MEBIBYTE
    max_seconds: float = 3_600.0
    prefix: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    sitemap: bool = True
    respect_robots: bool = True
    allow_private: bool = False
    delay: float = 0.1
    concurrency: int = 4
    timeout: float = 20.0
    retries: int = 3
    backoff: float = 0.5
    user_agent: str = f"deepmemory/{__version__} (+https://github.com/deep-memory/deepmemory)"

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be {words}, but is {value!r}"
            for name, words, least in _BOUNDS
            if isinstance(value := getattr(self, name), int | float) and not value >= least
        ]
        problems += [
            f"{name} is a list of patterns, but is the text {value!r}"
            for name in ("include", "exclude")
            if isinstance(value := getattr(self, name), str)
        ]
        if self.prefix is not None and not self.prefix.startswith("/"):
            problems.append(f"prefix must begin with '/', but is {self.prefix!r}")
        if problems:
            raise InputError(problems)


_BOUNDS = (
    ("max_pages", "1 or more", 1),
    ("max_depth", "0 or more", 0),
    ("max_page_bytes", "1 or more", 1),
    ("max_total_bytes", "1 or more", 1),
    ("max_seconds", "more than 0", 1e-9),
    ("delay", "0 or more", 0),
    ("concurrency", "1 or more", 1),
    ("timeout", "more than 0", 1e-9),
    ("retries", "0 or more", 0),
    ("backoff", "0 or more", 0),
)
