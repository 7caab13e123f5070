"""Where a LanceDB table is, and which of its columns is for what: told, or found out by looking."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
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
from deepmemory.backends.roles import Kinds, find_layout, repeated_ids
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
        """Read an address, of a database or of a table's own folder."""
        scheme, separator, _ = url.partition("://")
        location = url.rstrip("/")
        if not separator or scheme.lower() == "file":
            location = str(Path(unquote(urlsplit(url).path) if separator else url).expanduser().absolute())
        if location.endswith(_SUFFIX):
            location, _, name = location.removesuffix(_SUFFIX).rpartition("/")
            table = table or name
        return cls(location, table)

    def check(self) -> None:
        """Raise `InputError` where there is no such folder, or where it is a store of ours."""
        if "://" in self.location:
            return
        path = Path(self.location)
        if not path.is_dir():
            found = "a file" if path.exists() else "nothing"
            raise InputError(f"a LanceDB database is a folder; found {found} at {path}")
        if (path / _OUR_RECORD).exists():
            raise InputError(
                f"{path} is a Deep Memory store, which needs no attaching: open it with VectorStore({str(path)!r})"
            )

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
        columns = {field.name: field.type for field in table.schema}
        problems = () if asked.namespace is None else ("a LanceDB table is in no schema: leave out schema=",)
        layout = find_layout(name, columns, _kinds(table), asked, problems)
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


def _kinds(table: "Table") -> Kinds[pa.DataType]:
    def has_objects(column: str) -> bool:
        rows = scan(table, {"value": quoted(column)}, f"{quoted(column)} IS NOT NULL").limit(1).to_arrow()
        try:
            return len(rows) == 1 and isinstance(json.loads(rows.column("value")[0].as_py()), dict)
        except ValueError:
            return False

    return Kinds(
        is_id=is_id,
        is_text=is_text,
        is_vector=is_vector,
        is_metadata=is_metadata,
        is_object=pa.types.is_struct,
        has_objects=has_objects,
        name_problem=lambda name: "has a backtick in it, which LanceDB's SQL can't name" if "`" in name else None,
    )


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
    counted = pc.value_counts(ids.drop_null())
    often = counted.filter(pc.greater(pc.struct_field(counted, "counts"), 1))
    return repeated_ids(column, ids.null_count, [(pair["values"], pair["counts"]) for pair in often.to_pylist()])


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
