"""What the tests of the integrations share."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The world of the store's own tests: queries with other words than the documents, always the same ones.
sys.path.append(str(Path(__file__).parents[1] / "store"))

import synonyms

from deepmemory.integrations.deeplake import VectorStore


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(name: str, obj: object) -> None:
    """Mark the asynchronous tests, also those of LangChain's suites, which bear no mark of their own."""
    if name.startswith("test_") and inspect.iscoroutinefunction(obj) and not hasattr(obj, "pytestmark"):
        pytest.mark.asyncio(obj)


class WordEmbeddings:
    """`synonyms.word_vectors` by LangChain's protocol; queries and documents go to the same place."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return synonyms.word_vectors(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        return synonyms.word_vectors([text])[0].tolist()


@pytest.fixture(scope="session")
def words() -> WordEmbeddings:
    """An embeddings object."""
    return WordEmbeddings()


@pytest.fixture(scope="session")
def trained(words) -> Iterator[VectorStore]:
    """A store in memory with the documents of `synonyms` and a layer; tests only read it."""
    ids, texts = synonyms.documents()
    queries, relevance = synonyms.questions(texts, ids)
    with VectorStore("mem://trained", embedding_function=words) as store:
        store.add(text=texts, id=ids, metadata=[{"row": row, "half": row % 2} for row in range(len(ids))])
        store.deep_memory.train(queries, relevance, wait=True)
        yield store


@pytest.fixture(scope="session")
def held_out() -> tuple[list[str], list[str]]:
    """Queries that took no part in training, and the id of the document that answers each."""
    ids, texts = synonyms.documents()
    queries, relevance = synonyms.questions(texts, ids, n=40, seed=5)
    return queries, [pairs[0][0] for pairs in relevance]
