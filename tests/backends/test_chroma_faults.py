"""What goes wrong with Chroma gets one sentence, and what was stored is as it was."""

import uuid
from contextlib import closing
from pathlib import Path

import chromadb
import numpy as np
import pytest
from engine_servers import ChromaServer, chroma_server, free_port

from deepmemory.backends import open_backend
from deepmemory.data import Document
from deepmemory.errors import InputError, NotAStoreError, ReadOnlyError, StorageError
from deepmemory.testing.backend_twins import DIMENSIONS, corpus


def test_a_server_killed_in_the_middle_and_started_again(tmp_path: Path) -> None:
    documents, vectors = corpus(50)
    port = free_port()
    with chroma_server(tmp_path, port) as server:
        backend = open_backend(f"{server.url}/documents", create=True)
        backend.upsert(documents, vectors)
        stream = backend.batches(batch_size=10)
        next(stream)
        server.kill()
        gone = r"in chroma://127.0.0.1:\d+/documents: the server does not answer; see that it runs"
        for action, ask in {
            "search": lambda: backend.search(vectors[:1], 3),
            "read documents": lambda: backend.get(["d00001"]),
            "add documents": lambda: backend.upsert(documents[:1], vectors[:1]),
            "delete documents": lambda: backend.delete(ids=["d00001"]),
            "count documents": backend.count,
        }.items():
            with pytest.raises(StorageError, match=f"^can't {action} {gone}"):
                ask()
        with pytest.raises(StorageError, match=f"^can't read documents {gone}"):
            list(stream)
        with pytest.raises(StorageError, match=r"^can't open in chroma://.*does not answer"):
            open_backend(f"{server.url}/documents", create=True)
    with chroma_server(tmp_path, port), closing(backend):
        assert backend.count() == 50
        assert backend.search(vectors[7:8], 1)[0].ids == ("d00007",)


def test_a_collection_of_somebody_else_is_left_alone(chroma: ChromaServer, tmp_path: Path) -> None:
    with chromadb.PersistentClient(tmp_path) as client:
        client.create_collection("theirs", embedding_function=None).add(ids=["a"], embeddings=np.ones((1, 4)))
        with closing(open_backend(f"chroma://{tmp_path}/theirs", create=True)) as backend:
            for ask in (backend.count, lambda: backend.upsert(*corpus(1)), backend.delete, backend.drop):
                with pytest.raises(NotAStoreError, match=r"not made by Deep Memory.*deepmemory\.attach"):
                    ask()
        assert client.get_collection("theirs").count() == 1


def test_read_only_reads_and_refuses_every_change(tmp_path: Path) -> None:
    documents, vectors = corpus(5)
    path = f"chroma://{tmp_path}/documents"
    with closing(open_backend(path, create=True)) as backend:
        backend.upsert(documents, vectors)
    with closing(open_backend(path, create=False, read_only=True)) as backend:
        for change in (
            lambda: backend.upsert([Document("new", "")], np.ones((1, DIMENSIONS), dtype=np.float32)),
            backend.delete,
            backend.optimize,
            backend.drop,
        ):
            with pytest.raises(ReadOnlyError, match="opened for reading only"):
                change()
        assert backend.search(vectors[:1], 1)[0].ids == ("d00000",)
    with pytest.raises(NotAStoreError, match="expected a Chroma database"):
        open_backend(f"chroma://{tmp_path}/none/documents", create=True, read_only=True)
    assert not (tmp_path / "none").exists()


def test_a_text_that_utf8_cannot_hold_is_refused(tmp_path: Path) -> None:
    with closing(open_backend(f"chroma://{tmp_path}/documents", create=True)) as backend:
        with pytest.raises(InputError, match="half of a surrogate pair"):
            backend.upsert([Document("a", "fine"), Document("b", "\ud800")], np.ones((2, DIMENSIONS), dtype=np.float32))
        assert backend.count() == 0


def test_a_dot_product_index(tmp_path: Path) -> None:
    documents, vectors = corpus(300)
    vectors *= np.linspace(0.5, 2, 300, dtype=np.float32)[:, None]
    path = f"chroma://{tmp_path}/{uuid.uuid4().hex}"
    with closing(open_backend(path, create=True, distance="dot")) as backend:
        backend.upsert(documents, vectors)
        best = int(np.argmax(vectors @ vectors[5]))
        assert backend.search(vectors[5:6], 1, distance="dot")[0].ids == (documents[best].id,)
        assert backend.search(vectors[5:6], 1, distance="cosine")[0].ids == ("d00005",)
        np.testing.assert_array_equal(backend.get_vectors(["d00005"])["d00005"], vectors[5])


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("chroma://localhost", "is chroma://host:port/collection"),
        ("chroma://localhost/a/b", "is chroma://host:port/collection"),
        ("chroma://localhost/sp%20ace", "named by letters"),
        ("chroma:///docs", "is chroma://host:port/collection"),
        ("chroma://me:secret@localhost/docs", "does not belong in it"),
        ("chroma://localhost:port/docs", "no usable port"),
        ("chroma://:80/docs", "names no host"),
        ("chroma://localhost/docs?user=me", "takes .*; found user"),
    ],
)
def test_an_address_of_another_shape(path: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        open_backend(path, create=True)
    assert "secret" not in str(caught.value)
