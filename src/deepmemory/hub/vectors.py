"""Vectors as requests and replies have them: little-endian float32 in base64, exact and a fifth of a list's size."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["pack", "packed_bytes", "unpack"]


def pack(vectors: NDArray[np.float32]) -> dict[str, Any]:
    """``(n, dimensions)`` vectors as JSON values."""
    data = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
    return {"shape": list(vectors.shape), "base64": base64.b64encode(data).decode("ascii")}


def packed_bytes(dimensions: int) -> int:
    """Roughly what one packed vector weighs."""
    return 16 * dimensions // 3


def unpack(values: Mapping[str, Any]) -> NDArray[np.float32]:
    """The vectors that `pack` wrote, ``(n, dimensions)`` float32.

    Raises:
        ValueError, KeyError, TypeError: the values are no vectors.
    """
    n, dimensions = values["shape"]
    data = np.frombuffer(base64.b64decode(values["base64"], validate=True), dtype="<f4")
    return data.astype(np.float32).reshape(int(n), int(dimensions))
