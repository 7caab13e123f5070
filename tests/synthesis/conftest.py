"""A real server that speaks OpenAI's protocol and writes queries."""

from collections.abc import Callable, Iterator

import pytest
from writer import write

from deepmemory.synthesis import OpenAIChat
from deepmemory.testing import OpenAIServer


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(chat=write) as running:
        yield running


@pytest.fixture
def model(server) -> Iterator[Callable[..., OpenAIChat]]:
    """The server's model, with little patience."""
    made: list[OpenAIChat] = []

    def make(**options) -> OpenAIChat:
        made.append(OpenAIChat("chat-test", base_url=server.base_url, api_key="any", **{"max_retries": 2, **options}))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Waits as the code does, though a tenth as long."""
    monkeypatch.setattr("deepmemory.embedders.pacing._FIRST_BACKOFF", 0.02)
