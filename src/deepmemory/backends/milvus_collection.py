"""One collection of Milvus: ours, or one that LangChain, LlamaIndex or somebody else filled."""
# ruff: noqa: D102  Collection documents the methods

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepmemory.backends.attached import as_metadata
from deepmemory.backends.base import VectorArray
from deepmemory.backends.collection import Collection, CollectionGoneError, Hits, NewRows, Rows, Where
from deepmemory.backends.filters import Conditions
from deepmemory.backends.layout import Layout
from deepmemory.backends.llama_index_nodes import NODE, is_node_part, node_text
from deepmemory.backends.milvus_connection import is_missing
from deepmemory.backends.own_rows import allowed_terms, original_vectors
from deepmemory.data import Document
from deepmemory.errors import InputError

if TYPE_CHECKING:
    from pymilvus import MilvusClient

__all__ = ["DYNAMIC", "OWN_KEY", "ROWS_AT_ONCE", "Fields", "MilvusCollection", "fields_of", "is_ours", "own_schema"]

OWN_KEY = "deepmemory_key"
"""The primary key of collections of ours, which tells them from others: the hash of an id, for ids of any length."""

DYNAMIC = "$meta"
"""How Milvus, and a layout, name what entities have beside the fields of the schema."""

ROWS_AT_ONCE = 1_000
_MOST_HITS = 10_000
_MOST_BYTES = 65_535
_MOST_TERMS = 4_096
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STRONG = "Strong"
_OWN_FIELDS = ("id", "text", "metadata", "original")
_SAFE_INTEGERS = 2**53


@dataclass(frozen=True, slots=True)
class Fields:
    """What a collection's schema has.

    Attributes:
        primary: the name of the primary key.
        numbered: whether its values are numbers.
        scalars: names of the other fields that hold no vectors.
        vectors: length of the vectors of each dense field of 32-bit numbers.
        json: those of the scalars that hold JSON.
        dynamic: whether entities may have more than the fields.
    """

    primary: str
    numbered: bool
    scalars: tuple[str, ...]
    vectors: Mapping[str, int]
    json: tuple[str, ...]
    dynamic: bool


def fields_of(description: Mapping[str, Any]) -> Fields:
    """Read a collection's description as the client gives it."""
    from pymilvus import DataType

    primary = next(field for field in description["fields"] if field.get("is_primary"))
    others = [field for field in description["fields"] if field is not primary]
    of_vectors = [field for field in others if "vector" in DataType(field["type"]).name.lower()]
    return Fields(
        primary=primary["name"],
        numbered=primary["type"] == DataType.INT64,
        scalars=tuple(field["name"] for field in others if field not in of_vectors),
        vectors={f["name"]: int(f["params"]["dim"]) for f in of_vectors if f["type"] == DataType.FLOAT_VECTOR},
        json=tuple(field["name"] for field in others if field["type"] == DataType.JSON),
        dynamic=bool(description.get("enable_dynamic_field")),
    )


def own_schema(client: "MilvusClient", dimensions: int) -> Any:
    """The schema of collections of ours."""
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field(OWN_KEY, DataType.VARCHAR, max_length=64, is_primary=True)
    for name in _OWN_FIELDS:
        schema.add_field(name, DataType.VARCHAR, max_length=_MOST_BYTES)
    schema.add_field("terms", DataType.ARRAY, element_type=DataType.INT64, max_capacity=_MOST_TERMS)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimensions)
    return schema


