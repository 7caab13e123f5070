"""The few numbers that cross-validation chooses, and the grid that it chooses them from."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

__all__ = ["IDENTITY", "Linear", "Settings", "candidates", "linear_parts", "path"]


@dataclass(frozen=True, slots=True)
class Linear:
    """How one linear layer is trained.

    Attributes:
        penalty: weight of ``|A|^2``.
        has_standins: whether stand-in queries for documents without labels take part.
        has_made: whether queries that were made and not asked take part.
        is_soft: whether documents like a right answer have a share of its label (`soft_labels`).
    """

    penalty: float
    has_standins: bool = False
    has_made: bool = False
    is_soft: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """One candidate, for scores that spread by 0.1 over documents; those of other models are scaled (`spread`).

    Attributes:
        linear: the linear layers whose mean moves the queries; none leaves them as they are.
        prior: score added to labelled documents.
        threshold: cosine with the nearest key above which the query memory speaks.
        gain: of the query memory; 0 is without it.
        words: score that a typical query's best hit by words gets for them; 0 is without full-text search.
    """

    linear: tuple[Linear, ...] = ()
    prior: float = 0.0
    threshold: float = 0.0
    gain: float = 0.0
    words: float = 0.0

    @property
    def has_bonus(self) -> bool:
        """Whether labelled documents get anything beside their similarity."""
        return self.prior != 0 or self.gain != 0

    @property
    def largest_step(self) -> float:
        """By how much a labelled document's score can rise or fall at most, beside its similarity."""
        return max(abs(self.prior), abs(self.prior + self.gain * (1 - self.threshold)))

    def as_dict(self) -> dict[str, object]:
        """The numbers by name, as JSON values."""
        return {**asdict(self), "linear": [asdict(layer) for layer in self.linear]}


IDENTITY = Settings()
"""Changes nothing; always a candidate."""

_HELD = Linear(100.0)
_LOOSE, _FREE = Linear(10.0, is_soft=True), Linear(3.0, is_soft=True)
_LOOSE_ASKED, _FREE_ASKED = (replace(layer, has_standins=True) for layer in (_LOOSE, _FREE))

_PATH = (_HELD, _LOOSE, _FREE, _LOOSE_ASKED, _FREE_ASKED)
"""The linear layers that are trained, from hardly moving to moving freely: each solution starts the next."""

_PARTS = (
    (_HELD,),
    (_LOOSE,),
    (_LOOSE_ASKED,),
    (_FREE_ASKED,),
    (_FREE, _FREE_ASKED),
    (_LOOSE, _FREE, _LOOSE_ASKED, _FREE_ASKED),
    (_HELD, _LOOSE, _LOOSE_ASKED),
)
"""Which of them, or whose mean, the candidates have. Layers that learned the same thing in different ways err in
different ways, so their mean errs less than most of them, and costs no descent."""


def path(*, with_standins: bool, has_made: bool = False) -> tuple[Linear, ...]:
    """The linear layers to train, in their order.

    Args:
        with_standins: whether there are documents that stand-ins could ask for.
        has_made: whether made queries take part.
    """
    return _with_made((layer for layer in _PATH if with_standins or not layer.has_standins), has_made)


def linear_parts(layers: Sequence[Linear]) -> list[tuple[Linear, ...]]:
    """The candidates' linear parts, as far as they can be had from the layers that are trained."""
    made = dict.fromkeys(layer.has_made for layer in layers)
    parts = (
        tuple(layer for layer in _with_made(part, has_made) if layer in layers) for has_made in made for part in _PARTS
    )
    return list(dict.fromkeys(part for part in parts if part))


def _with_made(layers: Iterable[Linear], has_made: bool) -> tuple[Linear, ...]:
    return tuple(replace(layer, has_made=has_made) for layer in layers)


_PRIORS = (-0.03, -0.02, -0.01, 0.0, 0.02, 0.05)
"""Below 0 it makes up for what training does to labelled documents, towards which it draws every query."""

_MEMORIES = ((0.0, 0.0), *((threshold, gain) for threshold in (0.5, 0.6, 0.7) for gain in (0.4, 0.8)))
"""Pairs of (threshold, gain). A threshold keeps the memory silent for a query that resembles none of the keys:
without one it raises what was asked for before under every question, and harms all that was not."""

_WORDS = (0.0, 0.06, 0.12, 0.25, 0.5, 1.0)
"""What words may be worth. Steps of two: the lift changes slowly about the best, and the best of
six collections lie between 0.05 and 0.9."""


def candidates(linear: tuple[Linear, ...], *, with_words: bool) -> list[Settings]:
    """Every candidate with one linear part; those alike in words and memory are neighbours."""
    return [
        Settings(linear, prior, threshold, gain, words)
        for words in (_WORDS if with_words else (0.0,))
        for threshold, gain in _MEMORIES
        for prior in _PRIORS
    ]
