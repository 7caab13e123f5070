"""Connections to Milvus: to a server, or to milvus-lite in a file; and what its errors mean."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from deepmemory.backends.engine_address import EngineAddress
from deepmemory.errors import DeepMemoryError, InputError, MissingExtraError, NotAStoreError, StorageError

if TYPE_CHECKING:
    from pymilvus import MilvusClient

__all__ = ["connect", "is_missing", "milvus_errors"]

_TIMEOUT_SECONDS = 10.0
_LONGEST_REASON = 300
_OPTIONS = ("database",)


def connect(
    address: EngineAddress, *, create: bool, namespace: str | None, storage_options: Mapping[str, str] | None
) -> "MilvusClient":
    """Open the database at an address.

    Args:
        address: of a server or a file.
        create: whether the file may be made.
        namespace: the database on the server; None for the one that the address names, or the default.
        storage_options: may hold the server's ``token`` (``user:password``, or an API key); otherwise
            ``MILVUS_TOKEN`` does.

    Raises:
        MissingExtraError: pymilvus or milvus-lite is not installed.
        InputError: the address asks for what is not known.
        NotAStoreError: there is no database in the file and none is to be made, or something else is there.
        StorageError: the server can't be reached, or the file not be opened.
    """
    try:
        import milvus_lite  # noqa: F401  what pymilvus opens a file with
        from pymilvus import MilvusClient
    except ImportError as error:
        raise MissingExtraError("a collection in Milvus", "milvus") from error
    unknown = sorted(set(address.options) - set(_OPTIONS))
    if unknown:
        raise InputError(f"a Milvus address takes ?database=; found {', '.join(unknown)}")
    # It logs each failed call with a traceback, on top of what is raised and handled here.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    more: dict[str, Any] = {"db_name": namespace or address.options.get("database", "")}
    if address.folder is None:
        place = f"http{'s' if address.tls else ''}://{address.host}:{address.port}"
        more["token"] = address.token(storage_options) or ""
        more["timeout"] = _TIMEOUT_SECONDS
    else:
        place = str(address.folder)
        _check_file(address, create=create)
    with milvus_errors("open", address.place):
        return MilvusClient(place, **more)


def _check_file(address: EngineAddress, *, create: bool) -> None:
    file = address.folder
    assert file is not None
    if file.suffix != ".db":
        raise InputError(
            f"milvus-lite keeps a database in a file whose name ends in .db, such as "
            f"milvus:///folder/vectors.db/collection; found {file}"
        )
    if file.exists():
        return
    if not create:
        raise NotAStoreError(f"expected a database of milvus-lite at {file}; found none")
    file.parent.mkdir(parents=True, exist_ok=True)


def is_missing(error: Exception) -> bool:
    """Whether a collection is not there, or not there any more."""
    from pymilvus.exceptions import MilvusException

    text = str(error)
    missing = "does not exist" in text or "can't find collection" in text or "collection not found" in text
    return isinstance(error, MilvusException) and missing and "ollection" in text


@contextmanager
def milvus_errors(action: str, location: str) -> Iterator[None]:
    """Turn what Milvus and its client raise into a `StorageError` of one sentence: can't ``action`` in the location."""
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except DeepMemoryError:
        raise
    except (MilvusException, grpc.RpcError, OSError, RuntimeError, ValueError) as error:
        raise StorageError(f"can't {action} in {location}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = str(getattr(error, "message", "") or error)
    if any(sign in text for sign in ("Fail connecting", "server unavailable", "UNAVAILABLE", "closed channel")):
        return "the server does not answer; see that it runs and that the address is right"
    first_line = (text.strip().splitlines() or [type(error).__name__])[0]
    return first_line if len(first_line) <= _LONGEST_REASON else first_line[:_LONGEST_REASON] + "..."
