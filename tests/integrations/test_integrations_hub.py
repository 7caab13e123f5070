"""The same over a hub: LangChain's suite, the tutorial's calls with its own arguments, LlamaIndex, tokens."""

import itertools
from collections.abc import Iterator

import pytest
import synonyms

pytest.importorskip("fastapi", reason="the server extra is not installed")
pytest.importorskip("langchain_tests", reason="LangChain's suites are not installed")

from langchain_core.documents import Document
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from deepmemory import ReadOnlyError
from deepmemory.integrations.deeplake import VectorStore
from deepmemory.integrations.langchain import DeepLake
from deepmemory.testing import HubProcess

_numbers = itertools.count()


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    """A running hub, in a process of its own."""
    with HubProcess() as hub:
        yield hub


@pytest.fixture(scope="module")
def token(hub) -> str:
    """A token that may write."""
    return hub.token("acme", "write")


@pytest.fixture(autouse=True)
def environment(hub, monkeypatch, tmp_path) -> None:
    """The hub's address, and no token: those are given as arguments."""
    monkeypatch.setenv("DEEPMEMORY_HUB_URL", hub.url)
    monkeypatch.delenv("DEEPMEMORY_TOKEN", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def path() -> str:
    """The path of a dataset that nobody has used."""
    return f"hub://acme/integrations-{next(_numbers)}"


class TestVectorStoreOnAHub(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, path, token) -> Iterator[DeepLake]:
        db = DeepLake(path, token, embedding=self.get_embeddings())
        yield db
        db.vectorstore.close()


def test_the_tutorials_calls(words, path, token, capsys):
    ids, texts = synonyms.documents()
    db = DeepLake(dataset_path=path, embedding=words, runtime={"tensor_db": True}, token=token, read_only=False)
    added = db.add_documents([Document(page_content=text, metadata={"n": row}) for row, text in enumerate(texts)])
    docs = db.vectorstore.dataset.text.data(fetch_chunks=True, aslist=True)["value"]
    ids = db.vectorstore.dataset.id.data(fetch_chunks=True, aslist=True)["value"]
    assert {id: docs[id] for id in ids} == dict(zip(added, texts, strict=True))

    questions, relevances = synonyms.questions(docs, ids, n=120)
    job_id = db.vectorstore.deep_memory.train(queries=questions[:80], relevance=relevances[:80])
    db.vectorstore.deep_memory.wait(job_id)
    db.vectorstore.deep_memory.status(job_id)
    recall = db.vectorstore.deep_memory.evaluate(queries=questions[80:], relevance=relevances[80:])
    assert "| status                     | completed " in capsys.readouterr().out
    assert recall["with model"]["recall@10"] > recall["without model"]["recall@10"] + 0.2

    retriever = db.as_retriever(k=5)
    right = {}
    for deep_memory in (False, True):
        retriever.search_kwargs["deep_memory"] = deep_memory
        found = [[document.id for document in retriever.invoke(question)] for question in questions[80:]]
        right[deep_memory] = sum(pairs[0][0] in one for pairs, one in zip(relevances[80:], found, strict=True))
    assert right[True] > right[False] + 10

    hits = db.similarity_search_with_score(questions[80], k=5, deep_memory=True)
    diverse = db.max_marginal_relevance_search(questions[80], k=5, lambda_mult=1.0, deep_memory=True)
    assert diverse == [document for document, _ in hits]
    few = db.similarity_search(questions[80], k=3, filter=lambda sample: sample.metadata.data()["value"]["n"] < 4)
    assert {document.metadata["n"] for document in few} <= {0, 1, 2, 3}
    assert len(few) == 3
    for metric in ("L2", "dot"):
        by_metric = db.similarity_search(texts[5], k=1, distance_metric=metric)
        assert by_metric[0].page_content == texts[5]
    db.vectorstore.close()


def test_llamaindex(path, token):
    pytest.importorskip("llama_index.core", reason="the llamaindex extra is not installed")
    from llama_index.core.schema import TextNode
    from llama_index.core.vector_stores.types import VectorStoreQuery

    from deepmemory.integrations.llamaindex import DeepLakeVectorStore

    ids, texts = synonyms.documents()
    queries, relevance = synonyms.questions(texts, ids)
    store = DeepLakeVectorStore(path, token, embed_model=synonyms.word_vectors)
    vectors = synonyms.word_vectors(texts).tolist()
    store.add([TextNode(id_=id, text=t, embedding=v) for id, t, v in zip(ids, texts, vectors, strict=True)])
    store.deep_memory.wait(store.deep_memory.train(queries[:100], relevance[:100]))
    right = {False: 0, True: 0}
    for query, pairs in zip(queries[100:], relevance[100:], strict=True):
        vector = synonyms.word_vectors([query])[0].tolist()
        for deep_memory in right:
            found = store.query(VectorStoreQuery(vector, similarity_top_k=3), deep_memory=deep_memory)
            right[deep_memory] += pairs[0][0] in found.ids
    assert right[True] > right[False] + 5
    store.delete_nodes(ids[:2])
    assert store.get_nodes(ids[:3])[0].text == texts[2]
    store.vectorstore.close()


def test_reading_only(path, token, words):
    VectorStore(path, words, token=token).close()
    with VectorStore(path, token=token, read_only=True) as store, pytest.raises(ReadOnlyError):
        store.add(text=["x"], embedding=[[1.0]])
