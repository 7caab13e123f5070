"""What goes wrong under a store: one clear sentence each, and what was stored is as it was."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deepmemory.backends import open_backend
from deepmemory.data import Document
from deepmemory.errors import InputError, StorageError
from deepmemory.testing.backend_twins import corpus

resource = pytest.importorskip("resource", reason="sets the limits of POSIX processes")


def fill(path: Path, n: int = 200) -> None:
    open_backend(path, create=True).upsert(*corpus(n))


def table_files(path: Path, folder: str) -> list[Path]:
    return sorted((path / "documents.lance" / folder).iterdir())


def is_one_sentence(error: StorageError, path: Path) -> bool:
    text = str(error)
    return str(path) in text and "\n" not in text and re.search(r"\.rs:\d|LanceError|Traceback", text) is None


FILL_THE_DISK = """
import resource, sys
import numpy as np
from deepmemory.backends import open_backend
from deepmemory.data import Document
from deepmemory.errors import StorageError

backend = open_backend(sys.argv[1], create=False)
resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, resource.RLIM_INFINITY))
changed = [Document(f"d{i:05}", "changed" * 50) for i in range(5_000)]
try:
    backend.upsert(changed, np.ones((5_000, 8), dtype=np.float32))
except StorageError as error:
    print(error)
print(backend.count(), backend.get(["d00003"])[0].text)
backend.upsert([Document("small", "fits")], np.ones((1, 8), dtype=np.float32))
print(backend.count())
"""


def test_a_file_that_may_grow_no_further(tmp_path: Path) -> None:
    fill(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    message, unchanged, later = done.stdout.splitlines()
    assert message.startswith(f"can't add documents in {tmp_path}: ")
    assert "File too large" in message
    assert unchanged == "200 text number 3"
    assert later == "201"
    assert done.stderr == ""


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a small file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk(tiny_disk: Path) -> None:
    fill(tiny_disk)
    backend = open_backend(tiny_disk, create=False)
    rng = np.random.default_rng(0)
    documents = [Document(f"big{i}", rng.bytes(1_000).hex()) for i in range(2_000)]
    with pytest.raises(StorageError, match=r"can't add documents in .*: No space left on device") as caught:
        backend.upsert(documents, np.ones((2_000, 8), dtype=np.float32))
    assert is_one_sentence(caught.value, tiny_disk)
    assert backend.count() == 200
    assert backend.get(["big0"]) == [None]
    assert open_backend(tiny_disk, create=False).count() == 200


WRITE_WHERE_IT_IS_FORBIDDEN = """
import os, sys
import lancedb.index, lancedb.query
import numpy as np
from deepmemory.backends import lance, open_backend
from deepmemory.data import Document
from deepmemory.errors import StorageError

if os.geteuid() == 0:
    os.setuid(65534)  # root may write everywhere
backend = open_backend(sys.argv[1], create=False)
try:
    backend.upsert([Document("new", "")], np.ones((1, 8), dtype=np.float32))
except StorageError as error:
    print(error)
try:
    open_backend(sys.argv[1] + "/new", create=True)
except StorageError as error:
    print(error)
print(backend.count(), backend.search(np.ones((1, 8), dtype=np.float32), 3)[0].ids != ())
"""


@pytest.mark.skipif(os.name == "nt", reason="sets POSIX permissions")
def test_a_folder_that_may_not_be_written() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders may be closed to other users
        path = Path(folder) / "store"
        fill(path)
        closed = [path.parent, path, *(entry for entry in path.rglob("*") if entry.is_dir())]
        for entry in closed:
            entry.chmod(0o555)
        try:
            done = subprocess.run(
                [sys.executable, "-c", WRITE_WHERE_IT_IS_FORBIDDEN, str(path)],
                capture_output=True,
                text=True,
                check=True,
                timeout=120,
            )
        finally:
            for entry in closed:
                entry.chmod(0o755)
    adding, making, reading = done.stdout.splitlines()
    assert adding.startswith(f"can't add documents in {path}: ")
    assert "Permission denied" in adding
    assert making == f"can't make the folder {path}/new: Permission denied"
    assert reading == "200 True"
    assert done.stderr == ""


def test_a_folder_that_can_not_be_made() -> None:
    with pytest.raises(StorageError, match="can't make the folder /proc/none"):
        open_backend("/proc/none", create=True)


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_truncated_data_file(tmp_path: Path, kept: float) -> None:
    fill(tmp_path)
    (file,) = table_files(tmp_path, "data")
    os.truncate(file, int(file.stat().st_size * kept))
    backend = open_backend(tmp_path, create=False)
    for ask in (
        lambda: backend.search(corpus(1)[1], 3),
        lambda: backend.get(["d00001"]),
        lambda: list(backend.batches()),
    ):
        with pytest.raises(StorageError) as caught:
            ask()
        assert is_one_sentence(caught.value, tmp_path)


def test_a_data_file_of_garbage(tmp_path: Path) -> None:
    fill(tmp_path)
    (file,) = table_files(tmp_path, "data")
    file.write_bytes(bytes(range(256)) * (file.stat().st_size // 256))
    with pytest.raises(StorageError) as caught:
        open_backend(tmp_path, create=False).search(corpus(1)[1], 3)
    assert is_one_sentence(caught.value, tmp_path)


def test_a_missing_data_file(tmp_path: Path) -> None:
    fill(tmp_path)
    (file,) = table_files(tmp_path, "data")
    file.unlink()
    with pytest.raises(StorageError, match="Not found") as caught:
        open_backend(tmp_path, create=False).search(corpus(1)[1], 3)
    assert is_one_sentence(caught.value, tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_truncated_commit(tmp_path: Path, kept: float) -> None:
    fill(tmp_path)
    for file in table_files(tmp_path, "_versions"):
        if file.suffix == ".manifest":
            os.truncate(file, int(file.stat().st_size * kept))
    backend = open_backend(tmp_path, create=False)
    for ask in (backend.count, lambda: backend.upsert(*corpus(1)), lambda: backend.search(corpus(1)[1], 3)):
        with pytest.raises(StorageError) as caught:
            ask()
        assert is_one_sentence(caught.value, tmp_path)


@pytest.mark.parametrize("broken", ["id", "text", "metadata"])
def test_text_that_utf8_can_not_hold_is_refused_with_every_document_named(tmp_path: Path, broken: str) -> None:
    fill(tmp_path, 3)
    half = "half a pair: \ud83e"
    bad = [
        Document(
            half if broken == "id" else f"bad{i}",
            half if broken == "text" else "",
            {"x": half} if broken == "metadata" else {},
        )
        for i in range(2)
    ]
    backend = open_backend(tmp_path, create=False)
    with pytest.raises(InputError, match="surrogate") as caught:
        backend.upsert([Document("good", ""), *bad], np.ones((3, 8), dtype=np.float32))
    assert len(caught.value.problems) == 2
    assert backend.count() == 3
    assert backend.get([half]) == [None]
    assert backend.delete(ids=[half]) == 0
    assert len(backend.search_text([half], 3)[0]) == 0


def test_a_process_without_file_handles_left(tmp_path: Path) -> None:
    fill(tmp_path)
    backend = open_backend(tmp_path, create=False)
    assert backend.count() == 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(StorageError, match="Too many open files") as caught:
            backend.upsert([Document("new", "")], np.ones((1, 8), dtype=np.float32))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert is_one_sentence(caught.value, tmp_path)
    assert backend.count() == 200
