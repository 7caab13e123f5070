"""One collection of Chroma: ours, or one that LangChain, LlamaIndex or somebody else filled."""
# ruff: noqa: D102  Collection documents the methods

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from deepmemory.backends.attached import as_metadata
from deepmemory.backends.base import VectorArray
from deepmemory.backends.chroma_client import is_missing
from deepmemory.backends.collection import Collection, CollectionGoneError, Hits, NewRows, Rows, Where
from deepmemory.backends.filters import Conditions
from deepmemory.backends.layout import Layout
from deepmemory.backends.llama_index_nodes import is_node_part
from deepmemory.backends.own_rows import allowed_terms, original_vectors
from deepmemory.data import Document

if TYPE_CHECKING:
    from chromadb.api.models.Collection import Collection as Handle

__all__ = [
    "DOCUMENT",
    "EVERYTHING",
    "MARK",
    "OWN_LAYOUT_JSON",
    "ROWS_AT_ONCE",
    "ChromaCollection",
    "dimensions_of",
    "space_of",
]

MARK = "deepmemory"
"""The key in a collection's own metadata that says that it is ours; its value is the version of this form."""

DOCUMENT, EVERYTHING = "document", "metadata"
"""How a layout names Chroma's text of a document, and all that is in its metadata."""

OWN_LAYOUT_JSON = "deepmemory_metadata"
_TERMS, _ORIGINAL = "deepmemory_terms", "deepmemory_vector"
_NO_TERMS = [0]  # Chroma takes no empty list
ROWS_AT_ONCE = 2_000
_MOST_HITS = 10_000
_INT64 = range(-(2**63), 2**63)


class ChromaCollection(Collection):
    """A handle of Chroma's, which names the collection by its own number: one made anew by the same name is another."""

    rows_at_once = ROWS_AT_ONCE
    most_hits = _MOST_HITS

    def __init__(self, handle: "Handle", layout: Layout, largest_batch: int) -> None:
        self._handle = handle
        self._layout = layout
        self._ours = layout.metadata_json == OWN_LAYOUT_JSON
        self._space = space_of(handle)
        self.distance = layout.distance
        self.dimensions = dimensions_of(handle) or 0
        self.rows_at_once = min(ROWS_AT_ONCE, largest_batch)

    # Filters

    def where(self, conditions: Conditions) -> Where:
        if not all(conditions.any_of):
            return Where(nothing=True)
        if self._ours:
            parts = [
                _any([{_TERMS: {"$contains": hashed}} for hashed in allowed]) for allowed in allowed_terms(conditions)
            ]
            return Where(_all(parts))
        return self._where_foreign(conditions)

    def _where_foreign(self, conditions: Conditions) -> Where:
        parts, exact = [], True
        for allowed in conditions.any_of:
            terms = [json.loads(term) for term in allowed]
            key, values = terms[0][0], [value for _, value in terms]
            if not self._is_metadata(key):
                return Where(nothing=True)
            if any(isinstance(value, list) for value in values):
                exact = False  # Chroma can look into lists, but not compare them as wholes
                continue
            alternatives = _scalars(key, values)
            if not alternatives:
                return Where(nothing=True)
            parts.append(_any(alternatives))
        return Where(_all(parts), exact=exact)

    def _is_metadata(self, key: str) -> bool:
        if key == self._layout.text:
            return False
        return key in self._layout.metadata or (self._layout.metadata_json == EVERYTHING and not is_node_part(key))

    # Reading

    def count(self, where: Where) -> int:
        with _watched():
            if where.native is None:
                return self._handle.count()
            return len(self._handle.get(where=where.native, include=[])["ids"])

    def read(
        self,
        where: Where,
        *,
        ids: Sequence[str] | None = None,
        documents: bool = False,
        vectors: bool = False,
        batch_size: int = 4096,
    ) -> Iterator[Rows]:
        include = [*(("documents", "metadatas") if documents else ()), *(("embeddings",) if vectors else ())]
        if vectors and self._ours and not documents:
            include.append("metadatas")
        if ids is not None or not include:
            yield self._get(where, None if ids is None else list(ids), include, documents=documents)
            return
        # The ids of one moment first: by limit and offset, what others delete would shift what comes after it.
        with _watched():
            everything = self._handle.get(where=where.native, include=[])["ids"]
        for start in range(0, len(everything), min(batch_size, self.rows_at_once)):
            part = everything[start : start + min(batch_size, self.rows_at_once)]
            yield self._get(Where(), part, include, documents=documents)

    def _get(self, where: Where, ids: list[str] | None, include: list[Any], *, documents: bool) -> Rows:
        if ids is not None and not ids:
            return Rows([])
        with _watched():
            found = self._handle.get(ids=ids, where=where.native, include=include)
        metadatas: Sequence[Mapping[str, Any] | None] = found["metadatas"] or [None] * len(found["ids"])
        vectors = None
        if "embeddings" in include:
            vectors = np.asarray(found["embeddings"], dtype=np.float32).reshape(len(found["ids"]), self.dimensions)
            if self._ours:
                vectors = original_vectors(vectors, [_original(metadata) for metadata in metadatas])
        if not documents:
            return Rows(found["ids"], vectors=vectors)
        texts: Sequence[str | None] = found["documents"] or [None] * len(found["ids"])
        return Rows(
            found["ids"],
            texts=[self._text(text, metadata) for text, metadata in zip(texts, metadatas, strict=True)],
            metadata=[self._metadata(metadata) for metadata in metadatas],
            vectors=vectors,
        )

    def _text(self, text: str | None, metadata: Mapping[str, Any] | None) -> str:
        if self._layout.text == DOCUMENT:
            return text or ""
        found = (metadata or {}).get(self._layout.text or "")
        return "" if found is None else str(found)

    def _metadata(self, metadata: Mapping[str, Any] | None) -> str:
        if self._ours:
            return str((metadata or {})[OWN_LAYOUT_JSON])
        return as_metadata({key: value for key, value in (metadata or {}).items() if self._is_metadata(key)})

    # Searching

    def nearest(self, queries: VectorArray, k: int, where: Where, *, documents: bool) -> list[Hits]:
        include: list[Any] = ["distances", *(("documents", "metadatas") if documents else ())]
        with _watched():
            found = self._handle.query(query_embeddings=queries, n_results=k, where=where.native, include=include)
        distances = found["distances"]
        assert distances is not None
        return [
            Hits(ids, self._similarity(np.array(distances[row])), self._along(found, row) if documents else {})
            for row, ids in enumerate(found["ids"])
        ]

    def _along(self, found: Mapping[str, Any], row: int) -> dict[str, Document]:
        parts = zip(found["ids"][row], found["documents"][row], found["metadatas"][row], strict=True)
        return {
            id: Document(id, self._text(text, metadata), json.loads(self._metadata(metadata)))
            for id, text, metadata in parts
        }

    def _similarity(self, distances: VectorArray) -> VectorArray:
        # Between unit vectors the square of the length between them, which is Chroma's "l2", is 2 - 2 cos.
        halved = distances / 2 if self._space == "l2" else distances
        return (1 - halved).astype(np.float32)

    # Writing

    def write(self, rows: NewRows) -> None:
        metadatas: list[Mapping[str, Any]] = [
            {
                OWN_LAYOUT_JSON: metadata,
                _TERMS: list(terms) or _NO_TERMS,
                # Chroma keeps the keys that an upsert doesn't name, so this one always has a value.
                _ORIGINAL: "" if original is None else base64.b64encode(original).decode(),
            }
            for metadata, terms, original in zip(rows.metadata, rows.terms, rows.originals, strict=True)
        ]
        with _watched():
            self._handle.upsert(
                ids=list(rows.ids),
                embeddings=rows.vectors,
                documents=list(rows.texts),
                metadatas=metadatas,
            )

    def remove(self, ids: Sequence[str]) -> None:
        with _watched():
            self._handle.delete(ids=list(ids))


