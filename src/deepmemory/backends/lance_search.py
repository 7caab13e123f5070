"""Nearest neighbours in a LanceDB table: through its graph, one by one, or by one product over all."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepmemory.backends import lance_rows, scoring
from deepmemory.backends.base import Distance, Ranking, VectorArray
from deepmemory.data import Document

if TYPE_CHECKING:
    from lancedb.query import LanceQueryBuilder
    from lancedb.table import Table

__all__ = ["Metric", "Places", "VectorSearch", "scan", "search_words"]

Metric: TypeAlias = Literal["cosine", "dot", "l2"]
"""How the engine measures; its distances are one less the similarity, and for l2 the square of the length between."""

# From this many queries on, one pass over the vectors with matrix products is faster than a search for each, and holds
# one block of them at a time, where the engine would run a scan of its own for each query.
_MANY_QUERIES = 8
_BLOCK_BYTES = 64 * 2**20
_READ_AT_ONCE = 8_192
# The documents of a few hits come along for a tenth of what it would cost to fetch them by id.
_MOST_WITH_TEXT = 2_000
_QUERIES_AT_ONCE = 64

# The graph is walked by quantised vectors, and the vectors themselves decide among the best of those: twice as many
# as hits are asked for, and no fewer than forty, whose reading hardly shows beside the rest.
_REFINED_PER_HIT = 2
_LEAST_REFINED = 40
_CANDIDATES_PER_HIT = 3
_LEAST_CANDIDATES = 100
# Beyond this many hits, walking the graph costs as much as comparing all.
_MOST_HITS_BY_GRAPH = 500


Selection: TypeAlias = list[str] | dict[str, Any]
"""Columns by name, or by our name the SQL of what is there, as LanceDB's queries take them."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where in a table are what a search needs; by default the places of our own tables.

    Attributes:
        vector: the column of the vectors.
        text: the column that is searched by words.
        sql: by our name of each column (``id``, ``vector``, ``text`` ...) the SQL of what is there.
        of_documents: our names of the columns that documents are read from.
        documents: reads the documents of rows that have those.
    """

    vector: str = "vector"
    text: str = "text"
    sql: Mapping[str, str] | None = None
    of_documents: Sequence[str] = ("id", "text", "metadata")
    documents: Callable[[pa.Table], Iterator[Document]] = lance_rows.documents_of

    def select(self, names: Sequence[str]) -> Selection:
        """Some columns, as LanceDB's queries take them; the engine's own, such as ``_distance``, among them."""
        if self.sql is None:
            return list(names)
        return {name: self.sql.get(name, name) for name in names}


OURS = Places()


@dataclass(frozen=True, slots=True)
class VectorSearch:
    """A search to be done for one or many queries.

    Attributes:
        table: where to search.
        k: hits for each query, at least one.
        distance: how vectors are compared.
        condition: SQL that a hit must pass; None where all do.
        places: where the table has what is needed.
        graph: how the index of the table measures, if it may have one: l2 only where all vectors have length 1.
    """

    table: "Table"
    k: int
    distance: Distance
    condition: str | None
    places: Places = OURS
    graph: Metric | None = "cosine"

    def rank(self, queries: VectorArray) -> list[Ranking]:
        """Rank for each of the queries ``(n, dimensions)``."""
        if len(queries) < _MANY_QUERIES:
            return [self._one(query) for query in queries]
        if not self._has_graph():
            return self._in_one_pass(queries)
        return [ranking for group in _groups(queries) for ranking in self._group(group)]

    def _one(self, query: VectorArray) -> Ranking:
        rows = self._nearest(query, exact=not self._may_use_graph(), columns=self._columns(1))
        return self._completed(query, self._by_similarity(rows))

    def _group(self, queries: VectorArray) -> Iterator[Ranking]:
        rows = self._nearest(list(queries), exact=not self._may_use_graph(), columns=self._columns(len(queries)))
        of_query = np.asarray(rows.column("query_index"))
        for i, query in enumerate(queries):
            yield self._completed(query, self._by_similarity(rows.filter(pa.array(of_query == i))))

    def _completed(self, query: VectorArray, ranking: Ranking) -> Ranking:
        """The ranking, or an exact one where the graph ran out of neighbours under a narrow filter or deletions."""
        if len(ranking) >= self.k or not self._may_use_graph() or len(ranking) >= self._passing():
            return ranking
        return self._by_similarity(self._nearest(query, exact=True))

    def _nearest(
        self, query: VectorArray | list[VectorArray], *, exact: bool, columns: Sequence[str] = ("id",)
    ) -> pa.Table:
        search: Any = self.table.search(query, vector_column_name=self.places.vector, query_type="vector")
        # Without the distance among the columns, each search logs a warning.
        search = search.select(self.places.select([*columns, "_distance"])).limit(self.k)
        if exact:
            search = search.distance_type(self.distance).bypass_vector_index()
        else:
            search = search.distance_type(self.graph)
            refined = max(_REFINED_PER_HIT, math.ceil(_LEAST_REFINED / self.k))
            search = search.refine_factor(refined).ef(max(_LEAST_CANDIDATES, _CANDIDATES_PER_HIT * self.k))
        if self.condition:
            search = search.where(self.condition, prefilter=True)
        rows: pa.Table = search.to_arrow()
        if not exact and self.graph == "l2":
            # Between vectors of length 1, half of l2's is what cosine would have said.
            place = rows.schema.get_field_index("_distance")
            halves = np.asarray(rows.column("_distance"), dtype=np.float32) / 2
            rows = rows.set_column(place, "_distance", pa.array(halves))
        return rows

    def _columns(self, n_queries: int) -> Sequence[str]:
        return self.places.of_documents if n_queries * self.k <= _MOST_WITH_TEXT else ("id",)

    def _may_use_graph(self) -> bool:
        measures_alike = self.graph == self.distance or (self.graph == "l2" and self.distance == "cosine")
        return measures_alike and self.k <= _MOST_HITS_BY_GRAPH

    def _has_graph(self) -> bool:
        if not self._may_use_graph():
            return False
        return any(index.columns == [self.places.vector] for index in self.table.list_indices())

    def _passing(self) -> int:
        return int(self.table.count_rows(self.condition))

    def _by_similarity(self, rows: pa.Table) -> Ranking:
        # LanceDB's distance is one less the similarity, for cosine and for dot product.
        scores = 1 - np.asarray(rows.column("_distance"), dtype=np.float32)
        ranking = scoring.best_first(rows.column("id").to_pylist(), scores)
        if "text" not in rows.column_names:
            return ranking
        return replace(ranking, documents={document.id: document for document in self.places.documents(rows)})

    def _in_one_pass(self, queries: VectorArray) -> list[Ranking]:
        best = [scoring.EMPTY_RANKING for _ in queries]
        for block in self._blocks():
            found = scoring.rank(block, queries, self.k, distance=self.distance)
            best = [scoring.merge(kept, new, self.k) for kept, new in zip(best, found, strict=True)]
        return best

    def _blocks(self) -> Iterator[scoring.Matrix]:
        """The rows that pass the condition, a bounded number of bytes at a time."""
        bytes_each = lance_rows.dimensions_of(self.table.schema, self.places.vector) * np.dtype(np.float32).itemsize
        rows_each = max(_READ_AT_ONCE, _BLOCK_BYTES // bytes_each)
        batches: list[pa.RecordBatch] = []
        columns = self.places.select(["id", "vector"])
        for batch in scan(self.table, columns, self.condition).to_batches(_READ_AT_ONCE):
            batches.append(batch)
            if sum(map(len, batches)) >= rows_each:
                yield _matrix(batches)
                batches = []
        if batches:
            yield _matrix(batches)


def _matrix(batches: Sequence[pa.RecordBatch]) -> scoring.Matrix:
    rows = pa.Table.from_batches(batches)
    rows = rows.filter(pc.is_valid(rows.column("vector")))
    order = np.asarray(pc.sort_indices(rows.column("id")))
    ids = rows.column("id").take(order).to_pylist()
    return scoring.Matrix.of(ids, lance_rows.vectors_of(rows)[order])


def scan(table: "Table", columns: Selection, condition: str | None = None) -> "LanceQueryBuilder":
    """Some columns, or SQL by name, of the rows that pass a condition, in no particular order."""
    query = table.search().select(columns)
    return query.where(condition) if condition else query


def search_words(table: "Table", text: str, k: int, condition: str | None, places: Places = OURS) -> Ranking:
    """Rank by BM25; rows that the index doesn't cover are read and ranked with the rest."""
    from lancedb.query import MatchQuery

    # As a string alone, a text in double quotes would be a phrase, for which the index would need positions.
    encodable = text.encode(errors="replace").decode()  # half of a surrogate pair is part of no word
    match = MatchQuery(encodable, places.text)  # type: ignore[call-arg]
    search = table.search(match, query_type="fts").select(places.select(["id", "_score"])).limit(k)
    rows = (search.where(condition, prefilter=True) if condition else search).to_arrow()
    return scoring.best_first(rows.column("id").to_pylist(), np.asarray(rows.column("_score"), dtype=np.float32))


def _groups(queries: VectorArray) -> Iterator[VectorArray]:
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        yield queries[start : start + _QUERIES_AT_ONCE]
