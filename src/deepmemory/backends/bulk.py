"""Search as work for an executor: queries in batches through an engine, or documents in batches ranked exactly."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepmemory.backends import scoring
from deepmemory.backends.base import Backend, Capabilities, Distance, Filter, Ranking, VectorArray, check_dimensions
from deepmemory.errors import CapabilityError
from deepmemory.executors import BatchFunction, Executor, InProcessExecutor, Work
from deepmemory.progress import Progress

__all__ = ["ExactSearch", "RankDocuments", "SearchNearest", "search_nearest"]

_BATCH_BYTES = 32 * 2**20
_READ_AT_ONCE = 8_192


@dataclass(eq=False)
class SearchNearest(Work):
    """Batches of queries, a column ``vector``, in; a ranking for each, by the engine's own search, out.

    Attributes:
        backend: where to search in this process.
        k: hits for each query.
        distance: how vectors are compared.
    """

    backend: Backend
    k: int
    distance: Distance
    name: str = field(init=False, default="searching for the nearest documents")

    def prepare(self) -> BatchFunction:
        """See `Work.prepare`."""

        def nearest(batch: pa.RecordBatch, _: Progress) -> pa.RecordBatch:
            return _of_rankings(self.backend.search(_vectors_of(batch), self.k, distance=self.distance))

        return nearest

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker opens the documents for itself."""
        return _elsewhere, (self.backend.elsewhere(), self.k, self.distance)


def _elsewhere(opened: Callable[[], Backend], k: int, distance: Distance) -> "_SearchElsewhere":
    return _SearchElsewhere(opened, k, distance)


@dataclass(eq=False)
class _SearchElsewhere(Work):
    opened: Callable[[], Backend]
    k: int
    distance: Distance
    name: str = field(init=False, default="searching for the nearest documents")

    def prepare(self) -> BatchFunction:
        return SearchNearest(self.opened(), self.k, self.distance).prepare()


def search_nearest(
    executor: Executor,
    backend: Backend,
    query_vectors: VectorArray,
    k: int,
    *,
    at_once: int,
    distance: Distance,
    progress: Progress,
) -> list[Ranking]:
    """Rank documents for many queries by the engine's own search, in batches.

    Where only this process can open the documents, it searches itself, whatever the executor.

    Args:
        executor: asks the engine.
        backend: where the documents are.
        query_vectors: ``(n, dimensions)`` float32.
        k: hits for each query.
        at_once: queries in a batch.
        distance: how vectors are compared.
        progress: called with queries done and their number.

    Returns:
        n rankings, without documents.
    """
    able = executor if backend.elsewhere() is not None else InProcessExecutor()
    found: list[Ranking] = []
    batches = (_of_vectors(query_vectors[start : start + at_once]) for start in range(0, len(query_vectors), at_once))

    def tell(done: int, _: int) -> None:
        progress(len(found) + done, len(query_vectors))

    with contextlib.closing(able.map(SearchNearest(backend, k, distance), batches, progress=tell)) as results:
        for result in results:
            found += _rankings_of(result)
    return found


@dataclass(eq=False)
class RankDocuments(Work):
    """Batches of documents, columns ``id`` and ``vector``, in; their ranking for each of the queries out.

    Attributes:
        queries: ``(n, dimensions)`` float32.
        k: hits for each query.
        distance: how vectors are compared.
    """

    queries: VectorArray
    k: int
    distance: Distance
    name: str = field(init=False, default="ranking all documents")

    def prepare(self) -> BatchFunction:
        """See `Work.prepare`."""

        def ranked(batch: pa.RecordBatch, _: Progress) -> pa.RecordBatch:
            order = np.asarray(pc.sort_indices(batch.column("id")))
            ids = batch.column("id").take(order).to_pylist()
            documents = scoring.Matrix.of(ids, _vectors_of(batch)[order])
            return _of_rankings(scoring.rank(documents, self.queries, self.k, distance=self.distance))

        return ranked


