"""LanceDB tables that others made and fill, among them those of LangChain's and LlamaIndex's own classes."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from deepmemory.backends import lance_rows, scoring
from deepmemory.backends.attached import AttachedBackend, as_batch, passing, vector_rows
from deepmemory.backends.attaching import Asked
from deepmemory.backends.base import Backend, Capabilities, Distance, Filter, Ranking, VectorArray, check_dimensions
from deepmemory.backends.filters import Conditions, metadata_terms, read_filter
from deepmemory.backends.lance_cache import CachedVector, VectorCache
from deepmemory.backends.lance_columns import Columns, quoted
from deepmemory.backends.lance_errors import engine_errors, is_gone
from deepmemory.backends.lance_layout import TablePlace, graph_of, has_words, read_layout, refuse_changed
from deepmemory.backends.lance_search import Metric, VectorSearch, scan, search_words
from deepmemory.backends.layout import Layout
from deepmemory.errors import CapabilityError

if TYPE_CHECKING:
    from lancedb.table import Table

__all__ = ["open_attached", "recognise"]

T = TypeVar("T")

_READ_AT_ONCE = 8_192
_IDS_AT_ONCE = 5_000


def recognise(url: str, asked: Asked) -> Layout:
    """Look at a table and tell its layout; nothing is created, altered or indexed.

    Args:
        url: a LanceDB database: a folder, or ``s3://bucket/prefix`` (also ``gs://`` and ``az://``).
        asked: what is known of the table.

    Raises:
        InputError: what was asked for isn't there; all problems at once.
        StorageError: the folder or bucket can't be read.
    """
    place = TablePlace.of(url, asked.collection)
    place.check()
    return read_layout(place, asked)


def open_attached(url: str, layout: Layout, *, read_only: bool, storage_options: Mapping[str, str] | None) -> Backend:
    """Open a table whose layout is known.

    Raises:
        CapabilityError: it is to be written to.
        StorageError: it is not there any more, or not as it was.
    """
    if not read_only:
        raise CapabilityError(
            "a LanceDB table that others made is attached for reading only; write to it with what made it, "
            "or fill a store of your own"
        )
    return LanceAttached(TablePlace.of(url, layout.collection), layout, storage_options)


class LanceAttached(AttachedBackend):
    """One table, as it is at each call: what others commit is seen by the next one."""

    def __init__(self, place: TablePlace, layout: Layout, storage_options: Mapping[str, str] | None) -> None:
        """Open it.

        Raises:
            StorageError: it is not there, or lacks a column of the layout.
        """
        super().__init__(place.named)
        self._place = place
        self._layout = layout
        self._options = storage_options
        self._lock = threading.Lock()
        self._table: Table | None = None
        self._without_vector: tuple[int, int] | None = None  # of which version, how many
        self._cache = VectorCache(place.folder / "_versions" if place.folder else None)
        self._graph: Metric | None = self._ask("read the table", lambda table: graph_of(table, layout))
        self._full_text = self._ask("read the table", lambda table: has_words(table, layout))

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(full_text=self._full_text, persistent=True, concurrent_writers=True)

    @property
    def dimensions(self) -> int | None:
        return self._ask("read the table", lambda table: lance_rows.dimensions_of(table.schema, self._layout.vector))

    @property
    def left_out(self) -> int:
        return self._ask("count the rows", self._count_without_vector)

    def _opened(self) -> "Table":
        with self._lock:
            if self._table is None:
                table = self._place.open(self._options)
                refuse_changed(table.schema, self._layout, self._place.named)
                self._table = table
            return self._table

    def _ask(self, action: str, query: Callable[["Table"], T]) -> T:
        with engine_errors(action, self._named):
            table = self._opened()
            try:
                return query(table)
            except Exception as error:
                if not is_gone(error):
                    raise
            with self._lock:
                self._table = None
            return query(self._opened())  # another one of the name may be there by now

    def _columns(self, table: "Table") -> Columns:
        return Columns(table.schema, self._layout)

    # Reading

    def _rows(
        self, conditions: Conditions, *, vectors: bool, documents: bool, batch_size: int = _READ_AT_ONCE
    ) -> Iterator[pa.RecordBatch]:
        def begin(table: "Table") -> tuple[Columns, bool, pa.RecordBatchReader]:
            columns = self._columns(table)
            condition, is_all = columns.where(conditions)
            names = ["id", "vector", *(columns.places.of_documents[1:] if documents or not is_all else ())]
            return columns, is_all, scan(table, columns.places.select(names), condition).to_batches(batch_size)

        columns, is_all, stream = self._ask("read documents", begin)
        with engine_errors("read documents", self._named):
            for batch in stream:
                rows = batch.filter(pc.is_valid(batch.column("vector")))
                metadata = list(columns.metadata(rows)) if documents or not is_all else None
                if not is_all and metadata is not None:
                    kept = passing(rows.column("id").to_pylist(), metadata, conditions)
                    rows = rows.filter(pa.array(kept, pa.bool_()))
                    metadata = [one for one, is_kept in zip(metadata, kept, strict=True) if is_kept]
                if len(rows):
                    yield as_batch(rows, metadata if documents else None, vectors=vectors)

    def get_vectors(self, ids: Sequence[str], *, filter: Filter | None = None) -> dict[str, VectorArray]:
        return self._cache.passing(ids, read_filter(filter), self._fetch_vectors)

    def _fetch_vectors(self, ids: Sequence[str]) -> dict[str, CachedVector]:
        found: dict[str, CachedVector] = {}
        for start in range(0, len(ids), _IDS_AT_ONCE):
            wanted = Conditions(ids=frozenset(ids[start : start + _IDS_AT_ONCE]), any_of=())
            for batch in self._rows(wanted, vectors=True, documents=True):
                vectors = vector_rows(batch)
                vectors.flags.writeable = False
                metadatas = map(json.loads, batch.column("metadata").to_pylist())
                terms = (frozenset(map(lance_rows.hash_term, metadata_terms(one))) for one in metadatas)
                found.update(zip(batch.column("id").to_pylist(), map(CachedVector, vectors, terms), strict=True))
        return found

    def count(self, filter: Filter | None = None) -> int:
        conditions = read_filter(filter)

        def query(table: "Table") -> int | None:
            condition, is_all = self._columns(table).where(conditions)
            without = self._count_without_vector(table)
            if condition is None and is_all:
                return int(table.count_rows()) - without
            return int(table.count_rows(condition)) if is_all and not without else None

        counted = self._ask("count documents", query)
        return super().count(filter) if counted is None else counted

    def _count_without_vector(self, table: "Table") -> int:
        """How many rows have no vector: all are read for that, once for each version of the table."""
        version = table.version
        if self._without_vector is None or self._without_vector[0] != version:
            self._without_vector = version, table.count_rows(f"{quoted(self._layout.vector)} IS NULL")
        return self._without_vector[1]

    # Search

    def search(
        self,
        query_vectors: VectorArray,
        k: int,
        *,
        distance: Distance = "cosine",
        filter: Filter | None = None,
    ) -> list[Ranking]:
        conditions = read_filter(filter)

        def query(table: "Table") -> list[Ranking] | None:
            columns = self._columns(table)
            check_dimensions(query_vectors, lance_rows.dimensions_of(table.schema, self._layout.vector))
            condition, is_all = columns.where(conditions)
            if not is_all or k < 1:
                return None
            search = VectorSearch(table, k, distance, condition, columns.places, self._graph)
            return search.rank(query_vectors)

        found = self._ask("search", query)
        # Metadata that SQL can't compare is looked at row by row.
        return super().search(query_vectors, k, distance=distance, filter=filter) if found is None else found

    def search_text(self, queries: Sequence[str], k: int, *, filter: Filter | None = None) -> list[Ranking]:
        if not self._full_text:
            raise CapabilityError(
                f"{self._named} has no full-text search: the column {self._layout.text!r} has no full-text index; make "
                "one where the table is filled, with table.create_fts_index(...)"
            )
        conditions = read_filter(filter)

        def query(table: "Table") -> list[Ranking]:
            columns = self._columns(table)
            condition, is_all = columns.where(conditions)
            if not is_all:
                condition = columns.where(Conditions(self._passing_ids(conditions), ()))[0]
            return [search_words(table, text, k, condition, columns.places) for text in queries]

        return self._ask("search", query) if k > 0 else [scoring.EMPTY_RANKING for _ in queries]

    def _passing_ids(self, conditions: Conditions) -> frozenset[str]:
        rows = self._rows(conditions, vectors=False, documents=False)
        return frozenset(id for batch in rows for id in batch.column("id").to_pylist())

    def close(self) -> None:
        with self._lock:
            self._table = None
