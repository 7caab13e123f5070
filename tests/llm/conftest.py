"""A chat endpoint that the models know from the environment."""

import pytest

from deepmemory.testing import ChatReply, OpenAIServer


class Script:
    """Plays the model: says what it is told to, else repeats the question."""

    def __init__(self):
        self.answers = []

    def __call__(self, request):
        return self.answers.pop(0) if self.answers else ChatReply(f"You said: {request.prompt}")


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def server(script, monkeypatch):
    with OpenAIServer(chat=script, api_key="sk-secret-of-the-test") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-the-test")
        yield server
