"""A collection that its engine's own client fills and an attached backend reads, so that it can keep the contract.

class Chunks(FilledElsewhere):
    def fill(self, documents, vectors): ...     # with the engine's own client
    def remove(self, ids): ...
    def forget(self): ...
    def attach(self): return open_attached(...)

class TestAttached(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path):
        return Chunks(tmp_path)
"""
# ruff: noqa: D102  Backend documents the methods

import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence

import pyarrow as pa

from deepmemory.backends import Backend, Capabilities, Distance, Filter, Ranking, scoring
from deepmemory.backends.base import VectorArray, check_dimensions
from deepmemory.backends.filters import metadata_terms, read_filter
from deepmemory.data import Document
from deepmemory.errors import CapabilityError

__all__ = ["FilledElsewhere"]


class FilledElsewhere(Backend):
    """A backend whose documents are written by one hand and read by another."""

    def __init__(self, *, full_text: bool = False) -> None:
        """Begin with no collection.

        Args:
            full_text: whether there is full-text search once there is one.
        """
        self._full_text = full_text
        self._reader: Backend | None = None
        self._writing = threading.Lock()

    @abstractmethod
    def fill(self, documents: Sequence[Document], vectors: VectorArray) -> None:
        """Add documents with the engine's own client, replacing those whose id exists; the collection is made."""

    @abstractmethod
    def remove(self, ids: Sequence[str]) -> None:
        """Remove documents that are there with the engine's own client."""

    @abstractmethod
    def forget(self) -> None:
        """Remove the collection with the engine's own client."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether the engine has the collection."""

    @abstractmethod
    def attach(self) -> Backend:
        """Attach to the collection."""

    def reader(self) -> Backend | None:
        """What reads; None while there is nothing to attach to."""
        if not self.exists():
            self._reader = None
        elif self._reader is None:
            self._reader = self.attach()
        return self._reader

    @property
    def capabilities(self) -> Capabilities:
        reader = self.reader()
        if reader is None:
            return Capabilities(full_text=self._full_text, persistent=True, concurrent_writers=False)
        return reader.capabilities

    @property
    def dimensions(self) -> int | None:
        reader = self.reader()
        return reader.dimensions if reader else None

    # Written by the one

    def upsert(self, documents: Sequence[Document], vectors: VectorArray) -> None:
        for document in documents:
            metadata_terms(document.metadata)
        check_dimensions(vectors, self.dimensions)
        if documents:
            with self._writing:
                self.fill(documents, vectors)

    def delete(self, *, ids: Sequence[str] | None = None, filter: Filter | None = None) -> int:
        read_filter(filter)
        reader = self.reader()
        if reader is None:
            return 0
        known = [id for batch in reader.batches() for id in batch.column("id").to_pylist()]
        asked = known if ids is None else sorted(set(ids) & set(known))
        doomed = list(reader.get_vectors(asked, filter=filter))
        if doomed:
            with self._writing:
                self.remove(doomed)
        return len(doomed)

    def optimize(self) -> None:
        """Nothing: others look after what is theirs."""

    def drop(self) -> None:
        if self.exists():
            self.forget()
        self._reader = None

    # Read by the other

    def get(self, ids: Sequence[str]) -> list[Document | None]:
        reader = self.reader()
        return reader.get(ids) if reader else [None] * len(ids)

    def get_vectors(self, ids: Sequence[str], *, filter: Filter | None = None) -> dict[str, VectorArray]:
        reader = self.reader()
        return reader.get_vectors(ids, filter=filter) if reader else {}

    def count(self, filter: Filter | None = None) -> int:
        reader = self.reader()
        return reader.count(filter) if reader else 0

    def search(
        self,
        query_vectors: VectorArray,
        k: int,
        *,
        distance: Distance = "cosine",
        filter: Filter | None = None,
    ) -> list[Ranking]:
        reader = self.reader()
        if reader is None:
            return [scoring.EMPTY_RANKING for _ in query_vectors]
        return reader.search(query_vectors, k, distance=distance, filter=filter)

    def search_text(self, queries: Sequence[str], k: int, *, filter: Filter | None = None) -> list[Ranking]:
        reader = self.reader()
        if reader is None:
            raise CapabilityError("there is nothing yet, and so no full-text search")
        return reader.search_text(queries, k, filter=filter)

    def batches(self, *, batch_size: int = 8192, text: bool = False) -> Iterator[pa.RecordBatch]:
        reader = self.reader()
        return reader.batches(batch_size=batch_size, text=text) if reader else iter(())

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
