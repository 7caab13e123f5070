"""Datasets of Deep Lake 4 that others made and fill, among them those of LangChain's and LlamaIndex's own classes."""

import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deepmemory.backends import scoring
from deepmemory.backends.attached import AttachedBackend, as_metadata, passing
from deepmemory.backends.attaching import Asked
from deepmemory.backends.base import Backend, Distance, Filter, Ranking, VectorArray, check_dimensions
from deepmemory.backends.filters import Conditions
from deepmemory.backends.layout import Layout
from deepmemory.backends.roles import Kinds, find_layout, repeated_ids
from deepmemory.errors import CapabilityError, DeepMemoryError, InputError, MissingExtraError, StorageError

__all__ = ["open_attached", "recognise"]

_SCHEME = "deeplake://"
_READ_AT_ONCE = 8_192
_MASKS = 32
"""Filters whose passing rows are kept, for as long as the dataset is what it was."""

# From so many rows on the engine's own index finds the nearest; below, all are compared, which takes milliseconds.
_ROWS_FOR_INDEX = 20_000
_MOST_QUERIES_BY_INDEX = 8
_MOST_HITS_BY_INDEX = 500
_LEAST_CANDIDATES = 50

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INTEGER = re.compile(r"u?int\d+")
_SIMPLE = re.compile(r"u?int\d+|float\d+|bool")
_ANY_LENGTH = 2**32


def recognise(url: str, asked: Asked) -> Layout:
    """Look at a dataset and tell its layout; nothing in it is changed.

    Args:
        url: a folder, or ``deeplake://`` with any path that Deep Lake takes after it.
        asked: what is known of the dataset.

    Raises:
        InputError: what was asked for isn't there; all problems at once.
        StorageError: the dataset can't be read.
        MissingExtraError: Deep Lake's client is not installed.
    """
    place = _Place(url, asked.storage_options)
    problems = []
    if asked.collection:
        problems.append("a Deep Lake dataset has no tables: leave out table=")
    if asked.namespace is not None:
        problems.append("a Deep Lake dataset is in no schema: leave out schema=")
    with place.failures("read"):
        dataset = place.open()
        columns = {column.name: _Kind(column.dtype) for column in dataset.schema.columns}
        layout = find_layout("", columns, _KINDS, asked, problems)
        often = Counter(_all_ids(dataset, layout.id))
    repeated = [(id, times) for id, times in often.items() if times > 1 and id is not None]
    if problems := repeated_ids(layout.id, often[None], repeated):
        raise InputError(problems)
    return Layout.from_dict({**layout.as_dict(), "distance": asked.distance or "cosine"})


def open_attached(url: str, layout: Layout, *, read_only: bool, storage_options: Mapping[str, str] | None) -> Backend:
    """Open a dataset whose layout is known.

    Raises:
        CapabilityError: it is to be written to.
        StorageError: it is not there any more, or not as it was.
        MissingExtraError: Deep Lake's client is not installed.
    """
    if not read_only:
        raise CapabilityError(
            "a Deep Lake dataset is attached for reading only; write to it with what made it, or fill a store of your "
            "own"
        )
    return DeepLakeAttached(_Place(url, storage_options), layout)


class _Kind:
    """A column's type, as far as it matters here; prints as Deep Lake prints it."""

    def __init__(self, dtype: Any) -> None:
        self.name = str(dtype)
        self.kind = str(dtype.kind).rpartition(".")[2]
        self.shape = [int(length) for length in dtype.shape]

    def __str__(self) -> str:
        return self.name

    @property
    def dimensions(self) -> int | None:
        """The length of its vectors; None where it holds none, or none of one length."""
        is_array = self.kind == "Embedding" or (self.kind == "Generic" and "float" in self.name)
        fits = is_array and len(self.shape) == 1 and self.shape[0] < _ANY_LENGTH
        return self.shape[0] if fits else None


_KINDS: Kinds[_Kind] = Kinds(
    is_id=lambda kind: kind.kind == "Text" or _INTEGER.fullmatch(kind.name) is not None,
    is_text=lambda kind: kind.kind == "Text",
    is_vector=lambda kind: kind.dimensions is not None,
    is_metadata=lambda kind: kind.kind in ("Text", "Dict") or _SIMPLE.fullmatch(kind.name) is not None,
    is_object=lambda kind: kind.kind == "Dict",
)


