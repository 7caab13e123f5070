"""Documents in a collection of Chroma: on a server, or in a folder of this process."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from deepmemory.backends.attaching import Asked
from deepmemory.backends.base import Backend, Distance
from deepmemory.backends.chroma_client import chroma_errors, connect, disconnect, open_collection
from deepmemory.backends.chroma_collection import (
    DOCUMENT,
    MARK,
    OWN_LAYOUT_JSON,
    ROWS_AT_ONCE,
    ChromaCollection,
    dimensions_of,
)
from deepmemory.backends.chroma_layout import find_layout
from deepmemory.backends.collection import Collection, Engine
from deepmemory.backends.collection_backend import CollectionBackend
from deepmemory.backends.engine_address import EngineAddress
from deepmemory.backends.layout import Layout

__all__ = ["ChromaBackend", "open_attached", "open_store", "recognise"]

_FORM = 1
# Wider than Chroma's own 100: a millisecond more for neighbours that are nearly always the right ones.
_SEARCH_WIDTH = 200


class ChromaEngine(Engine):
    """Chroma's client with the name of a collection."""

    product = "Chroma"
    rows_at_once = ROWS_AT_ONCE

    def __init__(
        self, address: EngineAddress, layout: Layout, *, create: bool, storage_options: Mapping[str, str] | None
    ) -> None:
        super().__init__(address, layout, create=create, storage_options=storage_options)
        self.is_ours = layout.metadata_json == OWN_LAYOUT_JSON
        self._client = connect(address, create=create, namespace=layout.namespace, storage_options=storage_options)
        with self.errors("open"):
            self._largest_batch = int(self._client.get_max_batch_size())

    def errors(self, action: str) -> AbstractContextManager[None]:
        return chroma_errors(action, self.location)

    def open(self) -> Collection | None:
        handle = open_collection(self._client, self._layout.collection)
        if handle is None:
            return None
        if self.is_ours and MARK not in (handle.metadata or {}):
            raise self.not_ours()
        # An attached collection with nothing in it has no vectors yet, so there is nothing to answer from.
        if dimensions_of(handle) is None:
            return None
        return ChromaCollection(handle, self._layout, self._largest_batch)

    def create(self, dimensions: int) -> Collection:
        # Over unit vectors "ip" is the cosine, and unlike Chroma's "cosine" it keeps vectors as they are.
        self._client.get_or_create_collection(
            self._layout.collection,
            embedding_function=None,
            metadata={MARK: _FORM, "dimensions": dimensions},
            configuration={"hnsw": {"space": "ip", "ef_search": _SEARCH_WIDTH}},
        )
        collection = self.open()
        assert collection is not None
        return collection

    def drop(self) -> None:
        if self.open() is not None:
            self._client.delete_collection(self._layout.collection)

    def close(self) -> None:
        disconnect(self._client)


class ChromaBackend(CollectionBackend):
    """One collection of Chroma, in the layout of ours or in one that was recognised."""

    engine = ChromaEngine


def open_store(
    path: str, *, create: bool, read_only: bool, distance: Distance, storage_options: Mapping[str, str] | None
) -> Backend:
    """Open the documents of a store of ours, such as ``chroma://host:8000/docs``; see `open_backend`."""
    address = EngineAddress.of_store(path)
    layout = Layout(
        address.collection, "id", "embedding", text=DOCUMENT, metadata_json=OWN_LAYOUT_JSON, distance=distance
    )
    return ChromaBackend(
        address, layout, create=create and not read_only, read_only=read_only, storage_options=storage_options
    )


def recognise(url: str, asked: Asked) -> Layout:
    """Look at a collection that somebody else filled, and tell its layout; nothing is changed.

    Raises:
        InputError: what was asked for isn't there; all problems at once.
        CapabilityError: its vectors can't be ranked by similarity.
        NotAStoreError: there is no database in the folder.
        StorageError: the server can't be reached.
        MissingExtraError: chromadb is not installed.
    """
    address = EngineAddress.of_database(url)
    client = connect(address, create=False, namespace=asked.namespace, storage_options=asked.storage_options)
    try:
        with chroma_errors("look at a collection", address.place):
            return find_layout(client, address.place, asked)
    finally:
        disconnect(client)


def open_attached(url: str, layout: Layout, *, read_only: bool, storage_options: Mapping[str, str] | None) -> Backend:
    """Open a collection that somebody else filled, in the layout that was recognised.

    Raises:
        CapabilityError: it was to be written to.
        NotAStoreError: there is no database in the folder.
        StorageError: the server can't be reached.
        MissingExtraError: chromadb is not installed.
    """
    return ChromaBackend.attached(url, layout, read_only=read_only, storage_options=storage_options)
