"""A dataset of a hub whose documents are in somebody's database: searched and trained by clients, changed by none."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import lancedb
import numpy as np
import pytest
from hub_client import Client, code_of, packed

from deepmemory import ReadOnlyError, VectorStore
from deepmemory.cli.ending import run

N, DIMENSIONS = 40, 8


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("database") / "private-lancedb"
    vectors = np.random.default_rng(0).normal(size=(N, DIMENSIONS))
    rows = [{"id": f"d{i}", "text": f"text {i}", "vector": v.tolist(), "n": i % 3} for i, v in enumerate(vectors)]
    lancedb.connect(folder).create_table("chunks", rows)
    return folder


@pytest.fixture
def attach(hub, secrets, capsys):
    """Runs the operator's command on the hub's machine; gives what it printed, or its error."""

    def command(place: Path, name: str) -> dict:
        code = run(["attach", str(place), "--dataset", name, "--hub-data", str(hub.data), "--json"])
        said = capsys.readouterr()
        return json.loads(said.out) if code == 0 else {"error": said.err}

    return command


@pytest.fixture
def client(hub, secrets, connect) -> Client:
    return connect(hub, secrets["admin"])


@pytest.fixture
def handbook(attach, client, database) -> str:
    """The address of the dataset that is attached."""
    attach(database, "acme/attached-handbook")  # once; later it is there already
    return "orgs/acme/datasets/attached-handbook"


@pytest.fixture
def store(hub, secrets, handbook, monkeypatch) -> Iterator[VectorStore]:
    monkeypatch.setenv("DEEPMEMORY_HUB_URL", hub.url)
    path = "hub://acme/attached-handbook"
    with VectorStore(path, embedder=None, token=secrets["write"], create=False) as store:
        yield store


def listed(client) -> dict[str, dict]:
    rows = client.get("orgs/acme/datasets", params={"limit": 200}).json()["datasets"]
    return {row["name"]: row for row in rows}


def test_clients_search_filter_and_train(store, client, handbook):
    row = listed(client)["attached-handbook"]
    assert (row["documents"], row["dimensions"], row["embedder"]) == (N, DIMENSIONS, None)
    vectors = np.random.default_rng(0).normal(size=(N, DIMENSIONS)).astype(np.float32)
    found = store.search_many(embeddings=vectors[:2], k=3, filter={"n": [0, 1]})
    assert [hits[0].id for hits in found] == ["d0", "d1"]
    assert store.count({"n": 0}) == 14
    assert len(list(store.documents())) == N
    queries, relevance = [f"q{i}" for i in range(N)], [[(f"d{i}", 1.0)] for i in range(N)]
    job = store.deep_memory.train(queries, relevance, embeddings=vectors + 0.1, wait=True)
    assert store.deep_memory.status(job).state == "completed"


def test_every_change_is_refused_and_the_database_is_not_named(client, handbook, database):
    document = {"documents": [{"id": "new", "text": "new"}], "vectors": packed(np.ones((1, DIMENSIONS)))}
    before = {path: path.read_bytes() for path in database.rglob("*") if path.is_file()}
    for reply in (
        client.post(f"{handbook}/documents", document),
        client.post(f"{handbook}/documents/delete", {"ids": ["d1"]}),
        client.post(f"{handbook}/documents/delete", {"all": True}),
        client.post(f"{handbook}/optimize"),
        client.post(f"{handbook}/clear"),
    ):
        assert code_of(reply) == (409, "read_only")
        assert "private" not in reply.text
    assert {path: path.read_bytes() for path in database.rglob("*") if path.is_file()} == before


def test_a_client_of_ours_raises_what_a_folder_raises(store):
    with pytest.raises(ReadOnlyError, match="a database that the hub's operator attached"):
        store.add(["new"], embeddings=np.ones((1, DIMENSIONS)))
    with pytest.raises(ReadOnlyError):
        store.delete(["d1"])


def test_what_the_operator_gets_wrong(attach, handbook, hub, database):
    assert "there is a dataset acme/attached-handbook already" in attach(database, "acme/attached-handbook")["error"]
    assert "there is no organisation nobody" in attach(database, "nobody/handbook")["error"]
    assert "is named ORG/NAME" in attach(database, "handbook")["error"]
    folders = {path.name for path in (hub.data / "datasets").iterdir()}
    assert "found nothing at" in attach(database / "none", "acme/other")["error"]
    assert {path.name for path in (hub.data / "datasets").iterdir()} == folders


def test_a_database_that_goes_away_takes_nothing_else_with_it(attach, handbook, client, tmp_path):
    lancedb.connect(tmp_path / "private").create_table("t", [{"id": "a", "vector": [1.0, 0.0]}])
    assert attach(tmp_path / "private", "acme/attached-gone")["documents"] == 1
    shutil.rmtree(tmp_path / "private")
    rows = listed(client)
    assert (rows["attached-gone"]["documents"], rows["attached-handbook"]["documents"]) == (None, N)
    gone = "orgs/acme/datasets/attached-gone"
    reply = client.post(f"{gone}/search", {"vectors": packed([[1.0, 0.0]])})
    assert code_of(reply) == (503, "unavailable")
    assert str(tmp_path) not in reply.text
    assert client.delete(gone).status_code == 204
    assert "attached-gone" not in listed(client)
