"""Other people's embedders behind our contract: LangChain's protocol, and any function from texts to vectors."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory.embedders.base import Embedder
from deepmemory.embedders.checks import check_texts, no_vectors, unit_rows
from deepmemory.errors import DeepMemoryError, EmbedderError
from deepmemory.progress import Progress

__all__ = ["CallableEmbedder", "EmbeddingFunction", "LangChainEmbedder", "LangChainEmbeddings"]

EmbeddingFunction: TypeAlias = Callable[[list[str]], Any]
"""Takes texts, returns one vector each: nested lists, a NumPy array, a CPU tensor."""

_BATCH = 256  # texts between two reports of progress


class LangChainEmbeddings(Protocol):
    """What LangChain calls ``Embeddings``; LlamaIndex, Haystack and others have wrappers that speak it."""

    def embed_documents(self, texts: list[str]) -> Any:
        """One vector each."""

    def embed_query(self, text: str) -> Any:
        """The vector of one query."""


class _AdaptedEmbedder(Embedder):
    """Checks, batches and normalises what a foreign embedder answers."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._dimensions: int | None = None

    @property
    def name(self) -> str:
        """The name given, or the class or function that does the work."""
        return self._name

    @property
    def dimensions(self) -> int | None:
        """Length of the first vectors that came back; None before that."""
        return self._dimensions

    def _embed(
        self, function: EmbeddingFunction, texts: Sequence[str], batch: int, progress: Progress | None
    ) -> NDArray[np.float32]:
        checked = check_texts(texts)
        parts = []
        for start in range(0, len(checked), batch):
            parts.append(self._vectors(function, checked[start : start + batch]))
            if progress is not None:
                progress(min(start + batch, len(checked)), len(checked))
        return np.concatenate(parts) if parts else no_vectors(self._dimensions)

    def _vectors(self, function: EmbeddingFunction, texts: list[str]) -> NDArray[np.float32]:
        try:
            raw = function(texts)
        except DeepMemoryError:
            raise
        except Exception as error:
            raise EmbedderError(f"the embedder {self._name} failed: {type(error).__name__}: {error}") from error
        vectors = unit_rows(raw, len(texts), f"the embedder {self._name}", self._dimensions)
        self._dimensions = vectors.shape[1]
        return vectors


class LangChainEmbedder(_AdaptedEmbedder):
    """An object with ``embed_documents(texts)`` and ``embed_query(text)``."""

    def __init__(self, embeddings: LangChainEmbeddings, *, name: str | None = None) -> None:
        """Wrap it.

        Args:
            embeddings: the object; queries go through ``embed_query`` one by one, as its protocol has it.
            name: what to call it; its class and model by default.
        """
        super().__init__(name or _name_of_object(embeddings))
        self._embeddings = embeddings

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed documents; see `Embedder.embed_documents`."""
        return self._embed(self._embeddings.embed_documents, texts, _BATCH, progress)

    def embed_queries(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed queries, one call each."""
        return self._embed(self._one_query, texts, 1, progress)

    def _one_query(self, texts: list[str]) -> list[Any]:
        return [self._embeddings.embed_query(texts[0])]


class CallableEmbedder(_AdaptedEmbedder):
    """A function from a list of texts to their vectors, such as the ``encode`` of a SentenceTransformer."""

    def __init__(self, function: EmbeddingFunction, *, name: str | None = None) -> None:
        """Wrap it.

        Args:
            function: called with at most 256 texts at a time, documents and queries alike.
            name: what to call it; the name of the function by default.
        """
        super().__init__(name or _name_of_function(function))
        self._function = function

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed documents; see `Embedder.embed_documents`."""
        return self._embed(self._function, texts, _BATCH, progress)

    def embed_queries(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed queries: the function does not tell them from documents."""
        return self._embed(self._function, texts, _BATCH, progress)


def _name_of_object(embeddings: object) -> str:
    models = (getattr(embeddings, attribute, None) for attribute in ("model", "model_name"))
    model = next((m for m in models if isinstance(m, str) and m), None)
    class_name = type(embeddings).__name__
    return f"{class_name}({model})" if model else class_name


def _name_of_function(function: EmbeddingFunction) -> str:
    if inspect.ismethod(function):
        return f"{type(function.__self__).__name__}.{function.__name__}"
    return getattr(function, "__qualname__", type(function).__name__)
