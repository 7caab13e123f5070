"""Which queries are worth training on: each filter in turn, with a count of what it dropped."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from deepmemory.data import normalised
from deepmemory.data.text import shown
from deepmemory.errors import InputError
from deepmemory.synthesis.model import Generated
from deepmemory.synthesis.words import words_of

__all__ = ["STAGES", "FilterOptions", "QueryFilter", "Search", "SearchableStore"]

STAGES: Mapping[str, str] = {
    "too_short": "empty or too short",
    "too_long": "too long",
    "about_the_text": 'speaks of "the document" instead of its matter',
    "duplicate": "asked already",
    "verbatim": "copied from the document",
    "not_found": "its document is not found by it",
    "generic": "many documents answer it as well",
    "near_duplicate": "nearly asked already",
}
"""The filters in their order, and what each drops."""

Search: TypeAlias = Callable[[Sequence[str], int], Sequence[Sequence[Any]]]
"""Finds, for each of several queries, at most k documents: ids, ``(id, score)`` pairs, or hits with both."""

_ABOUT_TEXT = re.compile(
    r"\b(?:(?:this|the|above|given|provided)\s+(?:document|text|passage|excerpt|article|page|snippet|section|content)s?"
    r"|according to (?:the|this)|mentioned (?:above|here)|described (?:above|here))\b",
    re.I,
)
_AT_ONCE = 256  # queries searched for together: each brings the texts of its hits


@runtime_checkable
class SearchableStore(Protocol):
    """What a `VectorStore` has that the filters use."""

    embedder: Any

    def search_many(self, queries: Sequence[str] | None = None, k: int = 10, **options: Any) -> Sequence[Sequence[Any]]:
        """Hits for each query, best first."""
        ...


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """Where each filter draws its line.

    Attributes:
        min_characters: a query is at least so long; a character of Chinese or Japanese counts twice.
        max_characters: and at most so long.
        verbatim_words: a query with so many words in a row that its document has in the same order is a copy.
        round_trip: the source must be among the first so many that a search for the query finds; None doesn't ask.
        generic_margin: documents whose score differs from the source's by no more than this share of it answer as well.
        generic_limit: and a query that more others than this answer as well is too generic; None doesn't ask.
        near_duplicate: the cosine from which two queries are the same; None doesn't ask.
    """

    min_characters: int = 8
    max_characters: int = 300
    verbatim_words: int = 8
    round_trip: int | None = 10
    generic_margin: float = 0.02
    generic_limit: int | None = 10
    near_duplicate: float | None = 0.96

    def problems(self) -> list[str]:
        """What is wrong with them."""
        wrong = [
            f"{name} must be 1 or more, found {value!r}"
            for name in ("min_characters", "max_characters", "verbatim_words", "round_trip", "generic_limit")
            if (value := getattr(self, name)) is not None and value < 1
        ]
        if self.min_characters > self.max_characters:
            wrong.append("min_characters must not be above max_characters")
        if self.near_duplicate is not None and not 0 < self.near_duplicate <= 1:
            wrong.append(f"near_duplicate must be above 0 and at most 1, found {self.near_duplicate!r}")
        return wrong


class QueryFilter:
    """Passes queries through every filter, and remembers those that it kept.

    Attributes:
        counts: what came in (``made``), what each filter dropped, and what was ``kept``.
    """

    def __init__(
        self,
        texts: Mapping[str, str],
        *,
        search: "Search | SearchableStore | None" = None,
        options: FilterOptions | None = None,
        asked: Sequence[str] = (),
    ) -> None:
        """Prepare.

        Args:
            texts: of the source documents, by id.
            search: a store, or a function; without it nothing is searched for.
            options: where the lines are.
            asked: queries that exist, which are not wanted again.

        Raises:
            InputError: an option makes no sense.
        """
        self._options = options or FilterOptions()
        if problems := self._options.problems():
            raise InputError(problems)
        self._texts = texts
        self._search = search
        self._forms = {_form(query) for query in asked}
        self._vectors: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)
        self._n_vectors = 0
        self._dropped: Counter[str] = Counter()
        self._made = self._kept = 0

    @property
    def counts(self) -> dict[str, int]:
        """See the class."""
        return {"made": self._made, **{stage: self._dropped[stage] for stage in STAGES}, "kept": self._kept}

    def keep(self, queries: Sequence[Generated]) -> list[Generated]:
        """Those that pass.

        Raises:
            InputError: the search answers with something else than documents.
        """
        self._made += len(queries)
        left = [one for one in queries if self._passes(one)]
        parts = [left[start : start + _AT_ONCE] for start in range(0, len(left), _AT_ONCE)]
        kept = [one for part in parts for one in self._searched(part)]
        self._kept += len(kept)
        return kept

    def check(self) -> None:
        """Search once, for nothing in particular, so that a search that can't be made is known before a model is paid.

        Raises:
            InputError: the store has no embedder, or the search answers with something else than documents.
        """
        if self._wants_search:
            probe = ["is anything here?"]
            self._found(probe, 1, self._embedded(probe))

    @property
    def _wants_search(self) -> bool:
        options = self._options
        return self._search is not None and (options.round_trip is not None or options.generic_limit is not None)

    def _embedded(self, texts: list[str]) -> NDArray[np.float32] | None:
        """Vectors of queries by the store's own embedder; None where there is none, or nothing needs them."""
        embedder = getattr(self._search, "embedder", None)
        if embedder is None or not (self._wants_search or self._options.near_duplicate is not None):
            return None
        vectors: NDArray[np.float32] = embedder.embed_queries(texts)
        return vectors

    def _passes(self, one: Generated) -> bool:
        """The filters that look at the text alone."""
        reason = self._reason(one)
        if reason is not None:
            self._dropped[reason] += 1
            return False
        self._forms.add(_form(one.query))
        return True

    def _reason(self, one: Generated) -> str | None:
        query = one.query.strip()
        if _length(query) < self._options.min_characters or not words_of(query):
            return "too_short"
        if len(query) > self._options.max_characters:
            return "too_long"
        if _ABOUT_TEXT.search(query):
            return "about_the_text"
        if _form(query) in self._forms:
            return "duplicate"
        return "verbatim" if self._is_copied(query, self._texts.get(one.source_id, "")) else None

    def _is_copied(self, query: str, text: str) -> bool:
        run = self._options.verbatim_words
        words = [word.casefold() for word in words_of(query)]
        if len(words) < run:
            return False
        there = " " + " ".join(word.casefold() for word in words_of(text)) + " "
        return any(f" {' '.join(words[at : at + run])} " in there for at in range(len(words) - run + 1))

    def _searched(self, queries: list[Generated]) -> list[Generated]:
        """The filters that need a search or vectors."""
        options = self._options
        texts = [one.query for one in queries]
        vectors = self._embedded(texts)
        reasons: list[str | None] = [None] * len(queries)
        if self._wants_search:
            depth = max(options.round_trip or 0, 3 * (options.generic_limit or 0))
            found = self._found(texts, depth, vectors)
            reasons = [self._judge(one.source_id, hits) for one, hits in zip(queries, found, strict=True)]
        kept = []
        for row, one in enumerate(queries):
            reason = reasons[row]
            if reason is None and vectors is not None and options.near_duplicate is not None:
                reason = "near_duplicate" if self._near(vectors[row], options.near_duplicate) else None
            if reason is None:
                kept.append(one)
            else:
                self._dropped[reason] += 1
        return kept

    def _found(
        self, texts: list[str], depth: int, vectors: NDArray[np.float32] | None
    ) -> list[list[tuple[str, float | None]]]:
        if isinstance(self._search, SearchableStore):
            # Without what was learned: the filter is about the queries, not about the layer.
            found = self._search.search_many(texts, depth, deep_memory=False, embeddings=vectors)
        elif callable(self._search):
            found = self._search(texts, depth)
        else:
            raise InputError(f"search must be a store, or a function of queries and k; found {shown(self._search)}")
        if len(found) != len(texts):
            raise InputError(f"the search answered {len(texts)} queries with {len(found)} lists; expected one each")
        return [[_id_and_score(hit) for hit in hits] for hits in found]

    def _judge(self, source: str, hits: Sequence[tuple[str, float | None]]) -> str | None:
        options = self._options
        rank = next((rank for rank, (id, _) in enumerate(hits, start=1) if id == source), None)
        if options.round_trip is not None and (rank is None or rank > options.round_trip):
            return "not_found"
        if options.generic_limit is None or rank is None:
            return None
        own = hits[rank - 1][1]
        if own is None:
            return None
        close = sum(
            score is not None and abs(score - own) <= options.generic_margin * abs(own)
            for id, score in hits
            if id != source
        )
        return "generic" if close > options.generic_limit else None

    def _near(self, vector: NDArray[np.float32], limit: float) -> bool:
        """Whether a kept query points the same way; if none does, this one is remembered."""
        kept = self._vectors[: self._n_vectors]
        if len(kept) and float((kept @ vector).max()) >= limit:
            return True
        if self._n_vectors == len(self._vectors):
            grown = np.empty((max(256, 2 * self._n_vectors), len(vector)), dtype=np.float32)
            grown[: self._n_vectors] = kept.reshape(-1, len(vector))
            self._vectors = grown
        self._vectors[self._n_vectors] = vector
        self._n_vectors += 1
        return False


def _length(query: str) -> int:
    return sum(2 if character >= "\u2e80" else 1 for character in query)


def _form(query: str) -> str:
    """A query without case, marks and spacing."""
    return " ".join(words_of(normalised(query)))


def _id_and_score(hit: Any) -> tuple[str, float | None]:
    if isinstance(hit, str):
        return hit, None
    if isinstance(hit, Sequence) and len(hit) == 2:
        return str(hit[0]), float(hit[1])
    id = getattr(hit, "id", None)
    if id is None:
        raise InputError(f"the search must find ids, (id, score) pairs or hits; it found {shown(hit)}")
    score = getattr(hit, "score", None)
    return str(id), None if score is None else float(score)
