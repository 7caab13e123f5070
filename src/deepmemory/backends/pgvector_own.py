"""Tables of our own in PostgreSQL: how they are made, filled and indexed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepmemory.backends.base import VectorArray, metadata_json
from deepmemory.backends.filters import metadata_terms
from deepmemory.backends.layout import Layout
from deepmemory.backends.pgvector_connection import Database
from deepmemory.backends.pgvector_search import vector_indexes
from deepmemory.backends.pgvector_table import Description, Rows, name
from deepmemory.backends.pgvector_values import VectorTypes, check_encodable, encode_vectors, escape, escape_json
from deepmemory.data import Document
from deepmemory.errors import CapabilityError, InputError, NotAStoreError

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["INDEX_THRESHOLD", "OwnTable", "check_table_name", "own_layout"]

INDEX_THRESHOLD = 50_000
"""Rows from which on vectors are found through an HNSW graph; below, all are compared, in some milliseconds."""

_COLUMNS = {"id": "text", "text": "text", "metadata": "jsonb", "vector": "vector", "words": "tsvector"}
_HALFVEC_SINCE = (0, 7)
_LONGEST_NAME = 48  # PostgreSQL cuts names at 63 bytes, and some of ours are longer than the table's
_ROWS_AT_ONCE = 5_000
# Half precision is enough to propose neighbours, takes half the memory, and allows vectors of 4,000 dimensions.
_MOST_INDEXED_DIMENSIONS = 4_000
_NEIGHBOURS = 16
_CANDIDATES_WHILE_BUILDING = 100
_LEAST_BUILDING_MIB, _MOST_BUILDING_MIB = 64, 4_096
_BYTES_A_NODE = 400  # of the graph, beside its vector
# A tsvector can hold a megabyte: words after so many characters of a text are not found by full-text search.
_LONGEST_SEARCHED_TEXT = 200_000


def own_layout(table: str, schema: str | None) -> Layout:
    """The layout of a table of our own."""
    return Layout(table, "id", "vector", text="text", metadata_json="metadata", namespace=schema)


def check_table_name(table: str | None, location: str) -> str:
    """The name of a table of our own.

    Raises:
        InputError: there is none, or it is too long.
    """
    if table is None:
        raise InputError(f"say which table the store is to be in: {location} with ?table=docs, for instance")
    if len(table.encode()) > _LONGEST_NAME or "\x00" in table:
        raise InputError(f"the name of a store's table has at most {_LONGEST_NAME} bytes; found {table!r}")
    return table


def check_is_ours(description: Description, layout: Layout, location: str) -> None:
    """Raise `NotAStoreError` where somebody else's table has the name."""
    missing = sorted(column for column in _COLUMNS if column not in description.columns)
    if missing:
        raise NotAStoreError(
            f"the table {layout.collection!r} in {location} was not made by Deep Memory: it has no column "
            f"{', '.join(missing)}; choose another name, or attach to it with deepmemory.attach"
        )


