"""Documents and queries of any number, whose relation is known: queries are their answers, turned and blurred.

Documents lie around topics, as texts do, and in fewer directions than there are dimensions: the variance along
dimension j falls as (1 + j / 32) ** -1.5. A query is the vector of the document that answers it, turned by one rotation
of the first 64 dimensions and blurred by noise. A residual linear layer can undo the rotation exactly, so the best that
it can do is known: the ranking of the queries turned back, the ceiling. The noise stays.

Everything is drawn by blocks of `BLOCK` documents, each from a seed of its own, so that a million of them are never
held, and the same document is the same in a larger corpus.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

__all__ = ["BLOCK", "Asked", "Planted"]

Vectors: TypeAlias = NDArray[np.float32]

BLOCK = 10_000
TOPICS = 2_000
TURNED, ANGLE = 64, 1.0
WITHIN_TOPIC, BLUR = 0.7, 1.6

_TRAIN, _TEST, _TOPICS, _TURN = range(1, 5)  # apart from the blocks', whose seeds have a third number


@dataclass(frozen=True, eq=False)
class Asked:
    """Queries and what answers them.

    Attributes:
        vectors: ``(n, dim)`` float32, unit norm.
        answers: ``(n,)`` the number of the one document that answers each.
    """

    vectors: Vectors
    answers: NDArray[np.int64]

    @property
    def relevance(self) -> list[list[tuple[int, float]]]:
        """As `deepmemory.training.fit` takes it."""
        return [[(answer, 1.0)] for answer in self.answers.tolist()]


@dataclass(frozen=True, eq=False)
class Planted:
    """One corpus and its questions.

    Attributes:
        n_documents: how many there are.
        dimensions: of the vectors.
        seed: of everything.
    """

    n_documents: int
    dimensions: int
    seed: int = 0

    def blocks(self) -> Iterator[Vectors]:
        """All documents in order, `BLOCK` at a time."""
        for block in range(-(-self.n_documents // BLOCK)):
            yield self._block(block)[: self.n_documents - block * BLOCK]

    def train(self, n: int) -> Asked:
        """Queries to learn from; the first of them are the same for every ``n``."""
        return self._asked(n, _TRAIN)

    def test(self, n: int) -> Asked:
        """Queries to measure on, for documents drawn like those of the training queries: anew, from all."""
        return self._asked(n, _TEST)

    def turned_back(self, queries: Vectors) -> Vectors:
        """Queries as the planted map would have them: what a layer that knew it would give."""
        turned: Vectors = queries @ self._turn.T
        return turned

    def _asked(self, n: int, purpose: int) -> Asked:
        rng = np.random.default_rng([self.seed, purpose])
        answers = rng.integers(0, self.n_documents, n)
        blur = np.float32(BLUR) * self._drawn(np.random.default_rng([self.seed, purpose, self.dimensions]), n)
        found = np.empty((n, self.dimensions), dtype=np.float32)
        of_block = answers // BLOCK
        for block in np.unique(of_block).tolist():
            here = np.flatnonzero(of_block == block)
            found[here] = self._block(block)[answers[here] - block * BLOCK]
        return Asked(_unit(found @ self._turn + blur), answers)

    def _block(self, block: int) -> Vectors:
        rng = np.random.default_rng([self.seed, 0, block])
        topic = rng.integers(0, TOPICS, BLOCK)
        return _unit(self._topics[topic] + np.float32(WITHIN_TOPIC) * self._drawn(rng, BLOCK))

    @cached_property
    def _topics(self) -> Vectors:
        return self._drawn(np.random.default_rng([self.seed, _TOPICS]), TOPICS)

    @cached_property
    def _spread(self) -> Vectors:
        """Standard deviation by dimension, ``(dim,)``; their squares sum to 1."""
        variance = (1 + np.arange(self.dimensions) / 32) ** -1.5
        return np.sqrt(variance / variance.sum()).astype(np.float32)

    @cached_property
    def _turn(self) -> Vectors:
        """The rotation, ``(dim, dim)``: documents times it are where queries lie."""
        turned = min(TURNED, self.dimensions)
        draw = np.random.default_rng([self.seed, _TURN]).standard_normal((turned, turned)) / np.sqrt(turned)
        turn = np.eye(self.dimensions, dtype=np.float32)
        turn[:turned, :turned] = expm(ANGLE * (draw - draw.T))
        return turn

    def _drawn(self, rng: np.random.Generator, n: int) -> Vectors:
        """Vectors of about unit norm, most of it along the first dimensions, ``(n, dim)``."""
        drawn: Vectors = rng.standard_normal((n, self.dimensions), dtype=np.float32) * self._spread
        return drawn


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
