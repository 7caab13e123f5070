"""What synthesis makes: queries with the document that each came from, and what that took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from deepmemory.data import LabelledQueries, split_by_document, split_by_query
from deepmemory.llm import Usage

__all__ = ["KINDS", "Generated", "Kind", "Prices", "Spent", "SplitBy", "Synthesis", "spent"]

Kind: TypeAlias = Literal["question", "keywords", "symptom", "claim"]
"""How somebody asks: in a sentence, in search words, by what goes wrong, or by a statement to be confirmed."""

KINDS: tuple[Kind, ...] = get_args(Kind)

SplitBy: TypeAlias = Literal["document", "query"]
"""Whether all queries of a document stay on one side of a split, or each query is drawn for itself."""


@dataclass(frozen=True, slots=True)
class Generated:
    """One query.

    Attributes:
        query: its text.
        source_id: the document that answers it, from which it was made.
        kind: how it asks.
    """

    query: str
    source_id: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Prices:
    """What a model costs, in whatever money its list of prices is in.

    Attributes:
        tokens_in: for a million tokens of prompts.
        tokens_out: for a million tokens of answers.
    """

    tokens_in: float
    tokens_out: float

    def cost(self, usage: Usage) -> float:
        """Of so many tokens."""
        return (usage.prompt_tokens * self.tokens_in + usage.completion_tokens * self.tokens_out) / 1_000_000


@dataclass(frozen=True, slots=True)
class Spent:
    """What a model's replies took, or are about to take.

    Attributes:
        replies: that were paid for.
        tokens: of all of them; an estimate where they are yet to come or the endpoint doesn't say.
        cost: None where no prices are known.
    """

    replies: int = 0
    tokens: Usage = field(default_factory=Usage)
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Synthesis:
    """Queries that were made, and how.

    Attributes:
        queries: those that passed every filter.
        generator: ``extractive``, or the model's name.
        counts: how many queries each filter dropped, in the order of the filters, between ``made`` and ``kept``.
        documents: how documents fared: ``used``, ``without_queries``, and for a model how many answers were unusable
            or failed, by reason.
        usage: what this run paid for.
        reused: what earlier runs had paid for and this one used.
        problems: what went wrong on the way, a sentence each.
    """

    queries: tuple[Generated, ...]
    generator: str
    counts: Mapping[str, int] = field(default_factory=dict)
    documents: Mapping[str, int] = field(default_factory=dict)
    usage: Spent = Spent()
    reused: Spent = Spent()
    problems: tuple[str, ...] = ()

    @property
    def questions(self) -> list[str]:
        """The texts, as `DeepMemory.train` takes them."""
        return [one.query for one in self.queries]

    @property
    def relevance(self) -> list[list[tuple[str, float]]]:
        """For each text its source document at grade 1."""
        return [[(one.source_id, 1.0)] for one in self.queries]

    @property
    def labelled(self) -> LabelledQueries:
        """Both, as the writers of `deepmemory.formats` take them."""
        relevant = tuple({one.source_id: 1.0} for one in self.queries)
        return LabelledQueries(tuple(self.questions), relevant, (True,) * len(relevant))

    def split(
        self, fraction: float = 0.5, *, by: SplitBy = "document", seed: int = 0
    ) -> tuple[LabelledQueries, LabelledQueries]:
        """Training and held-out queries.

        Args:
            fraction: the share that trains.
            by: ``"document"`` keeps all queries of a document on one side, which is the harder and more honest test;
                ``"query"`` draws each for itself.
            seed: same seed, same split.

        Raises:
            InputError: one side would be empty.
        """
        labelled = self.labelled
        split = (
            split_by_document(labelled.qrels, fraction, seed=seed)
            if by == "document"
            else split_by_query(len(labelled), fraction, seed=seed)
        )
        return labelled.subset(split.train), labelled.subset(split.test)


def spent(replies: Sequence[Usage], prices: Prices | None) -> Spent:
    """What several replies took together."""
    tokens = sum(replies, Usage())
    return Spent(len(replies), tokens, prices.cost(tokens) if prices else None)
