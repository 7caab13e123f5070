"""Opening: what a path stands for, and what is refused before anything is made."""

import subprocess
import sys
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from deepmemory.backends import open_backend
from deepmemory.data import Document
from deepmemory.errors import InputError, NotAStoreError, ReadOnlyError
from deepmemory.testing.backend_twins import corpus


def test_paths_of_every_spelling_are_the_same_store(tmp_path: Path) -> None:
    folder = tmp_path / "näme with spaces"
    documents, vectors = corpus(3)
    open_backend(folder, create=True).upsert(documents, vectors)
    for path in (str(folder), f"{folder}/", folder.as_uri()):
        assert open_backend(path, create=False).count() == 3
    assert [entry.name for entry in folder.iterdir()] == ["documents.lance"]


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    backend = open_backend("store", create=True)
    monkeypatch.chdir("/")
    backend.upsert(*corpus(3))
    assert open_backend(tmp_path / "store", create=False).count() == 3


def test_creating_makes_an_empty_folder_until_something_is_added(tmp_path: Path) -> None:
    backend = open_backend(tmp_path / "a" / "b", create=True)
    assert list((tmp_path / "a" / "b").iterdir()) == []
    assert backend.count() == 0
    assert open_backend(tmp_path / "a" / "b", create=False).dimensions is None


@pytest.mark.parametrize("path", ["redis://host", "s3://", "s3:///", "://x"])
def test_an_unknown_kind_of_path(path: str) -> None:
    with pytest.raises(InputError, match="a store is a folder"):
        open_backend(path, create=True)


def test_nothing_where_a_store_was_expected(tmp_path: Path) -> None:
    with pytest.raises(NotAStoreError, match="found nothing"):
        open_backend(tmp_path / "none", create=False)
    with pytest.raises(NotAStoreError, match="found nothing"):
        open_backend(tmp_path / "none", create=True, read_only=True)
    assert not (tmp_path / "none").exists()


def test_a_file_where_a_store_was_expected(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(NotAStoreError, match="found a file"):
        open_backend(tmp_path / "file", create=False)
    for path in ("file", "file/inside"):
        with pytest.raises(NotAStoreError, match="there is a file where a folder belongs"):
            open_backend(tmp_path / path, create=True)


def test_a_table_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    lancedb.connect(tmp_path).create_table("documents", pa.table({"id": [1], "vector": [[0.5]]}))
    backend = open_backend(tmp_path, create=True)
    for ask in (backend.count, lambda: backend.upsert(*corpus(1)), backend.delete, backend.drop):
        with pytest.raises(NotAStoreError, match="metadata, terms, text"):
            ask()
    assert lancedb.connect(tmp_path).open_table("documents").count_rows() == 1


def test_read_only_reads_and_refuses_every_change(tmp_path: Path) -> None:
    documents, vectors = corpus(5)
    open_backend(tmp_path, create=True).upsert(documents, vectors)
    backend = open_backend(tmp_path, create=False, read_only=True)
    before = sorted(tmp_path.rglob("*"))
    for change in (
        lambda: backend.upsert([Document("new", "")], np.ones((1, 8), dtype=np.float32)),
        lambda: backend.upsert([], vectors[:0]),
        backend.delete,
        backend.optimize,
        backend.drop,
    ):
        with pytest.raises(ReadOnlyError, match="opened for reading only"):
            change()
    assert backend.search(vectors[:1], 1)[0].ids == ("d00000",)
    assert backend.search_text(["Number 3"], 1)[0].ids == ("d00003",)
    assert len(list(backend.batches())) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_memory_starts_empty_each_time() -> None:
    open_backend("memory://", create=True).upsert(*corpus(3))
    assert open_backend("memory://", create=True).count() == 0
    with pytest.raises(InputError, match="reading only"):
        open_backend("memory://", create=False, read_only=True)


def test_the_engine_is_imported_when_a_folder_is_opened_and_not_before(tmp_path: Path) -> None:
    program = (
        "import sys; from deepmemory.backends import open_backend; open_backend('memory://', create=True); "
        "assert 'lancedb' not in sys.modules; open_backend(sys.argv[1], create=True); assert 'lancedb' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
