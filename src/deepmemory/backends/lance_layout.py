"""Where a LanceDB table is, and which of its columns is for what: told, or found out by looking."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepmemory.backends.attaching import Asked
from deepmemory.backends.base import Distance
from deepmemory.backends.lance_columns import is_id, is_metadata, is_text, is_vector, quoted
from deepmemory.backends.lance_errors import engine_errors, is_gone
from deepmemory.backends.lance_search import Metric, scan
from deepmemory.backends.layout import Layout
from deepmemory.errors import InputError, StorageError

if TYPE_CHECKING:
    from lancedb import DBConnection
    from lancedb.table import Table

__all__ = ["TablePlace", "graph_of", "has_words", "read_layout", "refuse_changed"]

_SUFFIX = ".lance"
_OUR_RECORD = "deepmemory.json"
_LOOKED_AT = 1_000
_MOST_IDS_COMPARED = 5_000_000
_LENGTH_TOLERANCE = 1e-3

# By what LangChain's LanceDB and LlamaIndex's LanceDBVectorStore call them, and then by what many do.
_ID_NAMES = ("id", "_id", "uuid", "chunk_id", "pk")
_TEXT_NAMES = ("text", "content", "page_content", "document", "body", "chunk")
_VECTOR_NAMES = ("vector", "embedding", "embeddings")
_METADATA_NAME = "metadata"


@dataclass(frozen=True, slots=True)
class TablePlace:
    """Where a table is.

    Attributes:
        location: the database's folder, absolute, or its bucket and prefix.
        table: its name; empty where the database is to have one only.
    """

    location: str
    table: str

    @classmethod
    def of(cls, url: str, table: str) -> "TablePlace":
        """Read an address, of a database or of a table's own folder.

        Raises:
            InputError: there is no such folder, or it is a store of ours.
        """
        scheme, separator, _ = url.partition("://")
        location = url.rstrip("/")
        if not separator or scheme.lower() == "file":
            path = Path(unquote(urlsplit(url).path) if separator else url).expanduser().absolute()
            if not path.is_dir():
                raise InputError(
                    f"a LanceDB database is a folder; found {'a file' if path.exists() else 'nothing'} at {path}"
                )
            location = str(path)
            if (path / _OUR_RECORD).exists():
                raise InputError(
                    f"{path} is a Deep Memory store, which needs no attaching: open it with VectorStore({str(path)!r})"
                )
        if location.endswith(_SUFFIX):
            location, _, name = location.removesuffix(_SUFFIX).rpartition("/")
            table = table or name
        return cls(location, table)

    @property
    def named(self) -> str:
        """The table, for messages."""
        return f"the table {self.table} in {self.location}"

    @property
    def folder(self) -> Path | None:
        """The table's folder; None where it is in a bucket."""
        return None if "://" in self.location else Path(self.location) / f"{self.table}{_SUFFIX}"

    def connect(self, storage_options: Mapping[str, str] | None) -> "DBConnection":
        """Connect to the database."""
        os.environ.setdefault("LANCEDB_LOG", "error")
        import lancedb

        if "://" not in self.location and not Path(self.location).is_dir():
            raise StorageError(f"there is no folder {self.location} any more, in which the table {self.table} was")
        return lancedb.connect(
            self.location,
            storage_options=dict(storage_options) if storage_options else None,
            read_consistency_interval=timedelta(0),
        )

    def open(self, storage_options: Mapping[str, str] | None) -> "Table":
        """Open the table.

        Raises:
            StorageError: it is not there.
        """
        try:
            return self.connect(storage_options).open_table(self.table)
        except Exception as error:
            if not is_gone(error):
                raise
            raise StorageError(f"there is no table {self.table} in {self.location} any more") from error


def refuse_changed(schema: pa.Schema, layout: Layout, named: str) -> None:
    """Raise `StorageError` where a table lacks a column that it had when it was attached to."""
    names = (layout.id, layout.vector, layout.text, layout.metadata_json, *layout.metadata)
    missing = [name for name in names if name is not None and name not in schema.names]
    if not missing and is_id(schema.field(layout.id).type) and is_vector(schema.field(layout.vector).type):
        return
    said = f"has no column {', '.join(missing)} any more" if missing else "has columns of other types than it had"
    raise StorageError(f"{named} {said}; attach to it again, in another folder")


