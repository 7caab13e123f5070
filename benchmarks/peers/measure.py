"""One line of results: a peer's rankings against the baseline's on the same test queries."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmemory.metrics import compute, judge_rows
from deepmemory.significance import paired_lift

from .peers import Peer, Settings
from .problem import Problem
from .work import Outcome

__all__ = ["METRICS", "ndcg", "result"]

METRICS = ("ndcg@10", "recall@1", "recall@5", "recall@10")


def ndcg(problem: Problem, rows: NDArray[np.int64]) -> float:
    """Mean nDCG@10 on the test queries."""
    return float(compute(judge_rows(rows, problem.test.qrels), ["ndcg@10"])["ndcg@10"].mean())


def result(
    problem: Problem,
    peer: Peer,
    *,
    searched: bool,
    settings: Settings,
    outcome: Outcome,
    baseline: Outcome,
    search_seconds: float,
) -> dict[str, Any]:
    """All figures as JSON values; fractions are fractions.

    Args:
        problem: what was given.
        peer: who.
        searched: whether the settings were chosen on training queries.
        settings: with which it was done.
        outcome: what came of it.
        baseline: of no training, on the same problem.
        search_seconds: spent on choosing the settings.
    """
    with_, without = (compute(judge_rows(rows, problem.test.qrels), METRICS) for rows in (outcome.rows, baseline.rows))
    difference = with_["ndcg@10"] - without["ndcg@10"]
    return {
        "collection": problem.collection.name,
        "split": problem.split,
        "seed": problem.seed,
        "size": problem.size,
        "peer": peer.key,
        "searched": searched,
        "settings": dict(settings),
        "n_documents": len(problem.documents),
        "n_train": len(problem.train),
        "n_test": len(problem.test),
        "metrics": {name: paired_lift(without[name], with_[name], seed=problem.seed).as_dict() for name in METRICS},
        "wins": int((difference > 0).sum()),
        "losses": int((difference < 0).sum()),
        "ndcg_by_query": [round(value, 4) for value in with_["ndcg@10"].tolist()],
        "fit_seconds": outcome.fit_seconds,
        "search_seconds": search_seconds,
        "peak_mib": None if math.isnan(outcome.peak_mib) else outcome.peak_mib,
        "milliseconds": outcome.milliseconds,
        "notes": outcome.notes,
    }
