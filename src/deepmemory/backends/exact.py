"""Documents in this process's memory, searched exactly: for small work, and the oracle for every other backend."""
# ruff: noqa: D102  Backend documents the methods

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from deepmemory.backends import scoring
from deepmemory.backends.base import (
    Backend,
    Capabilities,
    Distance,
    Filter,
    Ranking,
    VectorArray,
    check_dimensions,
    metadata_json,
)
from deepmemory.backends.filters import Conditions, metadata_terms, read_filter
from deepmemory.data import Document

__all__ = ["ExactBackend"]


@dataclass(frozen=True, slots=True)
class _Record:
    id: str
    text: str
    metadata: str  # as JSON, so that nobody's later change to a dictionary reaches what is stored
    terms: frozenset[str]
    vector: VectorArray

    @property
    def document(self) -> Document:
        return Document(self.id, self.text, json.loads(self.metadata))


class ExactBackend(Backend):
    """Documents in a dictionary and their vectors in one NumPy matrix, which is built at the first search."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}
        self._dimensions: int | None = None
        self._matrix: scoring.Matrix | None = None
        self._lock = threading.RLock()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(full_text=False, persistent=False, concurrent_writers=False)

    @property
    def dimensions(self) -> int | None:
        return self._dimensions

    def upsert(self, documents: Sequence[Document], vectors: VectorArray) -> None:
        if not documents:
            return
        check_dimensions(vectors, self._dimensions)
        own = np.array(vectors, dtype=np.float32)
        records = {new.id: _record(new, vector) for new, vector in zip(documents, own, strict=True)}
        with self._lock:
            check_dimensions(vectors, self._dimensions)
            self._dimensions = own.shape[1]
            self._records.update(records)
            self._matrix = None

    def get(self, ids: Sequence[str]) -> list[Document | None]:
        with self._lock:
            found = [self._records.get(document_id) for document_id in ids]
        return [record.document if record else None for record in found]

    def get_vectors(self, ids: Sequence[str], *, filter: Filter | None = None) -> dict[str, VectorArray]:
        conditions = read_filter(filter)
        with self._lock:
            found = [self._records[document_id] for document_id in ids if document_id in self._records]
        return {record.id: record.vector for record in _passing(found, conditions)}

    def delete(self, *, ids: Sequence[str] | None = None, filter: Filter | None = None) -> int:
        conditions = read_filter(filter)
        with self._lock:
            asked = self._records.keys() if ids is None else set(ids) & self._records.keys()
            doomed = [record.id for record in _passing([self._records[i] for i in asked], conditions)]
            for document_id in doomed:
                del self._records[document_id]
            if doomed:
                self._matrix = None
        return len(doomed)

    def count(self, filter: Filter | None = None) -> int:
        conditions = read_filter(filter)
        with self._lock:
            return sum(1 for _ in _passing(self._records.values(), conditions))

    def search(
        self,
        query_vectors: VectorArray,
        k: int,
        *,
        distance: Distance = "cosine",
        filter: Filter | None = None,
    ) -> list[Ranking]:
        check_dimensions(query_vectors, self._dimensions)
        documents = self._passing_matrix(read_filter(filter))
        if k < 1 or not documents.ids:
            return [scoring.EMPTY_RANKING for _ in query_vectors]
        return scoring.rank(documents, query_vectors, k, distance=distance)

    def _passing_matrix(self, conditions: Conditions) -> scoring.Matrix:
        """The vectors of the documents that pass, as of now."""
        with self._lock:
            if self._matrix is None:
                self._matrix = self._build_matrix()
            documents, records = self._matrix, self._records
            if conditions.ids is None and not conditions.any_of:
                return documents
            rows = [row for row, i in enumerate(documents.ids) if conditions.accept(i, records[i].terms)]
        return documents.take(np.array(rows, dtype=np.int64))

    def _build_matrix(self) -> scoring.Matrix:
        ids = sorted(self._records)
        vectors = np.empty((len(ids), self._dimensions or 0), dtype=np.float32)
        for row, document_id in enumerate(ids):
            vectors[row] = self._records[document_id].vector
        return scoring.Matrix.of(ids, vectors)

    def batches(self, *, batch_size: int = 8192, text: bool = False) -> Iterator[pa.RecordBatch]:
        with self._lock:
            records = list(self._records.values())
        for start in range(0, len(records), batch_size):
            yield _record_batch(records[start : start + batch_size], text=text)

    def optimize(self) -> None:
        with self._lock:
            if self._matrix is None:
                self._matrix = self._build_matrix()

    def drop(self) -> None:
        with self._lock:
            self._records.clear()
            self._dimensions = None
            self._matrix = None


def _record(document: Document, vector: VectorArray) -> _Record:
    terms = metadata_terms(document.metadata)
    return _Record(document.id, document.text, metadata_json(document.metadata), terms, vector)


def _passing(records: Iterable[_Record], conditions: Conditions) -> Iterator[_Record]:
    return (record for record in records if conditions.accept(record.id, record.terms))


def _record_batch(records: Sequence[_Record], *, text: bool) -> pa.RecordBatch:
    vectors = np.stack([record.vector for record in records])
    columns: dict[str, pa.Array] = {
        "id": pa.array([record.id for record in records], pa.string()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1]),
    }
    if text:
        columns["text"] = pa.array([record.text for record in records], pa.string())
        columns["metadata"] = pa.array([record.metadata for record in records], pa.string())
    return pa.RecordBatch.from_pydict(columns)