class _Place:
    """Where a dataset is, and what its engine's failures mean."""

    def __init__(self, url: str, storage_options: Mapping[str, str] | None) -> None:
        self.path = url.removeprefix(_SCHEME).removeprefix("file://")
        if "://" not in self.path:
            self.path = str(Path(unquote(self.path) if url != self.path else self.path).expanduser().absolute())
        self._options = dict(storage_options) if storage_options else None

    @property
    def named(self) -> str:
        """The dataset, for messages."""
        return f"the Deep Lake dataset {self.path}"

    def open(self) -> Any:
        """The dataset as it is now, which stays so."""
        try:
            import deeplake
        except ImportError as error:
            raise MissingExtraError("a Deep Lake dataset", "deeplake") from error
        try:
            return deeplake.open_read_only(self.path, creds=self._options)
        except deeplake.LogNotexistsError as error:
            raise StorageError(f"there is no Deep Lake dataset at {self.path}") from error

    @contextmanager
    def failures(self, action: str) -> Iterator[None]:
        """Turn what the engine raises into a `StorageError` of one sentence."""
        try:
            yield
        except DeepMemoryError:
            raise
        except Exception as error:
            # The engine's own exceptions derive from Exception alone.
            is_engines = type(error).__module__.startswith("deeplake")
            if not is_engines and not isinstance(error, RuntimeError | ValueError | OSError | KeyError):
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise StorageError(f"can't {action} {self.named}: {reason}") from error


class _Snapshot:
    """A dataset as it was at one version, and what was found out about it."""

    def __init__(self, place: _Place, layout: Layout) -> None:
        """Open it.

        Raises:
            StorageError: it is gone, or lacks a column.
        """
        self.dataset = place.open()
        self.version = str(self.dataset.version)
        self._layout = layout
        self._masks: OrderedDict[Conditions, NDArray[np.int64]] = OrderedDict()
        columns = {column.name: _Kind(column.dtype) for column in self.dataset.schema.columns}
        names = (layout.id, layout.vector, layout.text, layout.metadata_json, *layout.metadata)
        missing = [name for name in names if name is not None and name not in columns]
        if missing or columns[layout.vector].dimensions is None:
            said = (
                f"has no column {', '.join(missing)} any more" if missing else "has columns of other types than it had"
            )
            raise StorageError(f"{place.named} {said}; attach to it again, in another folder")
        self.dimensions = columns[layout.vector].dimensions or 0

    def __len__(self) -> int:
        return len(self.dataset)

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """The row of each id."""
        return {str(id): row for row, id in enumerate(_all_ids(self.dataset, self._layout.id))}

    @cached_property
    def without_vector(self) -> int:
        """How many rows have no vector."""
        return sum(len(absent) for _, absent in self.vectors(None))

    def vectors(self, rows: NDArray[np.int64] | None) -> Iterator[tuple[VectorArray, NDArray[np.int64]]]:
        """The vectors of rows, of all by default, a bounded number at a time; and which of those have none."""
        for part in _parts(len(self) if rows is None else rows, _READ_AT_ONCE):
            yield self._vectors(part)

    def _vectors(self, part: "slice | list[int]") -> tuple[VectorArray, NDArray[np.int64]]:
        found = self.dataset[self._layout.vector][part]
        if isinstance(found, np.ndarray):
            return np.ascontiguousarray(found, dtype=np.float32), np.empty(0, dtype=np.int64)
        absent = np.array([row for row, vector in enumerate(found) if vector is None], dtype=np.int64)
        zeros = np.zeros(self.dimensions, dtype=np.float32)
        return np.array([zeros if vector is None else vector for vector in found], dtype=np.float32), absent

    def batch(self, part: "slice | list[int]", *, vectors: bool, documents: bool) -> pa.RecordBatch:
        """Some rows that have a vector, in the form of `AttachedBackend._rows`."""
        values, absent = self._vectors(part)
        kept = np.setdiff1d(np.arange(len(values)), absent)
        ids = self.dataset[self._layout.id][part]
        columns: dict[str, pa.Array] = {"id": pa.array([str(ids[int(row)]) for row in kept], pa.string())}
        if vectors:
            flat = pa.array(values[kept].ravel(), pa.float32())
            columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, self.dimensions)
        if documents:
            texts = self.dataset[self._layout.text][part] if self._layout.text else [""] * len(values)
            metadata = list(self.metadata(part))
            columns["text"] = pa.array([texts[int(row)] or "" for row in kept], pa.string())
            columns["metadata"] = pa.array([metadata[int(row)] for row in kept], pa.string())
        return pa.RecordBatch.from_pydict(columns)

    def metadata(self, part: "slice | list[int]") -> Iterator[str]:
        """The metadata of some rows, as JSON."""
        nested, names = self._layout.metadata_json, self._layout.metadata
        columns = [self.dataset[name][part] for name in names]
        objects = None if nested is None else self.dataset[nested][part]
        n = len(range(*part.indices(len(self)))) if isinstance(part, slice) else len(part)
        for row in range(n):
            values = {name: _plain(column[row]) for name, column in zip(names, columns, strict=True)}
            yield as_metadata(values, None if objects is None else _plain(objects[row]))

    def passing(self, conditions: Conditions) -> NDArray[np.int64] | None:
        """The rows that pass, ascending; None where all do."""
        if conditions.ids is None and not conditions.any_of:
            return None
        if conditions.ids is not None:
            rows = np.array(sorted(self.rows[id] for id in conditions.ids if id in self.rows), dtype=np.int64)
            return self._kept(rows, conditions)
        if conditions not in self._masks:
            self._masks[conditions] = self._kept(np.arange(len(self)), conditions)
            while len(self._masks) > _MASKS:
                self._masks.popitem(last=False)
        return self._masks[conditions]

    def _kept(self, rows: NDArray[np.int64], conditions: Conditions) -> NDArray[np.int64]:
        if not conditions.any_of:
            return rows
        some = Conditions(ids=None, any_of=conditions.any_of)
        kept = [passing([""] * len(part), self.metadata(part), some) for part in _lists(rows)]
        passed: NDArray[np.int64] = rows[np.array([is_kept for part in kept for is_kept in part], dtype=bool)]
        return passed


