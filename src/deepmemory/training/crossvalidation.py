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

__all__ = ["FoldRun", "cross_validate", "make_folds"]

Matrix: TypeAlias = NDArray[np.float32]

N_FOLDS = 5

ENOUGH_HELD_OUT = 500
"""Held-out queries that settle a comparison of candidates; with thousands of queries the other folds are not run."""


@dataclass(frozen=True, eq=False)
class FoldRun:
    """What a fold showed.

    Attributes:
        fold: which queries trained and which are judged.
        ranks: of the judged queries' relevant documents, by candidate; every fold has the same ones in the same order.
    """

    fold: Fold
    ranks: Mapping[Settings, Ranks]

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
        workers: a fold's next layer, or a ranking, runs on each.
        on_done: called after each linear layer.
        device: where the products are done.
    """

    def trainer(fold: Fold) -> Trainer:
        train = fold.train
        return Trainer(
            query_vectors[train], document_vectors, labels.subset(train), seed, made=made[train], device=device
        )

    def scorer(fold: Fold) -> FoldScorer:
        asked = fold.train[~made[fold.train]]
        return FoldScorer(
            query_vectors[fold.held_out],
            labels.subset(fold.held_out),
            document_vectors,
            train_queries=query_vectors[asked],
            train_labels=labels.subset(asked),
            held_out_words=None if words is None else words[fold.held_out],
            device=device,
        )

    layers = _layers_of([trainer(fold) for fold in folds], path, workers, on_done)
    scorers = workers.map(scorer, folds)

    def rank(place: int, part: tuple[Linear, ...]) -> dict[Settings, Ranks]:
        workers.check()
        matrix = mean_of([layers[place][layer] for layer in part])
        return scorers[place].ranks(matrix, candidates(part, with_words=words is not None))

    parts = ((), *linear_parts(path))
    tasks = [(place, part) for place in range(len(folds)) for part in parts]
    found: list[dict[Settings, Ranks]] = [{} for _ in folds]
    for (place, _), ranks in zip(tasks, workers.map(lambda task: rank(*task), tasks), strict=True):
        found[place] |= ranks
    return [FoldRun(fold, ranks) for fold, ranks in zip(folds, found, strict=True)]


def _layers_of(
    trainers: list[Trainer], path: Sequence[Linear], workers: Workers, on_done: Callable[[], None]
) -> list[dict[Linear, Matrix]]:
    """The linear layers of each fold; what their training needed is let go."""
    found: list[dict[Linear, Matrix]] = [{} for _ in trainers]

    def advance(place: int, layer: Linear) -> None:
        found[place][layer] = trainers[place].advance(layer, on_step=workers.check)

    workers.along(advance, range(len(trainers)), path, on_done)
    return found
