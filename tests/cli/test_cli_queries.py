"""`deepmemory queries`: made out of the documents, paid for once, said honestly."""

import json
import re
import signal

import pytest
from deepmemory_world import vector_of

from deepmemory.formats import read_beir, read_labelled
from deepmemory.synthesis import KINDS
from deepmemory.testing import Fault, OpenAIServer

BEFORE_CHAT = (None, None)
"""Two embeddings: is the embedder the store's own, and will the round trip work."""


def write(request):
    """One query of each kind, about the terms of the page."""
    terms = re.findall(r"term\d+", request.prompt)
    return {"queries": [{"kind": kind, "query": f"{kind} on {' '.join(terms)} if you please"} for kind in KINDS[:3]]}


@pytest.fixture
def endpoint(monkeypatch):
    """An endpoint for embeddings and chat, which the commands know from the environment."""
    with OpenAIServer(embed=vector_of, chat=write) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        yield server


def chats(server) -> int:
    return sum(request.path.endswith("/chat/completions") for request in server.requests)


def test_without_a_model_they_are_extracts_and_said_to_be_second_best(deepmemory, store, here, endpoint):
    outcome = deepmemory("queries", "--out", "made.jsonl")
    assert (outcome.code, outcome.err) == (0, "")
    assert "second best" in outcome.out
    labelled = read_labelled(here / "made.jsonl")
    assert f"{len(labelled):,} queries are in made.jsonl." in outcome.out
    assert chats(endpoint) == 0
    assert deepmemory("train", "--queries", "made.jsonl").code == 0


def test_help_says_what_is_best_and_what_is_sent(deepmemory):
    said = " ".join(deepmemory("queries", "--help").out.split())
    assert "Real questions with their answers teach most" in said
    assert "second best" in said
    assert "sends it the documents" in said


def test_with_a_model_counts_tokens_and_cost_are_shown(deepmemory, store, here):
    prices = ("--price-in", 1, "--price-out", 4)
    outcome = deepmemory("queries", "--out", "made.jsonl", "--llm", "openai:chat-test", *prices)
    assert outcome.code == 0, outcome.err
    assert re.search(r"made +180\n", outcome.out)
    assert re.search(r"used +60\n", outcome.out)
    assert re.search(r"Paid for: 60 replies, [\d,]+ tokens in and [\d,]+ out, cost 0\.0", outcome.out)
    first = json.loads((here / "made.jsonl").read_text().splitlines()[0])
    assert first["generator"] == "openai:chat-test"


def test_as_json(deepmemory, store):
    record = deepmemory("queries", "--out", "q.jsonl", "--llm", "openai:m", "--n", 12, "--json").json
    assert record["queries"] == 12
    assert record["counts"]["made"] >= record["counts"]["kept"] >= 12
    assert record["usage"]["cost"] is None
    assert record["usage"]["tokens_in"] > 0


def test_a_dry_run_asks_nothing_and_writes_nothing(deepmemory, store, here, endpoint):
    arguments = ("--llm", "openai:m", "--price-in", 1, "--price-out", 1, "--dry-run")
    outcome = deepmemory("queries", "--out", "q.jsonl", *arguments)
    assert re.search(
        r"At most, about: 60 replies, .* cost 0\.0\d+, partly estimated\. Nothing was asked\.", outcome.out
    )
    assert deepmemory("queries", "--out", "q.jsonl", *arguments, "--json").json["replies"] == 60
    assert chats(endpoint) == 0
    assert not list(here.glob("q.jsonl*"))


def test_the_same_command_once_more_pays_nothing(deepmemory, store, endpoint):
    command = ("queries", "--out", "q.jsonl", "--llm", "openai:m")
    deepmemory(*command)
    paid = chats(endpoint)
    refused = deepmemory(*command)
    assert refused.code == 1
    assert "q.jsonl exists already: give another name, or --overwrite" in refused.err
    again = deepmemory(*command, "--overwrite")
    assert "Paid for: 0 replies" in again.out
    assert "Paid for earlier: 60 replies" in again.out
    assert chats(endpoint) == paid


def test_ctrl_c_keeps_what_was_paid_for(start, until, store, here, endpoint):
    endpoint.fail_next(*BEFORE_CHAT, *[None] * 7, *[Fault.slow(60)] * 50)
    process = start("queries", "--out", "q.jsonl", "--llm", "openai:m", "--concurrency", 2)
    journal = here / "q.jsonl.replies.jsonl"
    until(lambda: journal.exists() and journal.read_bytes().count(b"\n") == 7)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "What was answered so far is in q.jsonl.replies.jsonl; the same command goes on from there." in err
    assert "Traceback" not in err
    assert journal.read_bytes().count(b"\n") == 7
    assert not (here / "q.jsonl").exists()


def test_the_other_formats(deepmemory, store, here):
    assert deepmemory("queries", "--out", "beir", "--format", "beir", "--n", 10).code == 0
    assert len(read_beir(here / "beir").documents) == 60
    assert deepmemory("queries", "--out", "trec", "--format", "trec", "--n", 10).code == 0
    assert len((here / "trec" / "topics.tsv").read_text().splitlines()) == 10
    assert deepmemory("queries", "--out", "set.json", "--format", "llamaindex", "--n", 10).code == 0
    assert len(read_labelled(here / "set.json")) == 10


def test_the_users_own_questions_are_shown_to_the_model(deepmemory, store, here, endpoint):
    (here / "log.txt").write_text("term3 broke again, help\n")
    outcome = deepmemory("queries", "--out", "q.jsonl", "--llm", "openai:m", "--n", 3, "--examples", "log.txt")
    assert outcome.code == 0
    sent = [r.body["messages"][1]["content"] for r in endpoint.requests if r.path.endswith("/chat/completions")]
    assert all("term3 broke again, help" in content for content in sent)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--format", "xml"), "the format is one of jsonl, beir, trec, llamaindex"),
        (("--kinds", "riddle"), "kinds must be a list of question, keywords, symptom, claim"),
        (("--llm", "gpt-4"), "unknown language model 'gpt-4'"),
        (("--llm", "openai:m", "--price-in", 1), "give both prices"),
        (("--llm", "openai:m", "--budget", 1), "--budget needs prices"),
        (("--examples", "nowhere.txt"), "There is no file nowhere.txt"),
        (("--out", "no/such/folder/q.jsonl"), "there is no folder no/such/folder"),
        (("--store", "nowhere"), "deepmemory ingest"),
    ],
)
def test_mistakes_are_one_sentence_before_anything_is_paid_for(deepmemory, store, here, endpoint, arguments, sentence):
    outcome = deepmemory("queries", "--out", "q.jsonl", *arguments)
    assert outcome.code == 1
    assert sentence in outcome.err
    assert outcome.err.startswith("Error: ")
    assert chats(endpoint) == 0
    assert not list(here.glob("q.jsonl*"))


def test_a_model_that_gives_nothing_is_one_sentence(deepmemory, store, here, endpoint):
    endpoint.fail_next(*BEFORE_CHAT, *[Fault.http(401, "no such key")] * 9)
    outcome = deepmemory("queries", "--out", "q.jsonl", "--llm", "openai:m")
    assert outcome.code == 1
    assert re.fullmatch(
        r"Error: no queries were made: .*refused the API key \(HTTP 401: no such key\); .*\n", outcome.err
    )
    assert not (here / "q.jsonl").exists()
