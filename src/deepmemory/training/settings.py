"""The few numbers that cross-validation chooses, and the grid that it chooses them from."""

from dataclasses import asdict, dataclass

__all__ = ["GRID", "IDENTITY", "MEMORIES", "PENALTIES", "PRIORS", "Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """One candidate.

    Attributes:
        penalty: weight of ``|A|^2`` in training; None is the identity, without a linear layer.
        prior: score added to labelled documents.
        threshold: cosine with the nearest key above which the query memory speaks.
        gain: of the query memory; 0 is without it.
    """

    penalty: float | None
    prior: float = 0.0
    threshold: float = 0.0
    gain: float = 0.0

    @property
    def has_bonus(self) -> bool:
        """Whether labelled documents get anything beside their similarity."""
        return self.prior != 0 or self.gain != 0

    @property
    def largest_bonus(self) -> float:
        """What a labelled document can get at most beside its similarity."""
        return self.prior + self.gain * (1 - self.threshold)

    def as_dict(self) -> dict[str, float | None]:
        """The numbers by name, as JSON values."""
        return asdict(self)


IDENTITY = Settings(penalty=None)
"""Changes nothing; always a candidate."""

PENALTIES = (300.0, 100.0, 30.0, 10.0, 3.0)
"""From hardly moving to moving freely; descending, because each solution starts the next."""

PRIORS = (0.0, 0.02, 0.05)

MEMORIES = (
    (0.0, 0.0),
    *((threshold, gain) for threshold in (0.4, 0.5, 0.6, 0.7, 0.8) for gain in (0.1, 0.2, 0.4, 0.8)),
)
"""Pairs of (threshold, gain). A threshold keeps the memory silent for a query that resembles none of the keys:
without one it raises what was asked for before under every question, and harms all that was not."""

GRID = tuple(
    Settings(penalty, prior, threshold, gain)
    for penalty in PENALTIES
    for threshold, gain in MEMORIES
    for prior in PRIORS
)
