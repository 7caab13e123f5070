"""How well every candidate ranks the held-out queries of a fold, at little more than the price of one.

Prior and memory raise labelled documents only, and words raise few others, so the unlabelled documents that may come
first under a given linear layer are the same for all candidates: the best hundred by their vectors, and those found by
words. They are found once, and the rank of a relevant document under any candidate is one more than the unlabelled and
the labelled documents that score higher.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from deepmemory.training.device import CPU, Device
from deepmemory.training.labels import Labels
from deepmemory.training.settings import Settings
from deepmemory.transform import QueryMemory, unit_rows

__all__ = ["DEPTH", "FoldScorer", "Ranks", "ideal_gain"]

Matrix: TypeAlias = NDArray[np.float32]
Rows: TypeAlias = NDArray[np.int64]

DEPTH = 10
"""Candidates are compared by nDCG@10."""

EXACT = 100
"""Ranks are told apart down to here; whatever is ranked lower is as good as not found."""

_SCORE_BLOCK = 1 << 24
"""Scores of queries by documents held at once: 64 MiB of float32."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """Where the relevant documents of some queries were ranked.

    Attributes:
        labels: the queries' relevant documents.
        rank: ``(n_pairs,)`` int64 from 1; exact up to `EXACT`, and above it where the document is ranked lower.
        ideal: ``(n_queries,)``, `ideal_gain` of the labels, which many candidates share.
    """

    labels: Labels
    rank: Rows
    ideal: NDArray[np.float64]

    def ndcg(self) -> NDArray[np.float64]:
        """nDCG@10 by query, ``(n_queries,)``; as `deepmemory.metrics.ndcg`."""
        found = np.where(self.rank <= DEPTH, self.labels.grade / np.log2(self.rank + 1.0), 0.0)
        return _sum_by_query(self.labels, found) / self.ideal

    def depth(self) -> NDArray[np.float64]:
        """How far down the relevant documents are: grade-weighted mean log2 rank, ``(n_queries,)``, 0 at the top.

        Unlike nDCG@10 it moves with every relevant document that moves, which makes it the better witness of
        whether anything was learned at all.
        """
        logarithm = np.log2(np.minimum(self.rank, EXACT + 1))
        grade = self.labels.grade
        return _sum_by_query(self.labels, grade * logarithm) / _sum_by_query(self.labels, grade)

    def recall(self, k: int) -> NDArray[np.float64]:
        """Recall@k by query for k up to `DEPTH`, ``(n_queries,)``; as `deepmemory.metrics.recall`."""
        return _sum_by_query(self.labels, self.rank <= k) / _sum_by_query(self.labels, np.ones_like(self.rank))


def ideal_gain(labels: Labels) -> NDArray[np.float64]:
    """The discounted gain of the best possible ten hits of each query, ``(n_queries,)``."""
    order = np.lexsort((-labels.grade, labels.query))
    best_first = Labels(labels.n_queries, labels.query[order], labels.document[order], labels.grade[order])
    first = np.searchsorted(best_first.query, np.arange(labels.n_queries))
    place = np.arange(len(order)) - first[best_first.query]
    gain = np.where(place < DEPTH, best_first.grade / np.log2(place + 2.0), 0.0)
    return _sum_by_query(best_first, gain)


def _sum_by_query(labels: Labels, values: NDArray[np.generic]) -> NDArray[np.float64]:
    return np.bincount(labels.query, values.astype(np.float64), labels.n_queries).astype(np.float64)


class FoldScorer:
    """Ranks the held-out queries of one fold under one linear layer after another."""

    def __init__(
        self,
        held_out_queries: Matrix,
        held_out_labels: Labels,
        documents: Matrix,
        *,
        train_queries: Matrix,
        train_labels: Labels,
        held_out_words: csr_array | None = None,
        device: Device = CPU,
    ) -> None:
        """Prepare what does not depend on the linear layer.

        Args:
            held_out_queries: ``(n, dim)`` unit norm.
            held_out_labels: their relevant documents, rows of ``documents``.
            documents: ``(n_documents, dim)``, what is ranked.
            train_queries: ``(n_train, dim)`` unit norm.
            train_labels: their relevant documents; these are what counts as labelled in this fold.
            held_out_words: ``(n, n_documents)``, what words add to the held-out queries' scores where they are worth 1;
                None where they are not known.
            device: where queries and documents are multiplied.
        """
        self._queries = held_out_queries
        self._labels = held_out_labels
        self._n_documents = len(documents)
        self._device, self._documents = device, device.put(documents)
        self._ideal = ideal_gain(held_out_labels)
        self._words = held_out_words
        self._labelled = train_labels.labelled
        self._train_queries = train_queries
        self._train_labels = train_labels
        place = np.minimum(np.searchsorted(self._labelled, held_out_labels.document), len(self._labelled) - 1)
        self._pair_is_labelled = self._labelled[place] == held_out_labels.document
        self._pair_place = place

    def ranks(self, matrix: Matrix | None, settings: Sequence[Settings]) -> dict[Settings, Ranks]:
        """Rank under candidates that share a linear part.

        Args:
            matrix: ``A (dim, dim)``; None where queries stay as they are.
            settings: the candidates; quickest where those alike in words and memory are neighbours.
        """
        ranks = {s: np.empty(len(self._labels.query), dtype=np.int64) for s in settings}
        memory = self._memory(matrix)
        step = max(1, _SCORE_BLOCK // max(self._n_documents, len(self._train_labels.query)))
        for start in range(0, len(self._queries), step):
            self._rank_block(slice(start, start + step), matrix, memory, ranks)
        return {s: Ranks(self._labels, rank, self._ideal) for s, rank in ranks.items()}

    def _moved(self, queries: Matrix, matrix: Matrix | None) -> Matrix:
        return queries if matrix is None else unit_rows(queries + queries @ matrix)

    def _memory(self, matrix: Matrix | None) -> QueryMemory:
        labels, keys = self._train_labels, self._moved(self._train_queries, matrix)
        return QueryMemory.build(keys, labels.query, np.searchsorted(self._labelled, labels.document), labels.grade)

    def _rank_block(
        self, block: slice, matrix: Matrix | None, memory: QueryMemory, ranks: dict[Settings, Rows]
    ) -> None:
        x = self._moved(self._queries[block], matrix)
        nearest = memory.nearest(x)
        similarity = self._device.get(self._device.put(x) @ self._documents.T)
        words = None if self._words is None else self._words[block.start : block.start + len(x)]
        pairs = slice(*np.searchsorted(self._labels.query, (block.start, block.start + len(x))))
        query = self._labels.query[pairs] - block.start
        scores = _Scores(similarity, None if words is None else words.toarray())
        own = scores.at(query, self._labels.document[pairs])
        labelled = scores.at(slice(None), self._labelled)
        best = _best_unlabelled(scores, words, self._labelled).rows(query)
        is_labelled, place = self._pair_is_labelled[pairs], self._pair_place[pairs]
        seen, unseen = np.flatnonzero(is_labelled), np.flatnonzero(~is_labelled)

        worth, memory_of = None, None
        for settings, rank in ranks.items():
            if settings.words != worth:
                worth, memory_of = settings.words, None
                plain, alone = labelled.total(worth), own.total(worth)[unseen]
                unlabelled = best.total(worth)
                above_alone = 1 + _higher(unlabelled[unseen], alone)
                unlabelled = unlabelled[seen]
            if (settings.threshold, settings.gain) != memory_of:
                memory_of = (settings.threshold, settings.gain)
                raised = plain
                if settings.gain:
                    bonus = np.maximum(0, nearest - np.float32(settings.threshold))
                    raised = plain + np.float32(settings.gain) * bonus
                raised_own = raised[query[seen], place[seen]]
                above_raised = 1 + _higher(raised[query[seen]], raised_own)
                others = raised[query[unseen]]
            # a prior moves all labelled documents alike, so it is weighed against the unlabelled alone
            prior = np.float32(settings.prior)
            here = rank[pairs]
            here[seen] = above_raised + _higher(unlabelled, raised_own + prior)
            here[unseen] = above_alone + _higher(others, alone - prior)


def _higher(scores: Matrix, than: Matrix) -> NDArray[np.int32]:
    """How many of each row's scores are higher, ``(n,)``."""
    counts: NDArray[np.int32] = (scores > than[:, None]).sum(axis=1, dtype=np.int32)
    return counts


