"""Bad input gets one clear sentence and an exit code, and changes nothing."""

import json
from pathlib import Path

import pytest

from deepmemory import VectorStore
from deepmemory.testing import Fault


def lines(*records: object) -> str:
    return "".join(f"{record if isinstance(record, str) else json.dumps(record)}\n" for record in records)


def good(id: str) -> dict:
    return {"query": "good", "relevance": [[id, 1.0]]}


def refused(outcome, *said: str) -> None:
    """One sentence on stderr, nothing on stdout, exit code 1."""
    assert outcome.code == 1
    assert outcome.out == ""
    assert outcome.err.startswith("Error: ")
    assert "Traceback" not in outcome.err
    for words in said:
        assert words in outcome.err


BAD_QUESTIONS = {
    "an id that is not in the store": (good("nope"), "line 2: there is no document with the id 'nope'"),
    "an empty id": (good(""), "line 2: a document id"),
    "an id of another type": ({"query": "q", "relevance": [[7, 1.0]]}, "line 2: a document id"),
    "an empty query": ({"query": " ", "relevance": [["x", 1.0]]}, "line 2: the query"),
    "a query that is no text": ({"query": 5, "relevance": [["x", 1.0]]}, "line 2: the query"),
    "no relevance": ({"query": "q", "relevance": []}, "line 2: the query has no relevant document"),
    "relevance of another shape": ({"query": "q", "relevance": ["x"]}, "line 2: expected a list of"),
    "a negative grade": ({"query": "q", "relevance": [["x", -1]]}, "line 2: the grade of 'x' must be 0 or more"),
    "a grade that is no number": ({"query": "q", "relevance": [["x", "high"]]}, "line 2: the grade of 'x' must be"),
    "one id with two grades": ({"query": "q", "relevance": [["x", 1], ["x", 2]]}, "given twice with different grades"),
    "a line that is no JSON": ("{oops", "line 2: not valid JSON"),
    "a line without relevance": ({"query": "q"}, "line 2: expected"),
}


@pytest.mark.parametrize(("bad", "said"), BAD_QUESTIONS.values(), ids=BAD_QUESTIONS)
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_bad_question_is_named_by_its_line(deepmemory, store, here, contents, command, bad, said):
    known = deepmemory("documents", "--limit", "1", "--json").json[0]["id"]
    file = here / "questions.jsonl"
    file.write_text(lines(good(known), bad))
    before = contents(store)
    refused(deepmemory(command, "--queries", file), "questions.jsonl", said)
    assert contents(store) == before


def test_all_bad_questions_are_named_together(deepmemory, store, here):
    file = here / "questions.jsonl"
    file.write_text(lines(good("nope"), {"query": "", "relevance": [["x", 1]]}, "{"))
    told = deepmemory("train", "--queries", file)
    refused(told, "problems in the input; nothing was changed", "line 1", "line 2", "line 3")
    assert len([line for line in told.err.splitlines() if line.startswith("  - ")]) >= 3


@pytest.mark.parametrize("content", ["", "\n", "no table at all\n", "\x00\x01\x02"])
def test_a_file_of_another_kind_is_refused(deepmemory, store, here, content):
    (here / "questions.jsonl").write_text(content)
    refused(deepmemory("train", "--queries", "questions.jsonl"), "questions.jsonl")


def test_a_file_that_is_not_there(deepmemory, store):
    refused(deepmemory("train", "--queries", "none.jsonl"), "none.jsonl")


