"""One collection of Qdrant: ours, or one that LangChain, LlamaIndex or somebody else filled."""
# ruff: noqa: D102  Collection documents the methods

import base64
import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from deepmemory.backends.attached import as_metadata
from deepmemory.backends.base import VectorArray
from deepmemory.backends.collection import Collection, CollectionGoneError, Hits, NewRows, Rows, Where
from deepmemory.backends.filters import Conditions
from deepmemory.backends.layout import Layout
from deepmemory.backends.llama_index_nodes import NODE, is_node_part, node_text
from deepmemory.backends.own_rows import allowed_terms, original_vectors
from deepmemory.backends.qdrant_connection import QdrantConnection, is_missing
from deepmemory.data import Document

if TYPE_CHECKING:
    from qdrant_client import models

__all__ = ["EVERYTHING", "OWN_VECTOR", "ROWS_AT_ONCE", "QdrantCollection", "is_ours"]

OWN_VECTOR = "deepmemory"
"""The name of the vector in collections of ours, which tells them from others."""

EVERYTHING = "*"
"""How a layout says that all of a point's payload is metadata, save its text."""

ROWS_AT_ONCE = 1_000
_MOST_HITS = 10_000
_SEARCH_WIDTH = 200
_ID, _TEXT, _METADATA, _TERMS, _ORIGINAL = "id", "text", "metadata", "terms", "vector"
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_EXACT_INTEGERS = 2**53


