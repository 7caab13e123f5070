"""Embedding as work for an executor: batches of texts in, their vectors out."""

import contextlib
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory.data import check_vectors
from deepmemory.embedders.base import Embedder
from deepmemory.embedders.checks import check_texts
from deepmemory.embedders.fingerprint import PROBE_TEXT
from deepmemory.executors import BatchFunction, Executor, Threads, Work
from deepmemory.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["QUERIES_AT_ONCE", "EmbedTexts", "SpreadEmbedder", "Use", "embed_batches"]

Use: TypeAlias = Literal["documents", "queries"]
"""What texts are embedded as."""

DOCUMENTS_AT_ONCE = 512
QUERIES_AT_ONCE = 1_024
"""Queries embedded together; fewer are embedded in this process, whatever the engine."""


@dataclass(eq=False)
class EmbedTexts(Work):
    """Batches with a column ``text`` in; with a column ``vector``, fixed-size lists of float32, out.

    Attributes:
        embedder: what embeds; it is pickled to the workers, and there once in each.
        use: what the texts are.
    """

    embedder: Embedder
    use: Use
    name: str = field(init=False)
    threads: Threads | None = field(init=False)

    def __post_init__(self) -> None:
        self.name = f"embedding with {self.embedder.name}"
        self.threads = Threads.here() if self.embedder.varies_with_threads else None

    def prepare(self) -> BatchFunction:
        """See `Work.prepare`."""
        embed = self.embedder.embed_documents if self.use == "documents" else self.embedder.embed_queries

        def embedded(batch: "pa.RecordBatch", progress: Progress) -> "pa.RecordBatch":
            texts = batch.column("text").to_pylist()
            return _of_vectors(check_vectors(embed(texts, progress=progress), len(texts), None, "the vectors made"))

        return embedded

    def probe(self) -> "pa.RecordBatch":
        """See `Work.probe`."""
        return _of_texts([PROBE_TEXT])


def embed_batches(
    executor: Executor,
    embedder: Embedder,
    batches: Iterable[Sequence[str]],
    use: Use,
    *,
    progress: Progress | None = None,
) -> Generator[NDArray[np.float32], None, None]:
    """Embed batches of texts, each as one call of the embedder.

    Args:
        executor: does it.
        embedder: what embeds.
        batches: the texts; read as they are needed.
        use: what the texts are.
        progress: called with the texts that are done of the batch that is next, and their number.

    Yields:
        for each batch ``(len(batch), dimensions)`` float32, in order.
    """
    for result in executor.map(EmbedTexts(embedder, use), map(_of_texts, batches), progress=progress):
        vectors = result.column("vector")
        yield vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), -1)


class SpreadEmbedder(Embedder):
    """An embedder whose many texts are embedded by an executor, in batches that are the same whatever the engine."""

    def __init__(self, embedder: Embedder, executor: Executor) -> None:
        """Spread an embedder's work."""
        self._embedder = embedder
        self._executor = executor

    @property
    def name(self) -> str:
        """The embedder's."""
        return self._embedder.name

    @property
    def dimensions(self) -> int | None:
        """The embedder's."""
        return self._embedder.dimensions

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed documents, 512 in a batch; see `Embedder.embed_documents`."""
        return self._embed(texts, "documents", DOCUMENTS_AT_ONCE, progress)

    def embed_queries(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed queries, 1,024 in a batch; see `Embedder.embed_queries`."""
        return self._embed(texts, "queries", QUERIES_AT_ONCE, progress)

    def _embed(self, texts: Sequence[str], use: Use, at_once: int, progress: Progress | None) -> NDArray[np.float32]:
        checked = check_texts(texts)
        if len(checked) <= at_once:
            embed = self._embedder.embed_documents if use == "documents" else self._embedder.embed_queries
            return embed(checked, progress=progress)
        parts: list[NDArray[np.float32]] = []
        done = 0

        def tell(more: int, _: int) -> None:
            if progress is not None:
                progress(done + more, len(checked))

        batches = (checked[start : start + at_once] for start in range(0, len(checked), at_once))
        with contextlib.closing(embed_batches(self._executor, self._embedder, batches, use, progress=tell)) as made:
            for vectors in made:
                parts.append(vectors)
                done += len(vectors)
                tell(0, 0)
        return np.concatenate(parts)


def _of_texts(texts: Sequence[str]) -> "pa.RecordBatch":
    import pyarrow as pa

    return pa.RecordBatch.from_pydict({"text": pa.array(list(texts), pa.string())})


def _of_vectors(vectors: NDArray[np.float32]) -> "pa.RecordBatch":
    import pyarrow as pa

    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return pa.RecordBatch.from_pydict({"vector": lists})
