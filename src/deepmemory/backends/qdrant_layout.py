"""What a collection of Qdrant that others filled holds: its vectors, and which keys of its payload are what."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepmemory.backends.asked_names import fixed, listed, missing
from deepmemory.backends.attaching import Asked
from deepmemory.backends.base import Distance, VectorArray
from deepmemory.backends.layout import Layout
from deepmemory.backends.llama_index_nodes import NODE
from deepmemory.backends.qdrant_collection import EVERYTHING, OWN_VECTOR
from deepmemory.backends.qdrant_connection import QdrantConnection
from deepmemory.backends.unit_vectors import SAMPLE, distance_by_length, distance_of
from deepmemory.errors import CapabilityError, InputError

__all__ = ["dense_vectors", "find_layout"]

_ID = "id"
_LANGCHAIN_TEXT, _LANGCHAIN_METADATA = "page_content", "metadata"
_USUAL_TEXTS = ("text", "content", "document", "body")


def dense_vectors(information: Any) -> Mapping[str, Any]:
    """The parameters of a collection's dense vectors, by name; the one without a name has an empty one."""
    vectors = information.config.params.vectors
    if vectors is None:
        return {}
    return vectors if isinstance(vectors, Mapping) else {"": vectors}


def find_layout(connection: QdrantConnection, place: str, asked: Asked) -> Layout:
    """The layout of a collection.

    Raises:
        InputError: what was asked for isn't there, or it can't be told what is what; all problems at once.
        CapabilityError: its vectors can't be ranked by similarity.
    """
    client = connection.client
    if not client.collection_exists(asked.collection):
        names = [collection.name for collection in client.get_collections().collections]
        raise InputError(f"there is no collection {asked.collection!r} in {place}; there is {listed(names)}")
    named = f"the collection {asked.collection!r} in {place}"
    vectors = dense_vectors(client.get_collection(asked.collection))
    if OWN_VECTOR in vectors:
        raise InputError(
            f"{named} is a store of Deep Memory's own: open it as VectorStore('{place}/{asked.collection}')"
        )
    points, _ = client.scroll(asked.collection, limit=SAMPLE, with_payload=True, with_vectors=True)
    keys = sorted({key for point in points for key in point.payload or {}})
    problems = [
        *fixed(named, "id", asked.id, _ID),
        *_vector_problems(named, vectors, asked.vector),
        *missing(named, "text", [asked.text] if asked.text else [], keys),
        *missing(named, "metadata", asked.metadata or (), keys),
        *missing(named, "metadata_json", [asked.metadata_json] if asked.metadata_json else [], keys),
        *([] if points else [f"{named} is empty; fill it first, with the embedder that its queries will come from"]),
    ]
    text = asked.text or _text_of(keys)
    if text is None and points and not asked.text:
        problems.append(f"text: {named} has none of the usual keys; name one of {listed(keys)}")
    if problems:
        raise InputError(problems)
    vector = asked.vector if asked.vector is not None else next(iter(vectors))
    within = asked.metadata_json or (_LANGCHAIN_METADATA if _is_langchain(keys) and asked.metadata is None else None)
    return Layout(
        asked.collection,
        _ID,
        vector,
        text=text,
        metadata=asked.metadata or (),
        metadata_json=within or (EVERYTHING if asked.metadata is None else None),
        distance=_distance(named, vectors[vector], _sample(points, vector), asked.distance),
    )


def _vector_problems(named: str, vectors: Mapping[str, Any], asked: str | None) -> list[str]:
    names = [name or "'' (without a name)" for name in vectors]
    if not vectors:
        return [f"{named} has no dense vectors"]
    if asked is None and len(vectors) > 1:
        return [f"vector: {named} has several; name one of {listed(names)}"]
    if asked is not None and asked not in vectors:
        return [f"vector={asked!r}: {named} has no such vector; there is {listed(names)}"]
    return []


def _is_langchain(keys: Sequence[str]) -> bool:
    return _LANGCHAIN_TEXT in keys and _LANGCHAIN_METADATA in keys


def _text_of(keys: Sequence[str]) -> str | None:
    """The key of the text: LangChain's, LlamaIndex's, or the only one with a usual name."""
    if _LANGCHAIN_TEXT in keys:
        return _LANGCHAIN_TEXT
    usual = [key for key in keys if key in _USUAL_TEXTS]
    if NODE in keys:
        return NODE
    return usual[0] if len(usual) == 1 else None


def _sample(points: Sequence[Any], vector: str) -> VectorArray:
    found = [point.vector.get(vector) if isinstance(point.vector, dict) else point.vector for point in points]
    return np.array([row for row in found if row is not None], dtype=np.float32).reshape(len(found), -1)


def _distance(named: str, parameters: Any, sample: VectorArray, asked: Distance | None) -> Distance:
    measure = str(parameters.distance.value)
    if parameters.multivector_config is not None or measure not in ("Cosine", "Dot", "Euclid"):
        kind = "several vectors for each point" if measure in ("Cosine", "Dot", "Euclid") else measure
        raise CapabilityError(f"{named} compares {kind}; Deep Memory works with one vector each, by cosine or dot")
    if measure == "Euclid":
        return distance_by_length(named, sample, asked)
    return distance_of(named, "cosine" if measure == "Cosine" else "dot", sample, asked)
