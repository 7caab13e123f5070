"""Collections of Qdrant in the layouts that LangChain's and LlamaIndex's classes write, as their sources have them."""

import gc
import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_servers import free_port
from qdrant_client import QdrantClient, models

from deepmemory.backends import Backend, open_backend
from deepmemory.backends.attaching import Asked
from deepmemory.backends.exact import ExactBackend
from deepmemory.backends.qdrant import open_attached, recognise
from deepmemory.data import Document
from deepmemory.errors import CapabilityError, InputError, NotAStoreError, ReadOnlyError, StorageError
from deepmemory.testing.backend_twins import agree, corpus

DOCUMENTS, VECTORS = corpus(40)
IDS = [str(uuid.UUID(int=number)) for number in range(40)]


class Folder:
    """A folder with collections that somebody else's client filled, and then closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"qdrant://{path}"

    def fill(
        self,
        payloads: list[dict[str, Any]],
        vectors: np.ndarray = VECTORS,
        *,
        vector: str = "",
        measure: models.Distance = models.Distance.COSINE,
        ids: list[Any] | None = None,
    ) -> None:
        parameters = models.VectorParams(size=vectors.shape[1], distance=measure)
        with closing(QdrantClient(path=str(self.path))) as client:
            client.create_collection("docs", vectors_config={vector: parameters} if vector else parameters)
            client.upsert(
                "docs",
                points=[
                    models.PointStruct(id=id, payload=payload, vector={vector: row} if vector else row)
                    for id, payload, row in zip(ids or IDS, payloads, vectors.tolist(), strict=False)
                ],
            )

    def attach(self, **asked: Any) -> Backend:
        layout = recognise(self.url, Asked("docs", **asked))
        return open_attached(self.url, layout, read_only=True, storage_options=None)


@pytest.fixture
def folder(in_memory_folder: Path) -> Iterator[Folder]:
    return Folder(in_memory_folder)


def oracle() -> Backend:
    exact = ExactBackend()
    exact.upsert([Document(id, d.text, d.metadata) for id, d in zip(IDS, DOCUMENTS, strict=True)], VECTORS)
    return exact


def test_the_layout_of_langchain(folder: Folder) -> None:
    folder.fill([{"page_content": document.text, "metadata": dict(document.metadata)} for document in DOCUMENTS])
    with closing(folder.attach()) as backend:
        assert backend.get([IDS[7], "nothing"]) == [Document(IDS[7], DOCUMENTS[7].text, DOCUMENTS[7].metadata), None]
        agree(backend.search(3 * VECTORS[:9], 5), oracle().search(VECTORS[:9], 5))
        for condition in (
            {"third": 1},
            {"third": 1.0, "parity": ["odd", "even"]},
            {"id": IDS[3]},
            {"page_content": "x"},
        ):
            assert backend.count(condition) == oracle().count(condition)
            agree(backend.search(VECTORS[:2], 6, filter=condition), oracle().search(VECTORS[:2], 6, filter=condition))
        rows = [row for batch in backend.batches(batch_size=16, text=True) for row in batch.to_pylist()]
        assert {row["id"]: row["text"] for row in rows} == {
            id: document.text for id, document in zip(IDS, DOCUMENTS, strict=True)
        }
        for change in (lambda: backend.upsert(DOCUMENTS, VECTORS), backend.delete, backend.drop):
            with pytest.raises(ReadOnlyError, match="attached to for reading only"):
                change()


def test_the_layout_of_llamaindex(folder: Folder) -> None:
    folder.fill(
        [
            {
                **document.metadata,
                "_node_content": json.dumps({"id_": id, "text": document.text, "metadata": dict(document.metadata)}),
                "_node_type": "TextNode",
                "document_id": "source",
                "doc_id": "source",
                "ref_doc_id": "source",
            }
            for id, document in zip(IDS, DOCUMENTS, strict=True)
        ],
        vector="text-dense",
    )
    with closing(folder.attach()) as backend:
        found = backend.get([IDS[7]])[0]
        assert found is not None
        assert found.text == DOCUMENTS[7].text
        assert found.metadata == {
            **DOCUMENTS[7].metadata,
            **dict.fromkeys(("document_id", "doc_id", "ref_doc_id"), "source"),
        }
        agree(backend.search(VECTORS[:3], 5), oracle().search(VECTORS[:3], 5))
        assert backend.count({"_node_type": "TextNode"}) == 0
        assert backend.count({"ref_doc_id": "source"}) == 40


def test_numbers_as_ids_and_keys_by_name(folder: Folder) -> None:
    folder.fill([{"body": d.text, "note": d.text, **d.metadata} for d in DOCUMENTS], ids=list(range(40)))
    with closing(folder.attach(text="note", metadata=("third",))) as backend:
        assert backend.get(["7", "07", "seven"]) == [Document("7", DOCUMENTS[7].text, {"third": 1}), None, None]
        assert backend.get_vectors(["7"]).keys() == {"7"}
        assert backend.count({"n": 7}) == 0


def test_lengths_between_vectors(folder: Folder) -> None:
    payloads = [{"text": d.text} for d in DOCUMENTS]
    folder.fill(payloads, measure=models.Distance.EUCLID)
    with closing(folder.attach()) as backend:
        agree(backend.search(3 * VECTORS[:9], 5), oracle().search(VECTORS[:9], 5))


def test_lengths_between_vectors_that_are_not_unit_are_refused(folder: Folder) -> None:
    folder.fill([{"text": d.text} for d in DOCUMENTS], 2 * VECTORS, measure=models.Distance.EUCLID)
    with pytest.raises(CapabilityError, match=r"length between vectors \(l2\).*40 of 40"):
        recognise(folder.url, Asked("docs"))


def test_a_measure_that_is_no_similarity_is_refused(folder: Folder) -> None:
    folder.fill([{"text": d.text} for d in DOCUMENTS], measure=models.Distance.MANHATTAN)
    with pytest.raises(CapabilityError, match="compares Manhattan; Deep Memory works with"):
        recognise(folder.url, Asked("docs"))


def test_all_that_is_not_there_is_said_at_once(folder: Folder) -> None:
    folder.fill([{"one": d.text, "two": d.text} for d in DOCUMENTS], vector="dense")
    with pytest.raises(InputError) as caught:
        recognise(folder.url, Asked("docs", id="key", vector="emb", text="body", metadata=("lang",)))
    assert len(caught.value.problems) == 4
    assert "no such vector; there is dense" in caught.value.problems[1]
    assert "there is one, two" in caught.value.problems[2]
    with pytest.raises(InputError, match="none of the usual keys; name one of one, two"):
        recognise(folder.url, Asked("docs"))
    with pytest.raises(InputError, match=r"no collection 'nothing'.*there is docs"):
        recognise(folder.url, Asked("nothing"))
    with pytest.raises(InputError, match="indexed by cosine, so it can't be compared by dot"):
        recognise(folder.url, Asked("docs", text="one", distance="dot"))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"n": 1}, "13"),
        ({"n": "1"}, "4"),
        ({"n": True}, "5"),
        ({"n": 0.5}, "6"),
        ({"n": None}, "7"),
        ({"tags": "x"}, "2"),
        ({"tags": [["x", "y"]]}, "1"),
        ({"tags": {"a": 1}}, "3"),
        ({"odd.key": "v"}, "4"),
        ({"n": [2, "1"], "tags": "x"}, "2"),
        ({"n": []}, ""),
    ],
)
def test_filters_compare_json_values(folder: Folder, condition: Any, expected: str) -> None:
    payloads: list[dict[str, Any]] = [
        {"n": 1, "tags": ["x", "y"]},
        {"n": 2, "tags": "x"},
        {"n": 1.0, "tags": {"a": 1}},
        {"n": "1", "odd.key": "v"},
        {"n": True},
        {"n": 0.5},
        {"n": None},
    ]
    folder.fill([{"text": "", **payload} for payload in payloads], VECTORS[:7], ids=list(range(1, 8)))
    with closing(folder.attach()) as backend:
        assert backend.count(condition) == len(expected)
        assert set(backend.get_vectors("1234567", filter=condition)) == set(expected)
        assert set(backend.search(VECTORS[:1], 8, filter=condition)[0].ids) == set(expected)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Qdrant leaves its lock file open
def test_one_process_has_the_folder(folder: Folder) -> None:
    folder.fill([{"text": d.text} for d in DOCUMENTS])
    with (
        closing(QdrantClient(path=str(folder.path))),
        pytest.raises(StorageError, match="another process"),
    ):
        recognise(folder.url, Asked("docs"))
    gc.collect()


def test_a_collection_of_somebody_else_is_left_alone(folder: Folder) -> None:
    folder.fill([{"text": d.text} for d in DOCUMENTS])
    with closing(open_backend(f"{folder.url}/docs", create=True)) as backend:
        for ask in (backend.count, lambda: backend.upsert(*corpus(1)), backend.delete, backend.drop):
            with pytest.raises(NotAStoreError, match=r"not made by Deep Memory.*deepmemory\.attach"):
                ask()
    with pytest.raises(CapabilityError, match="for reading only"):
        open_attached(folder.url, recognise(folder.url, Asked("docs")), read_only=False, storage_options=None)


def test_what_is_not_there(in_memory_folder: Path) -> None:
    with pytest.raises(NotAStoreError, match=r"expected a Qdrant database.*found none"):
        recognise(f"qdrant://{in_memory_folder}/none", Asked("docs"))
    with pytest.raises(StorageError, match=r"^can't open in qdrant://127.0.0.1:\d+: the server does not answer"):
        open_backend(f"qdrant://127.0.0.1:{free_port()}/docs", create=True)
    with pytest.raises(InputError, match="nothing after a question mark; found tenant"):
        open_backend("qdrant://127.0.0.1/docs?tenant=a", create=True)
    assert list(in_memory_folder.iterdir()) == []
