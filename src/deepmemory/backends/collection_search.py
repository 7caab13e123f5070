"""Nearest neighbours in an engine's collection: through its index, or by comparing all where that can't answer."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deepmemory.backends import scoring
from deepmemory.backends.base import Distance, Ranking, VectorArray
from deepmemory.backends.collection import Collection, Hits, Rows, Where
from deepmemory.backends.filters import Conditions, metadata_terms
from deepmemory.backends.own_rows import unit_queries

__all__ = ["CollectionSearch", "Question", "parts_of", "passing_rows"]

_READ_AT_ONCE = 4_096
_BLOCK_BYTES = 64 * 2**20
_HITS_AT_ONCE = 50_000
_QUERIES_AT_ONCE = 64
_MOST_WITH_TEXT = 2_000
# Where the engine's filter lets through more than ours, twice as many hits nearly always hold those that are wanted.
_DEEPER, _DEEPER_BY = 2, 16


@dataclass(frozen=True, slots=True)
class Question:
    """Which documents are meant.

    Attributes:
        conditions: a filter that was read.
        asked: distinct ids, of which they must be too; None where any may be.
    """

    conditions: Conditions
    asked: list[str] | None = None

    @property
    def ids(self) -> list[str] | None:
        """The ids that come into question; None where all do."""
        allowed = self.conditions.ids
        if allowed is None:
            return self.asked
        return sorted(allowed) if self.asked is None else [id for id in self.asked if id in allowed]

    def count(self, collection: Collection) -> int:
        """How many there are."""
        where = collection.where(self.conditions)
        if self.ids is None and (where.exact or where.nothing):
            return 0 if where.nothing else collection.count(where)
        return sum(len(rows.ids) for rows in passing_rows(collection, self))


def passing_rows(
    collection: Collection,
    question: Question,
    *,
    documents: bool = False,
    vectors: bool = False,
    batch_size: int = _READ_AT_ONCE,
) -> Iterator[Rows]:
    """Read the documents that are meant, with those of their parts that are wanted."""
    where = collection.where(question.conditions)
    if where.nothing:
        return
    ids = question.ids
    parts = [None] if ids is None else [ids[a:b] for a, b in parts_of(len(ids), collection.rows_at_once)]
    for part in parts:
        stream = collection.read(
            where, ids=part, documents=documents or not where.exact, vectors=vectors, batch_size=batch_size
        )
        for rows in stream:
            yield rows if where.exact else _exactly(rows, question.conditions)


def _exactly(rows: Rows, conditions: Conditions) -> Rows:
    """The rows that pass, where the engine let through what only comes near."""
    kept = [
        row
        for row, (document_id, metadata) in enumerate(zip(rows.ids, rows.metadata, strict=True))
        if conditions.accept(document_id, metadata_terms(json.loads(metadata)))
    ]
    return Rows(
        ids=[rows.ids[row] for row in kept],
        texts=[rows.texts[row] for row in kept],
        metadata=[rows.metadata[row] for row in kept],
        vectors=None if rows.vectors is None else rows.vectors[kept],
    )


@dataclass(frozen=True, slots=True)
class CollectionSearch:
    """A search to be done for one or many queries.

    Attributes:
        collection: where to search.
        question: what hits must be.
        k: hits for each query, at least one.
        distance: how vectors are compared.
    """

    collection: Collection
    question: Question
    k: int
    distance: Distance

    def rank(self, queries: VectorArray) -> list[Ranking]:
        """Rank for each of the queries ``(n, dimensions)``, at least one."""
        where = self.collection.where(self.question.conditions)
        if where.nothing:
            return [scoring.EMPTY_RANKING for _ in queries]
        if not self._by_index():
            return self._by_comparing_all(queries)
        found, returned = self._nearest(queries, where)
        wanting = self._wanting(found, returned, where)
        if wanting:
            for row, ranking in zip(wanting, self._by_comparing_all(queries[wanting]), strict=True):
                found[row] = ranking
        return found

    def _by_index(self) -> bool:
        return (
            self.question.ids is None
            and self.distance == self.collection.distance
            and self.k <= self.collection.most_hits
        )

    def _nearest(self, queries: VectorArray, where: Where) -> tuple[list[Ranking], dict[int, int]]:
        """Rank by the index; also how many hits it returned to each query that has a direction."""
        by_cosine = self.distance == "cosine"
        asked = unit_queries(queries) if by_cosine else queries
        directed = [row for row, query in enumerate(asked) if not by_cosine or query.any()]
        found = [scoring.EMPTY_RANKING for _ in queries]
        returned: dict[int, int] = {}
        depth = self.k if where.exact else _DEEPER * self.k + _DEEPER_BY
        for start, stop in parts_of(len(directed), max(1, min(_QUERIES_AT_ONCE, _HITS_AT_ONCE // depth))):
            group = directed[start:stop]
            documents = not where.exact or len(group) * self.k <= _MOST_WITH_TEXT
            hits = self.collection.nearest(asked[group], depth, where, documents=documents)
            for row, answer in zip(group, hits, strict=True):
                returned[row] = len(answer.ids)
                found[row] = self._ranking(answer, where)
        return found, returned

    def _ranking(self, hits: Hits, where: Where) -> Ranking:
        if not where.exact:
            hits = self._exactly(hits)
        if self.distance == "cosine":
            hits = self._without_zeros(hits)
        return replace(scoring.best_first(hits.ids, hits.scores, self.k), documents=hits.documents)

    def _exactly(self, hits: Hits) -> Hits:
        """The hits that pass, where the engine's filter let through what only comes near."""
        accept = self.question.conditions.accept
        return _some(
            hits, [row for row, id in enumerate(hits.ids) if accept(id, metadata_terms(hits.documents[id].metadata))]
        )

    def _without_zeros(self, hits: Hits) -> Hits:
        """Leave out vectors of zeros, which have no direction: the engine gives them a similarity of exactly 0."""
        suspects = [id for id, score in zip(hits.ids, hits.scores, strict=True) if score == 0]
        if not suspects:
            return hits
        rows = self.collection.read(Where(), ids=suspects, vectors=True)
        zeros = {
            id
            for part in rows
            if part.vectors is not None
            for id, vector in zip(part.ids, part.vectors, strict=True)
            if not vector.any()
        }
        return _some(hits, [row for row, id in enumerate(hits.ids) if id not in zeros])

    def _wanting(self, found: Sequence[Ranking], returned: Mapping[int, int], where: Where) -> list[int]:
        """Queries for which the index ran out of neighbours, as a graph does behind deletions or a narrow filter."""
        short = [row for row in returned if len(found[row]) < self.k]
        if not short:
            return []
        passing = self.collection.count(where)
        return [row for row in short if returned[row] < passing]

    def _by_comparing_all(self, queries: VectorArray) -> list[Ranking]:
        best = [scoring.EMPTY_RANKING for _ in queries]
        for block in self._blocks():
            found = scoring.rank(block, queries, self.k, distance=self.distance)
            best = [scoring.merge(kept, new, self.k) for kept, new in zip(best, found, strict=True)]
        return best

    def _blocks(self) -> Iterator[scoring.Matrix]:
        """The vectors of what is meant, a bounded number of bytes at a time."""
        held: list[Rows] = []
        size = 0
        for rows in passing_rows(self.collection, self.question, vectors=True):
            assert rows.vectors is not None
            held.append(rows)
            size += rows.vectors.nbytes
            if size >= _BLOCK_BYTES:
                yield _matrix(held)
                held, size = [], 0
        if size:
            yield _matrix(held)


def _some(hits: Hits, rows: Sequence[int]) -> Hits:
    return Hits([hits.ids[row] for row in rows], hits.scores[list(rows)], hits.documents)


def _matrix(parts: Sequence[Rows]) -> scoring.Matrix:
    ids = [id for rows in parts for id in rows.ids]
    vectors = np.concatenate([rows.vectors for rows in parts if rows.vectors is not None])
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return scoring.Matrix.of([ids[row] for row in order], vectors[order])


def parts_of(n: int, size: int) -> Iterator[tuple[int, int]]:
    """The bounds of parts of at most ``size``, of n things."""
    for start in range(0, n, size):
        yield start, min(n, start + size)
