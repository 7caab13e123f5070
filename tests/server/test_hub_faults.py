"""Hubs that die, stop and start again: nothing acknowledged is lost, and what was begun is finished."""

import contextlib
import itertools
import json
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from hub_client import Client, code_of, fill, packed, training, world

from deepmemory.testing import HubProcess, OpenAIServer

FAULTY = {"X-Request-Id": "faulty"}
FINGERPRINT = {"name": "mine", "dimensions": 2, "probe": "AACAPwAAAAA="}
DOCS = "orgs/acme/datasets/docs"


@pytest.fixture(scope="module")
def slow() -> dict:
    """What takes some seconds to learn."""
    return world(2_000, 600, dimensions=256)


def state_of(client: Client, job_id: str) -> dict:
    return client.get(f"{DOCS}/jobs/{job_id}").json()


def test_a_hub_that_is_killed_while_it_trains_adds_and_evaluates_loses_nothing_and_goes_on(
    tmp_path, endpoint, embedding, connect, slow, until
):
    with HubProcess(tmp_path / "hub", environment=embedding) as hub:
        client = connect(hub, hub.token("acme", "admin"))
        client.put(DOCS, {"embedder": {"name": "openai:words", "spec": "openai:words"}})
        made = world(1_500, 500)
        texts = [f"alpha{row} beta{row % 40} gamma{row % 31}" for row in range(1_500)]
        for start in (0, 750):
            documents = [{"id": f"doc-{row}", "text": texts[row]} for row in range(start, start + 750)]
            assert client.post(f"{DOCS}/documents", {"documents": documents}).status_code == 200
        queries = [f"asked {number} {texts[int(pairs[0][0][4:])]}" for number, pairs in enumerate(made["relevance"])]
        body = {"queries": queries, "relevance": made["relevance"]}
        job_id = client.post(f"{DOCS}/jobs", body).json()["id"]
        other, small = "orgs/acme/datasets/other", world(300, 100)
        client.put(other, {"embedder": None})
        fill(client, other, small)
        busy = Busy(client, other, small)
        until(lambda: state_of(client, job_id)["progress"] >= 0.45 and len(busy.acknowledged) >= 5)
        hub.kill()
        busy.join()
        # The queries' vectors are also in a cache, which must not be what the second run lives on.
        for cache in hub.data.glob("datasets/*/cache"):
            shutil.rmtree(cache)
        asked = len(endpoint.requests)
        hub.start()
        assert state_of(client, job_id)["state"] == "training"
        until(lambda: state_of(client, job_id)["finished"])
        job = state_of(client, job_id)
        assert (job["state"], job["error"]) == ("completed", None)
        assert [request for request in endpoint.requests[asked:] if "asked" in json.dumps(request.body)] == []
        assert [layer["report"]["job"] for layer in client.get(f"{DOCS}/layers").json()["layers"]] == [job_id]
        assert list(hub.data.glob("datasets/*/work/*")) == []
        # What was acknowledged is there; the one add that was under way may be there or not.
        got = client.post(f"{other}/documents/get", {"ids": busy.acknowledged}).json()["documents"]
        assert [document["id"] for document in got] == busy.acknowledged
        count = client.post(f"{other}/documents/count").json()["count"]
        assert 0 <= count - 300 - len(busy.acknowledged) <= 1
        assert client.post(f"{other}/evaluate", training(small)).json()["n"] == 100
        # The same again, undisturbed, gives the same layer.
        again = client.post(f"{DOCS}/jobs", body).json()["id"]
        until(lambda: state_of(client, again)["finished"])
        first, second = (client.get(f"{DOCS}/layers/{name}").json()["report"] for name in ("v1", "v2"))
        assert first["trained"] == second["trained"]


def test_exactly_one_layer_is_saved_wherever_the_end_comes(tmp_path, connect, until):
    made = world(80, 60)
    program = (str(Path(__file__).with_name("hub_that_dies.py")),)
    with HubProcess(tmp_path / "hub", program=program, environment={"DIE_AFTER": "save"}) as dying:
        secret = dying.token("acme", "admin")
        client = connect(dying, secret)
        client.put(DOCS, {"embedder": None})
        fill(client, DOCS, made)
        job_id = client.post(f"{DOCS}/jobs", training(made)).json()["id"]
        until(lambda: is_gone(dying))
    # This one finds the layer that was saved, and dies in its turn when it has activated it.
    dying = HubProcess(tmp_path / "hub", program=program, environment={"DIE_AFTER": "activate"})
    with contextlib.suppress(RuntimeError):  # it may be so quick with it that it isn't up before that
        dying.start()
        until(lambda: is_gone(dying))
        dying.kill()
    with HubProcess(tmp_path / "hub") as hub:
        client = connect(hub, secret)
        until(lambda: state_of(client, job_id)["finished"])
        assert state_of(client, job_id)["state"] == "completed"
        listed = client.get(f"{DOCS}/layers").json()
        assert ([layer["name"] for layer in listed["layers"]], listed["active"]) == (["v1"], "v1")
        assert client.post(f"{DOCS}/jobs/{job_id}/cancel").json() == {"cancelled": False}