class MilvusCollection(Collection):
    """A collection by its name, with what was known of it when it was opened."""

    rows_at_once = ROWS_AT_ONCE
    most_hits = _MOST_HITS

    def __init__(self, client: "MilvusClient", layout: Layout, fields: Fields, measure: str) -> None:
        """Work with a collection.

        Args:
            client: of the database.
            layout: of the collection.
            fields: of its schema.
            measure: what its index ranks by, ``"COSINE"``, ``"IP"`` or ``"L2"``.
        """
        self._client = client
        self._layout = layout
        self._name = layout.collection
        self._ours = is_ours(layout)
        self._fields = fields
        self._measure = measure
        self.distance = layout.distance
        self.dimensions = fields.vectors[layout.vector]

    # Filters

    def where(self, conditions: Conditions) -> Where:
        if not all(conditions.any_of):
            return Where(nothing=True)
        if self._ours:
            parts = [f"array_contains_any(terms, {json.dumps(allowed)})" for allowed in allowed_terms(conditions)]
            return Where(" and ".join(parts) or None)
        parts = []
        for allowed in conditions.any_of:
            terms = [json.loads(term) for term in allowed]
            key = terms[0][0]
            if not self._is_metadata(key):
                return Where(nothing=True)
            alternatives = [_equal(self._path(key), value) for _, value in terms]
            # A field of the schema has one type, and comparing it with another is an error of Milvus's.
            if key not in self._fields.scalars and _NAME.fullmatch(key) and None not in alternatives:
                parts.append(f"({' or '.join(map(str, alternatives))})")
        return Where(" and ".join(parts) or None, exact=not conditions.any_of)

    def _is_metadata(self, key: str) -> bool:
        inside = self._layout.metadata_json
        if key in self._layout.metadata:
            return True
        if key == self._layout.text or is_node_part(key) or inside is None:
            return False
        return inside != DYNAMIC or key not in (*self._fields.scalars, *self._fields.vectors, self._fields.primary)

    def _path(self, key: str) -> str:
        """How an expression names what is not a field of the schema's."""
        inside = self._layout.metadata_json
        return key if inside == DYNAMIC else f"{inside}[{json.dumps(key)}]"

    # Reading

    def count(self, where: Where) -> int:
        with _watched():
            found: Any = self._client.query(
                self._name, filter=where.native or "", output_fields=["count(*)"], consistency_level=_STRONG
            )
        return int(found[0]["count(*)"])

    def read(
        self,
        where: Where,
        *,
        ids: Sequence[str] | None = None,
        documents: bool = False,
        vectors: bool = False,
        batch_size: int = 4096,
    ) -> Iterator[Rows]:
        fields = self._output(documents=documents, vectors=vectors)
        if ids is not None:
            keys = [key for id in ids if (key := self._key(id)) is not None]
            if keys:
                among = f"{self._fields.primary} in {json.dumps(keys, ensure_ascii=False)}"
                condition = f"({where.native}) and {among}" if where.native else among
                with _watched():
                    found: Any = self._client.query(
                        self._name, filter=condition, output_fields=fields, consistency_level=_STRONG
                    )
                yield self._rows(found, documents=documents, vectors=vectors)
            return
        # It goes through the entities in the order of their keys, so what others write shifts none of the rest.
        with _watched():
            stream: Any = self._client.query_iterator(
                self._name,
                batch_size=min(batch_size, ROWS_AT_ONCE),
                filter=where.native or "",
                output_fields=fields,
                consistency_level=_STRONG,
            )
        try:
            while True:
                with _watched():
                    part = stream.next()
                if not part:
                    return
                yield self._rows(part, documents=documents, vectors=vectors)
        finally:
            stream.close()

    def _output(self, *, documents: bool, vectors: bool) -> list[str]:
        names = [self._fields.primary, *(["id", "original"] if self._ours else [])]
        if documents:
            names += [*self._fields.scalars, *([DYNAMIC] if self._fields.dynamic else [])]
        if vectors:
            names.append(self._layout.vector)
        return list(dict.fromkeys(names))

    def _rows(self, entities: Sequence[Mapping[str, Any]], *, documents: bool, vectors: bool) -> Rows:
        if vectors:  # one without a vector can't be found by it
            entities = [entity for entity in entities if entity.get(self._layout.vector) is not None]
        ids = [self._id(entity) for entity in entities]
        matrix = None
        if vectors:
            found = [entity[self._layout.vector] for entity in entities]
            matrix = np.array(found, dtype=np.float32).reshape(-1, self.dimensions)
            if self._ours:
                matrix = original_vectors(matrix, [_original(entity) for entity in entities])
        if not documents:
            return Rows(ids, vectors=matrix)
        return Rows(
            ids,
            texts=[self._text(entity) for entity in entities],
            metadata=[self._metadata(entity) for entity in entities],
            vectors=matrix,
        )

    def _id(self, entity: Mapping[str, Any]) -> str:
        return str(entity["id"] if self._ours else entity[self._fields.primary])

    def _key(self, id: str) -> str | int | None:
        """The primary key of a document; None where no entity can have such an id."""
        if self._ours:
            return hashlib.sha256(id.encode(errors="surrogatepass")).hexdigest()
        if not self._fields.numbered:
            return id
        return int(id) if re.fullmatch(r"0|-?[1-9][0-9]{0,17}", id) else None

    def _text(self, entity: Mapping[str, Any]) -> str:
        if self._layout.text == NODE:
            return node_text(entity.get(NODE))
        found = entity.get(self._layout.text or "")
        return "" if found is None else str(found)

    def _metadata(self, entity: Mapping[str, Any]) -> str:
        if self._ours:
            return str(entity["metadata"])
        inside = self._layout.metadata_json
        within: Any = entity if inside == DYNAMIC else entity.get(inside or "")
        written = {}
        if isinstance(within, Mapping):
            written = {key: value for key, value in within.items() if self._is_metadata(key)}
        return as_metadata({key: entity.get(key) for key in self._layout.metadata}, json.dumps(written))

    # Searching

    def nearest(self, queries: VectorArray, k: int, where: Where, *, documents: bool) -> list[Hits]:
        with _watched():
            answers: Any = self._client.search(
                self._name,
                data=list(queries),
                anns_field=self._layout.vector,
                limit=k,
                filter=where.native or "",
                output_fields=self._output(documents=documents, vectors=False),
                search_params={"metric_type": self._measure},
                consistency_level=_STRONG,
            )
        return [self._hits(answer, documents=documents) for answer in answers]

    def _hits(self, answer: Sequence[Mapping[str, Any]], *, documents: bool) -> Hits:
        scores = np.array([hit["distance"] for hit in answer], dtype=np.float64)
        if self._measure == "L2":  # Milvus gives the square of the length between; of unit vectors that is 2 - 2 cos
            scores = 1 - scores / 2
        primary = self._fields.primary
        entities = [{primary: hit[primary], **hit["entity"]} for hit in answer]
        rows = self._rows(entities, documents=documents, vectors=False)
        along = {
            id: Document(id, text, json.loads(metadata))
            for id, text, metadata in (zip(rows.ids, rows.texts, rows.metadata, strict=True) if documents else ())
        }
        return Hits(rows.ids, scores.astype(np.float32), along)

    # Writing

    def write(self, rows: NewRows) -> None:
        _check_lengths(rows)
        entities = [
            {
                OWN_KEY: self._key(id),
                "id": id,
                "text": text,
                "metadata": metadata,
                "original": "" if original is None else base64.b64encode(original).decode(),
                "terms": list(terms),
                "vector": vector,
            }
            for id, text, metadata, terms, vector, original in zip(
                rows.ids, rows.texts, rows.metadata, rows.terms, rows.vectors, rows.originals, strict=True
            )
        ]
        with _watched():
            self._client.upsert(self._name, data=entities)

    def remove(self, ids: Sequence[str]) -> None:
        with _watched():
            self._client.delete(self._name, ids=[self._key(id) for id in ids])


