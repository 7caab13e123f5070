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
def model(server) -> Callable[..., OpenAIChat]:
    """The server's model, with little patience."""

    def make(**options) -> OpenAIChat:
        return OpenAIChat("chat-test", base_url=server.base_url, api_key="any", **{"max_retries": 2, **options})

    return make


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Waits as the code does, though for less long."""
    monkeypatch.setattr("deepmemory.endpoint.pacing._FIRST_BACKOFF", 0.02)


@pytest.fixture(autouse=True)
def _closed(monkeypatch) -> Iterator[None]:
    """Closes every model that a test makes: a connection that is left to the garbage collector is a warning."""
    made: list[OpenAIChat] = []
    real = OpenAIChat.__init__

    def remembered(self, *arguments, **options) -> None:
        real(self, *arguments, **options)
        made.append(self)

    monkeypatch.setattr(OpenAIChat, "__init__", remembered)
    yield
    for one in made:
        one.close()
