"""Open the store that a command is about."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from deepmemory.cli.output import shell_word
from deepmemory.errors import NotAStoreError
from deepmemory.executors import ENGINE_VARIABLE

if TYPE_CHECKING:
    from deepmemory.store import VectorStore

__all__ = ["engine_for", "known_ids", "open_store"]

_LOOKED_UP_AT_ONCE = 1_000


def open_store(path: str, *, read_only: bool = False, engine: str | None = None) -> "VectorStore":
    """The store at a path, which must be there.

    Raises:
        NotAStoreError: it isn't; the message says how to make one.
    """
    from deepmemory.store import VectorStore

    try:
        return VectorStore(path, create=False, read_only=read_only, engine=engine_for(path, engine))
    except NotAStoreError as error:
        # On a hub, a name that is not there is made by the same command.
        if not os.path.exists(path):  # noqa: PTH110  Path.exists raises where a name is too long
            error.add_note(f"To make one: deepmemory ingest FOLDER_OR_URL --store {shell_word(path)}")
        raise


def engine_for(path: str, engine: str | None) -> str | None:
    """The engine for a store. A hub has its own; there a variable that holds for all stores is passed over."""
    is_by_variable = engine is not None and engine == os.environ.get(ENGINE_VARIABLE)
    return None if is_by_variable and path.startswith("hub:") else engine


def known_ids(store: "VectorStore", ids: Sequence[str]) -> set[str]:
    """Those of the ids that the store has."""
    parts = (ids[start : start + _LOOKED_UP_AT_ONCE] for start in range(0, len(ids), _LOOKED_UP_AT_ONCE))
    return {document.id for part in parts for document in store.get(part) if document is not None}
