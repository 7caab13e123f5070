"""Nothing is paid for twice: replies are on the disk the moment they come, and a run goes on from there."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from writer import documents, write

from deepmemory.data import Document
from deepmemory.errors import InputError, StorageError
from deepmemory.llm import OpenAIChat
from deepmemory.synthesis import FilterOptions, Prices, synthesize
from deepmemory.testing import OpenAIServer

ALL = FilterOptions(near_duplicate=None)


def test_kill_9_in_the_middle_and_start_again(tmp_path):
    gate = threading.Semaphore(5)  # answers that the first process gets; the others it waits for in vain
    closing = threading.Event()

    def chat(request):
        while not gate.acquire(timeout=0.02):
            if closing.is_set():
                raise RuntimeError("nobody waits any more")
        return write(request)

    journal = tmp_path / "replies.jsonl"
    with OpenAIServer(chat=chat) as server:
        command = [
            sys.executable,
            str(Path(__file__).with_name("synthesize_and_die.py")),
            server.base_url,
            str(journal),
        ]
        with subprocess.Popen([*command, "first"], stdout=subprocess.PIPE) as first:
            deadline = time.monotonic() + 60
            while not journal.exists() or journal.read_bytes().count(b"\n") < 5:
                assert time.monotonic() < deadline, "waited in vain"
                time.sleep(0.01)
            first.send_signal(signal.SIGKILL)
        assert first.returncode == -signal.SIGKILL
        kept = journal.read_bytes().count(b"\n")
        assert kept == 5
        for _ in range(100):
            gate.release()
        second = subprocess.run([*command, "second"], capture_output=True, text=True, check=True, timeout=60)
        closing.set()
    assert second.stdout == "36\n"
    # a request of the first may still have been on its way when it died
    asked = [request for request in server.requests if request.headers["authorization"] == "Bearer second"]
    assert len(asked) == 12 - kept, "only what was not answered yet is asked again"
    assert journal.read_bytes().count(b"\n") == 12


def test_a_second_run_asks_nothing_and_makes_the_same(server, model, tmp_path):
    journal = tmp_path / "new" / "replies.jsonl"
    first = synthesize(documents(), model(), journal=journal, prices=Prices(1, 1), filters=ALL)
    again = synthesize(documents(), model(), journal=journal, prices=Prices(1, 1), filters=ALL)
    assert len(server.requests) == 12
    assert again.queries == first.queries
    assert (again.usage.replies, again.usage.cost) == (0, 0.0)
    assert again.reused == first.usage


def test_what_shapes_the_answer_is_part_of_the_key(server, model, tmp_path):
    journal = tmp_path / "replies.jsonl"

    def asked(documents, **options) -> int:
        before = len(server.requests)
        synthesize(documents, options.pop("llm", model()), journal=journal, filters=ALL, **options)
        return len(server.requests) - before

    assert asked(documents(2)) == 2
    assert asked(documents(3)) == 1, "a further document"
    assert asked([Document("other", documents(1)[0].text, documents(1)[0].metadata)]) == 0, "the same text, another id"
    assert asked([Document("d0", "changed")]) == 1
    assert asked(documents(2), per_document=2) == 2
    assert asked(documents(2), kinds=["claim"]) == 2
    assert asked(documents(2), examples=["as people ask"]) == 2
    assert asked(documents(2), temperature=1.0) == 2
    assert asked(documents(2), seed=5) == 0, "the seed chooses among documents, not what a model is asked"


def test_unusable_answers_are_not_paid_for_again(tmp_path):
    with OpenAIServer(chat=lambda r: "nonsense" if "ferns" in r.prompt else write(r)) as server:
        for _ in range(2):
            llm = OpenAIChat("m", base_url=server.base_url, api_key="any")
            made = synthesize(documents(3), llm, journal=tmp_path / "j", filters=ALL)
            assert made.documents == {"used": 2, "nonsense": 1}
    assert len(server.requests) == 4


def test_a_last_line_that_was_cut_short_costs_that_reply_alone(server, model, tmp_path):
    journal = tmp_path / "replies.jsonl"
    synthesize(documents(4), model(), journal=journal, filters=ALL)
    content = journal.read_bytes()
    journal.write_bytes(content[:-20])
    synthesize(documents(4), model(), journal=journal, filters=ALL)
    assert len(server.requests) == 5
    synthesize(documents(4), model(), journal=journal, filters=ALL)
    assert len(server.requests) == 5, "the new line is whole, though the one before it isn't"


def test_what_was_paid_earlier_counts_for_the_budget(server, model, tmp_path):
    prices, journal = Prices(1000.0, 1000.0), tmp_path / "j"
    cost = synthesize(documents(6), model(), journal=journal, prices=prices, filters=ALL).usage.cost
    made = synthesize(documents(), model(), journal=journal, prices=prices, budget=cost, concurrency=1, filters=ALL)
    assert made.documents == {"used": 6, "over_budget": 6}


def test_two_runs_do_not_pay_for_the_same_at_the_same_time(server, model, tmp_path):
    import filelock

    with (
        filelock.FileLock(tmp_path / ".replies.jsonl.lock"),
        pytest.raises(InputError, match=r"another run is writing to .*replies\.jsonl; wait for it"),
    ):
        synthesize(documents(1), model(), journal=tmp_path / "replies.jsonl")
    assert server.requests == []


def test_a_file_that_is_no_journal_is_left_alone(server, model, tmp_path):
    other = tmp_path / "notes.txt"
    other.write_text("milk\nbread\n")
    with pytest.raises(InputError, match="holds no replies of a model"):
        synthesize(documents(1), model(), journal=other)
    assert other.read_text() == "milk\nbread\n"
    with pytest.raises(StorageError, match="can't be used"):
        synthesize(documents(1), model(), journal=tmp_path)
    assert server.requests == []


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files there")
def test_a_full_disk_is_said_in_a_sentence(server, model, tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"j can't be written: File too large"):
            synthesize(documents(1), model(), journal=tmp_path / "j")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert synthesize(documents(1), model(), journal=tmp_path / "j", filters=ALL).documents == {"used": 1}


def test_the_journal_is_plain_lines(server, model, tmp_path):
    synthesize(documents(1), model(), journal=tmp_path / "j", filters=ALL)
    record = json.loads((tmp_path / "j").read_text())
    assert set(record) == {"key", "text", "finish_reason", "usage"}
    assert json.loads(record["text"])["queries"]
