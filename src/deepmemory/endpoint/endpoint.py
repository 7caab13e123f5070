"""One route, such as ``/embeddings``: asked with patience, and its failures put in one sentence."""

import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeVar

from deepmemory.endpoint.address import Access
from deepmemory.endpoint.pacing import Pace, asked_delay, backoff
from deepmemory.endpoint.said import UnreadableReplyError, complaint
from deepmemory.errors import DeepMemoryError

if TYPE_CHECKING:
    import openai

__all__ = ["Endpoint", "Route"]

_LONGEST_WAIT = 120.0  # seconds; a server that asks for more patience is reported, not waited for
_RETRIES_AT_FIRST = 2  # while an endpoint has never answered, the address is more likely wrong than the moment

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Route:
    """Which part of the API is asked.

    Attributes:
        path: such as ``/embeddings``.
        kind: what people call it, such as ``embeddings endpoint``.
        error: raised for what goes wrong, unless one of the following is given: where
        too_large: less may pass in one request (HTTP 413),
        refused: the request itself was found wrong, such as HTTP 400 and 422,
        denied: no request will do: the key was refused, its quota is used up, or there is no such model.
    """

    path: str
    kind: str
    error: type[DeepMemoryError]
    too_large: type[DeepMemoryError] | None = None
    refused: type[DeepMemoryError] | None = None
    denied: type[DeepMemoryError] | None = None


class Endpoint:
    """Sends one request at a time for each thread that calls it; the threads share a rate limit.

    Attributes:
        has_answered: whether a request has ever succeeded.
    """

    def __init__(self, model: str, access: Access, route: Route, *, timeout: float, max_retries: int) -> None:
        self.has_answered = False
        self._model = model
        self._access = access
        self._route = route
        self._timeout = timeout
        self._max_retries = max_retries
        self._pace = Pace()
        self._connecting = threading.Lock()
        self._client: openai.OpenAI | None = None

    @property
    def address(self) -> str:
        """Where requests go, without a password or a query that the address may hold."""
        return self._access.shown(self._route.path)

    def ask(self, send: "Callable[[openai.OpenAI], tuple[T, Mapping[str, str]]]", stop: threading.Event) -> T:
        """Send a request, again where that may help.

        Args:
            send: sends it through the client, and returns what was read from the reply and the reply's headers. A reply
                that can't be read is an `UnreadableReplyError`; what else it raises of its own is passed on.
            stop: once set, nothing is waited for any more and no further request is sent.

        Raises:
            DeepMemoryError: the route's error: the endpoint can't be reached, or refused.
        """
        import openai

        failures = 0
        while True:
            self._pace.wait(stop)
            if stop.is_set():
                raise self._route.error(f"a request to {self.address} was stopped because another one failed")
            try:
                reply, headers = send(self._connected())
            except (openai.APIConnectionError, UnreadableReplyError) as error:
                failures += 1
                patience = self._max_retries if self.has_answered else min(self._max_retries, _RETRIES_AT_FIRST)
                if failures > patience:
                    self.give_up(error)
                stop.wait(backoff(failures))
            except openai.APIStatusError as error:
                failures += 1
                delay = asked_delay(error.response.headers)
                if failures > self._max_retries or not _may_pass(error) or (delay or 0) > _LONGEST_WAIT:
                    self._refuse(error, delay)
                # What one request was told holds for the others too: they share the rate limit, or the outage.
                self._pace.hold(backoff(failures) if delay is None else delay)
            else:
                self._note(headers)
                return reply

    def give_up(self, error: "openai.APIConnectionError | UnreadableReplyError") -> NoReturn:
        """Say that the endpoint can't be reached or understood. Nothing is chained: a cause may quote the key."""
        import openai

        if isinstance(error, UnreadableReplyError):
            raise self._route.error(str(error)) from None
        if isinstance(error, openai.APITimeoutError):
            raise self._route.error(f"{self.address} did not answer within {self._timeout:g} seconds") from None
        reason = complaint(str(error.__cause__ or error), self._access.api_key)
        raise self._route.error(
            f"{self.address} can't be reached ({reason}); check the address and the network"
        ) from None

    def close(self) -> None:
        """Close idle connections; the next request opens others."""
        with self._connecting:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _note(self, headers: Mapping[str, str]) -> None:
        """A reply came: let the next request wait where its headers ask for that."""
        self.has_answered = True
        delay = asked_delay(headers)
        if delay is not None and delay <= _LONGEST_WAIT:
            self._pace.hold(delay)

    def _connected(self) -> "openai.OpenAI":
        if self._access.lacks_key:
            raise (self._route.denied or self._route.error)(f"{self.address} needs an API key: set OPENAI_API_KEY")
        with self._connecting:
            if self._client is None:
                import openai

                self._client = openai.OpenAI(
                    api_key=self._access.api_key or "none",  # the client insists on one, servers at home do not
                    base_url=self._access.base_url,
                    timeout=self._timeout,
                    max_retries=0,
                )
                # The client closes itself, but in a circle of garbage perhaps only after its sockets have complained.
                weakref.finalize(self, self._client.close)
            return self._client

    def _refuse(self, error: "openai.APIStatusError", delay: float | None) -> NoReturn:
        """Say what the endpoint refused, and what to do."""
        status = error.status_code
        said = complaint(error.body if error.body is not None else error.message, self._access.api_key)
        answer = f"HTTP {status}: {said}" if said else f"HTTP {status}"
        kind: type[DeepMemoryError] | None = None
        if status == 413:
            kind, sentence = self._route.too_large, f"takes no request of this size ({answer})"
        elif status in (401, 403):
            kind, sentence = self._route.denied, f"refused the API key ({answer}); check OPENAI_API_KEY"
        elif status == 404:
            kind = self._route.denied
            sentence = f"knows no model {self._model!r}, or is no {self._route.kind} ({answer})"
        elif _quota_used_up(error):
            kind = self._route.denied
            sentence = f"refuses because the quota of the API key is used up ({answer})"
        elif not _may_pass(error):
            kind, sentence = self._route.refused, f"refused the request ({answer})"
        elif delay is not None and delay > _LONGEST_WAIT:
            sentence = f"asks to wait {delay:.0f} seconds ({answer}); try again later"
        else:
            sentence = f"still failed after {self._max_retries} retries ({answer}); try again later"
        raise (kind or self._route.error)(f"{self.address} {sentence}") from None


def _may_pass(error: "openai.APIStatusError") -> bool:
    """Whether the same request may succeed later."""
    if error.response.headers.get("x-should-retry") == "false" or _quota_used_up(error):
        return False
    return error.status_code in (408, 409, 429) or error.status_code >= 500


def _quota_used_up(error: "openai.APIStatusError") -> bool:
    return error.status_code == 429 and "insufficient_quota" in (error.code, error.type)
