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

__all__ = ["StandIns", "plain_problem"]

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

    def problem(
        self,
        queries: Matrix,
        documents: Matrix,
        labels: Labels,
        counts: Matrix,
        *,
        bases: Bases | None = None,
        is_soft: bool = False,
    ) -> Problem:
        """The training set of queries and stand-ins together.

        Args:
            queries: ``(n, dim)`` unit norm.
            documents: ``(n_documents, dim)``.
            labels: of the queries.
            counts: ``(n,)``, how much each query counts.
            bases: of the problem without the stand-ins.
            is_soft: whether labels are shared with like documents.
        """
        labelled = labels.labelled
        asked, position = np.unique(self.document, return_inverse=True)
        n_asked, m = len(asked), len(self.document)
        real = labels.targets(labelled)
        real = csr_array((real.data, real.indices, real.indptr), shape=(len(queries), len(labelled) + n_asked))
        ones = np.ones(m, dtype=np.float32)
        other = csr_array((ones, (np.arange(m), len(labelled) + position)), shape=(m, real.shape[1]))
        counted = float(counts.sum())
        weights = np.concatenate([counts, np.full(m, WEIGHT * counted / m, dtype=np.float32)])
        return Problem.build(
            np.concatenate([queries, self.queries]),
            documents[np.concatenate([labelled, asked])],
            vstack([real, other]).tocsr(),
            weights=weights,
            n_counted=counted,
            bases=bases,
            is_soft=is_soft,
        )


def plain_problem(
    queries: Matrix,
    documents: Matrix,
    labels: Labels,
    counts: Matrix,
    *,
    bases: Bases | None = None,
    is_soft: bool = False,
) -> Problem:
    """The training set of the queries alone, against the labelled documents; arguments as `StandIns.problem`."""
    labelled = labels.labelled
    return Problem.build(
        queries,
        documents[labelled],
        labels.targets(labelled),
        weights=counts,
        n_counted=float(counts.sum()),
        bases=bases,
        is_soft=is_soft,
    )
