"""Several servers and a worker on one PostgreSQL: real processes that share datasets, tokens and trainings."""

import contextlib
import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace

import httpx
import pytest
from hub_client import Client, code_of, fill, packed, training, world

from deepmemory.testing import HubProcess

SILENT = {"DEEPMEMORY_HUB_SILENT_SECONDS": "2", "DEEPMEMORY_HUB_RATE": "0"}
# The servers drain until a second signal, so that no load of this machine makes a balancer too slow to notice.
DRAIN = {"serve": {"DEEPMEMORY_HUB_DRAIN_SECONDS": "600"}, "worker": {"DEEPMEMORY_HUB_DRAIN_SECONDS": "0.5"}}
WORKFLOWS = "deepmemory_workflows.workflow_status"
FINGERPRINT = {"name": "mine", "dimensions": 2, "probe": "AACAPwAAAAA="}


@pytest.fixture(scope="module")
def slow() -> dict:
    """What takes some seconds to learn."""
    return world(1_000, 300, dimensions=128)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, postgres) -> Iterator[SimpleNamespace]:
    """Two servers and a worker; the second server runs trainings as well."""
    data, database = tmp_path_factory.mktemp("fleet") / "hub", postgres.database(extension=False)

    def process(role: str = "serve", *options: str) -> HubProcess:
        return HubProcess(data, options=options, environment=SILENT | DRAIN[role], database=database, role=role)

    one, two, worker = process("serve", "--training-jobs", "0"), process(), process("worker")
    members = (one, two, worker)
    try:
        for member in members:
            member.begin()  # all at once, on a database where there is nothing yet
        for member in members:
            member.wait()
        # Made by the command, which needs the database alone.
        secret = one.token("acme", "admin")
        name = database.partition("@/")[2].partition("?")[0]
        yield SimpleNamespace(
            one=one,
            two=two,
            worker=worker,
            secret=secret,
            sql=lambda statement: postgres.execute(statement, database=name),
        )
    finally:
        for member in members:
            if member.is_running:
                member.kill()


@pytest.fixture
def clients(fleet, connect) -> tuple[Client, Client]:
    """An administrator at either server."""
    return connect(fleet.one, fleet.secret), connect(fleet.two, fleet.secret)


@pytest.fixture
def dataset(request, clients) -> str:
    """A new dataset, made at the first server."""
    name = f"orgs/acme/datasets/d{time.time_ns() % 10**12}"
    assert clients[0].put(name, {"embedder": None}).status_code == 201
    return name


def test_what_one_server_is_told_the_other_knows(fleet, clients, dataset, connect):
    one, two = clients
    made = world(40, 20)
    fill(one, dataset, made)
    body = {"vectors": packed(made["vectors"][:1]), "k": 3}
    found = [client.post(f"{dataset}/search", body).json() for client in clients]
    assert found[0] == found[1]
    assert found[0]["results"][0]["hits"][0]["id"] == "doc-0"
    assert two.post(f"{dataset}/documents/delete", {"ids": ["doc-0"]}).json() == {"deleted": 1}
    assert one.post(f"{dataset}/search", body).json()["results"][0]["hits"][0]["id"] != "doc-0"
    # A record that changes is read anew by whoever had the dataset open.
    mine = {"name": "mine", "spec": None, "fingerprint": FINGERPRINT}
    assert one.post(f"{dataset}/clear", {"record": {"distance": "dot", "embedder": mine}}).status_code == 200
    record = two.get(dataset).json()
    assert (record["distance"], record["embedder"]["name"], record["documents"]) == ("dot", "mine", 0)
    made_there = two.post("orgs/acme/tokens", {"scope": "read"}).json()
    reader = connect(fleet.one, made_there["secret"])
    assert reader.get(dataset).status_code == 200
    assert two.delete(f"orgs/acme/tokens/{made_there['id']}").status_code == 204
    assert code_of(reader.get(dataset)) == (401, "unauthenticated")
    assert two.delete(dataset).status_code == 204
    assert code_of(one.get(dataset)) == (404, "not_found")
    assert one.put(dataset, {"embedder": None}).status_code == 201
    assert two.get(dataset).json()["documents"] == 0


