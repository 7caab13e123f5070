"""The contract of an embedder: text in, unit vectors out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepmemory.progress import Progress

__all__ = ["Embedder"]


class Embedder(ABC):
    """Turns texts into vectors; queries and documents may be treated differently by the model.

    Every method may be called from several threads at once.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What a person would call it, such as ``openai:text-embedding-3-small``."""

    @property
    def dimensions(self) -> int | None:
        """Length of the vectors; None where that is not known before the first text is embedded."""
        return None

    @property
    def query_map(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """What a model's vectors of queries go through before they are given: ``unit(x matrix + offset)``.

        Returns:
            the matrix ``(model's dimensions, dimensions)`` and the offset ``(dimensions,)``; None where they are given
            as the model makes them. Exported layers take queries as the model makes them, so they hold the map.
        """
        return None

    @abstractmethod
    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed documents.

        Args:
            texts: none at all is fine: the answer is then ``(0, dimensions)``, or ``(0, 0)`` while the dimensions
                are unknown.
            progress: called in the calling thread with ``(texts done, len(texts))``; what it raises stops the work.

        Returns:
            ``(len(texts), dimensions)`` float32, unit norm.

        Raises:
            InputError: the texts are no list of strings.
            EmbedderError: the model or endpoint failed, or answered with something that is no set of vectors.
        """

    @abstractmethod
    def embed_queries(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed queries; as `embed_documents`."""
