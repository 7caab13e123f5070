"""How the rows of a PostgreSQL table are read as documents: what the catalog says of it, and each part as SQL."""

import json
import re
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from deepmemory.backends.base import Filter
from deepmemory.backends.filters import read_filter
from deepmemory.backends.layout import Layout
from deepmemory.backends.pgvector_values import (
    encodable,
    escape,
    escape_json,
    holds_nul,
    is_encodable,
    unescape,
    unescape_json,
)
from deepmemory.data import Document

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["Column", "Condition", "Description", "Index", "Rows", "name"]

_INTEGERS = {"int2": 16, "int4": 32, "int8": 64}
_TEXTS = ("text", "varchar", "bpchar", "name", "citext")
_PAIRS_AT_ONCE = 50  # a function takes a hundred arguments
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")


def name(*parts: str) -> str:
    """Names quoted for SQL, joined by dots; ``%`` doubled, for it begins a placeholder in a statement with values."""
    from psycopg.sql import Identifier

    return Identifier(*parts).as_string(None).replace("%", "%%")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: unquoted.
        type: the name of its type, such as ``int8`` or ``vector``.
        dimensions: of a vector's; None where it says none, and of other types.
        generated: the expression that it is always made of; None where it is filled by hand.
    """

    name: str
    type: str
    dimensions: int | None = None
    generated: str | None = None

    def __str__(self) -> str:
        """As messages show it."""
        return f"{self.name} {self.type}" + (f"({self.dimensions})" if self.dimensions else "")


@dataclass(frozen=True, slots=True)
class Index:
    """One index of a table, by its first column.

    Attributes:
        name: unquoted.
        method: ``hnsw``, ``btree`` ...
        operators: the class of its operators, such as ``vector_cosine_ops``.
        expression: what is indexed: a column, quoted where needed, or an expression.
        unique: whether it allows each value once, and covers this one column and all rows.
        lists: of an ``ivfflat`` index; else None.
    """

    name: str
    method: str
    operators: str
    expression: str
    unique: bool
    lists: int | None

    def covers(self, column: str) -> bool:
        """Whether it is the column itself that is indexed."""
        return self.expression in (column, _quoted(column))


@dataclass(frozen=True, slots=True)
class Description:
    """What the catalog says of a table.

    Attributes:
        oid: of the table; another one where it was dropped and made again.
        schema: where it is.
        rows: about how many.
        columns: by name.
        indexes: those that are ready.
    """

    oid: int
    schema: str
    rows: int
    columns: Mapping[str, Column]
    indexes: tuple[Index, ...]

    @classmethod
    def read(cls, connection: "Connection[Any]", table: str, schema: str | None) -> "Description | None":
        """Look a table up, in a schema or on the search path; None where there is none."""
        found = connection.execute(_TABLE, {"table": table, "schema": schema, "quoted": _quoted(table)}).fetchone()
        if found is None:
            return None
        oid = int(found[0])
        columns = {row[0]: Column(*row) for row in connection.execute(_COLUMNS, [oid])}
        indexes = tuple(Index(*row) for row in connection.execute(_INDEXES, [oid]))
        return cls(oid, str(found[1]), int(found[2]), columns, indexes)


def _quoted(table: str) -> str:
    return name(table).replace("%%", "%")


_TABLE = """
SELECT c.oid::bigint, n.nspname::text, c.reltuples::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND CASE WHEN %(schema)s::text IS NULL
    THEN c.oid = to_regclass(%(quoted)s) ELSE n.nspname = %(schema)s AND c.relname = %(table)s END
"""

_COLUMNS = """
SELECT a.attname::text, t.typname::text,
       CASE WHEN t.typname IN ('vector', 'halfvec') AND a.atttypmod > 0 THEN a.atttypmod END,
       CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

