"""Which queries are the same, or nearly, by vector or by text, without comparing all of very many with all."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepmemory.data import normalised

__all__ = ["NEAR", "near_pairs", "same_text", "worded"]

NEAR = 0.98
"""Cosine from which two queries count as nearly the same: they differ in a comma, a letter or a filler word."""

_MOST_EACH = 10
_BLOCK = 1 << 24
"""Cosines held at once: 64 MiB of float32."""


def near_pairs(
    vectors: NDArray[np.float32], others: NDArray[np.float32], *, itself: NDArray[np.int64] | None = None
) -> list[tuple[int, int, float]]:
    """The nearest of the other vectors to each vector, from a cosine of `NEAR` on.

    Args:
        vectors: ``(n, dim)`` float32, unit norm; a sample where there are very many.
        others: ``(m, dim)`` float32, unit norm.
        itself: ``(n,)``, the row among the others that is the vector itself; None where none is.

    Returns:
        rows of both and their cosine, the nearest ten for each vector at most, nearest first.
    """
    pairs: list[tuple[int, int, float]] = []
    step = max(1, _BLOCK // max(1, len(others)))
    for start in range(0, len(vectors), step):
        cosines = vectors[start : start + step] @ others.T
        if itself is not None:
            own = itself[start : start + step]
            cosines[np.arange(len(own)), own] = -1
        for row in np.flatnonzero(cosines.max(axis=1, initial=-1) >= NEAR).tolist():
            near = np.flatnonzero(cosines[row] >= NEAR)
            best = near[np.argsort(-cosines[row, near], kind="stable")][:_MOST_EACH]
            pairs += [(start + row, other, min(1.0, float(cosines[row, other]))) for other in best.tolist()]
    return pairs


def same_text(texts: Sequence[str], others: Sequence[str]) -> list[list[int]]:
    """For each text the rows of the others that are the same when `worded`."""
    rows: dict[str, list[int]] = {}
    for row, other in enumerate(others):
        rows.setdefault(worded(other), []).append(row)
    return [rows.get(worded(text), []) for text in texts]


def worded(text: str) -> str:
    """A text without its differences of case, spaces and final marks."""
    form = normalised(text)
    return form.rstrip(" ?!.") or form
