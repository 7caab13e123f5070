"""Datasets and documents: what goes in comes out, and what is wrong is refused whole."""

import json
import socket

import numpy as np
import pyarrow as pa
import pytest
from hub_client import code_of, fill, packed, unpacked, world

from deepmemory import VectorStore
from deepmemory.testing import Fault

ICE = {"id": "ice", "text": "Ice is frozen water.", "metadata": {"lang": "en", "page": 3}}
STEAM = {"id": "steam", "text": "Steam is hot water.", "metadata": {"lang": "de"}}
FINGERPRINT = {"name": "mine", "dimensions": 2, "probe": "AACAPwAAAAA="}
OTHER = {"name": "theirs", "dimensions": 2, "probe": "AAAAAAAAgD8="}


def add(client, dataset, *documents, vectors=None, **more):
    vectors = [[1.0, 0.0], [0.0, 1.0]][: len(documents)] if vectors is None else vectors
    return client.post(f"{dataset}/documents", {"documents": list(documents), "vectors": vectors}, **more)


def test_a_dataset_is_made_once_and_shows_what_it_is(client, dataset):
    name = dataset.rpartition("/")[2]
    assert client.put(dataset, {"embedder": None}).status_code == 200
    assert client.put(dataset, {}).status_code == 200
    record = client.get(dataset).json()
    assert (record["org"], record["name"], record["documents"], record["dimensions"]) == ("acme", name, 0, None)
    assert (record["distance"], record["embedder"], record["embeds"], record["layer"]) == ("cosine", None, False, None)
    assert record["capabilities"]["full_text"] is True
    add(client, dataset, ICE)
    assert client.get(dataset).json()["dimensions"] == 2
    assert code_of(client.put(dataset, {"distance": "dot"})) == (409, "conflict")
    assert name in [row["name"] for row in client.get("orgs/acme/datasets?limit=200").json()["datasets"]]
    assert client.delete(dataset).status_code == 204
    assert client.delete(dataset).status_code == 204
    assert code_of(client.get(dataset)) == (404, "not_found")


def test_datasets_are_listed_page_by_page(rival):
    for name in ("page-a", "page-b", "page-c"):
        rival.put(f"orgs/rival/datasets/{name}", {"embedder": None})
    names, cursor = [], ""
    while cursor is not None:
        page = rival.get("orgs/rival/datasets", params={"limit": 2, "cursor": cursor}).json()
        assert len(page["datasets"]) <= 2
        names += [row["name"] for row in page["datasets"]]
        cursor = page["next"]
    assert [name for name in names if name.startswith("page-")] == ["page-a", "page-b", "page-c"]
    assert names == sorted(names)


def test_an_embedder_is_pinned_once(client, dataset):
    theirs = {"name": "mine", "spec": None, "fingerprint": None}
    path = f"{dataset}-embedder"
    made = client.put(path, {"embedder": theirs}).json()
    assert made["embedder"] == theirs
    pinned = client.patch(path, {"embedder": {**theirs, "fingerprint": FINGERPRINT}})
    assert pinned.json()["embedder"]["fingerprint"] == FINGERPRINT
    assert client.patch(path, {"embedder": {**theirs, "fingerprint": FINGERPRINT}}).status_code == 200
    other = {"name": "theirs", "spec": None, "fingerprint": OTHER}
    assert code_of(client.patch(path, {"embedder": other})) == (422, "embedder_mismatch")
    assert code_of(client.put(path, {"embedder": other})) == (422, "embedder_mismatch")
    assert client.put(path, {"embedder": {**theirs, "fingerprint": FINGERPRINT}}).status_code == 200
    assert client.get(path).json()["embedder"]["fingerprint"] == FINGERPRINT
    assert code_of(client.patch(path, {"embedder": {**theirs, "fingerprint": {"name": "x"}}})) == (422, "input")


def test_where_nothing_is_said_the_embedder_is_the_local_one(client, dataset):
    made = client.put(f"{dataset}-local").json()
    assert made["embedder"]["spec"] == "local"


