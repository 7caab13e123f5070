"""What a store's own full-text search adds to the similarity of vectors.

A full-text score (BM25, or the engine's own measure) has no fixed scale, and an engine gives the best hits alone, so
what is added to a document's similarity is the distance of its score from the first that is left out::

    words(q, d) = weight * max(0, s(q, d) - s'(q))        s'(q) = the score of hit number depth + 1, or 0

A document beyond the first hits thus gets nothing, and one just within them next to nothing: what is known of the
ranking ends without a step. How far words are to be trusted, the weight, is learned (`deepmemory.training`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import csr_array, issparse

from deepmemory.errors import InputError

__all__ = ["DEPTH", "LexicalScores", "WordsWeight", "above_the_rest", "check_lexical_scores", "times"]

DEPTH = 100
"""Hits of the full-text search that count."""

LexicalScores: TypeAlias = Any
"""``(n_queries, n_documents)``, a SciPy sparse array or anything that NumPy takes: full-text scores of 0 and more, 0
for documents that were not found."""


@dataclass(frozen=True, slots=True)
class WordsWeight:
    """How far words are trusted.

    Attributes:
        weight: score added for each unit of a full-text score above that of the first hit left out.
        depth: hits that count.
    """

    weight: float
    depth: int = DEPTH

    def of_hits(self, scores: Mapping[str, float]) -> dict[str, float]:
        """What is added to each of the first hits, by id.

        Args:
            scores: full-text scores by id, of the first ``depth + 1`` hits, best first.
        """
        rest = list(scores.values())[self.depth :]
        floor = rest[0] if rest else 0.0
        return {id: self.weight * (score - floor) for id, score in scores.items() if score > floor}

    def of_scores(self, lexical_scores: csr_array) -> csr_array:
        """What is added, from ``(n_queries, n_documents)`` full-text scores; sparse float32 of the same shape."""
        return times(above_the_rest(lexical_scores, self.depth), self.weight)


def above_the_rest(lexical_scores: csr_array, depth: int = DEPTH) -> csr_array:
    """Each query's ``depth`` best scores, less the next one; sparse float32 of the same shape."""
    starts = lexical_scores.indptr
    kept, values, counts = [], [], []
    for start, end in pairwise(starts):
        scores = lexical_scores.data[start:end]
        first_left_out = len(scores) - depth - 1
        floor = np.partition(scores, first_left_out)[first_left_out] if first_left_out >= 0 else 0.0
        best = np.flatnonzero(scores > floor)
        kept.append(lexical_scores.indices[start:end][best])
        values.append(scores[best] - floor)
        counts.append(len(best))
    return csr_array(
        (
            np.concatenate([*values, np.empty(0)]).astype(np.float32),
            np.concatenate([*kept, np.empty(0, dtype=np.int64)]).astype(np.int64),
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        ),
        shape=lexical_scores.shape,
    )


def times(scores: csr_array, factor: float) -> csr_array:
    """Sparse float32 scores, each multiplied."""
    return csr_array((scores.data * np.float32(factor), scores.indices, scores.indptr), shape=scores.shape)


def check_lexical_scores(lexical_scores: LexicalScores, n_queries: int, n_documents: int) -> csr_array:
    """Check full-text scores and give them as sparse float32 ``(n_queries, n_documents)``, sorted by document.

    Raises:
        InputError: another shape, not numbers, or scores that are negative or not finite, by row.
    """
    try:
        given: Any = lexical_scores if issparse(lexical_scores) else np.asarray(lexical_scores)
        scores: Any = csr_array(given).astype(np.float32, copy=True)
    except (TypeError, ValueError):
        raise InputError(
            f"lexical_scores should be an array of numbers of shape ({n_queries}, {n_documents}); "
            "it holds something else"
        ) from None
    if scores.shape != (n_queries, n_documents):
        raise InputError(
            f"lexical_scores should have a row for each of the {n_queries} queries and a column for each of the "
            f"{n_documents} documents; it has the shape {scores.shape}"
        )
    wrong = ~np.isfinite(scores.data) | (scores.data < 0)
    if wrong.any():
        rows = np.unique(np.repeat(np.arange(n_queries), np.diff(scores.indptr))[wrong])
        raise InputError([f"lexical_scores[{row}] has a score that is negative or not finite" for row in rows.tolist()])
    scores.sum_duplicates()
    scores.eliminate_zeros()
    scores.sort_indices()
    checked: csr_array = scores
    return checked
