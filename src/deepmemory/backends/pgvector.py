"""Documents in a PostgreSQL table with pgvector: one of our own, or one that others made and that is only read."""
# ruff: noqa: D102  Backend documents the methods

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from deepmemory.backends.attaching import Asked
from deepmemory.backends.base import (
    Backend,
    Capabilities,
    Distance,
    Filter,
    Ranking,
    VectorArray,
    check_dimensions,
    metadata_json,
)
from deepmemory.backends.filters import read_filter
from deepmemory.backends.layout import Layout
from deepmemory.backends.pgvector_connection import Address, Database, ask
from deepmemory.backends.pgvector_layout import read_layout, share_not_unit
from deepmemory.backends.pgvector_own import INDEX_THRESHOLD, OwnTable, check_is_ours, check_table_name, own_layout
from deepmemory.backends.pgvector_search import VectorIndex, VectorSearch, chosen_index, vector_indexes
from deepmemory.backends.pgvector_table import Description, Rows
from deepmemory.backends.pgvector_values import decode_vectors
from deepmemory.backends.pgvector_words import WordSearch, word_index
from deepmemory.backends.scoring import EMPTY_RANKING
from deepmemory.data import Document
from deepmemory.errors import CapabilityError, ReadOnlyError, StorageError

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["INDEX_THRESHOLD", "PgvectorBackend", "open_attached", "recognise"]

T = TypeVar("T")

_DESCRIBED_ANEW_AFTER_SECONDS = 30.0
"""How long an index that another process made may go unused."""


