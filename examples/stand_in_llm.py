"""A very small stand-in for a language model, so that the tutorial runs where none is configured.

It speaks OpenAI's protocol, through `deepmemory.testing.OpenAIServer`, and works with words alone. It knows nothing
that it was not sent: a question is made of a sentence of the document in the prompt, an answer is the sentence of the
context that shares most with the question, and a statement is held to be supported where the context has its words.
A real model does all of it better. What is measured with this one says something about retrieval, for questions that
are made of documents, and nothing about answers.
"""

import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from deepmemory.testing import ChatRequest

__all__ = ["MODEL", "stand_in"]

MODEL = "stand-in"

_STOP = frozenset(re.findall(r"\w+", """
    a about an and any are as at be been but by can do does did each else for from had has have how i if in into is it
    its may more must no not of on one only or other same should so some such than that the their them then there these
    they this to use used using was we were what when where which while who will with would you your
"""))  # fmt: skip
_OTHER_WORDS = {
    "return": "get", "returns": "gives", "remove": "delete", "removes": "deletes", "create": "make", "creates": "makes",
    "raise": "fail with", "raised": "thrown", "specified": "given", "string": "text", "strings": "texts",
    "convert": "turn", "sequence": "list", "modify": "change", "initialize": "set up", "every": "each",
    "obtain": "get", "invoke": "call", "invoked": "called", "directory": "folder", "iterate": "loop", "whether": "if",
}  # fmt: skip
"""People who ask don't know a document's own words."""

_UNSAID = frozenset(("a", "an", "the", "any", "this", "that", "these", "those", "its"))
_NO_VERBS = frozenset(re.findall(r"\w+", """
    a all also an any as at both but by each either else even every for from here however if in instead it its like
    base class constructor exception error false function int item list method methods most new no none note object on
    one only or other otherwise parameters see self shallow since some string that the then there these they this those
    to true tuple used usually value when where which while with without you
"""))  # fmt: skip
"""Words that a sentence may begin with, and that tell nobody to do something."""

_LONGEST_QUESTION = 14  # words
_PLAIN = re.compile(r"[A-Z][a-z]+ [a-z`'\"][^:=|\[\]{}]*\Z")
_INSIDE = frozenset(("self", "cls", "signature"))  # what only the code's authors talk about

_SENTENCE = re.compile(r"(?<![\w.])[A-Z][^.!?\n|`]*(?:\n(?!\n)[^.!?\n|`]+)*[.!?](?=\s|\Z)")
_KIND = re.compile(r'^- (\d+) of the kind "(\w+)"', re.MULTILINE)
_DOCUMENT = re.compile(r"<document>\n(.*)\n</document>", re.DOTALL)
_JUDGED = re.compile(r".*\ninput: (\{.*\})\s*\nOutput:\s*\Z", re.DOTALL)
_ASKED = re.compile(r"(.*)\n\nQuestion: (.*)\Z", re.DOTALL)
_NUMBERED = re.compile(r"^\[(\d+)\]", re.MULTILINE)
_SUPPORTED = 0.8  # of a statement's words must be in the context
_ANSWERED = 0.5  # of a question's words, by weight, must be in the sentence that answers it


def stand_in(request: ChatRequest) -> Any:
    """Answer what the tutorial asks: questions about a document, an answer from a context, a judgement."""
    if document := _DOCUMENT.search(request.prompt):
        wanted = [kind for count, kind in _KIND.findall(request.prompt) for _ in range(int(count))]
        return {"queries": list(_questions(document[1], wanted or ["question"]))}
    if judged := _JUDGED.match(request.prompt):
        asked = json.loads(judged[1])
        if {"answer", "context"} <= asked.keys():
            return {"classifications": list(_judgements(asked["answer"], asked["context"]))}
    if asked_of := _ASKED.match(request.prompt):
        return _answer(asked_of[1], asked_of[2], "NOT IN THE DOCUMENTS")
    return _answer(request.system.rpartition("\n----------------\n")[2], request.prompt, "I don't know.")


