"""Connections to a PostgreSQL database: few, used again, made anew where they broke, and their errors in a sentence."""

import logging
import os
import random
import select
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from deepmemory.backends.pgvector_values import VectorTypes
from deepmemory.errors import CapabilityError, InputError, MissingExtraError, StorageError

if TYPE_CHECKING:
    from psycopg import Connection, Cursor

__all__ = ["Address", "Database", "ask", "ask_each"]

T = TypeVar("T")

_SCHEMES = ("postgresql", "postgres")
_OURS = ("table", "schema", "precision")

_MOST_CONNECTIONS = 16
_MOST_IDLE = 4
_WAIT_FOR_CONNECTION_SECONDS = 60.0
_CONNECT_SECONDS = 10
# A server that restarts is back in a few seconds.
_DELAYS_SECONDS = (0.0, 0.5, 1.0, 2.0, 4.0)
_DEADLOCK_PATIENCE_SECONDS = 60.0
_LONGEST_REASON = 300

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """A ``postgresql://`` address taken apart.

    Attributes:
        conninfo: the address as libpq takes it, without what is ours.
        location: the same without a password, for messages and records.
        table: what ``?table=`` says; None where it says nothing.
        schema: what ``?schema=`` says.
        half: whether ``?precision=half`` is there.
    """

    conninfo: str
    location: str
    table: str | None
    schema: str | None
    half: bool

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Read an address such as ``postgresql://user@host:port/database?table=docs&sslmode=require``.

        Raises:
            InputError: it is none.
            MissingExtraError: the client for PostgreSQL is not installed.
        """
        psycopg = _client()
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        ours = {key: value for key, value in pairs if key in _OURS}
        rest = urlencode([(key, value) for key, value in pairs if key not in _OURS], quote_via=quote)
        conninfo = urlunsplit(("postgresql", parts.netloc, parts.path, rest, ""))
        shown = [(key, value) for key, value in pairs if key != "password"]
        problem = None if parts.scheme in _SCHEMES else f"the scheme is {parts.scheme!r}"
        try:
            psycopg.conninfo.conninfo_to_dict(conninfo)
        except psycopg.ProgrammingError as error:
            problem = str(error).strip()
        if ours.get("precision", "single") not in ("single", "half"):
            problem = f"precision is 'single' or 'half', and not {ours['precision']!r}"
        location = urlunsplit(
            (parts.scheme, _without_password(parts.netloc), parts.path, urlencode(shown, safe="/", quote_via=quote), "")
        )
        if problem:
            raise InputError(
                "expected an address such as postgresql://user@host:5432/database?table=docs; "
                f"found {location}: {problem}"
            )
        half = ours.get("precision") == "half"
        return cls(conninfo, location, ours.get("table") or None, ours.get("schema") or None, half)


def _without_password(netloc: str) -> str:
    user, at, host = netloc.rpartition("@")
    return f"{user.partition(':')[0]}{at}{host}"


def _client() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise MissingExtraError("a store in PostgreSQL", "postgres") from error
    return psycopg


class Database:
    """One database, for several threads; connections are made when they are needed.

    A broken connection is replaced and the work done again, for as long as a server takes to restart: everything that
    is done with one is a transaction, which is there as a whole or not at all.
    """

    def __init__(self, address: Address, *, read_only: bool = False) -> None:
        """Prepare; nothing is connected yet.

        Args:
            address: of the database.
            read_only: have the server refuse every change.
        """
        self.location = address.location
        self._conninfo = address.conninfo
        self._read_only = read_only
        self._psycopg = _client()
        self._idle: list[Connection[Any]] = []
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self._types: VectorTypes | None = None
        self._typed: weakref.WeakSet[Connection[Any]] = weakref.WeakSet()
        self._has_connected = False
        weakref.finalize(self, _close_all, self._idle)

    def run(self, action: str, work: Callable[["Connection[Any]"], T], *, again: bool = True) -> T:
        """Do something in one transaction, which is committed when it returns.

        Args:
            action: what can't be done, as in "can't *search*".
            work: gets a connection; may be called again from the start.
            again: whether it may be done a second time where the connection broke and nobody knows if it was done.

        Raises:
            StorageError: the server can't be reached, or refused.
        """
        started, breaks, deadlocks = time.monotonic(), 0, 0
        while True:
            try:
                with self._connection() as connection:
                    return self._transaction(connection, work)
            except self._psycopg.Error as error:
                if _is_deadlock(self._psycopg, error) and time.monotonic() - started < _DEADLOCK_PATIENCE_SECONDS:
                    deadlocks += 1
                    time.sleep(min(1.0, 0.02 * 2**deadlocks) * random.uniform(0.5, 1.5))
                    continue
                lost = _is_lost(self._psycopg, error)
                if not (lost and again and self._has_connected) or breaks == len(_DELAYS_SECONDS):
                    raise self._error(action, error, lost=lost, again=again) from error
                _log.debug("the connection to %s was lost, and is made again: %s", self.location, error)
                time.sleep(_DELAYS_SECONDS[breaks])
                breaks += 1

    def _transaction(self, connection: "Connection[Any]", work: Callable[["Connection[Any]"], T]) -> T:
        try:
            result = work(connection)
            connection.commit()
        except BaseException:
            if not connection.closed:
                connection.rollback()
            raise
        return result

    def stream(self, action: str, work: Callable[["Connection[Any]"], Iterator[T]]) -> Iterator[T]:
        """Yield what an iterator yields in one transaction; it is begun again only while it has yielded nothing.

        Raises:
            StorageError: as `run`; also where the connection broke after the first was yielded.
        """
        self.run(action, lambda _: None)  # a connection that broke while nobody used it is replaced here
        try:
            with self._connection() as connection:
                yield from work(connection)
                connection.rollback()
        except self._psycopg.Error as error:
            raise self._error(action, error, lost=_is_lost(self._psycopg, error), again=True) from error

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            _close_all(self._idle)

    def vector_types(self) -> VectorTypes | None:
        """What pgvector's types are called here; None where it is not installed."""
        if self._types is None:
            self._types = self.run("look for pgvector", VectorTypes.of)
        return self._types

    def know_vector_types(self, connection: "Connection[Any]") -> VectorTypes | None:
        """Look for the types on a connection that may have installed them, and register them with it."""
        self._types = self._types or VectorTypes.of(connection)
        if self._types is not None and connection not in self._typed:
            self._types.register(connection)
            self._typed.add(connection)
        return self._types

    def need_vector_types(self) -> VectorTypes:
        """The same, where there is nothing without them.

        Raises:
            CapabilityError: pgvector is not installed in the database.
        """
        types = self.vector_types()
        if types is None:
            raise CapabilityError(
                f"{self.location} has no extension pgvector; have it installed with: CREATE EXTENSION vector"
            )
        return types

    @contextmanager
    def _connection(self) -> Iterator["Connection[Any]"]:
        if not self._places.acquire(timeout=_WAIT_FOR_CONNECTION_SECONDS):
            raise StorageError(f"all {_MOST_CONNECTIONS} connections to {self.location} are in use; try again later")
        try:
            connection = self._take() or self._connect()
            try:
                if self._types is not None:
                    self.know_vector_types(connection)
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._places.release()

    def _take(self) -> "Connection[Any] | None":
        with self._lock:
            if self._process != os.getpid():
                # A fork's copies of its parent's connections are not its own: closing one would say goodbye for both.
                self._process, inherited = os.getpid(), self._idle[:]
                self._idle.clear()
                _forgotten.extend(inherited)
            while self._idle:
                connection = self._idle.pop()
                if not _has_ended(connection):
                    return connection
                connection.close()
        return None

    def _connect(self) -> "Connection[Any]":
        connection: Connection[Any] = self._psycopg.connect(
            self._conninfo,
            # Plans are made for the query at hand, and poolers between us and the server need not know statements.
            prepare_threshold=None,
            **self._defaults(),
        )
        connection.read_only = self._read_only or None
        self._has_connected = True
        return connection

    def _defaults(self) -> Mapping[str, Any]:
        given = self._psycopg.conninfo.conninfo_to_dict(self._conninfo)
        defaults = {"connect_timeout": _CONNECT_SECONDS, "fallback_application_name": "deepmemory"}
        return {key: value for key, value in defaults.items() if key not in given}

    def _give_back(self, connection: "Connection[Any]") -> None:
        idle = self._psycopg.pq.TransactionStatus.IDLE
        with self._lock:
            if connection.closed or connection.info.transaction_status != idle or len(self._idle) >= _MOST_IDLE:
                connection.close()
            else:
                self._idle.append(connection)

    def _error(self, action: str, error: Exception, *, lost: bool, again: bool) -> StorageError:
        reason = _reason(error)
        if lost and self._has_connected:
            unsure = "" if again else "; whether it was done is not known: look, or do it again"
            return StorageError(f"can't {action} in {self.location}: the connection was lost ({reason}){unsure}")
        return StorageError(f"can't {action} in {self.location}: {reason}")


