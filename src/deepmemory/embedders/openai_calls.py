"""Requests to an OpenAI-compatible address: asked with patience, and their failures put in one sentence."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar
from urllib.parse import urlsplit

from deepmemory.embedders.openai_reply import complaint
from deepmemory.embedders.pacing import Pace, asked_delay, backoff
from deepmemory.errors import DeepMemoryError

if TYPE_CHECKING:
    import openai

__all__ = ["OPENAI_URL", "Failures", "OpenAICalls", "RawReply"]

OPENAI_URL = "https://api.openai.com/v1"

_LONGEST_WAIT = 120.0  # seconds; a server that asks for more patience is reported, not waited for
_RETRIES_AT_FIRST = 2  # while an endpoint has never answered, the address is more likely wrong than the moment

T = TypeVar("T")


class RawReply(Protocol):
    """What the client's ``with_raw_response`` returns."""

    @property
    def content(self) -> bytes:
        """The body as it came."""
        ...

    @property
    def headers(self) -> Any:
        """By name, whatever the case."""
        ...


@dataclass(frozen=True, slots=True)
class Failures:
    """What is raised when, each with one sentence.

    Attributes:
        failed: the endpoint can't be reached, or goes on failing.
        unreadable: what a reader raises for a body that is no JSON, so that the request is tried again.
        too_large: HTTP 413.
        refused: the request itself was found wrong, such as HTTP 400 and 422.
        denied: no request will do: the key was refused, its quota is used up, or there is no such model.
    """

    failed: type[DeepMemoryError]
    unreadable: type[DeepMemoryError]
    too_large: type[DeepMemoryError]
    refused: type[DeepMemoryError]
    denied: type[DeepMemoryError]


class OpenAICalls:
    """Sends one request at a time for each thread that calls it; the threads share a rate limit.

    Attributes:
        has_answered: whether a request has ever succeeded.
    """

    def __init__(
        self,
        path: str,
        model: str,
        base_url: str,
        api_key: str,
        *,
        failures: Failures,
        timeout: float,
        max_retries: int,
        doing: tuple[str, str],
    ) -> None:
        """Describe the endpoint; nothing is sent yet.

        Args:
            path: below the base URL, such as ``embeddings``.
            model: that requests name, for messages.
            base_url: such as ``http://localhost:8000/v1``.
            api_key: may be empty; only OpenAI itself insists on one.
            failures: what to raise.
            timeout: seconds to wait for one reply.
            max_retries: how often a request is tried again.
            doing: what the endpoint is for, as an adjective and as a noun: ``("embeddings", "embedding")``.
        """
        self.has_answered = False
        self._path = path
        self._model = model
        self._what, self._work = doing
        self._base_url = base_url
        self._api_key = api_key
        self._failures = failures
        self._timeout = timeout
        self._max_retries = max_retries
        self._pace = Pace()
        self._connecting = threading.Lock()
        self._client: openai.OpenAI | None = None

    @property
    def address(self) -> str:
        """Where requests go, without a password or a query that the address may hold."""
        parts = urlsplit(self._base_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/{self._path}"

    def ask(self, send: "Callable[[openai.OpenAI], RawReply]", read: Callable[[bytes], T], stop: threading.Event) -> T:
        """Send a request, tried again where that may help, and read its reply.

        Args:
            send: makes the request with the client.
            read: understands the body; raises ``failures.unreadable`` where it is no JSON.
            stop: once set, nothing is waited for any more and no further request is sent.

        Raises:
            DeepMemoryError: one of the failures, or what the reader raises.
        """
        import openai

        failures = 0
        while True:
            self._pace.wait(stop)
            if stop.is_set():
                raise self._failures.failed(f"{self._work} was stopped because another of its requests failed")
            try:
                return self._once(send, read)
            except (openai.APIConnectionError, self._failures.unreadable) as error:
                failures += 1
                patience = self._max_retries if self.has_answered else min(self._max_retries, _RETRIES_AT_FIRST)
                if failures > patience:
                    self._give_up(error)
                stop.wait(backoff(failures))
            except openai.APIStatusError as error:
                failures += 1
                delay = asked_delay(error.response.headers)
                if failures > self._max_retries or not _may_pass(error) or (delay or 0) > _LONGEST_WAIT:
                    self._refuse(error, delay)
                # What one request was told holds for the others too: they share the rate limit, or the outage.
                self._pace.hold(backoff(failures) if delay is None else delay)

    def close(self) -> None:
        """Close idle connections; the next request opens others."""
        with self._connecting:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _once(self, send: "Callable[[openai.OpenAI], RawReply]", read: Callable[[bytes], T]) -> T:
        reply = send(self._connected())
        value = read(reply.content)
        self.has_answered = True
        delay = asked_delay(reply.headers)
        if delay is not None and delay <= _LONGEST_WAIT:
            self._pace.hold(delay)
        return value

    def _connected(self) -> "openai.OpenAI":
        if not self._api_key and self._base_url.rstrip("/") == OPENAI_URL:
            raise self._failures.denied(f"{self.address} needs an API key: set OPENAI_API_KEY")
        with self._connecting:
            if self._client is None:
                import openai

                self._client = openai.OpenAI(
                    api_key=self._api_key or "none",  # the client insists on one, servers at home do not
                    base_url=self._base_url,
                    timeout=self._timeout,
                    max_retries=0,
                )
            return self._client

    def _give_up(self, error: "openai.APIConnectionError | DeepMemoryError") -> NoReturn:
        """Say that the endpoint can't be reached or understood. Nothing is chained: a cause may quote the key."""
        import openai

        if isinstance(error, DeepMemoryError):
            raise error
        if isinstance(error, openai.APITimeoutError):
            raise self._failures.failed(f"{self.address} did not answer within {self._timeout:g} seconds") from None
        reason = complaint(str(error.__cause__ or error), self._api_key)
        sentence = f"{self.address} can't be reached ({reason}); check the address and the network"
        raise self._failures.failed(sentence) from None

    def _refuse(self, error: "openai.APIStatusError", delay: float | None) -> NoReturn:
        """Say what the endpoint refused, and what to do."""
        status = error.status_code
        said = complaint(error.body if error.body is not None else error.message, self._api_key)
        answer = f"HTTP {status}: {said}" if said else f"HTTP {status}"
        kind = self._failures.failed
        if status == 413:
            kind, sentence = self._failures.too_large, f"takes no request of this size ({answer})"
        elif status in (401, 403):
            kind, sentence = self._failures.denied, f"refused the API key ({answer}); check OPENAI_API_KEY"
        elif status == 404:
            kind = self._failures.denied
            sentence = f"knows no model {self._model!r}, or is no {self._what} endpoint ({answer})"
        elif _quota_used_up(error):
            kind = self._failures.denied
            sentence = f"refuses because the quota of the API key is used up ({answer})"
        elif not _may_pass(error):
            kind, sentence = self._failures.refused, f"refused the request ({answer})"
        elif delay is not None and delay > _LONGEST_WAIT:
            sentence = f"asks to wait {delay:.0f} seconds ({answer}); try again later"
        else:
            sentence = f"still failed after {self._max_retries} retries ({answer}); try again later"
        raise kind(f"{self.address} {sentence}") from None


def _may_pass(error: "openai.APIStatusError") -> bool:
    """Whether the same request may succeed later."""
    if error.response.headers.get("x-should-retry") == "false" or _quota_used_up(error):
        return False
    return error.status_code in (408, 409, 429) or error.status_code >= 500


def _quota_used_up(error: "openai.APIStatusError") -> bool:
    return error.status_code == 429 and "insufficient_quota" in (error.code, error.type)
