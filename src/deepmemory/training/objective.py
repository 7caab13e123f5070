"""The residual linear layer: its loss, its gradient, and the descent.

For training queries ``q_i`` (unit rows of ``Q``) with weights ``w_i``, documents ``v_j`` (unit rows of ``V``) and
targets ``y_ij`` (each query's grades, summing to 1, and maybe shared with like documents, `soft_labels`)::

    u_i = q_i + q_i A            x_i = u_i / |u_i|
    P   = softmax_j(x_i . v_j / T)
    L(A) = sum_i w_i [ -sum_j y_ij log P_ij ] / sum_i w_i  +  (penalty / n) * |A|^2

The negatives are the *labelled* documents alone (and those that stand-in queries ask for, `standins`). With the whole
corpus as negatives the layer learns that documents without labels are never the answer, which is an artefact of who
was asked about and harms every other question.

The gradient is closed-form; with ``G_i = (w_i / T) (P_i - y_i) V``, the gradient by ``x_i``::

    dL/du_i = (G_i - (G_i . x_i) x_i) / |u_i|        the step along x_i itself has no effect
    dL/dA   = Q^T dL/du + (2 penalty / n) A

Along the queries' mean ``A`` is ``P B`` with a ``B`` that the penalty weighs in its stead (`mean_direction`), and the
documents come in units of how far their scores lie apart (`spread`).

The curvature is close to a Kronecker product, of the queries' second moment and the documents' covariance under the
softmax (Martens and Grosse, 2015), plus the penalty. In the two bases in which those are diagonal, ``A = B Z R^T``, it
is nearly diagonal itself, and that diagonal is the descent's first guess of it: 3 to 13 steps instead of 30 to 80. The
bases cost nothing in a step, because queries and documents are turned into them beforehand. With fewer queries than
dimensions ``B (dim, rank)`` spans the queries, and ``A`` stays there.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from deepmemory.training.descent import Reached, Shown, descend
from deepmemory.training.device import CPU, Device
from deepmemory.training.mean_direction import MeanDirection
from deepmemory.training.soft_labels import softened
from deepmemory.training.softmax import softmax_in_place
from deepmemory.training.workers import Map

__all__ = ["TEMPERATURE", "Bases", "Problem"]

Matrix: TypeAlias = NDArray[np.float32]

TEMPERATURE = 0.05
"""Of the softmax; 0.03 and 0.1 did about as well."""

_LOGITS_BLOCK = 1 << 21
"""Logits held at once by one thread: 8 MiB of float32, so that memory doesn't grow with queries times labelled
documents."""

_BLOCK_ROWS = 1024
"""Queries in a block at most, where one thread does them all."""

_SHARED_ROWS = 256
"""The same where threads share them, so that some hundreds of queries make blocks for every core."""

_SAMPLED = 250
"""Queries that the documents' covariance is taken from: it need only be about right."""


@dataclass(frozen=True, eq=False)
class Bases:
    """In what a problem's unknowns are written.

    Attributes:
        query: ``(dim, rank)`` float32, orthonormal columns that span the queries.
        document: ``(dim, dim)`` float32, orthonormal columns.
    """

    query: Matrix
    document: Matrix

    @property
    def are_complete(self) -> bool:
        """Whether other queries are spanned as well."""
        dimensions, rank = self.query.shape
        return bool(rank == dimensions)


