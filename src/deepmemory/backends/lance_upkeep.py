"""What keeps a LanceDB table fast as it grows: its indexes, and few large files instead of many small ones.

No document is found or missed by what is done here: LanceDB searches rows that no index covers one by one.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from deepmemory.backends.lance_errors import is_conflict

if TYPE_CHECKING:
    from lancedb.table import Table

__all__ = ["Upkeep"]

_log = logging.getLogger(__name__)

_ID_INDEX_FROM_ROWS = 10_000

# Each write adds a fragment, and each fragment about 0.1 ms to a search. Compacting rewrites a table that has no
# index yet as a whole, and the old files stay a while: writers of single documents must not do it all the time.
_FRAGMENTS = 32
_FRAGMENTS_AT_ONCE = 256
_SECONDS_BETWEEN_COMPACTIONS = 30.0
# Readers in other processes may still be going through files that a compaction replaced.
_OLD_VERSIONS_KEPT = timedelta(minutes=10)

# Rows outside an index are searched one by one: a seventh of the indexed ones is still cheap beside the index, and
# so are this many ids and texts.
_UNINDEXED_SHARE = 0.15
_UNINDEXED_ROWS = {"id": 10_000, "text": 2_000, "vector": 0}
# Each refresh adds a graph for the new rows, and each graph adds 0.8 ms to a search. With the share above, a table
# has grown by three quarters when it has five, so that all rebuilding together costs about twice the last one.
_SEGMENTS = 4

# With refinement these reach a recall@10 of 1.00 on 100,000 clustered vectors of 384 dimensions, as the engine's
# defaults (20 and 300) do, and are built sooner. With either, hundreds of copies
# of one vector trap some walks among them: a store of much repeated text is better off below the threshold.
_NEIGHBOURS = 16
_CANDIDATES_WHILE_BUILDING = 150


@dataclass(frozen=True, slots=True)
class _Index:
    indexed: int
    unindexed: int
    segments: int


@dataclass(frozen=True, slots=True)
class _Condition:
    """What a table looks like now."""

    rows: int
    fragments: int
    indexes: dict[str, _Index]  # by column

    @classmethod
    def of(cls, table: "Table") -> "_Condition":
        stats: Any = table.stats()
        indexes = {
            config.columns[0]: _Index(
                config.num_indexed_rows or 0, config.num_unindexed_rows or 0, config.num_segments or 1
            )
            for config in table.list_indices()
        }
        return cls(stats["num_rows"], stats["fragment_stats"]["num_fragments"], indexes)


class Upkeep:
    """Looks after one table; of several processes that write to a folder, one at a time does."""

    def __init__(self, index_threshold: int, folder: Path | None) -> None:
        """Look after a table.

        Args:
            index_threshold: rows from which on the vectors get an index.
            folder: the table's, where processes agree on who does it; None where they share no file system.
        """
        self._index_threshold = index_threshold
        self._lock_file = folder / ".upkeep.lock" if folder else None
        self._in_this_process = threading.Lock()
        self._fragments_after_last = 0
        self._last_compaction = -_SECONDS_BETWEEN_COMPACTIONS

    def after_write(self, table: "Table") -> None:
        """Do what has become due, unless another thread or process is at it; never fails the write before it."""
        with self._put_off_on_failure(table), self._only_one(wait=False) as chosen:
            if chosen:
                condition = _Condition.of(table)
                if self._is_due(condition):
                    self._run(table, condition)

    def now(self, table: "Table") -> None:
        """Do everything that makes searches faster, if it takes minutes: one graph over all rows."""
        with self._only_one(wait=True):
            self._run(table, _Condition.of(table), everything=True)

    @contextmanager
    def _put_off_on_failure(self, table: "Table") -> Iterator[None]:
        """Let the next occasion try again: nothing here changes what is stored or found."""
        try:
            yield
        except Exception as error:
            level = logging.DEBUG if is_conflict(error) else logging.WARNING
            _log.log(level, "upkeep of the table %s was put off: %s", table.name, error)

    @contextmanager
    def _only_one(self, *, wait: bool) -> Iterator[bool]:
        """Be the one who looks after the table; yields whether that is so."""
        with ExitStack() as held:
            chosen = self._in_this_process.acquire(blocking=wait)
            if chosen:
                held.callback(self._in_this_process.release)
            if chosen and self._lock_file is not None:
                lock = filelock.FileLock(self._lock_file, mode=0o666)
                try:
                    held.enter_context(lock.acquire(blocking=wait))
                except filelock.Timeout:
                    chosen = False
            yield chosen

    def _is_due(self, condition: _Condition) -> bool:
        return (
            self._needs_compaction(condition)
            or "text" not in condition.indexes
            or self._needs_id_index(condition)
            or self._needs_vector_index(condition, most_segments=_SEGMENTS)
            or any(_is_behind(column, index) for column, index in condition.indexes.items())
        )

    def _needs_compaction(self, condition: _Condition) -> bool:
        # Counted from the last time, for some fragments can't be merged: those that different graphs cover.
        new = condition.fragments - self._fragments_after_last
        rested = time.monotonic() - self._last_compaction >= _SECONDS_BETWEEN_COMPACTIONS
        return new > (_FRAGMENTS if rested else _FRAGMENTS_AT_ONCE)

    def _needs_id_index(self, condition: _Condition) -> bool:
        return "id" not in condition.indexes and condition.rows >= _ID_INDEX_FROM_ROWS

    def _needs_vector_index(self, condition: _Condition, *, most_segments: int) -> bool:
        index = condition.indexes.get("vector")
        if index is None:
            return condition.rows >= self._index_threshold
        return index.segments > most_segments

    def _run(self, table: "Table", condition: _Condition, *, everything: bool = False) -> None:
        from lancedb.index import FTS, BTree, HnswSq

        outdated = any(_is_behind(column, index) for column, index in condition.indexes.items())
        conflict: Exception | None = None
        if everything or outdated or self._needs_compaction(condition):
            try:
                table.optimize(cleanup_older_than=_OLD_VERSIONS_KEPT)
                self._last_compaction = time.monotonic()
            except Exception as error:
                if not is_conflict(error):
                    raise
                conflict = error  # compacting lost against another writer; making an index needs no such luck
        if "text" not in condition.indexes:
            # From the first document on: without an index, words are not stemmed, and their case matters.
            table.create_index("text", config=FTS())
        if self._needs_id_index(condition):
            table.create_index("id", config=BTree())
        condition = _Condition.of(table)
        if self._needs_vector_index(condition, most_segments=1 if everything else _SEGMENTS):
            # Cosine alone: a second graph would double the time of writing for vectors that are unit vectors as a
            # rule, and rank alike by either measure. A search by dot product goes through the vectors one by one.
            graph = HnswSq(distance_type="cosine", m=_NEIGHBOURS, ef_construction=_CANDIDATES_WHILE_BUILDING)
            table.create_index("vector", config=graph)
        self._fragments_after_last = condition.fragments
        if conflict is not None:
            raise conflict


def _is_behind(column: str, index: _Index) -> bool:
    """Whether so many rows are outside an index that searches feel it."""
    return index.unindexed > max(index.indexed * _UNINDEXED_SHARE, _UNINDEXED_ROWS.get(column, 0))
