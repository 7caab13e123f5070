"""Documents, relevance and labelled queries: what everything else is computed from, checked once at the door."""

from deepmemory.data.documents import check_documents, check_vectors
from deepmemory.data.labels import check_labelled
from deepmemory.data.model import Document, Hit, LabelledQueries, Metadata, Relevance
from deepmemory.data.splits import (
    Leak,
    Split,
    leaks,
    normalised,
    seen_documents,
    split_by_document,
    split_by_query,
)

__all__ = [
    "Document",
    "Hit",
    "LabelledQueries",
    "Leak",
    "Metadata",
    "Relevance",
    "Split",
    "check_documents",
    "check_labelled",
    "check_vectors",
    "leaks",
    "normalised",
    "seen_documents",
    "split_by_document",
    "split_by_query",
]
