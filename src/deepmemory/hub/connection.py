"""Requests to one dataset of a hub: timeouts, retries of what is safe to repeat, and errors as our exceptions."""

import contextlib
import json
import os
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import httpx

from deepmemory._version import __version__
from deepmemory.errors import DeepMemoryError, HubError, HubUnavailableError, InputError
from deepmemory.hub.address import URL_VARIABLE, HubAddress
from deepmemory.hub.patience import Patience
from deepmemory.hub.refusals import refusal

__all__ = ["TIMEOUT_VARIABLE", "Effect", "HubConnection"]

TIMEOUT_VARIABLE = "DEEPMEMORY_HUB_TIMEOUT"
"""Environment variable: seconds until an answer must begin, ten times that for what the hub has to work on, and how
long at most a hub that restarts is waited for."""

_READ_SECONDS = 60.0
_CONNECT_SECONDS = 5.0
_SLOW = 10
_CONNECTIONS = 32
_KEPT_SECONDS = 3.0  # servers and proxies keep an idle connection for 5 at least: it is never theirs to close first
_LATER = (429, 503)
_GATEWAY = (502, 504)


class Effect(Enum):
    """What a request does to the dataset, which says whether it may be sent again when its answer was lost."""

    NONE = ""
    SAME = "; whether the request was done is not known, and doing it again is harmless"
    ONCE = "; whether the request was done is not known: look before you do it again"


