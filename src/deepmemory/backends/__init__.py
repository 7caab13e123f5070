"""Where documents and their vectors live."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

from deepmemory.backends.base import Backend, Capabilities, Distance, Filter, Ranking
from deepmemory.backends.engine_address import ENGINE_SCHEMES, is_engine_url
from deepmemory.errors import InputError, NotAStoreError, StorageError

__all__ = ["Backend", "Capabilities", "Distance", "Filter", "Ranking", "open_backend"]

_OBJECT_SCHEMES = ("s3", "gs", "az")
_POSTGRES_SCHEMES = ("postgresql", "postgres")


def open_backend(
    path: str | Path,
    *,
    create: bool,
    read_only: bool = False,
    storage_options: Mapping[str, str] | None = None,
    distance: Distance = "cosine",
) -> Backend:
    """Open the documents of the store at a path.

    Args:
        path: a folder, ``file://...`` or ``s3://bucket/prefix`` (also ``gs://`` and ``az://``) for LanceDB;
            ``postgresql://user@host:port/database?table=docs`` for a table of PostgreSQL with pgvector;
            ``chroma://host:port/collection``, ``qdrant://...`` or ``milvus://...`` for a collection of a vector
            database, with three slashes for one in a folder; ``memory://`` for documents that end with the process.
        create: make the folder where there is none. Documents are written at the first `Backend.upsert` only.
        read_only: refuse every change.
        storage_options: credentials, region and endpoint of an object store, by the names that LanceDB takes; what
            is absent is taken from the usual environment variables. For a vector database, its ``token``.
        distance: what the index of a new collection in a vector database is made for; any is answered, the other
            one by comparing all vectors.

    Raises:
        InputError: the path is of no kind that is known, or can't be read-only.
        NotAStoreError: there is no folder and none is to be made, or something else is there.
        StorageError: the folder can't be made, or the engine can't open it.
        MissingExtraError: the client for a database is not installed.
    """
    text = str(path)
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "memory":
        return _in_memory(read_only=read_only)
    if is_engine_url(text):
        engine = import_module(f"deepmemory.backends.{ENGINE_SCHEMES[scheme.lower()]}")
        backend: Backend = engine.open_store(
            text, create=create, read_only=read_only, distance=distance, storage_options=storage_options
        )
        return backend
    if separator and scheme in _POSTGRES_SCHEMES:
        from deepmemory.backends.pgvector import PgvectorBackend

        return PgvectorBackend(text, read_only=read_only)
    if separator and scheme in _OBJECT_SCHEMES and rest.strip("/"):
        location = text.rstrip("/")
    elif not separator or scheme == "file":
        location = str(_folder(unquote(urlsplit(text).path) if separator else text, create=create and not read_only))
    else:
        raise InputError(
            "a store is a folder, memory://, an object store such as s3://bucket/prefix, a table such as "
            "postgresql://user@host/database?table=docs, or a collection such as chroma://host:port/docs; "
            f"{text!r} is none of them"
        )

    from deepmemory.backends.lance import LanceBackend

    return LanceBackend(location, read_only=read_only, storage_options=storage_options)


def _in_memory(*, read_only: bool) -> Backend:
    from deepmemory.backends.exact import ExactBackend

    if read_only:
        raise InputError("a store in memory starts empty, so it can't be opened for reading only")
    return ExactBackend()


def _folder(path: str, *, create: bool) -> Path:
    folder = Path(path).absolute()
    if create:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise NotAStoreError(f"{path} can't be a store: there is a file where a folder belongs") from error
        except OSError as error:
            raise StorageError(f"can't make the folder {path}: {error.strerror or error}") from error
    elif not folder.is_dir():
        kind = "a file" if folder.exists() else "nothing"
        raise NotAStoreError(f"expected the folder of a store at {path}; found {kind}")
    return folder