class ExactSearch:
    """Ranks all documents of a backend for each query, exactly, whatever index it has.

    The documents are read in batches and never held. Full-text search, and vectors by id, are the backend's own.
    """

    def __init__(
        self, backend: Backend, executor: Executor, *, while_reading: Callable[[], None] | None = None
    ) -> None:
        """Look at a backend so.

        Args:
            backend: where the documents are.
            executor: ranks the batches.
            while_reading: called now and then; what it raises stops the search.
        """
        self._backend = backend
        self._executor = executor
        self._while_reading = while_reading

    @property
    def capabilities(self) -> Capabilities:
        """The backend's."""
        return self._backend.capabilities

    def get_vectors(self, ids: Sequence[str], *, filter: Filter | None = None) -> dict[str, VectorArray]:
        """See `Backend.get_vectors`."""
        return self._backend.get_vectors(ids, filter=filter)

    def search_text(self, queries: Sequence[str], k: int, *, filter: Filter | None = None) -> list[Ranking]:
        """See `Backend.search_text`."""
        return self._backend.search_text(queries, k, filter=filter)

    def search(
        self, query_vectors: VectorArray, k: int, *, distance: Distance = "cosine", filter: Filter | None = None
    ) -> list[Ranking]:
        """Rank all documents, in one pass over them for all the queries; as `Backend.search`, without a filter."""
        if filter:
            raise CapabilityError("an exact search ranks all documents: leave out the filter")
        check_dimensions(query_vectors, self._backend.dimensions)

        def tell(_done: int, _rows: int) -> None:
            if self._while_reading is not None:
                self._while_reading()

        best = [scoring.EMPTY_RANKING for _ in query_vectors]
        work = RankDocuments(np.ascontiguousarray(query_vectors), k, distance)
        with contextlib.closing(self._executor.map(work, self._documents(), progress=tell)) as results:
            for result in results:
                found = _rankings_of(result)
                best = [scoring.merge(kept, new, k) for kept, new in zip(best, found, strict=True)]
        return best

    def _documents(self) -> Iterator[pa.RecordBatch]:
        """Ids and vectors, a bounded number of bytes at a time, however small the parts are that the engine gives."""
        rows_each = max(_READ_AT_ONCE, _BATCH_BYTES // (4 * max(1, self._backend.dimensions or 1)))
        parts: list[pa.RecordBatch] = []
        for part in self._backend.batches(batch_size=_READ_AT_ONCE):
            parts.append(part.select(["id", "vector"]))
            if sum(map(len, parts)) >= rows_each:
                yield _joined(parts)
                parts = []
        if parts:
            yield _joined(parts)


def _joined(parts: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(parts).combine_chunks().to_batches()[0]


def _of_vectors(vectors: VectorArray) -> pa.RecordBatch:
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
    return pa.RecordBatch.from_pydict({"vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])})


def _vectors_of(batch: pa.RecordBatch) -> VectorArray:
    column = batch.column("vector")
    flat = column.flatten().to_numpy(zero_copy_only=False)
    vectors: VectorArray = flat.reshape(len(column), -1).astype(np.float32, copy=False)
    return vectors


def _of_rankings(rankings: Sequence[Ranking]) -> pa.RecordBatch:
    """One row for each ranking: a list of ids and a list of scores."""
    ids = pa.array([list(ranking.ids) for ranking in rankings], pa.list_(pa.string()))
    scores = pa.array([ranking.scores for ranking in rankings], pa.list_(pa.float32()))
    return pa.RecordBatch.from_pydict({"ids": ids, "scores": scores})


def _rankings_of(batch: pa.RecordBatch) -> list[Ranking]:
    ids, scores = batch.column("ids"), batch.column("scores")
    return [
        Ranking(tuple(ids[row].as_py()), np.asarray(scores[row].values, dtype=np.float32)) for row in range(len(batch))
    ]