_forgotten: list[Any] = []
"""Connections that a fork inherited: never closed, never used."""


def ask(
    connection: "Connection[Any]",
    statement: Any,
    parameters: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    settings: Mapping[str, str] | None = None,
) -> "Cursor[Any]":
    """Run one statement in one round trip, and commit; values come in their binary form.

    Args:
        connection: as `Database.run` gives it.
        statement: a string or a part of ``psycopg.sql``.
        parameters: its values.
        settings: of the server, for this statement alone.
    """
    with connection.pipeline():
        if settings:
            _set(connection, settings)
        cursor = connection.cursor(binary=True)
        cursor.execute(statement, parameters)
        connection.commit()
    return cursor


def ask_each(
    connection: "Connection[Any]",
    statement: Any,
    parameters: Sequence[Mapping[str, Any]],
    *,
    settings: Mapping[str, str] | None = None,
) -> "list[Cursor[Any]]":
    """Run one statement for each of several sets of values, in one round trip."""
    cursors = []
    with connection.pipeline():
        if settings:
            _set(connection, settings)
        for values in parameters:
            cursor = connection.cursor(binary=True)
            cursor.execute(statement, values)
            cursors.append(cursor)
        connection.commit()
    return cursors


def _set(connection: "Connection[Any]", settings: Mapping[str, str]) -> None:
    calls = ", ".join("set_config(%s, %s, true)" for _ in settings)
    connection.execute(f"SELECT {calls}".encode(), [text for pair in settings.items() for text in pair])


def _has_ended(connection: "Connection[Any]") -> bool:
    """Whether the server has closed a connection that nobody uses; asks the operating system, not the server."""
    if connection.closed:
        return True
    # Nothing was asked, so what there is to read is the end, or a notice of it.
    if not hasattr(select, "poll"):
        return bool(select.select([connection.pgconn.socket], [], [], 0)[0])
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))


def _close_all(connections: "list[Connection[Any]]") -> None:
    while connections:
        connections.pop().close()


def _is_lost(psycopg: Any, error: Exception) -> bool:
    """Whether the connection broke, or could not be made for a reason that may pass."""
    if isinstance(error, psycopg.errors.AdminShutdown | psycopg.errors.CrashShutdown | psycopg.errors.CannotConnectNow):
        return True
    # The client's own errors have no code of the server's.
    return isinstance(error, psycopg.OperationalError) and error.sqlstate is None


def _is_deadlock(psycopg: Any, error: Exception) -> bool:
    return isinstance(error, psycopg.errors.DeadlockDetected | psycopg.errors.SerializationFailure)


def _reason(error: Exception) -> str:
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    text = primary or (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."
