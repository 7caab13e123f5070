"""``deepmemory ask``: an answer that streams, its sources, and what is said where none can be given."""

import os
import pty
import sys

import pytest
from deepmemory_world import vector_of

from deepmemory.testing import Fault, OpenAIServer

ARGUMENTS = ("ask", "term1", "term2?", "--llm", "openai:small")


@pytest.fixture
def endpoint(monkeypatch):
    """One endpoint for embeddings and chat; the model cites what it is told to."""

    class Model:
        said = "It says term1 [1]."

        def __call__(self, request):
            return self.said

    model = Model()
    with OpenAIServer(embed=vector_of, chat=model) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        server.model = model
        yield server


def prompts(endpoint):
    return [r.body for r in endpoint.requests if r.path.endswith("/chat/completions")]


def test_an_answer_with_its_sources(deepmemory, store, endpoint):
    endpoint.model.said = "It says term1 [1], and more [3]."
    asked = deepmemory(*ARGUMENTS, "--k", 3)
    assert (asked.code, asked.err) == (0, "")
    first = deepmemory("search", "term1 term2?", "--k", 3, "--json").json["hits"]
    answer, blank, one, three = asked.out.splitlines()
    assert (answer, blank) == ("It says term1 [1], and more [3].", "")
    assert (
        one == f"[1] {first[0]['metadata']['title']} - {first[0]['metadata']['path']}#{first[0]['metadata']['anchor']}"
    )
    assert three.startswith(f"[3] {first[2]['metadata']['title']}")
    (body,) = prompts(endpoint)
    assert body["stream"] is True
    assert body["messages"][-1]["content"].endswith("Question: term1 term2?")
    assert body["messages"][-1]["content"].count("\n\n[") == 2


def test_as_json(deepmemory, store, endpoint):
    endpoint.model.said = "It says term1 [1] [9]."
    asked = deepmemory(*ARGUMENTS, "--json", "--no-deep-memory")
    assert (asked.code, asked.err) == (0, "")
    assert asked.json["answer"] == "It says term1 [1]."
    assert [source["number"] for source in asked.json["sources"]] == [1, 2, 3, 4, 5]
    assert asked.json["invented_citations"] == [9]


def test_not_in_the_documents(deepmemory, store, endpoint):
    endpoint.model.said = "NOT IN THE DOCUMENTS"
    asked = deepmemory(*ARGUMENTS)
    assert (asked.code, asked.out, asked.err) == (0, "The answer is not in the documents.\n", "")


def test_what_a_reader_must_know_is_on_stderr(deepmemory, store, endpoint):
    endpoint.model.said = "So I believe [8]."
    asked = deepmemory(*ARGUMENTS)
    assert asked.out == "So I believe.\n"
    assert "cites no source" in asked.err
    assert "do not exist (8)" in asked.err


def test_a_terminal_is_not_steered_by_an_answer(deepmemory, store, endpoint):
    endpoint.model.said = "\x1b[31mred\x1b[0m [1]."
    assert "\x1b" not in deepmemory(*ARGUMENTS).out


@pytest.mark.parametrize("missing", ["--llm", "address"])
def test_without_a_model_one_sentence_says_what_to_set(deepmemory, store, endpoint, monkeypatch, missing):
    monkeypatch.delenv("DEEPMEMORY_LLM", raising=False)
    if missing == "address":
        monkeypatch.delenv("OPENAI_BASE_URL")
        monkeypatch.delenv("OPENAI_API_KEY")
    asked = deepmemory(*(ARGUMENTS[:-2] if missing == "--llm" else ARGUMENTS))
    assert (asked.code, asked.out) == (1, "")
    assert asked.err.count("\n") == 1
    assert all(name in asked.err for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "--llm"))
    assert endpoint.requests == []


def test_the_model_may_be_named_in_the_environment(deepmemory, store, endpoint, monkeypatch):
    monkeypatch.setenv("DEEPMEMORY_LLM", "openai:other")
    assert deepmemory(*ARGUMENTS[:-2]).code == 0
    assert prompts(endpoint)[0]["model"] == "other"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ask", "x", "--llm", "claude"), "unknown language model 'claude'"),
        (("ask", " ", "--llm", "openai:m"), "the question is empty"),
        (("ask", "x", "--llm", "openai:m", "--store", "nowhere"), "nowhere"),
    ],
)
def test_mistakes(deepmemory, store, endpoint, arguments, said):
    asked = deepmemory(*arguments)
    assert asked.code == 1
    assert said in asked.err
    assert prompts(endpoint) == []


def test_an_answer_that_breaks_off(deepmemory, store, endpoint):
    endpoint.model.said = "It says term1 and much more that never comes [1]."
    deepmemory(*ARGUMENTS)
    before = [request.path.endswith("/chat/completions") for request in endpoint.requests].index(True)
    endpoint.fail_next(*[None] * before, Fault.truncated(0.5))
    asked = deepmemory(*ARGUMENTS)
    assert asked.code == 1
    assert asked.out.startswith("It says term1")
    assert "broke off" in asked.err


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_pieces_come_one_by_one_on_a_terminal(start, store, endpoint):
    master, slave = pty.openpty()
    process = start(*ARGUMENTS, stdout=slave)
    os.close(slave)
    seen = b""
    while b"[1] Page" not in seen:
        seen += os.read(master, 1024)
    assert process.wait() == 0
    os.close(master)
    assert b"It says term1 [1].\r\n\r\n[1] Page" in seen
