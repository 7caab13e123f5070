"""Commands run in this process or in one of their own, on a small world in which people ask with other words."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deepmemory_world import vector_of, write_handbook

from deepmemory.cli.ending import DEBUG_VARIABLE, run
from deepmemory.testing import OpenAIServer


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Outcome]


@pytest.fixture
def endpoint(monkeypatch) -> Iterator[OpenAIServer]:
    """An endpoint for embeddings, which the commands know from the environment."""
    with OpenAIServer(embed=vector_of) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        yield server


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """Every command runs in a folder of its own, without what the developer has set."""
    monkeypatch.chdir(tmp_path)
    for name in ("DEEPMEMORY_STORE", DEBUG_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def deepmemory(capsys) -> Command:
    """Runs a command in this process."""

    def command(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return command


@pytest.fixture
def handbook(here) -> Path:
    """A folder of pages, each about three topics."""
    return write_handbook(here / "handbook")


@pytest.fixture(scope="session")
def filled(tmp_path_factory) -> Path:
    """The store of a handbook, made once."""
    place = tmp_path_factory.mktemp("filled")
    with OpenAIServer(embed=vector_of) as server, pytest.MonkeyPatch.context() as environment:
        environment.setenv("OPENAI_BASE_URL", server.base_url)
        environment.setenv("OPENAI_API_KEY", "any")
        handbook = write_handbook(place / "handbook")
        assert run(["ingest", str(handbook), "--embedder", "openai:words", "--store", str(place / "store")]) == 0
    return place / "store"


@pytest.fixture
def store(filled, endpoint, here) -> str:
    """The store of a handbook, at the place where commands look for one."""
    shutil.copytree(filled, here / "deepmemory-store")
    return "deepmemory-store"


@pytest.fixture
def ask(deepmemory, store, here) -> Callable[..., Path]:
    """Writes questions about the handbook's pages, in other words than theirs, and their answers."""
    documents = deepmemory("documents", "--json").json

    def write(name: str, n: int, seed: int = 1) -> Path:
        random = np.random.default_rng(seed)
        lines = []
        for number, row in enumerate(random.choice(len(documents), n).tolist()):
            topics = documents[row]["text"].split("\n\n")[1].replace("term", "synonym")
            query = {"query": f"{name} {number}: {topics}", "relevance": [[documents[row]["id"], 1.0]]}
            lines.append(json.dumps(query))
        path = here / f"{name}.jsonl"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts a command in a process of its own; those left over are killed."""
    processes: list[subprocess.Popen] = []

    def begin(*arguments: object, **options: Any) -> subprocess.Popen:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, "-m", "deepmemory", *map(str, arguments)], **{**pipes, **options})
        processes.append(process)
        return process

    yield begin
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits for something to become true."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.01)

    return wait


@pytest.fixture
def contents() -> Callable[[str], dict[str, bytes]]:
    """Everything in a folder, to see that nothing was changed."""

    def read(folder: str) -> dict[str, bytes]:
        files = [Path(root, name) for root, _, names in os.walk(folder) for name in names]
        return {str(file): file.read_bytes() for file in files}

    return read
