"""From dotted names to the chunks that describe them."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from deepmemory.data import Document, LabelledQueries
from deepmemory.demo.pages import page_of, place_of
from deepmemory.demo.questions import TEST, TRAIN, Question

__all__ = ["Answers", "Labels", "label"]

_INHERITED = re.compile(r"inherited from (?P<base>[\w.]+)$")


class Answers:
    """Finds the chunks that describe something.

    pydoc prints the methods that a class inherits once more, on its page and on those of other modules. Such a copy
    answers as well as the original does, so it counts as an answer too.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        """Take note of the anchors in the documents of ingested pages."""
        self._originals: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._copies: dict[tuple[str, str], list[str]] = defaultdict(list)
        for document in documents:
            page = str(document.metadata["page"])
            base = _inherited_from(document.metadata["headings"], page)
            for anchor in document.metadata["anchors"]:
                self._originals[page, anchor].append(document.id)
                owner, dash, member = anchor.partition("-")
                if base and owner and dash:
                    self._copies[base[0], f"{base[1]}-{member}"].append(document.id)

    def find(self, name: str) -> list[str]:
        """The ids of the chunks that describe what has this dotted name; none where it isn't on the pages."""
        place = place_of(name)
        if place is None:
            return []
        page, anchors = place
        for anchor in anchors:
            if originals := self._originals.get((page, anchor)):
                return list(dict.fromkeys([*originals, *self._copies.get((page, anchor), [])]))
        return []


def _inherited_from(headings: Sequence[str], page: str) -> tuple[str, str] | None:
    """The page and the class of which what stands under these headings is a copy."""
    for heading in headings:
        if found := _INHERITED.search(heading):
            module, _, owner = found["base"].rpartition(".")
            return (page_of(module) if module else page), owner
    return None


@dataclass(frozen=True, slots=True)
class Labels:
    """Questions as a store is trained on them and measured.

    Attributes:
        train: questions to learn from, each with the chunks that answer it.
        test: questions that are held out.
        missing: the dotted names that this Python, or this platform, doesn't have.
        unanswered: how many questions are left out, because none of their answers is there.
    """

    train: LabelledQueries
    test: LabelledQueries
    missing: tuple[str, ...]
    unanswered: int

    def as_dict(self) -> dict[str, Any]:
        """How many there are, as JSON values."""
        return {
            "train": len(self.train),
            "test": len(self.test),
            "missing": list(self.missing),
            "unanswered": self.unanswered,
        }


def label(questions: Sequence[Question], answers: Answers) -> Labels:
    """Put the ids of chunks in the place of dotted names; each is as good an answer as the others (grade 1)."""
    splits: dict[str, list[tuple[str, dict[str, float]]]] = {TRAIN: [], TEST: []}
    missing: dict[str, None] = {}
    unanswered = 0
    for question in questions:
        found = {name: answers.find(name) for name in question.answers}
        missing.update({name: None for name, ids in found.items() if not ids})
        qrels = {id: 1.0 for ids in found.values() for id in ids}
        if qrels:
            splits[question.split].append((question.text, qrels))
        else:
            unanswered += 1
    train, test = (
        LabelledQueries(tuple(text for text, _ in rows), tuple(qrels for _, qrels in rows))
        for rows in (splits[TRAIN], splits[TEST])
    )
    return Labels(train, test, tuple(missing), unanswered)
