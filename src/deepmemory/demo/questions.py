"""The questions that come with the demo, written one by one, each with the names in the library that answer it."""

import json
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["TEST", "TRAIN", "Question", "load_questions"]

TRAIN = "train"
TEST = "test"


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody asks.

    Attributes:
        text: in their words.
        answers: dotted names of functions, classes and methods, each of which is an answer.
        split: ``"train"``, or ``"test"`` for those that are held out.
    """

    text: str
    answers: tuple[str, ...]
    split: str


def load_questions() -> list[Question]:
    """All questions, file by file, in the order in which they stand there."""
    found = []
    folder = files("deepmemory.demo").joinpath("questions")
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".jsonl"):
            for line in file.read_text(encoding="utf-8").splitlines():
                values = json.loads(line)
                found.append(Question(values["question"], tuple(values["answers"]), values["split"]))
    return found
