"""A table that grows: the graph and the other indexes are made and kept up, and answers stay what they were."""

import os
import time
from pathlib import Path

import lancedb
import numpy as np
import pytest

from deepmemory.backends import Backend, open_backend
from deepmemory.backends.exact import ExactBackend
from deepmemory.backends.lance import LanceBackend
from deepmemory.data import Document
from deepmemory.testing.backend_twins import agree

DIMENSIONS = 16
THRESHOLD = 1_000


def clustered(n: int, seed: int) -> tuple[list[Document], np.ndarray]:
    """Documents ``s<seed>-0...`` around 20 centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(20, DIMENSIONS))
    vectors = centres[rng.integers(0, 20, n)] + 0.5 * rng.normal(size=(n, DIMENSIONS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    documents = [Document(f"s{seed}-{i}", f"words of {i}", {"hundredth": i % 100, "seed": seed}) for i in range(n)]
    return documents, vectors.astype(np.float32)


def queries(n: int) -> np.ndarray:
    return clustered(n, seed=1_000)[1]


def indexes(path: Path) -> dict[str, str]:
    table = lancedb.connect(path).open_table("documents")
    return {config.columns[0]: config.index_type for config in table.list_indices()}


def graph_segments(path: Path) -> int | None:
    table = lancedb.connect(path).open_table("documents")
    return next((config.num_segments for config in table.list_indices() if config.columns == ["vector"]), None)


def recall(found: Backend, exact: Backend, k: int, **options: object) -> float:
    asked = queries(40)
    both = zip(found.search(asked, k, **options), exact.search(asked, k, **options), strict=True)  # type: ignore[arg-type]
    return float(np.mean([len(set(one.ids) & set(other.ids)) / len(other) for one, other in both]))


@pytest.fixture
def twins(tmp_path: Path) -> tuple[LanceBackend, ExactBackend]:
    lance, exact = LanceBackend(str(tmp_path), index_threshold=THRESHOLD), ExactBackend()
    for backend in (lance, exact):
        backend.upsert(*clustered(1_500, seed=0))
    return lance, exact


def test_the_graph_appears_at_the_threshold(tmp_path: Path) -> None:
    backend = LanceBackend(str(tmp_path), index_threshold=THRESHOLD)
    documents, vectors = clustered(THRESHOLD, seed=0)
    backend.upsert(documents[:-1], vectors[:-1])
    assert indexes(tmp_path) == {"text": "FTS"}
    backend.upsert(documents[-1:], vectors[-1:])
    assert indexes(tmp_path) == {"text": "FTS", "vector": "IvfHnswSq"}


def test_ids_get_an_index_from_ten_thousand_rows(tmp_path: Path) -> None:
    backend = open_backend(tmp_path, create=True)
    documents = [Document(str(i), "") for i in range(10_000)]
    backend.upsert(documents, np.ones((10_000, 2), dtype=np.float32))
    assert indexes(tmp_path) == {"text": "FTS", "id": "BTree"}
    assert backend.get(["7", "9999", "10000"]) == [documents[7], documents[9_999], None]
    backend.upsert([Document("7", "again"), Document("10000", "new")], np.ones((2, 2), dtype=np.float32))
    assert backend.count() == 10_001
    assert backend.get(["7", "10000"]) == [Document("7", "again"), Document("10000", "new")]


@pytest.mark.parametrize("k", [1, 10, 100])
def test_the_graph_finds_what_is_nearest(twins: tuple[LanceBackend, ExactBackend], k: int) -> None:
    assert recall(*twins, k) >= 0.98
    one_by_one = [twins[0].search(query[None], k)[0] for query in queries(10)]
    assert [len(set(a.ids) & set(b.ids)) for a, b in zip(one_by_one, twins[1].search(queries(10), k), strict=True)] >= [
        round(0.9 * k)
    ] * 10


def test_more_hits_than_a_graph_is_good_for_are_exact(twins: tuple[LanceBackend, ExactBackend]) -> None:
    for n_queries in (1, 12):
        asked = queries(n_queries)
        agree(twins[0].search(asked, 1_200), twins[1].search(asked, 1_200))


def test_dot_products_are_exact_beside_the_graph(twins: tuple[LanceBackend, ExactBackend]) -> None:
    long = [Document("long", "twice as long")], 2 * queries(1)
    for backend in twins:
        backend.upsert(*long)
    for n_queries in (1, 12):
        asked = queries(n_queries)
        found = twins[0].search(asked, 10, distance="dot")
        agree(found, twins[1].search(asked, 10, distance="dot"))
        assert found[0].ids[0] == "long"


def test_under_a_narrow_filter_and_after_deletions_k_hits_come_back(twins: tuple[LanceBackend, ExactBackend]) -> None:
    for backend in twins:
        assert backend.delete(filter={"hundredth": list(range(90))}) == 1_350
    assert all(len(ranking) == 150 for ranking in twins[0].search(queries(12), 200))
    for condition in ({"hundredth": 95}, {"hundredth": [91, 95]}, {"id": [f"s0-{i}" for i in range(90, 100)]}):
        assert recall(*twins, 10, filter=condition) == 1.0
        assert len(twins[0].search(queries(1), 10, filter=condition)[0]) == 10


def test_copies_that_a_graph_can_not_leave_leave_no_hits_out(tmp_path: Path) -> None:
    # A hundred copies are each other's nearest neighbours, so no edge leads from them to anything else.
    originals = np.random.default_rng(1).normal(size=(50, 64)).astype(np.float32)
    backend = LanceBackend(str(tmp_path), index_threshold=THRESHOLD)
    backend.upsert([Document(str(i), "") for i in range(5_000)], np.repeat(originals, 100, axis=0))
    asked = np.random.default_rng(2).normal(size=(20, 64)).astype(np.float32)
    for n_queries in (1, 20):
        assert [len(ranking) for ranking in backend.search(asked[:n_queries], 400)] == [400] * n_queries


def test_new_and_changed_rows_are_found_at_once(twins: tuple[LanceBackend, ExactBackend]) -> None:
    lance, _ = twins
    new = queries(3)
    lance.upsert([Document("new", ""), Document("s0-3", "moved"), Document("s0-4", "moved")], new)
    for i, expected in enumerate(["new", "s0-3", "s0-4"]):
        assert lance.search(new[i : i + 1], 1)[0].ids == (expected,)


def test_graphs_for_new_rows_are_added_and_then_made_one(tmp_path: Path) -> None:
    lance, exact = LanceBackend(str(tmp_path), index_threshold=THRESHOLD), ExactBackend()
    segments = []
    for seed in range(10):
        batch = clustered(1_000 if seed == 0 else 300, seed)
        for backend in (lance, exact):
            backend.upsert(*batch)
        segments.append(graph_segments(tmp_path) or 0)
    most = segments.index(max(segments))
    assert segments[most] > 2  # appended
    assert min(segments[most:]) == 1  # and rebuilt
    assert recall(lance, exact, 10) >= 0.98


def test_optimize_leaves_one_graph_over_all_rows(twins: tuple[LanceBackend, ExactBackend], tmp_path: Path) -> None:
    for backend in twins:
        backend.upsert(*clustered(400, seed=1))
    assert graph_segments(tmp_path) == 2
    twins[0].optimize()
    assert graph_segments(tmp_path) == 1
    assert recall(*twins, 10) >= 0.98


def test_many_small_writes_are_compacted(tmp_path: Path) -> None:
    backend = open_backend(tmp_path, create=True)
    for i in range(40):
        backend.upsert([Document(str(i), "")], np.ones((1, 2), dtype=np.float32))
    fragments = lancedb.connect(tmp_path).open_table("documents").stats()["fragment_stats"]["num_fragments"]  # type: ignore[index]
    assert fragments < 20
    assert backend.count() == 40


def test_an_index_made_before_serves_after_opening_again(tmp_path: Path) -> None:
    documents, vectors = clustered(1_200, seed=0)
    LanceBackend(str(tmp_path), index_threshold=THRESHOLD).upsert(documents, vectors)
    again, exact = open_backend(tmp_path, create=False), ExactBackend()
    exact.upsert(documents, vectors)
    assert recall(again, exact, 10) >= 0.98


# Vectors that label memory asks for again and again


def settle(path: Path) -> None:
    """Make the last commit look some seconds old, as it is in a store that is mostly read."""
    earlier = time.time_ns() - 10_000_000_000
    os.utime(path / "documents.lance" / "_versions", ns=(earlier, earlier))


def test_vectors_asked_for_again_are_not_read_again(tmp_path: Path) -> None:
    backend = open_backend(tmp_path, create=True)
    documents, vectors = clustered(50, seed=0)
    backend.upsert(documents, vectors)
    settle(tmp_path)
    ids = [document.id for document in documents[:20]]
    first = backend.get_vectors([*ids, "unknown"])
    for file in (tmp_path / "documents.lance" / "data").iterdir():
        file.unlink()
    again = backend.get_vectors(["unknown", *ids[::-1]])
    assert first.keys() == again.keys() == set(ids)
    for document_id, vector in zip(ids, vectors, strict=False):
        np.testing.assert_array_equal(again[document_id], vector)
    assert backend.get_vectors(ids, filter={"hundredth": [3, 5]}).keys() == {"s0-3", "s0-5"}
    with pytest.raises(ValueError, match="read-only"):
        again[ids[0]][0] = 1


def test_any_commit_by_anybody_is_seen_by_who_asked_before(tmp_path: Path) -> None:
    backend, other = open_backend(tmp_path, create=True), open_backend(tmp_path, create=True)
    documents, vectors = clustered(10, seed=0)
    backend.upsert(documents, vectors)
    settle(tmp_path)
    ids = [document.id for document in documents]
    assert len(backend.get_vectors([*ids, "later"])) == 10
    other.delete(ids=ids[:1])
    assert backend.get_vectors(ids[:1]) == {}
    settle(tmp_path)
    other.upsert([Document("later", "", {"seed": 5}), documents[1]], vectors[2:4])
    for _ in range(2):  # as it is read, and as it is remembered
        found = backend.get_vectors([*ids[:2], "later"])
        assert found.keys() == {ids[1], "later"}
        np.testing.assert_array_equal(found[ids[1]], vectors[3])
        assert backend.get_vectors(["later"], filter={"seed": 5}).keys() == {"later"}
        settle(tmp_path)
    other.drop()
    assert backend.get_vectors(ids) == {}
    other.upsert(documents[:2], vectors[4:6])
    settle(tmp_path)
    np.testing.assert_array_equal(backend.get_vectors(ids)[ids[0]], vectors[4])
