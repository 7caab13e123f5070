"""Collections of Chroma that others filled: found by their layout, searched as they are, and never changed."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from engine_servers import ChromaServer
from langchain_chroma import Chroma
from langchain_core.embeddings import Embeddings
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.vector_stores.chroma import ChromaVectorStore

from deepmemory.backends import Backend
from deepmemory.backends.attaching import Asked
from deepmemory.backends.chroma import open_attached, recognise
from deepmemory.backends.exact import ExactBackend
from deepmemory.backends.layout import Layout
from deepmemory.data import Document
from deepmemory.errors import CapabilityError, InputError, NotAStoreError, ReadOnlyError, StorageError
from deepmemory.testing.backend_twins import agree, corpus

DOCUMENTS, VECTORS = corpus(60)


class TableOfVectors(Embeddings):
    """Gives the vector that a text has here."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        of_text = {document.text: vector for document, vector in zip(DOCUMENTS, VECTORS, strict=True)}
        return [of_text[text].tolist() for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vectors")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Any]:
    with chromadb.PersistentClient(folder) as client:
        yield client


@pytest.fixture
def url(folder: Path, client: Any) -> str:
    return f"chroma://{folder}"


@pytest.fixture
def name() -> str:
    return f"docs-{uuid.uuid4().hex}"


def fill(client: Any, name: str, space: str | None, vectors: np.ndarray = VECTORS) -> Any:
    configuration = {"hnsw": {"space": space}} if space else None
    collection = client.create_collection(name, embedding_function=None, configuration=configuration)
    collection.add(
        ids=[document.id for document in DOCUMENTS],
        embeddings=vectors,
        documents=[document.text for document in DOCUMENTS],
        metadatas=[dict(document.metadata) for document in DOCUMENTS],
    )
    return collection


def attach(url: str, name: str, **asked: Any) -> Backend:
    return open_attached(url, recognise(url, Asked(name, **asked)), read_only=True, storage_options=None)


def oracle(vectors: np.ndarray = VECTORS) -> Backend:
    exact = ExactBackend()
    exact.upsert(DOCUMENTS, vectors)
    return exact


def test_what_langchain_filled(url: str, client: Any, name: str) -> None:
    theirs = Chroma(name, TableOfVectors(), client=client)
    theirs.add_texts(
        [document.text for document in DOCUMENTS],
        [dict(document.metadata) for document in DOCUMENTS],
        [document.id for document in DOCUMENTS],
    )
    before = client.get_collection(name).get(include=["embeddings", "metadatas", "documents"])
    with closing(attach(url, name)) as backend:
        assert backend.get(["d00007", "nothing"]) == [DOCUMENTS[7], None]
        agree(backend.search(VECTORS[:9], 5), oracle().search(VECTORS[:9], 5))
        assert [hit.id for hit in theirs.similarity_search("text number 3", 4)] == list(
            backend.search(VECTORS[3:4], 4)[0].ids
        )
        assert sum(batch.num_rows for batch in backend.batches(batch_size=16)) == 60
    after = client.get_collection(name).get(include=["embeddings", "metadatas", "documents"])
    assert after["ids"] == before["ids"]
    np.testing.assert_array_equal(after["embeddings"], before["embeddings"])
    assert after["metadatas"] == before["metadatas"]


def test_what_llamaindex_filled(url: str, client: Any, name: str) -> None:
    node = TextNode(id_="one", text="a text", metadata={"lang": "en", "page": 3}, embedding=VECTORS[0].tolist())
    node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id="the-source")
    theirs = ChromaVectorStore(client.create_collection(name, embedding_function=None))
    theirs.add([node, TextNode(id_="two", text="another", embedding=VECTORS[1].tolist())])
    with closing(attach(url, name)) as backend:
        found = backend.get(["one"])[0]
        assert found is not None
        assert found.text == "a text"
        assert found.metadata["lang"] == "en"
        assert found.metadata["ref_doc_id"] == "the-source"
        assert "_node_content" not in found.metadata
        assert backend.count({"page": 3}) == 1
        assert backend.count({"_node_type": "TextNode"}) == 0
        assert backend.search(VECTORS[1:2], 1)[0].ids == ("two",)


def test_a_collection_on_a_server(chroma: ChromaServer, name: str) -> None:
    host, port = chroma.url.removeprefix("chroma://").split(":")
    with closing(Chroma(name, TableOfVectors(), host=host, port=int(port))._client) as client:
        fill(client, f"{name}-by-hand", "cosine")
        with closing(attach(chroma.url, f"{name}-by-hand")) as backend:
            agree(backend.search(VECTORS[:2], 5), oracle().search(VECTORS[:2], 5))
            client.delete_collection(f"{name}-by-hand")
            assert backend.count() == 0
            assert [len(ranking) for ranking in backend.search(VECTORS[:2], 5)] == [0, 0]
        for part in (client, client._admin_client):
            part._server._session.close()


@pytest.mark.parametrize(("space", "asked", "distance"), [("cosine", None, "cosine"), ("ip", None, "dot")])
def test_vectors_of_any_length(url: str, client: Any, name: str, space: str, asked: Any, distance: Any) -> None:
    vectors = VECTORS * np.linspace(0.5, 2, 60, dtype=np.float32)[:, None]
    fill(client, name, space, vectors)
    layout = recognise(url, Asked(name, distance=asked))
    assert layout.distance == distance
    with closing(open_attached(url, layout, read_only=True, storage_options=None)) as backend:
        queries = 3 * VECTORS[:5]
        agree(backend.search(queries, 7, distance=distance), oracle(vectors).search(queries, 7, distance=distance))