class QdrantCollection(Collection):
    """A collection by its name, with what was known of it when it was opened."""

    rows_at_once = ROWS_AT_ONCE
    most_hits = _MOST_HITS

    def __init__(self, connection: QdrantConnection, layout: Layout, dimensions: int, measure: str) -> None:
        """Work with a collection.

        Args:
            connection: to the database.
            layout: of the collection.
            dimensions: length of its vectors.
            measure: what its index ranks by, ``"Cosine"``, ``"Dot"`` or ``"Euclid"``.
        """
        self._connection = connection
        self._client = connection.client
        self._layout = layout
        self._name = layout.collection
        self._ours = is_ours(layout)
        self._measure = measure
        self.distance = layout.distance
        self.dimensions = dimensions

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Tell a collection that was dropped from what else can go wrong."""
        with self._connection.lock or nullcontext():
            try:
                yield
            except Exception as error:
                if is_missing(error, self._name):
                    raise CollectionGoneError from error
                raise

    # Filters

    def where(self, conditions: Conditions) -> Where:
        from qdrant_client import models

        if not all(conditions.any_of):
            return Where(nothing=True)
        if self._ours:
            must: list[Any] = [
                models.FieldCondition(key=_TERMS, match=models.MatchAny(any=allowed))
                for allowed in allowed_terms(conditions)
            ]
            return Where(models.Filter(must=must) if must else None)
        return self._where_foreign(conditions)

    def _where_foreign(self, conditions: Conditions) -> Where:
        """What comes near: Qdrant finds a value within a list as well as alone."""
        from qdrant_client import models

        must: list[Any] = []
        for allowed in conditions.any_of:
            terms = [json.loads(term) for term in allowed]
            key, values = terms[0][0], [value for _, value in terms]
            path = self._path(key)
            if path is None:
                return Where(nothing=True)
            alternatives = [_condition(path, value) for value in values]
            if _PLAIN_KEY.fullmatch(key) and None not in alternatives:
                must.append(models.Filter(should=alternatives))
        return Where(models.Filter(must=must) if must else None, exact=not conditions.any_of)

    def _path(self, key: str) -> str | None:
        """Where in a point's payload a metadata key is; None where it can't be."""
        inside = self._layout.metadata_json
        if key in self._layout.metadata:
            return key
        if inside == EVERYTHING:
            return None if key == self._layout.text or is_node_part(key) else key
        return None if inside is None else f"{inside}.{key}"

    # Reading

    def count(self, where: Where) -> int:
        with self._watched():
            return int(self._client.count(self._name, count_filter=where.native, exact=True).count)

    def read(
        self,
        where: Where,
        *,
        ids: Sequence[str] | None = None,
        documents: bool = False,
        vectors: bool = False,
        batch_size: int = 4096,
    ) -> Iterator[Rows]:
        from qdrant_client import models

        condition = where.native
        if ids is not None:
            points = [point for id in ids if (point := self._point_id(id)) is not None]
            if not points:
                return
            has_id = models.HasIdCondition(has_id=points)
            condition = models.Filter(must=[has_id, *([condition] if condition else [])])
        # Points come in the order of their ids, so what others write meanwhile shifts none of the rest.
        offset, more = None, True
        while more:
            with self._watched():
                found, offset = self._client.scroll(
                    self._name,
                    scroll_filter=condition,
                    limit=min(batch_size, ROWS_AT_ONCE),
                    offset=offset,
                    with_payload=self._payload(documents=documents),
                    with_vectors=[self._layout.vector] if vectors and self._layout.vector else vectors,
                )
            more = offset is not None
            rows = self._rows(found, documents=documents, vectors=vectors)
            if rows.ids:
                yield rows

    def _payload(self, *, documents: bool) -> Any:
        if documents:
            return True
        return [_ID, _ORIGINAL] if self._ours else False

    def _rows(self, points: Sequence[Any], *, documents: bool, vectors: bool) -> Rows:
        found = [(point, self._vector(point)) for point in points] if vectors else [(point, None) for point in points]
        # One that another vector of the collection has, but not this one, can't be found by it.
        found = [(point, vector) for point, vector in found if not vectors or vector is not None]
        points = [point for point, _ in found]
        matrix = None
        if vectors:
            matrix = np.array([vector for _, vector in found], dtype=np.float32).reshape(-1, self.dimensions)
            if self._ours:
                matrix = original_vectors(matrix, [_original(point.payload) for point in points])
        ids = [self._id(point) for point in points]
        if not documents:
            return Rows(ids, vectors=matrix)
        return Rows(
            ids,
            texts=[self._text(point.payload or {}) for point in points],
            metadata=[self._metadata(point.payload or {}) for point in points],
            vectors=matrix,
        )

    def _vector(self, point: Any) -> Sequence[float] | None:
        found: Any = point.vector
        vector: Sequence[float] | None = found.get(self._layout.vector) if isinstance(found, dict) else found
        return vector

    def _id(self, point: Any) -> str:
        return str(point.payload[_ID]) if self._ours else str(point.id)

    def _point_id(self, id: str) -> "models.ExtendedPointId | None":
        """The point of a document; None where no point can have such an id."""
        if self._ours:
            return str(uuid.uuid5(uuid.NAMESPACE_URL, id))
        if id.isdecimal() and id.isascii():
            return int(id) if str(int(id)) == id and int(id) < 2**64 else None
        try:
            return id if str(uuid.UUID(id)) == id else None
        except ValueError:
            return None

    def _text(self, payload: Mapping[str, Any]) -> str:
        if self._layout.text == NODE:
            return node_text(payload.get(NODE))
        found = payload.get(self._layout.text or "")
        return "" if found is None else str(found)

    def _metadata(self, payload: Mapping[str, Any]) -> str:
        if self._ours:
            return str(payload[_METADATA])
        inside = self._layout.metadata_json
        if inside == EVERYTHING:
            every = {key: value for key, value in payload.items() if self._path(key) is not None}
            return as_metadata({}, json.dumps(every))
        kept = {key: payload[key] for key in self._layout.metadata if key in payload}
        within = payload.get(inside) if inside is not None else None
        return as_metadata({}, json.dumps({**(within if isinstance(within, Mapping) else {}), **kept}))

    # Searching

    def nearest(self, queries: VectorArray, k: int, where: Where, *, documents: bool) -> list[Hits]:
        from qdrant_client import models

        # Local mode compares all, and warns when it is told how to search.
        local = self._connection.lock is not None
        parameters = None if local else models.SearchParams(hnsw_ef=max(_SEARCH_WIDTH, k))
        requests = [
            models.QueryRequest(
                query=query.tolist(),
                using=self._layout.vector or None,
                limit=k,
                filter=where.native,
                params=parameters,
                with_payload=self._payload(documents=documents),
            )
            for query in queries
        ]
        with self._watched():
            answers = self._client.query_batch_points(self._name, requests=requests)
        return [self._hits(answer.points, documents=documents) for answer in answers]

    def _hits(self, points: Sequence[Any], *, documents: bool) -> Hits:
        scores = np.array([point.score for point in points], dtype=np.float64)
        if self._measure == "Euclid":  # Qdrant gives the length between; of unit vectors its square is 2 - 2 cos
            scores = 1 - np.square(scores) / 2
        rows = self._rows(points, documents=documents, vectors=False)
        along = {
            id: Document(id, text, json.loads(metadata))
            for id, text, metadata in (zip(rows.ids, rows.texts, rows.metadata, strict=True) if documents else ())
        }
        return Hits(rows.ids, scores.astype(np.float32), along)

    # Writing

    def write(self, rows: NewRows) -> None:
        from qdrant_client import models

        points = [
            models.PointStruct(
                id=str(uuid.uuid5(uuid.NAMESPACE_URL, id)),
                vector={self._layout.vector: vector.tolist()},
                payload={
                    _ID: id,
                    _TEXT: text,
                    _METADATA: metadata,
                    _TERMS: list(terms),
                    **({} if original is None else {_ORIGINAL: base64.b64encode(original).decode()}),
                },
            )
            for id, text, metadata, terms, vector, original in zip(
                rows.ids, rows.texts, rows.metadata, rows.terms, rows.vectors, rows.originals, strict=True
            )
        ]
        with self._watched():
            self._client.upsert(self._name, points=points, wait=True)

    def remove(self, ids: Sequence[str]) -> None:
        from qdrant_client import models

        points: list[Any] = [self._point_id(id) for id in ids]
        with self._watched():
            self._client.delete(self._name, points_selector=models.PointIdsList(points=points), wait=True)


def is_ours(layout: Layout) -> bool:
    """Whether a layout is that of collections of our own."""
    return layout.vector == OWN_VECTOR


def _original(payload: Mapping[str, Any]) -> bytes | None:
    kept = payload.get(_ORIGINAL)
    return base64.b64decode(kept) if kept else None


def _condition(path: str, value: Any) -> Any:
    """A condition that lets through every point that has the value; None where Qdrant has none for it."""
    from qdrant_client import models

    condition: Any = None
    if value is None:
        condition = models.IsNullCondition(is_null=models.PayloadField(key=path))
    elif isinstance(value, str | bool):
        condition = models.FieldCondition(key=path, match=models.MatchValue(value=value))
    elif isinstance(value, int | float) and abs(value) <= _EXACT_INTEGERS:
        # A range knows 1 and 1.0 as the same number; a match would not.
        condition = models.FieldCondition(key=path, range=models.Range(gte=value, lte=value))
    return condition
