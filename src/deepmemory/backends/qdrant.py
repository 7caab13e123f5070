"""Documents in a collection of Qdrant: on a server, or in the client's local mode in a folder of this process."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from deepmemory.backends.attaching import Asked
from deepmemory.backends.base import Backend, Distance
from deepmemory.backends.collection import Collection, Engine
from deepmemory.backends.collection_backend import CollectionBackend
from deepmemory.backends.engine_address import EngineAddress
from deepmemory.backends.layout import Layout
from deepmemory.backends.qdrant_collection import OWN_VECTOR, ROWS_AT_ONCE, QdrantCollection, is_ours
from deepmemory.backends.qdrant_connection import connect, is_missing, qdrant_errors
from deepmemory.backends.qdrant_layout import dense_vectors, find_layout
from deepmemory.errors import NotAStoreError

__all__ = ["QdrantBackend", "open_attached", "open_store", "recognise"]


class QdrantEngine(Engine):
    """Qdrant's client with the name of a collection."""

    product = "Qdrant"
    rows_at_once = ROWS_AT_ONCE

    def __init__(
        self, address: EngineAddress, layout: Layout, *, create: bool, storage_options: Mapping[str, str] | None
    ) -> None:
        super().__init__(address, layout, create=create, storage_options=storage_options)
        self.is_ours = is_ours(layout)
        self._connection = connect(address, create=create, storage_options=storage_options)
        self._client = self._connection.client

    def errors(self, action: str) -> AbstractContextManager[None]:
        return qdrant_errors(action, self.location)

    def open(self) -> Collection | None:
        name = self._layout.collection
        try:
            with self._connection.lock or nullcontext():
                vectors = dense_vectors(self._client.get_collection(name))
        except Exception as error:
            if is_missing(error, name):
                return None
            raise
        parameters = vectors.get(self._layout.vector)
        if parameters is None:
            if self.is_ours:
                raise self.not_ours()
            raise NotAStoreError(
                f"the collection {self.location} has no vector {self._layout.vector!r} any more; attach to it anew"
            )
        return QdrantCollection(self._connection, self._layout, int(parameters.size), str(parameters.distance.value))

    def create(self, dimensions: int) -> Collection:
        from qdrant_client import models

        # Over unit vectors the dot product is the cosine, and unlike Qdrant's "Cosine" it keeps vectors as they are.
        parameters = models.VectorParams(size=dimensions, distance=models.Distance.DOT)
        with self._connection.lock or nullcontext():
            try:
                self._client.create_collection(self._layout.collection, vectors_config={OWN_VECTOR: parameters})
                if self.several_writers:
                    self._client.create_payload_index(
                        self._layout.collection, "terms", models.PayloadSchemaType.INTEGER, wait=True
                    )
            except Exception as error:
                if "already exists" not in str(error):  # another process was first, which is as good
                    raise
        collection = self.open()
        assert collection is not None
        return collection

    def drop(self) -> None:
        if self.open() is not None:
            with self._connection.lock or nullcontext():
                self._client.delete_collection(self._layout.collection)

    def close(self) -> None:
        self._connection.close()


class QdrantBackend(CollectionBackend):
    """One collection of Qdrant, in the layout of ours or in one that was recognised."""

    engine = QdrantEngine


def open_store(
    path: str, *, create: bool, read_only: bool, distance: Distance, storage_options: Mapping[str, str] | None
) -> Backend:
    """Open the documents of a store of ours, such as ``qdrant://host:6333/docs``; see `open_backend`."""
    address = EngineAddress.of_store(path)
    layout = Layout(address.collection, "id", OWN_VECTOR, text="text", metadata_json="metadata", distance=distance)
    return QdrantBackend(
        address, layout, create=create and not read_only, read_only=read_only, storage_options=storage_options
    )


def recognise(url: str, asked: Asked) -> Layout:
    """Look at a collection that somebody else filled, and tell its layout; nothing is changed.

    Raises:
        InputError: what was asked for isn't there, or it can't be told what is what; all problems at once.
        CapabilityError: its vectors can't be ranked by similarity.
        NotAStoreError: there is no database in the folder.
        StorageError: the server can't be reached.
        MissingExtraError: qdrant-client is not installed.
    """
    address = EngineAddress.of_database(url)
    connection = connect(address, create=False, storage_options=asked.storage_options)
    try:
        with qdrant_errors("look at a collection", address.place), connection.lock or nullcontext():
            return find_layout(connection, address.place, asked)
    finally:
        connection.close()


def open_attached(url: str, layout: Layout, *, read_only: bool, storage_options: Mapping[str, str] | None) -> Backend:
    """Open a collection that somebody else filled, in the layout that was recognised.

    Raises:
        CapabilityError: it was to be written to.
        NotAStoreError: there is no database in the folder.
        StorageError: the server can't be reached.
        MissingExtraError: qdrant-client is not installed.
    """
    return QdrantBackend.attached(url, layout, read_only=read_only, storage_options=storage_options)
