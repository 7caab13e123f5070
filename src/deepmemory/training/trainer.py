"""The linear layers of one training set, one after the other along `path`, each starting where the last one ended."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory.training.descent import Reached
from deepmemory.training.device import CPU, Device
from deepmemory.training.labels import Labels
from deepmemory.training.objective import Bases, Problem
from deepmemory.training.settings import Linear, path
from deepmemory.training.standins import StandIns, training_problem
from deepmemory.training.workers import Map

__all__ = ["Trainer", "mean_of"]

Matrix: TypeAlias = NDArray[np.float32]

TOLERANCE = 2e-3
"""Relative decrease of the loss at which a descent stops. Candidates differ by far more than what remains, and the
layer that is kept is trained no further than those that the folds judged: it would lift no more."""

MAX_ITERATIONS = 15


class Trainer:
    """Queries, documents and labels, and the latest linear layer learned from them."""

    def __init__(
        self,
        queries: Matrix,
        documents: Matrix,
        labels: Labels,
        seed: int,
        *,
        made: NDArray[np.bool_] | None = None,
        device: Device = CPU,
    ) -> None:
        """Remember the training set; nothing is learned yet.

        Args:
            queries: ``(n, dim)`` unit norm.
            documents: ``(n_documents, dim)``.
            labels: the queries' relevant documents.
            seed: of the stand-ins.
            made: ``(n,)``, which queries were made and not asked; None where none was.
            device: where the descent's products are done.
        """
        self._every = (queries, labels)
        self._made = np.zeros(len(queries), dtype=bool) if made is None else made
        self._documents = documents
        self._seed = seed
        self._device = device
        self._latest: Linear | None = None
        self._problem: Problem | None = None
        self._matrix: Matrix | None = None
        self._reached: Reached | None = None

    @property
    def path(self) -> tuple[Linear, ...]:
        """The linear layers that can be trained: with stand-ins where some document is left for them to ask for."""
        kinds = (False, True) if self._made.any() else (False,)
        return tuple(
            layer
            for has_made in kinds
            for layer in path(with_standins=self._leaves_documents(has_made), has_made=has_made)
        )

    def _leaves_documents(self, has_made: bool) -> bool:
        _, labels, _ = self._part(has_made)
        return len(labels.labelled) < len(self._documents)

    def _part(self, has_made: bool) -> tuple[Matrix, Labels, NDArray[np.bool_]]:
        """The queries that take part, their labels, and which of them were made."""
        (queries, labels), made = self._every, self._made
        if has_made or not made.any():
            return queries, labels, made
        asked = np.flatnonzero(~made)
        return queries[asked], labels.subset(asked), made[asked]

    def advance(
        self,
        layer: Linear,
        *,
        on_step: Callable[[], None],
        blocks: Map = map,
    ) -> Matrix:
        """Learn a linear layer, starting from the one before.

        Args:
            layer: of `path`.
            on_step: called before each evaluation; what it raises stops the descent.
            blocks: evaluates blocks of queries.

        Returns:
            ``A (dim, dim)``.
        """
        problem = self._problem_for(layer)
        self._reached = problem.solve(
            layer.penalty,
            self._start(problem, layer),
            tolerance=TOLERANCE,
            max_iterations=MAX_ITERATIONS,
            on_step=on_step,
            blocks=blocks,
        )
        self._latest = layer
        self._matrix = problem.matrix(self._reached.unknowns)
        return self._matrix

    def _start(self, problem: Problem, layer: Linear) -> Matrix | Reached:
        if self._reached is not None and self._latest is not None:
            return problem.repenalised(self._reached, self._latest.penalty, layer.penalty)
        return problem.start if self._matrix is None else problem.solution(self._matrix)

    def _problem_for(self, layer: Linear) -> Problem:
        latest = self._latest
        if self._problem is None or latest is None or replace(latest, penalty=layer.penalty) != layer:
            bases = None if self._problem is None else self._problem.bases
            if latest is None or layer.has_made != latest.has_made:
                self._matrix, bases = None, None  # what other queries taught is no place to start from
            # the one before is let go first: at most one is held
            self._problem, self._reached = None, None
            self._problem = self._built(layer, bases).on(self._device)
        return self._problem

    def _built(self, layer: Linear, bases: Bases | None) -> Problem:
        queries, labels, made = self._part(layer.has_made)
        counts = labels.weights(made)
        standins = None
        if layer.has_standins:
            standins = StandIns.drawn(queries, self._documents, labels, np.random.default_rng(self._seed))
        return training_problem(queries, self._documents, labels, counts, standins, bases=bases, is_soft=layer.is_soft)


def mean_of(matrices: Sequence[Matrix]) -> Matrix | None:
    """What a candidate's linear layers do together, ``(dim, dim)``; None where it has none."""
    if len(matrices) <= 1:
        return matrices[0] if matrices else None
    total = matrices[0].copy()
    for matrix in matrices[1:]:
        total += matrix
    total /= np.float32(len(matrices))
    return total
