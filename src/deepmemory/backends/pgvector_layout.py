"""Which table of somebody else's holds documents, and which of its columns is for what: told, or found out."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from deepmemory.backends.attaching import Asked
from deepmemory.backends.base import Distance
from deepmemory.backends.layout import Layout
from deepmemory.backends.pgvector_connection import Address, Database
from deepmemory.backends.pgvector_search import VectorIndex, chosen_index, vector_indexes
from deepmemory.backends.pgvector_table import Column, Description, Rows, name
from deepmemory.backends.pgvector_values import VectorTypes
from deepmemory.errors import InputError

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["read_layout", "share_not_unit"]

_log = logging.getLogger(__name__)

_LOOKED_AT = 1_000
_LENGTH_TOLERANCE = 2e-3  # half precision rounds each number by up to a two-thousandth of it
_SHOWN = 5

_VECTORS = ("vector", "halfvec")
_TEXTS = ("text", "varchar", "bpchar", "citext")
_IDS = (*_TEXTS, "int2", "int4", "int8", "uuid", "name", "numeric")
_JSON = ("json", "jsonb")
_NO_METADATA = (*_VECTORS, "sparsevec", "bit", "varbit", "tsvector", "bytea", "xml")

# By what LangChain's and LlamaIndex's classes call them, and then by what many do.
_ID_NAMES = ("langchain_id", "node_id", "id", "uuid", "chunk_id", "doc_id")
_TEXT_NAMES = ("document", "text", "content", "page_content", "body", "chunk")
_VECTOR_NAMES = ("embedding", "vector", "embeddings")
_METADATA_NAMES = ("cmetadata", "langchain_metadata", "metadata_", "metadata", "meta")

_LANGCHAIN = ("langchain_pg_embedding", "langchain_pg_collection")
_LANGCHAIN_COLUMNS = {"id", "collection_id", "embedding", "document", "cmetadata"}
_LLAMAINDEX_COLUMNS = {"id", "node_id", "text", "metadata_", "embedding"}


def read_layout(url: str, asked: Asked) -> Layout:
    """Look at a table and tell its layout; see `deepmemory.backends.pgvector.recognise`."""
    address = Address.parse(url)
    database = Database(address, read_only=True)
    try:
        types = database.need_vector_types()
        return database.run("look at the table", lambda connection: _Look(connection, types, address, asked).layout())
    finally:
        database.close()


class _Look:
    """One look at a table; problems are gathered, to be told together."""

    def __init__(self, connection: "Connection[Any]", types: VectorTypes, address: Address, asked: Asked) -> None:
        self._connection = connection
        self._types = types
        self._location = address.location
        self._asked = asked
        self._schema = asked.namespace or address.schema
        self._table = asked.collection or address.table or ""
        self._where: dict[str, Any] = {}
        self._problems: list[str] = []

    def layout(self) -> Layout:
        """The layout.

        Raises:
            InputError: everything that is wrong or can't be told.
        """
        described = self._described()
        layout = self._roles(described)
        self._tell_problems(described)
        rows = Rows(layout, described)
        self._check_may_read(rows)
        self._check_ids(rows)
        self._check_dimensions(rows)
        distance = self._distance(rows)
        self._tell_problems(described)
        return Layout.from_dict({**layout.as_dict(), "distance": distance})

    # The table

    def _described(self) -> Description:
        """The table of that name, or LangChain's or LlamaIndex's that holds the collection of that name."""
        found = Description.read(self._connection, self._table, self._schema) if self._table else None
        if found is not None and set(found.columns) >= _LANGCHAIN_COLUMNS and self._table == _LANGCHAIN[0]:
            self._choose_collection(found, None)
            return found
        if found is not None:
            return found
        llamaindex = Description.read(self._connection, f"data_{self._table.lower()}", self._schema)
        if llamaindex is not None and set(llamaindex.columns) >= _LLAMAINDEX_COLUMNS:
            self._table = f"data_{self._table.lower()}"
            return llamaindex
        langchain = Description.read(self._connection, _LANGCHAIN[0], self._schema)
        if langchain is not None and self._table:
            self._choose_collection(langchain, self._table)
            self._table = _LANGCHAIN[0]
            return langchain
        raise InputError(self._no_such_table())

    def _choose_collection(self, table: Description, wanted: str | None) -> None:
        """Pick one of the collections that share LangChain's table."""
        names = name(table.schema, _LANGCHAIN[1])
        found = self._connection.execute(f"SELECT name, uuid::text FROM {names} ORDER BY name".encode(), ()).fetchall()
        collections = {str(collection): str(number) for collection, number in found}
        if wanted is None and len(collections) == 1:
            wanted = next(iter(collections))
        if wanted not in collections:
            there = ", ".join(collections) or "none"
            raise InputError(
                f"say with table= which of LangChain's collections is meant; those in {self._location}: {there}"
                if wanted is None
                else f"{self._no_such_table()}; LangChain's collections there: {there}"
            )
        self._where = {"collection_id": collections[wanted]}

    def _no_such_table(self) -> str:
        found = self._connection.execute(
            "SELECT DISTINCT n.nspname || '.' || c.relname FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace "
            "JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid "
            "WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND t.typname IN ('vector', 'halfvec') ORDER BY 1"
        ).fetchall()
        there = ", ".join(table for (table,) in found) or "none"
        if not self._table:
            return f"say which table in {self._location} with table=...; those with vectors: {there}"
        where = f" in the schema {self._schema!r}" if self._schema else ""
        return f"there is no table {self._table!r}{where} in {self._location}; those with vectors: {there}"

    # Its columns

    def _roles(self, table: Description) -> Layout:
        asked, columns = self._asked, _Columns(table.columns.values(), self._problems)
        vector = columns.one("vector", asked.vector, _VECTOR_NAMES, _VECTORS)
        not_text = (asked.id, *_ID_NAMES)
        text = columns.one("text", asked.text, _TEXT_NAMES, _TEXTS, taken=not_text, needed=False)
        id = self._id(table, columns, text)
        nested = asked.metadata_json
        if nested is not None or asked.metadata is None:
            nested = columns.one("metadata_json", nested, _METADATA_NAMES, _JSON, needed=False, unclear=False)
        taken = {id, text, vector, nested, *self._where}
        return Layout(
            collection=self._table,
            id=id or "",
            vector=vector or "",
            text=text,
            metadata=self._metadata(table, columns, taken),
            metadata_json=nested,
            namespace=table.schema,
            where=self._where,
        )

    def _id(self, table: Description, columns: "_Columns", text: str | None) -> str | None:
        """The column that tells documents apart: as `_one`, but before the only one comes the primary key."""
        if self._asked.id is None:
            unique = [one for one in table.columns if any(i.unique and i.covers(one) for i in table.indexes)]
            usually = [one for one in _ID_NAMES[:2] if one in table.columns]  # LlamaIndex's is not declared unique
            able = [one for one in usually or unique if table.columns[one].type in _IDS and one != text]
            if len(able) == 1 or (able and "id" not in able):
                return able[0]
        return columns.one("id", self._asked.id, _ID_NAMES, _IDS, taken=(text,))

    def _metadata(self, table: Description, columns: "_Columns", taken: set[str | None]) -> tuple[str, ...]:
        if self._asked.metadata is None:
            if self._where or set(table.columns) >= _LLAMAINDEX_COLUMNS:
                return ()  # what is left belongs to LangChain or LlamaIndex
            left = [column for column in table.columns.values() if column.name not in taken]
            return tuple(column.name for column in left if column.type not in _NO_METADATA)
        for one in self._asked.metadata:
            columns.check("metadata", one, lambda column: column.type not in _NO_METADATA)
        return tuple(self._asked.metadata)

    def _tell_problems(self, table: Description) -> None:
        if self._problems:
            there = f"(the columns of {table.schema}.{self._table}: {', '.join(map(str, table.columns.values()))})"
            raise InputError([f"{problem} {there}" for problem in self._problems])

    # Its rows

    def _check_may_read(self, rows: Rows) -> None:
        """Have the server refuse now what it would refuse later."""
        statement = f"SELECT {rows.id}, {rows.vector}, {rows.content} FROM {rows.table} WHERE {rows.base.sql} LIMIT 1"
        self._connection.execute(statement.encode(), rows.base.values).fetchall()

    def _check_ids(self, rows: Rows) -> None:
        id = rows.layout.id
        if any(index.unique and index.covers(id) for index in rows.description.indexes):
            return
        statement = (
            f"SELECT {rows.id}, count(*) FROM {rows.table} WHERE {rows.base.sql} "
            f"GROUP BY 1 HAVING count(*) > 1 OR {rows.id} IS NULL ORDER BY 2 DESC, 1"
        )
        found = self._connection.execute(statement.encode(), rows.base.values).fetchall()
        nulls = sum(count for value, count in found if value is None)
        often = [(value, count) for value, count in found if value is not None]
        if nulls:
            self._problems.append(f"{id} is to tell documents apart, and {nulls:,} rows have none")
        if often:
            value, count = often[0]
            self._problems.append(
                f"{id} is to tell documents apart, and {len(often):,} of its values are there more than once, such as "
                f"{str(value)[:80]!r} {count} times; name another column with id="
            )

    def _check_dimensions(self, rows: Rows) -> None:
        if rows.declared_dimensions is not None:
            return
        statement = (
            f"SELECT {name(self._types.schema)}.vector_dims({rows.vector}), count(*) FROM {rows.table} "
            f"WHERE {rows.base.sql} GROUP BY 1 ORDER BY 2 DESC, 1"
        )
        found = self._connection.execute(statement.encode(), rows.base.values).fetchall()
        if len(found) > 1:
            counted = ", ".join(f"{count:,} rows of {dimensions} dimensions" for dimensions, count in found[:_SHOWN])
            self._problems.append(
                f"vectors must have one length, and {rows.layout.vector} holds {counted}"
                f"{' ...' if len(found) > _SHOWN else ''}; attach to a view of those of one length"
            )

    def _distance(self, rows: Rows) -> Distance:
        """How vectors are to be compared: as asked, or as the index does."""
        indexes = vector_indexes(rows.description, rows.layout.vector)
        share = share_not_unit(self._connection, self._types, rows) if indexes else 0.0
        asked = self._asked.distance
        if asked is None:
            measures = [index.measure for index in indexes]
            measure = "cosine" if not measures or "cosine" in measures else measures[0]
            if measure == "l2" and share:
                self._problems.append(
                    f"the index {indexes[0].name} compares by {indexes[0].operators}, and {share:.0%} of the vectors "
                    "looked at don't have length 1, so that it ranks otherwise than cosine does; distance='cosine' "
                    "compares them by cosine, without that index"
                )
            asked = "dot" if measure == "ip" and share else "cosine"
        if indexes and chosen_index(indexes, asked, all_unit=not share) is None and not self._problems:
            self._warn(rows, indexes, asked)
        return asked

    def _warn(self, rows: Rows, indexes: Sequence[VectorIndex], distance: Distance) -> None:
        kind = "halfvec" if rows.half else "vector"
        needed = f"{kind}_{'cosine' if distance == 'cosine' else 'ip'}_ops"
        _log.warning(
            "%s.%s is indexed by %s (%s), and comparing by %s needs %s: every search reads all vectors until somebody "
            "makes such an index",
            rows.layout.collection,
            rows.layout.vector,
            indexes[0].operators,
            indexes[0].name,
            distance,
            needed,
        )


