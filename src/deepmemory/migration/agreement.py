"""How far a map ranks as the new model would after re-embedding: what candidates are chosen by.

Nobody has to re-embed the store for that: the pairs are a sample of it by both models. Of each fold the texts are
held out of learning, as queries *and* as documents; then each held-out query (given ones, or the texts themselves)
ranks the held-out documents by their new vectors, and, mapped, by their old ones. The *agreement* is the share of the
first k of one ranking that are among the first k of the other: recall@k against re-embedding. Where the pairs are no
small part of the store, documents that were learned from are ranked beside them, in the same proportion.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory.migration.candidates import Pairs
from deepmemory.migration.model import Affine

__all__ = ["Judge", "depth"]

Matrix: TypeAlias = NDArray[np.float32]
PerQuery: TypeAlias = NDArray[np.float64]

DEPTH = 10
SHARE = 10
MIN_QUERIES = 10
"""Given queries judge a fold alone from so many on; fewer judge together with the texts."""


def depth(n_documents: int) -> int:
    """The k of agreement@k: 10, or a tenth of the documents: the first ten of a few dozen say little."""
    return max(1, min(DEPTH, n_documents // SHARE))


@dataclass(frozen=True, eq=False)
class Judge:
    """What was held out, ranked by the new model, against which maps are held.

    Attributes:
        queries: ``(n, new_dim)``.
        documents: ``(m, old_dim)``.
        own: ``(n,)`` the document that a query is itself, which is no answer; -1 for none.
        first: ``(n, k)`` the first k documents by the new model.
    """

    queries: Matrix
    documents: Matrix
    own: NDArray[np.int64]
    first: NDArray[np.int64]

    @classmethod
    def of(cls, held_out: Pairs, seen: Pairs) -> "Judge":
        """Rank what was held out, and some documents of the learning beside it, by the new model."""
        n_given, n = len(held_out.queries), len(held_out.new)
        queries, own = held_out.queries, np.full(n_given, -1)
        if n_given < MIN_QUERIES:
            queries, own = np.concatenate([queries, held_out.new]), np.concatenate([own, np.arange(n)])
        new, old = (np.concatenate(sides) for sides in ((held_out.new, seen.new), (held_out.old, seen.old)))
        return cls(queries, old, own, _first(queries @ new.T, own, depth(len(new))))

    def agreement(self, mapped: Affine) -> PerQuery:
        """Agreement@k of each query with the new model, fractions."""
        found = _first(mapped(self.queries) @ self.documents.T, self.own, self.first.shape[1])
        both = (found[:, :, None] == self.first[:, None, :]).any(axis=2)
        shares: PerQuery = both.mean(axis=1)
        return shares


def _first(scores: Matrix, own: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Columns of the k highest scores of each row, but for its own."""
    rows = np.flatnonzero(own >= 0)
    scores[rows, own[rows]] = -np.inf
    return np.argpartition(-scores, k - 1, axis=1)[:, :k]
