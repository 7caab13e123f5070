"""`import deepmemory` costs milliseconds: nothing heavy is loaded before it is used."""

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys

import pytest

import deepmemory

HEAVY = (
    "bs4", "docutils", "fastapi", "filelock", "httpx", "lancedb", "langchain", "langchain_core", "llama_index", "lxml",
    "numpy", "obstore", "openai", "pandas", "pyarrow", "pydantic", "pypdf", "rich", "safetensors", "scipy",
    "sentence_transformers", "tokenizers", "torch", "transformers", "typer",
)  # fmt: skip
VENDORS = (
    "fastapi", "langchain", "langchain_core", "llama_index", "obstore", "openai", "sentence_transformers", "torch",
    "typer",
)  # fmt: skip


def loaded_by(code: str, environment: dict[str, str] | None = None) -> set[str]:
    """Top-level modules that a fresh interpreter has after some code."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    return set(json.loads(done.stdout))


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import deepmemory") & set(HEAVY) == set()


def test_naming_the_store_loads_no_engine_no_model_and_no_vendor():
    code = "import sys\nfrom deepmemory import VectorStore, DeepMemory\nassert 'scipy.optimize' not in sys.modules"
    assert loaded_by(code) & {*VENDORS, "lancedb"} == set()


def test_a_store_in_memory_needs_no_engine_and_no_model():
    code = (
        "from deepmemory import VectorStore\n"
        "store = VectorStore('memory://', embedder=None)\n"
        "store.add(['a'], embeddings=[[1.0, 0.0]])\n"
        "assert store.search(embedding=[1.0, 0.0])[0].text == 'a'\n"
    )
    assert loaded_by(code) & {*VENDORS, "lancedb"} == set()


def test_a_store_on_a_hub_needs_no_engine_no_model_and_no_server():
    code = (
        "from deepmemory import HubUnavailableError, VectorStore\n"
        "try:\n"
        "    VectorStore('hub://acme/docs', token='dm_any')\n"
        "except HubUnavailableError:\n"
        "    pass\n"
        "else:\n"
        "    raise AssertionError\n"
    )
    environment = {**os.environ, "DEEPMEMORY_HUB_URL": "http://127.0.0.1:9"}
    assert loaded_by(code, environment) & {*VENDORS, "lancedb", "uvicorn", "sqlalchemy"} == set()


def test_a_store_that_is_only_looked_at_loads_no_model(tmp_path):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("the local embedder is not installed")
    code = (
        "from deepmemory import VectorStore\n"
        f"with VectorStore({str(tmp_path / 'store')!r}) as store:\n"
        "    store.summary()\n"
        "    store.deep_memory.list_jobs(verbose=False)\n"
    )
    assert loaded_by(code) & {"torch", "tokenizers", "transformers"} == set()


def test_every_public_name_is_there():
    for name in deepmemory.__all__:
        assert getattr(deepmemory, name) is not None
    assert set(deepmemory.__all__) <= set(dir(deepmemory))


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'VectorStorage'"):
        _ = deepmemory.VectorStorage


def test_the_version_is_the_packages():
    assert deepmemory.__version__ == importlib.metadata.version("deepmemory")
