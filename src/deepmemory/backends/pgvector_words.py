"""Full-text search in a PostgreSQL table, ranked by how rare a word is and how much of a text it makes up."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepmemory.backends.base import Ranking
from deepmemory.backends.pgvector_connection import ask_each
from deepmemory.backends.pgvector_table import Condition, Description, Rows, name
from deepmemory.backends.pgvector_values import is_encodable
from deepmemory.backends.scoring import EMPTY_RANKING, best_first

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["WordIndex", "WordSearch", "word_index"]

_CONFIG = re.compile(r"to_tsvector\('(?P<config>[\w.]+)'::regconfig")
_LONGEST_WORD = 2_000  # of more than 2,046 bytes, PostgreSQL leaves a word out and says so
# A rank is worked out for each text that has one of the words, so common words alone don't decide which are looked at.
_MOST_RANKED = 10_000
_DIVIDE_BY_LENGTH = 1


@dataclass(frozen=True, slots=True)
class WordIndex:
    """An index of the words of texts.

    Attributes:
        words: the SQL of what it indexes, of the type ``tsvector``.
        config: the SQL of the configuration that made it, such as ``'english'``.
        statistics: the table or index, and its column, that `pg_stats` knows the words by.
    """

    words: str
    config: str
    statistics: tuple[str, str]


def word_index(description: Description, table: str) -> WordIndex | None:
    """The index that a search by words can use without anything being altered; None where there is none."""
    for index in description.indexes:
        if index.method not in ("gin", "gist") or index.operators != "tsvector_ops":
            continue
        for column in description.columns.values():
            if column.type == "tsvector" and index.covers(column.name):
                return WordIndex(name(column.name), _config(column.generated), (table, column.name))
        if _CONFIG.match(index.expression):
            words = index.expression.replace("%", "%%")
            return WordIndex(words, _config(index.expression), (index.name, "to_tsvector"))
    return None


def _config(expression: str | None) -> str:
    found = _CONFIG.search(expression or "")
    return f"'{found['config']}'::regconfig" if found else "get_current_ts_config()"


@dataclass(frozen=True, slots=True)
class WordSearch:
    """A search by words to be done for one or many queries.

    Attributes:
        rows: where to search.
        index: of their words.
        k: hits for each query, at least one.
        condition: what a hit must fulfil.
    """

    rows: Rows
    index: WordIndex
    k: int
    condition: Condition

    def rank(self, connection: "Connection[Any]", queries: Sequence[str]) -> list[Ranking]:
        """Rank for each of the queries; any string is one."""
        shares = self._shares(connection)
        statement = f"SELECT tsvector_to_array(to_tsvector({self.index.config}, %(text)s::text))"
        texts = [{"text": _readable(query)} for query in queries]
        found = [cursor.fetchall()[0][0] for cursor in ask_each(connection, statement.encode(), texts)]
        return [self._one(connection, words, shares) if words else EMPTY_RANKING for words in found]

    def _shares(self, connection: "Connection[Any]") -> Mapping[str, float]:
        """The share of the texts that each common word is in, from the statistics that the server keeps anyway."""
        values = (self.rows.description.schema, *self.index.statistics)
        found = connection.execute(
            "SELECT most_common_elems::text::text[], most_common_elem_freqs FROM pg_stats "
            "WHERE schemaname = %s AND tablename = %s AND attname = %s",
            values,
        ).fetchone()
        if found is None or found[0] is None:
            return {}
        # Behind the shares of the words come the lowest and the highest of them.
        return dict(zip(found[0], found[1], strict=False))

    def _one(self, connection: "Connection[Any]", words: Sequence[str], shares: Mapping[str, float]) -> Ranking:
        n_rows = max(self.rows.description.rows, 1)
        rarest = min(shares.values(), default=1.0) / 2
        share = {word: shares.get(word, rarest) for word in words}
        chosen = _deciding(share, n_rows)
        values: dict[str, Any] = {**self.condition.values, "any": " | ".join(map(_as_query, chosen))}
        parts = []
        for number, word in enumerate(words):
            values[f"word{number}"], values[f"weight{number}"] = _as_query(word), math.log1p(1 / share[word])
            rank = f"ts_rank({self.index.words}, %(word{number})s::tsquery, {_DIVIDE_BY_LENGTH})"
            parts.append(f"%(weight{number})s::float8 * {rank}")
        statement = (
            f"SELECT {self.rows.id} AS id, {' + '.join(parts)} AS score FROM {self.rows.table} "
            f"WHERE {self.index.words} @@ %(any)s::tsquery AND {self.condition.sql} ORDER BY score DESC LIMIT {self.k}"
        )
        hits = connection.cursor(binary=True).execute(statement.encode(), values).fetchall()
        scores = np.array([score for _, score in hits], dtype=np.float32)
        return best_first([self.rows.id_out(id) for id, _ in hits], scores)


def _deciding(share: Mapping[str, float], n_rows: int) -> list[str]:
    """The rarest of the words, as many as are in not too many texts together; never none."""
    chosen: list[str] = []
    expected = 0.0
    for word in sorted(share, key=lambda word: (share[word], word)):
        expected += share[word] * n_rows
        if chosen and expected > _MOST_RANKED:
            break
        chosen.append(word)
    return chosen


def _as_query(word: str) -> str:
    """One word as a ``tsquery``: in quotes nothing has a meaning but the quote and the backslash."""
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"


def _readable(query: str) -> str:
    """What PostgreSQL can take of a query; what it can't is part of no word."""
    text = query if is_encodable(query) else query.encode(errors="replace").decode()
    return " ".join(word for word in text.replace("\x00", " ").split() if len(word) <= _LONGEST_WORD)
