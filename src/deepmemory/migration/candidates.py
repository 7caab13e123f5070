"""The maps that are compared, from the plainest to the one that looks at rankings.

With new vectors ``X (n, new_dim)`` and old vectors ``D (n, old_dim)`` of the same texts, both about their means:

``rotation``
    Orthogonal Procrustes (Schönemann 1966): the rotation ``R`` that brings ``X R`` nearest to ``D``.
``affine``
    Ridge regression of ``D`` on ``X``: where the old model would have put a text. These two are what Drift-Adapter
    (Vejendla, EMNLP 2025) and most of the literature on aligning spaces learn, and they answer another question than a
    search asks: a query need not be where the old model would put it, it must rank the old documents as the new model
    would rank them re-embedded.
``scores``
    So ask for the scores. Re-embedding would score document ``d`` by ``q . x``, and what is stored is ``d``. The best
    linear estimate of ``x`` from ``d`` is ``c + d M`` with ``M`` the ridge regression of ``X`` on ``D``, the other way
    round; then ``q . x = q . c + (q M') . d``. The first term is the same for all documents, so searching the stored
    vectors with ``q M'`` ranks by the best linear estimate of the new model's score. It is learned from documents and
    applied to documents: queries have no part in it, and may differ from documents as they like. The ridge shrinks
    towards the best scaled rotation rather than towards zero, so that few pairs lead to the rotation.
``ranking``
    That estimate is the best on average over all documents; a search cares for the few that could come first. So,
    beginning from ``scores``, minimise the cross-entropy between the new model's softmax over the documents of the
    pairs and the map's, over queries (those given, which need no old vector, and the texts themselves). The logits are
    linear in the map, so the problem is convex; ``penalty`` keeps it near its beginning.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory.migration.model import Affine
from deepmemory.training.softmax import softmax_in_place

__all__ = ["CLOSED_FORMS", "RANKINGS", "Candidate", "Kind", "Pairs", "affine_maps", "closed_forms", "ranking_map"]

Matrix: TypeAlias = NDArray[np.float32]
Kind: TypeAlias = Literal["rotation", "affine", "scores", "ranking"]

SHARPNESS = 0.5
"""Temperature of the softmax, in standard deviations of a query's scores over the documents: the first some per cent
of the ranking have nearly all the weight."""

MAX_QUERIES = 1_500
"""Of the ranking's softmax, given queries first: the time grows with their number."""

