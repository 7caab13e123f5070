"""What an ingestion needs of a store."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepmemory.data import Document, Metadata
from deepmemory.progress import Progress
from deepmemory.state import State

__all__ = ["Target", "Vectors"]


class Vectors(Protocol):
    """Where a store's vectors are."""

    def get_vectors(self, ids: Sequence[str]) -> Mapping[str, NDArray[np.float32]]:
        """Fetch the vectors of those of the ids that exist."""
        ...


class Target(Protocol):
    """A store of documents, such as `deepmemory.VectorStore`."""

    @property
    def backend(self) -> Vectors:
        """Where its vectors are."""
        ...

    @property
    def state(self) -> State:
        """Where it keeps what belongs to it and is no document."""
        ...

    def add(
        self,
        texts: Sequence[str],
        metadatas: Sequence[Metadata | None] | None = None,
        ids: Sequence[str] | None = None,
        embeddings: ArrayLike | None = None,
        *,
        progress: Progress | None = None,
    ) -> Any:
        """Add documents, replacing those whose id exists."""
        ...

    def get(self, ids: Sequence[str]) -> Sequence[Document | None]:
        """Fetch documents by id, in the order asked; None where there is none."""
        ...

    def delete(self, ids: Sequence[str] | None = None) -> Any:
        """Delete documents by id."""
        ...

    def count(self, filter: Mapping[str, Any] | None = None) -> int:
        """How many documents there are, or pass the filter."""
        ...

    def documents(self) -> Iterator[Document]:
        """All documents."""
        ...
