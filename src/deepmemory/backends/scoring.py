"""Exact nearest neighbours over a matrix, the same to the last bit however queries and documents are batched."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepmemory.backends.base import Distance, Ranking, VectorArray

__all__ = ["EMPTY_RANKING", "Matrix", "best_first", "merge", "rank"]

_QUERIES_AT_ONCE = 256
_DOCUMENTS_AT_ONCE = 32_768  # 256 x 32,768 float32 scores are 32 MB: the largest block that is ever made
_ROWS_IN_DOUBLE = 4_096

EMPTY_RANKING = Ranking(ids=(), scores=np.empty(0, dtype=np.float32))


@dataclass(frozen=True, slots=True)
class Matrix:
    """Documents to rank.

    Attributes:
        ids: ``(n,)`` ascending.
        vectors: ``(n, dimensions)`` float32.
        norms: ``(n,)`` float64, the length of each vector.
    """

    ids: Sequence[str]
    vectors: VectorArray
    norms: NDArray[np.float64]

    @classmethod
    def of(cls, ids: Sequence[str], vectors: VectorArray) -> "Matrix":
        """Measure the vectors of ids that are in ascending order."""
        return cls(ids, vectors, _norms(vectors))

    def take(self, rows: NDArray[np.int64]) -> "Matrix":
        """The matrix of some of the rows, given in ascending order."""
        return Matrix([self.ids[row] for row in rows], self.vectors[rows], self.norms[rows])


def rank(documents: Matrix, query_vectors: VectorArray, k: int, *, distance: Distance) -> list[Ranking]:
    """Rank all documents for each query; equal scores are ordered by id, and the lowest ids are kept.

    A matrix product rounds a score differently by its place in the block, so it only proposes: whatever it may have
    misplaced is scored again in double precision, row by row, and rounded once.

    Args:
        documents: what to rank.
        query_vectors: ``(n_queries, dimensions)`` float32.
        k: hits for each query; fewer where there are fewer documents.
        distance: with ``"cosine"``, documents and queries of zeros have no direction and take no part.
    """
    rankings: list[Ranking] = []
    for start in range(0, len(query_vectors), _QUERIES_AT_ONCE):
        queries = query_vectors[start : start + _QUERIES_AT_ONCE]
        best = [_Best(k) for _ in queries]
        for first_row in range(0, len(documents.vectors), _DOCUMENTS_AT_ONCE):
            block = slice(first_row, first_row + _DOCUMENTS_AT_ONCE)
            propose = _propose_by_cosine if distance == "cosine" else _propose_by_dot
            propose(best, queries, documents.vectors[block], documents.norms[block], first_row)
        rankings += [kept.ranking(documents.ids) for kept in best]
    return rankings


def best_first(ids: Sequence[str], scores: VectorArray, k: int | None = None) -> Ranking:
    """The ranking of documents in any order, equal scores by id; the first k of it where k is given."""
    order = sorted(range(len(ids)), key=lambda row: (-scores[row], ids[row]))[:k]
    return Ranking(ids=tuple(ids[row] for row in order), scores=scores[order])


def merge(first: Ranking, second: Ranking, k: int) -> Ranking:
    """The k best of two rankings of different documents for the same query."""
    if not len(first) or not len(second):
        return first if len(first) else second
    return best_first(first.ids + second.ids, np.concatenate([first.scores, second.scores]), k)


class _Best:
    """The k best rows seen so far for one query, best first, equal scores by row."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.rows: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.scores: NDArray[np.float32] = np.empty(0, dtype=np.float32)

    def add(self, rows: NDArray[np.int64], scores: NDArray[np.float64]) -> None:
        rows = np.concatenate([self.rows, rows])
        rounded = np.concatenate([self.scores, scores.astype(np.float32)])
        kept = np.lexsort((rows, -rounded))[: self.k]
        self.rows, self.scores = rows[kept], rounded[kept]

    def ranking(self, ids: Sequence[str]) -> Ranking:
        return Ranking(ids=tuple(ids[row] for row in self.rows), scores=self.scores)


def _propose_by_cosine(
    best: Sequence[_Best], queries: VectorArray, vectors: VectorArray, norms: NDArray[np.float64], first_row: int
) -> None:
    """Offer each query's best the documents of one block that may be among them, by cosine."""
    directed = norms > 0
    scores = queries @ vectors.T
    scores *= np.divide(1.0, norms, out=np.zeros_like(norms), where=directed).astype(np.float32)
    scores[:, ~directed] = -np.inf
    query_norms = _norms(queries)
    thresholds = _thresholds(scores, best[0].k, _rounding(vectors, query_norms))
    for kept, query, norm, row_scores, threshold in zip(best, queries, query_norms, scores, thresholds, strict=True):
        if norm > 0:
            rows = np.flatnonzero((row_scores >= threshold) & directed)
            kept.add(rows + first_row, _products(query, vectors, rows) / (norms[rows] * norm))


def _propose_by_dot(
    best: Sequence[_Best], queries: VectorArray, vectors: VectorArray, norms: NDArray[np.float64], first_row: int
) -> None:
    """Offer each query's best the documents of one block that may be among them, by dot product."""
    scores = queries @ vectors.T
    thresholds = _thresholds(scores, best[0].k, _rounding(vectors, _norms(queries) * norms.max(initial=0.0)))
    for kept, query, row_scores, threshold in zip(best, queries, scores, thresholds, strict=True):
        rows = np.flatnonzero(row_scores >= threshold)
        kept.add(rows + first_row, _products(query, vectors, rows))


def _thresholds(scores: NDArray[np.float32], k: int, rounding: NDArray[np.float64]) -> NDArray[np.float64]:
    """The score from which on a document may be among a query's k best, the rounding of both sides allowed for."""
    if scores.shape[1] <= k:
        return np.full(len(scores), -np.inf)
    place = scores.shape[1] - k
    lowest_kept = np.partition(scores, place, axis=1)[:, place]
    return np.asarray(lowest_kept - 2 * rounding, dtype=np.float64)


def _rounding(vectors: VectorArray, largest_products: NDArray[np.float64]) -> NDArray[np.float64]:
    """The most by which a float32 sum of as many products as there are dimensions can be off."""
    terms = int(vectors.shape[1])
    return terms * float(np.finfo(np.float32).eps) * largest_products


def _products(query: VectorArray, vectors: VectorArray, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Dot products in double precision, each summed alone so that equal vectors get equal scores."""
    products = np.empty(len(rows))
    wide = query.astype(np.float64)
    for start in range(0, len(rows), _ROWS_IN_DOUBLE):
        part = slice(start, start + _ROWS_IN_DOUBLE)
        products[part] = (vectors[rows[part]] * wide).sum(axis=1)
    return products


def _norms(vectors: VectorArray) -> NDArray[np.float64]:
    squares = np.empty(len(vectors))
    for start in range(0, len(vectors), _ROWS_IN_DOUBLE):
        part = slice(start, start + _ROWS_IN_DOUBLE)
        squares[part] = np.square(vectors[part], dtype=np.float64).sum(axis=1)
    norms: NDArray[np.float64] = np.sqrt(squares)
    return norms
