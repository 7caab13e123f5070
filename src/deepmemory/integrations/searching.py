"""Search as the integrations need it: with filter functions, other distances, and diversity."""

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepmemory.data import Document, check_vectors
from deepmemory.data.text import shown, text_problem
from deepmemory.errors import CapabilityError, InputError
from deepmemory.integrations.filters import EVERYTHING, Selection
from deepmemory.store import Hit, VectorStore
from deepmemory.transform import unit_rows

__all__ = ["Metric", "check_metric", "find", "most_diverse", "vectors_of"]

Metric: TypeAlias = Literal["cosine", "dot", "l2", "l1", "max"]

_METRICS: Final[dict[str, Metric]] = {
    "cos": "cosine",
    "cosine": "cosine",
    "cosine_similarity": "cosine",
    "dot": "dot",
    "l2": "l2",
    "l1": "l1",
    "max": "max",
}

_FIRST_DEPTH = 64
_WIDER = 4


def check_metric(name: object) -> Metric | None:
    """Read a ``distance_metric`` of the original; None is the store's own.

    Raises:
        InputError: there is no such metric.
    """
    if name is None:
        return None
    metric = _METRICS.get(name.lower()) if isinstance(name, str) else None
    if metric is None:
        raise InputError(f"distance_metric is 'cos', 'dot', 'L2', 'L1' or 'max'; found {name!r}")
    return metric


def find(
    store: VectorStore,
    k: int,
    *,
    query: str | None = None,
    embedding: ArrayLike | None = None,
    deep_memory: bool | None = False,
    selection: Selection = EVERYTHING,
    metric: Metric | None = None,
) -> list[Hit]:
    """Find the documents that answer a query.

    What a filter function decides can't be asked of the engine. So more is searched for than is wanted, and wider
    until k pass or the store ends: cheap where many pass, and up to the whole store where few do. The metrics L2, L1
    and max always read the whole store.

    Args:
        store: where to search.
        k: at most this many hits.
        query: a text.
        embedding: ``(dimensions,)``, the query's vector, instead of the text.
        deep_memory: as for `VectorStore.search`.
        selection: which documents may be found.
        metric: how vectors are compared; None as the store does.

    Returns:
        hits, best first; a score is a similarity, or for L2, L1 and max the distance with a minus before it.

    Raises:
        InputError: an argument is wrong.
        CapabilityError: Deep Memory was asked for together with another metric than the store's.
    """
    _check_k(k)
    if metric is None or metric == store.distance:
        vector = None if embedding is None else _as_vector(embedding)

        def ranked(depth: int) -> list[Hit]:
            return store.search(query, depth, deep_memory=deep_memory, filter=selection.native, embedding=vector)

    else:
        if deep_memory:
            raise CapabilityError(
                f"the layer was trained for documents compared by {store.distance}, and distance_metric={metric!r} "
                "would rank them otherwise: leave out distance_metric (vectors of norm 1 rank the same by cosine, "
                "dot product and L2), or deep_memory=True"
            )
        query_vector = _query_vector(store, query, embedding)
        if metric not in ("cosine", "dot"):
            return _scanned(store, query_vector, int(k), selection, metric)
        distance: Literal["cosine", "dot"] = metric

        def ranked(depth: int) -> list[Hit]:
            (ranking,) = store.backend.search(query_vector, depth, distance=distance, filter=selection.native)
            return _hits(store, ranking.ids, ranking.scores)

    return ranked(int(k)) if selection.predicate is None else _widened(ranked, int(k), selection)


