"""What a user has without training: LanceDB's own full-text search, and its rank fusion with the vectors."""

import hashlib
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from deepmemory.backends.lance import LanceBackend
from deepmemory.data import Document

from .problem import Problem, Side

__all__ = ["DEPTH", "Hits", "fuse", "hits"]

DEPTH = 101
"""A hundred hits, and the first that is left out."""


@dataclass(frozen=True, eq=False)
class Hits:
    """The full-text hits of some queries.

    Attributes:
        rows: ``(n, DEPTH) int64``, best first; -1 where there are no more.
        scores: ``(n, DEPTH) float32``; 0 there.
        milliseconds: of a query, the median.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    milliseconds: float

    def of(self, side: Side) -> "Hits":
        """Those of one side of a split; these must be of all queries of the collection."""
        return Hits(self.rows[side.positions], self.scores[side.positions], self.milliseconds)

    def matrix(self, n_documents: int) -> csr_array:
        """``(n, n_documents)`` scores, 0 where nothing was found."""
        found = self.rows >= 0
        starts = np.concatenate([[0], np.cumsum(found.sum(axis=1))])
        return csr_array((self.scores[found], self.rows[found], starts), shape=(len(self.rows), n_documents))


def hits(problem: Problem, cache: Path) -> Hits:
    """Of all queries of the collection, from the cache where they are there.

    Args:
        problem: any of the collection.
        cache: a folder.
    """
    texts, queries = problem.texts, list(problem.collection.queries)
    named = hashlib.sha256(json.dumps([texts, queries]).encode()).hexdigest()[:16]
    file = cache / f"{problem.collection.name}-{named}.npz"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        found = _search(problem, texts, queries)
        unfinished = file.with_suffix(".part.npz")
        np.savez(unfinished, rows=found.rows, scores=found.scores, milliseconds=found.milliseconds)
        unfinished.rename(file)
    arrays = np.load(file)
    return Hits(arrays["rows"], arrays["scores"], float(arrays["milliseconds"]))


def _search(problem: Problem, texts: list[str], queries: list[str]) -> Hits:
    rows = np.full((len(queries), DEPTH), -1, dtype=np.int64)
    scores = np.zeros((len(queries), DEPTH), dtype=np.float32)
    times = []
    places = {document.id: row for row, document in enumerate(problem.collection.documents)}
    documents = [
        Document(id=document.id, text=text, metadata={})
        for document, text in zip(problem.collection.documents, texts, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        backend = LanceBackend(folder)
        backend.upsert(documents, problem.documents)
        backend.optimize()
        for place, query in enumerate(queries):
            started = time.perf_counter()
            ranking = backend.search_text([query], DEPTH)[0]
            times.append(time.perf_counter() - started)
            rows[place, : len(ranking)] = [places[id] for id in ranking.ids]
            scores[place, : len(ranking)] = ranking.scores
        backend.close()
    return Hits(rows, scores, 1000 * float(np.median(times)))


def fuse(
    nearest: NDArray[np.int64], found: NDArray[np.int64], n_documents: int, *, k: float, weight: float
) -> NDArray[np.int64]:
    """Reciprocal rank fusion (Cormack et al. 2009): each list gives a document ``1 / (k + rank)``.

    Args:
        nearest: ``(n, depth)`` rows found by vectors, best first.
        found: ``(n, depth)`` rows found by words, -1 where there are no more.
        n_documents: of the collection.
        k: the constant; 60 is customary.
        weight: of the words, the vectors' being the rest; the two alike give the customary ranking.
    """
    fused = np.empty_like(nearest)
    for place, lists in enumerate(zip(nearest, found, strict=True)):
        score = np.zeros(n_documents)
        for rows, share in zip(lists, (1 - weight, weight), strict=True):
            there = rows[rows >= 0]
            score[there] += share / (k + 1 + np.arange(len(there)))
        fused[place] = np.argsort(-score, kind="stable")[: nearest.shape[1]]
    return fused
