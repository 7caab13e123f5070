"""A store with something to learn, and ways to run other processes on it."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import synonyms

from deepmemory import VectorStore

HERE = Path(__file__).parent


@pytest.fixture
def store() -> Iterator[VectorStore]:
    """An empty store in memory."""
    with VectorStore("memory://", embedder=synonyms.word_vectors) as store:
        yield store


@pytest.fixture(params=["memory", "folder"])
def filled(request, tmp_path) -> Iterator[VectorStore]:
    """A store with the documents of `synonyms`, in memory and in a folder."""
    path = "memory://" if request.param == "memory" else tmp_path / "store"
    ids, texts = synonyms.documents()
    with VectorStore(path, embedder=synonyms.word_vectors) as store:
        store.add(texts, ids=ids)
        yield store


@pytest.fixture
def folder(tmp_path) -> Path:
    """The folder of a store with the documents of `synonyms`."""
    ids, texts = synonyms.documents()
    with VectorStore(tmp_path / "store", embedder=synonyms.word_vectors) as store:
        store.add(texts, ids=ids)
    return tmp_path / "store"


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts Python processes that can import `synonyms`; those left over are killed."""
    processes: list[subprocess.Popen] = []

    def start(script: str, *arguments: object) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", f"import sys\nsys.path.insert(0, {str(HERE)!r})\n{script}", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits for something to become true."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.01)

    return wait
