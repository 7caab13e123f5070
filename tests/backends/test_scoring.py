"""Exact ranking: the definition, whatever the batching, the order of documents and the ties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepmemory.backends import Distance, Ranking
from deepmemory.backends.scoring import Matrix, rank

# Few different values, so that equal scores are common and sums are exact.
SMALL = st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0])


def matrices(rows: st.SearchStrategy[int]) -> st.SearchStrategy[np.ndarray]:
    return rows.flatmap(lambda n: hnp.arrays(np.float32, (n, 3), elements=SMALL))


def numbered(vectors: np.ndarray) -> Matrix:
    return Matrix.of([f"{row:04}" for row in range(len(vectors))], vectors)


def by_definition(vectors: np.ndarray, query: np.ndarray, k: int, distance: Distance) -> list[tuple[float, str]]:
    scored = []
    for row, vector in enumerate(vectors.astype(np.float64)):
        score = float(sum(a * b for a, b in zip(vector, query.astype(np.float64), strict=True)))
        if distance == "cosine":
            length = float(np.sqrt((vector**2).sum()) * np.sqrt((query.astype(np.float64) ** 2).sum()))
            if length == 0:
                continue
            score /= length
        scored.append((-float(np.float32(score)), f"{row:04}"))
    return sorted(scored)[:k]


def pairs(ranking: Ranking) -> list[tuple[float, str]]:
    return [(-float(score), i) for score, i in zip(ranking.scores, ranking.ids, strict=True)]


@settings(max_examples=60, deadline=None)
@given(
    matrices(st.integers(1, 30)), matrices(st.integers(1, 4)), st.integers(1, 12), st.sampled_from(["cosine", "dot"])
)
def test_rank_is_the_definition(vectors: np.ndarray, queries: np.ndarray, k: int, distance: Distance) -> None:
    for query, ranking in zip(queries, rank(numbered(vectors), queries, k, distance=distance), strict=True):
        assert pairs(ranking) == by_definition(vectors, query, k, distance)


@pytest.mark.parametrize("distance", ["cosine", "dot"])
def test_many_documents_and_queries_are_ranked_in_blocks_that_do_not_show(distance: Distance) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(70_000, 4)).astype(np.float32)  # more than two blocks of documents
    vectors[[5, 40_000, 69_999]] = [3, 1, 4, 1]  # equal ones in different blocks
    queries = rng.normal(size=(300, 4)).astype(np.float32)  # more than one block of queries
    queries[0] = [3, 1, 4, 1]
    documents = Matrix.of([f"{row:06}" for row in range(len(vectors))], vectors)
    together = rank(documents, queries, 10, distance=distance)
    if distance == "cosine":
        assert together[0].ids[:3] == ("000005", "040000", "069999")
    for i in (0, 7, 255, 256, 299):
        (alone,) = rank(documents, queries[i : i + 1], 10, distance=distance)
        assert alone.ids == together[i].ids
        np.testing.assert_array_equal(alone.scores, together[i].scores)


@pytest.mark.parametrize("n_documents", [1, 7, 100, 1_003])
def test_equal_vectors_have_equal_scores_wherever_they_are(n_documents: int) -> None:
    # A matrix product sums the last columns of a block in another order than the first.
    vector = np.random.default_rng(1).normal(size=384).astype(np.float32)
    vectors = np.tile(vector, (n_documents, 1))
    query = np.random.default_rng(2).normal(size=(1, 384)).astype(np.float32)
    (ranking,) = rank(numbered(vectors), query, 10, distance="cosine")
    assert ranking.ids == tuple(f"{row:04}" for row in range(min(10, n_documents)))
    assert len(set(ranking.scores.tolist())) == 1


def test_documents_without_a_direction_do_not_push_out_others() -> None:
    vectors = np.zeros((10, 2), dtype=np.float32)
    vectors[8] = [-1, 0]
    vectors[9] = [-1, 0.5]
    (ranking,) = rank(numbered(vectors), np.array([[1, 0]], dtype=np.float32), 3, distance="cosine")
    assert ranking.ids == ("0009", "0008")
