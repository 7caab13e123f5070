"""Held-out questions answered with and without Deep Memory, side by side."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from deepmemory.data import Document
from deepmemory.demo.pages import MODULES, page_of
from deepmemory.demo.questions import Question
from deepmemory.evaluation import Evaluation, QueryResult

__all__ = ["Answer", "Showcase", "choose", "names_in"]

_GAINS = 3
_LOSSES = 1
_HITS = 3
_NAMES_SHOWN = 2
_MODULES_BY_PAGE = {page_of(module): module for module in MODULES}


@dataclass(frozen=True, slots=True)
class Answer:
    """One hit.

    Attributes:
        id: of the document.
        names: what it describes, as dotted names.
        is_right: whether it answers the question.
    """

    id: str
    names: str
    is_right: bool


@dataclass(frozen=True, slots=True)
class Showcase:
    """One question.

    Attributes:
        question: its text.
        lift: in nDCG@10, negative where it lost.
        baseline_rank: of the first right answer without the layer; None where it isn't among the first 100.
        trained_rank: the same with the layer.
        without: the first hits without the layer.
        trained: the first hits with it.
        right: the names that answer the question.
    """

    question: str
    lift: float
    baseline_rank: int | None
    trained_rank: int | None
    without: tuple[Answer, ...]
    trained: tuple[Answer, ...]
    right: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "question": self.question,
            "lift": self.lift,
            "baseline_rank": self.baseline_rank,
            "trained_rank": self.trained_rank,
            "without": [answer.names for answer in self.without],
            "with": [answer.names for answer in self.trained],
            "right": list(self.right),
        }


def choose(
    evaluation: Evaluation, questions: Iterable[Question], get: Callable[[Sequence[str]], list[Document | None]]
) -> list[Showcase]:
    """The three questions that gained most in nDCG@10 and the one that lost most: the best is not all there is.

    Args:
        evaluation: of the held-out questions.
        questions: with the names that answer them.
        get: fetches documents by id.
    """
    right = {question.text: question.answers for question in questions}
    chosen = (*evaluation.gained(_GAINS), *evaluation.lost(_LOSSES))
    return [_showcase(result, right[result.query], get) for result in chosen]


def _showcase(
    result: QueryResult, right: tuple[str, ...], get: Callable[[Sequence[str]], list[Document | None]]
) -> Showcase:
    without, trained = (
        tuple(
            Answer(document.id, names_in(document), document.id in result.qrels)
            for document in get(ids[:_HITS])
            if document is not None
        )
        for ids in (result.baseline_ids, result.trained_ids)
    )
    return Showcase(
        question=result.query,
        lift=result.lift,
        baseline_rank=result.baseline_rank,
        trained_rank=result.trained_rank,
        without=without,
        trained=trained,
        right=right,
    )


def names_in(document: Document) -> str:
    """What a chunk describes: ``csv.reader, csv.writer``, or where it stands if nothing in it has a name."""
    page = str(document.metadata["page"])
    module = _MODULES_BY_PAGE.get(page, page.strip("/").removesuffix(".html"))
    anchors = document.metadata["anchors"] or [document.metadata["anchor"]]
    names = [f"{module}.{anchor.strip('-').replace('-', '.')}" for anchor in anchors if anchor]
    # A class's __init__ and its like say less of what a chunk is about than its other members do.
    names = [name for name in names if not name.endswith("__")] or names
    if not names:
        headings = document.metadata["headings"]
        return f"{module}, {headings[-1].lower()}" if len(headings) > 1 else f"{module}, introduction"
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
