"""How documents of our own are kept in collections of vector databases, the same in each of them.

Engines round: some scale a vector to unit norm before they store it, and their filters know less of JSON than ours.
So what a backend must give back as it was is kept as it was, beside what the engine searches: metadata as JSON text,
with the hashes of its terms to filter by; and where vectors are compared by cosine and one has another length
than 1, its bytes beside the unit vector that is indexed.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from deepmemory.backends.base import Distance, VectorArray, metadata_json
from deepmemory.backends.collection import NewRows
from deepmemory.backends.filters import Conditions, metadata_terms
from deepmemory.backends.lance_rows import hash_term
from deepmemory.data import Document
from deepmemory.data.text import is_utf8
from deepmemory.errors import InputError

__all__ = ["allowed_terms", "new_rows", "original_vectors", "unit_queries"]

_UNIT_TOLERANCE = 1e-6


def new_rows(documents: Sequence[Document], vectors: VectorArray, distance: Distance) -> NewRows:
    """Documents and their vectors ``(len(documents), dimensions)`` as rows.

    Raises:
        InputError: a text can't be written as UTF-8, or metadata is no JSON.
    """
    _check_writable(documents)
    given = np.ascontiguousarray(vectors, dtype=np.float32)
    indexed, changed = _unit_where_needed(given) if distance == "cosine" else (given, np.zeros(len(given), bool))
    return NewRows(
        ids=[document.id for document in documents],
        texts=[document.text for document in documents],
        metadata=[metadata_json(document.metadata) for document in documents],
        terms=[_hashed_terms(document) for document in documents],
        vectors=indexed,
        originals=[
            vector.astype("<f4").tobytes() if other else None for vector, other in zip(given, changed, strict=True)
        ],
    )


def _check_writable(documents: Iterable[Document]) -> None:
    problems = [
        f"document {document.id!r} holds half of a surrogate pair, which UTF-8 can't hold; decode its text anew"
        for document in documents
        if not (is_utf8(document.id) and is_utf8(document.text) and is_utf8(metadata_json(document.metadata)))
    ]
    if problems:
        raise InputError(problems)


def _unit_where_needed(vectors: VectorArray) -> tuple[VectorArray, np.ndarray]:
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    changed = (np.abs(norms - 1) > _UNIT_TOLERANCE) & (norms > 0)
    if not changed.any():
        return vectors, changed
    indexed = vectors.copy()
    indexed[changed] = vectors[changed] / norms[changed, None]
    return indexed, changed


def unit_queries(queries: VectorArray) -> VectorArray:
    """Queries ``(n, dimensions)`` with unit norm; zeros stay zeros."""
    norms = np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
    scaled = np.divide(queries, norms, out=np.zeros(queries.shape), where=norms > 0)
    return np.asarray(scaled, dtype=np.float32)


def original_vectors(indexed: VectorArray, originals: Sequence[bytes | None]) -> VectorArray:
    """The vectors as they were given, of what was indexed and the bytes kept beside it."""
    vectors = np.ascontiguousarray(indexed, dtype=np.float32)
    for row, original in enumerate(originals):
        if original is not None:
            vectors[row] = np.frombuffer(original, dtype="<f4")
    return vectors


def _hashed_terms(document: Document) -> list[int]:
    return sorted(hash_term(term) for term in metadata_terms(document.metadata))


def allowed_terms(conditions: Conditions) -> list[list[int]]:
    """For each key that a filter names, the hashes of which a document must have one."""
    return [sorted(hash_term(term) for term in allowed) for allowed in conditions.any_of]