_STEPS = 20
_PENALTY_UNIT = 1e-3


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to make the map.

    Attributes:
        kind: see the module.
        penalty: how much it is shrunk; None for a rotation, which has nothing to shrink.
    """

    kind: Kind
    penalty: float | None = None

    def __str__(self) -> str:
        return self.kind if self.penalty is None else f"{self.kind} {self.penalty:g}"


CLOSED_FORMS = (
    Candidate("rotation"),
    *(Candidate("affine", penalty) for penalty in (0.03, 0.3)),
    *(Candidate("scores", penalty) for penalty in (10.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)),
)
"""The most cautious first. Penalties are relative to the mean variance of a dimension."""

RANKINGS = tuple(Candidate("ranking", penalty) for penalty in (10.0, 1.0))


@dataclass(frozen=True, eq=False)
class Pairs:
    """The same texts by both models, and queries by the new one.

    Attributes:
        new: ``(n, new_dim)`` float32, unit norm.
        old: ``(n, old_dim)`` float32, as they are stored.
        queries: ``(n_queries, new_dim)`` float32, unit norm; none is fine.
    """

    new: Matrix
    old: Matrix
    queries: Matrix

    def only(self, rows: NDArray[np.int64], query_rows: NDArray[np.int64]) -> "Pairs":
        """Some of them."""
        return Pairs(self.new[rows], self.old[rows], self.queries[query_rows])


def closed_forms(pairs: Pairs) -> dict[Candidate, Affine]:
    """All of `CLOSED_FORMS`, from one decomposition of each side."""
    new_mean, old_mean = pairs.new.mean(axis=0), pairs.old.mean(axis=0)
    new, old = pairs.new - new_mean, pairs.old - old_mean
    rotation, strength = _rotation(old, new)
    made = {Candidate("rotation"): _onto(rotation.T, new_mean, old_mean)}
    affine = _ridge(new, old, None)
    scores = _ridge(old, new, rotation * strength)
    for candidate in CLOSED_FORMS:
        if candidate.kind == "affine":
            made[candidate] = _onto(affine(candidate.penalty or 0), new_mean, old_mean)
        elif candidate.kind == "scores":
            made[candidate] = _scoring(scores(candidate.penalty or 0).T)
    return made


def affine_maps(pairs: Pairs) -> dict[Candidate, Affine]:
    """The maps to where the old model would have put a text, for documents that are added later."""
    new_mean, old_mean = pairs.new.mean(axis=0), pairs.old.mean(axis=0)
    new, old = pairs.new - new_mean, pairs.old - old_mean
    rotation, strength = _rotation(new, old)
    ridge = _ridge(new, old, rotation * strength)
    penalties = (10.0, 1.0, 0.3, 0.1, 0.03, 0.01)
    made = {Candidate("rotation"): _onto(rotation, new_mean, old_mean)}
    return made | {Candidate("affine", p): _onto(ridge(p), new_mean, old_mean) for p in penalties}


def ranking_map(pairs: Pairs, near: Affine, penalty: float, *, begin: Affine, check: Callable[[], None]) -> Affine:
    """Improve a map so that it ranks the documents of the pairs as the new model does.

    Args:
        pairs: to learn from.
        near: what to stay near to.
        penalty: how near.
        begin: where to begin; it changes how long it takes, and little else.
        check: called at each step; what it raises stops the work.
    """
    from scipy.optimize import minimize  # a third of a second, which only those who migrate need pay

    queries = np.concatenate([pairs.queries, pairs.new])[:MAX_QUERIES]
    own = np.arange(len(pairs.queries), len(queries))  # a text is no answer to itself
    documents = pairs.old - pairs.old.mean(axis=0)
    teacher = queries @ pairs.new.T
    temperature = SHARPNESS * float(np.median(teacher.std(axis=1)))
    wanted: Matrix = _without_own(teacher, own, len(pairs.queries)) / np.float32(temperature)
    softmax_in_place(wanted)
    weight = penalty * _PENALTY_UNIT * float(documents.var(axis=0).sum()) / temperature**2
    n, centre = len(queries), near.matrix.astype(np.float64)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        check()
        matrix = flat.reshape(centre.shape)
        logits = (queries @ matrix.astype(np.float32)) @ documents.T / np.float32(temperature)
        logits = _without_own(logits, own, len(pairs.queries))
        logits -= logits.max(axis=1, keepdims=True)
        normaliser = np.log(np.exp(logits).sum(axis=1, keepdims=True))
        moved = matrix - centre
        cross_entropy = float(normaliser.sum(dtype=np.float64)) - float(np.vdot(wanted, logits))
        error = np.exp(logits - normaliser) - wanted
        gradient = queries.T @ (error @ documents) / np.float32(temperature)
        total = (cross_entropy + weight * float(np.vdot(moved, moved))) / n
        return total, ((gradient + 2 * weight * moved) / n).ravel()

    first = begin.matrix.astype(np.float64).ravel()
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    return _scoring(found.x.reshape(centre.shape))


_NEVER = np.float32(-1e4)
"""Stands for minus infinity in a softmax, where a product with a probability of 0 must be 0."""


def _without_own(scores: Matrix, own: NDArray[np.int64], first: int) -> Matrix:
    scores[own, own - first] = _NEVER
    return scores


def _rotation(source: Matrix, target: Matrix) -> tuple[Matrix, np.float32]:
    """The orthogonal map from one to the other, and the factor that fits best with it.

    Between spaces of different dimensions its rows, or its columns, are orthonormal.
    """
    from scipy.linalg import svd

    left, values, right = svd(source.T @ target, full_matrices=False, check_finite=False)
    size = float(np.vdot(source, source))
    return left @ right, np.float32(values.sum() / size if size else 0)


def _ridge(source: Matrix, target: Matrix, around: Matrix | None) -> Callable[[float], Matrix]:
    """Regression of one on the other for any penalty, shrunk towards ``around``, or to zero."""
    from scipy.linalg import eigh

    gram = (source.T @ source).astype(np.float64)
    rest = target if around is None else target - source @ around
    values, vectors = eigh(gram, check_finite=False)
    values = np.maximum(values, 0)
    projected = vectors.T @ (source.T @ rest)
    unit = float(values.mean()) or 1.0

    def solved(penalty: float) -> Matrix:
        matrix = vectors @ (projected / (values + penalty * unit)[:, None])
        return (matrix if around is None else matrix + around).astype(np.float32)

    return solved


def _onto(matrix: Matrix, new_mean: Matrix, old_mean: Matrix) -> Affine:
    """A map of vectors about their means, as one of vectors as they come."""
    return Affine(np.ascontiguousarray(matrix), old_mean - new_mean @ matrix)


def _scoring(matrix: NDArray[np.floating]) -> Affine:
    """A map of queries of which only the scores count: what a mean adds is the same for every document."""
    return Affine(np.ascontiguousarray(matrix, dtype=np.float32), np.zeros(matrix.shape[1], dtype=np.float32))