def graph_of(table: "Table", layout: Layout) -> Metric | None:
    """How the index of the vectors measures; None where there is none that can be used."""
    metric = _index_metric(table, layout.vector)
    if metric == "l2" and _share_not_unit(table, layout.vector) > 0:
        return None
    return metric


def has_words(table: "Table", layout: Layout) -> bool:
    """Whether the texts have a full-text index."""
    return any(index.index_type == "FTS" and index.columns == [layout.text] for index in table.list_indices())


def read_layout(place: TablePlace, asked: Asked) -> Layout:
    """Look at a table and tell its layout; see `recognise`."""
    with engine_errors("read the table", place.location):
        connection = place.connect(asked.storage_options)
        names = sorted(_table_names(connection))
        name = place.table or (names[0] if len(names) == 1 else "")
        if name not in names:
            raise InputError(_no_such_table(place, names))
        table = connection.open_table(name)
        roles = _Roles(table.schema, asked, _MetadataLooks(table))
        layout = roles.layout(name)
        return _checked(table, layout, asked.distance, f"the table {name} in {place.location}")


def _table_names(connection: "DBConnection") -> Iterator[str]:
    page = None
    while True:
        reply = connection.list_tables(page_token=page)
        yield from reply.tables
        page = reply.page_token
        if not page:
            return


def _no_such_table(place: TablePlace, names: Sequence[str]) -> str:
    there = ", ".join(names) if names else "none"
    if place.table:
        return f"there is no table {place.table!r} in {place.location}; its tables: {there}"
    return f"say which table in {place.location} with table=...; its tables: {there}"


class _Roles:
    """Which column is for what; problems are gathered, to be told together."""

    def __init__(self, schema: pa.Schema, asked: Asked, is_json: Callable[[str], bool]) -> None:
        self._schema = schema
        self._asked = asked
        self._is_json = is_json
        self._problems: list[str] = []

    def layout(self, collection: str) -> Layout:
        """The layout.

        Raises:
            InputError: everything that is wrong or can't be told.
        """
        asked = self._asked
        if asked.namespace is not None:
            self._problems.append("a LanceDB table is in no schema: leave out schema=")
        vector = self._one("vector", asked.vector, _VECTOR_NAMES, is_vector, "vectors of one length")
        text = self._one("text", asked.text, _TEXT_NAMES, is_text, "text", taken=(asked.id, *_ID_NAMES), needed=False)
        id = self._one("id", asked.id, _ID_NAMES, is_id, "text or whole numbers", taken=(text,))
        nested = self._metadata_json({id, text, vector})
        metadata = self._metadata({id, text, vector, nested})
        if self._problems:
            there = ", ".join(f"{field.name} ({field.type})" for field in self._schema)
            raise InputError([f"{problem} (the columns of {collection}: {there})" for problem in self._problems])
        assert id is not None
        assert vector is not None
        return Layout(collection, id=id, vector=vector, text=text, metadata=metadata, metadata_json=nested)

    def _one(
        self,
        role: str,
        asked: str | None,
        usual: Sequence[str],
        fits: Callable[[pa.DataType], bool],
        kind: str,
        *,
        taken: Sequence[str | None] = (),
        needed: bool = True,
    ) -> str | None:
        """The column for something: the one named, or one of the usual names, or the only one that can be."""
        if asked is not None:
            self._check(asked, fits, f"{role}= names a column of {kind}")
            return asked
        able: list[str] = [field.name for field in self._schema if fits(field.type) and "`" not in field.name]
        usually = [name for name in usual if name in able]
        if usually:
            return usually[0]
        left = [name for name in able if name not in taken]
        if len(left) == 1:
            return left[0]
        if needed or left:
            found = f"found {', '.join(left)}" if left else "found none"
            self._problems.append(f"say with {role}= which column of {kind} is the {role}; {found}")
        return None

    def _metadata_json(self, taken: set[str | None]) -> str | None:
        asked = self._asked
        if asked.metadata_json is not None:
            expected = "metadata_json= names a column of objects or of JSON text"
            self._check(asked.metadata_json, lambda kind: pa.types.is_struct(kind) or is_text(kind), expected)
            return asked.metadata_json
        if asked.metadata is not None or _METADATA_NAME in taken or _METADATA_NAME not in self._schema.names:
            return None
        kind = self._schema.field(_METADATA_NAME).type
        is_nested = pa.types.is_struct(kind) or (is_text(kind) and self._is_json(_METADATA_NAME))
        return _METADATA_NAME if is_nested else None

    def _metadata(self, taken: set[str | None]) -> tuple[str, ...]:
        if self._asked.metadata is None:
            fields = (field for field in self._schema if field.name not in taken and "`" not in field.name)
            return tuple(field.name for field in fields if is_metadata(field.type))
        for name in self._asked.metadata:
            self._check(name, is_metadata, "metadata= names columns of what JSON can hold")
        return tuple(self._asked.metadata)

    def _check(self, name: str, fits: Callable[[pa.DataType], bool], expected: str) -> None:
        if name not in self._schema.names:
            self._problems.append(f"{expected}; there is no column {name!r}")
        elif not fits(self._schema.field(name).type):
            self._problems.append(f"{expected}; {name!r} is of {self._schema.field(name).type}")
        elif "`" in name:
            self._problems.append(f"{expected}; {name!r} has a backtick in it, which LanceDB's SQL can't name")


