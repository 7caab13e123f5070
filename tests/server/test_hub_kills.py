"""Hubs that are killed: nothing acknowledged is lost, and what was begun is finished."""

import contextlib
import itertools
import json
import shutil
import threading
from pathlib import Path

import httpx
from hub_client import DOCS, Client, fill, packed, state_of, training, world

from deepmemory.testing import HubProcess


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
