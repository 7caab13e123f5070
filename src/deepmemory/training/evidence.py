"""What cross-validation showed: the winner, its nested figures, and whether they are more than noise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepmemory.significance import PairedLift, paired_lift, randomisation_p
from deepmemory.training.crossvalidation import FoldRun
from deepmemory.training.scoring import Ranks
from deepmemory.training.selection import Choice, FoldKind, PerQuery, by_merit, lifts, nested_settings
from deepmemory.training.settings import IDENTITY, Settings

__all__ = ["METRICS", "NO_EVIDENCE", "Evidence", "gather"]

METRICS = ("recall@1", "recall@5", "recall@10", "ndcg@10")
"""What is cross-validated, all fractions."""

NEARLY_PERFECT = 0.98
"""Mean nDCG@10 above which there is nothing left to learn."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The outcome of the cross-validation.

    Attributes:
        winner: the best harmless candidate over all folds.
        passes: whether the winner is not the identity and its nested lift is more than noise.
        by_query: nested figures on held-out queries, by metric.
        by_document: nested figures on queries for held-out documents; empty where none could be held out.
        candidates: every candidate, best first.
    """

    winner: Settings
    passes: bool
    by_query: Mapping[str, PairedLift]
    by_document: Mapping[str, PairedLift]
    candidates: tuple[Choice, ...]

    def reason(self) -> str:
        """Why the layer is on or off, in one sentence."""
        lift = self.by_query["ndcg@10"]
        if self.passes:
            return (
                f"on held-out queries nDCG@10 rose from {lift.baseline:.3f} to {lift.trained:.3f} "
                f"(cross-validated, n = {lift.n_queries})"
            )
        if lift.baseline >= NEARLY_PERFECT:
            return f"no headroom: nDCG@10 is {lift.baseline:.3f} without a layer"
        return (
            f"no candidate beat the plain search by more than noise on held-out queries (n = {lift.n_queries}, nDCG@10 "
            f"{lift.baseline:.3f} without a layer); more queries, or labels that agree with each other, may help"
        )


NOISE = 0.1
"""How often labels that say nothing may pass: the level of the one-sided paired randomisation test of how far the
relevant documents climbed. A stricter one keeps the layer off on a hundred honest queries, whose lift is real."""

NO_EVIDENCE = Evidence(winner=IDENTITY, passes=False, by_query={}, by_document={}, candidates=())


def gather(runs: list[FoldRun], *, seed: int) -> Evidence:
    """Sum up the folds; ``seed`` is of the intervals' resampling."""
    results = [run.result() for run in runs]
    candidates = by_merit(lifts(results))
    winner = candidates[0].settings
    nested = list(zip(runs, nested_settings(results), strict=True))
    return Evidence(
        winner=winner,
        passes=winner != IDENTITY and _beats_noise(nested),
        by_query=_figures(nested, "queries", seed),
        by_document=_figures(nested, "documents", seed),
        candidates=tuple(candidates),
    )


def _figures(nested: list[tuple[FoldRun, Settings]], kind: FoldKind, seed: int) -> dict[str, PairedLift]:
    chosen = [(run, settings) for run, settings in nested if run.fold.kind == kind]
    if not chosen:
        return {}
    return {
        name: paired_lift(
            np.concatenate([_metric(run.ranks[IDENTITY], name) for run, _ in chosen]),
            np.concatenate([_metric(run.ranks[settings], name) for run, settings in chosen]),
            seed=seed,
        )
        for name in METRICS
    }


def _metric(ranks: Ranks, name: str) -> NDArray[np.float64]:
    measure, k = name.split("@")
    return ranks.ndcg() if measure == "ndcg" else ranks.recall(int(k))


def _beats_noise(nested: list[tuple[FoldRun, Settings]]) -> bool:
    """Whether nDCG@10 rose, and the relevant documents with it, by more than labels that say nothing bring about."""
    gained = _by_query(nested, Ranks.ndcg).mean()
    climbed = -_by_query(nested, Ranks.depth)
    # two-sided p-values of a change above 0 are twice the one-sided ones
    return bool(gained > 0 and climbed.mean() > 0 and randomisation_p(climbed) <= 2 * NOISE)


def _by_query(nested: list[tuple[FoldRun, Settings]], measure: Callable[[Ranks], PerQuery]) -> PerQuery:
    """What the nested choice changed, for each query the mean over the folds (of both kinds) that held it out."""
    n_queries = 1 + max(int(run.fold.held_out.max()) for run, _ in nested)
    total, times = np.zeros(n_queries), np.zeros(n_queries)
    for run, settings in nested:
        total[run.fold.held_out] += measure(run.ranks[settings]) - measure(run.ranks[IDENTITY])
        times[run.fold.held_out] += 1
    change: PerQuery = total[times > 0] / times[times > 0]
    return change
