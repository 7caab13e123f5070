"""The backend over any engine's collection: the contract, made of the few acts that a `Collection` has."""
# ruff: noqa: D102  Backend documents the methods

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, NoReturn, TypeVar

import numpy as np
import pyarrow as pa

from deepmemory.backends import scoring
from deepmemory.backends.base import (
    Backend,
    Capabilities,
    Distance,
    Filter,
    Ranking,
    VectorArray,
    check_dimensions,
)
from deepmemory.backends.collection import Collection, CollectionGoneError, Engine, Rows
from deepmemory.backends.collection_search import CollectionSearch, Question, parts_of, passing_rows
from deepmemory.backends.engine_address import EngineAddress
from deepmemory.backends.filters import read_filter
from deepmemory.backends.layout import Layout
from deepmemory.backends.own_rows import new_rows
from deepmemory.data import Document
from deepmemory.errors import CapabilityError, ReadOnlyError, StorageError

__all__ = ["CollectionBackend"]

T = TypeVar("T")


class CollectionBackend(Backend):
    """Documents in one collection of an engine; one of ours is made at the first `upsert`.

    Attributes:
        engine: of which kind it is.
    """

    engine: ClassVar[type[Engine]]

    def __init__(
        self,
        address: EngineAddress,
        layout: Layout,
        *,
        create: bool = True,
        read_only: bool = False,
        storage_options: Mapping[str, str] | None = None,
    ) -> None:
        """Open the database at an address; the collection is looked for when it is needed.

        Args:
            address: of the database.
            layout: of the collection, of ours or one that was recognised.
            create: whether a database may be made where there is none.
            read_only: refuse every change.
            storage_options: may hold the server's ``token``.
        """
        self._engine = self.engine(address, layout, create=create, storage_options=storage_options)
        self._attached = not self._engine.is_ours
        self._read_only = read_only or self._attached
        self._collection: Collection | None = None
        self._lock = threading.Lock()
        self._writing = threading.Lock()

    @classmethod
    def attached(
        cls, url: str, layout: Layout, *, read_only: bool, storage_options: Mapping[str, str] | None
    ) -> "CollectionBackend":
        """Open a collection that somebody else fills, in the layout that was recognised.

        Raises:
            CapabilityError: it was to be written to.
        """
        if not read_only:
            raise CapabilityError(
                f"a collection of {cls.engine.product} that others fill is attached to for reading only; change it "
                "with their tools"
            )
        address = EngineAddress.of_database(url)
        return cls(address, layout, create=False, read_only=True, storage_options=storage_options)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            full_text=False,
            persistent=True,
            concurrent_writers=self._engine.several_writers,
            snapshots=False,
            atomic_rows=self._engine.rows_at_once,
        )

    @property
    def dimensions(self) -> int | None:
        return self._dimensions_now("read")

    def _dimensions_now(self, action: str) -> int | None:
        with self._engine.errors(action):
            self._forget()
            collection = self._opened()
        return None if collection is None else collection.dimensions

    # The collection, whatever state it is in

    def _opened(self) -> Collection | None:
        with self._lock:
            if self._collection is None:
                self._collection = self._engine.open()
            return self._collection

    def _forget(self) -> None:
        with self._lock:
            self._collection = None

    def _ask(self, action: str, query: Callable[[Collection], T], nothing: T) -> T:
        """Ask the collection as it is now; `nothing` is the answer where there is none."""
        with self._engine.errors(action):
            for _ in range(2):
                collection = self._opened()
                if collection is None:
                    break
                try:
                    return query(collection)
                except CollectionGoneError:
                    self._forget()  # dropped by another process, and perhaps made again
            return nothing

    def _refuse_if_read_only(self, action: str) -> None:
        if self._attached:
            raise ReadOnlyError(
                f"can't {action}: {self._engine.location} is attached to for reading only; change it where it is filled"
            )
        if self._read_only:
            raise ReadOnlyError(f"can't {action}: {self._engine.location} was opened for reading only")

    # Documents

    def upsert(self, documents: Sequence[Document], vectors: VectorArray) -> None:
        action = "add documents"
        self._refuse_if_read_only(action)
        if not documents:
            return
        check_dimensions(vectors, self._dimensions_now(action))
        with self._writing, self._engine.errors(action):
            for _ in range(3):
                collection = self._opened() or self._engine.create(vectors.shape[1])
                check_dimensions(vectors, collection.dimensions)
                rows = new_rows(documents, vectors, collection.distance)
                try:
                    for start, stop in parts_of(len(rows), collection.rows_at_once):
                        collection.write(rows.part(start, stop))
                except CollectionGoneError:
                    self._forget()
                    continue
                return
        self._lost_again(action)

    def _lost_again(self, action: str) -> NoReturn:
        raise StorageError(
            f"can't {action} in {self._engine.location}: another process drops the collection again and again"
        )

    def get(self, ids: Sequence[str]) -> list[Document | None]:
        found: dict[str, Document] = {}
        for rows in self._rows_by_id(ids, None, documents=True):
            found.update(_documents(rows))
        return [found.get(document_id) for document_id in ids]

    def get_vectors(self, ids: Sequence[str], *, filter: Filter | None = None) -> dict[str, VectorArray]:
        found: dict[str, VectorArray] = {}
        for rows in self._rows_by_id(ids, filter, vectors=True):
            assert rows.vectors is not None
            found.update(zip(rows.ids, rows.vectors, strict=True))
        return found

    def _rows_by_id(
        self, ids: Sequence[str], filter: Filter | None, *, documents: bool = False, vectors: bool = False
    ) -> list[Rows]:
        question = Question(read_filter(filter), list(dict.fromkeys(ids)))

        def query(collection: Collection) -> list[Rows]:
            return list(passing_rows(collection, question, documents=documents, vectors=vectors))

        return self._ask("read documents", query, [])

    def delete(self, *, ids: Sequence[str] | None = None, filter: Filter | None = None) -> int:
        action = "delete documents"
        question = Question(read_filter(filter), None if ids is None else list(dict.fromkeys(ids)))
        self._refuse_if_read_only(action)

        def remove(collection: Collection) -> int:
            doomed = [id for rows in passing_rows(collection, question) for id in rows.ids]
            for start, stop in parts_of(len(doomed), collection.rows_at_once):
                collection.remove(doomed[start:stop])
            return len(doomed)

        with self._writing:
            return self._ask(action, remove, 0)

    def count(self, filter: Filter | None = None) -> int:
        question = Question(read_filter(filter))
        return self._ask("count documents", question.count, 0)

    def batches(self, *, batch_size: int = 8192, text: bool = False) -> Iterator[pa.RecordBatch]:
        with self._engine.errors("read documents"):
            collection = self._opened()
            if collection is None:
                return
            question = Question(read_filter(None))
            try:
                for rows in passing_rows(collection, question, documents=text, vectors=True, batch_size=batch_size):
                    if len(rows.ids):
                        yield _record_batch(rows, collection.dimensions, text=text)
            except CollectionGoneError:
                self._forget()

    # Search

    def search(
        self,
        query_vectors: VectorArray,
        k: int,
        *,
        distance: Distance = "cosine",
        filter: Filter | None = None,
    ) -> list[Ranking]:
        question = Question(read_filter(filter))
        check_dimensions(query_vectors, None)

        def query(collection: Collection) -> list[Ranking]:
            if query_vectors.shape[1] != collection.dimensions:
                raise CollectionGoneError  # another with other vectors may have taken its place
            return CollectionSearch(collection, question, k, distance).rank(query_vectors)

        nothing = [scoring.EMPTY_RANKING for _ in query_vectors]
        if k < 1 or not len(query_vectors):
            check_dimensions(query_vectors, self.dimensions)
            return nothing
        found = self._ask("search", query, None)
        if found is None:
            check_dimensions(query_vectors, self.dimensions)
        return nothing if found is None else found

    # The collection as a whole

    def optimize(self) -> None:
        self._refuse_if_read_only("optimize")
        with self._engine.errors("optimize"):
            self._engine.optimize()

    def drop(self) -> None:
        action = "delete the documents"
        self._refuse_if_read_only(action)
        with self._writing, self._engine.errors(action):
            self._forget()
            self._engine.drop()

    def close(self) -> None:
        self._forget()
        self._engine.close()


def _documents(rows: Rows) -> Iterator[tuple[str, Document]]:
    for document_id, text, metadata in zip(rows.ids, rows.texts, rows.metadata, strict=True):
        yield document_id, Document(document_id, text, json.loads(metadata))


def _record_batch(rows: Rows, dimensions: int, *, text: bool) -> pa.RecordBatch:
    assert rows.vectors is not None
    flat = np.ascontiguousarray(rows.vectors, dtype=np.float32).ravel()
    columns: dict[str, pa.Array] = {
        "id": pa.array(rows.ids, pa.string()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), dimensions),
    }
    if text:
        columns["text"] = pa.array(rows.texts, pa.string())
        columns["metadata"] = pa.array(rows.metadata, pa.string())
    return pa.RecordBatch.from_pydict(columns)
