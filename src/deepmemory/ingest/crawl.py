"""A site, page by page: breadth first, in the order of its links, within its limits."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import TypeVar

from deepmemory.errors import IngestError, InputError
from deepmemory.ingest.extract import media_type_of
from deepmemory.ingest.fetch import FailedError, Fetcher, Reply, StoppedError, UnwantedError
from deepmemory.ingest.links import links_of
from deepmemory.ingest.options import CrawlOptions
from deepmemory.ingest.robots import Robots, read_robots
from deepmemory.ingest.sitemaps import listed_pages
from deepmemory.ingest.urls import Scope, canonical_url, origin_of, page_key, prefix_of, why_no_page
from deepmemory.ingest.visit import Known, Page, Status, Visit

__all__ = ["crawl", "start_addresses"]

_T = TypeVar("_T")
_MOST_REDIRECTS = 10
_MOST_FAILURES_IN_A_ROW = 8  # a server that has gone away isn't asked for each page that it had
_REQUESTS_PER_PAGE = 4  # what answers with redirects and failures alone is left after so many, times the pages allowed
_LISTED_PER_PAGE = 10  # so many addresses of a sitemap are looked at, times the pages allowed
_SHOWN_REASONS = 3


def crawl(
    start: str | Sequence[str],
    options: CrawlOptions | None = None,
    *,
    known: Mapping[str, Known] | None = None,
) -> Iterator[Visit]:
    """Read the pages of a site that can be reached from where it starts, on the same host and below the same path.

    Args:
        start: one address or several, all on one host; they are read first, and links lead on from them.
        options: limits and manners.
        known: what an earlier crawl left for its pages by their keys, so that only what changed is fetched.

    Yields:
        each page as it is found, in the order of the links that lead to it: the same for the same site, whatever
        answers first. What is linked and was not read because of a limit comes last.

    Raises:
        InputError: an address is none, or they are on several hosts.
        IngestError: not one page could be read, or the site's robots.txt couldn't.
    """
    options = options or CrawlOptions()
    addresses = start_addresses(start)
    with Fetcher(options) as fetcher:
        yield from _Crawl(addresses, options, known or {}, fetcher).visits()


def start_addresses(start: str | Sequence[str]) -> list[str]:
    """The addresses at which a crawl starts, each in its one spelling.

    Raises:
        InputError: one of them is no address, or they are on several hosts.
    """
    given = [start] if isinstance(start, str) else list(start)
    if not given:
        raise InputError("a crawl starts at one address or more, but there is none")
    addresses = [canonical_url(address) for address in given]
    problems = [
        f"{address!r} is no address to start at: expected http:// or https:// and a host, without a user"
        for address, found in zip(given, addresses, strict=True)
        if found is None
    ]
    origins = dict.fromkeys(origin_of(address) for address in addresses if address)
    if len(origins) > 1:
        problems.append(f"a crawl stays on one host, but the addresses are on {', '.join(origins)}")
    if problems:
        raise InputError(problems)
    return list(dict.fromkeys(address for address in addresses if address))


@dataclass(frozen=True, slots=True)
class _Entry:
    """An address that waits for its turn."""

    url: str
    depth: int
    redirects: int = 0


class _Crawl:
    def __init__(
        self, addresses: Sequence[str], options: CrawlOptions, known: Mapping[str, Known], fetcher: Fetcher
    ) -> None:
        self._options = options
        self._known = known
        self._fetcher = fetcher
        self._starts = tuple(addresses)
        self._origin = origin_of(addresses[0])
        self._scope = self._scope_of(addresses)
        self._robots = Robots()
        self._waiting = deque(_Entry(address, 0) for address in addresses)
        self._under_way: deque[tuple[_Entry, Future[Reply]]] = deque()
        self._seen = set(addresses)
        self._pages = self._requests = self._bytes = self._failures = 0
        self._is_listed = not options.sitemap or options.max_depth == 0
        self._reasons: list[str] = []

    def visits(self) -> Iterator[Visit]:
        """Everything that is found, then what a limit left out."""
        limit = None
        try:
            self._obey(self._origin)
            while self._waiting or self._under_way:
                yield from self._begin_requests()
                if not self._under_way:
                    break
                visit = self._noted(self._finished(*self._under_way[0]))
                self._under_way.popleft()
                self._add_listed()
                yield replace(visit, waiting=len(self._under_way) + len(self._waiting))
            limit = self._limit()
        except StoppedError:
            limit = f"the limit of {self._options.max_seconds:g} seconds"
        for entry in [*(entry for entry, _ in self._under_way), *self._waiting]:
            yield _visit(entry, Status.UNREACHED, limit or "")
        if self._pages == 0:
            reasons = "; ".join(self._reasons[:_SHOWN_REASONS]) or limit
            raise IngestError(f"no page of {', '.join(self._starts[:_SHOWN_REASONS])} could be read: {reasons}")

    def _scope_of(self, addresses: Sequence[str]) -> Scope:
        prefix = self._options.prefix
        prefixes = (prefix,) if prefix else tuple(dict.fromkeys(map(prefix_of, addresses)))
        host = origin_of(addresses[0]).partition("://")[2]
        return Scope(host, prefixes, tuple(self._options.include), tuple(self._options.exclude))

    def _obey(self, url: str) -> None:
        """Read and take to heart what a site asks of those who crawl it."""
        if not self._options.respect_robots:
            return
        try:
            self._robots = read_robots(url, self._fetcher)
        except (FailedError, UnwantedError) as error:
            raise IngestError(f"{origin_of(url)} can't be crawled: its robots.txt couldn't be read: {error}") from error
        self._fetcher.slow_down(self._robots.delay)

    def _add_listed(self) -> None:
        """Let the pages that the site lists wait, once it is known where the site is."""
        if self._is_listed or self._pages == 0 or self._limit() is not None:
            return
        self._is_listed = True
        listed = listed_pages(self._origin, self._scope, self._robots, self._fetcher)
        for url in islice(listed, _LISTED_PER_PAGE * self._options.max_pages):
            self._discover(url, 1)

    def _discover(self, url: str, depth: int) -> None:
        url = self._origin + page_key(url)  # links may name http where the site has gone to https
        if url in self._seen or (self._options.max_depth is not None and depth > self._options.max_depth):
            return
        self._seen.add(url)
        self._waiting.append(_Entry(url, depth))

    def _limit(self) -> str | None:
        """Why no further request begins; None while none of the limits is reached."""
        options, begun = self._options, len(self._under_way)
        if self._pages + begun >= options.max_pages:
            return f"the limit of {options.max_pages:,} pages"
        if self._bytes >= options.max_total_bytes:
            return f"the limit of {options.max_total_bytes:,} bytes"
        if self._requests >= _REQUESTS_PER_PAGE * options.max_pages + len(self._starts):
            return f"the limit of {self._requests:,} requests"
        if self._failures >= _MOST_FAILURES_IN_A_ROW:
            return f"the server failed {self._failures} times in a row"
        return None

    def _begin_requests(self) -> Iterator[Visit]:
        while self._waiting and len(self._under_way) < self._options.concurrency and self._limit() is None:
            entry = self._waiting.popleft()
            reason = why_no_page(entry.url) if entry.depth else None
            if reason is None and not self._robots.allows(entry.url):
                reason = "robots.txt forbids it"
            if reason is not None:
                yield self._noted(_visit(entry, Status.SKIPPED, reason))
                continue
            self._requests += 1
            request = partial(
                self._fetcher.get,
                entry.url,
                self._known.get(page_key(entry.url)),
                is_wanted=partial(_is_wanted, entry.url),
            )
            self._under_way.append((entry, _in_background(request)))

    def _finished(self, entry: _Entry, request: "Future[Reply]") -> Visit:
        try:
            reply = request.result(self._fetcher.seconds_left)
        except TimeoutError as error:
            raise StoppedError from error
        except FailedError as error:
            self._failures += 1
            self._follow_known(entry)
            return _visit(entry, Status.FAILED, str(error))
        except UnwantedError as error:
            return _visit(entry, Status.SKIPPED, str(error))
        self._failures = 0
        return self._answered(entry, reply)

    def _answered(self, entry: _Entry, reply: Reply) -> Visit:
        if reply.redirect is not None:
            return self._redirected(entry, reply.redirect)
        if reply.status == HTTPStatus.OK:
            return self._fetched(entry, reply)
        if reply.status == HTTPStatus.NOT_MODIFIED and self._is_known(entry):
            self._pages += 1
            self._follow_known(entry)
            return _visit(entry, Status.UNCHANGED, "")
        if reply.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            return _visit(entry, Status.GONE, f"the server answered {reply.status}")
        self._follow_known(entry)
        return _visit(entry, Status.FAILED, f"the server answered {reply.status}")

    def _fetched(self, entry: _Entry, reply: Reply) -> Visit:
        self._pages += 1
        self._bytes += len(reply.body)
        media_type = media_type_of(_path(entry.url), reply.declared) or "text/html"
        links: list[str] = []
        if media_type == "text/html":
            links = [url for url in links_of(reply.body, reply.charset, entry.url) if url in self._scope]
        for url in links:
            self._discover(url, entry.depth + 1)
        page = Page(
            body=reply.body,
            media_type=media_type,
            charset=reply.charset,
            etag=reply.etag,
            last_modified=reply.last_modified,
            links=tuple(map(page_key, links)),
        )
        return Visit(page_key(entry.url), entry.url, Status.FETCHED, page=page)

    def _is_known(self, entry: _Entry) -> bool:
        known = self._known.get(page_key(entry.url))
        return known is not None and bool(known.etag or known.last_modified)

    def _follow_known(self, entry: _Entry) -> None:
        """Go where a page led when it was read, since what it says now isn't known."""
        known = self._known.get(page_key(entry.url))
        for key in known.links if known else ():
            url = canonical_url(self._origin + key)
            if url and url in self._scope:
                self._discover(url, entry.depth + 1)

    def _redirected(self, entry: _Entry, target: str) -> Visit:
        url = canonical_url(target, entry.url)
        if url is None or entry.redirects >= _MOST_REDIRECTS:
            return _visit(
                entry, Status.FAILED, f"it redirects to {target}" if url is None else "it redirects on and on"
            )
        if entry.depth == 0 and self._pages == 0:
            self._move_to(url)
        if url not in self._scope:
            return _visit(entry, Status.SKIPPED, f"it redirects out of the site, to {url}")
        if url not in self._seen:
            self._seen.add(url)
            self._waiting.appendleft(_Entry(url, entry.depth, entry.redirects + 1))
        return _visit(entry, Status.SKIPPED, f"it redirects to {'itself' if url == entry.url else url}")

    def _move_to(self, url: str) -> None:
        """Go where the start leads: who asked for a site by its old address wants it where it is now."""
        if url not in self._scope and len(self._starts) == 1:
            self._scope = self._scope_of([url])
        if url in self._scope and origin_of(url) != self._origin:
            self._origin = origin_of(url)
            self._obey(url)

    def _noted(self, visit: Visit) -> Visit:
        if visit.reason and self._pages == 0:
            self._reasons.append(f"{visit.location}: {visit.reason}")
        return visit


def _visit(entry: _Entry, status: Status, reason: str) -> Visit:
    return Visit(page_key(entry.url), entry.url, status, reason)


def _path(url: str) -> str:
    return page_key(url).partition("?")[0]


def _is_wanted(url: str, declared: str) -> bool:
    # A page of which nothing is said, by its type or its name, is most likely HTML.
    return media_type_of(_path(url), declared) is not None or not declared


def _in_background(work: Callable[[], _T]) -> "Future[_T]":
    """Do something in a thread that doesn't keep the process from ending."""
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # whatever it is, it is raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, name="deepmemory-crawl", daemon=True).start()
    return future
