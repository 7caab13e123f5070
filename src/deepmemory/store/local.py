"""A store that this process opens itself: in a folder, a bucket or memory."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from deepmemory.backends import Filter, Ranking, open_backend
from deepmemory.backends.base import Distance
from deepmemory.data import Document, Hit, check_vectors
from deepmemory.errors import DeepMemoryError, ReadOnlyError
from deepmemory.explanation import Explanation
from deepmemory.memory import EmbedderSpec, LocalDeepMemory
from deepmemory.progress import Progress
from deepmemory.retrieval import documents_of, retrieve
from deepmemory.state import open_state
from deepmemory.store.opening import Recorded, bind_in_state, choose_embedder, open_or_make, start_anew
from deepmemory.store.parts import StoreParts

__all__ = ["LocalParts"]

_ADD_BATCH = 512
"""Documents embedded and stored together: what is added is kept batch by batch."""


class LocalParts(StoreParts):
    """The parts of a store of this machine."""

    def __init__(
        self,
        path: str,
        embedder: EmbedderSpec | Recorded | None,
        *,
        create: bool,
        read_only: bool,
        distance: Distance | None,
        overwrite: bool,
        storage_options: Mapping[str, str] | None,
    ) -> None:
        """Open or make the store at a path; see `VectorStore`."""
        chosen = choose_embedder(embedder)
        self.state = open_state(path, storage_options=storage_options)
        record = open_or_make(self.state, chosen, create=create, distance=None if overwrite else distance)
        attached = record.attachment
        if attached is None:
            self.backend = open_backend(
                path,
                create=create,
                read_only=read_only,
                storage_options=storage_options,
                distance=(distance if overwrite else None) or record.distance,
            )
        elif overwrite:
            raise ReadOnlyError(
                f"can't overwrite {path}: its documents are those of {attached.named}; to let go of them, delete the "
                "folder, which has none of them in it"
            )
        else:
            self.backend = attached.open(read_only=read_only, storage_options=storage_options)
        if overwrite:
            record = start_anew(self.state, self.backend, chosen, distance)
        self.record = record
        bound = bind_in_state(
            chosen, record, self.state, dimensions=lambda: self.backend.dimensions, read_only=read_only
        )
        self.embedder = bound
        self.deep_memory: LocalDeepMemory = LocalDeepMemory(
            self.backend,
            bound,
            self.state,
            distance=record.distance,
            fingerprint=bound.fingerprint if bound else None,
            read_only=read_only,
        )

    def dimensions(self) -> int | None:
        """Length that vectors must have; None while any will do."""
        return self.backend.dimensions or (self.embedder.dimensions if self.embedder else None)

    def add(
        self, documents: Sequence[Document], vectors: NDArray[np.float32] | None, progress: Progress | None
    ) -> None:
        """Store checked documents, batch by batch, embedded where no vectors are given."""
        total = len(documents)
        for start in range(0, total, _ADD_BATCH):
            batch = documents[start : start + _ADD_BATCH]
            if vectors is not None:
                self.backend.upsert(batch, vectors[start : start + len(batch)])
                if progress is not None:
                    progress(start + len(batch), total)
                continue
            try:
                self._add_embedded(batch, start, total, progress)
            except DeepMemoryError as error:
                if start:
                    error.add_note(f"{start} of {total} documents were added before that")
                raise

    def search(
        self,
        queries: Sequence[str] | None,
        vectors: NDArray[np.float32] | None,
        k: int,
        *,
        with_layer: bool,
        filter: Filter | None,
    ) -> list[list[Hit]]:
        """Embed where no vectors are given, transform, search."""
        layer = self.deep_memory.layer if with_layer else None
        if vectors is None and queries:
            assert self.embedder is not None
            vectors = self.embedder.embed_queries(queries)
        if vectors is None or not len(vectors):
            return []
        distance = self.record.distance
        return self._hits(
            retrieve(self.backend, vectors, k, layer=layer, texts=queries, distance=distance, filter=filter)
        )

    def search_words(self, queries: Sequence[str], k: int, *, filter: Filter | None) -> list[list[Hit]]:
        """Rank by the engine's full-text search."""
        return self._hits(self.backend.search_text(queries, k, filter=filter))

    def explain(
        self, query: str | None, vector: NDArray[np.float32] | None, k: int, *, filter: Filter | None
    ) -> Explanation:
        """Embed where no vector is given, search without and with the layer, take the scores apart."""
        if vector is None:
            assert query is not None
            assert self.embedder is not None
            vector = self.embedder.embed_queries([query])
        return self.deep_memory.explain(query, vector[0], k, filter=filter)

    def close(self) -> None:
        """Wait for the training jobs that were started here, and let go of the store."""
        self.deep_memory.close()
        self.backend.close()

    def _add_embedded(self, batch: Sequence[Document], start: int, total: int, progress: Progress | None) -> None:
        assert self.embedder is not None

        def report(done: int, _: int) -> None:
            if progress is not None:
                progress(start + done, total)

        vectors = self.embedder.embed_documents([document.text for document in batch], progress=report)
        self.backend.upsert(batch, check_vectors(vectors, len(batch), self.dimensions(), "the vectors made"))

    def _hits(self, rankings: Sequence[Ranking]) -> list[list[Hit]]:
        found = documents_of(self.backend, rankings)
        return [
            [
                Hit(id, found[id].text, found[id].metadata, float(score))
                for id, score in zip(ranking.ids, ranking.scores, strict=True)
                # One that another process deleted between search and fetch is no hit any more.
                if id in found
            ]
            for ranking in rankings
        ]