class HubConnection:
    """One dataset of a hub, over HTTP; every method may be called from several threads.

    What was refused without being done is sent again, whatever it is: no connection, or a hub that says "later". A
    request whose answer was lost is sent again where that changes nothing (see `Effect`). One that is not answered in
    time is not: a hub that is slow would only become slower.
    """

    def __init__(self, address: HubAddress) -> None:
        """Take an address; nothing is sent yet.

        Raises:
            InputError: ``DEEPMEMORY_HUB_TIMEOUT`` is no number of seconds.
        """
        self.address = address
        self._seconds = _read_seconds()
        self._base = f"{address.url}/v1/orgs/{address.org}/datasets/{address.name}"
        self._lock = threading.Lock()
        self._clients: dict[int, httpx.Client] = {}
        # Who forgets to close a store leaves no connections behind.
        weakref.finalize(self, _close_own, self._clients)
        self._knows_hub = False

    @property
    def path(self) -> str:
        """The dataset, for messages."""
        return self.address.path

    def call(
        self,
        method: str,
        where: str = "",
        body: Mapping[str, Any] | bytes | None = None,
        *,
        effect: Effect,
        slow: bool = False,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Any:
        """Ask, and return the reply's JSON; None where it has no body.

        Args:
            method: of HTTP.
            where: below the dataset, such as ``"/search"``.
            body: JSON values, or bytes of the media type that the headers name.
            effect: of the request.
            slow: whether the hub has to work on it.
            headers: more of them.
            params: of the address.

        Raises:
            HubError: by its kinds, where the hub refused, failed or couldn't be reached.
            DeepMemoryError: what a local store would raise.
        """
        content = body if body is None or isinstance(body, bytes) else _encoded(body)
        all_headers = {**({} if content is None else {"Content-Type": "application/json"}), **(headers or {})}
        response = self.send(method, where, content, effect=effect, slow=slow, headers=all_headers, params=params)
        if not response.content:
            return None
        try:
            return response.json()
        except (ValueError, RecursionError) as error:
            kind = response.headers.get("content-type", "nothing that it names")[:80]
            raise HubError(
                f"what answers at {self.address.url} sent {kind} where a hub sends JSON; is {URL_VARIABLE} the "
                "address of a Deep Memory hub, with no page of a proxy in between?"
            ) from error

    def send(
        self,
        method: str,
        where: str = "",
        content: bytes | None = None,
        *,
        effect: Effect,
        slow: bool = False,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        accepted: tuple[int, ...] = (),
    ) -> httpx.Response:
        """Send bytes and return the reply, which is a success or one of the accepted statuses."""
        request = self._client().build_request(
            method,
            self._base + where,
            content=content,
            headers=dict(headers or {}),
            params=params,
            timeout=self._timeout(slow=slow),
        )
        patience = Patience(self._seconds, knows_hub=self._knows_hub)
        while True:
            try:
                response = self._client().send(request)
            except httpx.RequestError as error:
                if not _may_repeat(error, effect) or (wait := patience.after_silence()) is None:
                    raise self._unavailable(error, effect, slow=slow) from error
            else:
                self._knows_hub = True
                if response.is_success or response.status_code in accepted:
                    return response
                if (wait := _wait_after(response, effect, patience)) is None:
                    raise self._refusal(response)
            time.sleep(wait)

    @contextlib.contextmanager
    def stream(
        self,
        where: str,
        *,
        accept: str,
        params: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Iterator[httpx.Response]:
        """Read a reply as it comes.

        Args:
            where: below the dataset.
            accept: the media type that it must have.
            params: of the address.
            seconds: how long a part of it may take; by default as long as an answer may.

        Raises:
            HubError: the hub refused or failed, also while the reply is read.
        """
        timeout = self._timeout(slow=True) if seconds is None else httpx.Timeout(seconds, connect=_CONNECT_SECONDS)
        headers = {"Accept": accept}
        client = self._client()
        request = client.build_request("GET", self._base + where, headers=headers, params=params, timeout=timeout)
        try:
            response = client.send(request, stream=True)
            try:
                self._knows_hub = True
                if not response.is_success:
                    response.read()
                    raise self._refusal(response)
                if response.headers.get("content-type", "").partition(";")[0].strip() != accept:
                    raise HubError(
                        f"what answers at {self.address.url} sent no {accept}; is {URL_VARIABLE} the address of a "
                        "Deep Memory hub?"
                    )
                yield response
            finally:
                response.close()
        except httpx.RequestError as error:
            raise self._unavailable(error, Effect.NONE, slow=True) from error

    @contextlib.contextmanager
    def understood(self, what: str) -> Iterator[None]:
        """Around the reading of a reply's values: those that are not as they must be are the hub's fault.

        Args:
            what: the reply is about, such as ``"a job"``.

        Raises:
            HubError: in place of what reading raised.
        """
        try:
            yield
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise HubError(
                f"the hub at {self.address.url} described {what} in a way that this version doesn't understand "
                f"({type(error).__name__}: {error}); are both of the same version, and is it a Deep Memory hub?"
            ) from error

    def close(self) -> None:
        """Close what is open; it opens again where it is used after that."""
        with self._lock:
            _close_own(self._clients)

    def _client(self) -> httpx.Client:
        """The client of this process: a forked one must not share its parent's connections."""
        with self._lock:
            client = self._clients.get(os.getpid())
            if client is None:
                client = self._clients[os.getpid()] = httpx.Client(
                    headers={
                        "Authorization": f"Bearer {self.address.token}",
                        "Accept": "application/json",
                        "User-Agent": f"deepmemory/{__version__}",
                    },
                    limits=httpx.Limits(max_connections=_CONNECTIONS, keepalive_expiry=_KEPT_SECONDS),
                    follow_redirects=False,
                    trust_env=not self.address.is_loopback,
                )
            return client

    def _timeout(self, *, slow: bool) -> httpx.Timeout:
        return httpx.Timeout(self._seconds * (_SLOW if slow else 1), connect=min(_CONNECT_SECONDS, self._seconds))

    def _refusal(self, response: httpx.Response) -> DeepMemoryError:
        return refusal(
            response.status_code,
            response.content,
            self.address.url,
            retry_after=response.headers.get("retry-after"),
            location=response.headers.get("location", ""),
        )

    def _unavailable(self, error: httpx.RequestError, effect: Effect, *, slow: bool) -> HubUnavailableError:
        url = self.address.url
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol):
            return HubUnavailableError(
                f"no hub answers at {url} ({_first_line(error)}); start one with 'deepmemory serve', or set "
                f"{URL_VARIABLE} to its address"
            )
        if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
            seconds = self._seconds * (_SLOW if slow else 1)
            return HubUnavailableError(
                f"the hub at {url} did not answer within {seconds:g} seconds ({TIMEOUT_VARIABLE} sets how long is "
                f"waited){effect.value}"
            )
        if isinstance(error, httpx.PoolTimeout):
            return HubUnavailableError(f"all {_CONNECTIONS} connections to {url} are in use: ask less at once")
        return HubUnavailableError(f"the hub at {url} broke off before its answer was whole{effect.value}")


def _close_own(clients: dict[int, httpx.Client]) -> None:
    """Close the client of this process; a parent's are the parent's."""
    client = clients.pop(os.getpid(), None)
    if client is not None:
        client.close()


def _read_seconds() -> float:
    given = os.environ.get(TIMEOUT_VARIABLE, "").strip()
    try:
        seconds = float(given) if given else _READ_SECONDS
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise InputError(f"{TIMEOUT_VARIABLE} is a number of seconds above 0; found {given!r}")
    return seconds


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise InputError(f"a hub takes JSON values in UTF-8, and this is not sayable in them: {error}") from error


def _may_repeat(error: httpx.RequestError, effect: Effect) -> bool:
    """Whether a request that got no answer may be sent again: it never arrived, or arriving twice changes nothing."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return True
    return effect is not Effect.ONCE and isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)


def _wait_after(response: httpx.Response, effect: Effect, patience: Patience) -> float | None:
    """Seconds until a refused request may be sent again; None where it may not."""
    said = response.headers.get("retry-after")
    status = response.status_code
    # One that says when to come back has not done what was asked; a gateway can't know.
    if (status in _LATER and said) or (
        status in (*_LATER, *_GATEWAY) and effect is not Effect.ONCE and _is_page(response)
    ):
        return patience.after_refusal(said, is_busy=status == 429)
    return None


def _is_page(response: httpx.Response) -> bool:
    """Whether a proxy answered, and not a hub: a hub's 502 is about the embedding endpoint behind it."""
    return not response.headers.get("content-type", "").startswith("application/json")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
