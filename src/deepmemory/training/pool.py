"""Which queries take part, and which documents the cross-validation ranks, where there are too many for all."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from deepmemory.training.device import CPU, Device
from deepmemory.words import above_the_rest

__all__ = ["MOST_QUERIES", "POOL_SIZE", "document_pool", "sample", "sample_of_queries"]

Matrix: TypeAlias = NDArray[np.float32]

MOST_QUERIES = 10_000
"""More are sampled. A step of the descent costs queries times labelled documents, and both a layer's size and what its
memory adds to each search grow with the queries that it remembers; a sample bounds all of it."""

POOL_SIZE = 20_000
"""Documents that are ranked without a second thought."""

_QUERIES = 2_000
_HARDEST = 100
_BLOCK = 8192


def document_pool(
    query_vectors: Matrix,
    document_vectors: Matrix,
    labelled: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    words: csr_array | None = None,
    device: Device = CPU,
) -> NDArray[np.int64] | None:
    """The labelled documents and those that compete with them for the first ranks.

    A document that is far from every query is never among the first ten, with the layer or without. So beyond
    `POOL_SIZE` documents only the nearest of each query (of a sample of 2,000) are kept, by vectors and by words. The
    documents are read in blocks; the full product of queries and documents never exists.

    Args:
        query_vectors: ``(n, dim)``.
        document_vectors: ``(n_documents, dim)``.
        labelled: rows of the labelled documents.
        rng: draws the sample of queries.
        words: ``(n, n_documents)``, scores of what each query finds by words.
        device: where queries and documents are multiplied.

    Returns:
        rows of ``document_vectors``, ascending; None for all of them.
    """
    n_documents = len(document_vectors)
    if n_documents <= POOL_SIZE:
        return None
    sample = sample_of_queries(len(query_vectors), rng)
    k = max(10, min(_HARDEST, 2 * POOL_SIZE // len(sample)))
    kept = np.union1d(_nearest(query_vectors[sample], document_vectors, k, device), labelled)
    return kept if words is None else np.union1d(kept, above_the_rest(words[sample], k).indices)


def sample(rows: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The rows, or as many of them as may be, drawn at random, ascending."""
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def sample_of_queries(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of the queries, of ``n``, whose nearest documents make a pool: all, or 2,000 drawn, ascending."""
    return sample(np.arange(n), _QUERIES, rng)


def _nearest(queries: Matrix, documents: Matrix, k: int, device: Device) -> NDArray[np.int64]:
    asking = device.put(queries)
    best_scores = np.full((len(queries), 0), -np.inf, dtype=np.float32)
    best_rows = np.zeros((len(queries), 0), dtype=np.int64)
    for start in range(0, len(documents), _BLOCK):
        scores = device.get(asking @ device.put(documents[start : start + _BLOCK]).T)
        rows = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
        best_scores = np.concatenate([best_scores, scores], axis=1)
        best_rows = np.concatenate([best_rows, rows], axis=1)
        if best_scores.shape[1] > k:
            kept = np.argpartition(-best_scores, k - 1, axis=1)[:, :k]
            best_scores = np.take_along_axis(best_scores, kept, axis=1)
            best_rows = np.take_along_axis(best_rows, kept, axis=1)
    return np.unique(best_rows)