_INDEXES = """
SELECT c.relname::text, m.amname::text, o.opcname::text, pg_get_indexdef(i.indexrelid, 1, true),
       i.indisunique AND i.indnkeyatts = 1 AND i.indpred IS NULL AND i.indkey[0] <> 0,
       (SELECT option_value::int FROM pg_options_to_table(c.reloptions) WHERE option_name = 'lists')
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
JOIN pg_opclass o ON o.oid = i.indclass[0]
WHERE i.indrelid = %s AND i.indisvalid AND i.indisready ORDER BY c.relname
"""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on rows as SQL.

    Attributes:
        sql: to follow WHERE.
        values: of its placeholders.
    """

    sql: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """The rows of one table, read through a layout.

    Attributes:
        layout: whose names are the table's.
        description: of the table.
        escaped: whether texts are escaped, as in tables of our own.
    """

    layout: Layout
    description: Description
    escaped: bool = False

    @cached_property
    def table(self) -> str:
        """The table's name."""
        return name(self.description.schema, self.layout.collection)

    @cached_property
    def vector(self) -> str:
        """The column of vectors."""
        return name(self.layout.vector)

    @property
    def half(self) -> bool:
        """Whether vectors are kept in half precision."""
        return self._type(self.layout.vector) == "halfvec"

    @property
    def declared_dimensions(self) -> int | None:
        """The length of the vectors, where the column says it."""
        column = self.description.columns.get(self.layout.vector)
        return column.dimensions if column else None

    @cached_property
    def id(self) -> str:
        """The id as text."""
        quoted = name(self.layout.id)
        return quoted if self._type(self.layout.id) == "text" else f"{quoted}::text"

    @cached_property
    def _of_columns(self) -> frozenset[str]:
        return frozenset(self.layout.metadata)

    @cached_property
    def content(self) -> str:
        """Text and metadata, the latter as JSON in text."""
        return f"{self._text}, {self._metadata}::text"

    @cached_property
    def _text(self) -> str:
        return "''" if self.layout.text is None else f"coalesce({name(self.layout.text)}::text, '')"

    @cached_property
    def _metadata(self) -> str:
        parts = []
        if self.layout.metadata_json is not None:
            parts.append(f"CASE jsonb_typeof({self._json}) WHEN 'object' THEN {self._json} ELSE '{{}}' END")
        pairs = [f"{_literal(key)}, to_jsonb({name(key)})" for key in self.layout.metadata]
        groups = (pairs[start : start + _PAIRS_AT_ONCE] for start in range(0, len(pairs), _PAIRS_AT_ONCE))
        parts += [f"jsonb_build_object({', '.join(group)})" for group in groups]
        return f"({' || '.join(parts)})" if parts else "'{}'"

    @cached_property
    def _json(self) -> str:
        assert self.layout.metadata_json is not None
        quoted = name(self.layout.metadata_json)
        return quoted if self._type(self.layout.metadata_json) == "jsonb" else f"{quoted}::jsonb"

    def _type(self, column: str) -> str:
        found = self.description.columns.get(column)
        return found.type if found else ""

    # Values

    def document(self, id: str, text: str, metadata: str) -> Document:
        """A document of what `id` and `content` give."""
        if self.escaped:
            return Document(unescape(id), unescape(text), json.loads(unescape_json(metadata)))
        values = json.loads(metadata)
        # A null is no key, for a table's every row has every column.
        return Document(id, text, {k: v for k, v in values.items() if v is not None or k not in self._of_columns})

    def missing(self) -> list[str]:
        """Columns of the layout that the table doesn't have."""
        layout = self.layout
        wanted = (layout.id, layout.vector, layout.text, layout.metadata_json, *layout.metadata, *layout.where)
        return [column for column in wanted if column is not None and column not in self.description.columns]

    def id_out(self, id: str) -> str:
        """An id as it was given, from what `id` gives."""
        return unescape(id) if self.escaped else id

    def id_values(self, ids: Iterable[str]) -> tuple[str, list[Any]]:
        """Ids as an array of the column's own type, so that its index serves: the type, and the values there can be."""
        kind, texts = self._type(self.layout.id), encodable(ids)
        if self.escaped:
            return "text", [escape(text) for text in texts]
        texts = [text for text in texts if "\x00" not in text]
        if kind in _INTEGERS:
            return "int8", [int(text) for text in texts if _INTEGER.fullmatch(text) and _fits(int(text), kind)]
        if kind == "uuid":
            return "uuid", [text for text in texts if _is_uuid(text)]
        return "text", texts

    # Conditions

    @cached_property
    def base(self) -> Condition:
        """What every row that is a document fulfils."""
        return self._fixed("IS NOT NULL")

    @cached_property
    def left_out(self) -> Condition:
        """What the rows fulfil that would be documents if they had a vector."""
        return self._fixed("IS NULL")

    def _fixed(self, vector: str) -> Condition:
        parts, values = [f"{self.vector} {vector}"], {}
        for number, (column, value) in enumerate(self.layout.where.items()):
            parts.append(f"{name(column)} = %(where{number})s::{name(self._type(column) or 'text')}")
            values[f"where{number}"] = str(value)
        return Condition(" AND ".join(parts), values)

    def where(self, filter: Filter | None = None, *, ids: Collection[str] | None = None) -> Condition:
        """The condition that a document is one of the ids, where they are given, and passes the filter.

        Raises:
            InputError: the filter is no mapping from strings to JSON values.
        """
        conditions = read_filter(filter)
        parts, values = [self.base.sql], dict(self.base.values)
        for key, chosen in (("ids", ids), ("filter_ids", conditions.ids)):
            if chosen is not None:
                kind, values[key] = self.id_values(chosen)
                quoted = name(self.layout.id) if kind != "text" else self.id
                parts.append(f"{quoted} = ANY(%({key})s::{kind}[])")
        for number, terms in enumerate(conditions.any_of):
            part = self._any_of(f"filter{number}", [json.loads(term) for term in sorted(terms)])
            parts.append(part.sql)
            values |= part.values
        return Condition(" AND ".join(parts), values)

    def _any_of(self, placeholder: str, terms: Sequence[Sequence[Any]]) -> Condition:
        """The condition that a document has one of the terms, all of one metadata key."""
        if not terms:
            return Condition("false")
        key, allowed = terms[0][0], [value for _, value in terms]
        allowed = [value for value in allowed if self._can_hold(_as_json([key, value]))]
        if key in self.layout.metadata:
            return self._column_is(key, placeholder, allowed)
        if self.layout.metadata_json is None or not allowed:
            return Condition("false")
        pairs, single = [_as_json({key: value}) for value in allowed], [_as_json(value) for value in allowed]
        if self.escaped:
            pairs, single, key = list(map(escape_json, pairs)), list(map(escape_json, single)), escape(key)
        values: dict[str, Any] = {placeholder: single, f"{placeholder}_key": key}
        equal = f"{self._json} -> %({placeholder}_key)s::text = ANY(%({placeholder})s::jsonb[])"
        if self._type(self.layout.metadata_json) == "jsonb":
            # An index of the column serves containment, which lets more pass than equality.
            values[f"{placeholder}_pair"] = pairs
            equal = f"({name(self.layout.metadata_json)} @> ANY(%({placeholder}_pair)s::jsonb[]) AND {equal})"
        return Condition(equal, values)

    def _can_hold(self, json_text: str) -> bool:
        return is_encodable(json_text) and (self.escaped or not holds_nul(json_text))

    def _column_is(self, key: str, placeholder: str, allowed: Sequence[Any]) -> Condition:
        """The condition on a column of its own, written so that its index serves where it can."""
        kind, quoted = self._type(key), name(key)
        fitting: list[Any]
        if kind in _TEXTS:
            fitting, array = [value for value in allowed if isinstance(value, str)], "text"
        elif kind in _INTEGERS:
            whole = [value for value in allowed if isinstance(value, int) and not isinstance(value, bool)]
            fitting, array = [value for value in whole if _fits(value, kind)], "int8"
        elif kind == "bool":
            fitting, array = [value for value in allowed if isinstance(value, bool)], "bool"
        else:
            fitting, array = [_as_json(value) for value in allowed if value is not None], "jsonb"
            quoted = f"to_jsonb({quoted})"
        return Condition(f"{quoted} = ANY(%({placeholder})s::{array}[])", {placeholder: fitting})


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _literal(text: str) -> str:
    from psycopg.sql import Literal

    return Literal(text).as_string(None).replace("%", "%%") + "::text"


def _fits(number: int, kind: str) -> bool:
    half: int = 2 ** (_INTEGERS[kind] - 1)
    return -half <= number < half


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
