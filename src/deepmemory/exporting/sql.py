"""A layer as an SQL script for PostgreSQL with pgvector, and the script that takes it out again.

The linear layer is a table with a row for each dimension of the transformed query, whose value there is one dot
product: pgvector's own operators do the arithmetic. The memory is three small tables more. Tables are filled by
DELETE and INSERT and functions are replaced, in one transaction, so searches go on with the old layer until the new one
is whole.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from deepmemory.errors import InputError
from deepmemory.exporting.facts import LayerFacts
from deepmemory.exporting.sql_names import dollar_quoted, text, vector
from deepmemory.exporting.sql_parts import (
    bonus_function,
    preparation,
    removal,
    search_function,
    transform_function,
)
from deepmemory.exporting.sql_target import SqlTarget

__all__ = ["sql_files"]

_LARGEST_VECTOR = 16_000
"""Dimensions that pgvector's type holds."""

_INLINE_BYTES = 7_900
"""A row up to this size fits on a page of 8 KiB, and is read faster there than from the side."""

_ROWS_AT_ONCE = 100


def sql_files(facts: LayerFacts, name: str, *, target: SqlTarget) -> tuple[dict[str, bytes], list[str]]:
    """The scripts' contents by ending, and what is to be said of them.

    Args:
        facts: the layer.
        name: of the files, for what their comments say.
        target: names in the database.

    Raises:
        InputError: the names, or the layer's ids or dimensions, are none that the database takes.
    """
    problems = target.problems()
    if (largest := max(facts.takes, facts.layer.dimensions)) > _LARGEST_VECTOR:
        problems.append(
            f"pgvector holds vectors of up to {_LARGEST_VECTOR:,} dimensions, and this layer takes {largest:,}"
        )
    problems += [
        f"PostgreSQL can't hold the id {id!r}, for it has a zero byte" for id in facts.document_ids if "\0" in id
    ]
    if problems:
        raise InputError(problems)
    notes = _notes(facts, target)
    script = "\n".join(
        [
            *_comment(facts, notes, name, target),
            "BEGIN;",
            "SET LOCAL search_path = pg_catalog;",
            *_statements(facts, target),
            "COMMIT;",
            "",
        ]
    )
    return {".sql": script.encode(), ".uninstall.sql": _uninstall(target).encode()}, notes


def _notes(facts: LayerFacts, target: SqlTarget) -> list[str]:
    notes = ["Applied to any query it changes nothing but its length."] if facts.changes_nothing else []
    if facts.layer.words is not None:
        notes.append(
            "What the layer adds for words is left out: it was learned on the full-text scores of the store, and "
            "PostgreSQL's own are on another scale."
        )
    if facts.layer.has_bonus and target.table is None:
        notes.append(
            f"{target.functions['transform']} has no part in what labelled documents get beside their similarity; "
            f"{target.functions['bonus']} gives it, and an export with a table makes a function that searches with it."
        )
    return notes


def _comment(facts: LayerFacts, notes: Sequence[str], name: str, target: SqlTarget) -> Iterator[str]:
    functions, tables = target.functions, ", ".join(target.tables.values())
    lines = [
        *facts.header(notes),
        "",
        f'Install:   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f {name}.sql  (another layer takes the old one\'s place)',
        f"Search:    SELECT ... ORDER BY embedding <=> {functions['transform']}('[...]') LIMIT 10;",
        f"With all:  SELECT id, score FROM {functions['search']}('[...]', 10) ORDER BY score DESC;"
        if target.table is not None
        else "",
        f'Uninstall: psql "$DATABASE_URL" -f {name}.uninstall.sql',
        f"Roles:     GRANT SELECT ON {tables} TO role;",
        "",
    ]
    # A line break in a name must not end the comment.
    return (f"-- {' '.join(line.splitlines())}".rstrip() for line in lines)


def _statements(facts: LayerFacts, target: SqlTarget) -> Iterator[str]:
    yield preparation(target)
    yield from _tables(facts, target)
    yield transform_function(facts, target)
    yield bonus_function(facts, target)
    if target.documents is not None:
        yield search_function(facts, target, target.documents)


def _tables(facts: LayerFacts, target: SqlTarget) -> Iterator[str]:
    tables = target.tables
    sizes = {"matrix": facts.takes, "keys": facts.layer.dimensions}
    columns = {
        "matrix": "dimension integer PRIMARY KEY, weights vector NOT NULL, added double precision NOT NULL",
        "keys": "key integer PRIMARY KEY, direction vector NOT NULL",
        "pairs": "key integer NOT NULL, label integer NOT NULL, weight real NOT NULL",
        "labels": "label integer PRIMARY KEY, id text NOT NULL",
    }
    stored = {"matrix": "weights", "keys": "direction"}
    for part, table in tables.items():
        yield f"CREATE TABLE IF NOT EXISTS {table} ({columns[part]});"
        yield f"COMMENT ON TABLE {table} IS {text(f'Deep Memory: {facts.title}')};"
        if part in stored:
            storage = "PLAIN" if 4 * sizes[part] <= _INLINE_BYTES else "EXTERNAL"
            yield _stored_as(storage, table, stored[part])
        yield f"DELETE FROM {table};"
        yield from _inserts(table, list(_rows(part, facts)))
        yield f"ANALYZE {table};"
        yield ""


def _stored_as(storage: str, table: str, column: str) -> str:
    """Where long rows are kept; set only where it isn't so already, for that waits until nobody searches."""
    code = f"""
BEGIN
  IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = {text(table)}::regclass AND attname = {text(column)}
      AND attstorage = {text(storage[0].lower())}) THEN
    ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE {storage};
  END IF;
END
"""
    return f"DO {dollar_quoted(code)};"


def _rows(part: str, facts: LayerFacts) -> Iterator[str]:
    memory = facts.layer.memory
    if part == "matrix" and facts.whole is not None:
        columns = np.ascontiguousarray(facts.whole.T)
        added = [0] * len(columns) if facts.offset is None else facts.offset.tolist()
        yield from (f"({row},{vector(columns[row])},{added[row]!r})" for row in range(len(columns)))
    if part == "labels":
        yield from (f"({label},{text(id)})" for label, id in enumerate(facts.document_ids))
    if part == "keys" and memory is not None:
        yield from (f"({key},{vector(direction)})" for key, direction in enumerate(memory.keys))
    if part == "pairs" and memory is not None:
        pairs = zip(memory.pair_key.tolist(), memory.pair_document.tolist(), memory.pair_weight, strict=True)
        yield from (f"({key},{label},{weight!s})" for key, label, weight in pairs)


def _inserts(table: str, rows: Sequence[str]) -> Iterator[str]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield f"INSERT INTO {table} VALUES\n" + ",\n".join(rows[start : start + _ROWS_AT_ONCE]) + ";"


def _uninstall(target: SqlTarget) -> str:
    comment = f"-- Takes Deep Memory's functions and tables named {target.name!a} out of the schema {target.schema!a}."
    return "\n".join([comment, "BEGIN;", "SET LOCAL search_path = pg_catalog;", removal(target), "COMMIT;", ""])
