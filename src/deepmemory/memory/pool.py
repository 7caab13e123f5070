"""The documents that a training ranks: all of a small store, and of a large one those that could be ranked first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepmemory.backends.base import Backend, Distance, Ranking
from deepmemory.backends.bulk import search_nearest
from deepmemory.errors import StoreError
from deepmemory.executors import Executor, InProcessExecutor
from deepmemory.progress import Progress
from deepmemory.training.pool import sample_of_queries

__all__ = ["DocumentPool", "gather_pool"]

WHOLE_STORE = 20_000
"""Up to this many documents all of them are ranked."""

_NEAREST = 100
_MOST_NEAREST = 50_000
_SEARCH_BATCH = 500  # where there is no graph, each batch is a pass over all vectors
_FETCH_BATCH = 2_000


@dataclass(frozen=True, eq=False)
class DocumentPool:
    """Documents by row.

    Attributes:
        ids: ascending, so that the order in which documents came into the store makes no difference.
        vectors: ``(len(ids), dimensions)`` float32.
    """

    ids: tuple[str, ...]
    vectors: NDArray[np.float32]

    def rows(self) -> dict[str, int]:
        """The row of each id."""
        return {id: row for row, id in enumerate(self.ids)}


def gather_pool(
    backend: Backend,
    labelled_ids: Sequence[str],
    query_vectors: NDArray[np.float32],
    *,
    distance: Distance,
    seed: int,
    progress: Progress,
    by_words: Sequence[Ranking] = (),
    executor: Executor | None = None,
) -> DocumentPool:
    """Gather the documents to train against.

    A document that is far from every query is never ranked first, with a layer or without. So beyond `WHOLE_STORE`
    documents the pool is the labelled ones and, for each query of a sample of 2,000, the 100 nearest and what it finds
    by words, found by the backend's own search. Neither the store nor the product of queries and documents is ever
    held.

    Args:
        backend: where the documents are.
        labelled_ids: documents relevant to some training query; always in the pool.
        query_vectors: ``(n, dimensions)`` float32, the training queries.
        distance: how the store compares vectors.
        seed: draws the sample of queries.
        progress: called with (done, total).
        by_words: what each query finds by words; nothing where words have no part.
        executor: asks the store for the nearest documents; None asks from this process.

    Raises:
        StoreError: a labelled document was deleted meanwhile.
        Cancelled: by the progress callback.
    """
    total = backend.count()
    if total <= WHOLE_STORE:
        pool = _whole_store(backend, total, progress)
    else:
        sample = sample_of_queries(len(query_vectors), np.random.default_rng(seed))
        rankings = search_nearest(
            executor or InProcessExecutor(),
            backend,
            query_vectors[sample],
            _NEAREST,
            at_once=_SEARCH_BATCH,
            distance=distance,
            progress=progress,
        )
        nearest = _best_ranked([*rankings, *(by_words[row] for row in sample.tolist() if by_words)])
        pool = _fetched(backend, sorted({*labelled_ids, *nearest}), progress)
    known = set(pool.ids)
    missing = [id for id in labelled_ids if id not in known]
    if missing:
        raise StoreError(
            f"{len(missing)} of the labelled documents were deleted while training began, {missing[0]!r} among them; "
            "train again without them"
        )
    return pool


def _whole_store(backend: Backend, total: int, progress: Progress) -> DocumentPool:
    ids: list[str] = []
    parts: list[NDArray[np.float32]] = []
    for batch in backend.batches():
        ids += batch.column("id").to_pylist()
        vectors = batch.column("vector")
        parts.append(vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), -1).astype(np.float32))
        progress(min(len(ids), total), total)
    if not ids:
        return DocumentPool((), np.empty((0, backend.dimensions or 0), dtype=np.float32))
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return DocumentPool(tuple(ids[row] for row in order), np.concatenate(parts)[order])


def _best_ranked(rankings: Sequence[Ranking]) -> list[str]:
    """Ids that some query finds, those that rank highest first, at most `_MOST_NEAREST`."""
    best_rank: dict[str, int] = {}
    for ranking in rankings:
        for rank, id in enumerate(ranking.ids):
            best_rank[id] = min(rank, best_rank.get(id, rank))
    return sorted(best_rank, key=lambda id: (best_rank[id], id))[:_MOST_NEAREST]


def _fetched(backend: Backend, ids: Sequence[str], progress: Progress) -> DocumentPool:
    found: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(ids), _FETCH_BATCH):
        found |= backend.get_vectors(ids[start : start + _FETCH_BATCH])
        progress(len(ids), len(ids))
    kept = [id for id in ids if id in found]
    return DocumentPool(tuple(kept), np.stack([found[id] for id in kept]))
