"""Chroma's client: of a server, or of a database in this process; and what its errors mean."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deepmemory.backends.engine_address import EngineAddress
from deepmemory.errors import DeepMemoryError, InputError, MissingExtraError, NotAStoreError, StorageError

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection as ChromaCollectionHandle

__all__ = ["chroma_errors", "connect", "disconnect", "is_missing", "open_collection"]

_DATABASE_FILE = "chroma.sqlite3"
_OPTIONS = ("tenant", "database")
_LONGEST_REASON = 300


def connect(
    address: EngineAddress, *, create: bool, namespace: str | None, storage_options: Mapping[str, str] | None
) -> "ClientAPI":
    """Open the database at an address.

    Args:
        address: of a server or a folder.
        create: whether a database may be made in the folder.
        namespace: the database within the tenant; None for the one that the address names, or Chroma's default.
        storage_options: may hold the server's ``token``; otherwise ``CHROMA_TOKEN`` or ``CHROMA_API_KEY`` does.

    Raises:
        MissingExtraError: chromadb is not installed.
        InputError: the address asks for what is not known.
        NotAStoreError: there is no database in the folder and none is to be made, or something else is there.
        StorageError: the server can't be reached, or the database not be opened.
    """
    # Read by every client's settings, so that a client that the program has for the same folder can be shared.
    os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")
    try:
        import chromadb
        from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT
    except ImportError as error:
        raise MissingExtraError("a collection in Chroma", "chroma") from error
    unknown = sorted(set(address.options) - set(_OPTIONS))
    if unknown:
        raise InputError(f"a Chroma address takes ?tenant= and database=; found {', '.join(unknown)}")
    tenant = address.options.get("tenant", DEFAULT_TENANT)
    database = namespace or address.options.get("database", DEFAULT_DATABASE)
    with chroma_errors("open", address.place):
        if address.folder is not None:
            _check_folder(address, create=create)
            return _embedded(str(address.folder), tenant, database)
        token = address.token(storage_options, "CHROMA_API_KEY")
        return chromadb.HttpClient(
            address.host or "",
            address.port,
            ssl=address.tls,
            headers={"x-chroma-token": token, "authorization": f"Bearer {token}"} if token else None,
            tenant=tenant,
            database=database,
        )


def _check_folder(address: EngineAddress, *, create: bool) -> None:
    folder = address.folder
    assert folder is not None
    if (folder / _DATABASE_FILE).is_file():
        return
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise NotAStoreError(f"{folder} has something else in it and no Chroma database; choose an empty or new folder")
    if not create:
        raise NotAStoreError(f"expected a Chroma database, with its file {_DATABASE_FILE}, in {folder}; found none")
    folder.mkdir(parents=True, exist_ok=True)


def _embedded(folder: str, tenant: str, database: str) -> "ClientAPI":
    import chromadb
    from chromadb.config import Settings

    try:
        return chromadb.PersistentClient(folder, tenant=tenant, database=database)
    except ValueError as error:
        if "different settings" not in str(error):
            raise
        # The program opened the folder before telemetry was switched off; one process has one client of a folder.
        settings = Settings(anonymized_telemetry=True)
        return chromadb.PersistentClient(folder, settings, tenant=tenant, database=database)


def disconnect(client: "ClientAPI") -> None:
    """Close a client, and its two sets of connections to a server, which Chroma's own `close` leaves open."""
    parts = (client, getattr(client, "_admin_client", None))
    sessions = [getattr(getattr(part, "_server", None), "_session", None) for part in parts]
    client.close()  # type: ignore[attr-defined]
    for session in sessions:
        if session is not None:
            session.close()


def open_collection(client: "ClientAPI", name: str) -> "ChromaCollectionHandle | None":
    """A collection by name, with nothing that could embed; None where there is none."""
    try:
        return client.get_collection(name, embedding_function=None)
    except Exception as error:
        if is_missing(error):
            return None
        raise


def is_missing(error: Exception) -> bool:
    """Whether a collection is not there, or not there any more."""
    from chromadb.errors import NotFoundError

    return isinstance(error, NotFoundError) and "ollection" in str(error)


@contextmanager
def chroma_errors(action: str, location: str) -> Iterator[None]:
    """Turn what Chroma and its client raise into a `StorageError` of one sentence: can't ``action`` in the location."""
    import httpx
    from chromadb.errors import ChromaError

    try:
        yield
    except DeepMemoryError:
        raise
    except (ChromaError, httpx.HTTPError, OSError) as error:
        raise StorageError(f"can't {action} in {location}: {_reason(error)}") from error
    except ValueError as error:
        # What the client says itself: a server that doesn't answer, or answers with something else.
        raise StorageError(f"can't {action} in {location}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    import httpx

    if isinstance(error, httpx.TransportError) or "Could not connect" in str(error):
        return "the server does not answer; see that it runs and that the address is right"
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first_line if len(first_line) <= _LONGEST_REASON else first_line[:_LONGEST_REASON] + "..."
