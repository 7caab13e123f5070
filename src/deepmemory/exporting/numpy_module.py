"""What a Deep Memory layer does to a search, in plain NumPy: needs this file and the .npz beside it, nothing else.

    moved = transform(query)                     # search with this vector instead of the query's
    hits = rerank(query, hits, k=10)             # what labelled documents among the hits get on top, best first
    hits = search(query, 10, nearest, fetch)     # both, and documents that the engine did not return are fetched

Copy it, change it, or read it as the definition:

    x' = (x + x A) / |x + x A|
    score(x, d) = x' . d  +  [d is labelled] * (prior + gain * max(0, nearest(x, d) - threshold))  +  words(x, d)

Arrays of the .npz, of which those of an absent part are absent:

    name, dimensions, distance  the layer's name, the length of its vectors, "cosine" or "dot"
    matrix                      (dim, dim) float32, A
    whole, offset               (n, dim) and (dim,) float32, instead of A where queries come from another model than the
                                documents: x' = (x whole + offset) / |x whole + offset|
    document_id_bytes, document_id_ends
                                uint8 and (n_labelled,) int64: the labelled documents' ids in UTF-8, one after
                                another, and where each ends
    document_vectors            (n_labelled, dim) float32, their vectors at the time of training
    prior                       score added for being labelled at all
    memory_centre, memory_keys  (dim,) and (n_keys, dim) float32: the training queries' mean, and their directions
                                from it
    pair_key, pair_document     (n_pairs,) int32: which key wants which labelled document
    pair_weight                 (n_pairs,) float32 in (0, 1]
    threshold, gain             a key is silent up to this cosine; score for each unit of cosine beyond it
    is_transformed              whether keys are compared with the transformed query or with the query as it is
    words_weight, words_depth   score for each unit of a full-text score above that of hit number depth + 1
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["bonus", "rerank", "search", "transform", "words"]

Hits = list[tuple[Any, float]]
"""Ids of documents and their scores, best first."""

_MARGIN, _MARGIN_WITH_WORDS = 10, 40


def transform(query: Any) -> Any:
    """Move query vectors ``(dim,)`` or ``(n, dim)`` of any float type; gives float32 of unit norm."""
    vectors, layer = _checked(query), _layer()
    if "whole" in layer:
        moved = _unit(vectors @ layer["whole"] + layer["offset"])
    else:
        moved = _unit(vectors + vectors @ layer["matrix"] if "matrix" in layer else vectors)
    return moved.reshape((*np.shape(query)[:-1], moved.shape[1]))


def bonus(query: Any) -> dict[str, float]:
    """What labelled documents get for one query vector ``(dim,)`` beside their similarity, by id, where it isn't 0."""
    layer = _layer()
    added = _bonus(query)
    return {layer["ids"][place]: float(added[place]) for place in np.flatnonzero(added)}


def words(text_scores: Mapping[Any, float] | None) -> dict[Any, float]:
    """What hits of a full-text search get.

    Args:
        text_scores: the scores of its first ``words_depth + 1`` hits by id, from the search that the layer was trained
            with.
    """
    layer = _layer()
    if not text_scores or "words_weight" not in layer:
        return {}
    best_first, depth = sorted(text_scores.values(), reverse=True), int(layer["words_depth"])
    floor = best_first[depth] if len(best_first) > depth else 0.0
    return {id: float(layer["words_weight"]) * (score - floor) for id, score in text_scores.items() if score > floor}


def rerank(
    query: Any, hits: Iterable[tuple[Any, float]], k: int | None = None, text_scores: Mapping[Any, float] | None = None
) -> Hits:
    """Add the layer's prior, memory and words to hits, and put them in order; equal scores by id.

    Args:
        query: ``(dim,)``, as the embedder gave it.
        hits: ids with their similarity to ``transform(query)``: the cosine, or the dot product where the layer's
            distance is "dot". Take some more than k: those just below are what a bonus lifts.
        k: how many to give; all by default.
        text_scores: as for `words`.
    """
    return _best_first(_raised(hits, _bonus(query), words(text_scores)))[:k]


