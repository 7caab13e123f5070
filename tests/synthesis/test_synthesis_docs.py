"""What docs/queries.md shows is run as it stands there."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from writer import documents, write

from deepmemory.cli.app import app
from deepmemory.llm import OpenAIChat
from deepmemory.store import VectorStore
from deepmemory.testing import OpenAIServer

PAGE = (Path(__file__).parents[2] / "docs" / "queries.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_the_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with OpenAIServer(chat=write) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        with VectorStore("deepmemory-store", embedder="openai:words") as store:
            store.add([d.text for d in documents()], ids=[d.id for d in documents()])
        names = {
            "real_queries": ["how 2 knead"],
            "real_relevance": [[(documents()[1].id, 1.0)]],
            "docs": [document.text for document in documents()],
            "ids": [document.id for document in documents()],
            "chat_model": OpenAIChat("chat-test"),
        }
        exec(blocks("python")[0], names)
        names["store"].close()
    assert len(names["questions"]) == len(names["relevances"]) > 0
    assert names["train_questions"] + names["test_questions"] == names["questions"]
    assert len(names["train"]) + len(names["test"]) == len(names["made"].queries)


@pytest.mark.parametrize("line", [line for line in blocks("sh")[0].splitlines() if line.startswith("deepmemory ")])
def test_the_commands_are_understood(line):
    words = shlex.split(line, comments=True)[1:]
    command = typer.main.get_command(app).commands[words[0]]
    assert command.make_context(words[0], words[1:]).params
