"""From documents to queries: `synthesize`, and the tutorial's `generate_queries`."""

import contextlib
import math
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, get_args, runtime_checkable

from deepmemory.data import Document, check_documents
from deepmemory.data.text import is_list, shown, text_problem
from deepmemory.errors import InputError
from deepmemory.executors import Executor, open_executor
from deepmemory.llm import ChatModel, resolve_llm
from deepmemory.progress import Progress
from deepmemory.synthesis.asking import Asked, Asker, Request
from deepmemory.synthesis.bulk import ExtractQueries, batch_of, queries_of
from deepmemory.synthesis.extractive import ExtractiveGenerator
from deepmemory.synthesis.filters import FilterOptions, QueryFilter, Search, SearchableStore
from deepmemory.synthesis.journal import Journal
from deepmemory.synthesis.model import KINDS, Generated, Kind, Prices, Spent, Synthesis, spent
from deepmemory.synthesis.words import Corpus

__all__ = ["DocumentSource", "Source", "estimate", "generate_queries", "synthesize"]

_PER_DOCUMENT = 3
_SPARE = 1.6  # queries made for each that is wanted, since filters drop some
_MOST_PER_DOCUMENT = 12  # when nobody says; a document has no more to say
_ROUND = 64  # documents asked about before it is looked whether there are queries enough


@runtime_checkable
class DocumentSource(Protocol):
    """What a `VectorStore` has that synthesis reads."""

    def documents(self) -> Iterator[Document]:
        """All documents."""
        ...


