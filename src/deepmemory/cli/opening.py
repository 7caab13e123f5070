"""Open the store that a command is about."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from deepmemory.cli.output import shell_word
from deepmemory.errors import NotAStoreError

if TYPE_CHECKING:
    from deepmemory.store import VectorStore

__all__ = ["known_ids", "open_store"]

_LOOKED_UP_AT_ONCE = 1_000


def open_store(path: str, *, read_only: bool = False) -> "VectorStore":
    """The store at a path, which must be there.

    Raises:
        NotAStoreError: it isn't; the message says how to make one.
    """
    from deepmemory.store import VectorStore

    try:
        return VectorStore(path, create=False, read_only=read_only)
    except NotAStoreError as error:
        # On a hub, a name that is not there is made by the same command.
        if not os.path.exists(path):  # noqa: PTH110  Path.exists raises where a name is too long
            error.add_note(f"To make one: deepmemory ingest FOLDER_OR_URL --store {shell_word(path)}")
        raise


def known_ids(store: "VectorStore", ids: Sequence[str]) -> set[str]:
    """Those of the ids that the store has."""
    parts = (ids[start : start + _LOOKED_UP_AT_ONCE] for start in range(0, len(ids), _LOOKED_UP_AT_ONCE))
    return {document.id for part in parts for document in store.get(part) if document is not None}
