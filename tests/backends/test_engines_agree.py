"""The same documents, queries and seed on every engine: the same layer, to the byte, and the same recall with it."""

import secrets
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from engine_servers import ChromaServer

from deepmemory import VectorStore
from deepmemory.artifacts import LayerInfo, encode_layer
from deepmemory.retrieval import retrieve

DIMENSIONS, N_DOCUMENTS, N_QUERIES = 24, 400, 160
MOST_APART = 0.005  # half a point of recall


def world() -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Documents, queries that a planted map turned away from theirs, and the document of each query."""
    rng = np.random.default_rng(3)
    documents = rng.normal(size=(N_DOCUMENTS, DIMENSIONS))
    turned = np.eye(DIMENSIONS) + 0.35 * rng.normal(size=(DIMENSIONS, DIMENSIONS))
    wanted = rng.integers(N_DOCUMENTS, size=2 * N_QUERIES)
    queries = (documents[wanted] + 0.4 * rng.normal(size=(2 * N_QUERIES, DIMENSIONS))) @ turned
    documents, queries = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (documents, queries))
    return documents.astype(np.float32), queries.astype(np.float32), wanted.tolist()


def learned(path: str) -> tuple[bytes, float, float]:
    """What a new store at a path learns: the layer's bytes, and recall@10 of other queries without and with it."""
    documents, queries, wanted = world()
    ids = [f"d{row:04}" for row in range(N_DOCUMENTS)]
    with VectorStore(path, embedder=None) as store:
        store.add([f"text of {id}" for id in ids], ids=ids, embeddings=documents)
        relevance = [[(ids[row], 1.0)] for row in wanted[:N_QUERIES]]
        asked = [f"query {row}" for row in range(N_QUERIES)]
        store.deep_memory.train(asked, relevance, embeddings=queries[:N_QUERIES], words=False, seed=5, wait=True)
        layer = store.layer
        assert layer is not None
        assert not layer.is_identity
        recalls = []
        for used in (None, layer):
            rankings = retrieve(store.backend, queries[N_QUERIES:], 10, layer=used)
            found = [ids[row] in ranking.ids for row, ranking in zip(wanted[N_QUERIES:], rankings, strict=True)]
            recalls.append(float(np.mean(found)))
    info = LayerInfo("v1", DIMENSIONS, layer.distance, None, "", {}, created="")
    return encode_layer(layer, info), recalls[0], recalls[1]


@pytest.fixture(scope="module")
def exactly() -> tuple[bytes, float, float]:
    return learned("memory://")


PATHS: dict[str, Callable[[pytest.FixtureRequest, Path], str]] = {
    "lance": lambda request, folder: str(folder / "store"),
    "pgvector": lambda request, folder: request.getfixturevalue("own_url"),
    "chroma": lambda request, folder: f"chroma://{folder}/vectors/docs",
    "qdrant": lambda request, folder: f"qdrant://{folder}/vectors/docs",
    # milvus-lite writes once more when the process ends, which would bring a folder back that was removed before.
    "milvus": lambda request, folder: f"milvus://{request.getfixturevalue('tmp_path')}/vectors.db/docs",
}


@pytest.mark.parametrize("engine", PATHS)
def test_engines_agree(
    engine: str,
    request: pytest.FixtureRequest,
    in_memory_folder: Path,
    exactly: tuple[bytes, float, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEEPMEMORY_STATE", str(in_memory_folder / "state"))
    layer, without, trained = learned(PATHS[engine](request, in_memory_folder))
    assert layer == exactly[0]
    assert abs(without - exactly[1]) <= MOST_APART
    assert abs(trained - exactly[2]) <= MOST_APART
    assert trained > without + 0.1


def test_a_store_on_a_server_is_found_again_with_its_layer(
    chroma: ChromaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPMEMORY_STATE", str(tmp_path))
    path = f"{chroma.url}/docs-{secrets.token_hex(6)}"
    _, _, trained = learned(path)
    _, queries, wanted = world()
    with VectorStore(f"{path}/", create=False) as again:
        found = again.search_many(embeddings=queries[N_QUERIES:], k=10, deep_memory=True)
        right = [f"d{row:04}" in [hit.id for hit in hits] for row, hits in zip(wanted[N_QUERIES:], found, strict=True)]
        assert np.mean(right) == trained
        assert again.search(embedding=queries[0], k=1)[0].text.startswith("text of d")
    assert len(list(tmp_path.iterdir())) == 1
