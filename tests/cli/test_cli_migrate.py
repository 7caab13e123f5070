"""``migrate`` on the command line: try it, do it, search with it, go back."""

import numpy as np
import pytest
from deepmemory_world import vector_of

from deepmemory.testing import OpenAIServer

TURN = np.random.default_rng(5).normal(size=(32, 40))


@pytest.fixture
def other(monkeypatch, endpoint):
    """The endpoint serves another model from now on, of other dimensions."""
    with OpenAIServer(embed=lambda text: list(np.asarray(vector_of(text)) @ TURN)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        yield server


def words(text: str) -> str:
    return " ".join(text.split())


def test_a_walk_there_and_back(deepmemory, store, ask, other, contents):
    train, test = ask("train", 40), ask("test", 30, seed=2)
    before = contents(store)
    tried = deepmemory("migrate", "--embedder", "openai:turned", "--test", test, "--dry-run")
    assert (tried.code, tried.err) == (0, "")
    assert "The store is as it was: this was a dry run." in words(tried.out)
    assert {name: data for name, data in contents(store).items() if "sqlite" not in name} == before
    done = deepmemory("migrate", "--embedder", "openai:turned", "--queries", train, "--json")
    assert done.code == 0, done.err
    assert done.json["migrated"]
    assert done.json["documents"] == "mapped"  # the endpoint has no openai:words any more
    assert done.json["comparison"]["old"] is None
    assert (done.json["map"]["new_dimensions"], done.json["map"]["old_dimensions"]) == (40, 32)
    assert done.json["map"]["n_queries"] == 40
    assert deepmemory("info", "--json").json["embedder"] == "openai:turned"
    assert deepmemory("search", "term3 term4", "--json").code == 0
    again = deepmemory("migrate", "--embedder", "openai:turned")
    assert again.code == 1
    refused = deepmemory("migrate", "--rollback", "--dry-run")
    assert refused.code == 1
    assert "already: go back first" in again.err
    back = deepmemory("migrate", "--rollback")
    assert back.code == 0
    assert "go through openai:words again" in words(back.out)
    assert deepmemory("info", "--json").json["embedder"] == "openai:words"


def test_mistakes_end_in_a_sentence(deepmemory, store, other):
    for arguments, said in (
        ((), "say which embedding model comes"),
        (("--rollback", "--embedder", "local"), "give it alone"),
        (("--rollback",), "was not migrated"),
        (("--embedder", "openai:turned", "--documents", "new"), "documents is 'old' or 'mapped'"),
        (("--embedder", "nonsense"), "unknown embedder 'nonsense'"),
        (("--embedder", "openai:turned", "--store", "hub://org/docs", "--rollback"), "give it alone"),
    ):
        outcome = deepmemory("migrate", *arguments)
        assert outcome.code == 1
        assert said in words(outcome.err)
