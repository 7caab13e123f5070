"""What an engine has to give so that `CollectionBackend` makes a backend of it: a few plain acts on its collections."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from deepmemory.backends.base import Distance, VectorArray
from deepmemory.backends.engine_address import EngineAddress
from deepmemory.backends.filters import Conditions
from deepmemory.backends.layout import Layout
from deepmemory.data import Document
from deepmemory.errors import NotAStoreError

__all__ = ["Collection", "CollectionGoneError", "Engine", "Hits", "NewRows", "Rows", "Where"]


class CollectionGoneError(Exception):
    """The collection was dropped since it was opened; another may be in its place."""


@dataclass(frozen=True, slots=True)
class Where:
    """A filter as the engine takes it.

    Attributes:
        native: in the engine's own terms; None where it lets everything pass.
        exact: whether it lets the right documents pass; otherwise others are among them, which are left out afterwards.
        nothing: whether no document at all can pass.
    """

    native: Any = None
    exact: bool = True
    nothing: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """Documents as the engine returned them, each part only where it was asked for.

    Attributes:
        ids: of the documents.
        texts: their texts; empty where not asked for.
        metadata: as JSON; empty where not asked for.
        vectors: ``(n, dimensions)`` float32; None where not asked for.
    """

    ids: Sequence[str]
    texts: Sequence[str] = ()
    metadata: Sequence[str] = ()
    vectors: VectorArray | None = None


@dataclass(frozen=True, slots=True)
class NewRows:
    """Documents of ours to be written.

    Attributes:
        ids: distinct.
        texts: their texts.
        metadata: as JSON.
        terms: for each document the hashes of its metadata's terms, to filter by.
        vectors: ``(n, dimensions)`` float32, as the engine is to index them.
        originals: for each document its vector's bytes where they differ from what is indexed.
    """

    ids: Sequence[str]
    texts: Sequence[str]
    metadata: Sequence[str]
    terms: Sequence[Sequence[int]]
    vectors: VectorArray
    originals: Sequence[bytes | None]

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, start: int, stop: int) -> "NewRows":
        """Some of the rows."""
        cut = slice(start, stop)
        return NewRows(
            self.ids[cut],
            self.texts[cut],
            self.metadata[cut],
            self.terms[cut],
            self.vectors[cut],
            self.originals[cut],
        )


@dataclass(frozen=True, slots=True)
class Hits:
    """What the engine found for one query.

    Attributes:
        ids: in any order.
        scores: ``(n,)`` float32 similarities, higher is better.
        documents: those that came along, by id.
    """

    ids: Sequence[str]
    scores: NDArray[np.float32]
    documents: Mapping[str, Document] = field(default_factory=dict)


class Collection(ABC):
    """One open collection; methods raise `CollectionGoneError` once it was dropped, and the engine's own errors.

    Attributes:
        dimensions: length of its vectors.
        distance: what its index ranks by; queries for ``cosine`` come with unit norm.
        rows_at_once: how many documents one call writes, removes or fetches by id at most.
        most_hits: the largest k that its index answers.
    """

    dimensions: int
    distance: Distance
    rows_at_once: int
    most_hits: int

    @abstractmethod
    def where(self, conditions: Conditions) -> Where:
        """Translate what a filter says of metadata; its ids are not looked at."""

    @abstractmethod
    def count(self, where: Where) -> int:
        """How many documents pass."""

    @abstractmethod
    def read(
        self,
        where: Where,
        *,
        ids: Sequence[str] | None = None,
        documents: bool = False,
        vectors: bool = False,
        batch_size: int = 4096,
    ) -> Iterator[Rows]:
        """Read the documents that pass, of some ids (``rows_at_once`` at most) or of all.

        One that is there all the while is read exactly once; rows without a vector are left out.
        """

    @abstractmethod
    def nearest(self, queries: VectorArray, k: int, where: Where, *, documents: bool) -> list[Hits]:
        """The k nearest to each query through the engine's index."""

    @abstractmethod
    def write(self, rows: NewRows) -> None:
        """Add or replace up to ``rows_at_once`` documents."""

    @abstractmethod
    def remove(self, ids: Sequence[str]) -> None:
        """Remove up to ``rows_at_once`` documents by id."""


class Engine(ABC):
    """A database with a collection in it that is ours, is to be, or is attached to.

    Attributes:
        product: what people call it.
        rows_at_once: up to how many documents it adds all or none.
        location: the collection's address, for messages.
        several_writers: whether several processes may write at once.
        is_ours: whether the layout is that of collections of our own.
    """

    product: ClassVar[str]
    rows_at_once: ClassVar[int]
    is_ours: bool

    @abstractmethod
    def __init__(
        self, address: EngineAddress, layout: Layout, *, create: bool, storage_options: Mapping[str, str] | None
    ) -> None:
        """Connect; the collection is looked for when it is needed.

        Args:
            address: of the database.
            layout: of the collection.
            create: whether a database may be made where there is none.
            storage_options: may hold the server's ``token``.
        """
        self._layout = layout
        self.location = f"{address.place}/{layout.collection}"
        self.several_writers = address.folder is None

    def not_ours(self) -> NotAStoreError:
        """What is raised where ours was expected and somebody else's is there."""
        return NotAStoreError(
            f"the collection {self.location} was not made by Deep Memory: choose another name, "
            f"or attach to it with deepmemory.attach"
        )

    @abstractmethod
    def errors(self, action: str) -> AbstractContextManager[None]:
        """Turn what the engine raises into a `StorageError` of one sentence: can't ``action`` in the location."""

    @abstractmethod
    def open(self) -> Collection | None:
        """Open the collection as it is now; None where there is none.

        Raises:
            NotAStoreError: it is of somebody else, and ours was expected.
        """

    @abstractmethod
    def create(self, dimensions: int) -> Collection:
        """Make our collection; where another process was first, open that."""

    @abstractmethod
    def drop(self) -> None:
        """Remove our collection; nothing happens where there is none."""

    def optimize(self) -> None:  # noqa: B027  most engines look after themselves
        """Let the engine compact and index."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection."""
