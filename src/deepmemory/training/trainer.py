"""The linear layers of one training set, one after the other along `layers`, each starting where the last one ended."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory.training.descent import Reached
from deepmemory.training.device import CPU, Device
from deepmemory.training.labels import Labels
from deepmemory.training.objective import Bases, Problem
from deepmemory.training.settings import Settings
from deepmemory.training.standins import draw_standins, plain_problem
from deepmemory.training.workers import Map

__all__ = ["Trainer"]

Matrix: TypeAlias = NDArray[np.float32]


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
        self._kind: Settings | None = None
        self._problem: Problem | None = None
        self._matrix: Matrix | None = None
        self._reached: Reached | None = None
        self._penalty = 0.0

    def advance(
        self,
        layer: Settings,
        *,
        tolerance: float,
        max_iterations: int,
        on_step: Callable[[], None],
        blocks: Map = map,
    ) -> Matrix | None:
        """Learn a linear layer, starting from the one before.

        Args:
            layer: its penalty, and whether stand-ins take part.
            tolerance: as in `Problem.solve`, like the other arguments.
            max_iterations: steps at most.
            on_step: called before each evaluation.
            blocks: evaluates blocks of queries.

        Returns:
            ``A (dim, dim)``; None where stand-ins should take part and no document is left to ask for.
        """
        problem = self._problem_for(layer)
        if problem is None or layer.penalty is None:
            return None
        self._reached = problem.solve(
            layer.penalty,
            self._start(problem, layer.penalty),
            tolerance=tolerance,
            max_iterations=max_iterations,
            on_step=on_step,
            blocks=blocks,
        )
        self._penalty = layer.penalty
        self._matrix = problem.matrix(self._reached.unknowns)
        return self._matrix

    def _start(self, problem: Problem, penalty: float) -> Matrix | Reached:
        if self._reached is not None:
            return problem.repenalised(self._reached, self._penalty, penalty)
        return problem.start if self._matrix is None else problem.solution(self._matrix)

    def _problem_for(self, layer: Settings) -> Problem | None:
        kind = replace(layer, penalty=None)
        if kind != self._kind:
            bases = None if self._problem is None else self._problem.bases
            if self._kind is None or kind.has_made != self._kind.has_made:
                self._matrix, bases = None, None  # what other queries taught is no place to start from
            self._kind = kind
            # the one before is let go first: at most one is held
            self._problem, self._reached = None, None
            built = self._built(kind, bases)
            self._problem = None if built is None else built.on(self._device)
        return self._problem

    def _built(self, kind: Settings, bases: Bases | None) -> Problem | None:
        (queries, labels), made = self._every, self._made
        if not kind.has_made and made.any():
            asked = np.flatnonzero(~made)
            queries, labels, made = queries[asked], labels.subset(asked), made[asked]
        counts = labels.weights(made)
        if not kind.has_standins:
            return plain_problem(queries, self._documents, labels, counts)
        standins = draw_standins(queries, self._documents, labels, np.random.default_rng(self._seed))
        return standins.problem(queries, self._documents, labels, counts, bases=bases) if standins else None
