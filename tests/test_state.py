"""Blobs are written whole or not at all: in a folder, in memory, in a bucket of a real S3 server, in PostgreSQL."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from deepmemory.errors import InputError, StorageError
from deepmemory.state import FolderState, MemoryState, ObjectState, State, open_state
from deepmemory.state_postgres import PostgresState


@pytest.fixture(scope="module")
def bucket_options():
    """A bucket named ``bucket`` on an S3 server on loopback, and the options to reach it."""
    moto_server = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("obstore")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).create_bucket(Bucket="bucket")
    yield {**keys, "aws_endpoint": endpoint, "aws_region": "us-east-1", "allow_http": "true"}
    server.stop()


@pytest.fixture(params=["folder", "memory", "object", "postgres"])
def state(request, tmp_path) -> State:
    if request.param == "postgres":
        return open_state(request.getfixturevalue("own_url"))
    if request.param == "folder":
        return open_state(tmp_path / "store")
    if request.param == "memory":
        return open_state("memory://")
    options = request.getfixturevalue("bucket_options")
    return open_state(f"s3://bucket/{tmp_path.name}", storage_options=options)


def test_what_is_written_is_read_replaced_listed_and_deleted(state):
    assert state.is_empty()
    assert state.read("record.json") is None
    state.write("record.json", b"1")
    state.write("record.json", b"22")
    state.write("jobs/b", b"")
    state.write("jobs/a", bytes(range(256)))
    state.write("jobs/deep/c", b"3")
    assert state.read("record.json") == b"22"
    assert state.read("jobs/a") == bytes(range(256))
    assert state.read("jobs/b") == b""
    assert state.list() == ("record.json",)
    assert state.list("jobs") == state.list("jobs/") == ("jobs/a", "jobs/b")
    assert state.list("nothing") == ()
    assert not state.is_empty()
    assert state.delete("jobs/a")
    assert not state.delete("jobs/a")
    assert state.list("jobs") == ("jobs/b",)


def test_a_new_blob_is_created_once_and_never_replaced(state):
    assert state.write_new("layers/v1", b"first")
    assert not state.write_new("layers/v1", b"second")
    assert state.read("layers/v1") == b"first"
    state.delete("layers/v1")
    assert state.write_new("layers/v1", b"third")


def test_of_many_writers_of_a_new_blob_one_succeeds(state):
    start = threading.Barrier(8)
    won: list[int] = []

    def create(number: int) -> None:
        start.wait()
        if state.write_new("jobs/claim", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert state.read("jobs/claim") == str(won[0]).encode()


@pytest.mark.parametrize(
    "name", ["", "/", "a/", "/a", "../a", "a/../b", "a//b", ".hidden", "a/.b", "a b", "a\\b", "C:x", "é", "x" * 201]
)
def test_a_name_that_could_leave_the_place_is_refused(state, name):
    for act in (state.read, state.delete, lambda n: state.write(n, b""), lambda n: state.write_new(n, b"")):
        with pytest.raises(InputError, match="a blob's name is letters"):
            act(name)
    assert state.is_empty()


def test_a_path_opens_the_place_that_it_names(tmp_path):
    assert isinstance(open_state("memory://"), MemoryState)
    folder = open_state(f"file://{tmp_path}/a%20b")
    assert isinstance(folder, FolderState)
    assert isinstance(open_state("postgresql://user@host/database?table=docs"), PostgresState)
    assert folder.root == tmp_path / "a b"
    with pytest.raises(InputError, match="'ftp://host/x' is none of them"):
        open_state("ftp://host/x")
    with pytest.raises(InputError, match="s3://bucket/prefix"):
        open_state("s3://")


def test_two_memories_share_nothing():
    first, second = open_state("memory://"), open_state("memory://")
    first.write("a", b"")
    assert second.is_empty()


def test_a_folder_is_made_by_the_first_write_and_not_by_looking(tmp_path):
    state = FolderState(tmp_path / "a" / "b")
    assert state.read("x") is None
    assert state.list() == ()
    assert state.is_empty()
    assert not state.delete("x")
    assert list(tmp_path.iterdir()) == []
    state.write("x", b"1")
    assert FolderState(tmp_path / "a" / "b").read("x") == b"1"


def test_what_a_killed_writer_left_is_no_blob(tmp_path):
    (tmp_path / ".tmp-0123").write_bytes(b"half")
    state = FolderState(tmp_path)
    assert state.is_empty()
    assert state.list() == ()


def test_files_of_others_make_a_folder_not_empty(tmp_path):
    (tmp_path / "My notes.txt").write_text("mine")
    state = FolderState(tmp_path)
    assert not state.is_empty()
    assert state.list() == ()


def test_a_file_where_a_folder_is_expected_is_one_clear_sentence(tmp_path):
    (tmp_path / "file").write_text("mine")
    state = FolderState(tmp_path / "file")
    for act in (state.is_empty, state.list, lambda: state.read("a"), lambda: state.write("a", b"")):
        with pytest.raises(StorageError, match=r"Not a directory|File exists"):
            act()
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.name == "nt", reason="file size limits are POSIX")
@pytest.mark.parametrize("write", ["write", "write_new"])
def test_a_full_disk_leaves_the_old_blob_and_no_litter(tmp_path, write):
    state = FolderState(tmp_path)
    state.write("layers/v1", b"old")
    name = "layers/v1" if write == "write" else "layers/v2"
    script = (
        "import resource, sys\n"
        "from deepmemory.errors import StorageError\n"
        "from deepmemory.state import FolderState\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        f"    FolderState(sys.argv[1]).{write}({name!r}, bytes(100_000))\n"
        "except StorageError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "File too large; what was there before is unchanged" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert state.read("layers/v1") == b"old"
    assert [path.name for path in (tmp_path / "layers").iterdir()] == ["v1"]


def test_writers_of_several_processes_create_every_blob_once(tmp_path):
    script = (
        "import sys\n"
        "from deepmemory.state import FolderState\n"
        "state = FolderState(sys.argv[1])\n"
        "print(sum(state.write_new(f'layers/v{n}', sys.argv[2].encode()) for n in range(60)))\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(3)
    ]
    created = [int(writer.communicate()[0]) for writer in writers]
    assert sum(created) == 60
    state = FolderState(tmp_path)
    owners = [state.read(name) for name in state.list("layers")]
    assert [owners.count(str(number).encode()) for number in range(3)] == created


def test_a_reader_never_sees_half_a_blob(tmp_path):
    state = FolderState(tmp_path)
    contents = [bytes([number]) * 50_000 for number in range(2)]
    state.write("blob", contents[0])
    stop = threading.Event()

    def rewrite() -> None:
        number = 0
        while not stop.is_set():
            number = 1 - number
            state.write("blob", contents[number])

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        seen = {state.read("blob") for _ in range(300)}
    finally:
        stop.set()
        writer.join()
    assert seen <= set(contents)


def test_a_bucket_that_is_not_there_is_one_clear_sentence(bucket_options):
    state = ObjectState("s3://no-such-bucket/prefix", storage_options=bucket_options)
    with pytest.raises(StorageError, match=r"^s3://no-such-bucket/prefix: can't write a: .*$"):
        state.write("a", b"1")


def test_an_option_that_the_service_does_not_know_is_named(bucket_options):
    with pytest.raises(StorageError, match="'bogus' is not valid"):
        open_state("s3://bucket/prefix", storage_options={**bucket_options, "bogus": "x"})


def test_a_folder_that_may_not_be_written_is_one_clear_sentence(tmp_path):
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    folder: Path = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        FolderState(folder).write("a", b"")
