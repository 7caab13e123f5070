"""Nearest neighbours in a PostgreSQL table: through its index, one by one, or by one product over all."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deepmemory.backends import scoring
from deepmemory.backends.base import Distance, Ranking, VectorArray
from deepmemory.backends.pgvector_connection import ask_each
from deepmemory.backends.pgvector_table import Condition, Description, Rows, name
from deepmemory.backends.pgvector_values import VectorTypes, decode_vectors, encode_vectors

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["MEASURES", "Measure", "VectorIndex", "VectorSearch", "chosen_index", "vector_indexes"]

Measure = Literal["cosine", "ip", "l2"]
"""What an index compares by: cosine, inner product, or the Euclidean distance."""

MEASURES: dict[Measure, str] = {"cosine": "<=>", "ip": "<#>", "l2": "<->"}
"""The operator of each; the smaller, the nearer."""

_OF_DISTANCE: dict[Distance, Measure] = {"cosine": "cosine", "dot": "ip"}
_OPERATORS = re.compile(r"(vector|halfvec)_(cosine|ip|l2)_ops")
_CAST = re.compile(
    r"\(*(?P<column>(?:\"(?:[^\"]|\"\")+\"|\w+))\)*::(?:[\w\"]+\.)?(?P<type>(?:vector|halfvec)\(\d+\))\)*"
)

# Without an index, this many queries are searched in one pass over the vectors with matrix products, where the server
# would read all of them for each query.
_MANY_QUERIES = 8
_QUERIES_AT_ONCE = 64
_READ_AT_ONCE = 8_192
_BLOCK_BYTES = 64 * 2**20
# The documents of a few hits come along for a tenth of what it would cost to fetch them by id.
_MOST_WITH_TEXT = 2_000

# An index of half precision proposes, and the vectors themselves decide: among twice as many as hits are asked for,
# and no fewer than forty.
_REFINED_PER_HIT = 2
_LEAST_REFINED = 40
# How many candidates a walk through the graph keeps: pgvector allows a thousand.
_CANDIDATES_PER_HIT = 2
_LEAST_CANDIDATES = 100
_MOST_CANDIDATES = 1_000
# Beyond this many hits, walking the graph costs as much as comparing all.
_MOST_HITS_BY_INDEX = 500
_ITERATIVE_SINCE = (0, 8)


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """An index of the column of vectors.

    Attributes:
        name: of the index.
        method: ``hnsw`` or ``ivfflat``.
        measure: what it compares by.
        operators: the class of its operators, for messages.
        cast: the type that the column is cast to in it, such as ``halfvec(384)``; None where it is the column itself.
        lists: of ``ivfflat``.
    """

    name: str
    method: str
    measure: Measure
    operators: str
    cast: str | None
    lists: int | None

    @property
    def is_exact(self) -> bool:
        """Whether it compares the vectors as they are stored."""
        return self.cast is None or self.cast.startswith("vector")


def vector_indexes(description: Description, column: str) -> list[VectorIndex]:
    """The indexes of a column that a search for the nearest can use."""
    found = []
    for index in description.indexes:
        operators = _OPERATORS.fullmatch(index.operators)
        if index.method not in ("hnsw", "ivfflat") or operators is None:
            continue
        cast = _CAST.fullmatch(index.expression)
        if not index.covers(column) and (
            cast is None or cast["column"] not in (column, name(column).replace("%%", "%"))
        ):
            continue
        measure: Any = operators[2]
        kept = cast["type"] if cast else None
        found.append(VectorIndex(index.name, index.method, measure, index.operators, kept, index.lists))
    return found


def chosen_index(indexes: Sequence[VectorIndex], distance: Distance, *, all_unit: bool) -> VectorIndex | None:
    """The index that finds the nearest by a distance; None where none does.

    Args:
        indexes: what there is.
        distance: to be compared by.
        all_unit: whether all vectors have length 1, so that all measures rank alike.
    """
    own = _OF_DISTANCE[distance]
    able = [index for index in indexes if index.measure == own or all_unit]
    return min(able, key=lambda index: (index.measure != own, index.method != "hnsw", index.cast or ""), default=None)


@dataclass(frozen=True, slots=True)
class VectorSearch:
    """A search to be done for one or many queries.

    Attributes:
        rows: where to search.
        types: what pgvector's types are called.
        index: what to search through; None where all are compared.
        k: hits for each query, at least one.
        distance: how vectors are compared.
        condition: what a hit must fulfil.
    """

    rows: Rows
    types: VectorTypes
    index: VectorIndex | None
    k: int
    distance: Distance
    condition: Condition

    def rank(self, connection: "Connection[Any]", queries: VectorArray) -> list[Ranking]:
        """Rank for each of the queries ``(n, dimensions)``."""
        directed = np.flatnonzero(queries.any(axis=1)) if self.distance == "cosine" else np.arange(len(queries))
        rankings = [scoring.EMPTY_RANKING for _ in queries]
        if self._usable is None and len(directed) >= _MANY_QUERIES:
            found = self._in_one_pass(connection, queries[directed])
        else:
            found = self._by_the_server(connection, queries[directed])
        for row, ranking in zip(directed.tolist(), found, strict=True):
            rankings[row] = ranking
        return rankings

    @property
    def _usable(self) -> VectorIndex | None:
        return self.index if self.k <= _MOST_HITS_BY_INDEX else None

    # Each query by itself

    def _by_the_server(self, connection: "Connection[Any]", queries: VectorArray) -> list[Ranking]:
        with_text = len(queries) * self.k <= _MOST_WITH_TEXT
        rankings = self._nearest(connection, queries, self._usable, with_text=with_text)
        short = [row for row, ranking in enumerate(rankings) if len(ranking) < self.k]
        if self._usable is not None and short:
            # A walk ends early where few pass the condition, and vectors of zeros are in no index.
            exact = self._nearest(connection, queries[short], None, with_text=with_text)
            for row, ranking in zip(short, exact, strict=True):
                rankings[row] = ranking
        return rankings

    def _nearest(
        self, connection: "Connection[Any]", queries: VectorArray, index: VectorIndex | None, *, with_text: bool
    ) -> list[Ranking]:
        statement = self._statement(index, with_text=with_text).encode()
        settings = self._settings(index)
        rankings: list[Ranking] = []
        encoded = encode_vectors(queries, half=self.rows.half)
        for start in range(0, len(encoded), _QUERIES_AT_ONCE):
            asked = [{**self.condition.values, "query": query} for query in encoded[start : start + _QUERIES_AT_ONCE]]
            answers = ask_each(connection, statement, asked, settings=settings)
            rankings += [self._ranking(answer.fetchall(), with_text=with_text) for answer in answers]
        return rankings

    def _statement(self, index: VectorIndex | None, *, with_text: bool) -> str:
        """The search as SQL: the nearest by the index, the best of them by the vectors themselves."""
        rows, own = self.rows, self._operator(_OF_DISTANCE[self.distance])
        query = f"%(query)s::{self._type(self._column_type)}"
        columns = f"{rows.id} AS id, {rows.vector} {own} {query} AS apart" + (f", {rows.content}" if with_text else "")
        if index is None:
            # The 0 keeps the planner from the index.
            order, limit = f"({rows.vector} {own} {query}) + 0", self.k
        else:
            order, limit = self._order(index, query), self._proposed(index)
        inner = f"SELECT {columns} FROM {rows.table} WHERE {self.condition.sql} ORDER BY {order} LIMIT {limit}"
        return f"SELECT * FROM ({inner}) AS nearest ORDER BY apart LIMIT {self.k}"

    def _order(self, index: VectorIndex, query: str) -> str:
        operator = self._operator(index.measure)
        if index.cast is None:
            return f"{self.rows.vector} {operator} {query}"
        cast = self._type(index.cast)
        return f"({self.rows.vector}::{cast}) {operator} ({query}::{cast})"

    def _proposed(self, index: VectorIndex) -> int:
        if index.is_exact and index.measure == _OF_DISTANCE[self.distance]:
            return self.k
        return max(_LEAST_REFINED, _REFINED_PER_HIT * self.k)

    def _settings(self, index: VectorIndex | None) -> dict[str, str]:
        if index is None:
            return {}
        iterative = self.types.version >= _ITERATIVE_SINCE
        if index.method == "ivfflat":
            probes = {"ivfflat.probes": str(max(10, math.isqrt(index.lists or 0)))}
            return probes | ({"ivfflat.iterative_scan": "relaxed_order"} if iterative else {})
        wanted = max(_LEAST_CANDIDATES, _CANDIDATES_PER_HIT * self._proposed(index))
        kept = {"hnsw.ef_search": str(min(wanted, _MOST_CANDIDATES))}
        return kept | ({"hnsw.iterative_scan": "relaxed_order"} if iterative else {})

    def _ranking(self, found: Sequence[tuple[Any, ...]], *, with_text: bool) -> Ranking:
        found = [row for row in found if not math.isnan(row[1])]  # a vector of zeros has no direction
        apart = np.array([row[1] for row in found], dtype=np.float64)
        # pgvector's operators tell how far apart two vectors are: one less the cosine, or the negative product.
        scores = (1 - apart if self.distance == "cosine" else -apart).astype(np.float32)
        ranking = scoring.best_first([self.rows.id_out(row[0]) for row in found], scores)
        if not with_text:
            return ranking
        documents = (self.rows.document(row[0], row[2], row[3]) for row in found)
        return replace(ranking, documents={document.id: document for document in documents})

    @property
    def _column_type(self) -> str:
        return "halfvec" if self.rows.half else "vector"

    def _type(self, type: str) -> str:
        return f"{name(self.types.schema)}.{type}"

    def _operator(self, measure: Measure) -> str:
        return f"OPERATOR({name(self.types.schema)}.{MEASURES[measure]})"

    # All queries in one pass

    def _in_one_pass(self, connection: "Connection[Any]", queries: VectorArray) -> list[Ranking]:
        best = [scoring.EMPTY_RANKING for _ in queries]
        for block in self._blocks(connection):
            found = scoring.rank(block, queries, self.k, distance=self.distance)
            best = [scoring.merge(kept, new, self.k) for kept, new in zip(best, found, strict=True)]
        return best

    def _blocks(self, connection: "Connection[Any]") -> Iterator[scoring.Matrix]:
        """The rows that fulfil the condition, a bounded number of bytes at a time."""
        rows = self.rows
        statement = f"SELECT {rows.id}, {rows.vector} FROM {rows.table} WHERE {self.condition.sql}"
        with connection.cursor("deepmemory_pass") as cursor:
            cursor.execute(statement.encode(), self.condition.values, binary=True)
            kept: list[tuple[str, bytes]] = []
            size = 0
            while found := cursor.fetchmany(_READ_AT_ONCE):
                kept += found
                size += sum(len(vector) for _, vector in found) * (2 if rows.half else 1)
                if size >= _BLOCK_BYTES:
                    yield self._matrix(kept)
                    kept, size = [], 0
            if kept:
                yield self._matrix(kept)

    def _matrix(self, found: list[tuple[str, bytes]]) -> scoring.Matrix:
        ids = [self.rows.id_out(id) for id, _ in found]
        order = sorted(range(len(ids)), key=ids.__getitem__)
        vectors = decode_vectors([found[row][1] for row in order], half=self.rows.half)
        return scoring.Matrix.of([ids[row] for row in order], vectors)
