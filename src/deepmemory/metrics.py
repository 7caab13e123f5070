"""Retrieval metrics: pure functions from a judged run to one number per query.

A run is judged once (`judge`, or `judge_rows` for integer rows) and then measured as often as wanted:

    judged = judge(runs=[["b", "a", "c"]], qrels=[{"a": 1.0, "z": 1.0}])
    recall(judged, k=2)            # array([0.5])
    compute(judged, ["recall@2", "ndcg@10"])

Every metric returns a fraction in [0, 1] for each query, ``(n,) float64``; the mean over queries is the figure that
people quote. The definitions are trec_eval's, so the numbers agree with ``ir-measures`` and ``pytrec_eval``.

Rules that hold for all of them:

- A document is *relevant* when its grade is above 0. Only nDCG looks at how far above.
- A run with fewer than k hits is as good as one filled up with documents that are not relevant.
- A document that comes back twice counts once, at its better rank; the repeat keeps its rank and earns nothing.
- The order of hits is the order given. Ties of scores are for the ranker to break.
- A query without relevant documents has no recall. It is an `InputError`, here and in `deepmemory.data`.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from deepmemory.errors import InputError

__all__ = [
    "METRICS",
    "Judged",
    "Metric",
    "compute",
    "hit_rate",
    "judge",
    "judge_rows",
    "mrr",
    "ndcg",
    "parse_metric",
    "precision",
    "recall",
]

PerQuery: TypeAlias = NDArray[np.float64]
Id = TypeVar("Id", bound=Hashable)


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A run whose hits have been looked up in the qrels.

    Attributes:
        grades: ``(n, depth) float32``, the grade of the hit at each rank; 0 where it is not relevant or there is none.
        ideal: ``(n, max_relevant) float32``, the grades of all relevant documents of each query, descending and
            padded with 0; the first column is above 0.

    Raises:
        InputError: the shapes don't fit, or a query has no relevant document.
    """

    grades: NDArray[np.float32]
    ideal: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.grades.ndim != 2 or self.ideal.ndim != 2 or len(self.grades) != len(self.ideal):
            raise InputError(
                "grades and ideal must be two-dimensional with one row for each query, "
                f"but have the shapes {self.grades.shape} and {self.ideal.shape}."
            )
        without = np.flatnonzero(~(self.ideal > 0).any(axis=1))
        if len(without):
            raise InputError([f"Query {row} has no relevant document, so no metric is defined." for row in without])

    def __len__(self) -> int:
        return len(self.grades)


def judge(runs: Sequence[Sequence[Id]], qrels: Sequence[Mapping[Id, float]]) -> Judged:
    """Look up every hit of every run.

    Args:
        runs: for each query the ids of its hits, best first; the runs may differ in length.
        qrels: for each query the grade of each document that was judged; others are not relevant.

    Raises:
        InputError: the lengths differ, or a query has no document with a grade above 0.

    Example:
        >>> judged = judge([["b", "a", "b"]], [{"a": 2.0, "b": 1.0}])
        >>> judged.grades.tolist(), judged.ideal.tolist()
        ([[1.0, 2.0, 0.0]], [[2.0, 1.0]])
    """
    _check_aligned(len(runs), len(qrels))
    grades = np.zeros((len(runs), max(map(len, runs), default=0)), dtype=np.float32)
    for row, (run, judgements) in enumerate(zip(runs, qrels, strict=True)):
        unclaimed = dict(judgements)  # a document is taken out when it is met, so that it counts once
        for rank, hit in enumerate(run):
            grades[row, rank] = max(unclaimed.pop(hit, 0.0), 0.0)
    return Judged(grades=grades, ideal=_ideal([list(judgements.values()) for judgements in qrels]))


