"""One ``/embeddings`` endpoint: asked with patience, and its failures put in one sentence."""

import threading
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from deepmemory.embedders.openai_reply import UnreadableReplyError, complaint, vectors_from_reply
from deepmemory.embedders.pacing import Pace, asked_delay, backoff
from deepmemory.errors import EmbedderError

if TYPE_CHECKING:
    import openai

__all__ = ["OPENAI_URL", "EmbeddingsEndpoint", "RequestTooLargeError"]

OPENAI_URL = "https://api.openai.com/v1"

_LONGEST_WAIT = 120.0  # seconds; a server that asks for more patience is reported, not waited for
_RETRIES_AT_FIRST = 2  # while an endpoint has never answered, the address is more likely wrong than the moment


class RequestTooLargeError(EmbedderError):
    """The endpoint takes fewer texts in one request."""


class EmbeddingsEndpoint:
    """Sends one request at a time for each thread that calls it; the threads share a rate limit.

    Attributes:
        dimensions: of the vectors: as asked for, or of those that came first; None before.
        has_answered: whether a request has ever succeeded.
    """

    def __init__(
        self, model: str, base_url: str, api_key: str, *, dimensions: int | None, timeout: float, max_retries: int
    ) -> None:
        self.dimensions = dimensions
        self.has_answered = False
        self._model = model
        self._base_url = base_url
        self._api_key = api_key
        self._asked_dimensions = dimensions
        self._timeout = timeout
        self._max_retries = max_retries
        self._pace = Pace()
        self._connecting = threading.Lock()
        self._client: openai.OpenAI | None = None

    @property
    def address(self) -> str:
        """Where requests go, without a password or a query that the address may hold."""
        parts = urlsplit(self._base_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/embeddings"

    def embed(self, texts: list[str], stop: threading.Event) -> NDArray[np.float32]:
        """Embed texts in one request, tried again where that may help.

        Args:
            texts: at least one.
            stop: once set, nothing is waited for any more and no further request is sent.

        Returns:
            ``(len(texts), dimensions)`` float32, unit norm.

        Raises:
            RequestTooLargeError: fewer texts may pass.
            EmbedderError: the endpoint can't be reached, refused, or answered with something else than vectors.
        """
        import openai

        failures = 0
        while True:
            self._pace.wait(stop)
            if stop.is_set():
                raise EmbedderError("embedding was stopped because another of its requests failed")
            try:
                return self._request(texts)
            except (openai.APIConnectionError, UnreadableReplyError) as error:
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

    def _request(self, texts: list[str]) -> NDArray[np.float32]:
        import openai

        # The raw reply: the client's own parsing believes whatever it finds.
        reply = self._connected().embeddings.with_raw_response.create(
            model=self._model, input=texts, dimensions=self._asked_dimensions or openai.omit
        )
        vectors = vectors_from_reply(reply.content, len(texts), self.dimensions, self.address)
        self.dimensions = vectors.shape[1]
        self.has_answered = True
        delay = asked_delay(reply.headers)
        if delay is not None and delay <= _LONGEST_WAIT:
            self._pace.hold(delay)
        return vectors

    def _connected(self) -> "openai.OpenAI":
        if not self._api_key and self._base_url.rstrip("/") == OPENAI_URL:
            raise EmbedderError(f"{self.address} needs an API key: set OPENAI_API_KEY")
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

    def _give_up(self, error: "openai.APIConnectionError | UnreadableReplyError") -> NoReturn:
        """Say that the endpoint can't be reached or understood. Nothing is chained: a cause may quote the key."""
        import openai

        if isinstance(error, UnreadableReplyError):
            raise error
        if isinstance(error, openai.APITimeoutError):
            raise EmbedderError(f"{self.address} did not answer within {self._timeout:g} seconds") from None
        reason = complaint(str(error.__cause__ or error), self._api_key)
        raise EmbedderError(f"{self.address} can't be reached ({reason}); check the address and the network") from None

    def _refuse(self, error: "openai.APIStatusError", delay: float | None) -> NoReturn:
        """Say what the endpoint refused, and what to do."""
        status = error.status_code
        said = complaint(error.body if error.body is not None else error.message, self._api_key)
        answer = f"HTTP {status}: {said}" if said else f"HTTP {status}"
        if status == 413:
            raise RequestTooLargeError(f"{self.address} takes no request of this size ({answer})") from None
        if status in (401, 403):
            sentence = f"refused the API key ({answer}); check OPENAI_API_KEY"
        elif status == 404:
            sentence = f"knows no model {self._model!r}, or is no embeddings endpoint ({answer})"
        elif _quota_used_up(error):
            sentence = f"refuses because the quota of the API key is used up ({answer})"
        elif not _may_pass(error):
            sentence = f"refused the request ({answer})"
        elif delay is not None and delay > _LONGEST_WAIT:
            sentence = f"asks to wait {delay:.0f} seconds ({answer}); try again later"
        else:
            sentence = f"still failed after {self._max_retries} retries ({answer}); try again later"
        raise EmbedderError(f"{self.address} {sentence}") from None


def _may_pass(error: "openai.APIStatusError") -> bool:
    """Whether the same request may succeed later."""
    if error.response.headers.get("x-should-retry") == "false" or _quota_used_up(error):
        return False
    return error.status_code in (408, 409, 429) or error.status_code >= 500


def _quota_used_up(error: "openai.APIStatusError") -> bool:
    return error.status_code == 429 and "insufficient_quota" in (error.code, error.type)