def test_documents_come_out_as_they_went_in(client, dataset):
    assert add(client, dataset, ICE, STEAM, vectors=packed([[0.6, 0.8], [0, 1]])).json() == {"ids": ["ice", "steam"]}
    got = client.post(f"{dataset}/documents/get", {"ids": ["steam", "no", "ice"], "vectors": True}).json()
    assert got["documents"] == [STEAM, None, ICE]
    vectors = dict(zip(got["vectors"]["ids"], unpacked(got["vectors"]["values"]), strict=True))
    np.testing.assert_array_equal(vectors["ice"], np.float32([0.6, 0.8]))
    assert set(vectors) == {"ice", "steam"}
    filtered = client.post(f"{dataset}/documents/get", {"ids": ["steam", "ice"], "filter": {"lang": "en"}}).json()
    assert filtered["documents"] == [None, ICE]
    bare = client.post(f"{dataset}/documents/get", {"ids": ["ice", "no"], "documents": False}).json()
    assert bare == {"documents": [{"id": "ice"}, None]}


def test_adding_again_replaces(client, dataset):
    add(client, dataset, ICE, STEAM)
    add(client, dataset, {"id": "ice", "text": "new"}, vectors=[[0.0, 1.0]])
    got = client.post(f"{dataset}/documents/get", {"ids": ["ice"], "vectors": True}).json()
    assert got["documents"] == [{"id": "ice", "text": "new", "metadata": {}}]
    assert client.post(f"{dataset}/documents/count").json() == {"count": 2}


def test_counting_and_deleting_by_ids_filters_and_all(client, dataset):
    add(client, dataset, ICE, STEAM)
    assert client.post(f"{dataset}/documents/count", {"filter": {"lang": "en"}}).json() == {"count": 1}
    assert client.post(f"{dataset}/documents/delete", {"ids": ["ice", "no"]}).json() == {"deleted": 1}
    assert client.post(f"{dataset}/documents/delete", {"filter": {"lang": "fr"}}).json() == {"deleted": 0}
    assert code_of(client.post(f"{dataset}/documents/delete", {})) == (422, "input")
    assert code_of(client.post(f"{dataset}/documents/delete", {"filter": {}})) == (422, "input")
    assert code_of(client.post(f"{dataset}/documents/delete", {"all": True, "ids": ["steam"]})) == (422, "input")
    assert client.post(f"{dataset}/documents/delete", {"all": True}).json() == {"deleted": 1}


def test_search_finds_what_a_local_store_finds(client, dataset, tmp_path):
    made = world(200, 20)
    fill(client, dataset, made)
    local = VectorStore(tmp_path / "store", embedder=None)
    local.add(made["texts"], ids=made["ids"], embeddings=made["vectors"])
    ours = client.post(f"{dataset}/search", {"vectors": packed(made["query_vectors"]), "k": 7}).json()
    theirs = local.search_many(k=7, embeddings=made["query_vectors"])
    assert ours["layer"] is None
    for result, hits in zip(ours["results"], theirs, strict=True):
        assert [(hit["id"], hit["score"], hit["text"]) for hit in result["hits"]] == [
            (hit.id, hit.score, hit.text) for hit in hits
        ]
    bare = client.post(f"{dataset}/search", {"vectors": packed(made["query_vectors"][:1]), "documents": False}).json()
    assert set(bare["results"][0]["hits"][0]) == {"id", "score"}
    words = client.post(f"{dataset}/search", {"queries": ["number 17"], "mode": "words", "k": 1}).json()
    assert words["results"][0]["hits"][0]["id"] == "doc-17"
    dot = client.post(f"{dataset}/search", {"vectors": packed(made["query_vectors"][:1]), "distance": "dot"}).json()
    best = (made["vectors"] @ made["query_vectors"][0]).argmax()
    assert dot["results"][0]["hits"][0]["id"] == f"doc-{best}"


