"""Documents, relevance and labelled queries: what everything else is computed from, checked once at the door."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["Document", "LabelledQueries", "Metadata", "Relevance"]

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
class LabelledQueries:
    """Queries with their right answers, validated and aligned by position.

    Attributes:
        queries: the texts.
        qrels: for each query the grade (> 0) of each relevant document by id; never empty.
    """

    queries: tuple[str, ...]
    qrels: tuple[Mapping[str, float], ...]

    def __len__(self) -> int:
        return len(self.queries)