def search(
    query: Any,
    k: int,
    nearest: Callable[[Any, int], Sequence[tuple[Any, float]]],
    fetch: Callable[[list[str]], Mapping[str, Any]],
    text_scores: Mapping[Any, float] | None = None,
) -> Hits:
    """Search with all that the layer has; with an exact engine it is the exact ranking.

    Args:
        query: ``(dim,)``, as the embedder gave it.
        k: hits wanted.
        nearest: your engine: from a vector and a number the nearest documents, best first, with their similarities.
        fetch: from ids the vectors of those that exist, by id, under the same filter as ``nearest``.
        text_scores: as for `words`.
    """
    moved, added, by_words = transform(query), _bonus(query), words(text_scores)
    depth = first = k + (_MARGIN_WITH_WORDS if by_words else _MARGIN)
    hits = list(nearest(moved, depth))
    while _layer()["prior"] < 0 and len(hits) >= depth:
        if hits[-1][1] <= _kth(_raised(hits, added, by_words), k):
            break  # whatever follows can't belong among the first k
        depth *= 2
        hits = list(nearest(moved, depth))
    wanted = _proposals(moved, hits, k, added, by_words) if len(hits) >= first else []
    fetched = [(id, _similarity(vector, moved)) for id, vector in (fetch(wanted) if wanted else {}).items()]
    return _best_first(_raised(hits + fetched, added, by_words))[:k]


@cache
def _layer() -> dict[str, Any]:
    with np.load(Path(__file__).with_suffix(".npz"), allow_pickle=False) as file:
        layer = {name: file[name] for name in file.files}
    ends = layer["document_id_ends"].tolist() if "document_id_ends" in layer else []
    text = layer["document_id_bytes"].tobytes() if ends else b""
    layer["ids"] = [text[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]
    layer["place_of"] = {id: place for place, id in enumerate(layer["ids"])}
    return layer


def _checked(query: Any) -> Any:
    layer, vectors = _layer(), np.atleast_2d(np.asarray(query, dtype=np.float32))
    dimensions = len(layer["whole"]) if "whole" in layer else int(layer["dimensions"])
    if vectors.ndim != 2 or vectors.shape[1] != dimensions:
        raise ValueError(f"a query should be a vector of {dimensions} dimensions; its shape is {np.shape(query)}")
    if not np.isfinite(vectors).all():
        raise ValueError("a query holds NaN or infinity")
    return vectors


def _unit(vectors: Any, least: float = 0.0) -> Any:
    """Rows of unit norm; a row no longer than ``least`` has no direction and becomes zeros."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return vectors / np.where(norms > least, norms, np.inf)[:, None]


def _bonus(query: Any) -> Any:
    """What each labelled document gets, ``(n_labelled,)``."""
    layer, vectors = _layer(), _checked(query)
    if len(vectors) != 1:
        raise ValueError(f"scores are for one query at a time; {len(vectors)} were given")
    added = np.zeros(len(layer["ids"]))
    if "memory_keys" in layer:
        seen = transform(vectors) if layer["is_transformed"] else _unit(vectors)
        cosines = layer["memory_keys"] @ _unit(seen - layer["memory_centre"], 1e-12)[0]
        above = cosines[layer["pair_key"]] * layer["pair_weight"] - layer["threshold"]
        np.maximum.at(added, layer["pair_document"], above)
    return layer["prior"] + layer.get("gain", 0.0) * added


def _added(id: Any, added: Any, by_words: Mapping[Any, float]) -> float:
    place = _layer()["place_of"].get(str(id))
    return (0.0 if place is None else float(added[place])) + by_words.get(id, 0.0)


def _raised(hits: Iterable[tuple[Any, float]], added: Any, by_words: Mapping[Any, float]) -> Hits:
    return [(id, float(score) + _added(id, added, by_words)) for id, score in hits]


def _best_first(hits: Hits) -> Hits:
    return sorted(hits, key=lambda hit: (-hit[1], str(hit[0])))


def _kth(hits: Hits, k: int) -> float:
    return sorted((score for _, score in hits), reverse=True)[k - 1]


def _similarity(vector: Any, moved: Any) -> float:
    row = np.asarray(vector, dtype=np.float32)[None]
    return float((_unit(row) if _layer()["distance"] == "cosine" else row)[0] @ moved)


def _proposals(moved: Any, hits: Hits, k: int, added: Any, by_words: Mapping[Any, float]) -> list[str]:
    """Documents that the engine did not return, and that may belong among the first k."""
    layer, returned = _layer(), {str(id) for id, _ in hits}
    kth, last = _kth(_raised(hits, added, by_words), k), float(hits[-1][1])
    lifted = {layer["ids"][place] for place in np.flatnonzero(added > 0)} | {str(id) for id in by_words}
    scores = {}
    for id in lifted - returned:
        place = layer["place_of"].get(id)
        scores[id] = last if place is None else _similarity(layer["document_vectors"][place], moved)
    by_text = {str(id): score for id, score in by_words.items()}
    return sorted(id for id, score in scores.items() if score + _added(id, added, by_text) >= kth)
