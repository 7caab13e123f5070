"""Hubs that are asked to stop, and start again."""

import json
import signal
import threading

import httpx
from hub_client import DOCS, fill, state_of, training

from deepmemory.testing import HubProcess, OpenAIServer


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
