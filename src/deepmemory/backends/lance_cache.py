"""Vectors that were asked for before, for as long as the table is what it was."""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from deepmemory.backends import lance_rows
from deepmemory.backends.base import VectorArray
from deepmemory.backends.filters import Conditions

__all__ = ["CachedVector", "VectorCache"]

_MOST_BYTES = 64 * 2**20
# A folder's time of change may be as coarse as two seconds: of a younger one it can't be told whether it is the last.
_SETTLED_NANOSECONDS = 2_000_000_000

Revision: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class CachedVector:
    """What label memory asks of a document at every search: its vector and what a filter is compared with."""

    vector: VectorArray
    term_hashes: frozenset[int]


class VectorCache:
    """Vectors by id, dropped as soon as anybody's commit changes the table.

    Every commit makes a file in the table's folder of versions, so one look at that folder, a few microseconds, tells
    whether there was one. Asking the engine would cost as much as a search.
    """

    def __init__(self, versions_folder: Path | None) -> None:
        """Cache for a table.

        Args:
            versions_folder: where the table's commits appear as files; None where that is no local folder, and
                nothing is cached.
        """
        self._versions_folder = versions_folder
        self._revision: Revision | None = None
        self._vectors: dict[str, CachedVector | None] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def passing(
        self,
        ids: Sequence[str],
        conditions: Conditions,
        fetch: Callable[[Sequence[str]], Mapping[str, CachedVector]],
    ) -> dict[str, VectorArray]:
        """The vectors of those ids that exist and pass the conditions."""
        allowed = [frozenset(map(lance_rows.hash_term, terms)) for terms in conditions.any_of]
        return {
            id: cached.vector
            for id, cached in self.get(ids, fetch).items()
            if (conditions.ids is None or id in conditions.ids)
            and not any(cached.term_hashes.isdisjoint(hashes) for hashes in allowed)
        }

    def get(
        self, ids: Sequence[str], fetch: Callable[[Sequence[str]], Mapping[str, CachedVector]]
    ) -> dict[str, CachedVector]:
        """The vectors of those ids that exist; `fetch` is asked for those that aren't known for the table as it is."""
        revision = self._current_revision()
        if revision is None:
            return dict(fetch(ids))
        with self._lock:
            if revision != self._revision:
                self._clear(revision)
            known = {document_id: self._vectors[document_id] for document_id in ids if document_id in self._vectors}
        unknown = [document_id for document_id in ids if document_id not in known]
        if unknown:
            fetched = fetch(unknown)
            known.update({document_id: fetched.get(document_id) for document_id in unknown})
            self._keep(revision, {document_id: known[document_id] for document_id in unknown})
        return {document_id: cached for document_id, cached in known.items() if cached is not None}

    def _keep(self, revision: Revision, fetched: Mapping[str, CachedVector | None]) -> None:
        size = sum(cached.vector.nbytes for cached in fetched.values() if cached is not None)
        with self._lock:
            if revision != self._revision or size > _MOST_BYTES:
                return
            if self._bytes + size > _MOST_BYTES:
                self._clear(revision)
            self._vectors.update(fetched)
            self._bytes += size

    def _clear(self, revision: Revision | None) -> None:
        self._revision = revision
        self._vectors = {}
        self._bytes = 0

    def _current_revision(self) -> Revision | None:
        """What changes with every commit; None while it can't be told whether there was one."""
        if self._versions_folder is None:
            return None
        try:
            status = os.stat(self._versions_folder)  # noqa: PTH116  Path.stat takes twice as long
        except OSError:
            return None
        settled = time.time_ns() - status.st_mtime_ns > _SETTLED_NANOSECONDS
        return (status.st_ino, status.st_mtime_ns) if settled else None
