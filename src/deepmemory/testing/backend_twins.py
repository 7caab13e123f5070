"""A backend and its exact twin: the same history, the same questions, the same answers."""

from collections.abc import Sequence

import numpy as np

from deepmemory.backends.base import Backend, Distance, Filter, Ranking, VectorArray
from deepmemory.data import Document

__all__ = ["DIMENSIONS", "agree", "change_both", "compare", "corpus"]

DIMENSIONS = 8
_SCORE_TOLERANCE = 1e-5


def corpus(
    n: int, *, seed: int = 0, dimensions: int = DIMENSIONS, prefix: str = "d"
) -> tuple[list[Document], VectorArray]:
    """Documents ``d00000...`` with metadata ``parity``, ``third`` and ``n``, and unit vectors ``(n, dimensions)``."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    documents = [
        Document(
            f"{prefix}{i:05}", f"text number {i}", {"parity": "even" if i % 2 == 0 else "odd", "third": i % 3, "n": i}
        )
        for i in range(n)
    ]
    return documents, vectors


def agree(found: Sequence[Ranking], expected: Sequence[Ranking]) -> None:
    """Assert that rankings are equal up to rounding: scores rank by rank, ids where scores are apart.

    Documents whose scores differ by less than rounding may change places, and one at the end may be left out for
    another with the same score.
    """
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert len(one) == len(other)
        np.testing.assert_allclose(one.scores, other.scores, atol=_SCORE_TOLERANCE, rtol=_SCORE_TOLERANCE)
        assert len(set(one.ids)) == len(one.ids)
        if len(one):
            last = other.scores[-1] + 2 * _SCORE_TOLERANCE * max(1.0, abs(float(other.scores[-1])))
            assert {i for i, s in zip(other.ids, other.scores, strict=True) if s > last} <= set(one.ids)


def change_both(rng: np.random.Generator, step: int, backend: Backend, oracle: Backend) -> None:
    """Do the same random change to both."""
    ids = [f"i{i}" for i in rng.choice(60, size=int(rng.integers(1, 12)), replace=False)]
    condition: Filter = {"m": int(rng.integers(0, 4))}
    match int(rng.integers(0, 8)):
        case 0:
            assert backend.delete(ids=ids) == oracle.delete(ids=ids)
        case 1:
            assert backend.delete(filter=condition, ids=ids) == oracle.delete(filter=condition, ids=ids)
        case 2:
            assert backend.delete(filter=condition) == oracle.delete(filter=condition)
        case 3:
            backend.optimize()
        case _:
            documents = [Document(i, f"step {step}", {"m": int(rng.integers(0, 4)), "step": step}) for i in ids]
            vectors = rng.normal(size=(len(ids), DIMENSIONS)).astype(np.float32)
            backend.upsert(documents, vectors)
            oracle.upsert(documents, vectors)


def compare(rng: np.random.Generator, backend: Backend, oracle: Backend) -> None:
    """Ask both the same."""
    ids = [f"i{i}" for i in range(60)]
    assert backend.get(ids) == oracle.get(ids)
    assert backend.count() == oracle.count()
    for condition in (None, {"m": [0, 2]}, {"m": 1, "id": ids[:30]}):
        assert backend.count(condition) == oracle.count(condition)
        vectors, expected = backend.get_vectors(ids, filter=condition), oracle.get_vectors(ids, filter=condition)
        assert vectors.keys() == expected.keys()
        for i, vector in vectors.items():
            np.testing.assert_array_equal(vector, expected[i])
        queries = rng.normal(size=(int(rng.choice([1, 3, 16])), DIMENSIONS)).astype(np.float32)
        distances: tuple[Distance, ...] = ("cosine", "dot")
        for distance in distances:
            found = backend.search(queries, 6, distance=distance, filter=condition)
            agree(found, oracle.search(queries, 6, distance=distance, filter=condition))
