"""A store on a Deep Memory hub: ``hub://org/name``."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepmemory.backends.base import Distance, Filter
from deepmemory.data import Document, Hit, check_vectors
from deepmemory.embedders import Embedder, Fingerprint, resolve_embedder
from deepmemory.errors import MissingExtraError, NotAStoreError
from deepmemory.executors import InProcessExecutor
from deepmemory.explanation import Explanation
from deepmemory.hub import HubAddress, HubBackend, HubConnection, HubDataset, HubDeepMemory, HubEmbedder, HubState
from deepmemory.hub import explain as explain_on_hub
from deepmemory.hub import search as search_hub
from deepmemory.hub import search_words as search_hub_words
from deepmemory.hub.dataset import DatasetRecord, EmbedderWish
from deepmemory.hub.parts import DOCUMENTS_AT_ONCE, send_in_parts
from deepmemory.hub.vectors import packed_bytes
from deepmemory.memory import EmbedderSpec
from deepmemory.progress import Progress
from deepmemory.store.embedder import ChosenEmbedder
from deepmemory.store.opening import (
    DEFAULT_SPEC,
    RECORDED,
    Recorded,
    bind_embedder,
    check_distance,
    refuse_other_distance,
)
from deepmemory.store.parts import StoreParts
from deepmemory.store.record import StoreRecord

__all__ = ["HubParts"]

_EMBEDDED_THERE_AT_ONCE = 128
"""Fewer documents in a request where the hub embeds them, which takes it seconds: so no answer is long in coming."""

_USUAL_DIMENSIONS = 1_536


class HubParts(StoreParts):
    """The parts of a store on a hub."""

    def __init__(
        self,
        path: str,
        embedder: EmbedderSpec | Recorded | None,
        *,
        create: bool,
        read_only: bool,
        distance: Distance | None,
        overwrite: bool,
        token: str | None,
    ) -> None:
        """Open or make the dataset of a path; see `VectorStore`."""
        check_distance(distance)
        self.executor = InProcessExecutor()
        given = _Given(embedder)
        self._connection = HubConnection(HubAddress.of(path, token))
        try:
            self._open(given, create=create, read_only=read_only, distance=distance, overwrite=overwrite)
        except BaseException:
            self._connection.close()
            raise

    def _open(
        self, given: "_Given", *, create: bool, read_only: bool, distance: Distance | None, overwrite: bool
    ) -> None:
        connection, dataset = self._connection, HubDataset(self._connection)
        found = dataset.find()
        if found is None:
            if not create:
                raise NotAStoreError(
                    f"there is no dataset {connection.path} that this token may see on the hub "
                    f"{connection.address.url}; check the name and whose token it is, or create one there with "
                    f"VectorStore({connection.path!r})"
                )
            found = dataset.make(distance, given.wish)
        elif overwrite:
            found = dataset.start_anew(distance, given.wish)
        self.record = _store_record(found)
        refuse_other_distance(self.record, distance, connection.path)
        self.backend: HubBackend = HubBackend(connection, found.capabilities, read_only=read_only)
        self.state = HubState(connection, read_only=read_only)
        self.embedder = self._bound(given, found, dataset, read_only=read_only)
        self.deep_memory = HubDeepMemory(connection, self.backend, self.embedder, read_only=read_only)

    def dimensions(self) -> int | None:
        """None: the hub checks what it is sent, in the same request."""
        return None

    def add(
        self, documents: Sequence[Document], vectors: NDArray[np.float32] | None, progress: Progress | None
    ) -> None:
        """Send checked documents in requests that the hub takes, each of which is stored whole or not at all."""
        embeds_there = vectors is None and isinstance(self.embedder, HubEmbedder)
        dimensions = (self.embedder and self.embedder.dimensions) if vectors is None else vectors.shape[1]

        def put(start: int, end: int) -> None:
            batch = documents[start:end]
            given = self._embedded(batch) if vectors is None else vectors[start:end]
            self.backend.put(batch, given)

        send_in_parts(
            documents,
            put,
            vector_bytes=0 if embeds_there else packed_bytes(dimensions or _USUAL_DIMENSIONS),
            most=_EMBEDDED_THERE_AT_ONCE if embeds_there else DOCUMENTS_AT_ONCE,
            progress=progress,
        )

    def search(
        self,
        queries: Sequence[str] | None,
        vectors: NDArray[np.float32] | None,
        k: int,
        *,
        with_layer: bool,
        filter: Filter | None,
    ) -> list[list[Hit]]:
        """Search on the hub, in one round trip; queries that the hub can't embed are embedded here before."""
        if vectors is None and queries and not isinstance(self.embedder, HubEmbedder):
            assert self.embedder is not None
            vectors = self.embedder.embed_queries(queries)
        return search_hub(self._connection, queries, vectors, k, with_layer=with_layer, filter=filter)

    def search_words(self, queries: Sequence[str], k: int, *, filter: Filter | None) -> list[list[Hit]]:
        """Search by words on the hub, in one round trip."""
        return search_hub_words(self._connection, queries, k, filter=filter)

    def explain(
        self, query: str | None, vector: NDArray[np.float32] | None, k: int, *, filter: Filter | None
    ) -> Explanation:
        """Let the hub explain, in one round trip; a query that it can't embed is embedded here before."""
        if vector is None and query is not None and not isinstance(self.embedder, HubEmbedder):
            assert self.embedder is not None
            vector = self.embedder.embed_queries([query])
        return explain_on_hub(self._connection, query, vector, k, filter=filter)

    def close(self) -> None:
        """Close the connections; jobs go on where they are."""
        self.deep_memory.close()
        self.backend.close()

    def _bound(self, given: "_Given", found: DatasetRecord, dataset: HubDataset, *, read_only: bool) -> Embedder | None:
        """What embeds: the hub where it can and nothing else was asked for, and otherwise this machine."""
        if given.embedder is None:
            return None
        if found.embeds and found.embedder is not None and given.is_by_name(found.spec):
            dimensions = found.fingerprint.dimensions if found.fingerprint else None
            return HubEmbedder(self._connection, found.embedder, dimensions)

        def pin(fingerprint: Fingerprint) -> None:
            if not read_only:
                dataset.pin(EmbedderWish(fingerprint.name, found.spec, fingerprint))

        return bind_embedder(
            given.chosen(),
            self.record,
            location=self._connection.path,
            dimensions=lambda: self.backend.dimensions,
            pin=pin,
            cache_file=_cache_file(),
        )

    def _embedded(self, batch: Sequence[Document]) -> NDArray[np.float32] | None:
        """The documents' vectors, made here; None where the hub makes them."""
        if isinstance(self.embedder, HubEmbedder):
            return None
        assert self.embedder is not None
        made = self.embedder.embed_documents([document.text for document in batch])
        return check_vectors(made, len(batch), self.embedder.dimensions, "the vectors made")


