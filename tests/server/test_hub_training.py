"""Trainings, evaluations and layers over HTTP: what a local store does, with the same results."""

import json
import threading

import numpy as np
import pytest
from hub_client import code_of, fill, packed, training, world

from deepmemory import VectorStore
from deepmemory.artifacts import decode_layer
from deepmemory.evaluation.wire import decode_evaluation

UNKNOWN = "0123456789abcdef01234567"
JOB = ["id", "state", "progress", "stage", "eta_seconds", "details", "results", "error"]
TIMES = ["created", "started", "finished"]
OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def small() -> dict:
    return world(80, 60)


def ended(client, dataset, job_id, until) -> dict:
    until(lambda: client.get(f"{dataset}/jobs/{job_id}").json()["finished"])
    return client.get(f"{dataset}/jobs/{job_id}").json()


def trained(client, dataset, made, until, **more) -> dict:
    fill(client, dataset, made)
    job = client.post(f"{dataset}/jobs", training(made, **more))
    assert job.status_code == 202
    return ended(client, dataset, job.json()["id"], until)


def test_a_training_learns_what_a_local_store_learns(client, dataset, small, tmp_path, until):
    job = trained(client, dataset, small, until, seed=3)
    assert (job["state"], job["progress"], job["error"]) == ("completed", 1.0, None)
    local = VectorStore(tmp_path / "store", embedder=None)
    local.add(small["texts"], ids=small["ids"], embeddings=small["vectors"])
    job_id = local.deep_memory.train(
        small["queries"], small["relevance"], embeddings=small["query_vectors"], seed=3, wait=True
    )
    theirs = local.deep_memory.status(job_id, verbose=False)
    for key in ("trained", "baseline", "settings", "reason", "layer", "active"):
        assert job["results"][key] == theirs.results[key]
    file = client.get(f"{dataset}/layers/v1/file")
    ours = decode_layer(file.content, "ours").layer.to_arrays()
    for name, array in local.deep_memory.layer.to_arrays().items():
        np.testing.assert_array_equal(ours[name], array)
    assert client.get(f"{dataset}/layers").json()["active"] == local.deep_memory.get_model() == "v1"
    hits = client.post(f"{dataset}/search", {"vectors": packed(small["query_vectors"][:9])}).json()
    assert hits["layer"] == "v1"
    for result, expected in zip(hits["results"], local.search_many(embeddings=small["query_vectors"][:9]), strict=True):
        assert [(hit["id"], hit["score"]) for hit in result["hits"]] == [(hit.id, hit.score) for hit in expected]
    evaluated = client.post(f"{dataset}/evaluate", training(small, seed=1)).json()
    theirs = local.deep_memory.evaluate(
        small["relevance"], small["queries"], embeddings=small["query_vectors"], seed=1, verbose=False
    )
    assert str(decode_evaluation(evaluated)) == str(theirs)


def test_the_vectors_of_a_training_may_be_the_hubs_own(client, dataset, until):
    path = f"{dataset}-own"
    client.put(path, {"embedder": {"name": "openai:words", "spec": "openai:words"}})
    words = [f"alpha{n} beta{n % 7} gamma{n % 5}" for n in range(40)]
    client.post(f"{path}/documents", {"documents": [{"id": f"d{n}", "text": text} for n, text in enumerate(words)]})
    queries = [f"{text} delta{n % 3}" for n, text in enumerate(words)]
    job = client.post(f"{path}/jobs", {"queries": queries, "relevance": [[[f"d{n}", 1.0]] for n in range(40)]}).json()
    assert ended(client, path, job["id"], until)["state"] == "completed"
    pinned = client.get(path).json()["embedder"]["fingerprint"]
    assert client.get(f"{path}/layers/v1").json()["embedder"] == pinned
    vectors = client.post(f"{path}/embed", {"texts": queries, "kind": "queries"}).json()["vectors"]
    body = {"queries": queries, "relevance": [[[f"d{n}", 1.0]] for n in range(40)], "vectors": vectors}
    for own, embedder in ((True, pinned), (False, None)):
        job = client.post(f"{path}/jobs", {**body, "own_embedder": own}).json()
        layer = ended(client, path, job["id"], until)["results"]["layer"]
        assert client.get(f"{path}/layers/{layer}").json()["embedder"] == embedder


