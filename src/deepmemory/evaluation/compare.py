"""Compare two rankings of the same queries: every difference with its interval, seen and unseen apart, leaks named."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepmemory import metrics
from deepmemory.backends.base import Ranking
from deepmemory.data import LabelledQueries, leaks, seen_documents
from deepmemory.errors import InputError
from deepmemory.evaluation.context import Texts, context_saving
from deepmemory.evaluation.result import (
    CurvePoint,
    Evaluation,
    Group,
    QueryResult,
    fair_queries,
    most_gained,
    most_lost,
)
from deepmemory.significance import paired_interval, paired_lift

__all__ = ["ANSWERS_SHOWN", "EXAMPLES", "HITS_SHOWN", "TOP_K", "depth_for", "evaluate_rankings"]

TOP_K = (1, 3, 5, 10, 50, 100)
"""The depths that the original reported."""

_HITS_KEPT = 10

EXAMPLES = 8
"""Queries that gained most, and as many that lost most, whose documents' texts are kept to be shown."""

HITS_SHOWN = 5
"""First hits of an example, on each side, whose texts are kept."""

ANSWERS_SHOWN = 3
"""Right answers of an example whose texts are kept."""

_CURVE = (1, 2, 3, 4, 5, 7, 10, 14, 20, 30, 40, 50, 70, 100, 150, 200, 300, 500, 700, 1000)


def depth_for(top_k: Sequence[int] = TOP_K) -> int:
    """How many hits `evaluate_rankings` needs for each query, once the depths asked for are checked.

    Raises:
        InputError: a depth is not a whole number of 1 or more, or there is none.
    """
    wrong = [k for k in top_k if not _is_depth(k)]
    if wrong or len(top_k) == 0:
        raise InputError(f"top_k must list whole numbers of 1 or more, but is {list(top_k)!r}.")
    return max(100, *map(int, top_k))


def _is_depth(k: object) -> bool:
    return isinstance(k, int | np.integer) and not isinstance(k, bool) and int(k) >= 1