class PgvectorBackend(Backend):
    """One table of PostgreSQL.

    One of our own is made at the first `upsert`, when the length of the vectors is known. PostgreSQL's transactions
    give the rest: each change is there as a whole or not at all, and each question is answered from one moment.
    """

    def __init__(
        self,
        url: str,
        layout: Layout | None = None,
        *,
        read_only: bool = False,
        index_threshold: int = INDEX_THRESHOLD,
    ) -> None:
        """Open a table.

        Args:
            url: ``postgresql://user@host:port/database``; for a table of our own with ``?table=docs``, and
                ``&schema=`` and ``&precision=half`` where wanted.
            layout: of a table that others made; None for one of our own.
            read_only: refuse every change, and have the server refuse it too.
            index_threshold: rows from which on vectors of a table of our own are found through a graph.
        """
        address = Address.parse(url)
        self._read_only = read_only
        self._is_ours = layout is None
        self._layout = layout or own_layout(check_table_name(address.table, address.location), address.schema)
        self._database = Database(address, read_only=read_only)
        self._own = OwnTable(self._database, self._layout, address.half, index_threshold)
        self._rows: Rows | None = None
        self._looked_at = 0
        self._all_unit = False
        self._read_at = 0.0
        self._lock = threading.Lock()

    @property
    def capabilities(self) -> Capabilities:
        full_text = self._is_ours or self._has_word_index()
        return Capabilities(full_text=full_text, persistent=True, concurrent_writers=True)

    @property
    def dimensions(self) -> int | None:
        return self._database.run("read the table", self._dimensions)

    @property
    def left_out(self) -> int:
        def query(connection: "Connection[Any]", rows: Rows) -> int:
            statement = f"SELECT count(*) FROM {rows.table} WHERE {rows.left_out.sql}"
            return int(ask(connection, statement.encode(), rows.left_out.values).fetchall()[0][0])

        return 0 if self._is_ours else self._read("count the rows", query, 0)

    # The table, whatever state it is in

    def _described(self, connection: "Connection[Any]", *, anew: bool = False) -> Rows | None:
        """The table as it is, or lately was; None while there is none."""
        with self._lock:
            rows, age = self._rows, time.monotonic() - self._read_at
        if rows is not None and not anew and age < _DESCRIBED_ANEW_AFTER_SECONDS:
            return rows
        found = Description.read(connection, self._layout.collection, self._layout.namespace)
        if found is not None and self._is_ours:
            check_is_ours(found, self._layout, self._database.location)
        rows = None if found is None else Rows(self._layout, found, escaped=self._is_ours)
        if not self._is_ours:
            self._check_attached(connection, rows)
        with self._lock:
            self._rows, self._read_at = rows, time.monotonic()
        return rows

    def _check_attached(self, connection: "Connection[Any]", rows: Rows | None) -> None:
        """Check that a table that others made has what it had when it was attached to, and look at its vectors."""
        missing = ["table"] if rows is None else [f"column {column!r}" for column in rows.missing()]
        if missing:
            raise StorageError(
                f"{self._layout.collection!r} in {self._database.location} is not what it was: there is no "
                f"{', '.join(missing)} any more; attach to it again, in another folder"
            )
        assert rows is not None
        if rows.description.oid != self._looked_at and vector_indexes(rows.description, self._layout.vector):
            types = self._database.know_vector_types(connection)
            self._all_unit = types is not None and not share_not_unit(connection, types, rows)
            self._looked_at = rows.description.oid

    def _read(self, action: str, query: Callable[["Connection[Any]", Rows], T], nothing: T) -> T:
        """Ask the table as it is now; `nothing` is the answer where there is none, or none any more."""
        return self._database.run(action, lambda connection: self._ask(connection, query, nothing))

    def _ask(self, connection: "Connection[Any]", query: Callable[["Connection[Any]", Rows], T], nothing: T) -> T:
        from psycopg import errors

        rows = self._described(connection)
        if rows is None:
            return nothing
        try:
            return query(connection, rows)
        except (errors.UndefinedTable, errors.UndefinedColumn, errors.DataException):
            connection.rollback()
            now = self._described(connection, anew=True)
            if now is None:
                return nothing
            if now.description.oid == rows.description.oid:
                raise
            return query(connection, now)  # dropped and made again by another process

    def _check_writable(self, action: str) -> None:
        if not self._is_ours:
            raise ReadOnlyError(
                f"can't {action}: {self._layout.collection} in {self._database.location} is attached for reading only; "
                "change it where it is filled"
            )
        if self._read_only:
            raise ReadOnlyError(f"can't {action}: {self._database.location} was opened for reading only")

    def _dimensions(self, connection: "Connection[Any]") -> int | None:
        rows = self._described(connection, anew=True)
        return None if rows is None else self._dimensions_of(connection, rows)

    def _dimensions_of(self, connection: "Connection[Any]", rows: Rows) -> int | None:
        if rows.declared_dimensions is not None:
            return rows.declared_dimensions
        # A column that says no length: those who attach have made sure that there is one.
        statement = f"SELECT {rows.vector}::text FROM {rows.table} WHERE {rows.base.sql} LIMIT 1"
        found = connection.execute(statement.encode(), rows.base.values).fetchone()
        return None if found is None else str(found[0]).count(",") + 1

    def _check_queries(self, connection: "Connection[Any]", rows: Rows, vectors: VectorArray) -> Rows | None:
        """Check that vectors have the length of the table's as it is now; None where it is gone."""
        if vectors.ndim == 2 and vectors.shape[1] == rows.declared_dimensions:
            return rows
        now = self._described(connection, anew=True)
        if now is not None:
            check_dimensions(vectors, self._dimensions_of(connection, now))
        return now

    # Documents

    def upsert(self, documents: Sequence[Document], vectors: VectorArray) -> None:
        self._check_writable("add documents")
        if not documents:
            return
        check_dimensions(vectors, None)
        prepared = self._own.prepared(documents)

        def write(connection: "Connection[Any]") -> None:
            rows = self._described(connection, anew=True)
            if rows is None:
                self._own.create(connection, vectors.shape[1])
                rows = self._described(connection, anew=True)
                assert rows is not None
            check_dimensions(vectors, rows.declared_dimensions)
            self._own.write(connection, rows, prepared, vectors)

        self._database.run("add documents", write)

    def get(self, ids: Sequence[str]) -> list[Document | None]:
        def query(connection: "Connection[Any]", rows: Rows) -> dict[str, Document]:
            condition = rows.where(ids=ids)
            statement = f"SELECT {rows.id}, {rows.content} FROM {rows.table} WHERE {condition.sql}"
            found = (rows.document(*row) for row in ask(connection, statement.encode(), condition.values))
            return {document.id: document for document in found}

        nothing: dict[str, Document] = {}
        documents = self._read("read documents", query, nothing) if len(ids) else nothing
        return [documents.get(document_id) for document_id in ids]

    def get_vectors(self, ids: Sequence[str], *, filter: Filter | None = None) -> dict[str, VectorArray]:
        read_filter(filter)

        def query(connection: "Connection[Any]", rows: Rows) -> dict[str, VectorArray]:
            condition = rows.where(filter, ids=ids)
            statement = f"SELECT {rows.id}, {rows.vector} FROM {rows.table} WHERE {condition.sql}"
            found = ask(connection, statement.encode(), condition.values).fetchall()
            vectors = decode_vectors([vector for _, vector in found], half=rows.half)
            return {rows.id_out(id): vector for (id, _), vector in zip(found, vectors, strict=True)}

        nothing: dict[str, VectorArray] = {}
        return self._read("read documents", query, nothing) if len(ids) else nothing

    def delete(self, *, ids: Sequence[str] | None = None, filter: Filter | None = None) -> int:
        self._check_writable("delete documents")
        read_filter(filter)

        def remove(connection: "Connection[Any]", rows: Rows) -> int:
            condition = rows.where(filter, ids=ids)
            return connection.execute(
                f"DELETE FROM {rows.table} WHERE {condition.sql}".encode(), condition.values
            ).rowcount

        return self._database.run("delete documents", lambda connection: self._ask(connection, remove, 0), again=False)

    def count(self, filter: Filter | None = None) -> int:
        read_filter(filter)

        def query(connection: "Connection[Any]", rows: Rows) -> int:
            condition = rows.where(filter)
            statement = f"SELECT count(*) FROM {rows.table} WHERE {condition.sql}"
            return int(ask(connection, statement.encode(), condition.values).fetchall()[0][0])

        return self._read("count documents", query, 0)

    def batches(self, *, batch_size: int = 8192, text: bool = False) -> Iterator[pa.RecordBatch]:
        def stream(connection: "Connection[Any]") -> Iterator[pa.RecordBatch]:
            rows = self._described(connection, anew=True)
            if rows is None:
                return
            columns = f"{rows.id}, {rows.vector}" + (f", {rows.content}" if text else "")
            statement = f"SELECT {columns} FROM {rows.table} WHERE {rows.base.sql}"
            with connection.cursor("deepmemory_batches") as cursor:
                cursor.execute(statement.encode(), rows.base.values, binary=True)
                while found := cursor.fetchmany(batch_size):
                    yield _record_batch(rows, found, text=text)

        yield from self._database.stream("read documents", stream)

    # Search

    def search(
        self,
        query_vectors: VectorArray,
        k: int,
        *,
        distance: Distance = "cosine",
        filter: Filter | None = None,
    ) -> list[Ranking]:
        read_filter(filter)
        nothing = [EMPTY_RANKING for _ in query_vectors]

        def query(connection: "Connection[Any]", rows: Rows) -> list[Ranking]:
            now = self._check_queries(connection, rows, query_vectors)
            if now is None or k < 1:
                return nothing
            types = self._database.know_vector_types(connection)
            if types is None:
                return nothing
            index = self._index_for(now, distance)
            return VectorSearch(now, types, index, k, distance, now.where(filter)).rank(connection, query_vectors)

        return self._read("search", query, nothing)

    def _index_for(self, rows: Rows, distance: Distance) -> VectorIndex | None:
        indexes = vector_indexes(rows.description, self._layout.vector)
        return chosen_index(indexes, distance, all_unit=self._all_unit)

    def search_text(self, queries: Sequence[str], k: int, *, filter: Filter | None = None) -> list[Ranking]:
        read_filter(filter)
        nothing = [EMPTY_RANKING for _ in queries]

        def query(connection: "Connection[Any]", rows: Rows) -> list[Ranking]:
            index = word_index(rows.description, self._layout.collection)
            if index is None:
                raise CapabilityError(
                    f"{self._layout.collection} in {self._database.location} has no index for full-text search; "
                    "make one: CREATE INDEX ON ... USING gin (to_tsvector('english', ...))"
                )
            return WordSearch(rows, index, k, rows.where(filter)).rank(connection, queries) if k > 0 else nothing

        return self._read("search", query, nothing) if len(queries) else nothing

    def _has_word_index(self) -> bool:
        # Asked at every search with words, so what was read last will do.
        with self._lock:
            rows = self._rows
        rows = rows or self._database.run("read the table", self._described)
        return rows is not None and word_index(rows.description, self._layout.collection) is not None

    # The table as a whole

    def optimize(self) -> None:
        self._check_writable("optimize")
        self._read("optimize", self._own.optimize, None)
        with self._lock:
            self._rows = None

    def drop(self) -> None:
        self._check_writable("delete the documents")

        def remove(connection: "Connection[Any]", rows: Rows) -> None:
            connection.execute("SET LOCAL lock_timeout = '60s'")
            connection.execute(f"DROP TABLE IF EXISTS {rows.table}".encode(), ())

        self._read("delete the documents", remove, None)
        with self._lock:
            self._rows = None

    def close(self) -> None:
        self._database.close()


