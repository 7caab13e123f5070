"""Without their extras the integrations say what to install; Deep Lake's names need none."""

import subprocess
import sys

import pytest


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("module", "package"), [("langchain", "langchain_core"), ("llamaindex", "llama_index")])
def test_a_missing_extra_is_named_with_its_command(module, package):
    done = run(f"import sys\nsys.modules[{package!r}] = None\nimport deepmemory.integrations.{module}")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("deepmemory.errors.MissingExtraError: ")
    assert last.endswith(f"pip install 'deepmemory[{module}]'")


def test_deep_lakes_names_need_no_extra():
    done = run(
        "import sys\n"
        "for name in ('langchain_core', 'llama_index', 'pydantic', 'torch', 'fastapi'): sys.modules[name] = None\n"
        "from deepmemory.integrations.deeplake import VectorStore\n"
        "store = VectorStore('mem://x')\n"
        "store.add(text=['a'], embedding=[[1.0, 0.0]])\n"
        "assert store.search(embedding=[1.0, 0.0])['text'] == ['a']\n"
    )
    assert done.returncode == 0, done.stderr
