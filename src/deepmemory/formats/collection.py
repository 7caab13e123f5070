"""A retrieval collection as it lies in a folder or file: documents, queries, judgements, perhaps vectors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deepmemory.data import Document, LabelledQueries

__all__ = ["Collection", "embedded_text"]


@dataclass(frozen=True, slots=True, eq=False)
class Collection:
    """Documents and queries in the order of their files.

    Attributes:
        name: of the folder or file.
        documents: a title, where there is one, is the metadata's ``title``; see `embedded_text`.
        query_ids: distinct.
        queries: for each id its text.
        qrels: for each query the grade (> 0) of each relevant document by id; empty where nothing relevant is known,
            as for the queries of another split.
        splits: positions of queries, int64 and ascending, by the name of the split ("train", "test" ...); empty where
            the collection defines none.
        document_vectors: ``(n_documents, dimensions) float32``, or None.
        query_vectors: ``(n_queries, dimensions) float32``, or None.
    """

    name: str
    documents: tuple[Document, ...]
    query_ids: tuple[str, ...]
    queries: tuple[str, ...]
    qrels: tuple[Mapping[str, float], ...]
    splits: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    document_vectors: NDArray[np.float32] | None = None
    query_vectors: NDArray[np.float32] | None = None

    @property
    def labelled_positions(self) -> NDArray[np.int64]:
        """Positions of the queries that have a relevant document, ascending; the others can't train or test."""
        return np.flatnonzero(np.array([bool(judgements) for judgements in self.qrels], dtype=np.bool_))

    def labelled(self, positions: Iterable[int] | None = None) -> LabelledQueries:
        """The queries at these positions, or all that have a relevant document.

        Args:
            positions: each of a query with a relevant document.
        """
        chosen = self.labelled_positions if positions is None else positions
        return LabelledQueries(self.queries, self.qrels).subset(chosen)

    def relevance_by_row(self, positions: Iterable[int]) -> list[list[tuple[int, float]]]:
        """For each of these queries the ``(row of the document, grade)`` pairs, as training takes them."""
        rows = {document.id: row for row, document in enumerate(self.documents)}
        return [[(rows[id], grade) for id, grade in self.qrels[int(position)].items()] for position in positions]


def embedded_text(document: Document) -> str:
    """What an embedder is given for a document of a collection: ``title + ". " + text`` where it has a title."""
    title = document.metadata.get("title")
    return f"{title}. {document.text}" if isinstance(title, str) and title else document.text