def test_a_vector_of_zeros_finds_nothing_and_is_never_found(client, dataset):
    add(client, dataset, ICE, STEAM, vectors=[[0.0, 0.0], [1.0, 0.0]])
    found = client.post(f"{dataset}/search", {"vectors": [[1.0, 0.0], [0.0, 0.0]]}).json()["results"]
    assert [[hit["id"] for hit in result["hits"]] for result in found] == [["steam"], []]


WRONG_ADDS = [
    ({"documents": [ICE], "vectors": [[1.0, 0.0, 0.0]]}, "dimensions"),
    ({"documents": [ICE], "vectors": [[1.0, 0.0], [1.0, 0.0]]}, "expected 1 vectors"),
    ({"documents": [ICE, STEAM], "vectors": [[1.0, 0.0], [1.0]]}, "vectors[1]"),
    ({"documents": [ICE], "vectors": {"shape": [1, 2], "base64": "AAAA"}}, "bytes"),
    ({"documents": [ICE], "vectors": {"shape": [1, 2], "base64": "!!"}}, "base64"),
    ({"documents": [ICE], "vectors": {"shape": [2**31 - 1, 2**31 - 1], "base64": ""}}, "bytes"),
    ({"documents": [ICE], "vectors": packed([[np.nan, 1.0]])}, "NaN"),
    ({"documents": [ICE, ICE], "vectors": [[1.0, 0.0], [0.0, 1.0]]}, "used already"),
    ({"documents": [ICE, {"text": " "}], "vectors": [[1.0, 0.0], [0.0, 1.0]]}, "texts[1]"),
    ({"documents": [ICE, {"id": "", "text": "a"}], "vectors": [[1.0, 0.0], [0.0, 1.0]]}, "ids[1]"),
    ({"documents": [{"text": 7}], "vectors": [[1.0, 0.0]]}, "documents[0].text"),
    ({"documents": [{"txt": "a"}], "vectors": [[1.0, 0.0]]}, "documents[0].txt"),
    ({"documents": "ice"}, "documents"),
    ({"documents": [ICE]}, "can't embed"),
    ([], "the body"),
]


@pytest.mark.parametrize(("body", "said"), WRONG_ADDS)
def test_what_is_wrong_with_documents_is_said_and_nothing_is_stored(client, dataset, body, said):
    add(client, dataset, {"id": "first", "text": "first"})
    reply = client.post(f"{dataset}/documents", body)
    assert code_of(reply) == (422, "input")
    assert said in reply.text
    assert client.post(f"{dataset}/documents/count").json() == {"count": 1}


def test_all_problems_are_listed_at_once(client, dataset):
    documents = [{"id": "a", "text": ""}, {"id": "a", "text": "b"}, {"id": "", "text": "c"}]
    error = client.post(f"{dataset}/documents", {"documents": documents, "vectors": [[1.0]] * 3}).json()["error"]
    assert len(error["problems"]) == 3
    assert error["type"] == "InputError"


WRONG_SEARCHES = [
    {},
    {"k": 0, "vectors": [[1.0, 0.0]]},
    {"k": "3", "vectors": [[1.0, 0.0]]},
    {"k": 10**9, "vectors": [[1.0, 0.0]]},
    {"vectors": [[1.0, 0.0, 0.0]]},
    {"queries": ["a", "b"], "vectors": [[1.0, 0.0]]},
    {"queries": ["ice"]},
    {"vectors": [[1.0, 0.0]], "mode": "words"},
    {"queries": [""], "mode": "words"},
    {"vectors": [[1.0, 0.0]], "mode": "other"},
    {"vectors": [[1.0, 0.0]], "filter": ["a"]},
]


@pytest.mark.parametrize("body", WRONG_SEARCHES)
def test_searches_that_can_not_be_are_refused(client, dataset, body):
    add(client, dataset, ICE)
    assert code_of(client.post(f"{dataset}/search", body)) == (422, "input")
    asked = {"queries": ["a"], "mode": "words", "deep_memory": True}
    assert code_of(client.post(f"{dataset}/search", asked)) == (422, "capability")


