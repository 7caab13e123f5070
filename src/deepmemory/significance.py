"""Is a mean difference more than noise? Intervals and p-values for two runs over the same queries.

Both methods resample *queries*, make no assumption about how differences are distributed, and give the same result
for the same seed:

- `paired_interval`: the percentile bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993).
- `randomisation_p`: Fisher's paired randomisation test, which flips the sign of each query's difference; Smucker,
  Allan and Carterette ("A comparison of statistical significance tests for information retrieval evaluation", CIKM
  2007) recommend it for retrieval.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepmemory.errors import InputError

__all__ = ["PairedLift", "paired_interval", "paired_lift", "randomisation_p"]

Vector: TypeAlias = NDArray[np.float64]

SAMPLES = 10_000
"""Resamples drawn unless asked otherwise: enough for the third digit of a p-value near 0.05."""

_CHUNK_VALUES = 1 << 21
"""Values held at once while resampling (16 MiB as float64), whatever the number of queries."""

_GROUPING_PAYS = 16
"""Drawing the count of each distinct value costs about this many times as much as drawing one query."""

_TOLERANCE = 1e-12
"""Sums that differ by less, relative to the sum of absolute differences, are ties and not rounding errors."""


@dataclass(frozen=True, slots=True)
class PairedLift:
    """A baseline and what is compared with it, on the same queries, with what noise alone would do.

    Attributes:
        n_queries: the queries compared.
        baseline: mean of the metric without.
        trained: mean of the metric with.
        lift: ``trained - baseline``, absolute.
        interval: 95% paired-bootstrap interval of the lift.
        p_value: two-sided paired randomisation test of "no difference".
    """

    n_queries: int
    baseline: float
    trained: float
    lift: float
    interval: tuple[float, float]
    p_value: float

    def as_dict(self) -> dict[str, Any]:
        """The same by name, as JSON values."""
        return {
            "n_queries": self.n_queries,
            "baseline": self.baseline,
            "trained": self.trained,
            "lift": self.lift,
            "interval": list(self.interval),
            "p_value": self.p_value,
        }


def paired_lift(baseline: ArrayLike, trained: ArrayLike, *, seed: int = 0) -> PairedLift:
    """Compare one metric of two runs over the same queries.

    Args:
        baseline: ``(n,)`` the metric for each query without.
        trained: ``(n,)`` the metric for the same queries, in the same order, with.
        seed: of the resampling.

    Raises:
        InputError: the lengths differ, there are no queries, or a value is not finite.
    """
    before, after = np.asarray(baseline, dtype=np.float64), np.asarray(trained, dtype=np.float64)
    if before.shape != after.shape:
        raise InputError(f"Two runs are compared query by query, but have the shapes {before.shape} and {after.shape}.")
    differences = _checked(after - before)
    return PairedLift(
        n_queries=len(differences),
        baseline=float(before.mean()),
        trained=float(after.mean()),
        lift=float(differences.mean()),
        interval=paired_interval(differences, seed=seed),
        p_value=randomisation_p(differences, seed=seed),
    )


def paired_interval(
    differences: ArrayLike, *, seed: int = 0, level: float = 0.95, samples: int = SAMPLES
) -> tuple[float, float]:
    """Bootstrap interval of the mean difference.

    Queries are drawn with replacement ``samples`` times; the interval spans the middle ``level`` of the means drawn,
    and always contains the mean itself. With fewer than some 20 queries it is too narrow, as bootstrap intervals are;
    with one it has no width. `randomisation_p` stays exact there.

    Args:
        differences: ``(n,)`` with minus without, by query.
        seed: of the resampling.
        level: share of the means inside, between 0 and 1.
        samples: resamples to draw. Time grows with ``n * samples``, memory does not.

    Returns:
        ``(low, high)``; ``(0.0, 0.0)`` where nothing differs.

    Raises:
        InputError: there are no differences, one is not finite, or ``level`` or ``samples`` is out of range.
    """
    values = _checked(differences)
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, but is {level}.")
    _check_samples(samples)
    means = np.concatenate(list(_bootstrap_means(values, samples, np.random.default_rng(seed))))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    mean = values.mean()
    return float(min(low, mean)), float(max(high, mean))


def randomisation_p(differences: ArrayLike, *, seed: int = 0, samples: int = SAMPLES) -> float:
    """Two-sided p-value of the paired randomisation (sign-flip) test.

    Were the two runs alike, each difference could as well have had the other sign. The p-value is the share of sign
    patterns whose mean is at least as far from 0 as the one seen. All patterns are enumerated where there are no more
    than ``2 * samples``; otherwise ``samples`` are drawn and p = (as extreme + 1) / (samples + 1), which counts the
    observed pattern as one of them, so that p is never 0 and never too small (Phipson and Smyth 2010).

    Args:
        differences: ``(n,)`` with minus without, by query.
        seed: of the patterns drawn.
        samples: patterns to draw. Time grows with ``n * samples``, memory does not.

    Returns:
        p in (0, 1]; 1.0 where nothing differs.

    Raises:
        InputError: there are no differences, one is not finite, or ``samples`` is out of range.
    """
    values = _checked(differences)
    _check_samples(samples)
    magnitudes = np.abs(values[values != 0])  # flipping a zero changes nothing
    extreme = abs(float(values.sum())) - _TOLERANCE * float(magnitudes.sum())
    if len(magnitudes) - 1 <= math.log2(samples):
        return float(np.mean(np.abs(_all_flipped_sums(magnitudes)) >= extreme))
    sums = _flipped_sums(magnitudes, samples, np.random.default_rng(seed))
    at_least_as_extreme = sum(int(np.count_nonzero(np.abs(chunk) >= extreme)) for chunk in sums)
    return (at_least_as_extreme + 1) / (samples + 1)


def _checked(differences: ArrayLike) -> Vector:
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise InputError(f"Expected one difference for each of one or more queries, found the shape {values.shape}.")
    not_finite = np.flatnonzero(~np.isfinite(values))
    if len(not_finite):
        raise InputError(
            [f"The difference of query {row} is {values[row]}, not a finite number." for row in not_finite]
        )
    return values


def _check_samples(samples: int) -> None:
    if samples < 1:
        raise InputError(f"samples must be 1 or more, but is {samples}.")


def _chunks(samples: int, width: int) -> Iterator[int]:
    """Split the samples into sizes whose draws, ``width`` values each, fit the memory allowed."""
    size = max(1, _CHUNK_VALUES // max(1, width))
    for start in range(0, samples, size):
        yield min(size, samples - start)


def _grouping_pays(distinct: int, total: int) -> bool:
    return distinct * _GROUPING_PAYS <= total


def _bootstrap_means(values: Vector, samples: int, rng: np.random.Generator) -> Iterator[Vector]:
    """Means of resamples, in chunks; metrics take few values, so often it is enough to draw each value's count."""
    n = len(values)
    distinct, counts = np.unique(values, return_counts=True)
    if _grouping_pays(len(distinct), n):
        for size in _chunks(samples, len(distinct)):
            yield rng.multinomial(n, counts / n, size=size) @ distinct / n
    else:
        for size in _chunks(samples, n):
            yield values[rng.integers(n, size=(size, n), dtype=np.int32)].mean(axis=1)


def _flipped_sums(magnitudes: Vector, samples: int, rng: np.random.Generator) -> Iterator[Vector]:
    """Sums under random signs, in chunks: twice the sum of those that drew a plus, less the sum of all."""
    n, total = len(magnitudes), magnitudes.sum()
    distinct, counts = np.unique(magnitudes, return_counts=True)
    if _grouping_pays(len(distinct), n):
        for size in _chunks(samples, len(distinct)):
            yield 2.0 * (rng.binomial(counts, 0.5, size=(size, len(distinct))) @ distinct) - total
    else:
        for size in _chunks(samples, n):
            bits = np.unpackbits(rng.integers(256, size=(size, -(-n // 8)), dtype=np.uint8), axis=1, count=n)
            yield 2.0 * (bits.astype(np.float64) @ magnitudes) - total


def _all_flipped_sums(magnitudes: Vector) -> Vector:
    """Sums under every sign pattern with the first sign kept; the others mirror them."""
    sums: Vector = magnitudes[:1].sum(keepdims=True)
    for magnitude in magnitudes[1:]:
        sums = np.concatenate([sums + magnitude, sums - magnitude])
    return sums
