"""The shipped questions: enough of them, none twice, half of the held-out ones about what no training one covers."""

import json
from importlib.resources import files

import pytest


@pytest.fixture(scope="module")
def lines():
    folder = files("deepmemory.demo") / "questions"
    texts = [file.read_text() for file in folder.iterdir() if file.name.endswith(".jsonl")]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def of(lines, split):
    return [line for line in lines if line["split"] == split]


def test_there_are_enough(lines):
    assert len(of(lines, "train")) >= 500
    assert len(of(lines, "test")) >= 250
    assert len(of(lines, "train")) + len(of(lines, "test")) == len(lines)


def test_none_is_asked_twice(lines):
    questions = [" ".join(line["question"].casefold().split()) for line in lines]
    assert len(set(questions)) == len(questions)


def test_each_names_its_answers_by_dotted_names(lines):
    for line in lines:
        assert line["answers"]
        assert all(name.replace(".", "").isidentifier() and "." in name for name in line["answers"]), line


def test_half_of_the_held_out_are_about_what_no_training_question_covers(lines):
    covered = {name for line in of(lines, "train") for name in line["answers"]}
    held_out = of(lines, "test")
    new = [line for line in held_out if not covered & set(line["answers"])]
    assert 0.45 <= len(new) / len(held_out) <= 0.6


def test_they_are_about_sixty_modules_or_more(lines):
    modules = {name.rsplit(".", 1)[0] for line in lines for name in line["answers"]}
    assert len({module for module in modules if not module.split(".")[-1][0].isupper()}) >= 60
