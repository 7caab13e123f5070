"""An explained ranking: plain, immutable, and the same through JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deepmemory.data import Metadata
from deepmemory.errors import InputError

__all__ = ["Cause", "ExplainedHit", "Explanation", "Part", "decode_explanation"]


@dataclass(frozen=True, slots=True)
class Part:
    """One summand of a score.

    Attributes:
        name: ``"similarity"`` is what the search without a layer has; every other part is what the layer added.
        value: what it adds; the parts sum to the score.
    """

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Cause:
    """A training query that raised a document.

    Attributes:
        query: its text; None where it is not kept with the store.
        number: its place among the layer's training queries, from 0.
        cosine: with the query of this search, as the query memory compares them.
        raised: what it would add to the score by itself; the memory adds the highest of a document's causes.
    """

    query: str | None
    number: int
    cosine: float
    raised: float


@dataclass(frozen=True, slots=True)
class ExplainedHit:
    """One document with and without the layer.

    Attributes:
        id: of the document.
        text: of the document.
        metadata: JSON values by key.
        rank: with the layer, from 1; None where it is not among the first `Explanation.depth`.
        rank_before: the same without.
        score: with the layer, the sum of the parts.
        score_before: without, the first of the parts.
        parts: what the score is made of.
        causes: the training queries nearest to this one that want the document, those that raised it only.
    """

    id: str
    text: str
    metadata: Metadata
    rank: int | None
    rank_before: int | None
    score: float
    score_before: float
    parts: tuple[Part, ...]
    causes: tuple[Cause, ...] = ()

    def part(self, name: str) -> float:
        """What the part of a name adds; 0 where there is none."""
        return sum(part.value for part in self.parts if part.name == name)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "id": self.id,
            "score": self.score,
            "text": self.text,
            "metadata": dict(self.metadata),
            "rank": self.rank,
            "rank_before": self.rank_before,
            "score_before": self.score_before,
            "parts": [asdict(part) for part in self.parts],
            "causes": [asdict(cause) for cause in self.causes],
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a layer changed in the ranking of one query.

    Attributes:
        query: its text; None where only a vector was given.
        layer: the name of the active layer; None where there is none, and nothing was changed.
        k: hits asked for.
        depth: hits looked at for ranks; a rank beyond it is None.
        hits: what the search finds, best first.
        left: what the first k would hold without the layer, and don't with it.
        notes: what a reader must know, one sentence each.
    """

    query: str | None
    layer: str | None
    k: int
    depth: int
    hits: tuple[ExplainedHit, ...]
    left: tuple[ExplainedHit, ...]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values; `decode_explanation` reads them."""
        return {
            "query": self.query,
            "layer": self.layer,
            "k": self.k,
            "depth": self.depth,
            "hits": [hit.as_dict() for hit in self.hits],
            "left": [hit.as_dict() for hit in self.left],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        from deepmemory.explanation.text import render

        return render(self)


def decode_explanation(values: Mapping[str, Any]) -> Explanation:
    """Read what `Explanation.as_dict` wrote, also through JSON.

    Raises:
        InputError: the values are no explanation.
    """
    try:
        return Explanation(
            query=values["query"],
            layer=values["layer"],
            k=int(values["k"]),
            depth=int(values["depth"]),
            hits=tuple(map(_hit, values["hits"])),
            left=tuple(map(_hit, values["left"])),
            notes=tuple(map(str, values["notes"])),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"this is no explanation: {type(error).__name__}: {error}") from error


def _hit(values: Mapping[str, Any]) -> ExplainedHit:
    return ExplainedHit(
        id=str(values["id"]),
        text=str(values["text"]),
        metadata=dict(values["metadata"]),
        rank=values["rank"],
        rank_before=values["rank_before"],
        score=float(values["score"]),
        score_before=float(values["score_before"]),
        parts=tuple(Part(str(each["name"]), float(each["value"])) for each in values["parts"]),
        causes=tuple(
            Cause(each["query"], int(each["number"]), float(each["cosine"]), float(each["raised"]))
            for each in values["causes"]
        ),
    )