def most_diverse(scores: ArrayLike, vectors: ArrayLike, k: int, lambda_mult: float = 0.5) -> list[int]:
    """Choose hits by maximal marginal relevance: near to the query, and far from what is chosen already.

    Relevance is the score with which the search found a hit, so the query is the one that Deep Memory has moved, and
    documents keep what the layer adds for them.

    Args:
        scores: ``(n,)``, higher is better.
        vectors: ``(n, dimensions)``, of the hits.
        k: how many to choose.
        lambda_mult: 1 for relevance alone, 0 for diversity alone.

    Returns:
        positions among the hits, in the order of choice.

    Raises:
        InputError: ``lambda_mult`` is not within 0 and 1.

    Source: Carbonell and Goldstein, "The use of MMR, diversity-based reranking ..." (SIGIR 1998).
    """
    if not 0 <= lambda_mult <= 1:
        raise InputError(f"lambda_mult lies within 0 (diverse) and 1 (relevant); found {lambda_mult!r}")
    relevance = np.asarray(scores, dtype=np.float64)
    if not len(relevance):
        return []
    units = unit_rows(np.asarray(vectors, dtype=np.float32))
    chosen = [int(np.argmax(relevance))]
    nearest = units @ units[chosen[0]]
    while len(chosen) < min(k, len(relevance)):
        gain = lambda_mult * relevance - (1 - lambda_mult) * nearest
        gain[chosen] = -np.inf
        chosen.append(int(np.argmax(gain)))
        nearest = np.maximum(nearest, units @ units[chosen[-1]])
    return chosen


def vectors_of(store: VectorStore, hits: Sequence[Hit]) -> tuple[list[Hit], NDArray[np.float32]]:
    """The stored vectors of hits; a hit that was deleted meanwhile is left out."""
    found = store.backend.get_vectors([hit.id for hit in hits]) if hits else {}
    kept = [hit for hit in hits if hit.id in found]
    if not kept:
        return [], np.empty((0, store.backend.dimensions or 0), dtype=np.float32)
    return kept, np.stack([found[hit.id] for hit in kept])


def _check_k(k: object) -> None:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InputError(f"k is a whole number of 1 or more; found {shown(k)}")


def _widened(ranked: Callable[[int], list[Hit]], k: int, selection: Selection) -> list[Hit]:
    assert selection.predicate is not None
    passed: dict[str, bool] = {}
    depth = max(_FIRST_DEPTH, _WIDER * k)
    while True:
        hits = ranked(depth)
        kept = []
        for hit in hits:
            if hit.id not in passed:
                passed[hit.id] = selection.predicate(Document(hit.id, hit.text, hit.metadata))
            if passed[hit.id]:
                kept.append(hit)
                if len(kept) == k:
                    return kept
        if len(hits) < depth:
            return kept
        depth *= _WIDER


def _scanned(
    store: VectorStore, query_vector: NDArray[np.float32], k: int, selection: Selection, metric: Metric
) -> list[Hit]:
    """The nearest of all documents by a metric that no engine here has an index for."""
    ids: list[str] = []
    distances: list[NDArray[np.float32]] = []
    for batch in store.backend.batches():
        column = batch.column("vector")
        vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
        difference = np.abs(vectors - query_vector)
        if metric == "l2":
            distances.append(np.sqrt(np.einsum("ij,ij->i", difference, difference)))
        else:
            distances.append(difference.sum(axis=1) if metric == "l1" else difference.max(axis=1))
        ids += batch.column("id").to_pylist()
    if not ids:
        return []
    scores = -np.concatenate(distances)
    order = sorted(range(len(ids)), key=lambda row: (-scores[row], ids[row]))

    def ranked(depth: int) -> list[Hit]:
        rows = order[:depth]
        return _hits(store, [ids[row] for row in rows], scores[rows])

    return ranked(k) if selection.is_everything else _widened(ranked, k, Selection(predicate=selection.test()))


def _hits(store: VectorStore, ids: Sequence[str], scores: NDArray[np.float32]) -> list[Hit]:
    documents = store.get(ids) if ids else []
    return [
        Hit(document.id, document.text, document.metadata, float(score))
        for document, score in zip(documents, scores, strict=True)
        if document is not None
    ]


def _as_vector(embedding: ArrayLike) -> NDArray[np.float32]:
    vector: NDArray[np.float32] = check_vectors(np.atleast_2d(np.asarray(embedding)), 1, None, "embedding")[0]
    return vector


def _query_vector(store: VectorStore, query: str | None, embedding: ArrayLike | None) -> NDArray[np.float32]:
    """``(1, dimensions)``."""
    if embedding is not None:
        return check_vectors(_as_vector(embedding)[None], 1, store.backend.dimensions, "embedding")
    if problem := text_problem(query):
        raise InputError(f"the query {problem}")
    if store.embedder is None:
        raise InputError(f"{store.path} has no embedder: give the query's vector as embedding")
    return store.embedder.embed_queries([str(query)])
