"""The stand-in for a language model says nothing but what it was sent."""

import json
import sys
from pathlib import Path

import pytest

from deepmemory.testing import ChatRequest

EXAMPLES = Path(__file__).parents[2] / "examples"
DOCUMENT = "Extract a member from the archive to the current directory. It is slow.\n\nReturn the name of each file."


@pytest.fixture(scope="module")
def stand_in():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        import stand_in_llm

        yield stand_in_llm.stand_in
        sys.modules.pop("stand_in_llm", None)


def request(prompt, system=""):
    messages = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": prompt}]
    return ChatRequest({"model": "m", "messages": messages})


def questions(stand_in, document, *kinds):
    wanted = "\n".join(f'- 1 of the kind "{kind}": ...' for kind in kinds)
    return stand_in(request(f"Write:\n{wanted}\n\n<document>\n{document}\n</document>"))["queries"]


def test_questions_are_made_of_the_document(stand_in):
    (made,) = questions(stand_in, DOCUMENT, "question")
    assert made["kind"] == "question"
    assert made["query"] in {
        "How do I extract member from archive to current folder?",
        "How do I get name of each file?",
    }
    (other,) = questions(stand_in, "Send the parcel to the moon by rocket mail.", "keywords")
    assert other["query"] == "Send parcel moon rocket mail"
    assert questions(stand_in, "12.5 | --", "question") == []


def test_the_same_document_gives_the_same_questions(stand_in):
    assert questions(stand_in, DOCUMENT, "question", "claim") == questions(stand_in, DOCUMENT, "question", "claim")


def test_an_answer_is_a_sentence_of_the_context_with_its_source(stand_in):
    context = "[1] Zip\nExtract a member from the archive. It is slow.\n\n[2]\nThe moon is made of rock."
    asked = request(f"{context}\n\nQuestion: how to extract a member of an archive?")
    assert stand_in(asked) == "Extract a member from the archive. [1]"
    asked = request(f"{context}\n\nQuestion: What is the moon made of?")
    assert stand_in(asked) == "The moon is made of rock. [2]"


def test_what_the_context_does_not_tell_is_not_answered(stand_in):
    assert stand_in(request("[1]\nIce is water.\n\nQuestion: Who won the cup?")) == "NOT IN THE DOCUMENTS"
    stuffed = "Use the following pieces of context.\n----------------\nIce is frozen water."
    assert stand_in(request("Who won the cup?", system=stuffed)) == "I don't know."
    assert stand_in(request("What is frozen?", system=stuffed)) == "Ice is frozen water."


def test_statements_are_judged_by_their_words(stand_in):
    asked = {
        "question": "?",
        "context": "Ice is frozen water. Steam rises from boiling kettles.",
        "answer": "Ice is frozen water. Kettles fly to distant planets.",
    }
    judged = stand_in(request(f"Judge.\ninput: {json.dumps(asked)}\nOutput: "))["classifications"]
    assert [(each["statement"], each["attributed"]) for each in judged] == [
        ("Ice is frozen water.", 1),
        ("Kettles fly to distant planets.", 0),
    ]
