"""Search through a backend with a layer: one transform, then the engine's ordinary search, index and filters.

A layer's prior and query memory raise or lower labelled documents only, and words raise the hits of the engine's
full-text search. Those that the search by vectors returned get their bonus there and then. One that it did not return
may still belong among the first k. A labelled one's score is known beforehand, for the layer carries its vector; of
one found by words it is known that its similarity is no higher than the last hit's. Only the few that may get in are
fetched, by id and under the same filter. So a document that was deleted, or that the filter keeps out, never comes
back, and one whose vector has changed since training is scored by the vector that it has now. Where labelled documents
have sunk so far that others from below the engine's last hit may belong above them, the engine is asked for more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from deepmemory.backends.base import Backend, Capabilities, Distance, Filter, Ranking
from deepmemory.backends.scoring import best_first
from deepmemory.data import Document
from deepmemory.transform import Layer, unit_rows

__all__ = ["Searched", "added_by_words", "documents_of", "lexical_scores", "retrieve"]

Vectors: TypeAlias = NDArray[np.float32]

MARGIN = 10
"""Hits asked of the engine beyond k: most documents that a bonus lifts into the first k are just below them, and
need not be fetched."""

MARGIN_WITH_WORDS = 40
"""The same where words have their part, which lift documents from further down; a hit more costs less than a fetch."""


class Searched(Protocol):
    """What a search asks of a `Backend`."""

    @property
    def capabilities(self) -> Capabilities:
        """See `Backend.capabilities`."""
        ...

    def search(
        self, query_vectors: Vectors, k: int, *, distance: Distance = "cosine", filter: Filter | None = None
    ) -> list[Ranking]:
        """See `Backend.search`."""
        ...

    def search_text(self, queries: Sequence[str], k: int, *, filter: Filter | None = None) -> list[Ranking]:
        """See `Backend.search_text`."""
        ...

    def get_vectors(self, ids: Sequence[str], *, filter: Filter | None = None) -> dict[str, Vectors]:
        """See `Backend.get_vectors`."""
        ...


def retrieve(
    backend: Searched,
    query_vectors: Vectors,
    k: int,
    *,
    layer: Layer | None,
    texts: Sequence[str] | None = None,
    distance: Distance = "cosine",
    filter: Filter | None = None,
) -> list[Ranking]:
    """Rank documents for a batch of queries, with a layer or without.

    Args:
        backend: where the documents are.
        query_vectors: ``(n, dim)`` float32, as the embedder gave them.
        k: hits a query.
        layer: None, or the identity, is the plain search.
        texts: the n queries; without them, or where the backend has no full-text search, words add nothing.
        distance: how the backend compares vectors.
        filter: metadata that hits must have.

    Returns:
        a ranking for each query; scores are similarities, plus what the layer adds for labels and words.

    Raises:
        StorageError: the engine failed.
    """
    if layer is None or layer.is_identity:
        return backend.search(query_vectors, k, distance=distance, filter=filter)
    moved, bonus = layer.apply(query_vectors)
    words = added_by_words(backend, texts, layer, filter) or [{} for _ in moved]
    if not bonus.any() and not any(words):
        return backend.search(moved, k, distance=distance, filter=filter)
    merge = _Merge(layer, moved, bonus, words, k, distance)
    depth = merge.depth
    found = backend.search(moved, depth, distance=distance, filter=filter)
    while rows := [row for row, ranking in enumerate(found) if merge.may_lack(row, ranking, depth)]:
        depth *= 2
        deeper = backend.search(moved[rows], depth, distance=distance, filter=filter)
        for row, ranking in zip(rows, deeper, strict=True):
            found[row] = ranking
    proposals = [merge.proposals(row, ranking) for row, ranking in enumerate(found)]
    wanted = sorted({id for ids in proposals for id in ids})
    fetched = backend.get_vectors(wanted, filter=filter) if wanted else {}
    return [merge.ranking(row, found[row], proposals[row], fetched) for row in range(len(found))]


def added_by_words(
    backend: Searched, texts: Sequence[str] | None, layer: Layer, filter: Filter | None
) -> list[dict[str, float]]:
    """What each query's hits by words get for them, by id; empty where words have no part."""
    if layer.words is None or texts is None or not backend.capabilities.full_text:
        return []
    rankings = backend.search_text(texts, layer.words.depth + 1, filter=filter)
    return [layer.words.of_hits(dict(zip(ranking.ids, ranking.scores.tolist(), strict=True))) for ranking in rankings]


def documents_of(backend: Backend, rankings: Sequence[Ranking]) -> dict[str, Document]:
    """The documents that rankings name, by id; one that was deleted meanwhile is not among them.

    Args:
        backend: what the rankings are of.
        rankings: as from `retrieve`; what came along with them is not fetched again.
    """
    found = {id: document for ranking in rankings for id, document in ranking.documents.items()}
    missing = list(dict.fromkeys(id for ranking in rankings for id in ranking.ids if id not in found))
    if missing:
        found |= {document.id: document for document in backend.get(missing) if document is not None}
    return found


