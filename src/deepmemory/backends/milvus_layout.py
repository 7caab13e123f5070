"""What a collection of Milvus that others filled holds: which fields are what, and how its vectors are compared."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deepmemory.backends.asked_names import fixed, listed, missing
from deepmemory.backends.attaching import Asked
from deepmemory.backends.base import Distance, VectorArray
from deepmemory.backends.layout import Layout
from deepmemory.backends.llama_index_nodes import NODE, is_node_part
from deepmemory.backends.milvus_collection import DYNAMIC, OWN_KEY, Fields, fields_of
from deepmemory.backends.unit_vectors import SAMPLE, distance_by_length, distance_of
from deepmemory.errors import CapabilityError, InputError

if TYPE_CHECKING:
    from pymilvus import MilvusClient

__all__ = ["find_layout", "measure_of"]

_USUAL_TEXTS = ("text", "content", "document", "body", "page_content")


def find_layout(client: "MilvusClient", place: str, asked: Asked) -> Layout:
    """The layout of a collection.

    Raises:
        InputError: what was asked for isn't there, or it can't be told what is what; all problems at once.
        CapabilityError: its vectors can't be ranked by similarity.
    """
    if not client.has_collection(asked.collection):
        names = sorted(client.list_collections())
        raise InputError(f"there is no collection {asked.collection!r} in {place}; there is {listed(names)}")
    named = f"the collection {asked.collection!r} in {place}"
    fields = fields_of(client.describe_collection(asked.collection))
    if fields.primary == OWN_KEY:
        raise InputError(
            f"{named} is a store of Deep Memory's own: open it as VectorStore('{place}/{asked.collection}')"
        )
    entities = _sample(client, asked.collection, fields)
    keys = sorted(
        {*fields.scalars, *(key for entity in entities for key in entity)} - {fields.primary, *fields.vectors}
    )
    problems = [
        *fixed(named, "id", asked.id, fields.primary),
        *_vector_problems(named, fields, asked.vector),
        *missing(named, "text", [asked.text] if asked.text else [], keys),
        *missing(named, "metadata", asked.metadata or (), keys),
        *missing(named, "metadata_json", [asked.metadata_json] if asked.metadata_json else [], [*fields.json, DYNAMIC]),
        *([] if entities else [f"{named} is empty; fill it first, with the embedder that its queries will come from"]),
    ]
    text = asked.text or _text_of(keys)
    if text is None and entities:
        problems.append(f"text: {named} has none of the usual fields; name one of {listed(keys)}")
    if problems:
        raise InputError(problems)
    vector = asked.vector or next(iter(fields.vectors))
    within = asked.metadata_json or _json_of(fields)
    left = tuple(key for key in fields.scalars if key not in (text, within) and not is_node_part(key))
    sample = np.array([entity[vector] for entity in entities if entity.get(vector) is not None], dtype=np.float32)
    return Layout(
        asked.collection,
        fields.primary,
        vector,
        text=text,
        metadata=left if asked.metadata is None else asked.metadata,
        metadata_json=within if asked.metadata is None or asked.metadata_json else None,
        namespace=asked.namespace,
        distance=_distance(named, measure_of(client, asked.collection, vector), sample, asked.distance),
    )


def measure_of(client: "MilvusClient", collection: str, vector: str) -> str:
    """What the index of a field ranks by; empty where it has no index."""
    for name in client.list_indexes(collection, field_name=vector):
        description: Any = client.describe_index(collection, name)
        if description and description.get("field_name", vector) == vector:
            return str(description.get("metric_type", ""))
    return ""


def _sample(client: "MilvusClient", collection: str, fields: Fields) -> Sequence[Any]:
    names = [fields.primary, *fields.scalars, *fields.vectors, *([DYNAMIC] if fields.dynamic else [])]
    found: Any = client.query(collection, filter="", limit=SAMPLE, output_fields=names, consistency_level="Strong")
    return list(found)


def _vector_problems(named: str, fields: Fields, asked: str | None) -> list[str]:
    names = sorted(fields.vectors)
    if not names:
        return [f"{named} has no field of dense vectors of 32-bit numbers"]
    if asked is None and len(names) > 1:
        return [f"vector: {named} has several; name one of {listed(names)}"]
    return missing(named, "vector", [asked] if asked else [], names)


def _text_of(keys: Sequence[str]) -> str | None:
    """The field of the text: the only one with a usual name, or else LlamaIndex's node."""
    usual = [key for key in keys if key in _USUAL_TEXTS]
    if len(usual) == 1:
        return usual[0]
    return NODE if NODE in keys else None


def _json_of(fields: Fields) -> str | None:
    """Where metadata is beside the fields: among what the schema doesn't name, or in the only field of JSON."""
    if fields.dynamic:
        return DYNAMIC
    return fields.json[0] if len(fields.json) == 1 else None


def _distance(named: str, measure: str, sample: VectorArray, asked: Distance | None) -> Distance:
    if measure == "L2":
        return distance_by_length(named, sample, asked)
    if measure not in ("COSINE", "IP"):
        kind = f"is indexed by {measure}" if measure else "has no index on its vectors"
        raise CapabilityError(f"{named} {kind}; Deep Memory works with an index by COSINE, IP or L2")
    return distance_of(named, "cosine" if measure == "COSINE" else "dot", sample, asked)
