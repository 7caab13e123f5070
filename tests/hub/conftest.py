"""One hub for all tests of this folder, in a process of its own, with a dataset for each test."""

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from deepmemory.testing import HubProcess

sys.path.append(str(Path(__file__).parents[1] / "store"))  # the small world of `synonyms`

_numbers = itertools.count()


@pytest.fixture(scope="session")
def hub() -> Iterator[HubProcess]:
    """A running hub; tests that kill it start one of their own."""
    with HubProcess() as hub:
        yield hub


@pytest.fixture(scope="session")
def tokens(hub) -> dict[str, str]:
    """A token of each scope for acme, and one of another organisation."""
    made = {"admin": hub.token("acme", "admin"), "other": hub.token("umbrella", "admin")}
    ours = {"Authorization": f"Bearer {made['admin']}"}
    for scope in ("read", "write"):
        reply = httpx.post(f"{hub.url}/v1/orgs/acme/tokens", json={"scope": scope}, headers=ours)
        made[scope] = reply.raise_for_status().json()["secret"]
    return made


@pytest.fixture(autouse=True)
def hub_environment(hub, tokens, monkeypatch, tmp_path) -> None:
    """What a user has set; the user's cache is a folder of the test."""
    monkeypatch.setenv("DEEPMEMORY_HUB_URL", hub.url)
    monkeypatch.setenv("DEEPMEMORY_TOKEN", tokens["write"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def module_environment(hub, tokens) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPMEMORY_HUB_URL", hub.url)
        patch.setenv("DEEPMEMORY_TOKEN", tokens["write"])
        yield


@pytest.fixture
def path() -> str:
    """The path of a dataset that nobody has used."""
    return f"hub://acme/test-{next(_numbers)}"


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits for something to become true."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)

    return wait
