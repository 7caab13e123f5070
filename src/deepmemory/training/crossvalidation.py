"""Train on the folds, rank what they held out, candidate by candidate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from deepmemory.training.device import CPU, Device
from deepmemory.training.folds import Fold, document_folds, query_folds
from deepmemory.training.labels import Labels
from deepmemory.training.scoring import FoldScorer, Ranks
from deepmemory.training.selection import FoldResult
from deepmemory.training.settings import Linear, Settings, candidates, linear_parts
from deepmemory.training.trainer import Trainer, mean_of
from deepmemory.training.workers import Workers

__all__ = ["MAX_ITERATIONS", "TOLERANCE", "WITNESS", "FoldRun", "cross_validate", "make_folds"]

Matrix: TypeAlias = NDArray[np.float32]

N_FOLDS = 5

ENOUGH_HELD_OUT = 500
"""Held-out queries that settle a comparison of candidates; with thousands of queries the other folds are not run."""

TOLERANCE = 5e-3
"""Relative decrease of the loss at which a fold's descent stops; candidates differ by far more than what remains."""

MAX_ITERATIONS = 15


WITNESS = Settings((Linear(100.0),))
"""Named beforehand, so that it has no choice to flatter it: what the gate asks (`evidence`). Of 24 trainings on 100
honest queries of six collections it found something to learn in 19, the nested winner in 14; of 48 with the labels
shuffled, the one in 1 and the other in 1."""


@dataclass(frozen=True, eq=False)
class FoldRun:
    """What a fold showed.

    Attributes:
        fold: which queries trained and which are judged.
        ranks: of the judged queries' relevant documents, by candidate; every fold has the same ones in the same order.
        witness: the same under `WITNESS`, which is no candidate.
    """

    fold: Fold
    ranks: Mapping[Settings, Ranks]
    witness: Ranks

    def result(self) -> FoldResult:
        """The held-out queries' nDCG@10 by candidate."""
        return FoldResult(self.fold.kind, self.fold.held_out, {s: r.ndcg() for s, r in self.ranks.items()})


def make_folds(query_vectors: Matrix, labels: Labels, seed: int, *, judges: NDArray[np.bool_]) -> list[Fold]:
    """Query folds and document folds, as many of the five as hold out enough queries.

    Args:
        query_vectors: ``(n, dim)``.
        labels: the right answers.
        seed: of the division.
        judges: ``(n,)``, which queries are held out; the others train in every fold.
    """
    rng = np.random.default_rng(seed)
    judging, others = np.flatnonzero(judges), np.flatnonzero(~judges)
    kinds = (
        query_folds(query_vectors[judging], N_FOLDS, rng),
        document_folds(labels.subset(judging), N_FOLDS, rng),
    )
    return [
        Fold(fold.kind, np.union1d(judging[fold.train], others), judging[fold.held_out])
        for folds in kinds
        for fold in _enough(folds)
    ]


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
    path: Sequence[Linear],
    made: NDArray[np.bool_],
    words: csr_array | None,
    seed: int,
    workers: Workers,
    on_done: Callable[[], None],
    device: Device = CPU,
) -> list[FoldRun]:
    """Judge every candidate on every fold.

    Args:
        query_vectors: ``(n, dim)`` unit norm.
        document_vectors: ``(n_documents, dim)``, what is ranked.
        labels: the right answers.
        folds: from `make_folds`.
        path: the linear layers to train; whatever a fold leaves out, stand-ins find the documents that all of it left.
        made: ``(n,)``, which queries were made: they train linear layers only, and are none that was asked before.
        words: ``(n, n_documents)``, what words add where they are worth 1; None where they are not known.
        seed: of the stand-ins.
        workers: one fold runs on each.
        on_done: called on a worker after each linear layer of each fold.
        device: where the products are done.
    """

    def run(fold: Fold) -> FoldRun:
        asked = fold.train[~made[fold.train]]
        scorer = FoldScorer(
            query_vectors[fold.held_out],
            labels.subset(fold.held_out),
            document_vectors,
            train_queries=query_vectors[asked],
            train_labels=labels.subset(asked),
            held_out_words=None if words is None else words[fold.held_out],
            device=device,
        )
        train = fold.train
        trainer = Trainer(
            query_vectors[train], document_vectors, labels.subset(train), seed, made=made[train], device=device
        )
        trained = {}
        for layer in path:
            trained[layer] = trainer.advance(
                layer, tolerance=TOLERANCE, max_iterations=MAX_ITERATIONS, on_step=workers.check
            )
            on_done()
        ranks: dict[Settings, Ranks] = {}
        for part in ((), *linear_parts(path)):
            workers.check()
            matrix = mean_of([trained[layer] for layer in part])
            ranks |= scorer.ranks(matrix, candidates(part, with_words=words is not None))
        return FoldRun(fold, ranks, scorer.ranks(trained[WITNESS.linear[0]], [WITNESS])[WITNESS])

    return workers.map(run, folds)
