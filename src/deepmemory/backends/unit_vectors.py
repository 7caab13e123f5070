"""Whether a sample of somebody else's vectors has unit norm, for what can be done with the measure of their index."""

import numpy as np

from deepmemory.backends.base import Distance, VectorArray
from deepmemory.errors import CapabilityError, InputError

__all__ = ["SAMPLE", "distance_by_length", "distance_of", "not_unit"]

SAMPLE = 1_000
"""Vectors that are looked at."""

# Vectors in half precision are off by this much.
_TOLERANCE = 1e-3


def not_unit(vectors: VectorArray) -> int:
    """How many of the vectors ``(n, dimensions)`` have another norm than 1."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    return int((np.abs(norms - 1) > _TOLERANCE).sum())


def distance_by_length(named: str, sample: VectorArray, asked: Distance | None) -> Distance:
    """What a collection can be ranked by whose index measures the length between vectors ("L2", Euclidean).

    Between unit vectors that ranks as the cosine does.

    Raises:
        CapabilityError: they aren't unit vectors, so it ranks as neither cosine nor dot product.
        InputError: the dot product was asked for.
    """
    others = not_unit(sample)
    if others:
        raise CapabilityError(
            f"{named} is indexed by the length between vectors (l2), which ranks as the cosine does only where all "
            f"vectors have unit norm; {others} of {len(sample)} that were looked at ({others / len(sample):.0%}) have "
            f"another: fill a collection that is indexed by cosine, or scale the vectors to unit norm"
        )
    return _as_asked(named, "cosine", asked, "l2 over unit vectors, which is cosine")


def distance_of(named: str, measure: Distance, sample: VectorArray, asked: Distance | None) -> Distance:
    """What a collection can be ranked by whose index measures cosine or dot product.

    Over unit vectors the dot product ranks as the cosine does, so that may be asked for as well.

    Raises:
        InputError: another distance was asked for than the index has.
    """
    if measure == "dot" and asked == "cosine" and not not_unit(sample):
        return "cosine"
    return _as_asked(named, measure, asked, measure)


def _as_asked(named: str, measure: Distance, asked: Distance | None, said: str) -> Distance:
    if asked not in (None, measure):
        raise InputError(f"{named} is indexed by {said}, so it can't be compared by {asked}: leave distance out")
    return measure
