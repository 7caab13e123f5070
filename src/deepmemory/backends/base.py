"""The contract of a backend: where documents and their vectors live, and how they are found again."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deepmemory.data import Document, Metadata
from deepmemory.errors import CapabilityError, InputError

__all__ = [
    "Backend",
    "Capabilities",
    "Distance",
    "Filter",
    "Ranking",
    "VectorArray",
    "check_dimensions",
    "metadata_json",
]

Distance: TypeAlias = Literal["cosine", "dot"]
"""How vectors are compared; the score is the similarity itself, so higher is always better."""

VectorArray: TypeAlias = NDArray[np.float32]

Filter: TypeAlias = Mapping[str, Any]
"""Metadata keys and the value each must equal, or a list of values of which it must equal one; keys are ANDed.
The key ``id`` stands for the document's id. Values are equal as JSON: 1 equals 1.0, not True and not "1"; None
equals a null that is there, not a key that is absent; objects and (inside a list of values) arrays equal as wholes."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do beyond the contract; the contract suite skips the rest with the reason.

    Attributes:
        full_text: ranks documents by their words (`Backend.search_text`).
        persistent: what was added is there again after the process ends, even by ``kill -9``.
        concurrent_writers: several processes may write at once and lose nothing.
        snapshots: `Backend.batches` gives the collection as it was when the iteration began; otherwise a document
            that is there all the while comes exactly once, and one that is changed meanwhile comes or not.
        atomic_rows: up to how many documents one `Backend.upsert` adds all or none; None where it is any number.
    """

    full_text: bool
    persistent: bool
    concurrent_writers: bool
    snapshots: bool = True
    atomic_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The ranked answer to one query.

    Attributes:
        ids: document ids, best first, equal scores in ascending order of id. Which of several documents with the
            score of the last place are kept is the engine's choice; the ``exact`` backend keeps the lowest ids.
        scores: ``(len(ids),)`` float32, descending; higher is better.
        documents: those of the documents that the engine gave along at little cost, by id; others may be among them,
            and who wants the rest fetches them by id.
    """

    ids: tuple[str, ...]
    scores: NDArray[np.float32]
    documents: Mapping[str, Document] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.ids)


class Backend(ABC):
    """Documents by id with one vector each; every method may be called from several threads.

    A backend never embeds, never transforms, and never validates what the store has validated already: ids are
    strings, vectors are finite. What other processes wrote and were told is written is seen by the next call.

    Every method raises `StorageError` when the engine fails, with the engine's reason in one sentence, and
    `InputError` for vectors of another length than the collection's, or a filter or metadata that is no JSON;
    what was stored is then unchanged. Methods that write raise `ReadOnlyError` where the backend was opened for
    reading only.
    """

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this backend can do beyond the contract."""

    @property
    @abstractmethod
    def dimensions(self) -> int | None:
        """Length of the vectors; None until the first `upsert`, and after `drop`."""

    @property
    def left_out(self) -> int:
        """Rows that an attached collection has and that are no documents here, for they have no vector."""
        return 0

    @abstractmethod
    def upsert(self, documents: Sequence[Document], vectors: VectorArray) -> None:
        """Add documents, replacing those whose id exists: all of them or, where it raises, none.

        On return they are kept and are found, by this process and by others. Of more documents than
        `Capabilities.atomic_rows`, those of earlier parts stay when a later part fails.

        Args:
            documents: ids are distinct.
            vectors: ``(len(documents), dimensions)`` float32, stored as given.
        """

    @abstractmethod
    def get(self, ids: Sequence[str]) -> list[Document | None]:
        """Fetch documents by id, in the order asked; None where there is none."""

    @abstractmethod
    def get_vectors(self, ids: Sequence[str], *, filter: Filter | None = None) -> dict[str, VectorArray]:
        """Fetch the vectors ``(dimensions,)`` of those of the ids that exist and pass the filter.

        Cheap for the same few thousand ids again and again: label memory asks at every search.
        """

    @abstractmethod
    def delete(self, *, ids: Sequence[str] | None = None, filter: Filter | None = None) -> int:
        """Delete by ids, by filter or (both given) by ids that pass the filter; return how many were deleted.

        With neither given everything is deleted.
        """

    @abstractmethod
    def count(self, filter: Filter | None = None) -> int:
        """How many documents there are, or pass the filter."""

    @abstractmethod
    def search(
        self,
        query_vectors: VectorArray,
        k: int,
        *,
        distance: Distance = "cosine",
        filter: Filter | None = None,
    ) -> list[Ranking]:
        """Rank documents by similarity for a batch of queries.

        Args:
            query_vectors: ``(n_queries, dimensions)`` float32.
            k: at most this many hits each; fewer where the store, or what passes the filter, is smaller.
            distance: ``"cosine"`` or ``"dot"``. A vector of zeros has no direction: by cosine a document that
                has one is never found, and a query that is one finds nothing.
            filter: applied before ranking, so that k hits come back where k documents pass.
        """

    def search_text(
        self,
        queries: Sequence[str],  # noqa: ARG002  the backends that can, use them
        k: int,  # noqa: ARG002
        *,
        filter: Filter | None = None,  # noqa: ARG002
    ) -> list[Ranking]:
        """Rank documents by their words (BM25 or the engine's own measure).

        Any string is a query: there is no query syntax, and one without any known word finds nothing.

        Raises:
            CapabilityError: where `capabilities.full_text` is False.
        """
        raise CapabilityError(f"{type(self).__name__} has no full-text search; use a store in a folder for that")

    @abstractmethod
    def batches(self, *, batch_size: int = 8192, text: bool = False) -> Iterator[pa.RecordBatch]:
        """Iterate over the whole collection without holding it.

        Yields:
            record batches with the columns ``id`` (string) and ``vector`` (fixed-size list of float32), and with
            ``text`` also ``text`` (string) and ``metadata`` (string, JSON), each document once, as they were when
            the iteration began.
        """

    @abstractmethod
    def optimize(self) -> None:
        """Let the engine compact, and index what is not indexed yet; never needed for correct results."""

    @abstractmethod
    def drop(self) -> None:
        """Remove the collection altogether."""

    def close(self) -> None:  # noqa: B027  most engines hold nothing that needs closing
        """Release what is held open; a closed backend is not used again."""


def metadata_json(metadata: Metadata) -> str:
    """Metadata in the one JSON form that all backends store (sorted keys, no spaces, any Unicode).

    Raises:
        InputError: a value is no JSON value.
    """
    try:
        return json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InputError(f"metadata holds JSON values by keys that are strings; found {metadata!r}: {error}") from error


def check_dimensions(vectors: VectorArray, dimensions: int | None) -> None:
    """Check that vectors have the length of the collection's.

    Raises:
        InputError: they have another length, or aren't a two-dimensional array.
    """
    if vectors.ndim != 2:
        raise InputError(f"vectors come as an array (n, dimensions); found the shape {vectors.shape}")
    if dimensions is not None and vectors.shape[1] != dimensions:
        raise InputError(f"the stored vectors have {dimensions} dimensions; found vectors of {vectors.shape[1]}")
