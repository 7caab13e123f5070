"""What a store is made of, on this machine or on a hub: `VectorStore` checks what is asked and passes it on."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepmemory.backends.base import Backend, Filter
from deepmemory.data import Document, Hit
from deepmemory.embedders import Embedder
from deepmemory.executors import Executor
from deepmemory.explanation import Explanation
from deepmemory.memory import DeepMemory
from deepmemory.progress import Progress
from deepmemory.state import State
from deepmemory.store.record import StoreRecord

__all__ = ["StoreParts"]


class StoreParts(ABC):
    """The parts of one open store, and what it takes all of them to do.

    Attributes:
        record: what the store says of itself.
        backend: where the documents are.
        state: the small named blobs beside them.
        embedder: turns texts into the store's vectors; None where vectors are always given.
        deep_memory: trains, watches and evaluates.
        executor: does bulk work.
    """

    record: StoreRecord
    backend: Backend
    state: State
    embedder: Embedder | None
    deep_memory: DeepMemory
    executor: Executor

    @abstractmethod
    def dimensions(self) -> int | None:
        """Length that vectors must have; None where any will do, or who takes them will check."""

    @abstractmethod
    def add(
        self, documents: Sequence[Document], vectors: NDArray[np.float32] | None, progress: Progress | None
    ) -> None:
        """Store checked documents, batch by batch; without vectors the embedder, which is there, makes them."""

    @abstractmethod
    def search(
        self,
        queries: Sequence[str] | None,
        vectors: NDArray[np.float32] | None,
        k: int,
        *,
        with_layer: bool,
        filter: Filter | None,
    ) -> list[list[Hit]]:
        """Find the documents nearest to each query; without vectors the embedder, which is there, makes them."""

    @abstractmethod
    def search_words(self, queries: Sequence[str], k: int, *, filter: Filter | None) -> list[list[Hit]]:
        """Find the documents that share words with each query."""

    @abstractmethod
    def explain(
        self, query: str | None, vector: NDArray[np.float32] | None, k: int, *, filter: Filter | None
    ) -> Explanation:
        """Take one ranking apart; without its vector ``(1, dimensions)`` the embedder, which is there, makes it."""

    @abstractmethod
    def close(self) -> None:
        """Wait for what was begun here, and let go of everything."""