def test_a_retried_add_without_ids_does_not_duplicate(client, dataset):
    documents = [{"text": "no id"}, {"text": "no id either"}]
    first = add(client, dataset, *documents, headers={"Idempotency-Key": "one"})
    again = add(client, dataset, *documents, headers={"Idempotency-Key": "one"})
    assert first.json() == again.json()
    assert client.post(f"{dataset}/documents/count").json() == {"count": 2}
    other = add(client, dataset, ICE, headers={"Idempotency-Key": "one"})
    assert code_of(other) == (422, "input")
    assert add(client, dataset, *documents, headers={"Idempotency-Key": "two"}).json() != first.json()
    assert add(client, dataset, *documents).status_code == 200
    assert client.post(f"{dataset}/documents/count").json() == {"count": 6}
    assert code_of(add(client, dataset, ICE, headers={"Idempotency-Key": "x" * 300})) == (422, "input")


def test_an_export_is_the_whole_dataset(client, dataset):
    made = world(3_000, 1)
    fill(client, dataset, made)
    table = pa.ipc.open_stream(client.get(f"{dataset}/export").content).read_all()
    assert table.column_names == ["id", "vector", "text", "metadata"]
    order = np.argsort(table.column("id").to_pylist())
    expected = np.argsort(made["ids"])
    vectors = np.stack(table.column("vector").to_pylist()).astype(np.float32)
    np.testing.assert_array_equal(vectors[order], made["vectors"][expected])
    ids = pa.ipc.open_stream(client.get(f"{dataset}/export?text=false&vectors=false").content).read_all()
    assert (ids.column_names, ids.num_rows) == (["id"], 3_000)
    reply = client.get(f"{dataset}/export?vectors=false", headers={"Accept": "application/x-ndjson"})
    lines = [json.loads(line) for line in reply.text.splitlines()]
    assert {line["id"]: line["text"] for line in lines} == dict(zip(made["ids"], made["texts"], strict=True))


def test_an_empty_dataset_has_an_export_too(client, dataset):
    assert pa.ipc.open_stream(client.get(f"{dataset}/export").content).read_all().num_rows == 0
    assert client.get(f"{dataset}/export", headers={"Accept": "application/x-ndjson"}).text == ""


def test_clearing_leaves_the_record_or_makes_another(client, dataset):
    add(client, dataset, ICE)
    client.put(f"{dataset}/state/ingest/a", content=b"a", headers={"Content-Type": "application/octet-stream"})
    cleared = client.post(f"{dataset}/clear").json()
    assert (cleared["documents"], cleared["dimensions"], cleared["distance"]) == (0, None, "cosine")
    assert client.get(f"{dataset}/state?folder=ingest").json() == {"blobs": []}
    assert add(client, dataset, ICE, vectors=[[1.0, 0.0, 0.0]]).status_code == 200
    record = {"distance": "dot", "embedder": {"name": "mine", "fingerprint": FINGERPRINT}}
    anew = client.post(f"{dataset}/clear", {"record": record}).json()
    assert (anew["distance"], anew["embedder"]["name"], anew["documents"]) == ("dot", "mine", 0)
    assert code_of(add(client, dataset, ICE, vectors=[[1.0, 0.0, 0.0]])) == (422, "input")