def is_gone(hub: HubProcess) -> bool:
    try:
        httpx.get(f"{hub.url}/health")
    except httpx.HTTPError:
        return True
    return False


class Busy:
    """Adds documents and evaluates, until the hub is gone."""

    def __init__(self, client: Client, dataset: str, made: dict) -> None:
        self.acknowledged: list[str] = []
        self._client, self._dataset, self._made = client, dataset, made
        self._threads = [threading.Thread(target=self._until_gone, args=[work]) for work in (self._add, self._evaluate)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _until_gone(self, work) -> None:
        with contextlib.suppress(httpx.HTTPError):
            for number in itertools.count():
                work(number)

    def _add(self, number: int) -> None:
        document = {"id": f"new-{number}", "text": f"new text {number}"}
        body = {"documents": [document], "vectors": packed(self._made["vectors"][:1])}
        if self._client.post(f"{self._dataset}/documents", body).status_code == 200:
            self.acknowledged.append(document["id"])

    def _evaluate(self, _: int) -> None:
        self._client.post(f"{self._dataset}/evaluate", training(self._made))


def test_a_hub_that_is_asked_to_stop_finishes_requests_and_hands_over_trainings(tmp_path, connect, slow, until):
    with HubProcess(tmp_path / "hub") as hub:
        client = connect(hub, hub.token("acme", "admin"))
        client.put(DOCS, {"embedder": None})
        fill(client, DOCS, slow)
        job_id = client.post(f"{DOCS}/jobs", training(slow)).json()["id"]
        until(lambda: state_of(client, job_id)["progress"] >= 0.4)
        evaluated: list[int] = []
        body = training(slow)
        thread = threading.Thread(target=lambda: evaluated.append(client.post(f"{DOCS}/evaluate", body).status_code))
        thread.start()
        until(lambda: "in_flight 2.0" in httpx.get(f"{hub.url}/metrics").text)
        with client.http.stream("GET", f"{DOCS}/jobs/{job_id}/events") as watched:
            assert hub.stop() == 0
            assert "event: job" in watched.read().decode()
        thread.join()
        assert evaluated == [200]
        assert "Traceback" not in hub.log
        assert not (hub.data / "hub.url").exists()
        hub.start()
        assert state_of(client, job_id)["state"] == "training"
        until(lambda: state_of(client, job_id)["finished"])
        assert state_of(client, job_id)["state"] == "completed"
        assert len(client.get(f"{DOCS}/layers").json()["layers"]) == 1
        assert hub.stop(signal.SIGINT) == 130


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "deepmemory", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def refused(*arguments: object) -> str:
    """The one sentence that a hub ends with that can't be."""
    done = run("serve", *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    [sentence] = done.stderr.splitlines()
    return sentence


def test_a_second_hub_on_the_same_folder_is_refused_and_so_is_a_port_in_use(hub, tmp_path):
    assert "another hub is running on" in refused("--data", hub.data, "--port", 0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"port {port} at 127.0.0.1 is in use" in refused("--data", tmp_path / "new", "--port", port)


def test_folders_that_can_not_be_a_hubs(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    assert "has something else in it and is no hub's data" in refused("--data", other, "--port", 0)
    assert [entry.name for entry in other.iterdir()] == ["notes.txt"]
    assert "is a file" in refused("--data", other / "notes.txt", "--port", 0)
    assert "can't be used for a hub's data" in refused("--data", "/proc/hub", "--port", 0)
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "hub.json").write_text('{"format": 99}')
    assert "made by a newer Deep Memory" in refused("--data", newer, "--port", 0)
    done = run("token", "list", "--data", tmp_path / "nothing")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert not (tmp_path / "nothing").exists()


def test_what_a_hub_prints_when_it_starts_is_what_a_newcomer_needs(hub, secrets):
    said = hub.log
    for wanted in (f"at {hub.url}", "deepmemory token create --org", "DEEPMEMORY_HUB_URL=", "hub://acme/handbook"):
        assert wanted in said


def test_it_says_that_it_is_alive_and_ready_and_counts(hub, client):
    client.get("me")
    assert httpx.get(f"{hub.url}/health").json()["status"] == "ok"
    assert httpx.get(f"{hub.url}/ready").json()["status"] == "ok"
    metrics = httpx.get(f"{hub.url}/metrics").text
    assert 'deepmemory_hub_requests_total{method="GET",route="/v1/me",status="200"}' in metrics
    assert "acme" not in metrics


def test_the_log_has_neither_secrets_nor_texts(hub, client, dataset, secrets):
    client.post(f"{dataset}/documents", {"documents": [{"text": "a confidential text"}], "vectors": [[1.0]]})
    client.post(
        f"{dataset}/search", {"queries": ["a confidential query"], "mode": "words"}, headers={"X-Request-Id": "r1"}
    )
    client.post(f"{dataset}/search", {"queries": ["a confidential query"] * 2, "vectors": [[1.0]]})
    lines = [json.loads(line) for line in hub.log.splitlines() if line.startswith("{")]
    [mine] = [line for line in lines if line.get("request_id") == "r1"]
    assert (mine["route"], mine["status"], mine["org"]) == ("/v1/orgs/{org}/datasets/{name}/search", 200, "acme")
    assert "confidential" not in hub.log
    assert not [secret for secret in secrets.values() if secret in hub.log]
    assert dataset.rpartition("/")[2] not in hub.log


def test_a_fault_is_told_by_its_id_alone_and_the_log_says_the_rest(hub, client, dataset, until):
    with sqlite3.connect(hub.data / "hub.sqlite") as database:
        name = dataset.rpartition("/")[2]
        [(folder,)] = database.execute("select id from datasets where name = ?", [name]).fetchall()
    (hub.data / "datasets" / folder / "deepmemory.json").write_text("{")
    reply = client.http.patch(dataset, json={"embedder": {"name": "x", "fingerprint": FINGERPRINT}}, headers=FAULTY)
    assert code_of(reply) == (500, "internal")
    assert "the request id faulty" in reply.json()["error"]["message"]
    assert "Traceback" not in reply.text
    until(lambda: '"faulty"' in hub.log)  # which is written once the reply is on its way
    [line] = [line for line in hub.log.splitlines() if '"faulty"' in line and "exception" in line]
    assert "is damaged" in json.loads(line)["exception"]
    assert client.delete(dataset).status_code == 204


def test_a_dataset_that_another_deletes_is_not_found(client, dataset):
    client.post(f"{dataset}/documents", {"documents": [{"id": "a", "text": "a"}], "vectors": [[1.0]]})
    assert client.delete(dataset).status_code == 204
    assert code_of(client.post(f"{dataset}/search", {"vectors": [[1.0]]})) == (404, "not_found")
    assert client.put(dataset, {"embedder": None}).json()["documents"] == 0


def test_a_hub_whose_endpoint_hangs_stops_all_the_same(connect, until):
    let_go = threading.Event()

    def hang(text: str) -> list[float]:
        if "hang" in text:
            let_go.wait(120)
        return [1.0, 2.0]

    with OpenAIServer(embed=hang) as endpoint:
        environment = {
            "OPENAI_BASE_URL": endpoint.base_url,
            "OPENAI_API_KEY": "any",
            "DEEPMEMORY_HUB_EMBEDDERS": "openai",
            "DEEPMEMORY_HUB_GRACE_SECONDS": "1",
        }
        with HubProcess(environment=environment) as hub:
            client = connect(hub, hub.token("acme", "admin"))
            client.put(DOCS, {"embedder": {"name": "openai:words", "spec": "openai:words"}})
            documents = [{"id": f"d{row}", "text": f"text {row}"} for row in range(20)]
            assert client.post(f"{DOCS}/documents", {"documents": documents}).status_code == 200
            body = {
                "queries": [f"hang {row}" for row in range(20)],
                "relevance": [[[f"d{row}", 1.0]] for row in range(20)],
            }
            job_id = client.post(f"{DOCS}/jobs", body).json()["id"]
            until(lambda: "hang" in json.dumps(endpoint.requests[-1].body))
            assert hub.stop() == 0
            let_go.set()
            hub.start()
            until(lambda: state_of(client, job_id)["finished"])
            assert state_of(client, job_id)["state"] == "completed"
