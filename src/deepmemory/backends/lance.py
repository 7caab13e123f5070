"""Documents in a LanceDB table: a folder, or a bucket of an object store."""
# ruff: noqa: D102  Backend documents the methods

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from deepmemory.backends import lance_rows, scoring
from deepmemory.backends.base import (
    Backend,
    Capabilities,
    Distance,
    Filter,
    Ranking,
    VectorArray,
    check_dimensions,
)
from deepmemory.backends.filters import read_filter
from deepmemory.backends.lance_cache import CachedVector, VectorCache
from deepmemory.backends.lance_errors import engine_errors, is_gone, retry_conflicts
from deepmemory.backends.lance_search import VectorSearch, scan, search_words
from deepmemory.backends.lance_upkeep import Upkeep
from deepmemory.data import Document
from deepmemory.errors import NotAStoreError, ReadOnlyError

if TYPE_CHECKING:
    from lancedb import DBConnection
    from lancedb.table import Table

__all__ = ["INDEX_THRESHOLD", "LanceBackend"]

INDEX_THRESHOLD = 50_000
"""Rows from which on vectors are found through an HNSW graph; below, all are compared, in some milliseconds."""

T = TypeVar("T")

_TABLE = "documents"
_IDS_AT_ONCE = 5_000


class LanceBackend(Backend):
    """One LanceDB table; it is made at the first `upsert`, when the length of the vectors is known.

    A commit of LanceDB is a new file that is there or not: readers never see half of a write, nor does a process
    that opens the table after the writer was killed. Every read looks for the latest commit first.
    """

    def __init__(
        self,
        location: str,
        *,
        read_only: bool = False,
        storage_options: Mapping[str, str] | None = None,
        index_threshold: int = INDEX_THRESHOLD,
    ) -> None:
        """Open the table in a folder or under a prefix of a bucket.

        Args:
            location: a folder, or ``s3://bucket/prefix`` (also ``gs://`` and ``az://``).
            read_only: refuse every change.
            storage_options: credentials, region and endpoint of an object store, by LanceDB's names.
            index_threshold: rows from which on vectors are found through a graph.
        """
        self._location = location
        self._read_only = read_only
        folder = None if "://" in location else Path(location) / f"{_TABLE}.lance"
        self._connection = self._connect(storage_options)
        self._table: Table | None = None
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._cache = VectorCache(folder / "_versions" if folder else None)
        self._upkeep = Upkeep(index_threshold, folder)

    def _connect(self, storage_options: Mapping[str, str] | None) -> "DBConnection":
        # By default the engine writes to stderr what is handled here, such as a compaction that will be tried again.
        os.environ.setdefault("LANCEDB_LOG", "error")
        import lancedb

        with engine_errors("open the documents", self._location):
            return lancedb.connect(
                self._location,
                storage_options=dict(storage_options) if storage_options else None,
                read_consistency_interval=timedelta(0),
            )

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(full_text=True, persistent=True, concurrent_writers=True)

    @property
    def dimensions(self) -> int | None:
        return self._read("read", lambda table: lance_rows.dimensions_of(table.schema), None)

    # Reading and writing the table, whatever state it is in

    def _opened(self) -> "Table | None":
        """The table; None while there is none."""
        with self._lock:
            if self._table is None:
                try:
                    table = self._connection.open_table(_TABLE)
                except Exception as error:
                    if is_gone(error):
                        return None
                    raise
                self._check_is_ours(table)
                self._table = table
            return self._table

    def _check_is_ours(self, table: "Table") -> None:
        missing = sorted(set(lance_rows.COLUMNS) - set(table.schema.names))
        if missing:
            raise NotAStoreError(
                f"the table {_TABLE!r} in {self._location} was not made by Deep Memory: "
                f"it has no column {', '.join(missing)}; choose another folder"
            )

    def _read(self, action: str, query: Callable[["Table"], T], nothing: T) -> T:
        """Ask the table as it is now; `nothing` is the answer where there is none, or none any more."""
        with engine_errors(action, self._location):
            return self._ask(query, nothing)

    def _write(self, action: str, change: Callable[["Table"], T], nothing: T) -> T:
        """Change the table, after other writers where they come first."""
        self._check_writable(action)
        with engine_errors(action, self._location):
            return retry_conflicts(lambda: self._ask(change, nothing))

    def _ask(self, query: Callable[["Table"], T], nothing: T) -> T:
        table = self._opened()
        if table is None:
            return nothing
        try:
            return query(table)
        except Exception as error:
            if not is_gone(error):
                raise
            self._forget(table)  # dropped by another process
            return nothing

    def _forget(self, table: "Table") -> None:
        with self._lock:
            if self._table is table:
                self._table = None

    def _check_writable(self, action: str) -> None:
        if self._read_only:
            raise ReadOnlyError(f"can't {action}: {self._location} was opened for reading only")

    # Documents

    def upsert(self, documents: Sequence[Document], vectors: VectorArray) -> None:
        self._check_writable("add documents")
        if not documents:
            return
        check_dimensions(vectors, self.dimensions)
        rows = lance_rows.rows(documents, vectors)
        with self._writing, engine_errors("add documents", self._location):
            table = retry_conflicts(lambda: self._merge(rows))
        self._upkeep.after_write(table)

    def _merge(self, rows: pa.Table) -> "Table":
        table = self._opened() or self._create(rows.schema)
        merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        try:
            # By way of the index, LanceDB 0.40 doesn't notice that a concurrent merge inserted the same new id, and
            # both stay. Without it every id is read: 0.1 s for a million.
            merge.use_index(False).execute(rows)
        except Exception as error:
            if not is_gone(error):
                raise
            self._forget(table)
            return self._merge(rows)
        return table

    def _create(self, schema: pa.Schema) -> "Table":
        try:
            self._connection.create_table(_TABLE, schema=schema)
        except ValueError as error:
            if "already exists" not in str(error):  # another process was first, which is as good
                raise
        table = self._opened()
        if table is None:
            raise RuntimeError("the table was removed by another process while it was made")
        return table

    def get(self, ids: Sequence[str]) -> list[Document | None]:
        found = {
            document.id: document
            for rows in self._rows_by_id(ids, ["id", "text", "metadata"])
            for document in lance_rows.documents_of(rows)
        }
        return [found.get(document_id) for document_id in ids]

    def get_vectors(self, ids: Sequence[str], *, filter: Filter | None = None) -> dict[str, VectorArray]:
        return self._cache.passing(ids, read_filter(filter), self._fetch_vectors)

    def _fetch_vectors(self, ids: Sequence[str]) -> dict[str, CachedVector]:
        found: dict[str, CachedVector] = {}
        for rows in self._rows_by_id(ids, ["id", "terms", "vector"]):
            vectors = lance_rows.vectors_of(rows)
            vectors.flags.writeable = False
            terms = map(frozenset, rows.column("terms").to_pylist())
            found.update(zip(rows.column("id").to_pylist(), map(CachedVector, vectors, terms), strict=True))
        return found

    def _rows_by_id(self, ids: Sequence[str], columns: list[str]) -> Iterator[pa.Table]:
        for start in range(0, len(ids), _IDS_AT_ONCE):
            condition = lance_rows.id_list(ids[start : start + _IDS_AT_ONCE])
            rows = self._read("read documents", lambda table: scan(table, columns, condition).to_arrow(), None)  # noqa: B023
            if rows is not None:
                yield rows

    def delete(self, *, ids: Sequence[str] | None = None, filter: Filter | None = None) -> int:
        parts = [] if ids is None else [lance_rows.id_list(ids)]
        condition = lance_rows.where(read_filter(filter))
        statement = " AND ".join(parts + ([condition] if condition else [])) or "true"

        def remove(table: "Table") -> int:
            result: Any = table.delete(statement)
            return int(result.num_deleted_rows)

        with self._writing:
            return self._write("delete documents", remove, 0)

    def count(self, filter: Filter | None = None) -> int:
        condition = lance_rows.where(read_filter(filter))
        return self._read("count documents", lambda table: int(table.count_rows(condition)), 0)

    def batches(self, *, batch_size: int = 8192, text: bool = False) -> Iterator[pa.RecordBatch]:
        columns = ["id", "vector", *(("text", "metadata") if text else ())]
        stream = self._read("read documents", lambda table: scan(table, columns).to_batches(batch_size), None)
        with engine_errors("read documents", self._location):
            yield from stream or ()

    # Search

    def search(
        self,
        query_vectors: VectorArray,
        k: int,
        *,
        distance: Distance = "cosine",
        filter: Filter | None = None,
    ) -> list[Ranking]:
        condition = lance_rows.where(read_filter(filter))
        nothing = [scoring.EMPTY_RANKING for _ in query_vectors]

        def query(table: "Table") -> list[Ranking]:
            check_dimensions(query_vectors, lance_rows.dimensions_of(table.schema))
            return VectorSearch(table, k, distance, condition).rank(query_vectors) if k > 0 else nothing

        return self._read("search", query, nothing)

    def search_text(self, queries: Sequence[str], k: int, *, filter: Filter | None = None) -> list[Ranking]:
        condition = lance_rows.where(read_filter(filter))
        nothing = [scoring.EMPTY_RANKING for _ in queries]

        def query(table: "Table") -> list[Ranking]:
            return [search_words(table, text, k, condition) for text in queries] if k > 0 else nothing

        return self._read("search", query, nothing)

    # The table as a whole

    def optimize(self) -> None:
        self._write("optimize", self._upkeep.now, None)

    def drop(self) -> None:
        self._write("delete the documents", lambda _: self._connection.drop_table(_TABLE), None)
        with self._lock:
            self._table = None

    def close(self) -> None:
        with self._lock:
            self._table = None
