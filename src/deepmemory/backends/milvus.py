"""Documents in a collection of Milvus: on a server, or of milvus-lite in a file of this process."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from deepmemory.backends.attaching import Asked
from deepmemory.backends.base import Backend, Distance
from deepmemory.backends.collection import Collection, Engine
from deepmemory.backends.collection_backend import CollectionBackend
from deepmemory.backends.engine_address import EngineAddress
from deepmemory.backends.layout import Layout
from deepmemory.backends.milvus_collection import (
    OWN_KEY,
    ROWS_AT_ONCE,
    Fields,
    MilvusCollection,
    fields_of,
    is_ours,
    own_schema,
)
from deepmemory.backends.milvus_connection import connect, is_missing, milvus_errors
from deepmemory.backends.milvus_layout import find_layout, measure_of
from deepmemory.errors import NotAStoreError

__all__ = ["MilvusBackend", "open_attached", "open_store", "recognise"]


class MilvusEngine(Engine):
    """Milvus's client with the name of a collection."""

    product = "Milvus"
    rows_at_once = ROWS_AT_ONCE

    def __init__(
        self, address: EngineAddress, layout: Layout, *, create: bool, storage_options: Mapping[str, str] | None
    ) -> None:
        super().__init__(address, layout, create=create, storage_options=storage_options)
        self.is_ours = is_ours(layout)
        self._client = connect(address, create=create, namespace=layout.namespace, storage_options=storage_options)

    def errors(self, action: str) -> AbstractContextManager[None]:
        return milvus_errors(action, self.location)

    def open(self) -> Collection | None:
        name = self._layout.collection
        if not self._client.has_collection(name):
            return None
        try:
            fields = fields_of(self._client.describe_collection(name))
            self._check(fields)
            measure = measure_of(self._client, name, self._layout.vector)
            if self.is_ours:
                self._client.load_collection(name)
        except Exception as error:
            if is_missing(error):  # dropped in between
                return None
            raise
        return MilvusCollection(self._client, self._layout, fields, measure)

    def _check(self, fields: Fields) -> None:
        if self.is_ours and fields.primary != OWN_KEY:
            raise self.not_ours()
        if self._layout.vector not in fields.vectors:
            raise NotAStoreError(
                f"the collection {self.location} has no vectors {self._layout.vector!r} any more; attach to it anew"
            )

    def create(self, dimensions: int) -> Collection:
        index = self._client.prepare_index_params()
        # Over unit vectors the inner product is the cosine.
        index.add_index("vector", index_type="AUTOINDEX", metric_type="IP")
        try:
            self._client.create_collection(
                self._layout.collection,
                schema=own_schema(self._client, dimensions),
                index_params=index,
                consistency_level="Strong",
            )
        except Exception as error:
            if "already exist" not in str(error):  # another process was first, which is as good
                raise
        collection = self.open()
        assert collection is not None
        return collection

    def drop(self) -> None:
        if self.open() is not None:
            self._client.drop_collection(self._layout.collection)

    def close(self) -> None:
        self._client.close()


class MilvusBackend(CollectionBackend):
    """One collection of Milvus, in the layout of ours or in one that was recognised."""

    engine = MilvusEngine


def open_store(
    path: str, *, create: bool, read_only: bool, distance: Distance, storage_options: Mapping[str, str] | None
) -> Backend:
    """Open the documents of a store of ours, such as ``milvus://host:19530/docs``; see `open_backend`."""
    address = EngineAddress.of_store(path)
    layout = Layout(address.collection, OWN_KEY, "vector", text="text", metadata_json="metadata", distance=distance)
    return MilvusBackend(
        address, layout, create=create and not read_only, read_only=read_only, storage_options=storage_options
    )


def recognise(url: str, asked: Asked) -> Layout:
    """Look at a collection that somebody else filled, and tell its layout; nothing is changed.

    Raises:
        InputError: what was asked for isn't there, or it can't be told what is what; all problems at once.
        CapabilityError: its vectors can't be ranked by similarity.
        NotAStoreError: there is no database in the file.
        StorageError: the server can't be reached.
        MissingExtraError: pymilvus is not installed.
    """
    address = EngineAddress.of_database(url)
    client = connect(address, create=False, namespace=asked.namespace, storage_options=asked.storage_options)
    try:
        with milvus_errors("look at a collection", address.place):
            return find_layout(client, address.place, asked)
    finally:
        client.close()


def open_attached(url: str, layout: Layout, *, read_only: bool, storage_options: Mapping[str, str] | None) -> Backend:
    """Open a collection that somebody else filled, in the layout that was recognised.

    Raises:
        CapabilityError: it was to be written to.
        NotAStoreError: there is no database in the file.
        StorageError: the server can't be reached.
        MissingExtraError: pymilvus is not installed.
    """
    return MilvusBackend.attached(url, layout, read_only=read_only, storage_options=storage_options)
