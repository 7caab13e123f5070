"""Documents in a PostgreSQL table with pgvector: one of our own, or one that others made and that is only read."""
# ruff: noqa: D102  Backend documents the methods

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from deepmemory.backends.base import Backend, Capabilities, Distance, Filter, Ranking, VectorArray, check_dimensions
from deepmemory.backends.filters import read_filter
from deepmemory.backends.layout import Layout
from deepmemory.backends.pgvector_connection import Address, Database, ask
from deepmemory.backends.pgvector_own import INDEX_THRESHOLD, OwnTable, check_is_ours, check_table_name, own_layout
from deepmemory.backends.pgvector_search import VectorIndex, VectorSearch, vector_indexes
from deepmemory.backends.pgvector_table import Description, Rows
from deepmemory.backends.pgvector_values import decode_vectors, unescape_json
from deepmemory.backends.pgvector_words import WordIndex, WordSearch, word_index
from deepmemory.backends.scoring import EMPTY_RANKING
from deepmemory.data import Document
from deepmemory.errors import CapabilityError, ReadOnlyError, StorageError

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["INDEX_THRESHOLD", "PgvectorBackend"]

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
        self._read_at = 0.0
        self._lock = threading.Lock()

    @property
    def capabilities(self) -> Capabilities:
        full_text = self._is_ours or self._word_index() is not None
        return Capabilities(full_text=full_text, persistent=True, concurrent_writers=True)

    @property
    def dimensions(self) -> int | None:
        return self._database.run("read", self._dimensions)

    # The table, whatever state it is in

    def _described(self, connection: "Connection[Any]", *, anew: bool = False) -> Rows | None:
        """The table as it is, or lately was; None while there is none."""
        with self._lock:
            rows, age = self._rows, time.monotonic() - self._read_at
        if rows is not None and not anew and age < _DESCRIBED_ANEW_AFTER_SECONDS:
            return rows
        found = Description.read(connection, self._layout.collection, self._layout.namespace)
        if found is None and not self._is_ours:
            raise StorageError(
                f"the table {self._layout.collection!r} is gone from {self._database.location}; attach to another one"
            )
        if found is not None and self._is_ours:
            check_is_ours(found, self._layout, self._database.location)
        rows = None if found is None else Rows(self._layout, found, escaped=self._is_ours)
        with self._lock:
            self._rows, self._read_at = rows, time.monotonic()
        return rows

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
        if self._read_only:
            raise ReadOnlyError(f"can't {action}: {self._database.location} was opened for reading only")
        if not self._is_ours:
            raise CapabilityError(
                f"can't {action}: {self._layout.collection} in {self._database.location} is a table that others fill"
            )

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
        wanted = "cosine" if distance == "cosine" else "ip"
        indexes = vector_indexes(rows.description, self._layout.vector)
        return next((index for index in indexes if index.measure == wanted), None)

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

    def _word_index(self) -> WordIndex | None:
        find: Callable[[Any, Rows], WordIndex | None]
        find = lambda _, rows: word_index(rows.description, self._layout.collection)  # noqa: E731
        return self._read("read", find, None)

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


def _record_batch(rows: Rows, found: Sequence[tuple[Any, ...]], *, text: bool) -> pa.RecordBatch:
    vectors = decode_vectors([row[1] for row in found], half=rows.half)
    columns: dict[str, pa.Array] = {
        "id": pa.array([rows.id_out(row[0]) for row in found], pa.string()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1]),
    }
    if text:
        documents = [rows.document(row[0], row[2], row[3]) for row in found]
        columns["text"] = pa.array([document.text for document in documents], pa.string())
        metadata = [unescape_json(row[3]) if rows.escaped else row[3] for row in found]
        columns["metadata"] = pa.array(metadata, pa.string())
    return pa.RecordBatch.from_pydict(columns)
