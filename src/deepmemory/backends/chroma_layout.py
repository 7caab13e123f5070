"""What a collection of Chroma that others filled holds: its texts, its metadata and how its vectors are compared."""

from typing import TYPE_CHECKING, Any

import numpy as np

from deepmemory.backends.asked_names import fixed, listed, missing
from deepmemory.backends.attaching import Asked
from deepmemory.backends.base import Distance, VectorArray
from deepmemory.backends.chroma_client import open_collection
from deepmemory.backends.chroma_collection import DOCUMENT, EVERYTHING, MARK, space_of
from deepmemory.backends.layout import Layout
from deepmemory.backends.unit_vectors import SAMPLE, distance_by_length, distance_of
from deepmemory.errors import InputError

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

__all__ = ["find_layout"]

_ID, _VECTOR = "id", "embedding"


def find_layout(client: "ClientAPI", place: str, asked: Asked) -> Layout:
    """The layout of a collection.

    Chroma has one id, one embedding, one text and one metadata map for each document, and LangChain and LlamaIndex use
    them alike; so little is to be found out.

    Raises:
        InputError: what was asked for isn't there; all problems at once.
        CapabilityError: its vectors can't be ranked by similarity.
    """
    handle = open_collection(client, asked.collection)
    if handle is None:
        names = [collection.name for collection in client.list_collections()]
        raise InputError(f"there is no collection {asked.collection!r} in {place}; there is {listed(names)}")
    named = f"the collection {asked.collection!r} in {place}"
    if MARK in (handle.metadata or {}):
        raise InputError(
            f"{named} is a store of Deep Memory's own: open it as VectorStore('{place}/{asked.collection}')"
        )
    sample: Any = handle.get(limit=SAMPLE, include=["embeddings", "documents", "metadatas"])
    if not sample["ids"]:
        raise InputError(f"{named} is empty; fill it first, with the embedder that its queries will come from")
    keys = sorted({key for metadata in sample["metadatas"] for key in metadata or {}})
    problems = [
        *fixed(named, "id", asked.id, _ID),
        *fixed(named, "vector", asked.vector, _VECTOR),
        *fixed(named, "metadata_json", asked.metadata_json, EVERYTHING),
        *missing(named, "text", [asked.text] if asked.text and asked.text != DOCUMENT else [], keys),
        *missing(named, "metadata", asked.metadata or (), keys),
    ]
    if problems:
        raise InputError(problems)
    vectors = np.asarray(sample["embeddings"], dtype=np.float32)
    has_texts = any(text is not None for text in sample["documents"] or ())
    return Layout(
        asked.collection,
        _ID,
        _VECTOR,
        text=asked.text or (DOCUMENT if has_texts else None),
        metadata=asked.metadata or (),
        metadata_json=EVERYTHING if asked.metadata is None else None,
        namespace=asked.namespace,
        distance=_distance(named, space_of(handle), vectors, asked.distance),
    )


def _distance(named: str, space: str, sample: VectorArray, asked: Distance | None) -> Distance:
    if space == "l2":
        return distance_by_length(named, sample, asked)
    return distance_of(named, "dot" if space == "ip" else "cosine", sample, asked)
