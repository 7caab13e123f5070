"""The linear layers of one training set, one after the other along `LAYERS`, each starting where the last one ended."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory.training.descent import Reached
from deepmemory.training.labels import Labels
from deepmemory.training.objective import Bases, BlockMap, Problem
from deepmemory.training.settings import Settings
from deepmemory.training.standins import draw_standins, plain_problem

__all__ = ["Trainer"]

Matrix: TypeAlias = NDArray[np.float32]


class Trainer:
    """Queries, documents and labels, and the latest linear layer learned from them."""

    def __init__(self, queries: Matrix, documents: Matrix, labels: Labels, seed: int) -> None:
        """Remember the training set; nothing is learned yet.

        Args:
            queries: ``(n, dim)`` unit norm.
            documents: ``(n_documents, dim)``.
            labels: the queries' relevant documents.
            seed: of the stand-ins.
        """
        self._queries = queries
        self._documents = documents
        self._labels = labels
        self._seed = seed
        self._kind: bool | None = None
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
        blocks: BlockMap = map,
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
        if layer.has_standins != self._kind:
            self._kind = layer.has_standins
            bases = None if self._problem is None else self._problem.bases
            # the one before is let go first: at most one is held
            self._problem, self._reached = None, None
            self._problem = self._with_standins(bases) if layer.has_standins else self._plain()
        return self._problem

    def _plain(self) -> Problem:
        return plain_problem(self._queries, self._documents, self._labels)

    def _with_standins(self, bases: Bases | None) -> Problem | None:
        rng = np.random.default_rng(self._seed)
        standins = draw_standins(self._queries, self._documents, self._labels, rng)
        return standins.problem(self._queries, self._documents, self._labels, bases=bases) if standins else None
