"""How much of what a question needs is in the contexts retrieved for it: ragas' context recall, in two ways."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepmemory.data import Relevance, check_labelled
from deepmemory.errors import InputError, LLMError, MissingExtraError
from deepmemory.llm import Usage, resolve_llm
from deepmemory.rag.sources import Retriever, retrieve

__all__ = ["ContextRecall", "context_recall", "convert_relevance_to_ground_truth"]


@dataclass(frozen=True, slots=True)
class ContextRecall:
    """Context recall of a retriever over some queries; fractions.

    Attributes:
        k: contexts a query, at most.
        id_scores: for each query the part of its relevant documents that was retrieved.
        judged_scores: for each query the part of its ground truth's statements that the model found in the contexts;
            None where the model gave no judgement. Empty where no model was asked.
        unjudged: why, for each query without a judgement.
        usage: tokens that the judgements took.
    """

    k: int
    id_scores: tuple[float, ...]
    judged_scores: tuple[float | None, ...] = ()
    unjudged: Mapping[int, str] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)

    @property
    def id_based(self) -> float:
        """The mean of `id_scores`: ragas' ``IDBasedContextRecall``."""
        return sum(self.id_scores) / len(self.id_scores)

    @property
    def llm_judged(self) -> float | None:
        """The mean of the judgements that there are: ragas' ``LLMContextRecall``; None where no model was asked."""
        scores = [score for score in self.judged_scores if score is not None]
        return sum(scores) / len(scores) if scores else None

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "k": self.k,
            "n": len(self.id_scores),
            "id_based_context_recall": self.id_based,
            "context_recall_score": self.llm_judged,
            "unjudged": {str(row): reason for row, reason in self.unjudged.items()},
            "tokens": self.usage.total_tokens,
        }

    def __str__(self) -> str:
        lines = [] if self.llm_judged is None else [f"context_recall_score: {self.llm_judged}"]
        lines.append(f"id_based_context_recall: {self.id_based}")
        if self.unjudged:
            n = len(self.unjudged)
            lines.append(f"{n} of {len(self.judged_scores)} queries could not be judged and do not count above.")
        return "\n".join(lines)


def context_recall(
    retriever: Retriever,
    queries: Sequence[str],
    relevance: Relevance,
    *,
    k: int = 10,
    llm: Any = None,
    ground_truths: Sequence[str | Sequence[str]] | None = None,
    concurrency: int = 4,
) -> ContextRecall:
    """Measure with ragas what a retriever finds of what the queries need.

    Args:
        retriever: a store, a LangChain retriever, or a function from a question and k to documents. Without what was
            learned: ``partial(store.search, deep_memory=False)``.
        queries: texts that took no part in training.
        relevance: for each query the ``(document id, grade)`` pairs that answer it.
        k: contexts a query.
        llm: who judges, as for `answer`; without it only ids are compared.
        ground_truths: for each query the text that answers it, or several, as `convert_relevance_to_ground_truth`
            makes them; needed by the judge.
        concurrency: judgements at once.

    Raises:
        InputError: an argument is wrong.
        MissingExtraError: ragas is not installed.
        LLMError: the judge's endpoint failed, or it gave not one judgement that can be used.
    """
    labelled = check_labelled(queries, relevance)
    model = None if llm is None else resolve_llm(llm)
    references = None if model is None else _references(ground_truths, len(labelled))
    _check_sizes(k, concurrency)
    if importlib.util.find_spec("ragas") is None:
        raise MissingExtraError("context recall", "rag")
    from deepmemory.rag.judge import id_recalls, judged_recalls

    found = [retrieve(retriever, query, k) for query in labelled.queries]
    id_scores = tuple(id_recalls([[s.id for s in sources] for sources in found], [list(q) for q in labelled.qrels]))
    if model is None or references is None:
        return ContextRecall(k, id_scores)
    contexts = [[source.text for source in sources] for sources in found]
    judged = judged_recalls(model, labelled.queries, contexts, references, concurrency=concurrency)
    unjudged = {row: reason for row, (score, reason, _) in enumerate(judged) if score is None}
    if len(unjudged) == len(judged):
        raise LLMError(f"none of the {len(judged)} queries could be judged; the first because {unjudged[0]}")
    usage = sum((cost for _, _, cost in judged), Usage())
    return ContextRecall(k, id_scores, tuple(score for score, _, _ in judged), unjudged, usage)


def convert_relevance_to_ground_truth(docs: Mapping[str, str], relevance: Relevance) -> list[list[str]]:
    """For each query the texts of the documents that answer it.

    Args:
        docs: texts by document id.
        relevance: for each query ``(document id, grade)`` pairs; those with grade 0 are left out.

    Raises:
        InputError: naming the ids that have no text.
    """
    unknown = sorted({id for pairs in relevance for id, grade in pairs if grade > 0 and id not in docs})
    if unknown:
        raise InputError([f"there is no text for the document {id!r}, which is relevant to a query" for id in unknown])
    return [[docs[id] for id, grade in pairs if grade > 0] for pairs in relevance]


def _references(ground_truths: Sequence[str | Sequence[str]] | None, n: int) -> list[str]:
    """The ground truths as one text for each query."""
    if ground_truths is None:
        raise InputError("a judge needs ground_truths: for each query the text that answers it")
    if len(ground_truths) != n:
        raise InputError(f"expected one ground truth for each of the {n} queries, found {len(ground_truths)}")
    texts = [truth if isinstance(truth, str) else "\n".join(truth) for truth in ground_truths]
    empty = [f"ground_truths[{row}] is empty" for row, text in enumerate(texts) if not text.strip()]
    if empty:
        raise InputError(empty)
    return texts


def _check_sizes(k: object, concurrency: object) -> None:
    problems = [
        f"{name} must be a whole number of 1 or more, found {number!r}"
        for name, number in (("k", k), ("concurrency", concurrency))
        if not isinstance(number, int) or isinstance(number, bool) or number < 1
    ]
    if problems:
        raise InputError(problems)