@dataclass(frozen=True, slots=True)
class OwnTable:
    """How one table of our own is changed.

    Attributes:
        database: where it is.
        layout: of the table.
        half: whether a new table keeps vectors in half precision.
        index_threshold: rows from which on vectors are found through a graph.
    """

    database: Database
    layout: Layout
    half: bool
    index_threshold: int

    def prepared(self, documents: Sequence[Document]) -> list[tuple[str, str, str]]:
        """Id, text and metadata of each document, as they are stored.

        Raises:
            InputError: a text can't be written as UTF-8, or metadata is no JSON.
        """
        check_encodable(documents)
        for document in documents:
            metadata_terms(document.metadata)
        return [
            (escape(document.id), escape(document.text), escape_json(metadata_json(document.metadata)))
            for document in documents
        ]

    def create(self, connection: "Connection[Any]", dimensions: int) -> None:
        """Make the table where there is none, in the transaction of its first rows."""
        table = name(*([self.layout.namespace] if self.layout.namespace else []), self.layout.collection)
        lock = f"deepmemory {table}"
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [lock])
        if VectorTypes.of(connection) is None:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        types = self.database.know_vector_types(connection)
        assert types is not None
        if types.version < _HALFVEC_SINCE:
            version = ".".join(map(str, types.version))
            raise CapabilityError(
                f"a store in PostgreSQL needs pgvector 0.7 or newer; {self.database.location} has {version}: "
                "ALTER EXTENSION vector UPDATE"
            )
        kind = "halfvec" if self.half else "vector"
        # What was looked up before the lock was had may be out of date, which CREATE itself is not.
        words = f"to_tsvector('pg_catalog.english', left(text, {_LONGEST_SEARCHED_TEXT}))"
        statement = (
            f'CREATE TABLE IF NOT EXISTS {table} (id text COLLATE "C" PRIMARY KEY, text text NOT NULL, '
            f"metadata jsonb NOT NULL, vector {name(types.schema)}.{kind}({dimensions}) NOT NULL, "
            f"words tsvector GENERATED ALWAYS AS ({words}) STORED)"
        )
        connection.execute(statement.encode(), ())
        made = Description.read(connection, self.layout.collection, self.layout.namespace)
        assert made is not None
        check_is_ours(made, self.layout, self.database.location)
        for column, operators in (("metadata", "jsonb_path_ops"), ("words", "tsvector_ops")):
            index = name(f"{self.layout.collection}_{column}")
            connection.execute(
                f"CREATE INDEX IF NOT EXISTS {index} ON {table} USING gin ({column} {operators})".encode(), ()
            )

    def write(
        self, connection: "Connection[Any]", rows: Rows, prepared: Sequence[tuple[str, str, str]], vectors: VectorArray
    ) -> None:
        """Add rows, or replace those whose id exists."""
        # In one order, so that two writers of the same ids wait for each other instead of both for ever.
        order = sorted(range(len(prepared)), key=lambda row: prepared[row][0])
        types = self.database.know_vector_types(connection)
        assert types is not None
        kind = f"{name(types.schema)}.{'halfvec' if rows.half else 'vector'}"
        statement = (
            f"INSERT INTO {rows.table} (id, text, metadata, vector) SELECT id, text, metadata::jsonb, vector "
            f"FROM unnest(%(ids)s::text[], %(texts)s::text[], %(metadata)s::text[], %(vectors)b::{kind}[]) "
            "AS new (id, text, metadata, vector) ON CONFLICT (id) DO UPDATE SET "
            "text = excluded.text, metadata = excluded.metadata, vector = excluded.vector"
        ).encode()
        for start in range(0, len(order), _ROWS_AT_ONCE):
            part = order[start : start + _ROWS_AT_ONCE]
            ids, texts, metadata = zip(*(prepared[row] for row in part), strict=True)
            encoded = encode_vectors(vectors[part], half=rows.half)
            values = {"ids": list(ids), "texts": list(texts), "metadata": list(metadata), "vectors": encoded}
            connection.cursor().execute(statement, values, prepare=False)

    def optimize(self, connection: "Connection[Any]", rows: Rows) -> None:
        """Refresh what the planner knows, and make the graph where it is due; writers need not wait for it."""
        types = self.database.know_vector_types(connection)
        assert types is not None
        connection.commit()
        connection.autocommit = True
        try:
            lock = [f"deepmemory upkeep {rows.table}"]
            if not connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", lock).fetchall()[0][0]:
                return  # another process is at it
            try:
                connection.execute(f"ANALYZE {rows.table}".encode(), ())
                if self._needs_graph(connection, rows):
                    self._make_graph(connection, rows, types)
            finally:
                if not connection.closed:
                    connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", lock)
                    connection.execute("RESET maintenance_work_mem")
        finally:
            if not connection.closed:
                connection.autocommit = False

    def _needs_graph(self, connection: "Connection[Any]", rows: Rows) -> bool:
        if (rows.declared_dimensions or 0) > _MOST_INDEXED_DIMENSIONS:
            return False
        described = Description.read(connection, rows.layout.collection, rows.description.schema)
        return (
            described is not None
            and described.rows >= self.index_threshold
            and not vector_indexes(described, rows.layout.vector)
        )

    def _make_graph(self, connection: "Connection[Any]", rows: Rows, types: VectorTypes) -> None:
        dimensions = rows.declared_dimensions or 0
        needed = rows.description.rows * (2 * dimensions + _BYTES_A_NODE) // 2**20
        memory = min(max(needed, _LEAST_BUILDING_MIB), _MOST_BUILDING_MIB)
        connection.execute(f"SET maintenance_work_mem = '{memory}MB'".encode())
        graph, schema = name(f"{rows.layout.collection}_graph"), name(rows.description.schema)
        extension = name(types.schema)
        # One that was cut short is left behind, and serves nobody.
        connection.execute(f"DROP INDEX IF EXISTS {schema}.{graph}".encode(), ())
        connection.execute(
            f"CREATE INDEX CONCURRENTLY {graph} ON {rows.table} USING hnsw "
            f"((vector::{extension}.halfvec({dimensions})) {extension}.halfvec_cosine_ops) WITH (m = {_NEIGHBOURS}, "
            f"ef_construction = {_CANDIDATES_WHILE_BUILDING})".encode(),
            (),
        )
