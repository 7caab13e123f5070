"""Stand-in queries for documents that nobody has asked for.

A training pair says by how much, and which way, a question lies off the document that answers it. The same step off a
document without labels, ``d_j + (q_i - d_i)`` for a pair ``(q_i, d_i)`` drawn at random, is about where a question
for that document would lie. Training on such stand-ins teaches what questions have in common rather than which
documents they happened to want, and lets documents without labels be answers as well as competitors.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from deepmemory.training.labels import Labels
from deepmemory.training.objective import Bases, Problem
from deepmemory.transform import unit_rows

__all__ = ["StandIns", "training_problem"]

Matrix: TypeAlias = NDArray[np.float32]

PER_QUERY = 1
"""Stand-ins drawn for each training query."""

AT_MOST = 4_000
"""Stand-ins, however many queries there are: a step costs their number times that of the documents."""

WEIGHT = 1.0
"""All stand-ins together, where all training queries together weigh 1."""


@dataclass(frozen=True, eq=False)
class StandIns:
    """Stand-in queries and what they ask for.

    Attributes:
        queries: ``(m, dim)`` float32, unit norm.
        document: ``(m,)`` the row of the document that each asks for.
    """

    queries: Matrix
    document: NDArray[np.int64]

    @classmethod
    def drawn(cls, queries: Matrix, documents: Matrix, labels: Labels, rng: np.random.Generator) -> "StandIns":
        """Draw stand-ins for documents without labels, of which there must be one.

        Each is asked for once before any is asked for twice.
        """
        unlabelled = np.setdiff1d(np.arange(len(documents)), labels.labelled)
        m = min(PER_QUERY * len(queries), AT_MOST, 2 * len(unlabelled))
        rounds = [rng.permutation(unlabelled) for _ in range(-(-m // len(unlabelled)))]
        document = np.sort(np.concatenate(rounds)[:m])
        pair = rng.integers(0, len(labels.query), m)
        step = queries[labels.query[pair]] - unit_rows(documents[labels.document[pair]])
        return cls(unit_rows(unit_rows(documents[document]) + step), document)

    def beside(self, labels: Labels, counts: Matrix) -> tuple[NDArray[np.int64], csr_array, Matrix]:
        """What the training set has with them beside the queries.

        Args:
            labels: of the ``n`` queries.
            counts: ``(n,)``, how much each query counts.

        Returns:
            rows of the documents that the softmax is over, ``(n + m, n_rows)`` targets and ``(n + m,)`` weights, the
            queries first.
        """
        labelled = labels.labelled
        asked, position = np.unique(self.document, return_inverse=True)
        rows, m = np.concatenate([labelled, asked]), len(self.document)
        real = labels.targets(labelled)
        real = csr_array((real.data, real.indices, real.indptr), shape=(labels.n_queries, len(rows)))
        ones = np.ones(m, dtype=np.float32)
        other = csr_array((ones, (np.arange(m), len(labelled) + position)), shape=(m, len(rows)))
        weights = np.full(m, WEIGHT * float(counts.sum()) / m, dtype=np.float32)
        return rows, vstack([real, other]).tocsr(), np.concatenate([counts, weights])


def training_problem(
    queries: Matrix,
    documents: Matrix,
    labels: Labels,
    counts: Matrix,
    standins: StandIns | None = None,
    *,
    bases: Bases | None = None,
) -> Problem:
    """The training set of queries, and of stand-ins where there are any, against the documents that they ask for.

    Args:
        queries: ``(n, dim)`` unit norm.
        documents: ``(n_documents, dim)``.
        labels: of the queries.
        counts: ``(n,)``, how much each query counts; stand-ins don't count.
        standins: for documents without labels.
        bases: of a problem much like this one.
    """
    if standins is None:
        rows, targets, weights = labels.labelled, labels.targets(labels.labelled), counts
    else:
        rows, targets, weights = standins.beside(labels, counts)
        queries = np.concatenate([queries, standins.queries])
    return Problem.build(queries, documents[rows], targets, weights=weights, n_counted=float(counts.sum()), bases=bases)