class _MetadataLooks:
    """Whether a column of text holds JSON objects."""

    def __init__(self, table: "Table") -> None:
        self._table = table

    def __call__(self, column: str) -> bool:
        rows = scan(self._table, {"value": quoted(column)}, f"{quoted(column)} IS NOT NULL").limit(1).to_arrow()
        try:
            return len(rows) == 1 and isinstance(json.loads(rows.column("value")[0].as_py()), dict)
        except ValueError:
            return False


def _checked(table: "Table", layout: Layout, asked: Distance | None, named: str) -> Layout:
    """The layout with its distance, once ids are known to tell documents apart.

    Raises:
        InputError: they don't, or the index compares vectors by something else than cosine or dot product.
    """
    problems = _id_problems(table, layout.id)
    metric, distance = _index_metric(table, layout.vector), asked
    if distance is None and metric == "l2":
        share = _share_not_unit(table, layout.vector)
        if share:
            problems.append(
                f"the index of {layout.vector} in {named} compares by l2, and {share:.0%} of the vectors looked at "
                "don't have length 1, so that l2 ranks otherwise than cosine does; distance='cosine' compares them by "
                "cosine, without that index"
            )
    if distance is None:
        distance = "dot" if metric == "dot" else "cosine"
    if problems:
        raise InputError(problems)
    return Layout.from_dict({**layout.as_dict(), "distance": distance})


def _id_problems(table: "Table", column: str) -> list[str]:
    if table.count_rows() > _MOST_IDS_COMPARED:
        return []
    ids = scan(table, {"id": quoted(column)}).to_arrow().column("id")
    problems = []
    if ids.null_count:
        problems.append(f"the column {column} is to tell documents apart, and {ids.null_count:,} rows have none")
    counted = pc.value_counts(ids.drop_null())
    often = counted.filter(pc.greater(pc.struct_field(counted, "counts"), 1))
    if len(often):
        value, times = often[0]["values"].as_py(), often[0]["counts"].as_py()
        problems.append(
            f"the column {column} is to tell documents apart, and {len(often):,} of its values are there more than "
            f"once, such as {str(value)[:80]!r} {times} times; name another with id=, or remove what is there twice"
        )
    return problems


def _index_metric(table: "Table", column: str) -> Metric | None:
    for index in table.list_indices():
        stats = table.index_stats(index.name) if index.columns == [column] else None
        for metric in ("cosine", "dot", "l2"):
            if stats is not None and stats.distance_type == metric:
                return metric
    return None


def _share_not_unit(table: "Table", column: str) -> float:
    """The share of some vectors whose length isn't 1."""
    rows = scan(table, {"vector": quoted(column)}).limit(_LOOKED_AT).to_arrow()
    kept = rows.filter(pc.is_valid(rows.column("vector")))
    if not len(kept):
        return 0.0
    flat = np.concatenate([np.asarray(chunk.flatten(), np.float64) for chunk in kept.column("vector").chunks])
    lengths = np.linalg.norm(flat.reshape(len(kept), -1), axis=1)
    return float(np.mean(np.abs(lengths - 1) > _LENGTH_TOLERANCE))
