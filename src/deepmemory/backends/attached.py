"""What all collections that are attached to for reading have in common: others fill them, and we only look."""
# ruff: noqa: D102  Backend documents the methods

import json
import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepmemory.backends import scoring
from deepmemory.backends.base import (
    Backend,
    Capabilities,
    Distance,
    Filter,
    Ranking,
    VectorArray,
    check_dimensions,
    metadata_json,
)
from deepmemory.backends.filters import Conditions, metadata_terms, read_filter
from deepmemory.data import Document
from deepmemory.errors import ReadOnlyError

__all__ = ["AttachedBackend", "as_batch", "as_metadata", "matrix_of", "passing", "vector_rows"]

_BLOCK_BYTES = 64 * 2**20
_READ_AT_ONCE = 8_192
_IDS_AT_ONCE = 5_000


class AttachedBackend(Backend):
    """A collection that others made and fill, of which nothing is changed.

    An engine's own class says how rows are read, in `_rows`; whatever it does faster, it does in its own way.
    """

    def __init__(self, named: str) -> None:
        """Attach to it.

        Args:
            named: the collection and where it is, for messages.
        """
        self._named = named

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(full_text=False, persistent=True, concurrent_writers=True)

    @abstractmethod
    def _rows(
        self, conditions: Conditions, *, vectors: bool, documents: bool, batch_size: int = _READ_AT_ONCE
    ) -> Iterator[pa.RecordBatch]:
        """Read the rows that have a vector and pass the conditions, as they are when the reading begins.

        Args:
            conditions: that a row must pass.
            vectors: whether to have the column ``vector`` (fixed-size list of float32).
            documents: whether to have the columns ``text`` and ``metadata`` (JSON).
            batch_size: at most so many rows in each batch.

        Yields:
            batches with the column ``id``, and those that were asked for.
        """

    # Reading

    def get(self, ids: Sequence[str]) -> list[Document | None]:
        found: dict[str, Document] = {}
        for start in range(0, len(ids), _IDS_AT_ONCE):
            wanted = Conditions(ids=frozenset(ids[start : start + _IDS_AT_ONCE]), any_of=())
            for batch in self._rows(wanted, vectors=False, documents=True):
                columns = (batch.column(name).to_pylist() for name in ("id", "text", "metadata"))
                found.update(
                    (id, Document(id, text, json.loads(metadata))) for id, text, metadata in zip(*columns, strict=True)
                )
        return [found.get(id) for id in ids]

    def get_vectors(self, ids: Sequence[str], *, filter: Filter | None = None) -> dict[str, VectorArray]:
        conditions = read_filter(filter)
        found: dict[str, VectorArray] = {}
        for start in range(0, len(ids), _IDS_AT_ONCE):
            part = frozenset(ids[start : start + _IDS_AT_ONCE])
            wanted = Conditions(part if conditions.ids is None else part & conditions.ids, conditions.any_of)
            for batch in self._rows(wanted, vectors=True, documents=False):
                found.update(zip(batch.column("id").to_pylist(), vector_rows(batch), strict=True))
        return found

    def count(self, filter: Filter | None = None) -> int:
        return sum(len(batch) for batch in self._rows(read_filter(filter), vectors=False, documents=False))

    def batches(self, *, batch_size: int = _READ_AT_ONCE, text: bool = False) -> Iterator[pa.RecordBatch]:
        return self._rows(read_filter(None), vectors=True, documents=text, batch_size=batch_size)

    def search(
        self,
        query_vectors: VectorArray,
        k: int,
        *,
        distance: Distance = "cosine",
        filter: Filter | None = None,
    ) -> list[Ranking]:
        conditions = read_filter(filter)
        check_dimensions(query_vectors, self.dimensions)
        best = [scoring.EMPTY_RANKING for _ in query_vectors]
        for block in self._blocks(conditions) if k > 0 else ():
            found = scoring.rank(block, query_vectors, k, distance=distance)
            best = [scoring.merge(kept, new, k) for kept, new in zip(best, found, strict=True)]
        return best

    def _blocks(self, conditions: Conditions) -> Iterator[scoring.Matrix]:
        """The rows that pass, a bounded number of bytes at a time."""
        batches: list[pa.RecordBatch] = []
        for batch in self._rows(conditions, vectors=True, documents=False):
            batches.append(batch)
            if sum(part.nbytes for part in batches) >= _BLOCK_BYTES:
                yield matrix_of(batches)
                batches = []
        if batches:
            yield matrix_of(batches)

    # What would change something

    def _refuse(self, action: str) -> NoReturn:
        raise ReadOnlyError(f"can't {action}: {self._named} is attached for reading only; change it where it is filled")

    def upsert(self, documents: Sequence[Document], vectors: VectorArray) -> None:  # noqa: ARG002
        self._refuse("add documents")

    def delete(self, *, ids: Sequence[str] | None = None, filter: Filter | None = None) -> int:  # noqa: ARG002
        self._refuse("delete documents")

    def optimize(self) -> None:
        self._refuse("optimize")

    def drop(self) -> None:
        self._refuse("delete the documents")


