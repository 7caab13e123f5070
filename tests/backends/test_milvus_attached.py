"""Collections of Milvus in the layouts that LangChain's and LlamaIndex's classes write, as their sources have them."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_servers import free_port
from pymilvus import DataType, MilvusClient

from deepmemory.backends import Backend, open_backend
from deepmemory.backends.attaching import Asked
from deepmemory.backends.exact import ExactBackend
from deepmemory.backends.milvus import open_attached, recognise
from deepmemory.data import Document
from deepmemory.errors import CapabilityError, InputError, NotAStoreError, ReadOnlyError, StorageError
from deepmemory.testing.backend_twins import DIMENSIONS, agree, corpus

DOCUMENTS, VECTORS = corpus(40)


class File:
    """A file of milvus-lite, and a client of somebody else's for it."""

    def __init__(self, path: Path) -> None:
        self.url = f"milvus://{path}"
        self.client = MilvusClient(str(path))

    def fill(
        self,
        name: str,
        entities: list[dict[str, Any]],
        fields: dict[str, DataType],
        *,
        primary: str,
        measure: str,
        dynamic: bool = True,
        numbered: bool = False,
    ) -> None:
        schema = self.client.create_schema(auto_id=numbered, enable_dynamic_field=dynamic)
        kind = {"datatype": DataType.INT64} if numbered else {"datatype": DataType.VARCHAR, "max_length": 100}
        schema.add_field(primary, is_primary=True, **kind)
        index = self.client.prepare_index_params()
        for field, datatype in fields.items():
            more: dict[str, Any] = {"max_length": 65_535} if datatype == DataType.VARCHAR else {}
            if datatype == DataType.FLOAT_VECTOR:
                more = {"dim": DIMENSIONS}
                index.add_index(field, index_type="AUTOINDEX", metric_type=measure)
            schema.add_field(field, datatype, **more)
        self.client.create_collection(name, schema=schema, index_params=index)
        self.client.insert(name, entities)

    def attach(self, name: str, **asked: Any) -> Backend:
        return open_attached(self.url, recognise(self.url, Asked(name, **asked)), read_only=True, storage_options=None)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[File]:
    file = File(tmp_path_factory.mktemp("milvus") / "vectors.db")
    with closing(file.client):
        yield file


def langchain(vectors: np.ndarray = VECTORS) -> list[dict[str, Any]]:
    return [
        {"pk": document.id, "text": document.text, "vector": vector, **document.metadata}
        for document, vector in zip(DOCUMENTS, vectors, strict=True)
    ]


LANGCHAIN = {"text": DataType.VARCHAR, "vector": DataType.FLOAT_VECTOR}


def oracle() -> Backend:
    exact = ExactBackend()
    exact.upsert(DOCUMENTS, VECTORS)
    return exact


def test_the_layout_of_langchain(file: File) -> None:
    file.fill("langchain", langchain(), LANGCHAIN, primary="pk", measure="L2")
    with closing(file.attach("langchain")) as backend:
        assert backend.get(["d00007", "nothing"]) == [DOCUMENTS[7], None]
        agree(backend.search(3 * VECTORS[:9], 5), oracle().search(VECTORS[:9], 5))
        conditions: list[Any] = [
            {"third": 1},
            {"third": 1.0, "parity": ["odd", "even"]},
            {"id": "d00003"},
            {"text": "x"},
        ]
        for condition in conditions:
            assert backend.count(condition) == oracle().count(condition)
            agree(backend.search(VECTORS[:2], 6, filter=condition), oracle().search(VECTORS[:2], 6, filter=condition))
        rows = [row for batch in backend.batches(batch_size=16, text=True) for row in batch.to_pylist()]
        assert {row["id"]: row["text"] for row in rows} == {document.id: document.text for document in DOCUMENTS}
        for change in (lambda: backend.upsert(DOCUMENTS, VECTORS), backend.delete, backend.drop):
            with pytest.raises(ReadOnlyError, match="attached to for reading only"):
                change()


def test_the_layout_of_langchain_with_numbers_as_keys_and_metadata_as_json(file: File) -> None:
    entities = [
        {"text": d.text, "vector": vector, "metadata": dict(d.metadata)}
        for d, vector in zip(DOCUMENTS, VECTORS, strict=True)
    ]
    fields = {**LANGCHAIN, "metadata": DataType.JSON}
    file.fill("numbered", entities, fields, primary="pk", measure="COSINE", dynamic=False, numbered=True)
    with closing(file.attach("numbered")) as backend:
        first = backend.search(VECTORS[7:8], 1)[0].ids[0]
        assert backend.get([first, "07", "x"]) == [
            Document(first, DOCUMENTS[7].text, DOCUMENTS[7].metadata),
            None,
            None,
        ]
        assert backend.count({"third": 1}) == 13
        assert len(backend.search(VECTORS[:1], 20, filter={"third": 1})[0]) == 13


