"""Extraction of queries as work for an executor: batches of documents in, what each says as queries out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deepmemory.data import Document
from deepmemory.executors import BatchFunction, Work
from deepmemory.progress import Progress
from deepmemory.synthesis.extractive import ExtractiveGenerator
from deepmemory.synthesis.model import Generated, Kind
from deepmemory.synthesis.words import Corpus

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ExtractQueries", "batch_of", "queries_of"]


@dataclass(eq=False)
class ExtractQueries(Work):
    """Batches with the columns ``id``, ``text`` and ``title`` in; for each row its queries and their kinds out.

    Attributes:
        corpus: what was counted over all documents.
        n: queries of each document, at most.
        kinds: how they ask.
        seed: of the choice among a document's candidates.
    """

    corpus: Corpus
    n: int
    kinds: Sequence[Kind]
    seed: int
    name: str = field(init=False, default="extracting queries")

    def prepare(self) -> BatchFunction:
        """See `Work.prepare`."""
        generator = ExtractiveGenerator(self.corpus, seed=self.seed)

        def extracted(batch: "pa.RecordBatch", progress: Progress) -> "pa.RecordBatch":
            import pyarrow as pa

            made: list[list[Generated]] = []
            for row in batch.to_pylist():
                document = Document(row["id"], row["text"], {} if row["title"] is None else {"title": row["title"]})
                made.append(generator.queries(document, self.n, self.kinds))
                progress(len(made), batch.num_rows)
            strings = pa.list_(pa.string())
            return pa.RecordBatch.from_pydict(
                {
                    "queries": pa.array([[one.query for one in queries] for queries in made], strings),
                    "kinds": pa.array([[one.kind for one in queries] for queries in made], strings),
                }
            )

        return extracted


def batch_of(documents: Sequence[Document]) -> "pa.RecordBatch":
    """Documents as `ExtractQueries` takes them: of their metadata, the title has a part."""
    import pyarrow as pa

    titles = [document.metadata.get("title") for document in documents]
    return pa.RecordBatch.from_pydict(
        {
            "id": pa.array([document.id for document in documents], pa.string()),
            "text": pa.array([document.text for document in documents], pa.string()),
            "title": pa.array([title if isinstance(title, str) else None for title in titles], pa.string()),
        }
    )


def queries_of(result: "pa.RecordBatch", documents: Sequence[Document]) -> list[list[Generated]]:
    """What `ExtractQueries` made of each of the documents."""
    columns = (result.column(name).to_pylist() for name in ("queries", "kinds"))
    return [
        [Generated(query, document.id, kind) for query, kind in zip(queries, kinds, strict=True)]
        for document, queries, kinds in zip(documents, *columns, strict=True)
    ]
