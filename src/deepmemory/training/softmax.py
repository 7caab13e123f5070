"""The softmax of many rows, in place: the blocks that it is taken of are large."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["softmax_in_place"]

Matrix: TypeAlias = NDArray[np.float32]


def softmax_in_place(scores: Matrix) -> None:
    """Turn each row of ``scores (n, m)`` into shares that sum to 1."""
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