def judge_rows(rows: NDArray[np.int64], qrels: Sequence[Mapping[int, float]]) -> Judged:
    """Look up hits that are row numbers, many times faster than `judge`.

    Args:
        rows: ``(n, depth)`` integers, the document rows found for each query, best first; a negative number stands
            for no hit.
        qrels: for each query the grade of each judged document by its row (0 or higher).

    Raises:
        InputError: as `judge`.

    Example:
        >>> judge_rows(np.array([[7, 3, -1]]), [{3: 1.0}]).grades.tolist()
        [[0.0, 1.0, 0.0]]
    """
    _check_aligned(len(rows), len(qrels))
    ideal = _ideal([list(judgements.values()) for judgements in qrels])
    grades = np.zeros(rows.shape, dtype=np.float32)
    documents = np.fromiter((row for judgements in qrels for row in judgements), dtype=np.int64)
    if rows.size == 0 or documents.size == 0:
        return Judged(grades=grades, ideal=ideal)
    values = np.fromiter((grade for judgements in qrels for grade in judgements.values()), dtype=np.float32)
    owners = np.repeat(np.arange(len(qrels)), [len(judgements) for judgements in qrels])

    # One integer names a (query, document) pair, so that all hits are looked up by a single binary search.
    width = 1 + max(int(rows.max()), int(documents.max()))
    keys = owners * width + documents
    order = np.argsort(keys)
    keys, values = keys[order], values[order]
    wanted = np.where(rows >= 0, np.arange(len(rows))[:, None] * width + rows, -1).ravel()
    found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    hits = np.flatnonzero((keys[found] == wanted) & (values[found] > 0))
    _, first = np.unique(wanted[hits], return_index=True)  # row-major order: the first is the better rank
    hits = hits[first]
    grades.ravel()[hits] = values[found[hits]]
    return Judged(grades=grades, ideal=ideal)


def recall(judged: Judged, k: int) -> PerQuery:
    """The share of a query's relevant documents that are among its first k hits.

    ``recall@k = |relevant in the first k| / |relevant|``

    The divisor is all relevant documents, also where there are more than k of them. (Whether *any* is found is
    `hit_rate`.)

    Example: hits ``b, a, c``; relevant ``a`` and ``z``. recall@1 = 0/2 = 0, recall@2 = recall@3 = 1/2.

    Args:
        judged: n queries.
        k: the cut-off, 1 or more.

    Returns:
        ``(n,) float64`` in [0, 1].

    Raises:
        InputError: k is below 1.
    """
    relevant: PerQuery = (judged.ideal > 0).sum(axis=1, dtype=np.float64)
    return _found(judged, k) / relevant


def precision(judged: Judged, k: int) -> PerQuery:
    """The share of the first k hits that are relevant.

    ``precision@k = |relevant in the first k| / k``

    The divisor is k also where fewer hits came back, as in trec_eval.

    Example: hits ``b, a, c``; relevant ``a`` and ``z``. precision@1 = 0, precision@2 = 1/2, precision@10 = 1/10.

    Args:
        judged: n queries.
        k: the cut-off, 1 or more.

    Returns:
        ``(n,) float64`` in [0, 1].

    Raises:
        InputError: k is below 1.
    """
    return _found(judged, k) / k


def hit_rate(judged: Judged, k: int) -> PerQuery:
    """1 where at least one relevant document is among the first k hits, else 0 (trec_eval's ``success``).

    ``hit_rate@k = [|relevant in the first k| > 0]``

    Example: hits ``b, a, c``; relevant ``a`` and ``z``. hit_rate@1 = 0, hit_rate@2 = 1.

    Args:
        judged: n queries.
        k: the cut-off, 1 or more.

    Returns:
        ``(n,) float64``, each 0 or 1.

    Raises:
        InputError: k is below 1.
    """
    return (_found(judged, k) > 0).astype(np.float64)


def mrr(judged: Judged, k: int) -> PerQuery:
    """The reciprocal rank of the first relevant hit; its mean over queries is the MRR.

    ``mrr@k = 1 / (rank of the first relevant hit)``, or 0 where none is among the first k. Ranks start at 1.

    Example: hits ``b, a, c``; relevant ``a`` and ``c``. mrr@1 = 0, mrr@10 = 1/2.

    Args:
        judged: n queries.
        k: the cut-off, 1 or more.

    Returns:
        ``(n,) float64`` in [0, 1].

    Raises:
        InputError: k is below 1.
    """
    relevant = _first(judged.grades, k) > 0
    reciprocal: PerQuery = relevant / np.arange(1, relevant.shape[1] + 1)
    best: PerQuery = reciprocal.max(axis=1, initial=0.0)
    return best


