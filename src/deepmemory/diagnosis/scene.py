"""What all findings are drawn from: the queries, and what the store's own search finds for them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepmemory.backends.base import Backend, Distance, Ranking
from deepmemory.data import LabelledQueries
from deepmemory.diagnosis.wording import beginning
from deepmemory.progress import Progress
from deepmemory.transform import unit_rows

__all__ = ["DEPTH", "Scene", "look", "search", "vectors_of"]

DEPTH = 100
"""Hits searched for: what is not among so many is never shown to anybody, nor reranked."""

_BATCH = 250
_FETCHED_AT_ONCE = 2_000


@dataclass(frozen=True, eq=False)
class Scene:
    """Queries with their answers, and what a plain search finds for a sample of them.

    Attributes:
        backend: where the documents are.
        distance: how the store compares vectors.
        labelled: n queries, as they were given.
        vectors: ``(n, dim)`` float32, as the embedder gave them.
        directions: ``(n, dim)`` float32, the same with unit norm.
        n_documents: documents in the store.
        sample: ``(n_sample,)`` rows of the queries that were searched for, ascending.
        rankings: n_sample rankings, `DEPTH` deep.
    """

    backend: Backend
    distance: Distance
    labelled: LabelledQueries
    vectors: NDArray[np.float32]
    directions: NDArray[np.float32]
    n_documents: int
    sample: NDArray[np.int64]
    rankings: Sequence[Ranking]

    def texts(self, ids: Iterable[str]) -> dict[str, str]:
        """The beginnings of documents' texts; only of those that exist."""
        wanted = list(dict.fromkeys(ids))
        found = self.backend.get(wanted) if wanted else []
        return {document.id: beginning(document.text, 300) for document in found if document is not None}


def look(
    backend: Backend,
    labelled: LabelledQueries,
    vectors: NDArray[np.float32],
    *,
    distance: Distance,
    sample: int,
    seed: int,
    progress: Progress | None,
) -> Scene:
    """Search for the queries, or for a sample of them.

    Args:
        backend: where the documents are.
        labelled: n queries.
        vectors: ``(n, dim)`` float32.
        distance: how the store compares vectors.
        sample: at most so many are searched for.
        seed: draws them.
        progress: called with searches done and their number.
    """
    rows = np.arange(len(labelled))
    if len(rows) > sample:
        rows = np.sort(np.random.default_rng(seed).choice(rows, sample, replace=False))
    return Scene(
        backend=backend,
        distance=distance,
        labelled=labelled,
        vectors=vectors,
        directions=unit_rows(vectors),
        n_documents=backend.count(),
        sample=rows,
        rankings=search(backend, vectors[rows], DEPTH, distance=distance, progress=progress),
    )


def search(
    backend: Backend,
    vectors: NDArray[np.float32],
    k: int,
    *,
    distance: Distance,
    progress: Progress | None = None,
) -> list[Ranking]:
    """The backend's search, batch by batch, without the documents that come along."""
    found: list[Ranking] = []
    for start in range(0, len(vectors), _BATCH):
        if progress is not None:
            progress(start, len(vectors))
        rankings = backend.search(vectors[start : start + _BATCH], k, distance=distance)
        found += [Ranking(ranking.ids, ranking.scores) for ranking in rankings]
    return found


def vectors_of(backend: Backend, ids: Sequence[str]) -> Mapping[str, NDArray[np.float32]]:
    """The vectors of those documents that exist, with unit norm."""
    found: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(ids), _FETCHED_AT_ONCE):
        part = backend.get_vectors(ids[start : start + _FETCHED_AT_ONCE])
        if part:
            found |= zip(part, unit_rows(np.stack(list(part.values()))), strict=True)
    return found