@dataclass(frozen=True, eq=False)
class Problem:
    """One training set, ready to be solved for a series of penalties.

    Attributes:
        queries: ``(n, dim)`` float32, unit norm, turned by ``document_basis``.
        documents: ``(n_documents, dim)`` float32, turned by ``document_basis``.
        targets: sparse ``(n, n_documents)`` float32, the labels, rows summing to 1.
        wanted: ``(n, dim)`` float32, ``targets @ documents``, of soft labels where it is they that are learned from.
        weights: ``(n,)`` float32, summing to 1.
        coordinates: ``(n, rank)`` float32, the queries, shortened along their mean, in ``query_basis``.
        query_basis: ``(dim, rank)`` float32, orthonormal columns.
        document_basis: ``(dim, dim)`` float32, orthonormal columns.
        curvature: ``(rank, dim)`` float32, that of the loss without the penalty, about.
        mean: of the queries.
        n_counted: by how many queries the penalty is divided.
        device: where the queries, documents, wanted, weights and coordinates are.
    """

    queries: Matrix
    documents: Matrix
    targets: csr_array
    wanted: Matrix
    weights: Matrix
    coordinates: Matrix
    query_basis: Matrix
    document_basis: Matrix
    curvature: Matrix
    mean: MeanDirection
    n_counted: float
    device: Device = CPU

    @classmethod
    def build(
        cls,
        queries: Matrix,
        documents: Matrix,
        targets: csr_array,
        *,
        weights: Matrix | None = None,
        n_counted: float | None = None,
        bases: Bases | None = None,
    ) -> "Problem":
        """Prepare a training set, with its labels as they are.

        Args:
            queries: ``(n, dim)`` float32, unit norm.
            documents: ``(n_documents, dim)`` float32, what the softmax is over; of a length at which their scores have
                the spread `spread.TYPICAL`.
            targets: sparse ``(n, n_documents)`` float32, rows summing to 1.
            weights: ``(n,)`` above 0; all alike where not given.
            n_counted: by how many queries the penalty is divided; all where not given.
            bases: of a problem much like this one, which do about as well and cost nothing; taken if they span all.
        """
        weights = np.ones(len(queries), dtype=np.float32) if weights is None else weights
        weights = (weights / weights.sum()).astype(np.float32)
        mean = MeanDirection.of(queries, weights)
        inputs = mean.shortened(queries)
        odds = _Odds.of(queries, documents, weights)
        if bases is None or not bases.are_complete:
            bases = Bases(_span(inputs, weights), _eigenbasis(odds.covariance(documents), documents))
        turned, coordinates = documents @ bases.document, inputs @ bases.query
        moments, spread = weights @ coordinates**2, odds.variances(turned, bases.document)
        return cls(
            queries=queries @ bases.document,
            documents=turned,
            targets=targets,
            wanted=np.asarray(targets @ turned, dtype=np.float32),
            weights=weights,
            coordinates=coordinates,
            query_basis=bases.query,
            document_basis=bases.document,
            curvature=np.float32(TEMPERATURE**-2) * np.outer(moments, np.maximum(spread, 0)).astype(np.float32),
            mean=mean,
            n_counted=len(queries) if n_counted is None else n_counted,
        )

    def softened(self) -> "Problem":
        """The same with labels shared with like documents (`soft_labels`)."""
        shared = softened(self.device.get(self.documents))
        wanted = np.asarray(self.targets @ shared, dtype=np.float32)
        return replace(self, wanted=self.device.put(wanted))

    def on(self, device: Device) -> "Problem":
        """The same with what every step needs on another device."""
        return replace(
            self,
            queries=device.put(self.queries),
            documents=device.put(self.documents),
            wanted=device.put(self.wanted),
            weights=device.put(self.weights),
            coordinates=device.put(self.coordinates),
            device=device,
        )

    @property
    def bases(self) -> Bases:
        """In what ``Z`` is written."""
        return Bases(self.query_basis, self.document_basis)

    @property
    def start(self) -> Matrix:
        """The identity: ``Z = 0``, ``(rank, dim)``."""
        return np.zeros(self.curvature.shape, dtype=np.float32)

    def solve(
        self,
        penalty: float,
        start: Matrix | Reached,
        *,
        shown: Shown | None = None,
        tolerance: float,
        max_iterations: int,
        on_step: Callable[[], None],
        blocks: Map = map,
    ) -> Reached:
        """Descend by L-BFGS from ``start``.

        Args:
            penalty: weight of ``|A|^2``, in units of one query's loss.
            start: ``Z (rank, dim)``, or where an earlier descent ended, as of this penalty (`repenalised`); the
                solution for a higher penalty is a good one.
            shown: with a ``Z``, what an earlier descent showed of a curvature much like this one's, in the same bases.
            tolerance: relative decrease of the loss that the next step must promise.
            max_iterations: steps at most.
            on_step: called before each evaluation; what it raises stops the descent.
            blocks: evaluates blocks of queries, in order; `map`, or the same on several threads.

        Returns:
            where it ended; its ``unknowns`` are ``Z (rank, dim)`` float32.
        """

        def evaluate(z: Matrix) -> tuple[float, Matrix]:
            on_step()
            return self.loss_and_gradient(z, penalty, blocks)

        return descend(
            evaluate,
            start if isinstance(start, Reached) else Reached(start, *evaluate(start), shown),
            self.curvature + np.float32(2 * penalty / self.n_counted),
            tolerance=tolerance,
            max_iterations=max_iterations,
        )

    def repenalised(self, reached: Reached, before: float, penalty: float) -> Reached:
        """Where a descent at the penalty ``before`` ended, as another ``penalty`` has it; without an evaluation."""
        return reached.stiffened(2 * (penalty - before) / self.n_counted)

    def loss_and_gradient(self, z: Matrix, penalty: float, blocks: Map = map) -> tuple[float, Matrix]:
        """The loss and its gradient by ``Z``, as in the module's text; ``blocks`` as in `solve`."""
        gradient = np.float32(2 * penalty / self.n_counted) * z
        loss = penalty / self.n_counted * float(np.vdot(z, z))
        rows = _BLOCK_ROWS if blocks is map else _SHARED_ROWS
        step = min(rows, max(1, _LOGITS_BLOCK // max(1, len(self.documents))))
        parts = [slice(start, start + step) for start in range(0, len(self.queries), step)]
        there = self.device.put(z)
        for block_loss, block_gradient in blocks(lambda part: self._block(there, part), parts):
            loss += block_loss
            gradient += block_gradient
        return loss, gradient

    def _block(self, z: Matrix, block: slice) -> tuple[float, Matrix]:
        xp, get = self.device.xp, self.device.get
        coordinates, wanted, weights = self.coordinates[block], self.wanted[block], self.weights[block]
        moved = self.queries[block] + coordinates @ z
        norms = xp.sqrt(xp.einsum("ij,ij->i", moved, moved))[:, None]
        x = moved / norms
        logits = x @ self.documents.T
        logits *= 1 / TEMPERATURE
        highest = xp.amax(logits, axis=1, keepdims=True)
        logits -= highest
        xp.exp(logits, out=logits)
        total = xp.sum(logits, axis=1, keepdims=True)
        surprise = (xp.log(total) + highest)[:, 0] - 1 / TEMPERATURE * xp.einsum("ij,ij->i", x, wanted)
        by_x = logits @ self.documents
        by_x /= total
        by_x -= wanted
        by_x *= (1 / TEMPERATURE * weights)[:, None]
        by_x -= xp.einsum("ij,ij->i", by_x, x)[:, None] * x
        by_x /= norms
        return float(np.dot(get(weights).astype(np.float64), get(surprise))), get(coordinates.T @ by_x)

    def matrix(self, z: Matrix) -> Matrix:
        """``A (dim, dim)`` of a solution."""
        turned_back: Matrix = z @ self.document_basis.T
        return self.mean.applied(self.query_basis @ turned_back)

    def solution(self, matrix: Matrix) -> Matrix:
        """``Z (rank, dim)`` of an ``A``, as far as it lies in the span: where to start from another problem's end."""
        turned: Matrix = self.mean.undone(matrix) @ self.document_basis
        return self.query_basis.T @ turned


def _span(queries: Matrix, weights: Matrix) -> Matrix:
    """Orthonormal columns ``(dim, rank)`` that span the queries, along which their second moment is diagonal."""
    n, dimensions = queries.shape
    if n >= dimensions:
        return np.linalg.eigh((queries * weights[:, None]).T @ queries).eigenvectors
    _, sizes, rows = np.linalg.svd(queries * np.sqrt(weights)[:, None], full_matrices=False)
    return np.ascontiguousarray(rows[sizes > 1e-5 * sizes[0]].T)


def _eigenbasis(covariance: Matrix, documents: Matrix) -> Matrix:
    """Eigenvectors ``(dim, dim)`` of a covariance of documents.

    Few documents span few directions: what lies outside is all alike, and nothing needs to be solved for it.
    """
    n, dimensions = documents.shape
    if 2 * n >= dimensions:
        return np.linalg.eigh(covariance).eigenvectors
    basis = np.linalg.qr(documents.T, mode="complete").Q
    inside = basis[:, :n]
    basis[:, :n] = inside @ np.linalg.eigh(inside.T @ covariance @ inside).eigenvectors
    return basis


@dataclass(frozen=True, eq=False, slots=True)
class _Odds:
    """The softmax of (a sample of) queries over the documents, at the identity.

    Attributes:
        shares: ``(n,)`` float32, of the queries, summing to 1.
        of_documents: ``(n_documents,)`` float32, each one's odds, mean over the queries.
        means: ``(n, dim)`` float32, each query's mean document.
    """

    shares: Matrix
    of_documents: Matrix
    means: Matrix

    @classmethod
    def of(cls, queries: Matrix, documents: Matrix, weights: Matrix) -> "_Odds":
        step = max(1, len(queries) // _SAMPLED)
        sample, shares = queries[::step], weights[::step]
        shares = (shares / shares.sum()).astype(np.float32)
        odds: Matrix = np.float32(1 / TEMPERATURE) * (sample @ documents.T)
        softmax_in_place(odds)
        means: Matrix = odds @ documents
        return cls(shares, shares @ odds, means)

    def covariance(self, documents: Matrix) -> Matrix:
        """Of the documents about each query's mean, mean over the queries, ``(dim, dim)``."""
        weighted: Matrix = documents * self.of_documents[:, None]
        weighted_means: Matrix = self.means * self.shares[:, None]
        return weighted.T @ documents - weighted_means.T @ self.means

    def variances(self, turned: Matrix, basis: Matrix) -> Matrix:
        """Its diagonal in a ``basis (dim, dim)``, where the documents are ``turned``, ``(dim,)``."""
        means = self.means @ basis
        variances: Matrix = self.of_documents @ turned**2 - self.shares @ means**2
        return variances