def as_batch(rows: pa.RecordBatch, metadata: Sequence[str] | None, *, vectors: bool) -> pa.RecordBatch:
    """Rows with ``id`` and ``vector`` in the form of `Backend.batches`, with ``text`` where there is metadata."""
    columns: dict[str, pa.Array] = {"id": rows.column("id").cast(pa.string())}
    if vectors:
        flat = pa.array(vector_rows(rows).ravel(), pa.float32())
        columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, rows.column("vector").type.list_size)
    if metadata is not None:
        columns["text"] = pc.fill_null(rows.column("text").cast(pa.string()), "")
        columns["metadata"] = pa.array(metadata, pa.string())
    return pa.RecordBatch.from_pydict(columns)


def vector_rows(rows: pa.RecordBatch | pa.Table) -> VectorArray:
    """The column ``vector`` as an array ``(n, dimensions)`` float32."""
    column = rows.column("vector")
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    flat = [np.asarray(chunk.flatten(), dtype=np.float32) for chunk in chunks]
    return (np.concatenate(flat) if flat else np.empty(0, np.float32)).reshape(-1, column.type.list_size)


def matrix_of(batches: Sequence[pa.RecordBatch]) -> scoring.Matrix:
    """Batches of rows with ``id`` and ``vector`` as a matrix to rank."""
    rows = pa.Table.from_batches(batches)
    order = np.asarray(pc.sort_indices(rows.column("id")))
    return scoring.Matrix.of(rows.column("id").take(order).to_pylist(), vector_rows(rows)[order])


def passing(ids: Iterable[str], metadatas: Iterable[str], conditions: Conditions) -> list[bool]:
    """Which documents pass, by their ids and their metadata as JSON."""
    return [
        conditions.accept(id, metadata_terms(json.loads(metadata)) if conditions.any_of else frozenset())
        for id, metadata in zip(ids, metadatas, strict=True)
    ]


def as_metadata(values: Mapping[str, Any], written: Mapping[str, Any] | None = None) -> str:
    """What a row has beside text and vector as metadata, in the JSON that all backends have.

    A null is no key, for a table's every row has every column. Numbers that aren't finite are left out as well,
    dates and times are text, and what JSON can't hold otherwise (bytes and the like) is left out.

    Args:
        values: of the columns.
        written: what a column had as JSON, in which a null is a null; a column of the same name comes first.
    """
    found = {key: plain for key, value in values.items() if (plain := _plain(value)) is not None}
    return metadata_json({**(written or {}), **found})


def _plain(value: Any) -> Any:
    """A value as JSON has it; None where there is none."""
    plain: Any = None
    if isinstance(value, str | bool | int):
        plain = value
    elif isinstance(value, float):
        plain = value if math.isfinite(value) else None
    elif isinstance(value, datetime | date | time):
        plain = value.isoformat()
    elif isinstance(value, Decimal):
        plain = _plain(float(value))
    elif isinstance(value, np.generic | np.ndarray):
        plain = _plain(value.tolist())
    elif isinstance(value, Mapping):
        parts = {str(key): _plain(inner) for key, inner in value.items()}
        plain = {key: inner for key, inner in parts.items() if inner is not None}
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        plain = [_plain(item) for item in value]
    return plain