class _Given:
    """The embedder that was asked for; it is made only where the hub doesn't embed."""

    def __init__(self, embedder: EmbedderSpec | Recorded | None) -> None:
        """Look at it.

        Raises:
            InputError: there is no such embedder.
        """
        self.embedder = embedder
        self._chosen: ChosenEmbedder | None = None
        if isinstance(embedder, str):
            with contextlib.suppress(MissingExtraError):  # the hub may have what this machine hasn't
                resolve_embedder(embedder)

    def is_by_name(self, spec: str | None) -> bool:
        """Whether it is the one of a name, or whichever is on record."""
        return self.embedder is RECORDED or (isinstance(self.embedder, str) and self.embedder == spec)

    @property
    def wish(self) -> EmbedderWish | None:
        """What a new dataset has on record."""
        if self.embedder is None:
            return None
        if isinstance(self.embedder, str | Recorded):
            spec = self.embedder if isinstance(self.embedder, str) else DEFAULT_SPEC
            return EmbedderWish(spec, spec)
        made = self.chosen()
        assert isinstance(made, ChosenEmbedder)
        return EmbedderWish(made.embedder.name, None, made.fingerprint)

    def chosen(self) -> ChosenEmbedder | Recorded | None:
        """The embedder, made."""
        if self.embedder is None or isinstance(self.embedder, Recorded):
            return self.embedder
        if self._chosen is None:
            self._chosen = ChosenEmbedder(self.embedder)
        return self._chosen


def _store_record(found: DatasetRecord) -> StoreRecord:
    return StoreRecord(
        distance=found.distance,
        embedder=found.embedder,
        spec=found.spec,
        fingerprint=found.fingerprint,
        created=found.created,
    )


def _cache_file() -> Path:
    """Where this user's query vectors are kept, of all hubs together: they are kept by the embedder's fingerprint."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("deepmemory")) / "hub-queries.sqlite"