def ndcg(judged: Judged, k: int) -> PerQuery:
    """Normalised discounted cumulative gain, with the grade itself as the gain.

    ``DCG@k = sum over ranks r = 1..k of grade(r) / log2(r + 1)``, and ``nDCG@k = DCG@k / ideal DCG@k``, where the
    ideal lists the query's relevant documents by descending grade. The gain is linear in the grade, as in trec_eval
    and BEIR, not ``2^grade - 1``; with binary grades the two are the same.

    Example: hits ``b, a``; grades ``a: 2``, ``c: 1``. DCG@2 = 0/log2(2) + 2/log2(3) = 1.2619,
    ideal DCG@2 = 2/log2(2) + 1/log2(3) = 2.6309, nDCG@2 = 0.4796.

    Source: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002.

    Args:
        judged: n queries.
        k: the cut-off, 1 or more.

    Returns:
        ``(n,) float64`` in [0, 1].

    Raises:
        InputError: k is below 1.
    """
    ratio = _dcg(judged.grades, k) / _dcg(judged.ideal, k)
    return np.minimum(ratio, 1.0)  # a perfect ranking may exceed 1 by a rounding error


Metric: TypeAlias = Callable[[Judged, int], PerQuery]

METRICS: Mapping[str, Metric] = {
    "recall": recall,
    "ndcg": ndcg,
    "mrr": mrr,
    "precision": precision,
    "hit_rate": hit_rate,
}
"""The metrics by the names that reports use before the ``@``."""


def parse_metric(name: str) -> tuple[Metric, int]:
    """Read a name such as ``"recall@10"``.

    Returns:
        The metric and its cut-off k.

    Raises:
        InputError: the name is not of the form ``metric@k`` with a known metric and k of 1 or more.
    """
    metric, _, k = name.partition("@")
    if metric not in METRICS or not (k.isascii() and k.isdigit()) or int(k) < 1:
        raise InputError(
            f"Unknown metric {name!r}: expected one of {', '.join(METRICS)}, then @ and a number of hits, "
            'as in "recall@10".'
        )
    return METRICS[metric], int(k)


def compute(judged: Judged, names: Sequence[str]) -> dict[str, PerQuery]:
    """Compute several metrics by name.

    Args:
        judged: n queries.
        names: such as ``["recall@10", "ndcg@10"]``.

    Returns:
        By name, ``(n,) float64`` each.

    Raises:
        InputError: a name is unknown.
    """
    parsed = {name: parse_metric(name) for name in names}
    return {name: metric(judged, k) for name, (metric, k) in parsed.items()}


def _check_aligned(n_runs: int, n_qrels: int) -> None:
    if n_runs != n_qrels:
        raise InputError(f"There must be one run for each query: there are {n_runs} runs and {n_qrels} qrels.")


def _ideal(grades: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    ideal = np.zeros((len(grades), max(map(len, grades), default=0)), dtype=np.float32)
    for row, values in enumerate(grades):
        ideal[row, : len(values)] = sorted((max(value, 0.0) for value in values), reverse=True)
    return ideal


def _first(grades: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    if k < 1:
        raise InputError(f"k must be 1 or more, but is {k}.")
    return grades[:, :k]


def _found(judged: Judged, k: int) -> PerQuery:
    found: PerQuery = (_first(judged.grades, k) > 0).sum(axis=1, dtype=np.float64)
    return found


def _dcg(grades: NDArray[np.float32], k: int) -> PerQuery:
    gains = _first(grades, k).astype(np.float64)
    total: PerQuery = gains @ (1.0 / np.log2(np.arange(2, gains.shape[1] + 2)))
    return total
