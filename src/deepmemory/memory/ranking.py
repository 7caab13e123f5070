"""The same queries ranked twice: without a layer, and with it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepmemory.backends.base import Backend, Distance, Ranking
from deepmemory.backends.bulk import ExactSearch
from deepmemory.executors import Executor
from deepmemory.progress import Progress
from deepmemory.retrieval import Searched, retrieve
from deepmemory.transform import Layer

__all__ = ["rank_both", "rank_both_exactly"]

_BATCH = 100

_EXACT_BATCH = 2_000
"""Queries for which all documents are read together."""


def rank_both(
    backend: Searched,
    query_vectors: NDArray[np.float32],
    k: int,
    *,
    layer: Layer | None,
    texts: Sequence[str],
    distance: Distance,
    progress: Progress | None = None,
    at_once: int = _BATCH,
) -> tuple[list[Ranking], list[Ranking]]:
    """Search for every query without and with a layer, through the store's ordinary search.

    Args:
        backend: where the documents are.
        query_vectors: ``(n, dimensions)`` float32.
        k: hits a query.
        layer: None where there is none; both rankings are the same then, and are searched for once.
        texts: the n queries, for a layer that trusts words.
        distance: how the store compares vectors.
        progress: called with searches done and their number.
        at_once: queries that are searched for together.

    Returns:
        n rankings without the layer, and n with it.
    """
    layers = [None] if layer is None else [None, layer]
    rankings: list[list[Ranking]] = [[] for _ in layers]
    for start in range(0, len(query_vectors), at_once):
        batch, asked = query_vectors[start : start + at_once], texts[start : start + at_once]
        for ranked, applied in zip(rankings, layers, strict=True):
            ranked.extend(retrieve(backend, batch, k, layer=applied, texts=asked, distance=distance))
        if progress is not None:
            progress(sum(map(len, rankings)), len(layers) * len(query_vectors))
    return rankings[0], rankings[-1]


def rank_both_exactly(
    backend: Backend,
    query_vectors: NDArray[np.float32],
    k: int,
    *,
    layer: Layer | None,
    texts: Sequence[str],
    distance: Distance,
    executor: Executor,
    progress: Progress | None = None,
) -> tuple[list[Ranking], list[Ranking]]:
    """As `rank_both`, over all documents, whatever index the store has: each batch of queries reads them once or twice.

    Args:
        backend: where the documents are.
        query_vectors: as for `rank_both`.
        k: as for `rank_both`.
        layer: as for `rank_both`.
        texts: as for `rank_both`.
        distance: as for `rank_both`.
        executor: ranks the documents, a batch of them at a time.
        progress: called with searches done and their number, also in between.
    """
    so_far = (0, len(query_vectors) * (1 if layer is None else 2))

    def tell(done: int, total: int) -> None:
        nonlocal so_far
        so_far = (done, total)
        if progress is not None:
            progress(done, total)

    return rank_both(
        ExactSearch(backend, executor, while_reading=lambda: tell(*so_far)),
        query_vectors,
        k,
        layer=layer,
        texts=texts,
        distance=distance,
        progress=tell,
        at_once=_EXACT_BATCH,
    )