def evaluate_rankings(
    labelled: LabelledQueries,
    baseline: Sequence[Ranking],
    trained: Sequence[Ranking],
    *,
    top_k: Sequence[int] = TOP_K,
    seen_ids: Collection[str] | None = None,
    training_queries: Iterable[str] = (),
    embedding_seconds: float | None = None,
    n_documents: int | None = None,
    document_text: Texts | None = None,
    count_tokens: Callable[[str], int] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Measure what Deep Memory changed.

    Args:
        labelled: n queries with their right answers.
        baseline: n rankings without Deep Memory, in the order of the queries, ``depth_for(top_k)`` hits deep, or as
            many as there are documents.
        trained: n rankings of the same queries with it.
        top_k: the depths at which to measure recall.
        seen_ids: documents that were relevant to some training query; None where that is not known, and then there is
            no split by seen and unseen.
        training_queries: texts of the training queries; queries among them are reported as leaks.
        embedding_seconds: how long embedding the queries took, to be reported.
        n_documents: how many documents were searched, to be reported.
        document_text: texts of documents by id, for the estimate of tokens and for the examples.
        count_tokens: a tokenizer's count; without it a token is taken as four characters, and called an estimate.
        seed: of intervals and p-values.

    Raises:
        InputError: there is no query, the lengths differ, or `top_k` holds no depth.
    """
    depth_for(top_k)
    depths = tuple(sorted(set(map(int, top_k))))
    _check_aligned(labelled, baseline, trained)
    names = [f"recall@{k}" for k in sorted({*depths, 10})] + ["ndcg@10", "mrr@10"]
    without, with_ = _measure(baseline, labelled, names), _measure(trained, labelled, names)
    seen, leaked = _seen(labelled, seen_ids), _leaked(labelled, training_queries)
    fair = np.ones_like(leaked) if leaked.all() else ~leaked
    fair_without, fair_with = without.only(fair), with_.only(fair)
    queries = _query_results(labelled, without, with_, seen, leaked)
    return Evaluation(
        top_k=depths,
        overall=_group(without, with_, seed),
        seen=None if seen is None else _subgroup(without, with_, seen & fair, seed),
        unseen=None if seen is None else _subgroup(without, with_, ~seen & fair, seed),
        unleaked=_subgroup(without, with_, ~leaked, seed) if leaked.any() else None,
        curve=_curve(fair_without.judged, fair_with.judged, depths, seed),
        saving=context_saving(
            fair_without.judged, fair_with.judged, (fair_without.run, fair_with.run), document_text, count_tokens
        ),
        queries=queries,
        identical=all(one.ids == other.ids for one, other in zip(baseline, trained, strict=True)),
        embedding_seconds=embedding_seconds,
        n_documents=n_documents,
        seed=seed,
        texts=_example_texts(fair_queries(queries), document_text),
    )


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two searches: its run, judged, and each metric by query, ``(n,)``."""

    run: Sequence[Ranking]
    judged: metrics.Judged
    scores: Mapping[str, NDArray[np.float64]]

    def only(self, members: NDArray[np.bool_]) -> "_Side":
        return _Side(
            run=[ranking for ranking, inside in zip(self.run, members, strict=True) if inside],
            judged=metrics.Judged(self.judged.grades[members], self.judged.ideal[members]),
            scores={name: values[members] for name, values in self.scores.items()},
        )


def _measure(run: Sequence[Ranking], labelled: LabelledQueries, names: Sequence[str]) -> _Side:
    judged = metrics.judge([ranking.ids for ranking in run], labelled.qrels)
    return _Side(run, judged, metrics.compute(judged, names))


def _check_aligned(labelled: LabelledQueries, *runs: Sequence[Ranking]) -> None:
    n = len(labelled)
    if n == 0:
        raise InputError("There is nothing to evaluate: expected one query or more, found none.")
    if any(len(run) != n for run in runs):
        raise InputError(
            f"There must be one ranking for each of the {n} queries, "
            f"but there are {len(runs[0])} without Deep Memory and {len(runs[1])} with it."
        )


def _seen(labelled: LabelledQueries, seen_ids: Collection[str] | None) -> NDArray[np.bool_] | None:
    """``(n,)``: which queries have a relevant document that a training query wanted too."""
    return None if seen_ids is None else seen_documents(seen_ids, labelled.qrels) > 0


def _leaked(labelled: LabelledQueries, training_queries: Iterable[str]) -> NDArray[np.bool_]:
    """``(n,)``: which queries were trained on."""
    leaked = np.zeros(len(labelled), dtype=bool)
    leaked[[leak.test for leak in leaks(list(training_queries), labelled.queries)]] = True
    return leaked


def _group(without: _Side, with_: _Side, seed: int) -> Group:
    lifts = {name: paired_lift(values, with_.scores[name], seed=seed) for name, values in without.scores.items()}
    return Group(n=len(without.run), metrics=lifts)


def _subgroup(without: _Side, with_: _Side, members: NDArray[np.bool_], seed: int) -> Group | None:
    return _group(without.only(members), with_.only(members), seed) if members.any() else None


def _curve(before: metrics.Judged, after: metrics.Judged, depths: Sequence[int], seed: int) -> tuple[CurvePoint, ...]:
    """Recall from 1 to the deepest hit that was asked for and exists, at steps that look even on a log axis."""
    deepest = max(before.grades.shape[1], after.grades.shape[1], 1)
    deepest = min(deepest, max(*depths, 100))
    points = []
    for k in sorted({k for k in (*_CURVE, *depths, deepest) if k <= deepest}):
        without, with_ = metrics.recall(before, k), metrics.recall(after, k)
        interval = paired_interval(with_ - without, seed=seed)
        points.append(CurvePoint(k, float(without.mean()), float(with_.mean()), interval))
    return tuple(points)


def _query_results(
    labelled: LabelledQueries,
    without: _Side,
    with_: _Side,
    seen: NDArray[np.bool_] | None,
    leaked: NDArray[np.bool_],
) -> tuple[QueryResult, ...]:
    ranks, trained_ranks = _first_ranks(without.judged), _first_ranks(with_.judged)
    return tuple(
        QueryResult(
            query=query,
            qrels=dict(qrels),
            baseline_ids=tuple(without.run[row].ids[:_HITS_KEPT]),
            trained_ids=tuple(with_.run[row].ids[:_HITS_KEPT]),
            baseline_rank=ranks[row],
            trained_rank=trained_ranks[row],
            baseline=float(without.scores["ndcg@10"][row]),
            trained=float(with_.scores["ndcg@10"][row]),
            seen=None if seen is None else bool(seen[row]),
            leaked=bool(leaked[row]),
        )
        for row, (query, qrels) in enumerate(zip(labelled.queries, labelled.qrels, strict=True))
    )


def _first_ranks(judged: metrics.Judged) -> list[int | None]:
    relevant = judged.grades > 0
    return [int(hits.argmax()) + 1 if hits.any() else None for hits in relevant]


def _example_texts(queries: Sequence[QueryResult], document_text: Texts | None) -> dict[str, str]:
    """Texts of what the queries that changed most found, and of what they should have found."""
    if document_text is None:
        return {}
    examples = [*most_gained(queries, EXAMPLES), *most_lost(queries, EXAMPLES)]
    wanted = list(dict.fromkeys(document for result in examples for document in _shown(result)))
    return dict(document_text(wanted)) if wanted else {}


def _shown(result: QueryResult) -> list[str]:
    found = [*result.baseline_ids[:HITS_SHOWN], *result.trained_ids[:HITS_SHOWN]]
    return [*found, *result.best_answers(ANSWERS_SHOWN)]
