"""What an evaluation found: plain, immutable numbers with the original's keys on top."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from deepmemory.significance import PairedLift

__all__ = [
    "WITH",
    "WITHOUT",
    "ContextSaving",
    "CurvePoint",
    "Evaluation",
    "Group",
    "QueryResult",
    "fair_queries",
    "most_gained",
    "most_lost",
]

WITHOUT = "without model"
WITH = "with model"


@dataclass(frozen=True, slots=True)
class Group:
    """All metrics over one group of queries.

    Attributes:
        n: how many queries; at least one.
        metrics: baseline, trained and lift by name, in order: ``recall@k`` for each k, then ``ndcg@10``, ``mrr@10``.
    """

    n: int
    metrics: Mapping[str, PairedLift]

    def __getitem__(self, metric: str) -> PairedLift:
        return self.metrics[metric]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"n": self.n, "metrics": {name: metric.as_dict() for name, metric in self.metrics.items()}}


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Recall at one depth, for plotting; the interval is that of the lift."""

    k: int
    baseline: float
    trained: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ContextSaving:
    """How much shorter the context of a question may be for the same recall.

    Attributes:
        target: the baseline's recall@10, a fraction.
        baseline_k: the smallest k at which the baseline itself has that recall; below 10 where its last hits of
            the ten add nothing.
        trained_k: the smallest k at which the trained search has it; None where it never does.
        baseline_tokens: mean tokens in the texts of the baseline's first 10 hits; None where texts are not known.
        trained_tokens: mean tokens in the texts of the trained search's first `trained_k` hits.
        estimated: tokens were taken as characters / 4, and not counted by a tokenizer.
    """

    target: float
    baseline_k: int
    trained_k: int | None
    baseline_tokens: float | None = None
    trained_tokens: float | None = None
    estimated: bool = True

    @property
    def saves(self) -> bool:
        """Whether fewer hits do with Deep Memory than do without it."""
        return self.trained_k is not None and self.trained_k < self.baseline_k

    @property
    def tokens_saved(self) -> float | None:
        """Mean tokens saved per question; None where nothing is saved or the texts are not known."""
        if not self.saves or self.baseline_tokens is None or self.trained_tokens is None:
            return None
        return self.baseline_tokens - self.trained_tokens

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "recall@10": self.target,
            "baseline_k": self.baseline_k,
            "trained_k": self.trained_k,
            "baseline_tokens": self.baseline_tokens,
            "trained_tokens": self.trained_tokens,
            "tokens_saved": self.tokens_saved,
            "estimated": self.estimated,
        }


@dataclass(frozen=True, slots=True)
class QueryResult:
    """One query's part in the evaluation.

    Attributes:
        query: its text.
        qrels: the grade of each relevant document by id.
        baseline_ids: its first hits without Deep Memory, best first, at most 10.
        trained_ids: its first hits with it.
        baseline_rank: rank (1 is best) of the first relevant hit without; None where none was found.
        trained_rank: the same with.
        baseline: its nDCG@10 without.
        trained: its nDCG@10 with.
        seen: whether some relevant document was relevant to a training query too; None where that is not known.
        leaked: whether the query itself was trained on.
    """

    query: str
    qrels: Mapping[str, float]
    baseline_ids: tuple[str, ...]
    trained_ids: tuple[str, ...]
    baseline_rank: int | None
    trained_rank: int | None
    baseline: float
    trained: float
    seen: bool | None
    leaked: bool

    @property
    def lift(self) -> float:
        """Gain in nDCG@10, negative where it lost."""
        return self.trained - self.baseline

    def best_answers(self, count: int) -> list[str]:
        """Ids of its right answers, the highest grade first."""
        return sorted(self.qrels, key=lambda document: (-self.qrels[document], document))[:count]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "query": self.query,
            "relevance": [[document, grade] for document, grade in self.qrels.items()],
            "baseline_ids": list(self.baseline_ids),
            "trained_ids": list(self.trained_ids),
            "baseline_rank": self.baseline_rank,
            "trained_rank": self.trained_rank,
            "baseline_ndcg@10": self.baseline,
            "trained_ndcg@10": self.trained,
            "seen": self.seen,
            "leaked": self.leaked,
        }


def fair_queries(queries: Sequence[QueryResult]) -> tuple[QueryResult, ...]:
    """The queries that were not trained on; all of them where there are no others."""
    return tuple(result for result in queries if not result.leaked) or tuple(queries)