def test_unit_vectors_by_dot_product_or_by_cosine(url: str, client: Any, name: str) -> None:
    fill(client, name, "ip")
    with closing(attach(url, name, distance="cosine")) as backend:
        agree(backend.search(3 * VECTORS[:5], 7), oracle().search(VECTORS[:5], 7))


def test_lengths_between_vectors_that_are_not_unit_are_refused(url: str, client: Any, name: str) -> None:
    vectors = VECTORS.copy()
    vectors[:15] *= 2
    fill(client, name, None, vectors)
    with pytest.raises(CapabilityError, match=r"length between vectors \(l2\).*15 of 60 that were looked at \(25%\)"):
        recognise(url, Asked(name))


def test_all_that_is_not_there_is_said_at_once(url: str, client: Any, name: str) -> None:
    fill(client, name, "cosine")
    with pytest.raises(InputError) as caught:
        recognise(url, Asked(name, id="key", vector="emb", text="body", metadata=("lang", "n")))
    assert len(caught.value.problems) == 4
    assert "'id'; leave it out" in caught.value.problems[0]
    assert "text='body'" in caught.value.problems[2]
    assert "there is n, parity, third" in caught.value.problems[3]
    with pytest.raises(InputError, match=f"no collection 'nothing'.*there is .*{name}"):
        recognise(url, Asked("nothing"))
    with pytest.raises(InputError, match="indexed by cosine, so it can't be compared by dot"):
        recognise(url, Asked(name, distance="dot"))
    client.create_collection(f"{name}-empty", embedding_function=None)
    with pytest.raises(InputError, match="is empty"):
        recognise(url, Asked(f"{name}-empty"))


def test_some_keys_and_another_text(url: str, client: Any, name: str) -> None:
    fill(client, name, "cosine")
    with closing(attach(url, name, text="parity", metadata=("third",))) as backend:
        assert backend.get(["d00004"]) == [Document("d00004", "even", {"third": 1})]
        assert backend.count({"third": 1}) == 20
        assert backend.count({"n": 1}) == 0


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"n": 1}, "ac"),
        ({"n": 1.0}, "ac"),
        ({"n": "1"}, "d"),
        ({"n": True}, "e"),
        ({"n": [2, "1", False]}, "bd"),
        ({"n": 0.5}, "f"),
        ({"n": None}, ""),
        ({"n": 10**30}, ""),
        ({"tags": "x"}, "b"),
        ({"tags": [["x", "y"]]}, "a"),
        ({"tags": [["y", "x"], "x"]}, "b"),
        ({"tags": {"a": 1}}, ""),
        ({"tags": [["x", "y"]], "n": 2}, ""),
        ({"id": ["a", "b", "zz"], "n": 1}, "a"),
        ({"missing": "x"}, ""),
        ({"n": []}, ""),
    ],
)
def test_filters_compare_json_values(url: str, client: Any, name: str, condition: Any, expected: str) -> None:
    metadatas: dict[str, Any] = {
        "a": {"n": 1, "tags": ["x", "y"]},
        "b": {"n": 2, "tags": "x"},
        "c": {"n": 1.0},
        "d": {"n": "1"},
        "e": {"n": True},
        "f": {"n": 0.5},
        "g": None,
    }
    collection = client.create_collection(name, embedding_function=None, configuration={"hnsw": {"space": "cosine"}})
    collection.add(ids=list(metadatas), embeddings=VECTORS[:7], metadatas=list(metadatas.values()))
    with closing(attach(url, name)) as backend:
        assert backend.count(condition) == len(expected)
        assert set(backend.get_vectors("abcdefg", filter=condition)) == set(expected)
        assert set(backend.search(VECTORS[:1], 8, filter=condition)[0].ids) == set(expected)
        assert backend.get(["g"]) == [Document("g", "", {})]


def test_nothing_can_be_changed(url: str, client: Any, name: str) -> None:
    fill(client, name, "cosine")
    layout = recognise(url, Asked(name))
    with closing(open_attached(url, layout, read_only=True, storage_options=None)) as backend:
        for change in (
            lambda: backend.upsert(DOCUMENTS, VECTORS),
            backend.delete,
            backend.drop,
            backend.optimize,
        ):
            with pytest.raises(ReadOnlyError, match="attached to for reading only"):
                change()
    with pytest.raises(CapabilityError, match="for reading only"):
        open_attached(url, layout, read_only=False, storage_options=None)
    assert client.get_collection(name).count() == 60
    assert Layout.from_dict(layout.as_dict()) == layout


def test_a_folder_without_a_database(tmp_path: Path) -> None:
    with pytest.raises(NotAStoreError, match=r"expected a Chroma database.*found none"):
        recognise(f"chroma://{tmp_path}/none", Asked("docs"))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(NotAStoreError, match="something else in it"):
        recognise(f"chroma://{tmp_path}", Asked("docs"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(StorageError, match=r"^can't open in chroma://127.0.0.1:9: the server does not answer"):
        recognise("chroma://127.0.0.1:9", Asked("docs"))
