"""One address at a time, politely: paced, limited in bytes and seconds, repeated when a server asks for it."""

import re
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self

import httpcore
import httpx

from deepmemory.ingest.addresses import RefusedAddressError
from deepmemory.ingest.options import CrawlOptions
from deepmemory.ingest.transport import CheckedTransport
from deepmemory.ingest.visit import Known

__all__ = ["FailedError", "Fetcher", "Reply", "StoppedError", "UnwantedError"]

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_ASKS_TO_WAIT = frozenset({429, 503})
_LONGEST_WAIT = 60.0  # seconds that a server may ask us to wait; one that wants more has failed for now
_LONGEST_PAUSE = 30.0
_SLOWEST_PAGE = 4  # times the timeout: a server that drips a page byte by byte doesn't hold us longer
_NETWORK_ERRORS = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpx.HTTPError,
    httpx.InvalidURL,
    OSError,
)


_ERROR_NUMBER = re.compile(r"\[Errno -?\d+\] ")


class FailedError(Exception):
    """A page couldn't be read now; the message is why, in a few words."""


class UnwantedError(Exception):
    """A page is not to be read; the message is why, in a few words."""


class _SetbackError(Exception):
    """A request failed for now; the message is why."""

    def __init__(self, reason: str, *, wait: float = 0.0, is_for_all: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        self.is_for_all = is_for_all


class StoppedError(Exception):
    """The crawl is over: its time has run out, or it was stopped."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered.

    Attributes:
        status: of HTTP.
        body: its bytes; empty where the status has none that we want.
        declared: its media type, without parameters.
        charset: of the body, where the server says it.
        etag: by which the server knows this version.
        last_modified: when the server says that it changed.
        redirect: where to go instead, as it stands in the reply.
    """

    status: int
    body: bytes = b""
    declared: str = ""
    charset: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    redirect: str | None = None


class _Pace:
    """When the next request may begin; shared by all threads."""

    def __init__(self, delay: float, deadline: float) -> None:
        self.delay = delay
        self._deadline = deadline
        self._next = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def stop(self) -> None:
        self._stopped.set()

    def check(self) -> None:
        if self._stopped.is_set() or not self.seconds_left:
            raise StoppedError

    def take_turn(self) -> None:
        """Wait for this request's turn."""
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self.delay
        self._sleep_until(turn)

    def pause_all(self, seconds: float) -> None:
        """Let nothing begin for a while."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)

    def sleep(self, seconds: float) -> None:
        self._sleep_until(time.monotonic() + seconds)

    def _sleep_until(self, moment: float) -> None:
        self._stopped.wait(max(0.0, min(moment, self._deadline) - time.monotonic()))
        self.check()


class Fetcher:
    """Fetches for one crawl; several threads may use it at once."""

    def __init__(self, options: CrawlOptions) -> None:
        """Begin the crawl's time."""
        self._options = options
        self._pace = _Pace(options.delay, time.monotonic() + options.max_seconds)
        self._transport = CheckedTransport(allow_private=options.allow_private, connections=options.concurrency + 1)
        self._headers = {
            "User-Agent": options.user_agent,
            "Accept": "text/html, application/xhtml+xml, text/markdown, text/plain, application/pdf, */*;q=0.1",
            "Accept-Encoding": "gzip, deflate",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._transport.close()

    @property
    def seconds_left(self) -> float:
        """How long the crawl may still take."""
        return self._pace.seconds_left

    def stop(self) -> None:
        """Let every request under way end as soon as it can."""
        self._pace.stop()

    def slow_down(self, delay: float) -> None:
        """Wait at least so many seconds between requests."""
        self._pace.delay = max(self._pace.delay, delay)

    def get(
        self,
        url: str,
        known: Known | None = None,
        *,
        is_wanted: Callable[[str], bool] | None = None,
        max_bytes: int | None = None,
    ) -> Reply:
        """Ask for an address, and again where it failed for now.

        Args:
            url: an http or https address.
            known: what an earlier reply said, so that the server can answer that nothing changed.
            is_wanted: whether a body of this declared media type is to be read.
            max_bytes: of the body; a page's limit by default.

        Raises:
            FailedError: it couldn't be read, though it was tried again.
            UnwantedError: it is too large, or of a kind that isn't wanted.
            StoppedError: the crawl is over.
        """
        tries = self._options.retries + 1
        for attempt in range(tries):
            self._pace.take_turn()
            try:
                return self._ask(url, known, is_wanted, max_bytes or self._options.max_page_bytes)
            except _SetbackError as error:
                setback = error
            except RefusedAddressError as error:
                raise FailedError(f"{error}; private addresses are not read unless they are allowed") from error
            if setback.wait > _LONGEST_WAIT:
                raise FailedError(f"{setback} and asks to come back in {setback.wait:.0f} seconds")
            if attempt + 1 < tries:
                pause = min(_LONGEST_PAUSE, self._options.backoff * 2**attempt)
                if setback.is_for_all:
                    self._pace.pause_all(max(pause, setback.wait))
                else:
                    self._pace.sleep(max(pause, setback.wait))
        raise FailedError(str(setback) if tries == 1 else f"{setback}, {tries} times")

    def _ask(self, url: str, known: Known | None, is_wanted: Callable[[str], bool] | None, limit: int) -> Reply:
        """One request."""
        conditions = {"If-None-Match": known.etag, "If-Modified-Since": known.last_modified} if known else {}
        headers = {name: value for name, value in conditions.items() if value}
        # A client would do no more than follow redirects, which are checked one by one, and keep cookies.
        request = httpx.Request(
            "GET",
            url,
            headers={**self._headers, **headers},
            extensions={"timeout": httpx.Timeout(self._options.timeout).as_dict()},
        )
        try:
            with closing(self._transport.handle_request(request)) as response:
                if response.status_code in _RETRIED:
                    raise _SetbackError(
                        f"the server answered {response.status_code}",
                        wait=_seconds(response.headers.get("retry-after")),
                        is_for_all=response.status_code in _ASKS_TO_WAIT,
                    )
                return self._reply(response, is_wanted, limit)
        except _NETWORK_ERRORS as error:
            raise _SetbackError(_in_words(error)) from error

    def _reply(self, response: httpx.Response, is_wanted: Callable[[str], bool] | None, limit: int) -> Reply:
        declared = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        body = b""
        if response.status_code == httpx.codes.OK:
            if is_wanted is not None and not is_wanted(declared):
                raise UnwantedError(f"{declared or 'a file of an unknown kind'} is not read")
            body = self._body(response, limit)
        return Reply(
            status=response.status_code,
            body=body,
            declared=declared,
            charset=response.charset_encoding,
            etag=response.headers.get("etag"),
            last_modified=response.headers.get("last-modified"),
            redirect=response.headers.get("location") if response.is_redirect else None,
        )

    def _body(self, response: httpx.Response, limit: int) -> bytes:
        size = response.headers.get("content-length", "")
        too_large = UnwantedError(f"larger than {limit:,} bytes")
        if size.isdecimal() and int(size) > limit:
            raise too_large
        slowest = time.monotonic() + _SLOWEST_PAGE * self._options.timeout
        body = bytearray()
        for part in response.iter_bytes():  # as they come: a server that drips would never fill a larger part
            body += part
            self._pace.check()
            if len(body) > limit:
                raise too_large
            if time.monotonic() > slowest:
                raise httpcore.ReadTimeout
        return bytes(body)


def _seconds(retry_after: str | None) -> float:
    """How long a server asks to wait, by a number or by a date."""
    if retry_after is None:
        return 0.0
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _in_words(error: Exception) -> str:
    if isinstance(error, httpcore.TimeoutException):
        return "the server didn't answer in time"
    reason = _ERROR_NUMBER.sub("", str(error)).strip() or type(error).__name__
    return f"no connection: {reason}" if isinstance(error, httpcore.ConnectError) else f"the connection broke: {reason}"
