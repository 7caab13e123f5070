"""Which candidate wins, what it may claim, and when nothing does: the gate.

Every candidate is judged on queries that its linear layer was not trained on, in both kinds of folds. Nobody can know
how much of tomorrow's log asks for what was never asked for before, so a candidate must first be *safe*: it loses on
neither kind of fold, and keeps three quarters of the best lift that is to be had on held-out documents, which a layer
would gladly trade for a little more of what it has seen. (All of it would cost more than it brings: the best there is
bought by lowering all that was asked for before.) What words alone lift costs nobody anything, so it is kept whole, and
the three quarters are of what is to be had beyond it. Of the safe ones the best on held-out queries leads, and the
winner is the most cautious of those within one standard error of it (the rule of Breiman, Friedman, Olshen and Stone,
1984): the one that can raise or lower a document least, whatever the query. The identity, with lifts of 0, is a
candidate too.

What is then *reported* is nested: for each fold the winner is chosen anew from the queries outside it, and only the
ranks of the fold's own queries are kept. So no figure comes from a query that took part in choosing what it measures.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory.training.settings import IDENTITY, Settings
from deepmemory.training.workers import Map

__all__ = ["TOLERATED_LOSS", "Choice", "FoldKind", "FoldResult", "PerQuery", "choose", "nested_settings", "ranked"]

FoldKind: TypeAlias = Literal["queries", "documents"]
PerQuery: TypeAlias = NDArray[np.float64]
PerCandidate: TypeAlias = NDArray[np.float64]

TOLERATED_LOSS = 0.003
"""Of mean nDCG@10 on either kind of fold: less is noise on any collection that we measured."""

KEPT = 0.75
"""Of the best harmless lift on held-out documents beyond that of words alone. From 0.7 to 0.9 the sum of what both
kinds of held-out queries gain is about the same: less favours documents that were asked for before, more favours the
others."""


@dataclass(frozen=True, eq=False)
class FoldResult:
    """One fold's held-out queries under every candidate.

    Attributes:
        kind: what was held out.
        held_out: ``(n,)`` rows of the training queries.
        ndcg: for each candidate ``(n,)``, nDCG@10.
    """

    kind: FoldKind
    held_out: NDArray[np.int64]
    ndcg: Mapping[Settings, PerQuery]

    @cached_property
    def table(self) -> PerCandidate:
        """Of every candidate, ``(n_candidates, n)``, stacked once for all the choices that are made from it."""
        return np.stack(list(self.ndcg.values()))


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate and its mean lifts in nDCG@10 over the identity.

    Attributes:
        settings: the candidate.
        by_query: on held-out queries; 0.0 for the identity.
        by_document: on queries for held-out documents; None where no document could be held out.
    """

    settings: Settings
    by_query: float
    by_document: float | None


def choose(folds: list[FoldResult], *, without: NDArray[np.int64] | None = None) -> Choice:
    """The winner; the identity where every other candidate loses.

    Args:
        folds: results of all folds, over the same candidates in the same order.
        without: rows of training queries to leave out of the judgement.
    """
    return ranked(folds, without=without)[0]


def ranked(folds: list[FoldResult], *, without: NDArray[np.int64] | None = None) -> list[Choice]:
    """Every candidate: the winner, then the safe ones by their lift, then the others; arguments as `choose`."""
    candidates = list(folds[0].ndcg)
    by_query = _lifts(folds, "queries", candidates, without)
    if by_query is None:
        by_query = np.zeros((len(candidates), 1))  # nothing to judge by: nothing beats the identity
    by_document = _lifts(folds, "documents", candidates, without)
    on_queries = _row_means(by_query)
    on_documents = [None] * len(candidates) if by_document is None else _row_means(by_document)
    choices = [Choice(*figures) for figures in zip(candidates, on_queries, on_documents, strict=True)]
    safe = _safe(candidates, by_query, by_document)
    order = sorted(
        range(len(choices)), key=lambda i: (safe[i], choices[i].by_query, choices[i].by_document or 0.0), reverse=True
    )
    winner = _most_cautious(order[0], choices, by_query, safe)
    return [choices[winner], *(choices[i] for i in order if i != winner)]


def nested_settings(folds: list[FoldResult], *, each: Map = map) -> list[Settings]:
    """For each fold, the candidate chosen without its held-out queries.

    Args:
        folds: as `choose`.
        each: makes the choices; `map`, or the same on several threads.
    """
    return list(each(lambda fold: choose(folds, without=fold.held_out).settings, folds))


def _safe(candidates: list[Settings], by_query: PerCandidate, by_document: PerCandidate | None) -> NDArray[np.bool_]:
    harmless: NDArray[np.bool_] = by_query.mean(axis=1) >= -TOLERATED_LOSS
    if by_document is None:
        return harmless
    unseen = by_document.mean(axis=1)
    harmless &= unseen >= -TOLERATED_LOSS
    is_words_alone = np.array([not settings.linear and not settings.has_bonus for settings in candidates])
    by_words = unseen[harmless & is_words_alone].max()  # the identity is one of them
    best = unseen[harmless].max()
    enough: NDArray[np.bool_] = unseen >= by_words + KEPT * (best - by_words) - TOLERATED_LOSS
    return harmless & enough


def _most_cautious(leader: int, choices: list[Choice], by_query: PerCandidate, safe: NDArray[np.bool_]) -> int:
    behind = by_query[leader] - by_query
    near = np.flatnonzero(safe & (behind.mean(axis=1) <= _standard_error(behind)))
    active = [int(i) for i in near if choices[i].settings != IDENTITY]
    if choices[leader].settings == IDENTITY or not active:
        return leader

    def caution(i: int) -> tuple[float, float]:
        return -choices[i].settings.largest_step, choices[i].by_query + (choices[i].by_document or 0.0)

    return max(active, key=caution)


def _row_means(per_query: PerCandidate) -> list[float]:
    """Of each row as it would be by itself, to the last bit, however the rows lie in memory."""
    means: list[float] = np.ascontiguousarray(per_query).mean(axis=1).tolist()
    return means


def _standard_error(per_query: PerCandidate) -> PerQuery:
    error: PerQuery = per_query.std(axis=1) / np.sqrt(per_query.shape[1])
    return error


def _lifts(
    folds: list[FoldResult], kind: FoldKind, candidates: list[Settings], without: NDArray[np.int64] | None
) -> PerCandidate | None:
    """``(n_candidates, n_queries)``, each candidate's nDCG@10 less the identity's."""
    identity = candidates.index(IDENTITY)
    parts = []
    for fold in folds:
        if fold.kind == kind:
            kept = np.ones(len(fold.held_out), dtype=bool) if without is None else ~np.isin(fold.held_out, without)
            ndcg = fold.table[:, kept]
            parts.append(ndcg - ndcg[identity])
    together = np.concatenate(parts, axis=1) if parts else np.zeros((len(candidates), 0))
    return together if together.shape[1] else None
