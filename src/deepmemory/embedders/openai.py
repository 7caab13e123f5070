"""Embeddings from OpenAI, or from anything that speaks its protocol: vLLM, Ollama, LiteLLM, TEI, Azure."""

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepmemory.embedders.base import Embedder
from deepmemory.embedders.checks import check_texts, no_vectors
from deepmemory.embedders.openai_reply import vectors_from_reply
from deepmemory.endpoint import Access, Endpoint, Route
from deepmemory.errors import EmbedderError, InputError
from deepmemory.progress import Progress

if TYPE_CHECKING:
    import openai

__all__ = ["OpenAIEmbedder"]

_REQUEST_BYTES = 250_000  # OpenAI takes 300,000 tokens a request, and a token has at least one byte


class _RequestTooLargeError(EmbedderError):
    """The endpoint takes fewer texts in one request."""


_ROUTE = Route("/embeddings", "embeddings endpoint", EmbedderError, _RequestTooLargeError)


class OpenAIEmbedder(Embedder):
    """A model behind ``POST /embeddings``.

    Texts go out in batches, a few requests at once. What may pass is tried again (no connection, a timeout, HTTP 408,
    409, 429 and 5xx, a body that is cut short or no JSON), with exponential backoff and jitter or as long as the
    server asks for. Every reply is checked before it is believed.
    """

    varies_with_threads = False  # nothing is computed here

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        dimensions: int | None = None,
        timeout: float = 60.0,
        max_retries: int = 5,
        concurrency: int = 4,
        batch_size: int = 128,
    ) -> None:
        """Describe the endpoint; nothing is sent yet.

        Args:
            model: its name at the endpoint.
            base_url: such as ``http://localhost:8000/v1``; ``OPENAI_BASE_URL`` by default, else OpenAI's own.
            api_key: ``OPENAI_API_KEY`` by default; only OpenAI itself insists on one.
            dimensions: ask the model for shorter vectors, where it can make them.
            timeout: seconds to wait for one reply.
            max_retries: how often a request is tried again.
            concurrency: requests at once.
            batch_size: texts in a request, at most; a server that finds a request too large is sent halves.

        Raises:
            InputError: the address or a number makes no sense.
            MissingExtraError: the ``openai`` package is not installed.
        """
        access = Access.of(base_url, api_key)
        positive = {
            "dimensions": 1 if dimensions is None else dimensions,
            "timeout": timeout,
            "concurrency": concurrency,
            "batch_size": batch_size,
        }
        access.check(_ROUTE.kind, f"the embedder 'openai:{model}'", positive=positive, max_retries=max_retries)
        self._model = model
        self._concurrency = concurrency
        self._batch_size = batch_size
        self._asked_dimensions = self._dimensions = dimensions
        self._endpoint = Endpoint(model, access, _ROUTE, timeout=timeout, max_retries=max_retries)
        self._made_with: dict[str, Any] = {
            "base_url": access.base_url,
            "api_key": access.api_key,
            "dimensions": dimensions,
            "timeout": timeout,
            "max_retries": max_retries,
            "concurrency": concurrency,
            "batch_size": batch_size,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """Made again elsewhere, key included: connections and locks can't be sent to another process."""
        return partial(OpenAIEmbedder, **self._made_with), (self._model,)

    @property
    def name(self) -> str:
        """``openai:`` and the model."""
        return f"openai:{self._model}"

    @property
    def dimensions(self) -> int | None:
        """What was asked for, or the length of the first vectors that came back."""
        return self._dimensions

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed documents; see `Embedder.embed_documents`.

        Raises:
            InputError: the texts are no list of strings, or some are empty: the endpoint takes no empty text.
            EmbedderError: the endpoint can't be reached, refused, or answered with something else than vectors.
        """
        return self._embed(texts, progress)

    def embed_queries(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed queries: the protocol does not tell them from documents."""
        return self._embed(texts, progress)

    def _embed(self, texts: Sequence[str], progress: Progress | None) -> NDArray[np.float32]:
        checked = check_texts(texts)
        empty = [f"text {row} is empty, and {self.name} embeds no empty text" for row, t in enumerate(checked) if not t]
        if empty:
            raise InputError(empty)
        batches = list(_batches(checked, self._batch_size))
        parts: dict[int, NDArray[np.float32]] = {}
        done = 0
        for index, vectors in self._each_batch(batches):
            parts[index] = vectors
            done += len(vectors)
            if progress is not None:
                progress(done, len(checked))
        return np.concatenate([parts[index] for index in range(len(batches))]) if parts else no_vectors(self.dimensions)

    def _each_batch(self, batches: Sequence[list[str]]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Embed batches, several at once; yields the index of each and its vectors as they come."""
        # Until the dimensions are known the first goes alone: a wrong key or model then fails once, not four times.
        ahead = 1 if self.dimensions is None else 0
        for index, batch in enumerate(batches[:ahead]):
            yield index, self._embed_batch(batch, threading.Event())
        for index, vectors in self._in_threads(batches[ahead:]):
            yield ahead + index, vectors

    def _in_threads(self, batches: Sequence[list[str]]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        stop = threading.Event()
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        outcomes: queue.SimpleQueue[tuple[int, NDArray[np.float32] | BaseException]] = queue.SimpleQueue()
        for index in range(len(batches)):
            waiting.put(index)

        def work() -> None:
            while not stop.is_set():
                try:
                    index = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    outcomes.put((index, self._embed_batch(batches[index], stop)))
                except BaseException as error:  # it is raised again in the thread that waits for the outcome
                    outcomes.put((index, error))

        for _ in range(min(self._concurrency, len(batches))):
            # Daemons, unlike an executor's threads, do not hold up Ctrl-C until a slow server has answered.
            threading.Thread(target=work, name="deepmemory-openai", daemon=True).start()
        try:
            for _ in batches:
                index, outcome = outcomes.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                yield index, outcome
        finally:
            stop.set()

    def _embed_batch(self, texts: list[str], stop: threading.Event) -> NDArray[np.float32]:
        """Embed a batch in one request, or in halves where the server finds it too large."""
        try:
            return self._endpoint.ask(lambda client: self._request(client, texts), stop)
        except _RequestTooLargeError:
            if len(texts) == 1:
                raise
        middle = len(texts) // 2
        return np.concatenate([self._embed_batch(half, stop) for half in (texts[:middle], texts[middle:])])

    def _request(self, client: "openai.OpenAI", texts: list[str]) -> tuple[NDArray[np.float32], Mapping[str, str]]:
        import openai

        # The raw reply: the client's own parsing believes whatever it finds.
        reply = client.embeddings.with_raw_response.create(
            model=self._model, input=texts, dimensions=self._asked_dimensions or openai.omit
        )
        vectors = vectors_from_reply(reply.content, len(texts), self._dimensions, self._endpoint.address)
        self._dimensions = vectors.shape[1]
        return vectors, reply.headers


def _batches(texts: Sequence[str], size: int) -> Iterator[list[str]]:
    """Texts in order, at most so many and so many bytes together; a longer text goes alone."""
    batch: list[str] = []
    weight = 0
    for text in texts:
        bytes_of_text = len(text.encode())
        if batch and (len(batch) == size or weight + bytes_of_text > _REQUEST_BYTES):
            yield batch
            batch, weight = [], 0
        batch.append(text)
        weight += bytes_of_text
    if batch:
        yield batch
