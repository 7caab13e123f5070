"""What a store keeps beside its vectors, in a table of PostgreSQL beside theirs."""
# ruff: noqa: D102  State documents the methods

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deepmemory.backends.pgvector_connection import Address, Database, ask
from deepmemory.backends.pgvector_own import check_table_name
from deepmemory.backends.pgvector_table import name as quoted
from deepmemory.state import State, blobs_in, checked_name

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["PostgresState"]


class PostgresState(State):
    """Blobs as rows of one table, which is made at the first write; each write is a transaction."""

    # Asking costs a round trip, which those who watch for changes at every search would feel.
    poll_seconds = 1.0

    def __init__(self, url: str) -> None:
        """Keep the blobs of the store whose documents are in the table that an address names.

        Args:
            url: ``postgresql://user@host:port/database?table=docs``; the blobs are in ``docs_deepmemory``.

        Raises:
            InputError: the address is none, or names no table.
            MissingExtraError: the client for PostgreSQL is not installed.
        """
        address = Address.parse(url)
        self.location = address.location
        self._documents = check_table_name(address.table, address.location)
        self._table, self._schema = f"{self._documents}_deepmemory", address.schema
        self._quoted = quoted(*([address.schema] if address.schema else []), self._table)
        self._database = Database(address)

    def read(self, name: str) -> bytes | None:
        values = [checked_name(name)]
        found = self._rows(f"read {name}", f"SELECT data FROM {self._quoted} WHERE name = %s", values)
        return bytes(found[0][0]) if found else None

    def write(self, name: str, data: bytes) -> None:
        self._insert(name, data, "DO UPDATE SET data = excluded.data, written = excluded.written", again=True)

    def write_new(self, name: str, data: bytes) -> bool:
        return self._insert(name, data, "DO NOTHING", again=False) == 1

    def list(self, folder: str = "") -> tuple[str, ...]:
        start = f"{checked_name(folder.rstrip('/'))}/" if folder else ""
        statement = (
            f"SELECT substr(name, %(length)s) FROM {self._quoted} "
            "WHERE starts_with(name, %(start)s) AND strpos(substr(name, %(length)s), '/') = 0"
        )
        found = self._rows(f"list {folder or 'the top'}", statement, {"start": start, "length": len(start) + 1})
        return blobs_in(folder, [entry for (entry,) in found])

    def delete(self, name: str) -> bool:
        statement, values = f"DELETE FROM {self._quoted} WHERE name = %s RETURNING 1", [checked_name(name)]
        return bool(self._rows(f"delete {name}", statement, values, again=False))

    def is_empty(self) -> bool:
        """Whether neither a table of blobs with something in it nor one of documents is there."""
        if self._rows("look into it", f"SELECT 1 FROM {self._quoted} LIMIT 1"):
            return False
        return not self._database.run("look into it", lambda connection: self._exists(connection, self._documents))

    def close(self) -> None:
        self._database.close()

    def _rows(self, action: str, statement: str, values: Any = (), *, again: bool = True) -> Sequence[tuple[Any, ...]]:
        """What a statement finds; nothing where the table is not there yet."""

        def work(connection: "Connection[Any]") -> Sequence[tuple[Any, ...]]:
            from psycopg import errors

            try:
                return ask(connection, statement.encode(), values).fetchall()
            except errors.UndefinedTable:
                connection.rollback()
                return []

        return self._database.run(action, work, again=again)

    def _insert(self, blob: str, data: bytes, otherwise: str, *, again: bool) -> int:
        checked_name(blob)

        def work(connection: "Connection[Any]") -> int:
            self._make_table(connection)
            statement = f"INSERT INTO {self._quoted} (name, data) VALUES (%s, %b) ON CONFLICT (name) {otherwise}"
            return connection.execute(statement.encode(), [blob, data]).rowcount

        return self._database.run(f"write {blob}", work, again=again)

    def _make_table(self, connection: "Connection[Any]") -> None:
        if self._exists(connection, self._table):
            return
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"deepmemory {self._quoted}"])
        # What was looked up before the lock was had may be out of date, which CREATE itself is not.
        statement = (
            f'CREATE TABLE IF NOT EXISTS {self._quoted} (name text COLLATE "C" PRIMARY KEY, data bytea NOT NULL, '
            "written timestamptz NOT NULL DEFAULT now())"
        )
        connection.execute(statement.encode(), ())

    def _exists(self, connection: "Connection[Any]", table: str) -> bool:
        full = quoted(*([self._schema] if self._schema else []), table).replace("%%", "%")
        found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [full]).fetchone()
        return bool(found and found[0])