Source: TypeAlias = DocumentSource | Iterable[Document]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A run, checked: which documents in which order, and what is asked of each."""

    documents: list[Document]
    corpus: list[Document]
    request: Request
    wanted: int | None
    llm: ChatModel | None
    prices: Prices | None

    def rounds(self) -> Iterator[list[Document]]:
        """Documents in the order in which they are asked about; all at once where every query is wanted."""
        step = len(self.documents) if self.wanted is None else _ROUND
        for start in range(0, len(self.documents), max(1, step)):
            yield self.documents[start : start + step]


def synthesize(
    source: Source,
    llm: object = None,
    *,
    n: int | None = None,
    per_document: int | None = None,
    kinds: Sequence[Kind] = KINDS,
    examples: Sequence[str] = (),
    search: Search | SearchableStore | None = None,
    filters: FilterOptions | None = None,
    seed: int = 0,
    temperature: float | None = None,
    concurrency: int = 4,
    prices: Prices | None = None,
    budget: float | None = None,
    journal: str | os.PathLike[str] | None = None,
    engine: str | Executor | None = None,
    progress: Progress | None = None,
) -> Synthesis:
    """Make queries that documents answer, to train on where there are too few real ones.

    Args:
        source: a store, or documents.
        llm: ``"openai:MODEL"``, a LangChain chat model or a `deepmemory.llm.ChatModel`; None and ``"extractive"`` take
            words and sentences of the documents themselves, which is free, and second best.
        n: so many queries at most, drawn at random and in random order; by default all, document by document.
        per_document: queries made of each; by default 3, or as many as ``n`` needs.
        kinds: how queries ask; see `Kind`.
        examples: queries of real users, whose manner a model takes on. They are not made again.
        search: finds documents for the round trip, by default the source where it is a store; see `Search`.
        filters: where filters draw their lines. By default a model's queries must find their document among the
            first 10; extractive ones need not, as their document says what they ask for, and those that miss it are
            those that teach most.
        seed: of every choice; same seed, same extractive queries.
        temperature: of the model; its own by default, since some take no other.
        concurrency: requests at once.
        prices: of the model, to count money.
        budget: stop asking before more money than this is spent; what the journal's replies cost counts.
        journal: a file where every paid reply is kept, so that nothing is paid for twice.
        engine: where extracts are made, as for `VectorStore`, and by default as the source says where it is a store.
            The queries are the same. A model is asked from this process, which keeps its replies and counts the money.
        progress: called with documents done and their number.

    Raises:
        InputError: everything that is wrong with the arguments.
        LLMError: the model gave nothing at all.
        MissingExtraError: the model's package is not installed.
        StorageError: the journal could not be written.
    """
    plan = _planned(
        source, llm, n=n, per_document=per_document, kinds=kinds, examples=examples, seed=seed, prices=prices
    )
    plan = replace(plan, request=replace(plan.request, temperature=temperature))
    if concurrency < 1:
        raise InputError(f"concurrency must be 1 or more, found {concurrency!r}")
    if budget is not None and plan.llm is not None and prices is None:
        raise InputError("a budget needs prices to count by: give the model's prices for a million tokens")
    if filters is None:
        # What an extractive query asks for is in its document: it needs no search to show that.
        filters = FilterOptions() if plan.llm else FilterOptions(round_trip=None, generic_limit=None)
    if search is None and isinstance(source, SearchableStore):
        search = source
    texts = {document.id: document.text for document in plan.documents}
    passing = QueryFilter(texts, search=search, options=filters, asked=plan.request.examples)
    if plan.llm is None:
        given = getattr(source, "executor", None) if engine is None else engine
        executor = open_executor(given)
        with contextlib.nullcontext() if executor is given else executor:
            return _extracted(plan, passing, executor, progress)
    passing.check()
    with contextlib.ExitStack() as stack:
        if plan.llm is not llm:
            stack.callback(plan.llm.close)  # it was made here, of a name
        kept = stack.enter_context(Journal(journal))
        asker = Asker(plan.llm, plan.request, kept, concurrency=concurrency, prices=prices, budget=budget)
        return _asked(plan, plan.llm.name, asker, passing, progress)


def generate_queries(
    docs: Sequence[str],
    ids: Sequence[str],
    n: int = 100,
    llm: object = None,
    *,
    seed: int = 0,
    **options: Any,
) -> tuple[list[str], list[list[tuple[str, float]]]]:
    """Queries and their relevance, in the lists that ``deep_memory.train`` takes.

    They come in a random order, so that the first half and the second are a random split.

    Args:
        docs: texts.
        ids: of each.
        n: so many queries, or fewer where the documents give no more.
        llm: as for `synthesize`; without one the queries are extracts.
        seed: as for `synthesize`.
        options: as for `synthesize`.

    Returns:
        the queries, and for each ``[(id, 1.0)]``.

    Example:
        >>> questions, relevances = generate_queries(docs, ids, n=200, llm="openai:gpt-4o-mini")
    """
    if not is_list(ids):
        raise InputError(f"ids must be a list with the id of each text, but is {shown(ids)}")
    made = synthesize(check_documents(docs, None, ids), llm, n=n, seed=seed, **options)
    return made.questions, made.relevance


def estimate(
    source: Source,
    llm: object,
    *,
    n: int | None = None,
    per_document: int | None = None,
    kinds: Sequence[Kind] = KINDS,
    examples: Sequence[str] = (),
    seed: int = 0,
    prices: Prices | None = None,
) -> Spent:
    """What `synthesize` would ask a model for, about, without asking: at most so much, as ``n`` may be reached early.

    Raises:
        InputError: everything that is wrong with the arguments.
    """
    plan = _planned(
        source, llm, n=n, per_document=per_document, kinds=kinds, examples=examples, seed=seed, prices=prices
    )
    if plan.llm is None:
        return Spent(cost=0.0)
    return spent([plan.request.estimate(document) for document in plan.documents], prices)


def _planned(
    source: Source,
    llm: object,
    *,
    n: int | None,
    per_document: int | None,
    kinds: Sequence[Kind],
    examples: Sequence[str],
    seed: int,
    prices: Prices | None,
) -> _Plan:
    problems = [
        f"{name} must be a whole number of 1 or more, found {shown(number)}"
        for name, number in (("n", n), ("per_document", per_document))
        if number is not None and (not _is_whole(number) or number < 1)
    ]
    known = get_args(Kind)
    if not is_list(kinds) or not kinds or any(kind not in known for kind in kinds):
        problems.append(f"kinds must be a list of {', '.join(known)}; found {shown(kinds)}")
    if not is_list(examples):
        problems.append(f"examples must be a list of texts, but is {shown(examples)}")
    else:
        problems += [
            f"examples[{row}] {problem}" for row, text in enumerate(examples) if (problem := text_problem(text))
        ]
    if prices is not None and min(prices.tokens_in, prices.tokens_out) < 0:
        problems.append(f"prices must be 0 or more, found {prices.tokens_in!r} and {prices.tokens_out!r}")
    if problems:
        raise InputError(problems)
    model = None if llm is None or llm == "extractive" else resolve_llm(llm)
    documents = [document for document in _documents(source) if document.text.strip()]
    if not documents:
        raise InputError("there is no document with a text to make queries of")
    corpus = documents
    if n is not None:
        documents = random.Random(seed).sample(documents, len(documents))
    if per_document is None:
        per_document = (
            _PER_DOCUMENT if n is None else min(_MOST_PER_DOCUMENT, max(1, math.ceil(_SPARE * n / len(documents))))
        )
    request = Request(per_document, tuple(dict.fromkeys(kinds)), tuple(examples), seed)
    if n is not None and model is not None:
        documents = documents[: max(1, math.ceil(2 * n / per_document))]  # half of the queries may be dropped
    return _Plan(documents, corpus, request, n, model, prices)


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _documents(source: object) -> list[Document]:
    if isinstance(source, DocumentSource):
        return list(source.documents())
    if isinstance(source, str) or not isinstance(source, Iterable):
        raise InputError(f"the source must be a store, or documents; found {shown(source)}")
    documents = list(source)
    wrong = [
        f"source[{row}] must be a Document, found {shown(one)}"
        for row, one in enumerate(documents)
        if not isinstance(one, Document)
    ]
    if wrong:
        raise InputError(wrong)
    return documents


def _extracted(plan: _Plan, passing: QueryFilter, executor: Executor, progress: Progress | None) -> Synthesis:
    counted = Corpus(document.text for document in plan.corpus)
    work = ExtractQueries(counted, plan.request.n, plan.request.kinds, plan.request.seed)
    kept: list[Generated] = []
    made: list[Generated] = []
    fared = {"used": 0, "without_queries": 0}
    done = 0

    def tell(more: int, _: int) -> None:
        if progress is not None:
            progress(done + more, len(plan.documents))

    starts = range(0, len(plan.documents), _ROUND)
    parts = (plan.documents[start : start + _ROUND] for start in starts)
    with contextlib.closing(executor.map(work, map(batch_of, parts), progress=tell)) as results:
        for start, result in zip(starts, results, strict=False):
            documents = plan.documents[start : start + _ROUND]
            for queries in queries_of(result, documents):
                fared["used" if queries else "without_queries"] += 1
                made += queries
            done += len(documents)
            tell(0, 0)
            if plan.wanted is not None:
                kept += passing.keep(made)
                made = []
                if len(kept) >= plan.wanted:
                    break
    kept += passing.keep(made)
    return _finished(plan, ExtractiveGenerator.name, kept, passing, Synthesis((), "", documents=fared))


def _asked(plan: _Plan, name: str, asker: Asker, passing: QueryFilter, progress: Progress | None) -> Synthesis:
    kept: list[Generated] = []
    fared = {"used": 0}
    done = 0
    for part in plan.rounds():

        def report(finished: int, _: int, before: int = done) -> None:
            if progress is not None:
                progress(before + finished, len(plan.documents))

        made = asker.queries(part, report)
        done += len(part)
        fared["used"] += sum(1 for queries in made if queries)
        kept += passing.keep([one for queries in made for one in queries])
        if asker.asked.stopped or (plan.wanted is not None and len(kept) >= plan.wanted):
            break
    asked: Asked = asker.asked
    problems = list(asked.problems)
    if asked.stopped and asked.stopped not in problems:
        problems.append(asked.stopped)
    so_far = Synthesis(
        (),
        "",
        documents={**fared, **dict(sorted(asked.failures.items()))},
        usage=spent(asked.paid, plan.prices),
        reused=spent(asked.reused, plan.prices),
        problems=tuple(problems),
    )
    return _finished(plan, name, kept, passing, so_far)


def _finished(plan: _Plan, name: str, kept: list[Generated], passing: QueryFilter, so_far: Synthesis) -> Synthesis:
    problems = list(so_far.problems)
    if plan.wanted is not None and len(kept) < plan.wanted:
        problems.append(
            f"only {len(kept)} of the {plan.wanted} wanted queries are left: ask for more of each document "
            "(per_document), or loosen the filters"
        )
    queries = kept
    if plan.wanted is not None:
        # A user who splits by position gets a random split, and not one half of the documents on each side.
        drawing = random.Random(f"{plan.request.seed} queries")
        queries = drawing.sample(kept, min(plan.wanted, len(kept)))
    return replace(so_far, queries=tuple(queries), generator=name, counts=passing.counts, problems=tuple(problems))
