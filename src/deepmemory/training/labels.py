"""Relevance as arrays: what `fit` is given, checked and put into the form that the mathematics wants."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from deepmemory.errors import InputError

__all__ = ["Labels"]


@dataclass(frozen=True, eq=False)
class Labels:
    """The (query, document, grade) pairs of a training set, sorted by query and then by document.

    Attributes:
        n_queries: how many queries there are; each has at least one pair.
        query: ``(n_pairs,)`` int64, row of the query.
        document: ``(n_pairs,)`` int64, row of the document.
        grade: ``(n_pairs,)`` float32, above 0.
    """

    n_queries: int
    query: NDArray[np.int64]
    document: NDArray[np.int64]
    grade: NDArray[np.float32]

    @classmethod
    def from_relevance(
        cls, relevance: Sequence[Sequence[tuple[int, float]]], *, n_queries: int, n_documents: int
    ) -> "Labels":
        """Check and flatten the public form.

        Args:
            relevance: for each query its ``(row of document_vectors, grade)`` pairs; grade 0 is "not relevant"
                and dropped, a document named twice counts once, at its highest grade.
            n_queries: rows of ``query_vectors``.
            n_documents: rows of ``document_vectors``.

        Raises:
            InputError: every problem at once, by row.
        """
        if len(relevance) != n_queries:
            raise InputError(
                f"relevance should have one list for each of the {n_queries} queries; it has {len(relevance)}"
            )
        problems: list[str] = []
        pairs: list[tuple[int, int, float]] = []
        for row, judged in enumerate(relevance):
            grades = _check_row(row, judged, n_documents, problems)
            pairs += [(row, document, grade) for document, grade in sorted(grades.items())]
        if problems:
            raise InputError(problems)
        query, document, grade = (list(column) for column in zip(*pairs, strict=True)) if pairs else ([], [], [])
        return cls(
            n_queries=n_queries,
            query=np.array(query, dtype=np.int64),
            document=np.array(document, dtype=np.int64),
            grade=np.array(grade, dtype=np.float32),
        )

    @property
    def labelled(self) -> NDArray[np.int64]:
        """The distinct rows of documents relevant to some query, ascending."""
        return np.unique(self.document)

    def subset(self, queries: NDArray[np.int64]) -> "Labels":
        """The labels of some queries, which are renumbered in the order given."""
        new_row = np.full(self.n_queries, -1, dtype=np.int64)
        new_row[queries] = np.arange(len(queries))
        kept = np.flatnonzero(new_row[self.query] >= 0)
        kept = kept[np.argsort(new_row[self.query[kept]], kind="stable")]
        return Labels(len(queries), new_row[self.query[kept]], self.document[kept], self.grade[kept])

    def weights(self, made: NDArray[np.bool_]) -> NDArray[np.float32]:
        """How much each query counts in training, ``(n_queries,)``: asked ones 1, made ones 1 or less.

        All made queries together count at most as much as all asked ones, which they would outvote by their number.

        Args:
            made: ``(n_queries,)``, which queries were made.
        """
        n_made = int(made.sum())
        share = min(1.0, (self.n_queries - n_made) / n_made) if n_made else 1.0
        return np.where(made, np.float32(share), np.float32(1))

    def renumbered(self, rows: NDArray[np.int64]) -> "Labels":
        """The same labels with document rows given as positions in ``rows`` (ascending, holding each of them)."""
        return Labels(self.n_queries, self.query, np.searchsorted(rows, self.document), self.grade)

    def targets(self, labelled: NDArray[np.int64]) -> csr_array:
        """What the softmax should give: each query's grades, summing to 1, over the labelled documents.

        Returns:
            sparse ``(n_queries, len(labelled))`` float32.
        """
        totals = np.bincount(self.query, self.grade, self.n_queries)
        share = (self.grade / totals[self.query]).astype(np.float32)
        columns = np.searchsorted(labelled, self.document)
        return csr_array((share, (self.query, columns)), shape=(self.n_queries, len(labelled)))


def _check_row(row: int, judged: Any, n_documents: int, problems: list[str]) -> dict[int, float]:
    grades: dict[int, float] = {}
    if isinstance(judged, str | bytes) or not isinstance(judged, Sequence | np.ndarray):
        problems.append(f"relevance[{row}] should be a list of (document row, grade) pairs; it is {judged!r}")
        return grades
    before = len(problems)
    for pair in judged:
        problem = _pair_problem(pair, n_documents)
        if problem:
            problems.append(f"relevance[{row}] {problem}")
            continue
        document, grade = int(pair[0]), float(pair[1])
        if grade > 0:
            grades[document] = max(grade, grades.get(document, 0.0))
    if not grades and len(problems) == before:
        problems.append(f"relevance[{row}] names no relevant document (a grade above 0); leave the query out")
    return grades


def _pair_problem(pair: Any, n_documents: int) -> str | None:
    if isinstance(pair, str | bytes) or not isinstance(pair, Sequence | np.ndarray) or len(pair) != 2:
        return f"should hold (document row, grade) pairs; it holds {pair!r}"
    document, grade = pair
    if isinstance(document, bool) or not isinstance(document, int | np.integer):
        return f"should name documents by row number; it names {document!r}"
    if not 0 <= document < n_documents:
        return f"names document row {document}; document_vectors has the rows 0 to {n_documents - 1}"
    if isinstance(grade, bool) or not isinstance(grade, int | float | np.integer | np.floating):
        return f"grades document {document} with {grade!r}; a grade is a number"
    if not np.isfinite(grade) or grade < 0:
        return f"grades document {document} with {grade}; a grade is 0 or above"
    return None
