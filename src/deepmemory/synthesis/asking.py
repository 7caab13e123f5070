"""Asks a model about many documents, several at once, and lets no single one of them spoil the run."""

import queue
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from deepmemory.data import Document
from deepmemory.errors import LLMError
from deepmemory.progress import Progress
from deepmemory.synthesis.journal import Journal, reply_key
from deepmemory.synthesis.llm import Answer, ChatModel, DeniedError, DocumentRefusedError
from deepmemory.synthesis.model import Generated, Kind, Prices, Usage, total
from deepmemory.synthesis.prompts import (
    PROMPT_VERSION,
    UNUSABLE,
    UnusableAnswerError,
    estimated_tokens,
    messages_for,
    queries_in,
    schema_for,
)

__all__ = ["Asked", "Asker", "Request"]

_ATTEMPTS = 2  # a model that answered nonsense is asked once more, and its second answer is final
_FAILURES_IN_A_ROW = 5  # of the endpoint, each after all its retries: it is down, and not the documents at fault
_UNUSABLE_AT_FIRST = 10  # answers without a single query while none has been usable: the model can't do it


@dataclass(frozen=True, slots=True)
class Request:
    """What every document is asked for.

    Attributes:
        n: queries a document.
        kinds: in turn.
        examples: queries of real users.
        seed: of the choice among the examples.
    """

    n: int
    kinds: tuple[Kind, ...]
    examples: tuple[str, ...] = ()
    seed: int = 0

    def messages(self, document: Document) -> list[dict[str, str]]:
        """What the model is sent."""
        return messages_for(document, self.n, self.kinds, self.examples, self.seed)

    def estimate(self, document: Document, prices: Prices | None) -> Usage:
        """What one reply is going to take, about."""
        tokens_in = sum(estimated_tokens(message["content"]) for message in self.messages(document))
        return total([Usage(1, tokens_in, 15 + 30 * self.n, counted=False)], prices)

    @property
    def most_tokens(self) -> int:
        """The length at which an answer is cut off; a model that thinks aloud needs room for it."""
        return 2_000 + 150 * self.n


@dataclass(slots=True)
class Asked:
    """How it went so far.

    Attributes:
        paid: usage of each reply of this run.
        reused: usage of each reply from the journal.
        failures: documents without queries, by reason.
        problems: what the endpoint said, a sentence each, every one once.
        stopped: why the rest was not asked; None where all were.
    """

    paid: list[Usage] = field(default_factory=list)
    reused: list[Usage] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    stopped: str | None = None
    answered: int = 0