def lexical_scores(rankings: Sequence[Ranking], rows: Mapping[str, int]) -> csr_array:
    """What full-text searches found, as `deepmemory.training.fit` takes it.

    Args:
        rankings: one for each query, as from `Backend.search_text`.
        rows: the row of each document, by id; what is not in it is left out.

    Returns:
        sparse float32 ``(len(rankings), len(rows))``.
    """
    found = [
        (query, rows[id], score)
        for query, ranking in enumerate(rankings)
        for id, score in zip(ranking.ids, ranking.scores.tolist(), strict=True)
        if id in rows
    ]
    query, document, score = zip(*found, strict=True) if found else ((), (), ())
    places = (np.array(query, dtype=np.int64), np.array(document, dtype=np.int64))
    return csr_array((np.array(score, dtype=np.float32), places), shape=(len(rankings), len(rows)))


@dataclass(frozen=True, eq=False)
class _Merge:
    """One batch of queries on its way from the engine's hits to the layer's.

    Attributes:
        layer: with a bonus, or with words.
        moved: ``(n, dim)``, the transformed queries.
        bonus: ``(n, n_labelled)``.
        words: for each query, what its hits by words get, by id.
        k: hits wanted.
        distance: of the backend.
    """

    layer: Layer
    moved: Vectors
    bonus: Vectors
    words: Sequence[Mapping[str, float]]
    k: int
    distance: Distance

    @cached_property
    def depth(self) -> int:
        """Hits to ask of the engine."""
        return self.k + (MARGIN_WITH_WORDS if any(self.words) else MARGIN)

    def may_lack(self, row: int, ranking: Ranking, depth: int) -> bool:
        """Whether a document below the last of the ``depth`` hits asked for may score higher than the first k."""
        if self.layer.prior >= 0 or len(ranking) < depth:
            return False
        kth = np.partition(self._raised(row, ranking), depth - self.k)[depth - self.k]
        return bool(ranking.scores[-1] > kth)

    def proposals(self, row: int, ranking: Ranking) -> list[str]:
        """Documents with a bonus that the engine did not return and that may belong among the first k."""
        if len(ranking) < self.depth:
            return []  # the engine has returned everything there is
        kth = np.sort(self._raised(row, ranking))[-self.k]
        returned, words = set(ranking.ids), self.words[row]
        places = np.flatnonzero(self.bonus[row] > 0).tolist()
        labelled = {str(self.layer.document_ids[place]): place for place in places}
        labelled |= {id: place for id in words if (place := self.layer.place_of.get(id)) is not None}
        scores = self._estimates(row, labelled)
        scores |= {id: ranking.scores[-1] + add for id, add in words.items() if id not in labelled}
        return [id for id, score in scores.items() if score >= kth and id not in returned]

    def _estimates(self, row: int, labelled: Mapping[str, int]) -> dict[str, float]:
        """Scores of labelled documents, by their vectors at the time of training."""
        if not labelled:
            return {}
        places, words = list(labelled.values()), self.words[row]
        vectors = self.layer.document_vectors
        assert vectors is not None  # a layer with labelled documents carries their vectors
        scores = self._similarity(row, vectors[places]) + self.bonus[row, places]
        return {id: score + words.get(id, 0.0) for id, score in zip(labelled, scores.tolist(), strict=True)}

    def ranking(self, row: int, ranking: Ranking, proposals: Sequence[str], fetched: Mapping[str, Vectors]) -> Ranking:
        """The first k of the engine's hits and the proposals that exist, scored alike."""
        ids, scores = list(ranking.ids), self._raised(row, ranking)
        alive = [id for id in proposals if id in fetched]
        if alive:
            similarity = self._similarity(row, np.stack([fetched[id] for id in alive]))
            ids += alive
            scores = np.concatenate([scores, similarity + self._added(row, alive)])
        return replace(best_first(ids, scores.astype(np.float32), self.k), documents=ranking.documents)

    def _raised(self, row: int, ranking: Ranking) -> Vectors:
        raised: Vectors = ranking.scores + self._added(row, ranking.ids)
        return raised

    def _added(self, row: int, ids: Sequence[str]) -> Vectors:
        """What documents get beside their similarity, ``(len(ids),)``."""
        place_of, words, bonus = self.layer.place_of, self.words[row], self.bonus[row]
        places = [place_of.get(id, -1) for id in ids]
        added = [
            (bonus[place] if place >= 0 else 0.0) + words.get(id, 0.0) for id, place in zip(ids, places, strict=True)
        ]
        return np.array(added, dtype=np.float32)

    def _similarity(self, row: int, vectors: Vectors) -> Vectors:
        compared = unit_rows(vectors) if self.distance == "cosine" else vectors
        similarity: Vectors = compared @ self.moved[row]
        return similarity