@dataclass(frozen=True, slots=True)
class _Scores:
    """Scores of some documents, in the two parts that a candidate weighs against each other."""

    similarity: Matrix
    words: Matrix | None

    def at(self, row: slice | Rows, column: Rows) -> "_Scores":
        return _Scores(self.similarity[row, column], None if self.words is None else self.words[row, column])

    def rows(self, rows: Rows) -> "_Scores":
        return _Scores(self.similarity[rows], None if self.words is None else self.words[rows])

    def total(self, worth: float) -> Matrix:
        if self.words is None or not worth:
            return self.similarity
        total: Matrix = self.similarity + np.float32(worth) * self.words
        return total


def _best_unlabelled(scores: _Scores, words: csr_array | None, labelled: Rows) -> _Scores:
    """Scores of those unlabelled documents that may be ranked first, `EXACT` a query and those found by words.

    The similarities are used up.
    """
    similarity = scores.similarity
    similarity[:, labelled] = -np.inf
    first = similarity.shape[1] - min(EXACT, similarity.shape[1])
    if words is None:
        similarity.partition(first, axis=1)
        return _Scores(similarity[:, first:], None)
    row = np.arange(len(similarity))[:, None]
    nearest = np.argpartition(similarity, first, axis=1)[:, first:]
    by_similarity = scores.at(row, nearest)
    similarity[row, nearest] = -np.inf  # none is counted twice
    found, worth = _padded(words)
    found_similarity = np.where(worth > 0, similarity[row, found], np.float32(-np.inf))
    return _Scores(
        np.concatenate([by_similarity.similarity, found_similarity], axis=1),
        np.concatenate([by_similarity.words, worth], axis=1),
    )


def _padded(words: csr_array) -> tuple[Rows, Matrix]:
    """The columns and values of a sparse array's rows, ``(n, most in a row)`` each; 0 and 0 where a row has fewer."""
    counts = np.diff(words.indptr)
    there = np.arange(counts.max(initial=0)) < counts[:, None]
    columns, values = np.zeros(there.shape, dtype=np.int64), np.zeros(there.shape, dtype=np.float32)
    columns[there], values[there] = words.indices, words.data
    return columns, values
