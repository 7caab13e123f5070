"""Hubs that can't start, and what a running one says of itself and of its faults."""

import json
import socket
import sqlite3
import subprocess
import sys

import httpx
from hub_client import code_of

FAULTY = {"X-Request-Id": "faulty"}
FINGERPRINT = {"name": "mine", "dimensions": 2, "probe": "AACAPwAAAAA="}


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
