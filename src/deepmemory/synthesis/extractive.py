"""Queries without a language model: a document's own headings, names and sentences, turned towards how people ask.

Second best, and said to be: such queries use the document's own words, so they teach little about the words of those
who ask. What they do teach is which document says what beyond the part that an embedding sees best.
"""

import hashlib
import random
import re
from collections.abc import Iterable, Iterator, Sequence

from deepmemory.data import Document, normalised
from deepmemory.synthesis.model import KINDS, Generated, Kind
from deepmemory.synthesis.passages import Passage, passages_of, plain
from deepmemory.synthesis.words import STOPWORDS, Corpus, is_english, key, words_of

__all__ = ["ExtractiveGenerator"]

_FEWEST_WORDS, _MOST_WORDS = 3, 14
_NAME_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_CODE_NAME = re.compile(r"\b(?:[a-z]+_[a-z_0-9]+|[A-Z][a-z]+[A-Z]\w+|[a-z_]\w*(?:\.\w+)+)\b")
_DEFINITION = re.compile(r"^(?:the |an? )?(.{3,40}?) (?:is|are|means|refers to) (?:an? |the |one of )?(.{20,})$", re.I)
_TROUBLE = re.compile(
    r"\b(?:\w+(?:Error|Exception|Warning)|errors?|fail(?:s|ed|ure)?|cannot|can't|unable|not (?:found|supported|allowed|"
    r"available|exist)|missing|invalid|out of memory|denied|deprecated|raises?|warning|must not|corrupt\w*)\b",
    re.I,
)
_VERBS = """
add allow append apply build calculate call change check clone close combine commit compare compute configure
connect convert copy count create define delete deploy detect disable display download draw enable encode evaluate
export extend extract fetch filter find fit generate get handle import ingest initialize insert install join limit
link list load log manage map merge modify move normalize open parse pass pop print process provide query read
rechunk record remove rename replace reset resize restore retrieve return rotate run sample save scale search select
send set show skip sort specify split start stop store stream summarize test train transform translate update
upload validate visualize wait wrap write
"""
_ACTIONS = frozenset(_VERBS.split())


class ExtractiveGenerator:
    """Makes queries out of what documents say, deterministically by seed.

    Attributes:
        name: ``extractive``.
    """

    name = "extractive"

    def __init__(self, corpus: Corpus | Iterable[str], *, seed: int = 0) -> None:
        """Learn which words tell documents apart.

        Args:
            corpus: the texts of all documents, or what was counted over them.
            seed: of the choice among a document's candidates.
        """
        self._corpus = corpus if isinstance(corpus, Corpus) else Corpus(corpus)
        self._seed = seed

    def queries(self, document: Document, n: int, kinds: Sequence[Kind] = KINDS) -> list[Generated]:
        """At most so many queries that a document answers, of different kinds and from different parts of it.

        Returns:
            fewer, or none, where the document has too little to say.
        """
        digest = hashlib.sha256(f"{self._seed}\0{document.id}".encode(errors="replace")).digest()
        drawn = random.Random(digest)
        by_kind: dict[Kind, list[tuple[float, str, str]]] = {kind: [] for kind in kinds}
        seen: set[str] = set()
        for kind, text, section in self._candidates(document):
            words = words_of(text)
            form = normalised(text)
            if kind in by_kind and form not in seen and _FEWEST_WORDS <= len(words) <= _MOST_WORDS + 4:
                seen.add(form)
                if specific := self._corpus.told_apart(words) * drawn.uniform(0.8, 1.0):
                    by_kind[kind].append((specific, text, section))
        for candidates in by_kind.values():
            candidates.sort(key=lambda candidate: (-candidate[0], candidate[1]))
        order = list(kinds)
        drawn.shuffle(order)
        return [Generated(text, document.id, kind) for kind, text in _spread(by_kind, order, n)]

    def _candidates(self, document: Document) -> Iterator[tuple[Kind, str, str]]:
        """Everything that the document offers: kind, query, and the section that it comes from."""
        passages = passages_of(document.text)
        title = document.metadata.get("title")
        about = plain(title) if isinstance(title, str) else next((p.text for p in passages if p.kind == "heading"), "")
        english = is_english(document.text)
        if about:
            yield "keywords", _joined(about, self._corpus.key_words(document.text, 4, without=words_of(about))), ""
        for section in dict.fromkeys(passage.section for passage in passages):
            inside = " ".join(passage.text for passage in passages if passage.section == section)
            words = self._corpus.key_words(inside, 6, without=words_of(section))
            yield "keywords", _joined(section, words[: 6 - min(3, len(section.split()))]), section
            yield "keywords", " ".join(self._corpus.key_words(inside, 6)), section
        for passage in passages:
            yield from self._from_passage(passage, about, english)

    def _from_passage(self, passage: Passage, about: str, english: bool) -> Iterator[tuple[Kind, str, str]]:
        where = passage.section
        if passage.kind == "heading":
            if english:
                yield "question", _asked_about(passage.text, about), where
            return
        if passage.kind == "code":
            names = [n for n in dict.fromkeys(_CODE_NAME.findall(passage.text)) if self._corpus.weight(n) > 0]
            if names:
                context = " ".join(_spelled(name) for name in names[:2])
                yield "keywords", _joined(context, words_of(where)[:4] or words_of(about)[:4]), where
            return
        if passage.name:
            yield "keywords", _joined(_spelled(passage.name), self._telegram(passage.text).split()[:8]), where
        telegram = self._telegram(passage.text)
        if _TROUBLE.search(passage.text):
            yield "symptom", telegram, where
        if english and (action := _asked_to_do(passage.text)):
            yield "question", action, where
        if english and (definition := _DEFINITION.match(passage.text)):
            yield "question", f"what is {_cut(self._telegram(definition.group(2)), 10)}", where
        yield "claim", telegram, where

    def _telegram(self, sentence: str) -> str:
        """A sentence without its small words, cut where it is long: the words that weigh most, in their order."""
        spoken = [word for word in words_of(sentence) if any(map(str.isalpha, word))]
        words = [word for word in spoken if word.casefold() not in STOPWORDS or word.casefold() == "not"]
        if len(words) > _MOST_WORDS:
            weights = {place: self._corpus.weight(word) for place, word in enumerate(words)}
            kept = sorted(sorted(weights, key=lambda place: (-weights[place], place))[:_MOST_WORDS])
            words = [words[place] for place in kept]
        return " ".join(words)