def test_blobs_of_clients_are_in_one_folder_and_nowhere_else(client, dataset):
    octets = {"Content-Type": "application/octet-stream"}
    assert client.put(f"{dataset}/state/ingest/a.gz", content=b"\0one", headers=octets).status_code == 204
    once = {**octets, "If-None-Match": "*"}
    assert client.put(f"{dataset}/state/ingest/a.gz", content=b"two", headers=once).status_code == 412
    assert client.put(f"{dataset}/state/ingest/b.gz", content=b"", headers=once).status_code == 204
    assert client.get(f"{dataset}/state?folder=ingest").json() == {"blobs": ["ingest/a.gz", "ingest/b.gz"]}
    assert client.get(f"{dataset}/state/ingest/a.gz").content == b"\0one"
    assert client.delete(f"{dataset}/state/ingest/a.gz").json() == {"deleted": True}
    assert client.delete(f"{dataset}/state/ingest/a.gz").json() == {"deleted": False}
    assert code_of(client.get(f"{dataset}/state/ingest/a.gz")) == (404, "not_found")
    for blob in ("deepmemory.json", "jobs/a.json", "ingest/../deepmemory.json", "ingest/a/b", "ingest/.a", "ingest/"):
        reply = client.put(f"{dataset}/state/{blob.replace('..', '%2e%2e')}", content=b"x", headers=octets)
        assert code_of(reply) in {(422, "input"), (404, "not_found")}, blob
    assert code_of(client.get(f"{dataset}/state?folder=jobs")) == (422, "input")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b'{"documents": [', b"[" * 5_000, b'{"documents": "\\ud800"}']
)
def test_what_is_no_json_is_a_bad_request(client, dataset, body):
    reply = client.http.post(f"{dataset}/documents", content=body, headers={"Content-Type": "application/json"})
    assert code_of(reply) == (400, "bad_request")


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "multipart/form-data; boundary=x", None])
def test_another_media_type_is_refused(client, dataset, kind):
    headers = {} if kind is None else {"Content-Type": kind}
    reply = client.http.post(f"{dataset}/search", content=b'{"vectors": [[1.0]]}', headers=headers)
    assert code_of(reply) == (415, "bad_request")


def test_an_address_that_is_none_and_a_method_that_is_none(client, dataset):
    assert code_of(client.get("nothing")) == (404, "not_found")
    assert code_of(client.get(f"{dataset}/search")) == (405, "bad_request")


def test_a_body_that_ends_too_early_changes_nothing(hub, secrets, client, dataset):
    host, port = hub.url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/{dataset}/documents HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {secrets['admin']}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + b'{"documents": [{"text": "half')
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1_000)
    assert client.post(f"{dataset}/documents/count").json() == {"count": 0}


def test_a_hub_embeds_where_it_can(endpoint, client, dataset):
    dataset += "-embeds"
    record = client.put(dataset, {"embedder": {"name": "openai:words", "spec": "openai:words"}}).json()
    assert record["embeds"] is True
    assert client.post(f"{dataset}/documents", {"documents": [ICE, STEAM]}).status_code == 200
    found = client.post(f"{dataset}/search", {"queries": ["frozen water"], "k": 1}).json()
    assert found["results"][0]["hits"][0]["id"] == "ice"
    assert client.get(dataset).json()["embedder"]["fingerprint"]["dimensions"] == 32
    vectors = client.post(f"{dataset}/embed", {"texts": ["frozen water"], "kind": "queries"}).json()["vectors"]
    again = client.post(f"{dataset}/search", {"vectors": vectors, "k": 1}).json()
    assert again["results"] == found["results"]
    endpoint.fail_next(Fault.http(400), Fault.http(400))
    assert code_of(client.post(f"{dataset}/search", {"queries": ["never asked"]})) == (502, "embedder")
    assert code_of(client.post(f"{dataset}/documents", {"documents": [{"text": "new"}]})) == (502, "embedder")
    assert client.post(f"{dataset}/documents/count").json() == {"count": 2}


def test_a_hub_that_can_not_embed_says_so(client, dataset):
    path = f"{dataset}-mine"
    client.put(path, {"embedder": {"name": "mine"}})
    for where, body in (
        ("documents", {"documents": [ICE]}),
        ("search", {"queries": ["a"]}),
        ("embed", {"texts": ["a"]}),
    ):
        reply = client.post(f"{path}/{where}", body)
        assert code_of(reply) == (422, "input")
        assert "its embedder mine is not one that this hub runs" in reply.text
