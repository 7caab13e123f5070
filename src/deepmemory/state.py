"""What a store keeps beside its vectors, as named blobs: its record, saved layers, jobs and history.

Four places can hold them: a folder, an object store (S3 and its like), a database (`deepmemory.state_postgres`), or
memory. Each write is whole or not there at all, on every one of them, so that a crash or a full disk leaves what was
there before.
"""
# ruff: noqa: D102  State documents the methods of its three kinds

import contextlib
import os
import re
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from deepmemory.backends.engine_address import is_engine_url, state_folder
from deepmemory.errors import InputError, MissingExtraError, StorageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = [
    "FolderState",
    "MemoryState",
    "ObjectState",
    "State",
    "blobs_in",
    "checked_name",
    "open_state",
    "replace_file",
]

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_LONGEST_NAME = 200
_OBJECT_SCHEMES = ("s3", "gs", "az")
_POSTGRES_SCHEMES = ("postgresql", "postgres")
_LOCK_WAIT_SECONDS = 60.0


class State(ABC):
    """Named blobs; every method may be called from several threads and processes.

    A name is one or more segments of ASCII letters, digits, ``_``, ``-`` and ``.`` joined by ``/``; a segment
    doesn't begin with a dot. Names can therefore not leave the place, and dotted files in it are not blobs.

    Attributes:
        location: where the blobs are, for messages.
        poll_seconds: how old an answer may be before it is asked again, for those who watch a blob for changes;
            0 where asking costs microseconds.
    """

    location: str
    poll_seconds: float = 0.0

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The blob's content; None where there is no such blob."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Create or replace a blob; on return it is durable, and at no moment is it half-written.

        Raises:
            StorageError: it could not be written; the blob is as it was before.
        """

    @abstractmethod
    def write_new(self, name: str, data: bytes) -> bool:
        """Create a blob unless there is one; of several writers at once exactly one succeeds.

        Returns:
            whether it was created.
        """

    @abstractmethod
    def list(self, folder: str = "") -> tuple[str, ...]:
        """The names of the blobs directly in a folder (such as ``"jobs"``; ``""`` is the top), in order."""

    @abstractmethod
    def delete(self, name: str) -> bool:
        """Delete a blob; return whether there was one."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether nothing at all is at the location, blob or other."""


def open_state(path: str | os.PathLike[str], *, storage_options: Mapping[str, str] | None = None) -> State:
    """Open the blobs at a path, creating nothing until the first write.

    Args:
        path: a folder, ``file://...``, ``memory://``, ``s3://bucket/prefix`` (also ``gs://`` and ``az://``), or
            ``postgresql://...?table=docs``; for a collection of a vector database (``chroma://...``), the folder of
            ours that belongs to it.
        storage_options: credentials, region and endpoint of an object store, by the names that LanceDB takes;
            what is absent is taken from the usual environment variables.

    Raises:
        InputError: the scheme is unknown.
        MissingExtraError: an object store or a database was asked for and its client is not installed.
    """
    text = os.fspath(path)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return FolderState(text)
    if scheme == "file":
        return FolderState(unquote(urlsplit(text).path))
    if scheme == "memory":
        return MemoryState()
    if is_engine_url(text):
        return FolderState(state_folder(text))
    if scheme in _OBJECT_SCHEMES and rest.strip("/"):
        return ObjectState(text, storage_options=storage_options)
    if scheme in _POSTGRES_SCHEMES:
        from deepmemory.state_postgres import PostgresState

        return PostgresState(text)
    raise InputError(
        "a store is a folder, memory://, an object store such as s3://bucket/prefix, a table such as "
        "postgresql://user@host/database?table=docs, or a collection such as chroma://host:port/docs; "
        f"{text!r} is none of them"
    )


def checked_name(name: str) -> str:
    """The name itself, when it is one that every place can hold."""
    segments = name.split("/")
    if len(name) > _LONGEST_NAME or not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise InputError(
            f"a blob's name is letters, digits, '_', '-' and '.' in segments joined by '/', {_LONGEST_NAME} characters "
            f"at most; found {name!r}"
        )
    return name


def blobs_in(folder: str, entries: Sequence[str]) -> tuple[str, ...]:
    """The full names of those entries of a folder that are blobs."""
    start = f"{checked_name(folder.rstrip('/'))}/" if folder else ""
    return tuple(start + entry for entry in sorted(entries) if _SEGMENT.fullmatch(entry))


