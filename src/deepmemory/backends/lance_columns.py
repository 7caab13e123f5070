"""What the columns of a LanceDB table that others made can be, and conditions on them as SQL."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from deepmemory.backends import lance_rows
from deepmemory.backends.attached import as_metadata
from deepmemory.backends.filters import Conditions
from deepmemory.backends.lance_search import Places
from deepmemory.backends.layout import Layout
from deepmemory.data import Document

__all__ = ["Columns", "is_id", "is_metadata", "is_text", "is_vector", "quoted"]


def is_text(kind: pa.DataType) -> bool:
    """Whether a column is of text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_id(kind: pa.DataType) -> bool:
    """Whether a column can tell documents apart."""
    return is_text(kind) or bool(pa.types.is_integer(kind))


def is_vector(kind: pa.DataType) -> bool:
    """Whether a column is of vectors, all of one length."""
    return bool(pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type))


def is_metadata(kind: pa.DataType) -> bool:
    """Whether a column holds what JSON can hold."""
    if pa.types.is_struct(kind):
        return all(is_metadata(kind.field(i).type) for i in range(kind.num_fields))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return is_metadata(kind.value_type)
    simple = (
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_timestamp,
        pa.types.is_date,
        pa.types.is_time,
    )
    return is_text(kind) or any(check(kind) for check in simple)


def quoted(name: str) -> str:
    """A column's name as the engine's SQL takes it; one with a backtick in it can't be written."""
    return f"`{name}`"


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table by what they are for.

    Attributes:
        schema: of the table.
        layout: which column is for what.
    """

    schema: pa.Schema
    layout: Layout

    @property
    def id(self) -> str:
        """The SQL of the ids, as text."""
        name = quoted(self.layout.id)
        return name if self._kind(self.layout.id) == pa.string() else f"CAST({name} AS string)"

    @property
    def places(self) -> Places:
        """Where a search finds what it needs."""
        layout = self.layout
        sql = {"id": self.id, "vector": quoted(layout.vector)}
        sql["text"] = "''" if layout.text is None else quoted(layout.text)
        sql |= {_metadata_name(number): quoted(name) for number, name in enumerate(self._metadata)}
        of_documents = ["id", "text", *(_metadata_name(number) for number in range(len(self._metadata)))]
        return Places(layout.vector, layout.text or "", sql, of_documents, self.documents)

    def documents(self, rows: pa.Table) -> Iterator[Document]:
        """The documents of rows that have the columns of documents."""
        metadatas = self.metadata(rows)
        for id, text, metadata in zip(*(rows.column(n).to_pylist() for n in ("id", "text")), metadatas, strict=True):
            yield Document(id, text or "", json.loads(metadata))

    def metadata(self, rows: pa.Table | pa.RecordBatch) -> Iterator[str]:
        """The metadata of such rows, as JSON."""
        columns = [rows.column(_metadata_name(number)).to_pylist() for number in range(len(self._metadata))]
        nested = self.layout.metadata_json
        for row in range(len(rows)):
            values = {name: column[row] for name, column in zip(self._metadata, columns, strict=True)}
            inner = values.pop(nested, None) if nested is not None else None
            if isinstance(inner, Mapping):
                values = {**inner, **values}
            yield as_metadata(values, _object(inner) if isinstance(inner, str) else None)

    @property
    def _metadata(self) -> tuple[str, ...]:
        nested = self.layout.metadata_json
        return self.layout.metadata + (() if nested is None else (nested,))

    def _kind(self, name: str) -> pa.DataType:
        return self.schema.field(name).type

    # Conditions

    def where(self, conditions: Conditions) -> tuple[str | None, bool]:
        """The SQL of conditions, None where everything passes; and whether it says all that they say."""
        parts = [self._one_of(terms) for terms in conditions.any_of]
        clauses = [part for part in parts if part is not None]
        if conditions.ids is not None:
            clauses.append(self._ids(conditions))
        return " AND ".join(clauses) or None, len(parts) == len([part for part in parts if part is not None])

    def _ids(self, conditions: Conditions) -> str:
        assert conditions.ids is not None
        name, kind = quoted(self.layout.id), self._kind(self.layout.id)
        if is_text(kind):
            return lance_rows.id_list(conditions.ids, name)
        numbers = (int(id) for id in conditions.ids if id.removeprefix("-").isdecimal() and str(int(id)) == id)
        return _in(name, sorted(str(number) for number in numbers if _fits(number, kind)))

    def _one_of(self, terms: frozenset[str]) -> str | None:
        """The SQL that is true where a row has one of the terms; None where only its metadata can tell."""
        if not terms:
            return "false"
        read = [json.loads(term) for term in terms]
        key = read[0][0]
        found = self._leaf(key)
        if found is None:
            return None if self._may_have(key) else "false"
        name, kind = found
        values = [value for _, value in read]
        if is_text(kind):
            return lance_rows.id_list([value for value in values if isinstance(value, str)], name)
        if pa.types.is_boolean(kind):
            return _in(name, sorted(str(value).lower() for value in values if isinstance(value, bool)))
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        return _in(name, sorted(repr(float(n) if kind == pa.float64() else n) for n in numbers if _fits(n, kind)))

    def _leaf(self, key: str) -> tuple[str, pa.DataType] | None:
        """The SQL and type of the one column that has a key's values; None where there is none that SQL compares."""
        name, nested = "", self.layout.metadata_json
        if key in self.layout.metadata:
            name, kind = quoted(key), self._kind(key)
        elif nested is not None and pa.types.is_struct(self._kind(nested)):
            place = self._kind(nested).get_field_index(key)
            if place >= 0:
                name, kind = f"{quoted(nested)}.{quoted(key)}", self._kind(nested).field(place).type
        if not name or "`" in key:
            return None
        simple = pa.types.is_boolean(kind) or pa.types.is_integer(kind) or kind == pa.float64() or is_text(kind)
        return (name, kind) if simple else None

    def _may_have(self, key: str) -> bool:
        """Whether some row's metadata may have a key that no column of SQL has."""
        nested = self.layout.metadata_json
        if key in self.layout.metadata:
            return True
        if nested is None:
            return False
        kind = self._kind(nested)
        return not pa.types.is_struct(kind) or kind.get_field_index(key) >= 0


def _metadata_name(number: int) -> str:
    """Our name for one of the columns of metadata: theirs may be one of ours."""
    return f"metadata_{number}"


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is; None where it is something else, and so no metadata."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _fits(number: float, kind: pa.DataType) -> bool:
    """Whether a column of a type can hold a number exactly."""
    if kind == pa.float64():
        try:
            return float(number) == number
        except OverflowError:
            return False
    limits = np.iinfo(kind.to_pandas_dtype())
    return isinstance(number, int) and int(limits.min) <= number <= int(limits.max)


def _in(name: str, literals: list[str]) -> str:
    return f"{name} IN ({', '.join(literals)})" if literals else "false"
