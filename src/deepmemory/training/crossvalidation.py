"""Train on the folds, rank what they held out, candidate by candidate."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory.training.folds import Fold, document_folds, query_folds
from deepmemory.training.labels import Labels
from deepmemory.training.objective import Problem
from deepmemory.training.scoring import FoldScorer, Ranks
from deepmemory.training.selection import FoldResult, choose
from deepmemory.training.settings import IDENTITY, PENALTIES, Settings
from deepmemory.training.workers import Workers

__all__ = ["FoldRun", "cross_validate", "make_folds"]

Matrix: TypeAlias = NDArray[np.float32]

N_FOLDS = 5

ENOUGH_HELD_OUT = 600
"""Held-out queries that settle a comparison of candidates; with thousands of queries the other folds are not run."""

TOLERANCE = 1e-4
"""Relative decrease of the loss at which a fold's descent stops; candidates differ by far more than what remains."""

MAX_ITERATIONS = 40


@dataclass(eq=False)
class FoldRun:
    """One fold on its way along the penalties.

    Attributes:
        fold: which queries train and which are judged.
        problem: the training part.
        scorer: the held-out part.
        z: the solution for the latest penalty.
        ranks: what has been ranked so far, by candidate.
    """

    fold: Fold
    problem: Problem
    scorer: FoldScorer
    z: Matrix
    ranks: dict[Settings, Ranks] = field(default_factory=dict)

    def result(self) -> FoldResult:
        """The held-out queries' nDCG@10 by candidate."""
        return FoldResult(self.fold.kind, self.fold.held_out, {s: r.ndcg() for s, r in self.ranks.items()})


def make_folds(query_vectors: Matrix, labels: Labels, seed: int) -> list[Fold]:
    """Query folds and document folds, as many of the five as hold out enough queries."""
    rng = np.random.default_rng(seed)
    kinds = (query_folds(query_vectors, N_FOLDS, rng), document_folds(labels, N_FOLDS, rng))
    return [fold for folds in kinds for fold in _enough(folds)]


def _enough(folds: list[Fold]) -> list[Fold]:
    held_out = np.cumsum([len(fold.held_out) for fold in folds])
    # two at least: the nested choice for a fold needs another of its kind
    return folds[: max(2, int(np.searchsorted(held_out, ENOUGH_HELD_OUT)) + 1)]


def cross_validate(
    query_vectors: Matrix,
    document_vectors: Matrix,
    labels: Labels,
    folds: list[Fold],
    *,
    workers: Workers,
    on_done: Callable[[], None],
) -> list[FoldRun]:
    """Judge every candidate on every fold.

    The penalties are taken from high to low, each solution starting the next. The path ends early once two penalties
    in a row have not beaten an earlier one: the lower the penalty the longer the descent.

    Args:
        query_vectors: ``(n, dim)`` unit norm.
        document_vectors: ``(n_documents, dim)``, what is ranked.
        labels: the right answers.
        folds: from `make_folds`.
        workers: one fold runs on each.
        on_done: called after each penalty.
    """
    runs = workers.map(lambda fold: _prepare(fold, query_vectors, document_vectors, labels), folds)
    fruitless = 0
    for penalty in PENALTIES:
        workers.map(partial(_advance, penalty=penalty, on_step=workers.check), runs)
        on_done()
        winner = choose([run.result() for run in runs]).settings
        fruitless = 0 if winner in (IDENTITY, replace(winner, penalty=penalty)) else fruitless + 1
        if fruitless == 2:
            break
    return runs


def _advance(run: FoldRun, *, penalty: float, on_step: Callable[[], None]) -> None:
    run.z = run.problem.solve(penalty, run.z, tolerance=TOLERANCE, max_iterations=MAX_ITERATIONS, on_step=on_step)
    ranks = run.scorer.ranks(run.problem.matrix(run.z))
    run.ranks |= {replace(settings, penalty=penalty): r for settings, r in ranks.items()}


def _prepare(fold: Fold, query_vectors: Matrix, document_vectors: Matrix, labels: Labels) -> FoldRun:
    train, train_labels = query_vectors[fold.train], labels.subset(fold.train)
    labelled = train_labels.labelled
    problem = Problem.build(train, document_vectors[labelled], train_labels.targets(labelled))
    scorer = FoldScorer(
        query_vectors[fold.held_out],
        labels.subset(fold.held_out),
        document_vectors,
        train_queries=train,
        train_labels=train_labels,
    )
    return FoldRun(fold, problem, scorer, problem.start, {IDENTITY: scorer.ranks(None)[IDENTITY]})
