"""What `fit_map` compared, in numbers that may be quoted."""

from dataclasses import asdict, dataclass
from typing import Any

from deepmemory.migration.candidates import Candidate

__all__ = ["Compared", "MapReport"]


@dataclass(frozen=True, slots=True)
class Compared:
    """A candidate and how far it agreed with the new model, held out.

    Attributes:
        candidate: how the map is made.
        agreement: mean share of the new model's first hits that it finds too.
        standard_error: of that mean.
    """

    candidate: Candidate
    agreement: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class MapReport:
    """What was compared, and what came out.

    Attributes:
        chosen: the candidate that made the map.
        agreement: mean share of the new model's first ``depth`` hits that the map finds too, on texts and queries held
            out of learning *and* of the choice: recall@depth against re-embedding, within a sample of the documents.
        interval: its 95% bootstrap interval.
        depth: 10, or less where there are few pairs.
        document_cosine: mean cosine between where the map puts held-out documents and where the old model did.
        candidates: all of them, the most cautious first; these figures chose, so don't quote them.
        n_pairs: texts by both models.
        n_queries: queries given beside them.
        n_judged: held-out queries of `agreement`.
        n_ranked: documents that each of them ranks; in a whole store the first ten are harder to find.
        new_dimensions: of the new model.
        old_dimensions: of the old model.
        seed: of the folds.
        seconds: wall time.
    """

    chosen: Candidate
    agreement: float
    interval: tuple[float, float]
    depth: int
    document_cosine: float
    candidates: tuple[Compared, ...]
    n_pairs: int
    n_queries: int
    n_judged: int
    n_ranked: int
    new_dimensions: int
    old_dimensions: int
    seed: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        values = asdict(self)
        values["interval"] = list(self.interval)
        values["candidates"] = [asdict(compared) for compared in self.candidates]
        return values

    def __str__(self) -> str:
        low, high = self.interval
        lines = [
            f"{self.n_pairs:,} pairs, {self.new_dimensions} to {self.old_dimensions} dimensions: {self.chosen} finds "
            f"{100 * self.agreement:.1f}% of the new model's first {self.depth} (95% interval {100 * low:.1f} to "
            f"{100 * high:.1f}; {self.n_judged:,} held-out queries, each "
            f"over {self.n_ranked:,} documents).",
            *(
                f"  {c.candidate!s:14} {100 * c.agreement:5.1f}% +- {100 * c.standard_error:.1f}"
                for c in self.candidates
            ),
        ]
        return "\n".join(lines)
