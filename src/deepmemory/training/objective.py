"""The residual linear layer: its loss, its gradient, and the descent.

For training queries ``q_i`` (unit rows of ``Q``), labelled documents ``v_j`` (unit rows of ``V``) and targets
``y_ij`` (each query's grades, summing to 1)::

    u_i = q_i + q_i A            x_i = u_i / |u_i|
    P   = softmax_j(x_i . v_j / T)
    L(A) = (1/n) * sum_i [ -sum_j y_ij log P_ij ]  +  (penalty / n) * |A|^2

The negatives are the *labelled* documents alone. With the whole corpus as negatives the layer learns that documents
without labels are never the answer, which is an artefact of who was asked about and harms every other question.

The gradient is closed-form; with ``G_i = (1/(nT)) (P_i - y_i) V``, the gradient by ``x_i``::

    dL/du_i = (G_i - (G_i . x_i) x_i) / |u_i|        the step along x_i itself has no effect
    dL/dA   = Q^T dL/du + (2 penalty / n) A

``A`` starts at 0 (the identity) and always lies in the span of the queries, ``A = B^T Z`` with ``B`` an orthonormal
basis of their rows: with fewer queries than dimensions ``Z (rank, dim)`` is what is searched, and ``|A| = |Z|``.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array

__all__ = ["TEMPERATURE", "Problem"]

Matrix: TypeAlias = NDArray[np.float32]


class BlockMap(Protocol):
    """`map`, or the same on several threads: results in the order of the parts."""

    def __call__(
        self, work: Callable[[slice], tuple[float, Matrix]], parts: list[slice], /
    ) -> Iterable[tuple[float, Matrix]]:
        """Apply the work to each part."""
        ...


TEMPERATURE = 0.05
"""Of the softmax, in units of cosine; 0.03 and 0.1 did about as well."""

_LOGITS_BLOCK = 1 << 21
"""Logits held at once by one thread: 8 MiB of float32, so that memory doesn't grow with queries times labelled
documents."""

_BLOCK_ROWS = 1024
"""Queries in a block at most, so that a large problem has blocks for every core."""


@dataclass(frozen=True, eq=False)
class Problem:
    """One training set, ready to be solved for a series of penalties.

    Attributes:
        queries: ``(n, dim)`` float32, unit norm.
        documents: ``(n_labelled, dim)`` float32, the labelled documents.
        targets: sparse ``(n, n_labelled)`` float32, rows summing to 1.
        coordinates: ``(n, rank)`` float32, the queries in the basis of their span.
        basis: ``(rank, dim)`` float32 with orthonormal rows, or None where the span is everything.
        wanted: ``(n, dim)`` float32, ``targets @ documents``.
        scale: 1 / (temperature * typical document norm).
    """

    queries: Matrix
    documents: Matrix
    targets: csr_array
    coordinates: Matrix
    basis: Matrix | None
    wanted: Matrix
    scale: float

    @classmethod
    def build(cls, queries: Matrix, documents: Matrix, targets: csr_array) -> "Problem":
        """Prepare a training set; see the attributes for shapes."""
        coordinates, basis = _span(queries)
        norms = np.sqrt(np.einsum("ij,ij->i", documents, documents))
        return cls(
            queries=queries,
            documents=documents,
            targets=targets,
            coordinates=coordinates,
            basis=basis,
            wanted=np.asarray(targets @ documents, dtype=np.float32),
            # for a dot product over documents that are not unit norm the temperature follows their size
            scale=1.0 / (TEMPERATURE * float(norms.mean() or 1.0)),
        )

    @property
    def start(self) -> Matrix:
        """The identity: ``Z = 0``, ``(rank, dim)``."""
        return np.zeros((self.coordinates.shape[1], self.queries.shape[1]), dtype=np.float32)

    def solve(
        self,
        penalty: float,
        start: Matrix,
        *,
        tolerance: float,
        max_iterations: int,
        on_step: Callable[[], None],
        blocks: BlockMap = map,
    ) -> Matrix:
        """Descend by L-BFGS from ``start``.

        Args:
            penalty: weight of ``|A|^2``, in units of one query's loss.
            start: ``Z (rank, dim)``; the solution for a higher penalty is a good one.
            tolerance: relative decrease of the loss at which to stop.
            max_iterations: steps at most.
            on_step: called before each evaluation; what it raises stops the descent.
            blocks: evaluates blocks of queries, in order; `map`, or the same on several threads.

        Returns:
            ``Z (rank, dim)`` float32.
        """
        shape = start.shape

        def evaluate(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            on_step()
            loss, gradient = self.loss_and_gradient(flat.reshape(shape).astype(np.float32), penalty, blocks)
            return loss, gradient.ravel().astype(np.float64)

        found = minimize(
            evaluate,
            start.ravel().astype(np.float64),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": max_iterations, "ftol": tolerance, "gtol": 1e-7},
        )
        return found.x.reshape(shape).astype(np.float32)

    def loss_and_gradient(self, z: Matrix, penalty: float, blocks: BlockMap = map) -> tuple[float, Matrix]:
        """The loss and its gradient by ``Z``, as in the module's text; ``blocks`` as in `solve`."""
        n = len(self.queries)
        gradient = np.float32(2 * penalty / n) * z
        loss = penalty / n * float(np.vdot(z, z))
        step = min(_BLOCK_ROWS, max(1, _LOGITS_BLOCK // max(1, len(self.documents))))
        parts = [slice(start, start + step) for start in range(0, n, step)]
        for block_loss, block_gradient in blocks(lambda part: self._block(z, part), parts):
            loss += block_loss / n
            gradient += block_gradient
        return loss, gradient

    def _block(self, z: Matrix, block: slice) -> tuple[float, Matrix]:
        coordinates, wanted = self.coordinates[block], self.wanted[block]
        moved = self.queries[block] + coordinates @ z
        norms = np.sqrt(np.einsum("ij,ij->i", moved, moved))[:, None]
        x = moved / norms
        logits = x @ self.documents.T
        logits *= np.float32(self.scale)
        highest = logits.max(axis=1, keepdims=True)
        logits -= highest
        np.exp(logits, out=logits)
        total = logits.sum(axis=1, keepdims=True)
        loss = np.log(total).sum(dtype=np.float64) + highest.sum(dtype=np.float64)
        loss -= self.scale * np.einsum("ij,ij->", x, wanted, dtype=np.float64)
        logits /= total
        by_x = logits @ self.documents
        by_x -= wanted
        by_x *= np.float32(self.scale / len(self.queries))
        by_x -= np.einsum("ij,ij->i", by_x, x)[:, None] * x
        by_x /= norms
        return float(loss), coordinates.T @ by_x

    def matrix(self, z: Matrix) -> Matrix:
        """``A (dim, dim)`` of a solution."""
        return z if self.basis is None else self.basis.T @ z


def _span(queries: Matrix) -> tuple[Matrix, Matrix | None]:
    n, dimensions = queries.shape
    if n >= dimensions:
        return queries, None
    _, sizes, rows = np.linalg.svd(queries, full_matrices=False)
    basis = np.ascontiguousarray(rows[sizes > 1e-5 * sizes[0]])
    return queries @ basis.T, basis
