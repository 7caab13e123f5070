"""A store opens as what it is, with the embedder that filled it, or not at all; and it survives kill -9."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest
import synonyms

from deepmemory import (
    EmbedderMismatchError,
    InputError,
    NewerFormatError,
    NotAStoreError,
    StoreError,
    VectorStore,
)


def listing(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_store_opens_again_with_all_it_has(folder):
    with VectorStore(folder, embedder=synonyms.word_vectors) as store:
        assert len(store) == 60
        assert store.search("term1 term2", k=1)
    with VectorStore(str(folder)) as store:
        assert len(store) == 60


def test_a_store_made_relative_stays_where_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = VectorStore("here", embedder=synonyms.word_vectors)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.add(["a"])
    store.close()
    assert listing(tmp_path / "elsewhere") == []
    assert len(VectorStore(tmp_path / "here")) == 1


def test_nothing_is_made_where_a_store_must_exist(tmp_path):
    for arguments in ({"create": False}, {"read_only": True}):
        with pytest.raises(NotAStoreError, match=r"there is no Deep Memory store at .*missing"):
            VectorStore(tmp_path / "missing", embedder=synonyms.word_vectors, **arguments)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("create", [True, False])
def test_the_folder_of_somebody_is_left_alone(tmp_path, create):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(NotAStoreError):
        VectorStore(tmp_path / "photos", embedder=synonyms.word_vectors, create=create, overwrite=create)
    with pytest.raises(NotAStoreError, match="is a file, and a Deep Memory store is a folder"):
        VectorStore(tmp_path / "photos" / "cat.jpg", embedder=synonyms.word_vectors, create=create)
    assert listing(tmp_path) == ["photos", "photos/cat.jpg"]


def test_an_empty_folder_becomes_a_store(tmp_path):
    (tmp_path / "empty").mkdir()
    VectorStore(tmp_path / "empty", embedder=synonyms.word_vectors).close()
    VectorStore(tmp_path / "empty", create=False).close()


def test_a_path_of_no_known_kind_is_refused():
    with pytest.raises(InputError, match="none of them"):
        VectorStore("ftp://host/store", embedder=None)


def altered(folder, **changes) -> None:
    record = json.loads((folder / "deepmemory.json").read_text())
    (folder / "deepmemory.json").write_text(json.dumps(record | changes))


def test_a_newer_store_says_to_upgrade(folder):
    altered(folder, format=99)
    before = listing(folder)
    for arguments in ({}, {"overwrite": True}, {"read_only": True}):
        with pytest.raises(NewerFormatError, match=r"format 99; this one reads up to 2\); upgrade with: pip install"):
            VectorStore(folder, embedder=synonyms.word_vectors, **arguments)
    assert listing(folder) == before


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": "x"}', '{"format": 1}'])
def test_a_damaged_record_is_named(folder, content):
    (folder / "deepmemory.json").write_text(content)
    with pytest.raises(StoreError, match=r"the record deepmemory.json of the store .* is damaged"):
        VectorStore(folder)


def test_a_damaged_distance_or_fingerprint_is_named(folder):
    for changes in ({"distance": "manhattan"}, {"fingerprint": {"name": "x"}}, {"fingerprint": 7}):
        original = (folder / "deepmemory.json").read_text()
        altered(folder, **changes)
        with pytest.raises(StoreError, match="is damaged"):
            VectorStore(folder)
        (folder / "deepmemory.json").write_text(original)


def test_another_embedder_is_refused_at_once_naming_both(folder):
    with pytest.raises(
        EmbedderMismatchError, match=r"word_vectors and other_vectors both make vectors of 32 dimensions"
    ):
        VectorStore(folder, embedder=synonyms.other_vectors)

    def short(texts):
        return np.ones((len(texts), 3))

    with pytest.raises(EmbedderMismatchError, match=r"32 dimensions and .*short of 3; open it with word_vectors"):
        VectorStore(folder, embedder=short)


def test_the_same_embedder_by_another_name_is_welcome(folder):
    with VectorStore(folder, embedder=lambda texts: synonyms.word_vectors(texts).astype(np.float32)) as store:
        assert store.search("term1")


def test_a_named_embedder_is_refused_where_another_was_recorded(tmp_path):
    VectorStore(tmp_path / "store", embedder="openai:small").close()
    with pytest.raises(EmbedderMismatchError, match="made for the embedder openai:small and not for openai:large"):
        VectorStore(tmp_path / "store", embedder="openai:large")
    VectorStore(tmp_path / "store", embedder="openai:small").close()
    assert VectorStore(tmp_path / "store").embedder.name == "openai:small"


def test_a_named_embedder_is_made_again_and_noticed_when_it_is_another_model_now(tmp_path, monkeypatch):
    pytest.importorskip("openai")
    from deepmemory.testing import OpenAIServer

    monkeypatch.setenv("OPENAI_API_KEY", "key")
    with OpenAIServer(dimensions=16) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        with VectorStore(tmp_path / "store", embedder="openai:model") as store:
            store.add(["one text", "another text"], ids=["a", "b"])
        with VectorStore(tmp_path / "store") as store:
            assert store.search("one text", k=1)[0].id == "a"
    with OpenAIServer(dimensions=8) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        with VectorStore(tmp_path / "store") as store:
            for use in (lambda: store.search("one text"), lambda: store.add(["new"])):
                with pytest.raises(EmbedderMismatchError, match=r"of 16 dimensions and .* of 8"):
                    use()
            assert len(store) == 2


def test_a_store_filled_by_a_function_says_so_where_the_function_is_missing(folder):
    with VectorStore(folder) as store:
        assert len(store) == 60
        with pytest.raises(InputError, match="is filled by word_vectors, which is not named but given: open it with"):
            store.search("term1")
        with pytest.raises(InputError, match="has no embedder"):
            store.deep_memory.train(["term1"], [[("doc-1", 1.0)]])


def test_given_vectors_take_an_embedder_of_their_length_only(tmp_path):
    with VectorStore(tmp_path / "given", embedder=None) as store:
        store.add(["a b"], embeddings=synonyms.word_vectors(["a b"]))
    with VectorStore(tmp_path / "given", embedder=synonyms.word_vectors) as store:
        assert store.search("a b")[0].score == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(EmbedderMismatchError, match=r"have 32 dimensions, and those of .* have 2"):
        VectorStore(tmp_path / "given", embedder=lambda texts: np.ones((len(texts), 2)))


def test_the_distance_of_a_store_does_not_change(folder):
    VectorStore(folder, distance="cosine").close()
    with pytest.raises(InputError, match="compares vectors by cosine, which can't be changed to dot"):
        VectorStore(folder, distance="dot")
    with pytest.raises(InputError, match="distance is 'cosine' or 'dot'"):
        VectorStore(folder, distance="euclid")


def test_overwriting_begins_anew(folder):
    with VectorStore(folder, embedder=synonyms.word_vectors) as store:
        job = store.deep_memory.train(["term1"], [[("doc-1", 1.0)]], wait=True)
        assert store.deep_memory.status(job, verbose=False).state == "completed"
    with VectorStore(folder, embedder=synonyms.other_vectors, overwrite=True, distance="dot") as store:
        assert (len(store), store.distance, store.deep_memory.models()) == (0, "dot", [])
        assert store.deep_memory.list_jobs(verbose=False) == []
        assert store.deep_memory.history == []
        store.add(["a"])
    assert len(VectorStore(folder, embedder=synonyms.other_vectors)) == 1


def test_a_store_for_reading_is_not_overwritten(folder):
    with pytest.raises(InputError, match="give read_only or overwrite"):
        VectorStore(folder, read_only=True, overwrite=True)


def test_a_store_is_made_once_by_many(tmp_path):
    start = threading.Barrier(4)
    failures: list[Exception] = []

    def make(number: int) -> None:
        start.wait()
        try:
            with VectorStore(tmp_path / "store", embedder=synonyms.word_vectors) as store:
                store.add([f"text {number}"], ids=[str(number)])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(VectorStore(tmp_path / "store")) == 4


@pytest.fixture
def bucket():
    """Options to reach a bucket named ``bucket`` on an S3 server on loopback."""
    moto_server = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("obstore")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "aws_region": "us-east-1"}
    boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    ).create_bucket(Bucket="bucket")
    yield {**options, "aws_endpoint": f"http://{host}:{port}", "allow_http": "true"}
    server.stop()


def test_a_store_in_a_bucket_is_a_store_like_any(bucket):
    ids, texts = synonyms.documents()
    queries, relevance = synonyms.questions(texts, ids)
    options = {"embedder": synonyms.word_vectors, "storage_options": bucket}
    with VectorStore("s3://bucket/some/store", **options) as store:
        store.add(texts, ids=ids)
        store.deep_memory.train(queries, relevance, wait=True)
        assert store.deep_memory.get_model() == "v1"
    with VectorStore("s3://bucket/some/store/", create=False, **options) as store:
        assert len(store) == 60
        assert store.search(queries[0], k=1)[0].id == relevance[0][0][0]
        store.deep_memory.set_model(None)
        assert store.layer is None
        assert store.deep_memory.rollback() == store.deep_memory.get_model() == "v1"
    with pytest.raises(EmbedderMismatchError):
        VectorStore("s3://bucket/some/store", embedder=synonyms.other_vectors, storage_options=bucket)
    with pytest.raises(NotAStoreError, match="there is no Deep Memory store at s3://bucket/nothing"):
        VectorStore("s3://bucket/nothing", create=False, **options)
    with pytest.raises(NotAStoreError, match="something else"):
        VectorStore("s3://bucket/some", **options)


ADDER = """
from synonyms import word_vectors
from deepmemory import VectorStore