def _questions(document: str, kinds: Sequence[str]) -> Iterator[dict[str, str]]:
    """Questions made of sentences of a document, the telling ones: the same document gives the same questions."""
    telling = [sentence for sentence in _sentences(document) if _PLAIN.match(sentence) and _is_telling(sentence)]
    telling.sort(key=lambda sentence: not _is_instruction(sentence))
    chosen = telling[: max(4, 2 * len(kinds))]
    random.Random(document).shuffle(chosen)
    for kind, sentence in zip(kinds, chosen, strict=False):
        plain = re.sub(r"[*_#\\\[\]()<>\"'|=]", " ", sentence).rstrip(" .!?").split()
        words = [_OTHER_WORDS.get(word.lower(), word) for word in plain if word.lower() not in _UNSAID]
        yield {"kind": kind, "query": _put(kind, words[:_LONGEST_QUESTION], _is_instruction(sentence))}


def _is_telling(sentence: str) -> bool:
    words = set(_words(sentence))
    return 3 <= len(words) <= 25 and not words & _INSIDE


def _is_instruction(sentence: str) -> bool:
    """Whether it says what a function does, as docstrings do: "Return the absolute value of a number."."""
    first = sentence.split(maxsplit=1)[0].lower()
    return first.isalpha() and first not in _NO_VERBS and not first.endswith(("s", "ed", "ing", "ly"))


def _put(kind: str, words: list[str], is_instruction: bool) -> str:
    said = " ".join([words[0].lower(), *words[1:]])
    if kind == "keywords":
        return " ".join(word for word in words if word.lower() not in _STOP)
    if kind == "claim":
        return f"You can {said}." if is_instruction else f"{said}."
    if kind == "symptom":
        return f"I don't see how to {said}" if is_instruction else f"I don't understand why {said}"
    return f"How do I {said}?" if is_instruction else f"Is it so that {said}?"


def _judgements(answer: str, context: str) -> Iterator[dict[str, Any]]:
    known = set(_words(context))
    for statement in _sentences(answer) or [answer]:
        words = set(_words(statement))
        share = len(words & known) / len(words) if words else 0.0
        verbatim = statement in context
        reason = "The context has it word for word." if verbatim else f"The context has {share:.0%} of its words."
        yield {"statement": statement, "reason": reason, "attributed": int(verbatim or share >= _SUPPORTED)}


def _answer(context: str, question: str, nothing: str) -> str:
    """The sentence of the context that shares most with the question, with the number of the source that it is in."""
    sentences = list(_located(context))
    weights = _weights([words for _, _, words in sentences])
    wanted = {word: weights.get(word, math.log(1 + len(sentences))) for word in _words(question)}
    if not sentences or not wanted:
        return nothing
    shares = [sum(weight for word, weight in wanted.items() if word in words) for _, _, words in sentences]
    best = max(range(len(sentences)), key=shares.__getitem__)
    if shares[best] < _ANSWERED * sum(wanted.values()):
        return nothing
    sentence, number, _ = sentences[best]
    return f"{sentence} [{number}]" if number else sentence


def _located(context: str) -> Iterator[tuple[str, str, set[str]]]:
    """Each sentence with the number of its source, empty where sources have none, and its words."""
    parts = _NUMBERED.split(context)
    for number, text in zip(["", *parts[1::2]], parts[0::2], strict=True):
        untitled = text.partition("\n")[2] if number else text
        for sentence in _sentences(untitled):
            yield sentence, number, set(_words(sentence))


def _weights(sentences: Iterable[set[str]]) -> dict[str, float]:
    """Rare words weigh more."""
    listed = list(sentences)
    counts = Counter(word for words in listed for word in words)
    return {word: math.log(1 + len(listed) / count) for word, count in counts.items()}


def _sentences(text: str) -> list[str]:
    return [" ".join(found.split()) for found in _SENTENCE.findall(text)]


def _words(text: str) -> list[str]:
    """The words that matter, without their endings."""
    words = (word for word in re.findall(r"[a-z][a-z0-9_]+", text.lower()) if word not in _STOP)
    return [re.sub(r"(?:ing|ed|es|s)\Z", "", word) if len(word) > 4 else word for word in words]