def _spread(
    by_kind: dict[Kind, list[tuple[float, str, str]]], order: Sequence[Kind], n: int
) -> Iterator[tuple[Kind, str]]:
    """Take turns among kinds, and within a kind the best candidate of a section that has had the fewest turns."""
    turns: dict[str, int] = {}
    left = {kind: list(candidates) for kind, candidates in by_kind.items()}
    taken = 0
    while taken < n and any(left.values()):
        for kind in order:
            if left[kind] and taken < n:
                best = min(left[kind], key=lambda candidate: (turns.get(candidate[2], 0), -candidate[0], candidate[1]))
                left[kind].remove(best)
                turns[best[2]] = turns.get(best[2], 0) + 1
                taken += 1
                yield kind, best[1]


def _asked_about(heading: str, about: str) -> str:
    """A heading as a question, with the document's subject where the heading leaves it out."""
    words = heading.split()
    subject = "" if not about or {key(w) for w in words_of(about)} & {key(w) for w in words} else f" in {about}"
    if not words:
        return ""
    if words[0].casefold() in _ACTIONS:
        return f"how do I {words[0].lower()} {' '.join(words[1:])}{subject}?"
    if words[0].endswith("ing") and len(words) > 1:
        return f"what is needed for {words[0].lower()} {' '.join(words[1:])}{subject}?"
    return f"what should I know about {heading}{subject}?"


def _asked_to_do(sentence: str) -> str | None:
    """An instruction or the description of a function as "how do I ..."; None for other sentences."""
    words = sentence.split()
    verb = words[0].casefold() if words else ""
    stem = next((form for form in (verb, verb[:-1], verb[:-2]) if form in _ACTIONS), None)
    if stem is None or len(words) < 3 or not verb.startswith(stem):
        return None
    rest = re.split(r"[.;:(]|, (?:which|and|so|where)\b", " ".join(words[1:]))[0]
    return f"how do I {stem} {_cut(rest, 12)}?"


def _spelled(name: str) -> str:
    """A code name as people say it: its last part, and the words in it."""
    last = name.rsplit(".", 1)[-1]
    parts = _NAME_PARTS.findall(last)
    return f"{last} {' '.join(part.lower() for part in parts)}" if len(parts) > 1 else last


def _joined(first: str, rest: Sequence[str]) -> str:
    return _cut(" ".join([first, *rest]).strip(), _MOST_WORDS)


def _cut(text: str, most_words: int) -> str:
    return " ".join(text.split()[:most_words])