def most_gained(queries: Iterable[QueryResult], count: int) -> list[QueryResult]:
    """The queries with the largest gains in nDCG@10; ties stay in the order given."""
    return sorted((result for result in queries if result.lift > 0), key=lambda result: -result.lift)[:count]


def most_lost(queries: Iterable[QueryResult], count: int) -> list[QueryResult]:
    """The queries with the largest losses in nDCG@10; ties stay in the order given."""
    return sorted((result for result in queries if result.lift < 0), key=lambda result: result.lift)[:count]


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Mapping[str, dict[str, float]]):
    """The same queries searched without and with Deep Memory.

    As a mapping it is what the original returned: ``evaluation["with model"]["recall@10"]`` and
    ``evaluation["without model"]["recall@1"]``, fractions. These and `overall` count every query. All else leaves out
    the queries that were trained on (the *leaks*), unless there are no others.

    Attributes:
        top_k: the depths asked for, ascending.
        overall: every query.
        seen: the queries with a relevant document that some training query wanted too; None where there is no such
            query, or the training labels are not known.
        unseen: the queries with no such document.
        unleaked: every query that was not trained on; None where no query leaked, and where all did.
        curve: recall by depth.
        saving: how many hits, and tokens, the same recall takes.
        queries: one result for each query, in the order asked.
        identical: whether both searches returned the same hits in the same order for every query.
        embedding_seconds: how long the queries took to embed; None where they came embedded.
        n_documents: how many documents were searched; None where not known.
        seed: of the intervals and p-values.
        texts: texts of the documents that the examples show, by id.
    """

    top_k: tuple[int, ...]
    overall: Group
    seen: Group | None
    unseen: Group | None
    unleaked: Group | None
    curve: tuple[CurvePoint, ...]
    saving: ContextSaving
    queries: tuple[QueryResult, ...]
    identical: bool
    embedding_seconds: float | None = None
    n_documents: int | None = None
    seed: int = 0
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """How many queries."""
        return self.overall.n

    @property
    def metrics(self) -> Mapping[str, PairedLift]:
        """The comparison of each metric over every query."""
        return self.overall.metrics

    @property
    def leaks(self) -> tuple[str, ...]:
        """The queries that were trained on: what they show is memory, not a lift on new queries."""
        return tuple(result.query for result in self.queries if result.leaked)

    @property
    def headline(self) -> Group:
        """The group to judge by: the queries that were not trained on, where there are any."""
        return self.unleaked or self.overall

    @property
    def fair_queries(self) -> tuple[QueryResult, ...]:
        """The queries that `headline` is about."""
        return fair_queries(self.queries)

    def gained(self, count: int) -> list[QueryResult]:
        """Of the fair queries those that gained most in nDCG@10, the largest gain first."""
        return most_gained(self.fair_queries, count)

    def lost(self, count: int) -> list[QueryResult]:
        """Of the fair queries those that lost most in nDCG@10, the largest loss first."""
        return most_lost(self.fair_queries, count)

    def as_dict(self) -> dict[str, Any]:
        """Everything but the texts, as JSON values."""
        groups = {"overall": self.overall, "seen": self.seen, "unseen": self.unseen, "unleaked": self.unleaked}
        return {
            **self,
            "n": self.n,
            "n_documents": self.n_documents,
            "top_k": list(self.top_k),
            **{name: group and group.as_dict() for name, group in groups.items()},
            "leaks": list(self.leaks),
            "saving": self.saving.as_dict(),
            "identical": self.identical,
            "embedding_seconds": self.embedding_seconds,
            "seed": self.seed,
            "queries": [result.as_dict() for result in self.queries],
        }

    def print(self, file: TextIO | None = None) -> None:
        """Print both lists like the original, and then what the difference is worth."""
        print(self, file=file)

    def __getitem__(self, side: str) -> dict[str, float]:
        recalls = {f"recall@{k}": self.overall[f"recall@{k}"] for k in self.top_k}
        if side == WITHOUT:
            return {name: lift.baseline for name, lift in recalls.items()}
        if side == WITH:
            return {name: lift.trained for name, lift in recalls.items()}
        raise KeyError(side)

    def __iter__(self) -> Iterator[str]:
        return iter((WITHOUT, WITH))

    def __len__(self) -> int:
        return 2

    def __str__(self) -> str:
        from deepmemory.evaluation.text import render

        return render(self)

    def __repr__(self) -> str:
        recall = self.overall["recall@10"]
        return f"<Evaluation of {self.n} queries, recall@10 {recall.baseline:.3f} -> {recall.trained:.3f}>"
