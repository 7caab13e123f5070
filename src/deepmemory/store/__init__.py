"""`VectorStore`: documents, an embedder and a backend, searched with what Deep Memory has learned."""

from deepmemory.data import Hit
from deepmemory.store.attaching import attach
from deepmemory.store.attachment import Attachment
from deepmemory.store.opening import RECORDED
from deepmemory.store.vector_store import VectorStore

__all__ = ["RECORDED", "Attachment", "Hit", "VectorStore", "attach"]
