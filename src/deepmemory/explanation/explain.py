"""`explain`: one query searched without and with a layer, and every difference accounted for."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepmemory.backends.base import Backend, Distance, Filter
from deepmemory.data import Document
from deepmemory.explanation.model import ExplainedHit, Explanation, Part
from deepmemory.explanation.parts import SIMILARITY, Scored
from deepmemory.retrieval import added_by_words, retrieve
from deepmemory.transform import Layer

__all__ = ["DEPTH", "explain"]

DEPTH = 100
"""Hits looked at, at least, to say what rank a document had."""


def explain(
    backend: Backend,
    query_vector: NDArray[np.float32],
    k: int,
    *,
    layer: tuple[str, Layer] | None,
    text: str | None = None,
    training_queries: Sequence[str] | None = None,
    distance: Distance = "cosine",
    filter: Filter | None = None,
) -> Explanation:
    """Search without and with a layer, and take the scores apart.

    Documents are scored by the vectors that they have now. One that was deleted, or that doesn't pass the filter, is
    in neither ranking and so in no explanation.

    Args:
        backend: where the documents are.
        query_vector: ``(dim,)`` float32, as the embedder gave it.
        k: hits to explain.
        layer: name and layer; None where none is active.
        text: of the query; without it words add nothing.
        training_queries: texts that the layer was trained on, in the order of its memory's keys; None where they are
            not kept.
        distance: how the backend compares vectors.
        filter: metadata that hits must have.

    Raises:
        StorageError: the engine failed.
    """
    active = None if layer is None else layer[1]
    depth, vectors, texts = max(k, DEPTH), query_vector[None], None if text is None else [text]

    def ranked(n: int, *, with_layer: bool) -> tuple[str, ...]:
        used = active if with_layer else None
        found = retrieve(backend, vectors, n, layer=used, texts=texts, distance=distance, filter=filter)
        return found[0].ids

    after, before = ranked(k, with_layer=True), ranked(k, with_layer=False)
    ranks = _ranks(after, ranked(depth, with_layer=True))
    ranks_before = _ranks(before, ranked(depth, with_layer=False))
    scored, documents = _scored(
        backend,
        query_vector,
        list(dict.fromkeys([*after, *before])),
        layer=active,
        texts=texts,
        distance=distance,
        filter=filter,
    )
    explained = {}
    for row, id in enumerate(scored.ids):
        parts = tuple(Part(name, float(added[row])) for name, added in scored.parts.items())
        explained[id] = ExplainedHit(
            id=id,
            text=documents[id].text,
            metadata=documents[id].metadata,
            rank=ranks.get(id),
            rank_before=ranks_before.get(id),
            score=sum(part.value for part in parts),
            score_before=float(scored.parts[SIMILARITY][row]),
            parts=parts,
            causes=scored.causes(row, training_queries),
        )
    can_search_words = text is not None and backend.capabilities.full_text
    return Explanation(
        query=text,
        layer=None if layer is None else layer[0],
        k=k,
        depth=depth,
        hits=tuple(explained[id] for id in after if id in explained),
        left=tuple(explained[id] for id in before if id in explained and id not in set(after)),
        notes=tuple(_notes(active, training_queries, can_search_words=can_search_words)),
    )


def _scored(
    backend: Backend,
    query_vector: NDArray[np.float32],
    wanted: Sequence[str],
    *,
    layer: Layer | None,
    texts: Sequence[str] | None,
    distance: Distance,
    filter: Filter | None,
) -> tuple[Scored, dict[str, Document]]:
    """The wanted documents, scored; one that another deleted between search and fetch is no hit any more."""
    stored = backend.get_vectors(wanted, filter=filter) if wanted else {}
    documents = {document.id: document for document in backend.get(list(stored)) if document is not None}
    ids = [id for id in wanted if id in documents]
    matrix = np.stack([stored[id] for id in ids]) if ids else np.empty((0, len(query_vector)), dtype=np.float32)
    words = [] if layer is None else added_by_words(backend, texts, layer, filter)
    return Scored(query_vector, ids, matrix, layer, distance, words[0] if words else {}), documents


def _ranks(first: Sequence[str], deeper: Sequence[str]) -> dict[str, int]:
    """Each document's rank, from 1; an index may find otherwise when asked for more, and then the first ones count."""
    rest = [id for id in deeper if id not in set(first)]
    return {id: rank for rank, id in enumerate([*first, *rest], start=1)}


def _notes(layer: Layer | None, training_queries: Sequence[str] | None, *, can_search_words: bool) -> list[str]:
    if layer is None:
        return ["No layer is active, so this is the plain search, and nothing was changed."]
    if layer.is_identity:
        return ["The active layer is the identity: it changes nothing."]
    notes = []
    if layer.matrix is not None:
        notes.append(
            "The linear layer moves every query and was learned from all training queries together: what it changed "
            "can be told for each document, and not by which of them."
        )
    if layer.memory is None:
        notes.append("This layer has no query memory, so no single training query raised a document.")
    elif training_queries is None:
        notes.append(
            "The texts of this layer's training queries are not kept with this store (it was imported, or they were "
            "deleted), so they are told by number alone."
        )
    if layer.words is not None and not can_search_words:
        notes.append(
            "This layer trusts words as well; they add nothing here, where no text was given or the store has no "
            "full-text search."
        )
    return notes
