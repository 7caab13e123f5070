"""Several writers and readers of one store: nothing acknowledged is lost, whatever others do and however one ends."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deepmemory.backends import open_backend
from deepmemory.data import Document
from deepmemory.testing.backend_twins import DIMENSIONS, corpus

PROGRAM = Path(__file__).parent / "store_process.py"
BATCH = 5


def start(path: Path, role: str, name: str, n: int, *more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(path), role, name, str(n), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes: list["subprocess.Popen[str]"]) -> list[list[str]]:
    """Let them all begin, and return the lines that each printed once all have ended well."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=200) for process in processes]
    assert [(process.returncode, error) for process, (_, error) in zip(processes, results, strict=True)] == [
        (0, "") for _ in processes
    ]
    return [output.split() for output, _ in results]


def all_ids(path: Path) -> list[str]:
    return [i for batch in open_backend(path, create=False).batches() for i in batch.column("id").to_pylist()]


def test_writers_and_readers_at_once_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    n_batches = 20
    n_documents = 3 * n_batches * BATCH + n_batches * BATCH
    writers = [start(tmp_path, "write", name, n_batches) for name in "ABC"]
    readers = [start(tmp_path, "read", name, n_documents) for name in "DE"]
    lines = finish([*writers, *readers])
    assert [len(acknowledged) for acknowledged in lines[:3]] == [n_batches] * 3
    assert lines[3:] == [[str(n_documents)], [str(n_documents)]]
    ids = all_ids(tmp_path)
    assert len(ids) == len(set(ids)) == n_documents
    backend = open_backend(tmp_path, create=False)
    for batch in range(n_batches):
        found = backend.get([f"shared-{batch}-{i}" for i in range(BATCH)])
        # A batch is written as a whole: all its shared documents are the same writer's.
        assert len({document.metadata["writer"] for document in found if document}) == 1


@pytest.mark.parametrize("n_before", [1, 10_000], ids=["without an index of ids", "with an index of ids"])
def test_the_same_new_id_at_the_same_moment_is_one_document(tmp_path: Path, n_before: int) -> None:
    before = [Document(f"before-{i}", "") for i in range(n_before)]
    open_backend(tmp_path, create=True).upsert(before, np.ones((n_before, 2), dtype=np.float32))
    barrier = threading.Barrier(3)

    def add(name: str) -> None:
        backend = open_backend(tmp_path, create=False)
        for i in range(10):
            barrier.wait(timeout=60)
            backend.upsert([Document(f"same-{i}", name), Document(f"{name}-{i}", "")], np.ones((2, 2), np.float32))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(add, "ABC"))
    ids = all_ids(tmp_path)
    assert len(ids) == len(set(ids)) == n_before + 10 + 3 * 10


def test_a_writer_a_deleter_and_upkeep_at_once(tmp_path: Path) -> None:
    backend = open_backend(tmp_path, create=True)
    there = [Document(f"X-{i}", "to be deleted") for i in range(20)]
    backend.upsert(there, corpus(len(there))[1])
    writer = start(tmp_path, "write", "A", 15, "20")  # with a graph from 20 rows on, refreshed while others write
    deleter = start(tmp_path, "delete", "X", 20)
    optimizer = start(tmp_path, "optimize", "O", 6, "20")
    lines = finish([writer, deleter, optimizer])
    assert lines[1] == ["1"] * 20
    ids = all_ids(tmp_path)
    assert len(ids) == len(set(ids)) == 2 * 15 * BATCH
    assert not any(i.startswith("X") for i in ids)


def test_after_kill_9_everything_acknowledged_is_there(tmp_path: Path) -> None:
    # The second writer is killed with a graph to look after.
    for name, n_seen, threshold in (("A", 1, "50000"), ("B", 7, "10")):
        writer = start(tmp_path, "write", name, 10_000, threshold)
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
        acknowledged = [writer.stdout.readline() for _ in range(n_seen)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.stdout.readlines()
        writer.communicate()
        n_acknowledged = len([line for line in acknowledged if line.endswith("\n")])

        backend = open_backend(tmp_path, create=False)
        expected = [f"{name}-{batch}-{i}" for batch in range(n_acknowledged) for i in range(BATCH)]
        assert None not in backend.get(expected)
        # The batch that it was killed in is there as a whole or not at all.
        assert backend.count({"writer": name}) % BATCH == 0
        ids = all_ids(tmp_path)
        assert len(ids) == len(set(ids))
        backend.upsert([Document(f"after {name}", "text")], np.ones((1, DIMENSIONS), dtype=np.float32))
        assert backend.get([f"after {name}"]) != [None]