def is_ours(layout: Layout) -> bool:
    """Whether a layout is that of collections of our own."""
    return layout.id == OWN_KEY


def _check_lengths(rows: NewRows) -> None:
    """Raise `InputError` for what is longer than a field of Milvus's holds."""
    problems = [
        f"document {id[:60]!r}: its {part} has {len(text.encode()):,} bytes, and Milvus holds {_MOST_BYTES:,}; split it"
        for id, *parts in zip(rows.ids, rows.ids, rows.texts, rows.metadata, strict=True)
        for part, text in zip(("id", "text", "metadata as JSON"), parts, strict=True)
        if len(text) * 4 > _MOST_BYTES and len(text.encode()) > _MOST_BYTES
    ]
    if problems:
        raise InputError(problems)


def _original(entity: Mapping[str, Any]) -> bytes | None:
    kept = entity.get("original")
    return base64.b64decode(kept) if kept else None


def _equal(path: str, value: Any) -> str | None:
    """A condition that lets through every entity that has the value; None where Milvus has none for it."""
    if isinstance(value, bool):
        return f"{path} == {str(value).lower()}"
    if isinstance(value, str):
        return f"{path} == {json.dumps(value, ensure_ascii=False)}"
    if isinstance(value, int | float) and abs(value) <= _SAFE_INTEGERS:
        whole = isinstance(value, int)
        return f"{path} == {value}" + (f" or {path} == {float(value)}" if whole else "")
    return None


@contextmanager
def _watched() -> Iterator[None]:
    """Tell a collection that was dropped from what else can go wrong."""
    try:
        yield
    except Exception as error:
        if is_missing(error):
            raise CollectionGoneError from error
        raise
