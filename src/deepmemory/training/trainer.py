"""The linear layers of one training set, one after the other along `path`, each starting where the last one ended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory.training.descent import Reached, Shown
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
        self._latest: _Learned | None = None

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
        problem, start, shown = self._prepared(layer)
        reached = problem.solve(
            layer.penalty,
            start,
            shown=shown,
            tolerance=TOLERANCE,
            max_iterations=MAX_ITERATIONS,
            on_step=on_step,
            blocks=blocks,
        )
        self._latest = _Learned(layer, problem, reached)
        return problem.matrix(reached.unknowns)

    def _prepared(self, layer: Linear) -> tuple[Problem, Matrix | Reached, Shown | None]:
        """What is to be solved for a layer, where to start, and what the layer before showed of the curvature."""
        latest, problem, taught = self._latest, None, None
        if latest is not None and latest.layer.has_made == layer.has_made:
            problem, reached = latest.problem, latest.as_of(layer.penalty)
            if latest.layer.has_standins == layer.has_standins:
                if latest.layer.is_soft == layer.is_soft:
                    return problem, reached, None
                if layer.is_soft:
                    return problem.softened(), reached.unknowns, reached.shown
            taught = problem.bases, problem.matrix(reached.unknowns), reached.shown
        del latest, problem  # at most one is held
        self._latest = None
        if taught is None:  # what other queries taught is no place to start from
            problem = self._built(layer, None)
            return problem, problem.start, None
        bases, matrix, shown = taught
        problem = self._built(layer, bases)
        return problem, problem.solution(matrix), shown if problem.query_basis is bases.query else None

    def _built(self, layer: Linear, bases: Bases | None) -> Problem:
        queries, labels, made = self._part(layer.has_made)
        standins = None
        if layer.has_standins:
            standins = StandIns.drawn(queries, self._documents, labels, np.random.default_rng(self._seed))
        problem = training_problem(queries, self._documents, labels, labels.weights(made), standins, bases=bases)
        return (problem.softened() if layer.is_soft else problem).on(self._device)


@dataclass(frozen=True, eq=False, slots=True)
class _Learned:
    """A layer, what was solved for it, and where that ended."""

    layer: Linear
    problem: Problem
    reached: Reached

    def as_of(self, penalty: float) -> Reached:
        """Where it ended, as another penalty has it."""
        return self.problem.repenalised(self.reached, self.layer.penalty, penalty)


def mean_of(matrices: Sequence[Matrix]) -> Matrix | None:
    """What a candidate's linear layers do together, ``(dim, dim)``; None where it has none."""
    if len(matrices) <= 1:
        return matrices[0] if matrices else None
    total = matrices[0].copy()
    for matrix in matrices[1:]:
        total += matrix
    total /= np.float32(len(matrices))
    return total
