"""Connections to Qdrant: to a server, or to the client's own local mode in a folder; and what its errors mean."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deepmemory.backends.engine_address import EngineAddress
from deepmemory.errors import DeepMemoryError, InputError, MissingExtraError, NotAStoreError, StorageError

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

__all__ = ["QdrantConnection", "connect", "is_missing", "qdrant_errors"]

_DATABASE_FILE = "meta.json"
_TIMEOUT_SECONDS = 60
_LONGEST_REASON = 300


class QdrantConnection:
    """A client, shared by all who use the same folder, for in local mode there can be only one.

    Attributes:
        client: Qdrant's.
        lock: held during each call in local mode, which isn't made for threads; None for a server.
    """

    def __init__(self, client: "QdrantClient", folder: Path | None) -> None:
        self.client = client
        self.lock = None if folder is None else threading.RLock()
        self._folder = folder
        self._users = 1

    def close(self) -> None:
        """Let go of it; the last of its users closes it."""
        with _LOCAL_LOCK:
            self._users -= 1
            if self._users:
                return
            if self._folder is not None:
                _LOCAL.pop(self._folder, None)
            self.client.close()

    def shared(self) -> "QdrantConnection":
        """The same, with one more user."""
        self._users += 1
        return self


_LOCAL: dict[Path, QdrantConnection] = {}
_LOCAL_LOCK = threading.Lock()


def connect(address: EngineAddress, *, create: bool, storage_options: Mapping[str, str] | None) -> QdrantConnection:
    """Open the database at an address.

    Args:
        address: of a server or a folder.
        create: whether a database may be made in the folder.
        storage_options: may hold the server's ``token`` (its API key); otherwise ``QDRANT_TOKEN`` or
            ``QDRANT_API_KEY`` does.

    Raises:
        MissingExtraError: qdrant-client is not installed.
        InputError: the address asks for what is not known.
        NotAStoreError: there is no database in the folder and none is to be made, or something else is there.
        StorageError: the server can't be reached, or another process has the folder open.
    """
    try:
        from qdrant_client import QdrantClient
    except ImportError as error:
        raise MissingExtraError("a collection in Qdrant", "qdrant") from error
    if address.options:
        raise InputError(f"a Qdrant address has nothing after a question mark; found {', '.join(address.options)}")
    with qdrant_errors("open", address.place):
        if address.folder is not None:
            return _local(address.folder, create=create)
        client = QdrantClient(
            host=address.host,
            port=address.port,
            https=address.tls,
            api_key=address.token(storage_options, "QDRANT_API_KEY"),
            timeout=_TIMEOUT_SECONDS,
            check_compatibility=False,  # it would be a warning on stderr; what fails says so itself
        )
        try:
            client.get_collections()
        except BaseException:
            client.close()
            raise
        return QdrantConnection(client, None)


def _local(folder: Path, *, create: bool) -> QdrantConnection:
    from qdrant_client import QdrantClient

    with _LOCAL_LOCK:
        known = _LOCAL.get(folder)
        if known is not None:
            return known.shared()
        _check_folder(folder, create=create)
        made = QdrantConnection(QdrantClient(path=str(folder), force_disable_check_same_thread=True), folder)
        _LOCAL[folder] = made
        return made


def _check_folder(folder: Path, *, create: bool) -> None:
    if (folder / _DATABASE_FILE).is_file():
        return
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise NotAStoreError(f"{folder} has something else in it and no Qdrant database; choose an empty or new folder")
    if not create:
        raise NotAStoreError(f"expected a Qdrant database, with its file {_DATABASE_FILE}, in {folder}; found none")


def is_missing(error: Exception, collection: str) -> bool:
    """Whether a collection is not there, or not there any more."""
    from qdrant_client.http.exceptions import UnexpectedResponse

    if isinstance(error, UnexpectedResponse):
        return error.status_code == 404
    return isinstance(error, ValueError) and str(error) == f"Collection {collection} not found"


@contextmanager
def qdrant_errors(action: str, location: str) -> Iterator[None]:
    """Turn what Qdrant and its client raise into a `StorageError` of one sentence: can't ``action`` in the location."""
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ApiException

    try:
        yield
    except DeepMemoryError:
        raise
    except (ApiException, QdrantException, OSError, RuntimeError, ValueError) as error:
        raise StorageError(f"can't {action} in {location}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    if isinstance(error, ResponseHandlingException):
        return "the server does not answer; see that it runs and that the address is right"
    if isinstance(error, UnexpectedResponse):
        said = error.content.decode(errors="replace")[:_LONGEST_REASON]
        return f"the server answered {error.status_code}: {said}"
    if "already accessed" in str(error):
        return "another process has the folder open, and Qdrant's local mode is for one process; run a server for more"
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first_line if len(first_line) <= _LONGEST_REASON else first_line[:_LONGEST_REASON] + "..."
