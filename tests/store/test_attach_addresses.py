"""Addresses of databases: a password is used, and is in no record, message or log."""

import json

import lancedb
import pytest

import deepmemory
from deepmemory import InputError, MissingExtraError
from deepmemory.store.addresses import absolute_address, folder_of, remember, with_secrets, written_address


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me@host/db"),
        ("postgresql://me:s%40cret@h1:1,h2:2/db?sslmode=require", "postgresql://me@h1:1,h2:2/db?sslmode=require"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql://:secret@host/db", "postgresql://host/db"),
        ("postgresql://me:a:secret@host", "postgresql://me@host"),
        ("postgresql://me:s@cret@[::1]:5/db", "postgresql://me@[::1]:5/db"),
        ("postgresql:///db?host=/tmp", "postgresql:///db?host=/tmp"),
        ("qdrant://:secret@host:6333", "qdrant://host:6333"),
        ("chroma:///folder/with@sign:x", "chroma:///folder/with@sign:x"),
        ("/folder/with@sign:x", "/folder/with@sign:x"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
    ],
)
def test_an_address_is_written_down_without_its_password(url, written):
    assert written_address(url) == written
    assert "secret" not in written


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:sec/ret@host/db",
        "postgresql://host/db?user=me&password=secret",
        "chroma://host:8000?token=secret",
        "host=localhost password=secret dbname=x",
        "host=localhost password = secret",
    ],
)
def test_where_a_password_can_not_be_told_apart_nothing_of_it_is_said(url, tmp_path):
    with pytest.raises(InputError) as caught:
        deepmemory.attach(url, table="t", path=tmp_path / "store")
    assert "sec" not in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_relative_folders_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_address("chroma://./folder") == f"chroma://{tmp_path}/folder"
    assert absolute_address("folder") == f"{tmp_path}/folder"
    assert absolute_address("postgresql://host/db") == "postgresql://host/db"
    assert folder_of(f"chroma://{tmp_path}/a%20b") == tmp_path / "a b"
    assert folder_of("postgresql://host/db") is None


def test_a_password_comes_from_the_environment_or_from_this_process(monkeypatch):
    assert with_secrets("postgresql://me@host/db") == "postgresql://me@host/db"
    remember("postgresql://me:known@host/db")
    assert with_secrets("postgresql://me@host/db") == "postgresql://me:known@host/db"
    monkeypatch.setenv("DEEPMEMORY_DATABASE_URL", "qdrant://:k@other postgresql://me:new@host/db")
    assert with_secrets("postgresql://me@host/db") == "postgresql://me:new@host/db"
    assert with_secrets("qdrant://other") == "qdrant://:k@other"
    assert with_secrets("postgresql://you@host/db") == "postgresql://you@host/db"


def test_a_client_that_is_not_installed_is_named(tmp_path, monkeypatch):
    import sys

    lancedb.connect(tmp_path / "lancedb").create_table("t", [{"id": "a", "vector": [1.0, 0.0]}])
    deepmemory.attach(str(tmp_path / "lancedb"), path=tmp_path / "store").close()
    record = json.loads((tmp_path / "store" / "deepmemory.json").read_text())
    record["attachment"]["url"] = f"deeplake://{tmp_path}/lancedb"
    (tmp_path / "store" / "deepmemory.json").write_text(json.dumps(record))
    monkeypatch.setitem(sys.modules, "deeplake", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'deepmemory\[deeplake\]'"):
        deepmemory.VectorStore(tmp_path / "store")