store = VectorStore(sys.argv[1], embedder=word_vectors)
for number in range(10_000):
    ids = store.add([f"text {number} {part}" for part in range(20)], ids=[f"{number}-{part}" for part in range(20)])
    print(number, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9_during_add(tmp_path, spawn):
    acknowledged = -1
    for _ in range(2):
        adder = spawn(ADDER, tmp_path / "store")
        seen = [int(adder.stdout.readline()) for _ in range(3)]
        adder.kill()
        acknowledged = max([acknowledged, *seen, *map(int, adder.communicate()[0].split())])
    with VectorStore(tmp_path / "store", embedder=synonyms.word_vectors, create=False) as store:
        ids = [f"{number}-{part}" for number in range(acknowledged + 1) for part in range(20)]
        assert None not in store.get(ids)
        assert len(store) in {len(ids), len(ids) + 20}
        store.add(["one more"])


LIMITED = """
import resource
from synonyms import word_vectors
from deepmemory import StorageError, VectorStore

store = VectorStore(sys.argv[1], embedder=word_vectors)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    store.add([f"text {number}" for number in range(2000)])
except StorageError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_full_disk_during_add_loses_nothing_that_was_there(folder, spawn):
    adder = spawn(LIMITED, folder)
    said, errors = adder.communicate(timeout=120)
    assert said.count("\n") == 1, errors
    with VectorStore(folder, embedder=synonyms.word_vectors) as store:
        assert len(store) == 60
        assert None not in store.get(synonyms.documents()[0])


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_full_disk_makes_no_half_a_store(tmp_path):
    script = (
        "import resource, sys\n"
        "from deepmemory import StorageError, VectorStore\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "try:\n"
        "    VectorStore(sys.argv[1], embedder=None)\n"
        "except StorageError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "new")], capture_output=True, text=True, check=False
    )
    assert "File too large" in done.stdout, done.stderr
    with VectorStore(tmp_path / "new", embedder=None) as store:
        assert len(store) == 0