class Asker:
    """Asks about documents; what it spends, what fails and why is in `asked`."""

    def __init__(
        self,
        llm: ChatModel,
        request: Request,
        journal: Journal,
        *,
        concurrency: int = 4,
        prices: Prices | None = None,
        budget: float | None = None,
    ) -> None:
        """Say whom to ask for what, and what it may cost; see `synthesize`."""
        self.asked = Asked()
        self._llm = llm
        self._request = request
        self._journal = journal
        self._concurrency = concurrency
        self._prices = prices
        self._budget = budget
        self._spent = 0.0
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._accounted: set[str] = set()
        self._settings = {
            "prompt": PROMPT_VERSION,
            "model": llm.name,
            **llm.settings,
            "n": request.n,
            "kinds": list(request.kinds),
            "examples": list(request.examples),
            "seed": request.seed if request.examples else 0,
        }

    def queries(self, documents: Sequence[Document], progress: Progress | None = None) -> list[list[Generated]]:
        """The queries of each document, none where it failed or was not asked.

        Raises:
            LLMError: nothing came back at all; the sentence says why.
            StorageError: a reply could not be written down.
        """
        made: list[list[Generated]] = [[] for _ in documents]
        stop = threading.Event()
        done = 0
        try:
            for place, outcome in self._in_threads(documents, stop):
                if isinstance(outcome, Exception):
                    raise outcome
                done += 1
                made[place] = outcome
                if progress is not None:
                    progress(done, len(documents))
        finally:
            stop.set()
        if self.asked.failures and not self.asked.answered:
            raise LLMError(f"no queries were made: {self._why_none()}")
        return made

    def _why_none(self) -> str:
        asked = self.asked
        if asked.stopped or asked.problems:
            return asked.stopped or asked.problems[0]
        if asked.failures["over_budget"]:
            return "the budget is too small for a single document"
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(asked.failures.items()))
        return f"{self._llm.name} answered with nothing usable ({counts})"

    def _judged(self, outcome: list[Generated] | Exception, stop: threading.Event) -> list[Generated]:
        """Count an outcome, and stop all where going on is of no use."""
        with self._lock:
            if isinstance(outcome, list):
                self.asked.answered += 1
                self._in_a_row = 0
                return outcome
            if isinstance(outcome, LLMError):
                self._count_failure(outcome, stop)
            else:
                self.asked.failures[str(outcome)] += 1
                unusable = sum(self.asked.failures[reason] for reason in UNUSABLE)
                if not self.asked.answered and unusable >= _UNUSABLE_AT_FIRST:
                    self._stop(f"{self._llm.name} answered {unusable} documents with nothing usable", stop)
            return []

    def _count_failure(self, error: LLMError, stop: threading.Event) -> None:
        self.asked.failures["failed"] += 1
        if str(error) not in self.asked.problems:
            self.asked.problems.append(str(error))
        if not isinstance(error, DocumentRefusedError) or not self.asked.answered:
            self._in_a_row += 1
        if isinstance(error, DeniedError) or self._in_a_row >= _FAILURES_IN_A_ROW:
            self._stop(str(error), stop)

    def _stop(self, reason: str, stop: threading.Event) -> None:
        if self.asked.stopped is None:
            self.asked.stopped = reason
        stop.set()

    def _in_threads(
        self, documents: Sequence[Document], stop: threading.Event
    ) -> Iterator[tuple[int, list[Generated] | Exception]]:
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        outcomes: queue.SimpleQueue[tuple[int, list[Generated] | Exception]] = queue.SimpleQueue()
        for place in range(len(documents)):
            waiting.put(place)

        def work() -> None:
            while True:
                try:
                    place = waiting.get_nowait()
                except queue.Empty:
                    return
                # Judged here, before this thread takes the next document: a run that is to stop pays for no more.
                try:
                    outcomes.put((place, self._judged(self._outcome(documents[place], stop), stop)))
                except Exception as error:  # it is raised again in the thread that waits for the outcome
                    stop.set()
                    outcomes.put((place, error))

        for _ in range(min(self._concurrency, len(documents))):
            # Daemons do not hold up Ctrl-C until a slow model has answered.
            threading.Thread(target=work, name="deepmemory-queries", daemon=True).start()
        for _ in documents:
            yield outcomes.get()

    def _outcome(self, document: Document, stop: threading.Event) -> list[Generated] | Exception:
        try:
            return self._one(document, stop)
        except (_NotAskedError, UnusableAnswerError, LLMError) as error:
            return error

    def _one(self, document: Document, stop: threading.Event) -> list[Generated]:
        """The queries of one document, from the journal or from the model."""
        key = reply_key(document, self._settings)
        kept = self._journal.replies(key)
        with self._lock:
            if key not in self._accounted:  # a text that two documents share is paid for, and counted, once
                self._accounted.add(key)
                for answer in kept:
                    self._account(document, answer, self.asked.reused)
        problem = UnusableAnswerError("nonsense")
        for attempt in range(max(_ATTEMPTS, len(kept))):
            answer = kept[attempt] if attempt < len(kept) else self._pay(document, key, stop)
            try:
                return queries_in(answer, document, self._request.n, self._request.kinds)
            except UnusableAnswerError as error:
                problem = error
        raise problem

    def _pay(self, document: Document, key: str, stop: threading.Event) -> Answer:
        if stop.is_set():
            raise _NotAskedError("not_asked")
        expected = self._request.estimate(document, self._prices).cost or 0.0
        with self._lock:
            if self._budget is not None and self._spent + expected > self._budget:
                raise _NotAskedError("over_budget")
            self._spent += expected
        answer = None
        try:
            answer = self._llm.answer(
                self._request.messages(document), schema_for(self._request.kinds), self._request.most_tokens, stop
            )
        except LLMError as error:
            if stop.is_set() and not isinstance(error, DeniedError):
                raise _NotAskedError("not_asked") from error
            raise
        finally:
            with self._lock:
                self._spent -= expected
                if answer is not None:
                    self._account(document, answer, self.asked.paid)
        self._journal.keep(key, answer)
        return answer

    def _account(self, document: Document, answer: Answer, into: list[Usage]) -> None:
        counted = answer.tokens_in is not None and answer.tokens_out is not None
        tokens_in, tokens_out = answer.tokens_in, answer.tokens_out
        if tokens_in is None:
            tokens_in = self._request.estimate(document, None).tokens_in
        if tokens_out is None:
            tokens_out = estimated_tokens(answer.text)
        usage = total([Usage(1, tokens_in, tokens_out, counted=counted)], self._prices)
        into.append(usage)
        self._spent += usage.cost or 0.0


class _NotAskedError(Exception):
    """A document that was left out; the reason is a key of the counts."""
