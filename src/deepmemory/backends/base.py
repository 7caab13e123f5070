"""The contract of a backend: where documents and their vectors live, and how they are found again."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deepmemory.data import Document, Metadata

__all__ = ["Backend", "Capabilities", "Distance", "Filter", "Ranking", "VectorArray"]

Distance: TypeAlias = Literal["cosine", "dot"]
"""How vectors are compared; the score is the similarity itself, so higher is always better."""

VectorArray: TypeAlias = NDArray[np.float32]

Filter: TypeAlias = Mapping[str, Any]
"""Metadata keys and the value each must equal, or a list of values of which it must equal one; keys are ANDed.
The key ``id`` stands for the document's id."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do beyond the contract; the contract suite skips the rest with the reason.

    Attributes:
        full_text: ranks documents by their words (`Backend.search_text`).
        persistent: what was added is there again after the process ends.
        concurrent_writers: several processes may write at once and lose nothing.
    """

    full_text: bool
    persistent: bool
    concurrent_writers: bool


@dataclass(frozen=True, slots=True)
class Ranking:
    """The ranked answer to one query.

    Attributes:
        ids: document ids, best first; ties are in ascending order of id where the engine is exact.
        scores: ``(len(ids),)`` float32, descending; higher is better.
    """

    ids: tuple[str, ...]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)


class Backend(ABC):
    """Documents by id with one vector each; every method may be called from several threads.

    A backend never embeds, never transforms and never validates what the store has validated already.
    It raises `StorageError` when its engine fails, with the engine's reason in one sentence.
    """

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this backend can do beyond the contract."""

    @property
    @abstractmethod
    def dimensions(self) -> int | None:
        """Length of the vectors; None while the collection is empty and was never written to."""

    @abstractmethod
    def upsert(self, documents: Sequence[Document], vectors: VectorArray) -> None:
        """Add documents, replacing those whose id exists; on return they are durable and are found.

        Args:
            documents: ids are distinct.
            vectors: ``(len(documents), dimensions)`` float32, stored as given.
        """

    @abstractmethod
    def get(self, ids: Sequence[str]) -> list[Document | None]:
        """Fetch documents by id, in the order asked; None where there is none."""

    @abstractmethod
    def get_vectors(self, ids: Sequence[str], *, filter: Filter | None = None) -> dict[str, VectorArray]:
        """Fetch the vectors ``(dimensions,)`` of those of the ids that exist and pass the filter."""

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
            distance: ``"cosine"`` or ``"dot"``.
            filter: applied before ranking, so that k hits come back where k documents pass.
        """

    @abstractmethod
    def search_text(self, queries: Sequence[str], k: int, *, filter: Filter | None = None) -> list[Ranking]:
        """Rank documents by their words (BM25 or the engine's own measure).

        Raises:
            CapabilityError: where `capabilities.full_text` is False.
        """

    @abstractmethod
    def batches(self, *, batch_size: int = 8192, text: bool = False) -> Iterator[pa.RecordBatch]:
        """Iterate over the whole collection without holding it.

        Yields:
            record batches with the columns ``id`` (string) and ``vector`` (fixed-size list of float32), and with
            ``text`` also ``text`` (string) and ``metadata`` (string, JSON), each document once.
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
    """Metadata in the one JSON form that all backends store (sorted keys, no spaces, any Unicode)."""
    import json

    return json.dumps(dict(metadata), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
