"""`VectorStore`: documents, an embedder and a backend, searched with what Deep Memory has learned."""

from deepmemory.store.vector_store import RECORDED, Hit, VectorStore

__all__ = ["RECORDED", "Hit", "VectorStore"]
