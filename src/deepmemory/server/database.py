"""The hub's database: a file in its folder for one process, or PostgreSQL for several servers and workers.

PostgreSQL holds two schemas of ours: `deepmemory_hub` with organisations, tokens and the names of datasets, and
`deepmemory_workflows` with the engine's tables. Nothing else of the database is looked at.
"""

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from deepmemory.errors import InputError, NewerFormatError, StorageError
from deepmemory.server import tables

if TYPE_CHECKING:
    from dbos import DBOSConfig

__all__ = ["WORKFLOWS_SCHEMA", "DatabaseError", "HubDatabase", "database_failures"]

SCHEMA = "deepmemory_hub"
WORKFLOWS_SCHEMA = "deepmemory_workflows"

_DRIVER = "postgresql+psycopg"
_SCHEMES = ("postgresql", "postgres")
_WAIT_SECONDS = 30
_CONNECTIONS = 16
_SILENT_MILLISECONDS = 300_000
# Found out soon when the other side is gone; no prepared statements, which poolers such as PgBouncer mix up.
_CONNECT: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "deepmemory-hub",
    "prepare_threshold": None,
}
_SETUP_LOCK = int.from_bytes(b"deepmemo", "big", signed=True)


class DatabaseError(StorageError):
    """The hub's database doesn't answer, or refuses; what it said is for the hub's log alone."""


class HubDatabase:
    """Where a hub keeps names, tokens and the state of trainings.

    Attributes:
        url: of PostgreSQL; None for files in the hub's folder.
    """

    def __init__(self, folder: Path | None, url: str | None = None) -> None:
        """Name the database; nothing is opened.

        Args:
            folder: of the hub, where the files are if no URL is given.
            url: ``postgresql://...``, as libpq takes it; passwords are better in ``PGPASSWORD`` or ``~/.pgpass``.

        Raises:
            InputError: it can't be the URL of a PostgreSQL database.
        """
        self.url = None if url is None else _checked(url)
        self._folder = folder

    @property
    def is_shared(self) -> bool:
        """Whether several processes may work with it."""
        return self.url is not None

    @property
    def file(self) -> Path:
        """The file that has names and tokens, where there is one."""
        assert self._folder is not None
        return self._folder / "hub.sqlite"

    @property
    def shown(self) -> str:
        """What to call it in messages: without a password."""
        return (
            self.file.name
            if self.url is None
            else self.url.set(drivername="postgresql", password=None).render_as_string()
        )

    def workflows(self) -> "DBOSConfig":
        """Where the workflow engine keeps its state, as its configuration says it."""
        if self.url is None:
            assert self._folder is not None
            return {"system_database_url": f"sqlite:///{self._folder / 'workflows.sqlite'}"}
        return {
            "system_database_url": self.url.set(drivername="postgresql").render_as_string(hide_password=False),
            "dbos_system_schema": WORKFLOWS_SCHEMA,
            # A listener would hold a connection, which poolers can't give; nothing here waits for notifications.
            "use_listen_notify": False,
            "sys_db_pool_size": 6,
            "db_engine_kwargs": {"pool_pre_ping": True, "connect_args": self._connect()},
        }

    def open(self) -> sa.Engine:
        """Connect, with the tables that the database lacks; several processes may do it at once.

        Raises:
            DatabaseError: it can't be reached or written.
            NewerFormatError: a newer version made its tables.
        """
        with database_failures(self.shown):
            if self.url is None:
                engine = _open_file(self.file)
                with engine.begin() as connection:
                    _prepare(connection, None)
                return engine
            engine = sa.create_engine(
                self.url,
                pool_size=_CONNECTIONS // 2,
                max_overflow=_CONNECTIONS // 2,
                pool_timeout=_WAIT_SECONDS,
                pool_pre_ping=True,
                connect_args=self._connect(),
                execution_options={"schema_translate_map": {None: SCHEMA}},
            )
            sa.event.listen(engine, "connect", _limit_silence)
            try:
                with engine.begin() as connection:
                    lock_setup(connection)
                    if not sa.inspect(connection).has_schema(SCHEMA):
                        connection.execute(sa.schema.CreateSchema(SCHEMA))
                    _prepare(connection, SCHEMA)
            except BaseException:
                engine.dispose()
                raise
            return engine

    def _connect(self) -> dict[str, Any]:
        """What is passed on connecting, but for what the URL says otherwise."""
        assert self.url is not None
        return {name: value for name, value in _CONNECT.items() if name not in self.url.query}


def lock_setup(connection: sa.Connection) -> None:
    """Let one process at a time set up or look over what all share, until its transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SETUP_LOCK)))


@contextmanager
def database_failures(shown: str = "") -> Iterator[None]:
    """Say in one sentence what a database refused.

    Raises:
        DatabaseError: instead of what the driver raises, but for a constraint that a caller expects.
    """
    try:
        yield
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        where = f" {shown}" if shown else ""
        raise DatabaseError(f"the hub's database{where} failed: {reason}") from error


def _limit_silence(connection: Any, _: Any) -> None:
    """Have the database end a session that is silent within a transaction: its process is frozen or cut off.

    It would hold its locks for as long as the machine's network takes to find that out, two hours by default.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = {_SILENT_MILLISECONDS}")
    connection.commit()


def _prepare(connection: sa.Connection, schema: str | None) -> None:
    tables.metadata.create_all(connection)
    tables.upgrade(connection, schema)
    found = connection.execute(sa.select(tables.hub.c.version)).scalar()
    if found is None:
        connection.execute(sa.insert(tables.hub).values(id=uuid.uuid4().hex, version=tables.SCHEMA_VERSION))
    elif found > tables.SCHEMA_VERSION:
        raise NewerFormatError(
            f"the hub's database was made by a newer Deep Memory (version {found}; this one reads up to "
            f"{tables.SCHEMA_VERSION}); upgrade with: pip install --upgrade 'deepmemory[server]'"
        )
    elif found < tables.SCHEMA_VERSION:
        connection.execute(sa.update(tables.hub).values(version=tables.SCHEMA_VERSION))


def _open_file(path: Path) -> sa.Engine:
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": _WAIT_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        # Readers never wait for a writer; what was committed is on the disk.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    return engine


def _checked(url: str) -> sa.URL:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise InputError(
            "--database names a PostgreSQL database, such as postgresql://hub@db.example.com/hub; "
            f"found {_without_password(url)!r}"
        )
    try:
        parsed = sa.make_url(url).set(drivername=_DRIVER)
    except (SQLAlchemyError, ValueError) as error:
        raise InputError(
            f"--database is no URL that can be read ({_without_password(url)!r}); characters such as '@' and '/' in "
            "a password are written %40 and %2F"
        ) from error
    if not parsed.database and "PGDATABASE" not in os.environ:
        raise InputError(f"--database names no database: add its name, as in {_without_password(url).rstrip('/')}/hub")
    return parsed


def _without_password(url: str) -> str:
    return re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url)
