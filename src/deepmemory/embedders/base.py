"""The contract of an embedder: text in, unit vectors out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepmemory.progress import Progress

__all__ = ["Embedder"]


class Embedder(ABC):
    """Turns texts into vectors; queries and documents may be treated differently by the model."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What a person would call it, such as ``openai:text-embedding-3-small``."""

    @abstractmethod
    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed documents.

        Returns:
            ``(len(texts), dimensions)`` float32, unit norm.

        Raises:
            EmbedderError: the model or endpoint failed, or answered with something that is no set of vectors.
        """

    @abstractmethod
    def embed_queries(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed queries; as `embed_documents`."""
