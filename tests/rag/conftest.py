"""A chat endpoint whose model says what a test tells it to, and documents to ask about."""

import pytest

from deepmemory import VectorStore
from deepmemory.testing import OpenAIServer
from deepmemory.testing.openai_server import word_vector

DOCUMENTS = {
    "ice": "Ice is water that is frozen solid.",
    "steam": "Steam is water that is boiling hot.",
    "fog": "Fog is a cloud of drops near the ground.",
}


class Script:
    """Plays the model: says what it is told to, else cites the first source."""

    def __init__(self):
        self.answers = []

    def __call__(self, request):
        if not self.answers:
            return "So it is [1]."
        answer = self.answers.pop(0)
        return answer(request) if callable(answer) else answer


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def server(script, monkeypatch):
    with OpenAIServer(chat=script) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        yield server


@pytest.fixture
def store():
    def embed(texts):
        return [word_vector(text) for text in texts]

    with VectorStore("memory://", embedder=embed) as store:
        store.add(
            list(DOCUMENTS.values()),
            [{"title": id.capitalize(), "url": f"https://weather.example/{id}"} for id in DOCUMENTS],
            list(DOCUMENTS),
        )
        yield store