def test_the_layout_of_llamaindex(file: File) -> None:
    entities = [
        {
            "id": document.id,
            "doc_id": "source",
            "text": document.text,
            "embedding": vector,
            "_node_content": json.dumps({"id_": document.id, "text": ""}),
            "_node_type": "TextNode",
            **document.metadata,
        }
        for document, vector in zip(DOCUMENTS, VECTORS, strict=True)
    ]
    fields = {"doc_id": DataType.VARCHAR, "embedding": DataType.FLOAT_VECTOR}
    file.fill("llamaindex", entities, fields, primary="id", measure="IP")
    with closing(file.attach("llamaindex", distance="cosine")) as backend:
        assert backend.get(["d00007"]) == [
            Document("d00007", DOCUMENTS[7].text, {**DOCUMENTS[7].metadata, "doc_id": "source"})
        ]
        agree(backend.search(VECTORS[:3], 5), oracle().search(VECTORS[:3], 5))
        assert backend.count({"_node_type": "TextNode"}) == 0
        assert backend.count({"doc_id": "source"}) == 40
    assert recognise(file.url, Asked("llamaindex")).distance == "dot"


def test_lengths_between_vectors_that_are_not_unit_are_refused(file: File) -> None:
    file.fill("long", langchain(2 * VECTORS), LANGCHAIN, primary="pk", measure="L2")
    with pytest.raises(CapabilityError, match=r"length between vectors \(l2\).*40 of 40"):
        recognise(file.url, Asked("long"))


def test_all_that_is_not_there_is_said_at_once(file: File) -> None:
    file.fill("missing", langchain(), LANGCHAIN, primary="pk", measure="COSINE")
    with pytest.raises(InputError) as caught:
        recognise(file.url, Asked("missing", id="key", vector="emb", text="body", metadata=("lang",)))
    assert len(caught.value.problems) == 4
    assert "that is 'pk'; leave it out" in caught.value.problems[0]
    assert "there is vector" in caught.value.problems[1]
    assert "there is n, parity, text, third" in caught.value.problems[2]
    with pytest.raises(InputError, match=r"no collection 'nothing'.*there is .*missing"):
        recognise(file.url, Asked("nothing"))
    with pytest.raises(InputError, match="indexed by cosine, so it can't be compared by dot"):
        recognise(file.url, Asked("missing", distance="dot"))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"n": 1}, "13"),
        ({"n": "1"}, "4"),
        ({"n": True}, "5"),
        ({"n": 0.5}, "6"),
        ({"tags": "x"}, "2"),
        ({"tags": [["x", "y"]]}, "1"),
        ({"tags": {"a": 1}}, "3"),
        ({"odd.key": "v"}, "4"),
        ({"n": [2, "1"], "tags": 'it\'s "x"'}, "7"),
        ({"n": []}, ""),
    ],
)
def test_filters_compare_json_values(file: File, condition: Any, expected: str) -> None:
    metadatas: list[dict[str, Any]] = [
        {"n": 1, "tags": ["x", "y"]},
        {"n": 2, "tags": "x"},
        {"n": 1.0, "tags": {"a": 1}},
        {"n": "1", "odd.key": "v"},
        {"n": True},
        {"n": 0.5},
        {"n": 2, "tags": 'it\'s "x"'},
    ]
    if not file.client.has_collection("filters"):
        entities = [
            {"pk": str(row), "text": "", "vector": VECTORS[row], **metadata}
            for row, metadata in enumerate(metadatas, 1)
        ]
        file.fill("filters", entities, LANGCHAIN, primary="pk", measure="COSINE")
    with closing(file.attach("filters")) as backend:
        assert backend.count(condition) == len(expected)
        assert set(backend.get_vectors("1234567", filter=condition)) == set(expected)
        assert set(backend.search(VECTORS[:1], 8, filter=condition)[0].ids) == set(expected)


def test_a_collection_of_somebody_else_is_left_alone(file: File) -> None:
    file.fill("theirs", langchain(), LANGCHAIN, primary="pk", measure="COSINE")
    with closing(open_backend(f"{file.url}/theirs", create=True)) as backend:
        for ask in (backend.count, lambda: backend.upsert(*corpus(1)), backend.delete, backend.drop):
            with pytest.raises(NotAStoreError, match=r"not made by Deep Memory.*deepmemory\.attach"):
                ask()
    with pytest.raises(CapabilityError, match="for reading only"):
        open_attached(file.url, recognise(file.url, Asked("theirs")), read_only=False, storage_options=None)


def test_a_text_that_is_too_long_is_refused(file: File) -> None:
    with closing(open_backend(f"{file.url}/long_texts", create=True)) as backend:
        with pytest.raises(InputError, match="its text has 80,000 bytes, and Milvus holds 65,535"):
            backend.upsert([Document("a", ""), Document("b", "é" * 40_000)], VECTORS[:2])
        assert backend.count() == 0


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotAStoreError, match=r"expected a database of milvus-lite.*found none"):
        recognise(f"milvus://{tmp_path}/none.db", Asked("docs"))
    with pytest.raises(InputError, match=r"whose name ends in \.db"):
        open_backend(f"milvus://{tmp_path}/docs", create=True)
    with pytest.raises(StorageError, match=r"^can't open in milvus://127.0.0.1:\d+: the server does not answer"):
        open_backend(f"milvus://127.0.0.1:{free_port()}/docs", create=True)
    with pytest.raises(InputError, match=r"takes \?database=; found tenant"):
        open_backend("milvus://127.0.0.1/docs?tenant=a", create=True)
    assert list(tmp_path.iterdir()) == []
