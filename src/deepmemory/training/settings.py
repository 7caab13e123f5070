"""The few numbers that cross-validation chooses, and the grid that it chooses them from."""

from dataclasses import asdict, dataclass, replace

__all__ = ["IDENTITY", "MEMORIES", "PRIORS", "WORDS", "Settings", "layers"]


@dataclass(frozen=True, slots=True)
class Settings:
    """One candidate, for scores that spread by 0.1 over documents; those of other models are scaled (`spread`).

    Attributes:
        penalty: weight of ``|A|^2`` in training; None is without a linear layer.
        has_standins: whether stand-in queries for documents without labels take part in training.
        has_made: whether queries that were made and not asked take part in training.
        prior: score added to labelled documents.
        threshold: cosine with the nearest key above which the query memory speaks.
        gain: of the query memory; 0 is without it.
        words: score that a typical query's best hit by words gets for them; 0 is without full-text search.
    """

    penalty: float | None
    has_standins: bool = False
    has_made: bool = False
    prior: float = 0.0
    threshold: float = 0.0
    gain: float = 0.0
    words: float = 0.0

    @property
    def linear(self) -> "Settings":
        """The linear layer alone."""
        return Settings(self.penalty, self.has_standins, self.has_made)

    @property
    def has_bonus(self) -> bool:
        """Whether labelled documents get anything beside their similarity."""
        return self.prior != 0 or self.gain != 0

    @property
    def largest_bonus(self) -> float:
        """What a labelled document can get at most beside its similarity."""
        return self.prior + self.gain * (1 - self.threshold)

    def as_dict(self) -> dict[str, float | bool | None]:
        """The numbers by name, as JSON values."""
        return asdict(self)


IDENTITY = Settings(penalty=None)
"""Changes nothing; always a candidate."""

_LAYERS = (
    Settings(100.0),
    Settings(10.0),
    Settings(3.0),
    Settings(10.0, has_standins=True),
    Settings(5.0, has_standins=True),
)
"""The linear layers, from hardly moving to moving freely: each solution starts the next."""


def layers(*, with_made: bool) -> tuple[Settings, ...]:
    """The linear layers to compare; where there are made queries, each without and with them."""
    return _LAYERS if not with_made else (*_LAYERS, *(replace(layer, has_made=True) for layer in _LAYERS))


PRIORS = (-0.03, -0.02, -0.01, 0.0, 0.02, 0.05)
"""Below 0 it makes up for what training does to labelled documents, towards which it draws every query."""

MEMORIES = ((0.0, 0.0), *((threshold, gain) for threshold in (0.5, 0.6, 0.7) for gain in (0.4, 0.8)))
"""Pairs of (threshold, gain). A threshold keeps the memory silent for a query that resembles none of the keys:
without one it raises what was asked for before under every question, and harms all that was not."""

WORDS = (0.0, 0.06, 0.12, 0.25, 0.5, 1.0)
"""What words may be worth. Steps of two: the lift changes slowly about the best, and the best of
six collections lie between 0.05 and 0.9."""