def test_a_worker_says_how_it_is_and_serves_nothing(fleet):
    url = fleet.worker.url
    assert httpx.get(f"{url}/ready").json()["status"] == "ok"
    assert "deepmemory_hub_processes 3.0" in httpx.get(f"{url}/metrics").text
    assert httpx.get(f"{url}/v1/me", headers={"Authorization": f"Bearer {fleet.secret}"}).status_code == 404


def test_each_training_runs_once_and_its_layer_is_everywhere(fleet, clients, until):
    one, two = clients
    small, jobs = world(80, 60), {}
    for number in range(2):
        dataset = f"orgs/acme/datasets/once-{number}"
        one.put(dataset, {"embedder": None})
        fill(one, dataset, small)
        key = {"Idempotency-Key": "once"}
        asked = [client.post(f"{dataset}/jobs", training(small), headers=key).json()["id"] for client in clients]
        assert asked[0] == asked[1]
        jobs[dataset] = asked[0]
    for dataset, job_id in jobs.items():
        until(lambda: one.get(f"{dataset}/jobs/{job_id}").json()["finished"])  # noqa: B023
        assert two.get(f"{dataset}/jobs/{job_id}").json()["state"] == "completed"
        assert [layer["report"]["job"] for layer in two.get(f"{dataset}/layers").json()["layers"]] == [job_id]
        found = [
            client.post(f"{dataset}/search", {"vectors": packed(small["vectors"][:2])}).json() for client in clients
        ]
        assert found[0] == found[1]
        assert found[0]["layer"] == "v1"
    # The first server, which runs none, has run none; and no training was begun twice.
    until(lambda: fleet.sql(f"SELECT count(*) FROM {WORKFLOWS} WHERE status = 'SUCCESS'") == [(2,)])
    runs = fleet.sql(f"SELECT executor_id, recovery_attempts FROM {WORKFLOWS}")
    assert {attempts for _, attempts in runs} == {1}
    assert not any(f"-{fleet.one.pid}-" in executor for executor, _ in runs)
    assert fleet.sql("SELECT count(*) FROM deepmemory_hub.open_jobs") == [(0,)]
    # Rows of what ended long ago are forgotten, those of yesterday and the jobs' records stay.
    old, recent = jobs.values()
    week = 7 * 24 * 3_600 * 1_000
    fleet.sql(f"UPDATE {WORKFLOWS} SET completed_at = completed_at - {week + 1} WHERE workflow_uuid = '{old}'")
    until(lambda: fleet.sql(f"SELECT workflow_uuid FROM {WORKFLOWS}") == [(recent,)])
    assert one.get(f"orgs/acme/datasets/once-0/jobs/{old}").json()["state"] == "completed"


def runner(fleet, job_id: str) -> str:
    """Which process runs a training, or has run it last."""
    [(executor,)] = fleet.sql(f"SELECT executor_id FROM {WORKFLOWS} WHERE workflow_uuid = '{job_id}'")
    return executor


def begun(fleet, client: Client, dataset: str, made: dict, until, on: HubProcess) -> str:
    """A training in the midst of its fit, run by one of the two that may."""
    other = fleet.two if on is fleet.worker else fleet.worker
    with frozen(other):
        job_id = client.post(f"{dataset}/jobs", training(made)).json()["id"]
        until(lambda: client.get(f"{dataset}/jobs/{job_id}").json()["progress"] >= 0.45)
    assert f"-{on.pid}-" in runner(fleet, job_id)
    return job_id