def space_of(handle: "Handle") -> str:
    """What the collection's index measures: ``l2`` (the square of the length between), ``cosine`` or ``ip``."""
    configuration: Mapping[str, Any] = handle.configuration_json
    for index in ("hnsw", "spann"):
        if configuration.get(index):
            return str(configuration[index].get("space") or "l2")
    return str((handle.metadata or {}).get("hnsw:space", "l2"))


def dimensions_of(handle: "Handle") -> int | None:
    """The length of a collection's vectors; None while it has none."""
    ours = (handle.metadata or {}).get("dimensions") if MARK in (handle.metadata or {}) else None
    if ours is not None:
        return int(ours)
    sample = handle.peek(1)["embeddings"] if handle._model.dimension is None else None
    if sample is not None:
        return len(sample[0]) if len(sample) else None
    return handle._model.dimension


def _original(metadata: Mapping[str, Any] | None) -> bytes | None:
    kept = (metadata or {}).get(_ORIGINAL)
    return base64.b64decode(kept) if kept else None


def _scalars(key: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    """Conditions of which one must hold so that a key has one of the values; Chroma tells 1 from 1.0 and from True."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    of_each_type: list[list[Any]] = [
        [value for value in values if isinstance(value, str)],
        [value for value in values if isinstance(value, bool)],
        [value for value in numbers if isinstance(value, int) and value in _INT64],
        [float(value) for value in numbers if abs(value) < 2.0**1023],
    ]
    return [{key: {"$in": typed}} for typed in of_each_type if typed]


def _any(conditions: list[dict[str, Any]]) -> dict[str, Any]:
    return conditions[0] if len(conditions) == 1 else {"$or": conditions}


def _all(conditions: list[dict[str, Any]]) -> dict[str, Any] | None:
    if not conditions:
        return None
    return conditions[0] if len(conditions) == 1 else {"$and": conditions}


@contextmanager
def _watched() -> Iterator[None]:
    """Tell a collection that was dropped from what else can go wrong."""
    try:
        yield
    except Exception as error:
        if is_missing(error):
            raise CollectionGoneError from error
        raise