def test_a_training_is_watched_until_it_has_ended(client, dataset, small):
    fill(client, dataset, small)
    job = client.post(f"{dataset}/jobs", training(small)).json()
    with client.http.stream("GET", f"{dataset}/jobs/{job['id']}/events") as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        lines = [line for line in stream.iter_lines() if line]
    assert lines[::2] == ["event: job"] * (len(lines) // 2)
    jobs = [json.loads(line.removeprefix("data: ")) for line in lines[1::2]]
    assert jobs[-1]["state"] == "completed"
    progress = [job["progress"] for job in jobs]
    assert progress == sorted(progress)
    assert jobs[-1] == client.get(f"{dataset}/jobs/{job['id']}").json()
    assert set(job) == {*JOB, *TIMES}


def test_a_running_training_is_cancelled_and_leaves_nothing(client, dataset, slow, until):
    fill(client, dataset, slow)
    job_id = client.post(f"{dataset}/jobs", training(slow)).json()["id"]
    until(lambda: client.get(f"{dataset}/jobs/{job_id}").json()["progress"] >= 0.4)
    assert code_of(client.delete(f"{dataset}/jobs/{job_id}")) == (409, "job")
    assert client.post(f"{dataset}/jobs/{job_id}/cancel").json() == {"cancelled": True}
    assert client.get(f"{dataset}/jobs/{job_id}").json()["state"] == "cancelled"
    job = ended(client, dataset, job_id, until)
    assert (job["state"], job["error"]) == ("cancelled", "cancelled on request")
    assert client.get(f"{dataset}/layers").json() == {"layers": [], "active": None}
    assert client.delete(f"{dataset}/jobs/{job_id}").json() == {"deleted": True}
    assert code_of(client.get(f"{dataset}/jobs/{job_id}")) == (404, "job")


def test_trainings_wait_for_each_other_and_one_that_waits_is_cancelled_at_once(client, dataset, slow, small, until):
    fill(client, dataset, slow)
    first = client.post(f"{dataset}/jobs", training(slow)).json()["id"]
    until(lambda: client.get(f"{dataset}/jobs/{first}").json()["state"] == "training")
    second = client.post(f"{dataset}/jobs", training(slow, seed=1)).json()["id"]
    assert client.get(f"{dataset}/jobs/{second}").json()["state"] == "pending"
    assert client.post(f"{dataset}/jobs/{second}/cancel").json() == {"cancelled": True}
    job = client.get(f"{dataset}/jobs/{second}").json()
    assert job["state"] == "cancelled"
    assert job["finished"]
    assert client.delete(f"{dataset}/jobs/{second}").json() == {"deleted": True}
    listed = client.get(f"{dataset}/jobs").json()["jobs"]
    assert [job["id"] for job in listed] == [first]
    assert client.post(f"{dataset}/jobs/{first}/cancel").json() == {"cancelled": True}
    ended(client, dataset, first, until)


def test_cancelling_what_has_ended_is_false(client, dataset, small, until):
    job = trained(client, dataset, small, until)
    assert client.post(f"{dataset}/jobs/{job['id']}/cancel").json() == {"cancelled": False}
    assert client.get(f"{dataset}/jobs/{job['id']}").json() == job
    assert client.delete(f"{dataset}/jobs/{job['id']}").json() == {"deleted": True}
    assert client.get(f"{dataset}/layers").json()["active"] == "v1"


def test_a_dataset_is_cleared_and_deleted_in_the_middle_of_a_training(client, dataset, slow, until):
    for end in (lambda: client.post(f"{dataset}/clear"), lambda: client.delete(dataset)):
        fill(client, dataset, slow)
        job_id = client.post(f"{dataset}/jobs", training(slow)).json()["id"]
        until(lambda: client.get(f"{dataset}/jobs/{job_id}").json()["progress"] >= 0.4)  # noqa: B023
        assert end().status_code in {200, 204}
        assert client.get(f"{dataset}/jobs").json().get("jobs", []) == []
    client.put(dataset, {"embedder": None})
    assert client.get(f"{dataset}/layers").json() == {"layers": [], "active": None}
    assert client.get(f"{dataset}/jobs").json() == {"jobs": []}
    assert client.get(f"{dataset}/history").json() == {"entries": []}


def test_a_retried_training_is_one_training(client, dataset, small, until):
    fill(client, dataset, small)
    key = {"Idempotency-Key": "train once"}
    jobs = [client.post(f"{dataset}/jobs", training(small), headers=key).json()["id"] for _ in range(3)]
    assert len(set(jobs)) == 1
    assert code_of(client.post(f"{dataset}/jobs", training(small, seed=9), headers=key)) == (422, "input")
    assert ended(client, dataset, jobs[0], until)["state"] == "completed"
    assert client.post(f"{dataset}/jobs", training(small), headers=key).json()["state"] == "completed"
    assert len(client.get(f"{dataset}/jobs").json()["jobs"]) == 1


def test_unknown_jobs_and_layers_are_named_as_such(client, dataset):
    for reply in (
        client.get(f"{dataset}/jobs/{UNKNOWN}"),
        client.get(f"{dataset}/jobs/{UNKNOWN}/events"),
        client.post(f"{dataset}/jobs/{UNKNOWN}/cancel"),
        client.delete(f"{dataset}/jobs/{UNKNOWN}"),
        client.get(f"{dataset}/jobs/%2e%2e"),
        client.get(f"{dataset}/jobs/a.json"),
    ):
        assert code_of(reply) in {(404, "job"), (404, "not_found")}
    body = {"queries": ["a"], "relevance": [[["a", 1.0]]], "vectors": [[1.0]], "model": "v9"}
    for reply in (
        client.get(f"{dataset}/layers/v1"),
        client.get(f"{dataset}/layers/v1/file"),
        client.put(f"{dataset}/layers/active", {"layer": "v1"}),
        client.post(f"{dataset}/evaluate", body),
    ):
        assert code_of(reply) == (404, "artifact")
    assert code_of(client.post(f"{dataset}/layers/rollback")) == (422, "artifact")


WRONG = [
    ({"queries": [], "relevance": []}, "queries is empty"),
    ({"queries": ["a", "b"], "relevance": [[["doc-1", 1.0]]]}, "same length"),
    ({"queries": ["a"], "relevance": [[["nowhere", 1.0]]]}, "no document with the id 'nowhere'"),
    ({"queries": ["a"], "relevance": [[["doc-1", "x"]]]}, "must be a number"),
    ({"queries": ["a"], "relevance": [[["doc-1", -1]]]}, "0 or more"),
    ({"queries": ["a"], "relevance": [[]]}, "no relevant document"),
    ({"queries": ["a"], "relevance": [["doc-1"]]}, "relevance[0][0]"),
    ({"queries": ["a"], "relevance": [[["doc-1", 1.0]]], "vectors": [[1.0, 2.0]]}, "dimensions"),
    ({"queries": ["a"], "relevance": [[["doc-1", 1.0]]], "vectors": packed(np.ones((2, 32)))}, "expected 1 vectors"),
    ({"queries": ["a"], "relevance": [[["doc-1", 1.0]]], "vectors": None}, "can't embed"),
    ({"queries": ["a"], "relevance": [[["doc-1", 1.0]]], "seed": -1}, "seed"),
]


@pytest.mark.parametrize(("body", "said"), WRONG)
def test_labels_that_can_not_be_are_refused_before_anything_happens(client, dataset, small, body, said):
    fill(client, dataset, small)
    body = {"vectors": packed(np.ones((len(body["queries"]), 32))), **body}
    for where in ("jobs", "evaluate"):
        reply = client.post(f"{dataset}/{where}", body)
        assert code_of(reply) == (422, "input")
        assert said in reply.text
    assert client.get(f"{dataset}/jobs").json() == {"jobs": []}
    assert client.get(f"{dataset}/history").json() == {"entries": []}


def test_only_who_may_write_leaves_queries_in_the_history(client, reader, dataset, small):
    fill(client, dataset, small)
    body = training(small, top_k=[1, 5])
    assert set(reader.post(f"{dataset}/evaluate", body).json()["with model"]) == {"recall@1", "recall@5"}
    assert client.post(f"{dataset}/evaluate", {**body, "log_queries": False}).status_code == 200
    assert code_of(reader.post(f"{dataset}/evaluate", {**body, "log_queries": True})) == (403, "forbidden")
    assert client.get(f"{dataset}/history").json() == {"entries": []}
    assert client.post(f"{dataset}/evaluate", {**body, "qvs_params": {"branch": "main"}}).status_code == 200
    [entry] = client.get(f"{dataset}/history").json()["entries"]
    assert (entry["kind"], entry["queries"], entry["relevance"]) == ("evaluate", small["queries"], small["relevance"])
    assert entry["details"]["qvs_params"] == {"branch": "main"}


def test_layers_go_from_dataset_to_dataset_and_on_and_off(client, dataset, small, until):
    trained(client, dataset, small, until)
    file = client.get(f"{dataset}/layers/v1/file").content
    other = f"{dataset}-other"
    client.put(other, {"embedder": None})
    fill(client, other, small)
    assert client.post(f"{other}/layers", content=file, headers=OCTETS).json()["name"] == "v1"
    assert client.get(f"{other}/layers").json()["active"] is None
    assert client.put(f"{other}/layers/active", {"layer": "v1"}).json() == {"active": "v1"}
    vectors = packed(small["query_vectors"][:5])
    found = [client.post(f"{path}/search", {"vectors": vectors}).json() for path in (dataset, other)]
    assert found[0] == found[1]
    assert client.put(f"{other}/layers/active", {"layer": None}).json() == {"active": None}
    assert client.post(f"{other}/search", {"vectors": vectors}).json()["layer"] is None
    assert client.post(f"{other}/layers/rollback").json() == {"active": "v1"}
    assert client.post(f"{other}/search", {"vectors": vectors, "deep_memory": False}).json()["layer"] is None
    for wrong in (b"", file[:-1], file[:100] + b"x" + file[101:], b"{}" * 50):
        assert code_of(client.post(f"{other}/layers", content=wrong, headers=OCTETS)) == (422, "artifact")
    assert len(client.get(f"{other}/layers").json()["layers"]) == 1


def test_an_organisation_has_only_so_many_unfinished_trainings(rival, slow, until):
    dataset = "orgs/rival/datasets/many"
    rival.put(dataset, {"embedder": None})
    fill(rival, dataset, slow)
    replies = [rival.post(f"{dataset}/jobs", training(slow, seed=seed)) for seed in range(21)]
    assert [reply.status_code for reply in replies[:20]] == [202] * 20
    assert code_of(replies[20]) == (429, "over_limit")
    assert int(replies[20].headers["Retry-After"]) >= 1
    for reply in replies[:20]:
        assert rival.post(f"{dataset}/jobs/{reply.json()['id']}/cancel").json()["cancelled"]
    until(lambda: all(job["finished"] for job in rival.get(f"{dataset}/jobs").json()["jobs"]))
    assert rival.post(f"{dataset}/jobs", training(slow)).status_code == 202
    assert rival.post(f"{dataset}/clear").status_code == 200


def test_searches_go_on_while_a_training_runs_and_many_ask_at_once(client, dataset, slow, connect, hub, secrets, until):
    fill(client, dataset, slow)
    job_id = client.post(f"{dataset}/jobs", training(slow)).json()["id"]
    until(lambda: client.get(f"{dataset}/jobs/{job_id}").json()["progress"] >= 0.4)
    clients, wrong = [connect(hub, secrets["read"]) for _ in range(8)], []

    def ask(one, row):
        for _ in range(5):
            body = {"vectors": packed(slow["vectors"][row : row + 1]), "k": 1, "deep_memory": False}
            reply = one.post(f"{dataset}/search", body)
            if reply.status_code != 200 or reply.json()["results"][0]["hits"][0]["id"] != f"doc-{row}":
                wrong.append(reply.text)

    threads = [threading.Thread(target=ask, args=(one, row)) for row, one in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    client.post(f"{dataset}/jobs/{job_id}/cancel")
    ended(client, dataset, job_id, until)