class _Columns:
    """The columns of a table, one of which is to be found for something."""

    def __init__(self, columns: Iterable[Column], problems: list[str]) -> None:
        self._columns = tuple(columns)
        self._problems = problems

    def one(
        self,
        role: str,
        asked: str | None,
        usual: Sequence[str],
        types: Sequence[str],
        *,
        taken: Sequence[str | None] = (),
        needed: bool = True,
        unclear: bool = True,
    ) -> str | None:
        """The column for something: the one named, or one of the usual names, or the only one that can be.

        Where there is none of these, it is a problem if it is needed, or if several can be and that is unclear.
        """
        able = [column.name for column in self._columns if column.type in types]
        if asked is not None:
            self.check(role, asked, lambda column: column.type in types)
            return asked
        usually = [one for one in usual if one in able]
        if usually:
            return usually[0]
        left = [one for one in able if one not in taken]
        if len(left) == 1:
            return left[0]
        if needed or (unclear and len(left) > 1):
            found = f"found {', '.join(left)}" if left else "found none"
            self._problems.append(f"say with {role}= which column is the {role}; {found}")
        return None

    def check(self, role: str, wanted: str, fits: Callable[[Column], bool]) -> None:
        """Note what is wrong with a column that was named."""
        found = next((column for column in self._columns if column.name == wanted), None)
        if found is None:
            self._problems.append(f"{role}={wanted!r}: there is no such column")
        elif not fits(found):
            self._problems.append(f"{role}={wanted!r}: a column of the type {found.type} can't be that")


def share_not_unit(connection: "Connection[Any]", types: VectorTypes, rows: Rows) -> float:
    """The share of some vectors whose length isn't 1; 0 where there are none."""
    norm = f"{name(types.schema)}.{'l2_norm' if rows.half else 'vector_norm'}({rows.vector})"
    statement = (
        f"SELECT avg((abs({norm} - 1) > {_LENGTH_TOLERANCE})::int)::float8 FROM "
        f"(SELECT {rows.vector} FROM {rows.table} WHERE {rows.base.sql} LIMIT {_LOOKED_AT}) AS looked_at"
    )
    found = connection.execute(statement.encode(), rows.base.values).fetchone()
    return float(found[0] or 0.0) if found else 0.0
