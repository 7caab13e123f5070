"""Real hubs in processes of their own, and clients that speak plain HTTP to them."""

import time
from collections.abc import Callable, Iterator

import pytest
from hub_client import Client, world

from deepmemory.testing import HubProcess, OpenAIServer
from deepmemory.testing.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def endpoint() -> Iterator[OpenAIServer]:
    """An embedding endpoint of ours, for hubs that embed."""
    with OpenAIServer(dimensions=32) as server:
        yield server


@pytest.fixture(scope="session")
def embedding(endpoint) -> dict[str, str]:
    """The environment of a hub that embeds by that endpoint."""
    return {"OPENAI_BASE_URL": endpoint.base_url, "OPENAI_API_KEY": "any", "DEEPMEMORY_HUB_EMBEDDERS": "local,openai"}


@pytest.fixture(scope="session")
def hub(embedding) -> Iterator[HubProcess]:
    """A hub that stays up; each test uses datasets of its own."""
    with HubProcess(options=("--rate", "0"), environment=embedding) as hub:
        yield hub


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of our own; tests take databases of their own in it."""
    with PostgresServer.running() as server:
        yield server


@pytest.fixture(scope="module")
def tight_hub() -> Iterator[HubProcess]:
    """A hub with narrow limits, which logs queries."""
    limits = {"MAX_BODY_MB": "0.01", "MAX_DOCUMENTS": "3", "MAX_IDS": "4", "MAX_QUERIES": "2", "MAX_K": "50"}
    limits |= {"RATE": "1", "BURST": "30"}
    environment = {f"DEEPMEMORY_HUB_{name}": value for name, value in limits.items()}
    with HubProcess(options=("--log-queries",), environment=environment) as hub:
        yield hub


@pytest.fixture(scope="session")
def secrets(hub) -> dict[str, str]:
    """Secrets by scope in the organisation acme, and of one that is an administrator in rival."""
    admins = {org: hub.token(org, "admin") for org in ("acme", "rival")}
    with Client(hub.url, admins["acme"]) as client:
        made = {s: client.post("orgs/acme/tokens", {"scope": s}).json()["secret"] for s in ("read", "write")}
    return {"admin": admins["acme"], "rival": admins["rival"], **made}


@pytest.fixture(scope="session")
def slow() -> dict:
    """What takes some seconds to learn."""
    return world(2_000, 600, dimensions=256)


@pytest.fixture
def connect() -> Iterator[Callable[[HubProcess, str | None], Client]]:
    """Makes clients, which are closed in the end."""
    clients: list[Client] = []

    def make(hub: HubProcess, secret: str | None) -> Client:
        clients.append(Client(hub.url, secret))
        return clients[-1]

    yield make
    for client in clients:
        client.http.close()


@pytest.fixture
def client(hub, secrets, connect) -> Client:
    """An administrator of acme."""
    return connect(hub, secrets["admin"])


@pytest.fixture
def reader(hub, secrets, connect) -> Client:
    """One that may read in acme."""
    return connect(hub, secrets["read"])


@pytest.fixture
def rival(hub, secrets, connect) -> Client:
    """An administrator of another organisation."""
    return connect(hub, secrets["rival"])


@pytest.fixture
def dataset(request, client) -> str:
    """A new dataset of acme, whose vectors are given."""
    name = f"{request.node.name[5:35].split('[')[0].strip('_')}-{time.time_ns() % 10**9}"
    assert client.put(f"orgs/acme/datasets/{name}", {"embedder": None}).status_code == 201
    return f"orgs/acme/datasets/{name}"


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Waits for something to become true."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 90
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)

    return wait