def recognise(url: str, asked: Asked) -> Layout:
    """Look at a table that others made and tell its layout; nothing is created, altered or indexed.

    A collection of LangChain's ``PGVector`` is named by its own name, and so is the table of LlamaIndex's
    ``PGVectorStore``, which is called ``data_`` and that name.

    Args:
        url: ``postgresql://user@host:port/database``.
        asked: what is known of the table.

    Raises:
        InputError: what was asked for isn't there, or isn't clear; all problems at once.
        CapabilityError: pgvector is not installed in the database.
        StorageError: the server can't be reached, or refuses.
        MissingExtraError: the client for PostgreSQL is not installed.
    """
    return read_layout(url, asked)


def open_attached(
    url: str,
    layout: Layout,
    *,
    read_only: bool,
    storage_options: Mapping[str, str] | None,  # noqa: ARG001  for buckets
) -> Backend:
    """Open a table whose layout is known.

    Raises:
        CapabilityError: it is to be written to.
        StorageError: the server can't be reached, or the table is not there any more, or not as it was.
    """
    if not read_only:
        raise CapabilityError(
            "a table of PostgreSQL that others made is attached for reading only; write to it with what made it, or "
            "fill a store of your own"
        )
    backend = PgvectorBackend(url, layout, read_only=True)
    backend.count({"id": []})  # what is wrong is said now, and not at the first search
    return backend


def _record_batch(rows: Rows, found: Sequence[tuple[Any, ...]], *, text: bool) -> pa.RecordBatch:
    vectors = decode_vectors([row[1] for row in found], half=rows.half)
    columns: dict[str, pa.Array] = {
        "id": pa.array([rows.id_out(row[0]) for row in found], pa.string()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1]),
    }
    if text:
        documents = [rows.document(row[0], row[2], row[3]) for row in found]
        columns["text"] = pa.array([document.text for document in documents], pa.string())
        columns["metadata"] = pa.array([metadata_json(document.metadata) for document in documents], pa.string())
    return pa.RecordBatch.from_pydict(columns)