COMMANDS = [
    ("search", "x"),
    ("train", "--queries", "q"),
    ("evaluate", "--queries", "q"),
    ("status",),
    ("jobs",),
    ("cancel",),
    ("layers",),
    ("info",),
    ("documents",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
class TestEveryCommandOnAStore:
    def test_says_how_to_make_one_where_there_is_none(self, deepmemory, here, command):
        refused(deepmemory(*command, "--store", "my store"), "my store", "deepmemory ingest FOLDER_OR_URL --store 'my")
        assert list(here.iterdir()) == []

    def test_leaves_another_folder_alone(self, deepmemory, here, contents, command):
        (here / "photos").mkdir()
        (here / "photos" / "cat.jpg").write_bytes(b"cat")
        before = contents("photos")
        refused(deepmemory(*command, "--store", "photos"), "photos")
        assert contents("photos") == before

    def test_refuses_a_file(self, deepmemory, here, command):
        (here / "file").write_text("x")
        refused(deepmemory(*command, "--store", "file"), "is a file, and a Deep Memory store is a folder")

    def test_refuses_a_store_of_a_newer_version(self, deepmemory, store, command):
        record = Path(store, "deepmemory.json")
        record.write_text(json.dumps(json.loads(record.read_text()) | {"format": 99}))
        refused(deepmemory(*command), "newer")


def test_ingesting_into_another_folder_leaves_it_alone(deepmemory, handbook, here, contents):
    (here / "photos").mkdir()
    (here / "photos" / "cat.jpg").write_bytes(b"cat")
    refused(deepmemory("ingest", handbook, "--store", "photos"), "photos", "no Deep Memory store")
    assert list(contents("photos")) == ["photos/cat.jpg"]


def test_a_store_is_filled_with_one_embedder_only(deepmemory, store, handbook, contents):
    before = contents(store)
    refused(deepmemory("ingest", handbook, "--embedder", "local"), "openai:words", "local")
    refused(deepmemory("ingest", handbook, "--embedder", "nonsense"), "unknown embedder 'nonsense'")
    assert contents(store) == before


@pytest.mark.parametrize("source", ["nowhere", "http://", "ftp://example.org/", ""])
def test_a_source_that_is_none_makes_no_store(deepmemory, here, source):
    refused(deepmemory("ingest", source))
    assert list(here.iterdir()) == []


def test_a_site_on_this_machine_is_asked_for_only_when_that_is_allowed(deepmemory, endpoint):
    site = endpoint.base_url.replace("/v1", "/docs/")
    refused(deepmemory("ingest", site, "--embedder", "openai:words"), "--allow-private")
    refused(deepmemory("ingest", site, "--allow-private", "--embedder", "openai:words"), "404")


def test_a_site_that_does_not_answer(deepmemory, endpoint):
    endpoint.stop()
    site = "http://127.0.0.1:9/"
    refused(deepmemory("ingest", site, "--allow-private", "--embedder", "openai:words"), "127.0.0.1:9")
    endpoint.start()


def test_an_endpoint_whose_reply_is_no_json(deepmemory, store, endpoint, contents):
    before = contents(store)
    endpoint.fail_next(*[Fault.broken_json()] * 10)
    refused(deepmemory("search", "term1"), "JSON")
    assert contents(store) == before


def test_a_layer_that_was_cut_off(deepmemory, store, ask):
    deepmemory("train", "--queries", ask("train", 150))
    [layer] = Path(store).rglob("v1.safetensors")
    layer.write_bytes(layer.read_bytes()[:-100])
    refused(deepmemory("search", "synonym1"), "v1")
    assert deepmemory("search", "synonym1", "--no-deep-memory").code == 0


def test_layers_that_are_not_there_and_choices_that_contradict(deepmemory, store):
    refused(deepmemory("layers", "--use", "v9"), "v9")
    refused(deepmemory("layers", "--use", "v1", "--off"), "give one of them")
    refused(deepmemory("layers", "--rollback"))


def test_jobs_that_are_not_there(deepmemory, store):
    refused(deepmemory("status"), "start one: deepmemory train")
    refused(deepmemory("cancel", "abc"), "start one: deepmemory train")


def test_a_report_that_cannot_be_written_is_refused_before_the_work(deepmemory, ask, endpoint, here):
    questions = ask("test", 5)
    asked = len(endpoint.requests)
    refused(deepmemory("evaluate", "--queries", questions, "--report", here / "none" / "r.html"), "there is no folder")
    assert len(endpoint.requests) == asked
    refused(deepmemory("evaluate", "--queries", questions, "--report", here), str(here))
    assert len(endpoint.requests) == asked


@pytest.mark.parametrize("filter", ["path", "=x", ""])
def test_a_filter_that_is_none(deepmemory, store, filter):
    refused(deepmemory("search", "x", "--filter", filter), f"--filter expects KEY=VALUE, found {filter!r}")


def test_words_and_an_empty_question(deepmemory, store):
    refused(deepmemory("search", " "), "query")


def test_a_collection_that_is_none(deepmemory, here):
    refused(deepmemory("benchmark", "nowhere"), "nowhere")
    (here / "folder").mkdir()
    refused(deepmemory("benchmark", here / "folder"), "folder")


USAGE = {
    "no such command": ("nonsense",),
    "no such option": ("search", "x", "--nonsense"),
    "a missing argument": ("search",),
    "a missing option": ("train",),
    "no number": ("search", "x", "--k", "many"),
    "a number out of range": ("search", "x", "--k", "0"),
    "no such mode": ("search", "x", "--mode", "smell"),
    "no such split": ("benchmark", ".", "--split", "odd"),
}


@pytest.mark.parametrize("arguments", USAGE.values(), ids=USAGE)
def test_a_wrong_command_line_ends_with_2_and_points_to_help(deepmemory, arguments):
    outcome = deepmemory(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert "deepmemory" in outcome.err
    assert "for help" in outcome.err
    assert "Traceback" not in outcome.err


def test_debug_shows_where_an_error_comes_from(deepmemory, monkeypatch):
    assert "Traceback" in deepmemory("--debug", "search", "x").err
    assert "Traceback" not in deepmemory("search", "x").err
    monkeypatch.setenv("DEEPMEMORY_DEBUG", "1")
    assert "Traceback" in deepmemory("search", "x").err


def test_a_fault_of_ours_is_called_so(deepmemory, store, monkeypatch):
    monkeypatch.setattr(VectorStore, "summary", lambda _: {}["missing"])
    refused(deepmemory("info"), "unexpected KeyError: 'missing'", "a fault in Deep Memory", "--debug")
