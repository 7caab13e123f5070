"""Which engine a collection that others made is kept by, and how it is asked for: the table of URL schemes."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import unquote

from deepmemory.backends.base import Backend, Distance
from deepmemory.backends.layout import Layout
from deepmemory.errors import InputError

__all__ = ["ADDRESSES", "Asked", "Engine", "engine_of"]

_ROOM = "deepmemory.backends"

_DEEP_LAKE_LOG = "_deeplake_log"
"""What is in the folder of every dataset of Deep Lake 4."""

_MODULES = {
    "postgresql": "pgvector",
    "postgres": "pgvector",
    "chroma": "chroma",
    "chromas": "chroma",
    "qdrant": "qdrant",
    "qdrants": "qdrant",
    "milvus": "milvus",
    "milvuss": "milvus",
    "deeplake": "deeplake",
    "s3": "lance_attached",
    "gs": "lance_attached",
    "az": "lance_attached",
}

ADDRESSES = tuple(_MODULES)
"""How addresses of databases begin, before ``://``; a folder is LanceDB's or Deep Lake's."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user said about a collection; what is None is to be found out.

    Attributes:
        collection: the table, collection or dataset.
        id: what tells its documents apart.
        text: what is shown.
        vector: the embedding.
        metadata: what becomes metadata; None for all that is left and can.
        metadata_json: what holds a JSON object of metadata.
        namespace: a schema or database within the one that the address names.
        distance: how the vectors are compared.
        storage_options: credentials, region and endpoint of an object store.
    """

    collection: str
    id: str | None = None
    text: str | None = None
    vector: str | None = None
    metadata: tuple[str, ...] | None = None
    metadata_json: str | None = None
    namespace: str | None = None
    distance: Distance | None = None
    storage_options: Mapping[str, str] | None = None


class Engine(Protocol):
    """A module that attaches to collections of one kind of database."""

    def recognise(self, url: str, asked: Asked) -> Layout:
        """Look at a collection and tell its layout; nothing is created, altered or indexed.

        Raises:
            InputError: what was asked for isn't there; all problems at once.
            CapabilityError: such a collection can't be attached to.
            StorageError: the engine can't be reached.
            MissingExtraError: its client is not installed.
        """

    def open_attached(
        self, url: str, layout: Layout, *, read_only: bool, storage_options: Mapping[str, str] | None
    ) -> Backend:
        """Open a collection whose layout is known.

        Raises:
            StorageError: the engine can't be reached.
            MissingExtraError: its client is not installed.
        """


def engine_of(url: str) -> Engine:
    """The engine that keeps what an address names.

    Raises:
        InputError: no engine has such addresses.
    """
    scheme, separator, rest = url.partition("://")
    name = _MODULES.get(scheme.lower()) if separator and rest else None
    if not separator or scheme.lower() == "file":
        folder = Path(unquote(rest) if separator else url).expanduser()
        name = "deeplake" if (folder / _DEEP_LAKE_LOG).is_dir() else "lance_attached"
    if name is None:
        raise InputError(
            f"deepmemory.attach knows folders and addresses that begin with {', '.join(f'{s}://' for s in ADDRESSES)}; "
            f"found {scheme}://"
        )
    return cast("Engine", import_module(f"{_ROOM}.{name}"))
