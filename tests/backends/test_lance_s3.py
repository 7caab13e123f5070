"""The LanceDB backend on an object store: a moto server, which speaks S3 over HTTP."""

import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import lancedb
import numpy as np
import pytest

import deepmemory
from deepmemory.backends import Backend, open_backend
from deepmemory.data import Document
from deepmemory.errors import ReadOnlyError, StorageError
from deepmemory.testing.backend_twins import DIMENSIONS, corpus

CREDENTIALS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
BUCKET = "documents-bucket"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    port = free_port()
    program = Path(sys.executable).parent / "moto_server"
    server = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/moto-api/", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        boto3.client("s3", endpoint_url=url, **CREDENTIALS).create_bucket(Bucket=BUCKET)
        yield url
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def options(endpoint: str) -> dict[str, str]:
    return {
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
        "region": "us-east-1",
        "endpoint": endpoint,
        "allow_http": "true",
    }


@pytest.fixture
def path() -> str:
    return f"s3://{BUCKET}/{uuid.uuid4().hex}/store"


def test_documents_in_a_bucket(path: str, options: dict[str, str]) -> None:
    backend = open_backend(path, create=True, storage_options=options)
    assert backend.count() == 0
    documents, vectors = corpus(50)
    backend.upsert(documents, vectors)
    backend.upsert([Document("d00003", "the aardvark", {"n": 3})], vectors[3:4])
    again = open_backend(path + "/", create=False, storage_options=options)
    assert again.count() == 50
    assert again.search(vectors[7:8], 1)[0].ids == ("d00007",)
    assert len(again.search(vectors[:10], 5, filter={"third": 1})) == 10
    assert again.search_text(["Aardvarks"], 5)[0].ids == ("d00003",)
    np.testing.assert_array_equal(again.get_vectors(["d00005"])["d00005"], vectors[5])
    assert again.delete(filter={"parity": "odd"}) == 24
    assert backend.count() == 26
    assert backend.get_vectors(["d00005", "d00006"]).keys() == {"d00006"}
    backend.optimize()
    assert sum(batch.num_rows for batch in backend.batches()) == 26
    backend.drop()
    assert again.count() == 0


def test_credentials_and_endpoint_from_the_environment(
    path: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    open_backend(path, create=True).upsert(*corpus(3))
    assert open_backend(path, create=False).count() == 3


def test_writers_on_an_object_store_lose_nothing_and_double_nothing(path: str, options: dict[str, str]) -> None:
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            backend = open_backend(path, create=True, storage_options=options)
            for batch in range(4):
                documents = [Document(f"{name}-{batch}", ""), Document(f"shared-{batch}", name)]
                backend.upsert(documents, np.ones((2, DIMENSIONS), dtype=np.float32))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ABC"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    backend: Backend = open_backend(path, create=False, storage_options=options)
    ids = [i for batch in backend.batches() for i in batch.column("id").to_pylist()]
    assert sorted(ids) == sorted(
        [f"{name}-{i}" for name in "ABC" for i in range(4)] + [f"shared-{i}" for i in range(4)]
    )


def test_writers_on_the_same_rows_of_an_object_store(path: str, options: dict[str, str]) -> None:
    """Each of the same rows is changed and deleted by several at once, and is afterwards as one of them left it."""
    same = [Document(f"same-{row}", "first", {"round": -1}) for row in range(8)]
    open_backend(path, create=True, storage_options=options).upsert(same, np.ones((8, DIMENSIONS), dtype=np.float32))
    failures: list[BaseException] = []
    together = threading.Barrier(3)

    def work(number: int) -> None:
        try:
            backend = open_backend(path, create=False, storage_options=options)
            together.wait()
            for turn in range(3):
                changed = [Document(old.id, f"writer {number}", {"round": turn}) for old in same]
                backend.upsert(changed, np.full((8, DIMENSIONS), 1 + number, dtype=np.float32))
            backend.delete(ids=[f"same-{number}"])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    backend: Backend = open_backend(path, create=False, storage_options=options)
    rows = [row for batch in backend.batches(text=True) for row in batch.to_pylist()]
    ids = [row["id"] for row in rows]
    assert len(ids) == len(set(ids))
    assert {f"same-{row}" for row in range(3, 8)} <= set(ids)
    for row in rows:  # text, metadata and vector are of one writer
        writer = int(row["text"].removeprefix("writer "))
        assert row["metadata"] == '{"round":2}'
        assert row["vector"] == [1 + writer] * DIMENSIONS


def test_a_bucket_that_is_not_there(options: dict[str, str]) -> None:
    expected = r"^can't open the documents in s3://no-such-bucket/store: .*does not exist \(NoSuchBucket\)$"
    with pytest.raises(StorageError, match=expected):
        open_backend("s3://no-such-bucket/store", create=True, storage_options=options)


def test_a_server_that_does_not_answer(options: dict[str, str]) -> None:
    nowhere = {**options, "endpoint": f"http://127.0.0.1:{free_port()}", "client_max_retries": "0"}
    with pytest.raises(StorageError, match=r"^can't open the documents in s3://bucket/store: Connection refused$"):
        open_backend("s3://bucket/store", create=True, storage_options=nowhere)


def test_a_table_of_somebody_else_in_a_bucket_is_attached(path: str, options: dict[str, str], tmp_path: Path) -> None:
    documents, vectors = corpus(30)
    rows = [
        {"id": document.id, "text": document.text, "vector": vector.tolist(), **document.metadata}
        for document, vector in zip(documents, vectors, strict=True)
    ]
    lancedb.connect(path, storage_options=options).create_table("chunks", rows)
    deepmemory.attach(path, path=tmp_path / "store", storage_options=options).close()
    record = (tmp_path / "store" / "deepmemory.json").read_text()
    assert path in record
    assert "aws_secret_access_key" not in record
    with deepmemory.VectorStore(tmp_path / "store", storage_options=options) as store:
        [hit] = store.search(embedding=vectors[4], k=1)
        assert (hit.id, hit.text, hit.metadata) == ("d00004", "text number 4", documents[4].metadata)
        assert store.count({"third": 1}) == 10
        with pytest.raises(ReadOnlyError):
            store.delete(["d00004"])
