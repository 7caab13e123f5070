"""The same queries ranked twice: without a layer, and with it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepmemory.backends.base import Backend, Distance, Ranking
from deepmemory.progress import Progress
from deepmemory.retrieval import retrieve
from deepmemory.transform import Layer

__all__ = ["rank_both"]

_BATCH = 100


def rank_both(
    backend: Backend,
    query_vectors: NDArray[np.float32],
    k: int,
    *,
    layer: Layer | None,
    texts: Sequence[str],
    distance: Distance,
    progress: Progress | None = None,
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

    Returns:
        n rankings without the layer, and n with it.
    """
    layers = [None] if layer is None else [None, layer]
    rankings: list[list[Ranking]] = [[] for _ in layers]
    for start in range(0, len(query_vectors), _BATCH):
        batch, asked = query_vectors[start : start + _BATCH], texts[start : start + _BATCH]
        for ranked, applied in zip(rankings, layers, strict=True):
            ranked.extend(retrieve(backend, batch, k, layer=applied, texts=asked, distance=distance))
        if progress is not None:
            progress(sum(map(len, rankings)), len(layers) * len(query_vectors))
    return rankings[0], rankings[-1]
