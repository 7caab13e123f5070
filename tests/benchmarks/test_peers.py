"""The comparison with the peers: its splits and its figures of ours are those of `deepmemory benchmark`."""

import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.peers.measure import METRICS
from benchmarks.peers.peers import PEERS, by_key
from benchmarks.peers.problem import load
from benchmarks.peers.report import write
from benchmarks.peers.runner import Results, Task, run
from benchmarks.peers.words import fuse

from deepmemory.benchmark import run_benchmark
from deepmemory.data import seen_documents

N_DOCUMENTS, N_QUERIES, DIM = 60, 90, 16


@pytest.fixture(autouse=True)
def _cache_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benchmarks.peers.work.CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries that are their documents, turned by a rotation that a layer can learn."""
    folder = tmp_path_factory.mktemp("collections") / "tiny"
    folder.mkdir()
    rng = np.random.default_rng(5)
    documents = rng.normal(size=(N_DOCUMENTS, DIM))
    wanted = rng.integers(N_DOCUMENTS, size=N_QUERIES)
    turn, _ = np.linalg.qr(np.eye(DIM) + 0.35 * rng.normal(size=(DIM, DIM)))
    queries = documents[wanted] @ turn + 0.4 * rng.normal(size=(N_QUERIES, DIM))
    arrays = {
        name: (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        for name, rows in (("documents", documents), ("queries", queries))
    }
    np.savez(folder / "embeddings.npz", **arrays)
    corpus = [{"_id": f"d{row}", "title": "", "text": f"word{row} and common words"} for row in range(N_DOCUMENTS)]
    asked = [{"_id": f"q{row}", "text": f"where is word{wanted[row]}"} for row in range(N_QUERIES)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(one) + "\n" for one in corpus))
    (folder / "queries.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
    lines = [f"q{row}\td{document}\t1" for row, document in enumerate(wanted.tolist())]
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("split", ["query", "document"])
def test_ours_is_what_the_benchmark_command_measures(folder: Path, split, tmp_path: Path) -> None:
    expected = run_benchmark(folder, split=split, seed=3, words=False)

    task = Task(folder, split, seed=3, size=None, peers=by_key(["ours"]), searched=False)
    (line,) = run([task], Results(tmp_path / "results.jsonl"))

    assert (line["n_train"], line["n_test"]) == (expected.n_train, expected.overall["ndcg@10"].n_queries)
    for name in METRICS:
        assert line["metrics"][name] == expected.overall[name].as_dict()


def test_no_test_document_is_relevant_in_training_where_settings_are_chosen_for_a_split_by_document(
    folder: Path,
) -> None:
    problem = load(folder, "document", seed=1)
    inner = problem.held_out()

    for one in (problem, inner):
        trained = {document for pairs in one.train.relevance for document, _ in pairs}
        assert not seen_documents(trained, one.test.qrels).any()
    assert set(inner.train.positions) | set(inner.test.positions) <= set(problem.train.positions)


def test_a_learning_curve_measures_on_the_same_test_queries(folder: Path) -> None:
    whole, cut = load(folder, "query", seed=0), load(folder, "query", seed=0, size=25)

    assert len(cut.train) == 25
    assert set(cut.train.positions) < set(whole.train.positions)
    assert np.array_equal(cut.test.positions, whole.test.positions)


def test_what_is_measured_is_not_measured_again_also_after_a_line_was_cut_off(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    tasks = [Task(folder, "query", 0, None, by_key(["raglite", "bm25", "rrf"]), searched) for searched in (False, True)]
    first = list(run(tasks, Results(file)))
    assert [(line["peer"], line["searched"]) for line in first] == [
        ("raglite", False),
        ("bm25", False),
        ("rrf", False),
        ("raglite", True),
        ("rrf", True),
    ]
    assert list(run(tasks, Results(file))) == []

    file.write_text(file.read_text()[:-40])
    again = list(run(tasks, Results(file)))
    assert [(line["peer"], line["searched"]) for line in again] == [("rrf", True)]
    assert list(run(tasks, Results(file))) == []

    write(Results(file).lines, tmp_path)
    page = (tmp_path / "peers.md").read_text()
    assert "| BM25 |" in page
    assert "RAGLite, closed form, searched" in page
    assert (tmp_path / "figures" / "peers-by-query.svg").read_text().startswith("<svg")


def test_words_find_what_they_name(folder: Path, tmp_path: Path) -> None:
    task = Task(folder, "query", 0, None, by_key(["bm25"]), searched=False)
    (line,) = run([task], Results(tmp_path / "results.jsonl"))

    assert line["metrics"]["recall@1"]["trained"] == 1.0


def test_rank_fusion_adds_reciprocal_ranks() -> None:
    nearest, found = np.array([[0, 1, 2]]), np.array([[3, 1, -1]])

    assert fuse(nearest, found, 4, k=60, weight=0.5).tolist() == [[1, 0, 3]]
    assert fuse(nearest, found, 4, k=60, weight=0.0).tolist() == [[0, 1, 2]]


def test_the_grid_of_settings_holds_the_defaults_once() -> None:
    for peer in PEERS:
        candidates = peer.candidates()
        assert candidates[0] == dict(peer.defaults)
        assert len({json.dumps(one, sort_keys=True) for one in candidates}) == len(candidates)
