"""What `fit` found, in numbers that may be quoted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepmemory.significance import PairedLift
from deepmemory.training.selection import Choice
from deepmemory.training.settings import Settings

__all__ = ["FitReport"]


@dataclass(frozen=True, slots=True)
class FitReport:
    """What was compared, and why this candidate won.

    Attributes:
        active: whether the layer passed the gate; if not, it is the identity.
        reason: one sentence that says why.
        n_queries: training queries.
        n_made: how many of them were made and judged nothing.
        n_learned: those that took part: all, or a sample of 10,000.
        n_documents: documents that were ranked.
        n_labelled: documents relevant to some training query that was asked.
        spread: standard deviation of a query's scores over documents; ``prior``, ``gain`` and ``words`` of the settings
            and candidates are for 0.1, and the layer has them times ``spread / 0.1``.
        settings: the candidate that the layer was trained with; the identity where it did not pass.
        by_query: recall@1, @5, @10 and nDCG@10 (fractions) on held-out queries, cross-validated with the choice
            nested; empty where there were too few queries to cross-validate.
        by_document: the same on queries that want held-out documents only.
        candidates: every candidate with its lifts, best first; these chose the winner, so don't quote them.
        seconds: wall time of the fit.
        seed: of the folds.
    """

    active: bool
    reason: str
    n_queries: int
    n_made: int
    n_learned: int
    n_documents: int
    n_labelled: int
    spread: float
    settings: Settings
    by_query: Mapping[str, PairedLift]
    by_document: Mapping[str, PairedLift]
    candidates: tuple[Choice, ...]
    seconds: float
    seed: int

    @property
    def baseline(self) -> dict[str, float]:
        """Means without the layer on held-out queries, by metric."""
        return {name: lift.baseline for name, lift in self.by_query.items()}

    @property
    def trained(self) -> dict[str, float]:
        """Means with the layer on held-out queries, by metric; the baseline where the gate kept the identity."""
        return {name: lift.trained if self.active else lift.baseline for name, lift in self.by_query.items()}

    @property
    def lift(self) -> float:
        """Of nDCG@10 on held-out queries, absolute; 0 where the gate kept the identity."""
        return self.by_query["ndcg@10"].lift if self.active else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95% paired-bootstrap interval of `lift`; (0, 0) where the gate kept the identity."""
        return self.by_query["ndcg@10"].interval if self.active else (0.0, 0.0)

    @property
    def p_value(self) -> float:
        """Two-sided paired randomisation test of `lift`; 1 where the gate kept the identity."""
        return self.by_query["ndcg@10"].p_value if self.active else 1.0

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values, with the ten best candidates."""
        return {
            "active": self.active,
            "reason": self.reason,
            "n_queries": self.n_queries,
            "n_made": self.n_made,
            "n_learned": self.n_learned,
            "n_documents": self.n_documents,
            "n_labelled": self.n_labelled,
            "spread": self.spread,
            "settings": self.settings.as_dict(),
            "baseline": self.baseline,
            "trained": self.trained,
            "lift": self.lift,
            "interval": list(self.interval),
            "p_value": self.p_value,
            "by_query": {name: lift.as_dict() for name, lift in self.by_query.items()},
            "by_document": {name: lift.as_dict() for name, lift in self.by_document.items()},
            "candidates": [
                {**c.settings.as_dict(), "by_query": c.by_query, "by_document": c.by_document}
                for c in self.candidates[:10]
            ],
            "seconds": self.seconds,
            "seed": self.seed,
        }
