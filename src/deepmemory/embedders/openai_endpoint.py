"""One ``/embeddings`` endpoint, whose replies are checked before they are believed."""

import threading

import numpy as np
from numpy.typing import NDArray

from deepmemory.embedders.openai_calls import OPENAI_URL, Failures, OpenAICalls, RawReply
from deepmemory.embedders.openai_reply import UnreadableReplyError, vectors_from_reply
from deepmemory.errors import EmbedderError

__all__ = ["OPENAI_URL", "EmbeddingsEndpoint", "RequestTooLargeError"]


class RequestTooLargeError(EmbedderError):
    """The endpoint takes fewer texts in one request."""


_FAILURES = Failures(
    failed=EmbedderError,
    unreadable=UnreadableReplyError,
    too_large=RequestTooLargeError,
    refused=EmbedderError,
    denied=EmbedderError,
)


class EmbeddingsEndpoint:
    """Sends one request at a time for each thread that calls it; the threads share a rate limit.

    Attributes:
        dimensions: of the vectors: as asked for, or of those that came first; None before.
    """

    def __init__(
        self, model: str, base_url: str, api_key: str, *, dimensions: int | None, timeout: float, max_retries: int
    ) -> None:
        self.dimensions = dimensions
        self._model = model
        self._asked_dimensions = dimensions
        self._calls = OpenAICalls(
            "embeddings",
            model,
            base_url,
            api_key,
            failures=_FAILURES,
            timeout=timeout,
            max_retries=max_retries,
            doing=("embeddings", "embedding"),
        )

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

        def send(client: openai.OpenAI) -> RawReply:
            # The raw reply: the client's own parsing believes whatever it finds.
            return client.embeddings.with_raw_response.create(
                model=self._model, input=texts, dimensions=self._asked_dimensions or openai.omit
            )

        def read(content: bytes) -> NDArray[np.float32]:
            vectors = vectors_from_reply(content, len(texts), self.dimensions, self._calls.address)
            self.dimensions = vectors.shape[1]
            return vectors

        return self._calls.ask(send, read, stop)