@contextlib.contextmanager
def frozen(process: HubProcess) -> Iterator[None]:
    """A process that does nothing for a while, as one does whose machine swaps or is paused."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def ended(client: Client, dataset: str, job_id: str, until) -> dict:
    until(lambda: client.get(f"{dataset}/jobs/{job_id}").json()["finished"])
    return client.get(f"{dataset}/jobs/{job_id}").json()


def test_a_process_that_was_only_slow_spoils_nothing_that_another_did_meanwhile(fleet, clients, dataset, slow, until):
    one, _ = clients
    fill(one, dataset, slow)
    job_id = begun(fleet, one, dataset, slow, until, fleet.worker)
    with frozen(fleet.worker):
        job = ended(one, dataset, job_id, until)
    assert (job["state"], job["error"]) == ("completed", None)
    assert f"-{fleet.two.pid}-" in runner(fleet, job_id)
    until(lambda: "was taken for dead" in fleet.worker.log)
    # It is among the living again.
    until(lambda: fleet.sql("SELECT count(*) FROM deepmemory_hub.processes WHERE seen > 0") == [(3,)])
    assert one.get(f"{dataset}/jobs/{job_id}").json() == job
    assert [layer["report"]["job"] for layer in one.get(f"{dataset}/layers").json()["layers"]] == [job_id]
    assert one.post(f"{dataset}/jobs/{job_id}/cancel").json() == {"cancelled": False}


def test_a_training_that_ends_its_process_each_time_is_given_up(fleet, clients, dataset, slow, until):
    one, _ = clients
    fill(one, dataset, slow)
    job_id = begun(fleet, one, dataset, slow, until, fleet.worker)
    fleet.sql(f"UPDATE deepmemory_hub.open_jobs SET attempts = 5 WHERE id = '{job_id}'")
    with frozen(fleet.worker):
        job = ended(one, dataset, job_id, until)
    assert job["state"] == "failed"
    assert "ended 5 times before the training did" in job["error"]
    assert one.get(f"{dataset}/layers").json()["layers"] == []


def test_a_training_in_one_process_is_cancelled_and_its_dataset_emptied_through_another(
    fleet, clients, dataset, slow, until
):
    one, _ = clients
    fill(one, dataset, slow)
    job_id = begun(fleet, one, dataset, slow, until, fleet.worker)
    waiting = one.post(f"{dataset}/jobs", training(slow, seed=1)).json()["id"]
    assert one.post(f"{dataset}/jobs/{waiting}/cancel").json() == {"cancelled": True}
    assert one.get(f"{dataset}/jobs/{waiting}").json()["finished"]
    assert one.post(f"{dataset}/jobs/{job_id}/cancel").json() == {"cancelled": True}
    assert one.delete(f"{dataset}/jobs/{job_id}").json() == {"deleted": True}
    begun(fleet, one, dataset, slow, until, fleet.two)
    assert one.post(f"{dataset}/clear").status_code == 200
    assert one.get(f"{dataset}/jobs").json() == {"jobs": []}
    assert fleet.sql("SELECT count(*) FROM deepmemory_hub.open_jobs") == [(0,)]


class Balancer:
    """Spreads searches over those servers whose `/ready` says yes, as a load balancer does; it repeats none."""

    def __init__(self, servers: list[HubProcess], secret: str, path: str, body: dict) -> None:
        self.answers: Counter[object] = Counter()
        self.by: Counter[str] = Counter()
        self.under_way: Counter[str] = Counter()
        self._urls, self._path, self._body = [server.url for server in servers], path, body
        self._headers = {"Authorization": f"Bearer {secret}"}
        self._ready = set(self._urls)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._watch), *(threading.Thread(target=self._ask) for _ in range(3))]
        for thread in self._threads:
            thread.start()

    def has_left(self, server: HubProcess) -> bool:
        """Whether it sends a server nothing any more, and has nothing there."""
        return server.url not in self._ready and not self.under_way[server.url]

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            ready = {url for url in self._urls if self._is_ready(url)}
            with self._lock:
                self._ready = ready

    @staticmethod
    def _is_ready(url: str) -> bool:
        try:
            return httpx.get(f"{url}/ready", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def _ask(self) -> None:
        with httpx.Client(headers=self._headers, timeout=60) as client:
            for turn in itertools.count():
                if self._ended.wait(0.02):
                    return
                with self._lock:
                    ready = [url for url in self._urls if url in self._ready]
                    url = ready[turn % len(ready)] if ready else ""
                    self.under_way[url] += 1
                answer = self._answer(client, url) if url else "nobody is ready"
                with self._lock:
                    self.under_way[url] -= 1
                    self.answers[answer] += 1
                    self.by[url] += 1

    def _answer(self, client: httpx.Client, url: str) -> str:
        try:
            reply = client.post(f"{url}/v1/{self._path}/search", json=self._body)
        except httpx.HTTPError as error:
            return repr(error)
        return reply.json()["results"][0]["hits"][0]["id"] if reply.status_code == 200 else reply.text


def test_servers_are_restarted_one_after_the_other_without_a_failed_search(fleet, clients, dataset, slow, until):
    one, two = clients
    fill(one, dataset, slow)
    body = {"vectors": packed(slow["vectors"][5:6]), "k": 1, "deep_memory": False}
    balancer = Balancer([fleet.one, fleet.two], fleet.secret, dataset, body)
    try:
        job_id = begun(fleet, one, dataset, slow, until, fleet.two)
        for server in (fleet.two, fleet.one):
            until(lambda: balancer.by[server.url] > 5)  # noqa: B023
            os.kill(server.pid, signal.SIGTERM)
            until(lambda: balancer.has_left(server))  # noqa: B023
            # It still does whatever comes, and asks for another connection.
            late = httpx.get(f"{server.url}/v1/me", headers={"Authorization": f"Bearer {fleet.secret}"})
            assert (late.status_code, late.headers["Connection"]) == (200, "close")
            assert server.stop() == 0
            before = balancer.by[server.url]
            server.start()
            until(lambda: balancer.by[server.url] > before + 5)  # noqa: B023
    finally:
        balancer.end()
    assert set(balancer.answers) == {"doc-5"}, balancer.answers
    # The training that one of them ran went on elsewhere, or was done before.
    assert ended(two, dataset, job_id, until)["state"] == "completed"
    assert len(two.get(f"{dataset}/layers").json()["layers"]) == 1


def test_a_database_that_is_away_makes_servers_unready_until_it_is_back(fleet, clients, postgres, until):
    one, _ = clients
    postgres.stop()
    try:
        assert code_of(httpx.get(f"{fleet.one.url}/ready")) == (503, "unavailable")
        assert httpx.get(f"{fleet.one.url}/health").status_code == 200
        reply = one.get("me")
        assert code_of(reply) == (503, "unavailable")
        assert "socket" not in reply.text, "where the database is, is nobody's business"
    finally:
        postgres.restart()
    until(lambda: httpx.get(f"{fleet.one.url}/ready").status_code == 200)
    assert one.get("me").status_code == 200
    until(lambda: fleet.sql("SELECT count(*) FROM deepmemory_hub.processes WHERE seen > 0") == [(3,)])


def test_a_training_whose_process_is_killed_goes_on_in_another(fleet, clients, dataset, slow, until):
    one, _ = clients
    fill(one, dataset, slow)
    job_id = begun(fleet, one, dataset, slow, until, fleet.two)
    fleet.two.kill()
    job = ended(one, dataset, job_id, until)
    assert (job["state"], job["error"]) == ("completed", None)
    assert [layer["report"]["job"] for layer in one.get(f"{dataset}/layers").json()["layers"]] == [job_id]
    assert f"-{fleet.worker.pid}-" in runner(fleet, job_id)
    # Whoever stops in good order is missed at once, once it has drained.
    assert fleet.worker.stop() == 0
    until(lambda: fleet.sql("SELECT count(*) FROM deepmemory_hub.processes") == [(1,)])
