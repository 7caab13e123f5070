"""L-BFGS (Liu and Nocedal, 1989) for a loss whose curvature is about known, in float32.

Each step divides the gradient by the curvature as the last ten steps have shown it, and, in directions that they did
not show, by the given diagonal, which is scaled to the last step's. So the first step tried is nearly always the right
one, where a descent that knows nothing of the scale spends two or three evaluations on finding it. What a step showed
holds for another penalty as well, whose share of the curvature is known exactly; the last step of one descent thus
gives the next, along the path of penalties, its scale, and its end the next one's beginning, with nothing to evaluate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Reached", "Shown", "descend"]

Matrix: TypeAlias = NDArray[np.float32]

REMEMBERED = 10
"""Steps that a descent remembers; each costs two arrays of the size of the unknowns."""

SUFFICIENT = 1e-4
"""Of the decrease that the slope promises, what a step must bring (Armijo)."""

_MOST_TRIED = 12
"""Lengths of one step; a loss that none of them lowers is at its lowest, to the precision of float32."""


@dataclass(frozen=True, eq=False, slots=True)
class Shown:
    """What one step showed of the curvature.

    Attributes:
        step: by how much the unknowns changed.
        change: by how much the gradient changed along it; the product of the two is above 0.
    """

    step: Matrix
    change: Matrix

    @property
    def product(self) -> float:
        """Curvature along the step, times its squared length."""
        return _dot(self.step, self.change)

    def stiffened(self, by: float) -> "Shown | None":
        """The same for a loss with ``by / 2`` times the squared length added; None where it would bend down."""
        other = Shown(self.step, self.change + np.float32(by) * self.step)
        return other if other.product > 0 else None


@dataclass(frozen=True, eq=False, slots=True)
class Reached:
    """Where a descent stands.

    Attributes:
        unknowns: of any shape.
        loss: there.
        gradient: there.
        shown: what the last step showed, if there was one.
    """

    unknowns: Matrix
    loss: float
    gradient: Matrix
    shown: Shown | None = None

    def stiffened(self, by: float) -> "Reached":
        """The same point of a loss with ``by / 2`` times the squared length of the unknowns added."""
        z = self.unknowns
        loss = self.loss + by / 2 * _dot(z, z)
        shown = None if self.shown is None else self.shown.stiffened(by)
        return Reached(z, loss, self.gradient + np.float32(by) * z, shown)


def descend(
    loss_and_gradient: Callable[[Matrix], tuple[float, Matrix]],
    start: Reached,
    curvature: Matrix,
    *,
    tolerance: float,
    max_iterations: int,
) -> Reached:
    """Descend from ``start``.

    Args:
        loss_and_gradient: of unknowns of any shape.
        start: where to begin.
        curvature: about that of the loss along each unknown, above 0.
        tolerance: decrease that the next step promises, relative to the loss or to 1 where it is smaller, at which to
            stop. (What the last step brought says less: a bad step is no sign of the end.) The first step is taken
            whatever it promises, for only steps show the scale.
        max_iterations: steps at most.

    Returns:
        where it ended.
    """
    at, loss, gradient = start.unknowns, start.loss, start.gradient
    shown = [] if start.shown is None else [start.shown]
    for taken in range(max_iterations):
        direction = _direction(gradient, curvature, shown)
        slope = _dot(gradient, direction)
        if taken and -slope / 2 <= tolerance * max(abs(loss), 1.0):
            break
        found = _step(loss_and_gradient, at, loss, direction, slope) if slope < 0 else None
        if found is None:
            break
        last, (at, loss, new_gradient) = at, found
        step = Shown(at - last, new_gradient - gradient)
        gradient = new_gradient
        if step.product > 0:
            shown = [*shown[1 - REMEMBERED :], step]
    return Reached(at, loss, gradient, shown[-1] if shown else None)


def _direction(gradient: Matrix, curvature: Matrix, shown: list[Shown]) -> Matrix:
    """Where to go: the two loops of Nocedal and Wright, Numerical Optimization, algorithm 7.4."""
    direction = -gradient
    products = [one.product for one in shown]
    taken = []
    for one, product in zip(reversed(shown), reversed(products), strict=True):
        taken.append(_dot(one.step, direction) / product)
        direction -= np.float32(taken[-1]) * one.change
    direction /= curvature
    if shown:
        direction *= np.float32(products[-1] / _dot(shown[-1].change, shown[-1].change / curvature))
    for one, product, part in zip(shown, products, reversed(taken), strict=True):
        direction += np.float32(part - _dot(one.change, direction) / product) * one.step
    return direction


def _step(
    loss_and_gradient: Callable[[Matrix], tuple[float, Matrix]],
    at: Matrix,
    loss: float,
    direction: Matrix,
    slope: float,
) -> tuple[Matrix, float, Matrix] | None:
    """The first length, of 1 and ever shorter ones, that lowers the loss enough; None where none does."""
    length = 1.0
    for _ in range(_MOST_TRIED):
        there = at + np.float32(length) * direction
        new_loss, gradient = loss_and_gradient(there)
        if new_loss <= loss + SUFFICIENT * length * slope:
            return there, new_loss, gradient
        # the lowest point of the parabola through what is known, but neither too near nor too far
        lowest = -slope * length**2 / (2 * (new_loss - loss - slope * length))
        length = min(max(lowest, 0.1 * length), 0.5 * length)
    return None


def _dot(a: Matrix, b: Matrix) -> float:
    return float(np.dot(a.ravel(), b.ravel()))
