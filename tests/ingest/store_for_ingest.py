"""A real store with an embedder that costs nothing and counts what it is given."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from deepmemory.store import VectorStore


class CountingEmbedder:
    """Vectors from a hash of the text."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        self.texts += texts
        return [[byte / 255 for byte in hashlib.sha256(text.encode()).digest()[:8]] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


class Store(VectorStore):
    """A store whose embedder is at hand."""

    def __init__(self, path: str | Path = "memory://") -> None:
        self.counting = CountingEmbedder()
        super().__init__(path, embedder=self.counting)
        self.counting.texts.clear()

    def embedded(self) -> list[str]:
        """What was embedded since this was last asked."""
        texts, self.counting.texts = self.counting.texts, []
        return texts

    def content(self) -> dict[str, tuple[str, dict[str, object]]]:
        """Every document by id."""
        return {document.id: (document.text, dict(document.metadata)) for document in self.documents()}

    def pages(self) -> dict[str, list[str]]:
        """The texts of each page."""
        pages: dict[str, list[str]] = {}
        for document in sorted(self.documents(), key=lambda document: document.metadata["start"]):
            pages.setdefault(document.metadata["page"], []).append(document.text)
        return pages
