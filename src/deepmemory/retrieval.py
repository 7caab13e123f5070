"""Search through a backend with a layer: one transform, then the engine's ordinary search, index and filters.

A layer's prior and query memory raise or lower labelled documents only. Those that the engine returned get their bonus
there and then. One that it did not return may still belong among the first k: the layer carries the labelled
documents' vectors, so its score is known beforehand, and only the few that would get in are fetched, by id and under
the same filter. So a document that was deleted, or that the filter keeps out, never comes back, and one whose vector
has changed since training is scored by the vector that it has now. Where labelled documents have sunk so far that
others from below the engine's last hit may belong above them, the engine is asked for more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory.backends.base import Backend, Distance, Filter, Ranking
from deepmemory.backends.scoring import best_first
from deepmemory.data import Document
from deepmemory.transform import Layer, unit_rows

__all__ = ["documents_of", "retrieve"]

Vectors: TypeAlias = NDArray[np.float32]

MARGIN = 10
"""Hits asked of the engine beyond k: most documents that a bonus lifts into the first k are just below them, and
need not be fetched."""


def retrieve(
    backend: Backend,
    query_vectors: Vectors,
    k: int,
    *,
    layer: Layer | None,
    distance: Distance = "cosine",
    filter: Filter | None = None,
) -> list[Ranking]:
    """Rank documents for a batch of queries, with a layer or without.

    Args:
        backend: where the documents are.
        query_vectors: ``(n, dim)`` float32, as the embedder gave them.
        k: hits a query.
        layer: None, or the identity, is the plain search.
        distance: how the backend compares vectors.
        filter: metadata that hits must have.

    Returns:
        a ranking for each query; scores are similarities, plus the layer's bonus for labelled documents.

    Raises:
        StorageError: the engine failed.
    """
    if layer is None or layer.is_identity:
        return backend.search(query_vectors, k, distance=distance, filter=filter)
    if not layer.has_bonus:
        return backend.search(layer.transform(query_vectors), k, distance=distance, filter=filter)
    moved, bonus = layer.apply(query_vectors)
    if not bonus.any():
        return backend.search(moved, k, distance=distance, filter=filter)
    merge = _Merge(layer, moved, bonus, k, distance)
    depth = k + MARGIN
    found = backend.search(moved, depth, distance=distance, filter=filter)
    while rows := [row for row, ranking in enumerate(found) if merge.may_lack(row, ranking, depth)]:
        depth *= 2
        deeper = backend.search(moved[rows], depth, distance=distance, filter=filter)
        for row, ranking in zip(rows, deeper, strict=True):
            found[row] = ranking
    proposals = [merge.proposals(row, ranking) for row, ranking in enumerate(found)]
    wanted = sorted({layer.document_ids[place] for places in proposals for place in places.tolist()})
    fetched = backend.get_vectors([str(i) for i in wanted], filter=filter) if wanted else {}
    return [merge.ranking(row, found[row], proposals[row], fetched) for row in range(len(found))]


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


@dataclass(frozen=True, eq=False)
class _Merge:
    """One batch of queries on its way from the engine's hits to the layer's.

    Attributes:
        layer: with a bonus.
        moved: ``(n, dim)``, the transformed queries.
        bonus: ``(n, n_labelled)``.
        k: hits wanted.
        distance: of the backend.
    """

    layer: Layer
    moved: Vectors
    bonus: Vectors
    k: int
    distance: Distance

    def may_lack(self, row: int, ranking: Ranking, depth: int) -> bool:
        """Whether a document below the last of the ``depth`` hits asked for may score higher than the first k."""
        if self.layer.prior >= 0 or len(ranking) < depth:
            return False
        kth = np.partition(self._raised(row, ranking), depth - self.k)[depth - self.k]
        return bool(ranking.scores[-1] > kth)

    def proposals(self, row: int, ranking: Ranking) -> NDArray[np.int64]:
        """Places of the labelled documents that the engine did not return and that may belong among the first k."""
        places = np.flatnonzero(self.bonus[row] > 0)
        if len(ranking) < self.k + MARGIN or not len(places):
            return places[:0]  # the engine has returned everything there is
        scores = np.sort(self._raised(row, ranking))[::-1]
        vectors = self.layer.document_vectors
        assert vectors is not None  # a layer with a bonus carries its documents
        estimate = self._similarity(row, vectors[places]) + self.bonus[row, places]
        returned = set(ranking.ids)
        return places[
            [e >= scores[self.k - 1] and i not in returned for e, i in zip(estimate, self._ids(places), strict=True)]
        ]

    def ranking(
        self, row: int, ranking: Ranking, proposals: NDArray[np.int64], fetched: Mapping[str, Vectors]
    ) -> Ranking:
        """The first k of the engine's hits and the proposals that exist, scored alike."""
        ids, scores = list(ranking.ids), self._raised(row, ranking)
        alive = [(place, i) for place, i in zip(proposals.tolist(), self._ids(proposals), strict=True) if i in fetched]
        if alive:
            vectors = np.stack([fetched[i] for _, i in alive])
            extra = self._similarity(row, vectors) + self.bonus[row, [place for place, _ in alive]]
            ids += [i for _, i in alive]
            scores = np.concatenate([scores, extra])
        return replace(best_first(ids, scores.astype(np.float32), self.k), documents=ranking.documents)

    def _raised(self, row: int, ranking: Ranking) -> Vectors:
        place_of = self.layer.place_of
        places = [place_of.get(i, -1) for i in ranking.ids]
        return ranking.scores + np.where(np.array(places, dtype=np.int64) >= 0, self.bonus[row, places], 0)

    def _similarity(self, row: int, vectors: Vectors) -> Vectors:
        compared = unit_rows(vectors) if self.distance == "cosine" else vectors
        similarity: Vectors = compared @ self.moved[row]
        return similarity

    def _ids(self, places: NDArray[np.int64]) -> list[str]:
        return [str(self.layer.document_ids[place]) for place in places.tolist()]