class FolderState(State):
    """Blobs as files in a folder, which is made at the first write.

    A file is written beside its target, flushed to the disk and renamed over it, then the folder is flushed.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        # Absolute, for a program may change its working directory while the store is open.
        self.root = Path(root).absolute()
        self.location = os.fspath(root)

    def read(self, name: str) -> bytes | None:
        path = self.root / checked_name(name)
        with _failures(f"read {path}"):
            try:
                return path.read_bytes()
            except (FileNotFoundError, IsADirectoryError):
                return None

    def write(self, name: str, data: bytes) -> None:
        replace_file(self.root / checked_name(name), data)

    def write_new(self, name: str, data: bytes) -> bool:
        # A hard link would need no lock, but exFAT, SMB and many FUSE folders have none.
        import filelock

        target = self.root / checked_name(name)
        with _failures(f"write {target}"):
            _make_folders(target.parent)
            lock = filelock.FileLock(self.root / ".lock", timeout=_LOCK_WAIT_SECONDS, mode=0o666)
            try:
                with lock:
                    if target.exists():
                        return False
                    replace_file(target, data)
                    return True
            except filelock.Timeout as error:
                raise StorageError(
                    f"can't write {target}: another process has held {lock.lock_file} for "
                    f"{_LOCK_WAIT_SECONDS:.0f} seconds; end it and try again"
                ) from error

    def list(self, folder: str = "") -> tuple[str, ...]:
        path = self.root / checked_name(folder.rstrip("/")) if folder else self.root
        with _failures(f"list {path}"):
            try:
                with os.scandir(path) as entries:
                    files = [entry.name for entry in entries if entry.is_file()]
            except FileNotFoundError:
                return ()
        return blobs_in(folder, files)

    def delete(self, name: str) -> bool:
        path = self.root / checked_name(name)
        with _failures(f"delete {path}"):
            try:
                path.unlink()
            except FileNotFoundError:
                return False
            _flush_folder(path.parent)
        return True

    def is_empty(self) -> bool:
        with _failures(f"list {self.root}"):
            try:
                with os.scandir(self.root) as entries:
                    # What a killed writer leaves is ours: it doesn't make the folder somebody else's.
                    return all(entry.name == ".lock" or entry.name.startswith(".tmp-") for entry in entries)
            except FileNotFoundError:
                return True


def replace_file(path: Path, data: bytes) -> None:
    """Create or replace a file durably; it is never half-written, and its folder is made where it is missing.

    Raises:
        StorageError: it could not be written; the file is as it was before.
    """
    with _failures(f"write {path}"), _flushed_beside(path, data) as temporary:
        temporary.replace(path)


@contextlib.contextmanager
def _failures(action: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"can't {action}: {reason}; what was there before is unchanged") from error


@contextlib.contextmanager
def _flushed_beside(target: Path, data: bytes) -> Iterator[Path]:
    """Write the data to a file beside the target, on the disk when it is yielded; the caller renames it."""
    _make_folders(target.parent)
    temporary = target.parent / f".tmp-{uuid.uuid4().hex}"
    try:
        # 0o666 less the user's umask: a store may be shared, and mkstemp's 0o600 would forbid it.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(target.parent)


def _make_folders(folder: Path) -> None:
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _flush_folder(made.parent)


def _flush_folder(folder: Path) -> None:
    """Make a rename or deletion in a folder durable, where the system lets a folder be flushed."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class MemoryState(State):
    """Blobs in this process's memory; they end with it."""

    location = "memory://"

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def read(self, name: str) -> bytes | None:
        return self._blobs.get(checked_name(name))

    def write(self, name: str, data: bytes) -> None:
        with self._lock:
            self._blobs[checked_name(name)] = bytes(data)

    def write_new(self, name: str, data: bytes) -> bool:
        with self._lock:
            if checked_name(name) in self._blobs:
                return False
            self._blobs[name] = bytes(data)
            return True

    def list(self, folder: str = "") -> tuple[str, ...]:
        start = f"{folder.rstrip('/')}/" if folder else ""
        with self._lock:
            inside = [name[len(start) :] for name in self._blobs if name.startswith(start)]
        return blobs_in(folder, [entry for entry in inside if "/" not in entry])

    def delete(self, name: str) -> bool:
        with self._lock:
            return self._blobs.pop(checked_name(name), None) is not None

    def is_empty(self) -> bool:
        return not self._blobs


class ObjectState(State):
    """Blobs as objects under a prefix of a bucket; the service's own put is atomic, and conditional where asked.

    The client is the one that LanceDB is built on, so both take the same options and environment variables.
    """

    poll_seconds = 5.0

    def __init__(self, url: str, *, storage_options: Mapping[str, str] | None = None) -> None:
        self.location = url.rstrip("/")
        self._store = _object_store(self.location, dict(storage_options or {}))

    def read(self, name: str) -> bytes | None:
        with self._failures(f"read {name}"):
            try:
                return bytes(self._store.get(checked_name(name)).bytes())
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        with self._failures(f"write {name}"):
            self._store.put(checked_name(name), data, mode="overwrite", use_multipart=False)

    def write_new(self, name: str, data: bytes) -> bool:
        from obstore.exceptions import AlreadyExistsError

        with self._failures(f"write {name}"):
            try:
                self._store.put(checked_name(name), data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True

    def list(self, folder: str = "") -> tuple[str, ...]:
        prefix = checked_name(folder.rstrip("/")) if folder else None
        with self._failures(f"list {folder or 'the top'}"):
            objects = self._store.list_with_delimiter(prefix)["objects"]
        return blobs_in(folder, [entry["path"].rpartition("/")[2] for entry in objects])

    def delete(self, name: str) -> bool:
        with self._failures(f"delete {name}"):
            try:
                self._store.head(checked_name(name))
            except FileNotFoundError:
                return False
            self._store.delete(name)
        return True

    def is_empty(self) -> bool:
        with self._failures("list it"):
            return not any(self._store.list(chunk_size=1))

    @contextlib.contextmanager
    def _failures(self, action: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise StorageError(f"{self.location}: can't {action}: {_first_line(error)}") from error


def _object_store(url: str, options: dict[str, str]) -> "ObjectStore":
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise MissingExtraError("a store in a bucket", "s3") from error
    # LanceDB takes this one among its storage options; here it belongs to the HTTP client.
    plain_http = options.pop("allow_http", os.environ.get("AWS_ALLOW_HTTP", "false"))
    client_options: dict[str, Any] = {"allow_http": True} if plain_http.lower() in {"true", "1"} else {}
    try:
        store: ObjectStore = from_url(url, config=options, client_options=client_options)  # type: ignore[call-overload]
    except (BaseError, OSError, ValueError) as error:
        raise StorageError(f"{url} can't be opened: {_first_line(error)}") from error
    return store


def _first_line(error: Exception) -> str:
    """The client's reason without the headers and replies that follow it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
