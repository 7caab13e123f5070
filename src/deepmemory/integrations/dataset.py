"""The documents of a store as Deep Lake 3 showed them: tensors ``text``, ``id``, ``metadata`` and ``embedding``."""

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from deepmemory.data import Document
from deepmemory.errors import InputError
from deepmemory.store import VectorStore

__all__ = ["TENSORS", "Cell", "Column", "Dataset", "Sample", "Tensor", "TensorName", "check_tensor"]

TensorName: TypeAlias = Literal["text", "id", "metadata", "embedding"]
TENSORS: tuple[TensorName, ...] = get_args(TensorName)

_HTYPES = {
    "text": ("text", "str"),
    "id": ("text", "str"),
    "metadata": ("json", "str"),
    "embedding": ("embedding", "float32"),
}


def check_tensor(name: object) -> TensorName:
    """A name that is one of the four.

    Raises:
        InputError: it is not.
    """
    if name not in TENSORS:
        raise InputError(f"there is no tensor {name!r}: a store has {', '.join(TENSORS)}")
    return name


class Column(list[Any]):
    """All values of one tensor: a list by row that can be asked for a document's value by its id as well.

    Relevance names documents by id, and the tutorial looks their texts up with it: ``docs[doc_id]``.
    """

    def __init__(self, values: list[Any], ids: list[str]) -> None:
        super().__init__(values)
        self._ids = ids

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {id: row for row, id in enumerate(self._ids)}

    def __getitem__(self, key: Any) -> Any:
        """A value by row, by slice, or by the id of its document.

        Raises:
            KeyError: there is no document with this id.
        """
        return super().__getitem__(self._row_of[key] if isinstance(key, str) else key)


class Tensor:
    """One of the four tensors, or some rows of it; every look reads the store as it is now."""

    def __init__(self, store: VectorStore, name: TensorName, rows: slice = slice(None)) -> None:
        self._store = store
        self.name = name
        self._rows = rows

    @property
    def htype(self) -> str:
        """What Deep Lake called the kind of its values."""
        return _HTYPES[self.name][0]

    @property
    def dtype(self) -> str:
        """The type of its values."""
        return _HTYPES[self.name][1]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and the length of each."""
        return len(self), (self._store.backend.dimensions or 0) if self.name == "embedding" else 1

    def data(self, *, fetch_chunks: bool = False, aslist: bool = False) -> dict[str, Any]:  # noqa: ARG002
        """All values, in the order of the store, which is the same for the four tensors.

        Args:
            fetch_chunks: accepted as the original's, and not needed.
            aslist: a `Column`; else a NumPy array.

        Returns:
            the values, under the key ``"value"``.
        """
        return {"value": self._column() if aslist else self.numpy()}

    def numpy(self, *, aslist: bool = False, fetch_chunks: bool = False) -> Any:  # noqa: ARG002
        """All values: embeddings ``(n, dimensions)`` float32, others ``(n,)`` objects; with ``aslist`` a `Column`."""
        column = self._column()
        if aslist:
            return column
        if self.name == "embedding":
            return np.stack(column) if column else np.empty(self.shape, dtype=np.float32)
        array = np.empty(len(column), dtype=object)
        array[:] = column
        return array

    def __len__(self) -> int:
        return len(range(*self._rows.indices(self._store.count())))

    def __iter__(self) -> Iterator["Cell"]:
        return (Cell(lambda value=value: value) for value in self._column())  # type: ignore[misc]

    def __getitem__(self, key: Any) -> Any:
        """Some rows as a tensor, or one row as a cell."""
        if isinstance(key, slice):
            rows = range(*self._rows.indices(self._store.count()))[key]
            stop = rows.stop if rows.stop >= 0 else None
            return Tensor(self._store, self.name, slice(rows.start, stop, rows.step))
        value = self._column()[int(key)]
        return Cell(lambda: value)

    def __repr__(self) -> str:
        return f"Tensor({self.name!r}, {len(self)} rows)"

    def _column(self) -> Column:
        ids, values = [], []
        for id, value in _with_ids(self._store, self.name):
            ids.append(id)
            values.append(value)
        return Column(values[self._rows], ids[self._rows])


class Cell:
    """One value of one tensor."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self._read = read

    def data(self, *, fetch_chunks: bool = False, aslist: bool = False) -> dict[str, Any]:  # noqa: ARG002
        """The value, under the key ``"value"``."""
        return {"value": self._read()}

    def numpy(self, *, fetch_chunks: bool = False, aslist: bool = False) -> Any:  # noqa: ARG002
        """The value."""
        return self._read()


