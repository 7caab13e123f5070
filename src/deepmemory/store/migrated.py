"""The embedder of a store whose queries were moved to a newer model, while its documents keep their vectors."""

from collections.abc import Callable, Generator, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepmemory.embedders import Embedder, Fingerprint
from deepmemory.errors import ArtifactError, EmbedderMismatchError
from deepmemory.migration import MigrationMap, decode_map
from deepmemory.progress import Progress
from deepmemory.state import State
from deepmemory.store.embedder import ChosenEmbedder, StoreEmbedder
from deepmemory.store.record import Migration, StoreRecord

__all__ = ["MigratedEmbedder", "bind_migrated", "load_map"]


class MigratedEmbedder(Embedder):
    """Embeds queries with the new model and maps them into the space of the stored vectors.

    Documents that are added must lie in that space as well. Where the old embedder can still be made they go through
    it, which puts them exactly where they belong; where it can't, through the new one and a map of its own.
    """

    def __init__(
        self,
        queries: StoreEmbedder,
        documents: StoreEmbedder | None,
        load: Callable[[], MigrationMap],
        migration: Migration,
    ) -> None:
        """Put the map behind the new embedder.

        Args:
            queries: the new embedder.
            documents: the old one; None where documents are mapped too.
            load: reads the map, when it is first needed.
            migration: of the store's record.
        """
        self._queries = queries
        self._documents = documents
        self._load = load
        self._migration = migration

    @property
    def name(self) -> str:
        """The name of the new embedder."""
        return self._migration.embedder

    @property
    def dimensions(self) -> int:
        """Length of the stored vectors, and of those that come out here."""
        return self._migration.mapped.dimensions

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed documents into the space of those that are stored.

        Raises:
            EmbedderMismatchError: the embedder is not the one on record.
            ArtifactError: the map is missing or damaged.
        """
        if self._documents is not None:
            return self._documents.embed_documents(texts, progress=progress)
        made = self._queries.embed_documents(texts, progress=progress)
        return self._map.transform_documents(made) if len(made) else _none(self.dimensions)

    def embed_document_batches(
        self, batches: Iterable[Sequence[str]], *, progress: Progress | None = None
    ) -> Generator[NDArray[np.float32], None, None]:
        """Embed documents batch by batch into the space of those that are stored; raises as `embed_documents`."""
        if self._documents is not None:
            yield from self._documents.embed_document_batches(batches, progress=progress)
            return
        for made in self._queries.embed_document_batches(batches, progress=progress):
            yield self._map.transform_documents(made) if len(made) else _none(self.dimensions)

    @property
    def query_map(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What the new model's vectors of queries go through, for programs that search without this library."""
        return self._map.queries.matrix, self._map.queries.offset

    def embed_queries(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed queries with the new model and map them; raises as `embed_documents`."""
        made = self._queries.embed_queries(texts, progress=progress)
        return self._map.transform(made) if len(made) else _none(self.dimensions)

    def fingerprint(self) -> Fingerprint:
        """Of queries as they search the store: layers trained on other vectors are told apart by it."""
        return self._migration.mapped

    @cached_property
    def _map(self) -> MigrationMap:
        return self._load()


def _none(dimensions: int) -> NDArray[np.float32]:
    return np.empty((0, dimensions), dtype=np.float32)


def bind_migrated(
    chosen: ChosenEmbedder | bool, record: StoreRecord, state: State, cache_file: Path | None
) -> MigratedEmbedder | None:
    """The embedder of a store that was migrated; None where vectors must be given.

    Args:
        chosen: what was asked for; True for what is on record, False for none.
        record: of the store, with a migration.
        state: where the map is.
        cache_file: where the new model's vectors of queries are kept.

    Raises:
        EmbedderMismatchError: another embedder than the new one was asked for.
    """
    migration = record.migration
    assert migration is not None
    if isinstance(chosen, ChosenEmbedder):
        _refuse_other(chosen, record, migration, state.location)
        make: Callable[[], ChosenEmbedder] = lambda: chosen  # noqa: E731  the other branch has one as well
    elif not chosen or migration.spec is None:
        return None
    else:
        spec = migration.spec
        make = lambda: ChosenEmbedder(spec)  # noqa: E731
    queries = StoreEmbedder(
        migration.embedder,
        make,
        migration.fingerprint,
        location=f"{state.location} (queries)",
        pin=_nothing_to_pin,
        cache_file=cache_file,
    )
    return MigratedEmbedder(queries, _old_embedder(record, state), lambda: load_map(state, migration), migration)


def load_map(state: State, migration: Migration) -> MigrationMap:
    """Read the map of a store, verified.

    Raises:
        ArtifactError: it is missing, damaged, or another one than the record means.
    """
    source = f"the map {migration.map} of {state.location}"
    data = state.read(migration.map)
    if data is None:
        raise ArtifactError(f"{source} is missing; restore it, or go back with: deepmemory migrate --rollback")
    found, _ = decode_map(data, source)
    expected = migration.fingerprint.dimensions, migration.mapped.dimensions
    if (found.new_dimensions, found.old_dimensions) != expected:
        raise ArtifactError(
            f"{source} maps {found.new_dimensions} to {found.old_dimensions} dimensions, and the record says "
            f"{expected[0]} to {expected[1]}; restore it, or go back with: deepmemory migrate --rollback"
        )
    return found


def _old_embedder(record: StoreRecord, state: State) -> StoreEmbedder | None:
    spec = record.spec
    if record.migration is None or record.migration.documents == "mapped" or spec is None or record.embedder is None:
        return None
    return StoreEmbedder(
        record.embedder,
        lambda: ChosenEmbedder(spec),
        record.fingerprint,
        location=state.location,
        pin=_nothing_to_pin,
        cache_file=None,
    )


def _refuse_other(chosen: ChosenEmbedder, record: StoreRecord, migration: Migration, location: str) -> None:
    if chosen.spec is not None and chosen.spec == migration.spec:
        return
    if said := migration.fingerprint.difference(chosen.fingerprint):
        was = record.embedder or "an unnamed embedder"
        raise EmbedderMismatchError(
            f"the queries of {location} were migrated from {was} to {migration.embedder}, and {said}; open it with "
            f"{migration.embedder}, or go back with: deepmemory migrate --rollback"
        )


def _nothing_to_pin(_: Fingerprint) -> None:
    """Both embedders are on record already."""