class DeepLakeAttached(AttachedBackend):
    """One dataset, as it is at each call: what others commit is seen by the next one."""

    def __init__(self, place: _Place, layout: Layout) -> None:
        """Open it.

        Raises:
            StorageError: it is not there, or lacks a column of the layout.
        """
        super().__init__(place.named)
        self._place = place
        self._layout = layout
        self._lock = threading.Lock()
        with place.failures("open"):
            self._snapshot = _Snapshot(place, layout)
            self._watched = place.open()

    @property
    def dimensions(self) -> int | None:
        return self._now().dimensions

    @property
    def left_out(self) -> int:
        with self._place.failures("read"):
            return self._now().without_vector

    def _now(self) -> _Snapshot:
        """The dataset as it is; another one only where its version is another."""
        with self._lock, self._place.failures("read"):
            self._watched.refresh()
            if str(self._watched.version) != self._snapshot.version:
                self._snapshot = _Snapshot(self._place, self._layout)
            return self._snapshot

    def _rows(
        self, conditions: Conditions, *, vectors: bool, documents: bool, batch_size: int = _READ_AT_ONCE
    ) -> Iterator[pa.RecordBatch]:
        with self._place.failures("read"):
            now = self._now()
            rows = now.passing(conditions)
            for part in _parts(len(now) if rows is None else rows, batch_size):
                batch = now.batch(part, vectors=vectors, documents=documents)
                if len(batch):
                    yield batch

    def search(
        self,
        query_vectors: VectorArray,
        k: int,
        *,
        distance: Distance = "cosine",
        filter: Filter | None = None,
    ) -> list[Ranking]:
        check_dimensions(query_vectors, self.dimensions)
        names = (self._layout.id, self._layout.vector)
        by_index = (
            not filter
            and distance == "cosine"
            and 0 < k <= _MOST_HITS_BY_INDEX
            and len(query_vectors) < _MOST_QUERIES_BY_INDEX
            and all(_PLAIN_NAME.fullmatch(name) for name in names)
        )
        now = self._now() if by_index else None
        if now is None or len(now) < _ROWS_FOR_INDEX:
            return super().search(query_vectors, k, distance=distance, filter=filter)
        with self._place.failures("search"):
            return [self._nearest(now, query, k) for query in query_vectors]

    def _nearest(self, now: _Snapshot, query: VectorArray, k: int) -> Ranking:
        """The nearest as the engine's index finds them, scored by their vectors."""
        if not query.any():
            return scoring.EMPTY_RANKING
        id, vector = self._layout.id, self._layout.vector
        numbers = ",".join(map(repr, query.tolist()))
        found = now.dataset.query(
            f"SELECT * FROM (SELECT {id}, {vector}, COSINE_SIMILARITY({vector}, ARRAY[{numbers}]) AS score) "
            f"ORDER BY score DESC LIMIT {max(2 * k, _LEAST_CANDIDATES)}"
        )
        pairs = [(str(i), v) for i, v in zip(found[id][:], found[vector][:], strict=True) if v is not None]
        pairs.sort(key=lambda pair: pair[0])
        candidates = scoring.Matrix.of(
            [pair[0] for pair in pairs], np.array([pair[1] for pair in pairs], dtype=np.float32).reshape(len(pairs), -1)
        )
        return scoring.rank(candidates, query[None], k, distance="cosine")[0]


def _all_ids(dataset: Any, column: str) -> Sequence[Any]:
    ids: Sequence[Any] = dataset[column][:] if len(dataset) else []
    return ids


def _parts(rows: "int | NDArray[np.int64]", size: int) -> Iterator["slice | list[int]"]:
    """All of so many rows, or some of them, in parts that a column takes."""
    if isinstance(rows, int):
        yield from (slice(start, min(start + size, rows)) for start in range(0, rows, size))
    else:
        yield from (rows[start : start + size].tolist() for start in range(0, len(rows), size))


def _lists(rows: NDArray[np.int64]) -> Iterator[list[int]]:
    yield from (part for part in _parts(rows, _READ_AT_ONCE) if isinstance(part, list))


def _plain(value: Any) -> Any:
    """A value as Python has it; Deep Lake's own dictionaries become ours."""
    return value.to_dict(convert_numpy_to_list=True) if hasattr(value, "to_dict") else value