class Sample:
    """One document, as a filter function gets it: ``sample["metadata"].data()["value"]``, or ``sample.metadata``."""

    def __init__(self, document: Document, store: VectorStore) -> None:
        self._document = document
        self._store = store

    def __getitem__(self, name: str) -> Cell:
        return self._cell(check_tensor(name))

    @property
    def text(self) -> Cell:
        """The document's text."""
        return self._cell("text")

    @property
    def id(self) -> Cell:
        """The document's id."""
        return self._cell("id")

    @property
    def metadata(self) -> Cell:
        """The document's metadata."""
        return self._cell("metadata")

    @property
    def embedding(self) -> Cell:
        """The document's vector, fetched when it is asked for."""
        return self._cell("embedding")

    def _cell(self, name: TensorName) -> Cell:
        if name == "embedding":
            id = self._document.id
            return Cell(lambda: self._store.backend.get_vectors([id])[id])
        return Cell(lambda: getattr(self._document, name))


class Dataset:
    """What ``vectorstore.dataset`` was: the store by its tensors."""

    def __init__(self, store: VectorStore) -> None:
        self._store = store

    @property
    def path(self) -> str:
        """Where the store is."""
        return self._store.path

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The four tensors by name."""
        return {name: Tensor(self._store, name) for name in TENSORS}

    @property
    def text(self) -> Tensor:
        """The texts."""
        return Tensor(self._store, "text")

    @property
    def id(self) -> Tensor:
        """The ids, by which relevance names documents."""
        return Tensor(self._store, "id")

    @property
    def metadata(self) -> Tensor:
        """The metadata."""
        return Tensor(self._store, "metadata")

    @property
    def embedding(self) -> Tensor:
        """The vectors."""
        return Tensor(self._store, "embedding")

    def __len__(self) -> int:
        return self._store.count()

    def __bool__(self) -> bool:
        """A dataset is something, also while it is empty."""
        return True

    def __iter__(self) -> Iterator[Sample]:
        return (Sample(document, self._store) for document in self._store.documents())

    def __getitem__(self, key: str | int) -> Tensor | Sample:
        """A tensor by its name, or a document by its row.

        Raises:
            InputError: there is no such tensor.
            IndexError: there is no such row.
        """
        if isinstance(key, str):
            return Tensor(self._store, check_tensor(key))
        row = key if key >= 0 else key + len(self)
        document = next(islice(self._store.documents(), row, None), None) if row >= 0 else None
        if document is None:
            raise IndexError(f"there is no row {key}: the dataset has {len(self)}")
        return Sample(document, self._store)

    def table(self) -> str:
        """The tensors with their types and shapes, as the original's ``summary`` printed them."""
        rows = [("tensor", "htype", "shape", "dtype")]
        rows += [(name, t.htype, str(t.shape), t.dtype) for name, t in self.tensors.items()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([repr(self), "", *lines])

    def __repr__(self) -> str:
        return f"Dataset(path={self.path!r}, tensors={list(TENSORS)})"


def _with_ids(store: VectorStore, name: TensorName) -> Iterator[tuple[str, Any]]:
    if name != "embedding":
        yield from ((document.id, getattr(document, name)) for document in store.documents())
        return
    for batch in store.backend.batches():
        column = batch.column("vector")
        vectors: NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        yield from zip(batch.column("id").to_pylist(), vectors.reshape(len(column), -1), strict=True)
