"""What every room passes on: a document, a hit, relevance, and queries with their right answers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["Document", "Hit", "LabelledQueries", "Metadata", "Relevance"]

Metadata: TypeAlias = Mapping[str, Any]
"""What is kept beside a document: JSON values by key."""

Relevance: TypeAlias = Sequence[Sequence[tuple[str, float]]]
"""The public form of relevance: for each query, the ``(document id, grade)`` pairs that answer it."""


@dataclass(frozen=True, slots=True)
class Document:
    """One retrieved unit; a chunk of a page is one.

    Attributes:
        id: unique in its store.
        text: what was embedded, and what is shown.
        metadata: JSON values by key.
    """

    id: str
    text: str
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """One document that a search found.

    Attributes:
        id: of the document.
        text: of the document.
        metadata: JSON values by key.
        score: higher is better; the similarity, plus what the layer adds for documents that training queries wanted.
    """

    id: str
    text: str
    metadata: Metadata
    score: float


@dataclass(frozen=True, slots=True)
class LabelledQueries:
    """Queries with their right answers, validated and aligned by position.

    `check_labelled` makes one from what a caller passes in; made directly, nothing is checked again.

    Attributes:
        queries: the texts.
        qrels: for each query the grade (> 0) of each relevant document by id; never empty.
        made: for each query whether it was made out of its document, by a model or by extraction, and not asked by
            anybody; empty where none was made.
    """

    queries: tuple[str, ...]
    qrels: tuple[Mapping[str, float], ...]
    made: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if not any(self.made):
            object.__setattr__(self, "made", ())

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def labelled_ids(self) -> tuple[str, ...]:
        """The distinct ids of the documents that answer some query, in order of first appearance."""
        return tuple(dict.fromkeys(id for judgements in self.qrels for id in judgements))

    @property
    def relevance(self) -> list[list[tuple[str, float]]]:
        """The public form, as `check_labelled` takes it."""
        return [list(judgements.items()) for judgements in self.qrels]

    @property
    def asked(self) -> "LabelledQueries":
        """Those that were not made."""
        return self.subset(position for position, is_made in enumerate(self.is_made) if not is_made)

    @property
    def is_made(self) -> tuple[bool, ...]:
        """`made` with an entry for each query, also where none was made."""
        return self.made or (False,) * len(self)

    @property
    def first_positions(self) -> list[int]:
        """Where each query of `merged` comes first, in its order."""
        first: dict[str, int] = {}
        for position, text in enumerate(self.queries):
            first.setdefault(text, position)
        return list(first.values())

    def subset(self, positions: Iterable[int]) -> "LabelledQueries":
        """The queries at these positions, in this order; an integer array will do.

        Raises:
            IndexError: a position is out of range.
        """
        chosen = [int(position) for position in positions]
        return LabelledQueries(
            queries=tuple(self.queries[position] for position in chosen),
            qrels=tuple(self.qrels[position] for position in chosen),
            made=tuple(self.made[position] for position in chosen) if self.made else (),
        )

    def merged(self) -> "LabelledQueries":
        """The same with queries of exactly the same text made one, at the place of the first.

        It wants what any of them wanted, each document at the highest grade that it was given, and was made only if
        all of them were.
        """
        qrels_by_text: dict[str, dict[str, float]] = {}
        made_by_text: dict[str, bool] = {}
        for text, judgements, is_made in zip(self.queries, self.qrels, self.is_made, strict=True):
            union = qrels_by_text.setdefault(text, {})
            made_by_text[text] = is_made and made_by_text.get(text, True)
            for id, grade in judgements.items():
                union[id] = max(grade, union.get(id, 0.0))
        return LabelledQueries(tuple(qrels_by_text), tuple(qrels_by_text.values()), tuple(made_by_text.values()))
