"""A question answered from what was retrieved for it, with citations."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepmemory.data.text import text_problem
from deepmemory.errors import InputError
from deepmemory.llm import Completion, Usage, estimate_tokens, resolve_llm
from deepmemory.rag.citations import CitationReader
from deepmemory.rag.prompt import NO_ANSWER, within_budget, written
from deepmemory.rag.sources import Retriever, Source, retrieve, sources_of

__all__ = ["NOT_FOUND", "Answer", "answer", "stream_answer"]

NOT_FOUND = "The answer is not in the documents."
"""The text of an answer that was not found."""

_AROUND = " \t\r\n.!*\"'`_"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered, and from what.

    Attributes:
        question: as it was asked.
        text: the answer with its citations, ``[1]`` being the first of `sources`; `NOT_FOUND` where there is none.
        found: False where nothing was retrieved, or the model found no answer in it.
        sources: what the model was given, in the order of its numbers, cut to the budget.
        cited: the numbers of the sources that the answer cites, in the order of their first mention.
        invented: numbers that the model cited and that belong to no source; they are not in the text.
        left_out: how many retrieved documents the budget had no room for.
        context_tokens: of the texts of the sources.
        usage: the tokens that the model took.
        cut_off: whether the answer reached the number of tokens allowed and ends there.
    """

    question: str
    text: str
    found: bool
    sources: tuple[Source, ...] = ()
    cited: tuple[int, ...] = ()
    invented: tuple[int, ...] = ()
    left_out: int = 0
    context_tokens: int = 0
    usage: Usage = field(default_factory=Usage)
    cut_off: bool = False

    @property
    def citations(self) -> dict[int, Source]:
        """The sources that the answer cites, by their numbers."""
        return {number: self.sources[number - 1] for number in self.cited}

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; of the sources all but the texts."""
        return {
            "question": self.question,
            "answer": self.text,
            "found": self.found,
            "sources": [
                {"number": number, **source.as_dict(), "cited": number in self.cited}
                for number, source in enumerate(self.sources, start=1)
            ],
            "invented_citations": list(self.invented),
            "left_out": self.left_out,
            "cut_off": self.cut_off,
            "tokens": {
                "context": self.context_tokens,
                "prompt": self.usage.prompt_tokens,
                "completion": self.usage.completion_tokens,
                "estimated": self.usage.estimated,
            },
        }

    def __str__(self) -> str:
        listed = [f"[{number}] {source.title or source.url or source.id}" for number, source in self.citations.items()]
        return "\n".join([self.text, *([""] if listed else []), *listed])


def answer(
    question: str,
    retriever: Retriever | Sequence[Any],
    *,
    llm: Any,
    k: int = 5,
    max_context_tokens: int = 3_000,
    max_answer_tokens: int | None = None,
    temperature: float | None = 0.0,
    count_tokens: Callable[[str], int] = estimate_tokens,
) -> Answer:
    """Answer a question from the documents that a retriever finds for it.

    Where nothing is found, no model is asked.

    Args:
        question: a text.
        retriever: a store, a LangChain retriever, a function from a question and k to documents, or documents that were
            found before, best first. To leave out what was learned: ``partial(store.search, deep_memory=False)``.
        llm: ``"openai:MODEL"``, a LangChain chat model, or a `deepmemory.llm.ChatModel`.
        k: documents to retrieve, at most.
        max_context_tokens: of the documents' texts, together; what doesn't fit is cut, the best come first.
        max_answer_tokens: of the answer; the endpoint's own limit by default.
        temperature: 0 for the likeliest answer; None leaves it to the endpoint, as some models want it.
        count_tokens: of a text; characters / 4 by default.

    Raises:
        InputError: an argument is wrong.
        LLMError: the model failed.
    """
    *_, last = stream_answer(
        question,
        retriever,
        llm=llm,
        k=k,
        max_context_tokens=max_context_tokens,
        max_answer_tokens=max_answer_tokens,
        temperature=temperature,
        count_tokens=count_tokens,
        streaming=False,
    )
    assert isinstance(last, Answer)
    return last


def stream_answer(
    question: str,
    retriever: Retriever | Sequence[Any],
    *,
    llm: Any,
    k: int = 5,
    max_context_tokens: int = 3_000,
    max_answer_tokens: int | None = None,
    temperature: float | None = 0.0,
    count_tokens: Callable[[str], int] = estimate_tokens,
    streaming: bool = True,
) -> Iterator[str | Answer]:
    """Answer a question piece by piece; see `answer`.

    Args:
        question: as for `answer`.
        retriever: as for `answer`.
        llm: as for `answer`.
        k: as for `answer`.
        max_context_tokens: as for `answer`.
        max_answer_tokens: as for `answer`.
        temperature: as for `answer`.
        count_tokens: as for `answer`.
        streaming: False waits for the whole answer, for a model that can't stream.

    Returns:
        pieces of the text as they come, and in the end the `Answer`. What was wrong with an argument is raised at once,
        before the first piece is asked for.
    """
    problems = _problems(question, k, max_context_tokens, max_answer_tokens)
    if problems:
        raise InputError(problems)
    model = resolve_llm(llm)
    found = sources_of(retriever)[:k] if isinstance(retriever, Sequence) else retrieve(retriever, question, k)
    sources, tokens = within_budget(found, max_context_tokens, count_tokens)
    asked = _Asked(question, tuple(sources), len(found) - len(sources), tokens)
    if not sources:
        return iter((NOT_FOUND, asked.not_found()))
    messages = written(question, sources)
    if streaming:
        parts = model.stream(messages, max_tokens=max_answer_tokens, temperature=temperature)
    else:
        completion = model.complete(messages, max_tokens=max_answer_tokens, temperature=temperature)
        parts = iter((completion.text, completion))
    return asked.read(parts)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question on its way to an answer."""

    question: str
    sources: tuple[Source, ...]
    left_out: int
    context_tokens: int

    def not_found(self, usage: Usage | None = None) -> Answer:
        """The documents don't tell."""
        return Answer(
            self.question,
            NOT_FOUND,
            found=False,
            sources=self.sources,
            left_out=self.left_out,
            context_tokens=self.context_tokens,
            usage=usage or Usage(),
        )

    def read(self, parts: Iterator[str | Completion]) -> Iterator[str | Answer]:
        """Pass an answer on, its citations checked; `NOT_FOUND` takes the place of the model's own words for it."""
        reader = CitationReader(len(self.sources))
        shown: list[str] = []
        held = ""  # the beginning, for as long as it may still become "not in the documents"
        decided = False
        for part in parts:
            if isinstance(part, Completion):
                if not decided and _says_no(held):
                    yield NOT_FOUND
                    yield self.not_found(part.usage)
                    return
                for piece in (reader.feed(held), reader.end()):
                    if piece:
                        shown.append(piece)
                        yield piece
                yield self._answer("".join(shown).strip(), reader, part)
                return
            held += part
            if decided or not _may_say_no(held):
                decided = True
                piece, held = reader.feed(held), ""
                if piece:
                    shown.append(piece)
                    yield piece

    def _answer(self, text: str, reader: CitationReader, completion: Completion) -> Answer:
        if not text:
            return self.not_found(completion.usage)
        return Answer(
            self.question,
            text,
            found=True,
            sources=self.sources,
            cited=tuple(reader.cited),
            invented=tuple(reader.invented),
            left_out=self.left_out,
            context_tokens=self.context_tokens,
            usage=completion.usage,
            cut_off=completion.finish_reason == "length",
        )


def _says_no(text: str) -> bool:
    """Whether an answer is that there is none, perhaps with a citation or a sentence after it."""
    return not text.strip() or _bare(text).startswith(NO_ANSWER)


def _may_say_no(beginning: str) -> bool:
    bare = _bare(beginning)
    return NO_ANSWER.startswith(bare) or bare.startswith(NO_ANSWER)


def _bare(text: str) -> str:
    return " ".join(text.lstrip(_AROUND).upper().split())


def _problems(question: object, k: object, max_context_tokens: object, max_answer_tokens: object) -> list[str]:
    problems = [f"the question {problem}"] if (problem := text_problem(question)) else []
    numbers = {"k": k, "max_context_tokens": max_context_tokens, "max_answer_tokens": max_answer_tokens}
    for name, number in numbers.items():
        if number is None and name == "max_answer_tokens":
            continue
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            problems.append(f"{name} must be a whole number of 1 or more, found {number!r}")
    return problems
