"""Commands as processes: interrupted, cut off, piped, on a terminal."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from deepmemory_world import vector_of

from deepmemory import VectorStore
from deepmemory.testing import OpenAIServer

HEAVY = {"torch", "lancedb", "pyarrow", "numpy", "scipy", "httpx", "openai", "rich", "lxml", "langchain_core"}


class Held:
    """An embedding that stands still when it comes to a text with a certain word, until it is let go."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.reached = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, text: str) -> list[float]:
        if self.word in text:
            self.reached.set()
            self.let_go.wait(60)
        return vector_of(text)


@pytest.fixture
def hold(monkeypatch) -> Iterator:
    """Makes an endpoint that stands still at a word."""
    servers = []

    def at(word: str) -> Held:
        held = Held(word)
        server = OpenAIServer(embed=held).start()
        servers.append((held, server))
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        return held

    yield at
    for held, server in servers:
        held.let_go.set()
        server.stop()


def interrupted(process: subprocess.Popen, held: Held) -> str:
    """What a command says that is interrupted while the endpoint holds it; checks how it ends."""
    assert held.reached.wait(60), process.communicate()[1]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert "Interrupted. " in err
    return err


def test_ctrl_c_while_ingesting_keeps_what_was_stored_and_the_next_run_goes_on(hold, start, deepmemory, here):
    folder = here / "many"
    folder.mkdir()
    for number in range(600):
        (folder / f"page{number:03}.md").write_text(f"# Page {number}\n\nterm{number}\n")
    held = hold("term580")
    said = interrupted(start("ingest", folder, "--embedder", "openai:words"), held)
    assert "the same command goes on" in said
    held.let_go.set()
    kept = deepmemory("info", "--json").json["documents"]
    assert 0 < kept < 600
    [report] = deepmemory("ingest", folder, "--json").json
    assert (report["chunks_added"], report["chunks_unchanged"]) == (600 - kept, kept)
    assert deepmemory("info", "--json").json["documents"] == 600


def test_ctrl_c_while_training_cancels_the_job_and_leaves_the_store_as_it_was(hold, start, ask, deepmemory, store):
    train = ask("train", 150)
    deepmemory("train", "--queries", train)
    held = hold("again")
    said = interrupted(start("train", "--queries", ask("again", 150)), held)
    assert "the store is as it was" in said
    first, second = deepmemory("jobs", "--json").json
    assert (first["state"], second["state"]) == ("completed", "cancelled")
    assert [layer["name"] for layer in deepmemory("layers", "--json").json] == ["v1"]


def test_ctrl_c_while_evaluating_changes_nothing(hold, start, ask, here):
    held = hold("test")
    interrupted(start("evaluate", "--queries", ask("test", 20), "--report", here / "report.html"), held)
    assert not (here / "report.html").exists()


def test_ctrl_c_while_measuring_changes_nothing(hold, start, here):
    folder = here / "collection"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text("".join(f'{{"_id": "d{n}", "text": "term{n}"}}\n' for n in range(9)))
    (folder / "queries.jsonl").write_text("".join(f'{{"_id": "q{n}", "text": "synonym{n}"}}\n' for n in range(9)))
    judged = "".join(f"q{n}\td{n}\t1\n" for n in range(9))
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    held = hold("synonym")
    interrupted(start("benchmark", folder, "--split", "query", "--embedder", "openai:words"), held)
    assert [path.name for path in here.iterdir()] == ["collection"]


def test_kill_9_while_training_shows_the_job_as_failed(hold, start, ask, deepmemory, store):
    held = hold("train")
    process = start("train", "--queries", ask("train", 150))
    assert held.reached.wait(60)
    process.kill()
    process.communicate()
    job = deepmemory("status", "--json").json
    assert job["state"] == "failed"
    assert "ended before the job did" in job["error"]


def test_a_job_can_be_cancelled_from_elsewhere(hold, start, ask, deepmemory, store):
    held = hold("train")
    process = start("train", "--queries", ask("train", 150))
    assert held.reached.wait(60)
    assert deepmemory("status", "--json").json["state"] == "training"
    assert "is cancelled" in deepmemory("cancel").out
    held.let_go.set()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "cancelled" in err
    assert "Traceback" not in err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE and no /bin/sh")
def test_a_reader_that_has_enough_is_no_error(start, store):
    line = f"{sys.executable} -m deepmemory documents --json | head -c 10"
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True)
    assert (len(done.stdout), done.stderr) == (10, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_the_output_is_one_sentence(start, store):
    with Path("/dev/full").open("w") as full:
        process = start("documents", "--json", stdout=full)
        err = process.communicate()[1]
    assert process.returncode == 1
    assert err == "Error: the system refused: No space left on device\n"


def test_an_output_that_lacks_characters_gets_question_marks_and_json_escapes(start, endpoint, here, deepmemory):
    (here / "page.txt").write_text("term1 — naïve 東京", encoding="utf-8")
    deepmemory("ingest", here / "page.txt", "--embedder", "openai:words")
    western = {"env": {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}, "encoding": "latin-1"}
    out, err = start("search", "term1", **western).communicate()
    assert ("term1 ? naïve ??" in out, err) == (True, "")
    out, _ = start("search", "term1", "--json", **western).communicate()
    assert json.loads(out)["hits"][0]["text"] == "term1 — naïve 東京"


def test_help_and_mistakes_load_nothing_heavy():
    script = (
        "import sys\n"
        "from deepmemory.cli.ending import run\n"
        "for arguments in (['--help'], ['train', '--help'], ['search', '--nonsense']): run(arguments)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stderr.split()) & HEAVY == set()


def test_the_module_is_the_command(start):
    out, _ = start("--version").communicate()
    assert out.startswith("deepmemory ")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals of this kind")
def test_progress_is_shown_on_a_terminal_and_json_stays_pure(start, endpoint, handbook):
    import pty

    ours, theirs = pty.openpty()
    process = start("ingest", handbook, "--embedder", "openai:words", "--json", stderr=theirs)
    os.close(theirs)
    shown = bytearray()
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # how Linux says that the other side is closed
        pass
    out = process.communicate()[0]
    os.close(ours)
    assert json.loads(out)[0]["pages_read"] == 60
    assert b"Documents" in shown
    assert b"60/60" in shown


def test_a_store_left_by_an_interrupted_command_opens(hold, start, ask, store):
    held = hold("train")
    interrupted(start("train", "--queries", ask("train", 150)), held)
    with VectorStore(store, create=False) as opened:
        assert len(opened) == 60
        assert None not in opened.get([document.id for document in opened.documents()])
