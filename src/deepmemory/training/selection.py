"""Which candidate wins, what it may claim, and when nothing does: the gate.

Every candidate is judged on queries that its linear layer was not trained on, in both kinds of folds. The winner is
the best on held-out *queries* among those that lose on neither kind and keep most of the best lift on held-out
*documents*: nobody can know how much of tomorrow's log asks for what was never asked for before, and without the second
condition a layer gladly trades all of it for a little more of what it has seen. The identity, with lifts of 0, is a
candidate too.

What is then *reported* is nested: for each fold the winner is chosen anew from the queries outside it, and only the
ranks of the fold's own queries are kept. So no figure comes from a query that took part in choosing what it measures,
and the gate, which asks that the nested lift be more than noise, is not fooled by the best of many.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory.training.settings import IDENTITY, Settings

__all__ = ["Choice", "FoldKind", "FoldResult", "PerQuery", "by_merit", "choose", "lifts", "nested_settings"]

FoldKind: TypeAlias = Literal["queries", "documents"]
PerQuery: TypeAlias = NDArray[np.float64]

TOLERATED_LOSS = 0.003
"""Of mean nDCG@10 on either kind of fold: less is noise on any collection that we measured."""

KEPT_FOR_UNSEEN = 3 / 4
"""Share of the best lift on held-out documents that the winner keeps."""


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

    @property
    def is_harmless(self) -> bool:
        """Whether it loses no more than noise on either kind of fold."""
        return min(self.by_query, self.by_query if self.by_document is None else self.by_document) >= -TOLERATED_LOSS


def choose(folds: list[FoldResult], *, without: NDArray[np.int64] | None = None) -> Choice:
    """The winner; the identity where every other candidate loses.

    Args:
        folds: results of all folds, over the same candidates.
        without: rows of training queries to leave out of the judgement.
    """
    return by_merit(lifts(folds, without=without))[0]


def by_merit(choices: list[Choice]) -> list[Choice]:
    """Candidates in the order in which they would win: the harmless that keep enough, then by their lift."""
    best_unseen = max((c.by_document or 0.0 for c in choices if c.is_harmless), default=0.0)
    enough = KEPT_FOR_UNSEEN * best_unseen - TOLERATED_LOSS

    def rank(choice: Choice) -> tuple[bool, float, float]:
        unseen = choice.by_document or 0.0
        return choice.is_harmless and unseen >= enough, choice.by_query, unseen

    return sorted(choices, key=rank, reverse=True)


def lifts(folds: list[FoldResult], *, without: NDArray[np.int64] | None = None) -> list[Choice]:
    """Mean lifts of every candidate, the identity first; arguments as `choose`."""
    candidates = list(folds[0].ndcg)
    table = {kind: _mean_lifts(folds, kind, candidates, without) for kind in ("queries", "documents")}
    by_query, by_document = table["queries"], table["documents"]
    return [
        Choice(
            settings=settings,
            by_query=0.0 if by_query is None else float(by_query[i]),
            by_document=None if by_document is None else float(by_document[i]),
        )
        for i, settings in enumerate(candidates)
    ]


def nested_settings(folds: list[FoldResult]) -> list[Settings]:
    """For each fold, the candidate chosen without its held-out queries."""
    return [choose(folds, without=fold.held_out).settings for fold in folds]


def _mean_lifts(
    folds: list[FoldResult], kind: FoldKind, candidates: list[Settings], without: NDArray[np.int64] | None
) -> PerQuery | None:
    total, n = np.zeros(len(candidates)), 0
    for fold in folds:
        if fold.kind != kind:
            continue
        kept = slice(None) if without is None else ~np.isin(fold.held_out, without)
        ndcg = np.stack([fold.ndcg[settings] for settings in candidates])[:, kept]
        total += (ndcg - ndcg[candidates.index(IDENTITY)]).sum(axis=1)
        n += ndcg.shape[1]
    return total / n if n else None
