"""Attaching: what is found, what is written down, what is refused; and everything works on what is attached."""

import json
import logging
import shutil
from pathlib import Path

import lancedb
import numpy as np
import pytest
import synonyms

import deepmemory
from deepmemory import (
    CapabilityError,
    EmbedderMismatchError,
    InputError,
    NewerFormatError,
    NotAStoreError,
    ReadOnlyError,
    StorageError,
    StoreError,
    VectorStore,
)


@pytest.fixture
def database(tmp_path) -> Path:
    """A LanceDB database whose one table has the documents of `synonyms`."""
    make_table(tmp_path / "lancedb")
    return tmp_path / "lancedb"


def make_table(folder, name: str = "chunks") -> None:
    ids, texts = synonyms.documents()
    vectors = synonyms.word_vectors(texts)
    rows = [
        {"id": id, "body": text, "vector": vector.tolist(), "even": row % 2 == 0, "row": row}
        for row, (id, text, vector) in enumerate(zip(ids, texts, vectors, strict=True))
    ]
    lancedb.connect(folder).create_table(name, rows)


def contents(folder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_everything_works_on_it_and_nothing_in_the_database_changes(database, tmp_path):
    before = contents(database)
    ids, texts = synonyms.documents()
    queries, relevance = synonyms.questions(texts, ids)
    store = deepmemory.attach(str(database), table="chunks", path=tmp_path / "store", embedder=synonyms.word_vectors)
    with store:
        assert (len(store), store.distance, store.backend.dimensions) == (60, "cosine", 32)
        assert store.get(["doc-3"])[0].metadata == {"even": False, "row": 3}
        assert {hit.metadata["even"] for hit in store.search(texts[3], k=10, filter={"even": True})} == {True}
        assert store.deep_memory.diagnose(queries, relevance).as_dict()
        job = store.deep_memory.train(queries[:80], relevance[:80], wait=True)
        assert store.deep_memory.status(job).state == "completed"
    with VectorStore(tmp_path / "store", embedder=synonyms.word_vectors) as again:
        assert again.deep_memory.get_model() == "v1"
        lift = again.deep_memory.evaluate(relevance[80:], queries[80:], verbose=False).overall.metrics["recall@10"]
        assert lift.trained > lift.baseline + 0.3
        assert again.explain(queries[0], k=3).as_dict()["hits"]
        assert again.attachment.layout.text == "body"
        assert again.summary()["attached_to"]["url"] == str(database)
        again.deep_memory.set_model(None)
    assert contents(database) == before


def test_documents_are_only_read_and_what_is_learned_may_be_changed(database, tmp_path):
    store = deepmemory.attach(str(database), path=tmp_path / "store", embedder=synonyms.word_vectors)
    for change in (
        lambda: store.add(["new"]),
        lambda: store.delete(["doc-1"]),
        lambda: store.delete(delete_all=True),
        store.optimize,
        store.backend.drop,
        lambda: VectorStore(tmp_path / "store", synonyms.word_vectors, overwrite=True),
    ):
        with pytest.raises(ReadOnlyError, match=r"chunks in .*lancedb"):
            change()
    with pytest.raises(ReadOnlyError, match="opened for reading"):
        VectorStore(tmp_path / "store", read_only=True).deep_memory.set_model(None)
    assert len(store) == 60


def test_the_record_has_what_is_needed_and_an_older_version_refuses_it(database, tmp_path):
    deepmemory.attach(str(database), path=tmp_path / "store").close()
    record = json.loads((tmp_path / "store" / "deepmemory.json").read_text())
    assert record["format"] == 2
    assert record["attachment"]["url"] == str(database)
    assert record["attachment"]["layout"]["collection"] == "chunks"
    assert record["attachment"]["read_only"] is True
    # A store with documents of its own is written as before, for versions that know of no attachment.
    VectorStore(tmp_path / "own", embedder=None).close()
    own = json.loads((tmp_path / "own" / "deepmemory.json").read_text())
    assert own["format"] == 1
    assert "attachment" not in own


@pytest.mark.parametrize(
    "attachment",
    ["x", {}, {"url": "x"}, {"url": "x", "layout": {"id": 1}, "read_only": True}, {"url": "x", "layout": []}],
)
def test_a_damaged_attachment_is_named(database, tmp_path, attachment):
    deepmemory.attach(str(database), path=tmp_path / "store").close()
    file = tmp_path / "store" / "deepmemory.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"attachment": attachment}))
    with pytest.raises(StoreError, match=r"deepmemory.json of the store .* is damaged"):
        VectorStore(tmp_path / "store")
    file.write_text(json.dumps(record | {"format": 3}))
    with pytest.raises(NewerFormatError, match="format 3"):
        VectorStore(tmp_path / "store")


def test_relative_places_stay_what_they_were(database, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    deepmemory.attach("lancedb", path="store").close()
    monkeypatch.chdir("/")
    with VectorStore(tmp_path / "store") as store:
        assert len(store) == 60


# Once more


def test_attaching_again_opens_the_same_and_may_read_it_otherwise(database, tmp_path):
    with deepmemory.attach(str(database), path=tmp_path / "store", embedder=synonyms.word_vectors) as store:
        ids, texts = synonyms.documents()
        store.deep_memory.train(*synonyms.questions(texts, ids), wait=True)
        created = store.summary()["created"]
    with deepmemory.attach(str(database), path=tmp_path / "store", metadata=["row"]) as store:
        assert (store.deep_memory.get_model(), store.summary()["created"]) == ("v1", created)
        assert store.summary()["embedder"] == "word_vectors"
        assert store.get(["doc-3"])[0].metadata == {"row": 3}


def test_another_attachment_in_the_same_folder_is_refused(database, tmp_path):
    deepmemory.attach(str(database), path=tmp_path / "store").close()
    make_table(database, "other")
    record = (tmp_path / "store" / "deepmemory.json").read_bytes()
    with pytest.raises(NotAStoreError, match=r"is attached already, to chunks in .*choose another folder for other"):
        deepmemory.attach(str(database), table="other", path=tmp_path / "store")
    with pytest.raises(NotAStoreError, match="is attached already"):
        deepmemory.attach(str(database), table="chunks", distance="dot", path=tmp_path / "store")
    assert (tmp_path / "store" / "deepmemory.json").read_bytes() == record


def test_a_folder_with_something_else_is_left_alone(database, tmp_path):
    VectorStore(tmp_path / "own", embedder=None).close()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    before = contents(tmp_path)
    for place, said in (
        ("own", "is a store with documents of its own"),
        ("photos", "has something else in it"),
        ("photos/cat.jpg", "is a file"),
    ):
        with pytest.raises(NotAStoreError, match=said):
            deepmemory.attach(str(database), path=tmp_path / place)
    for place in ("lancedb", "lancedb/store"):
        with pytest.raises(InputError, match="inside the database's own folder"):
            deepmemory.attach(str(database), path=tmp_path / place)
    for place in ("memory://", "hub://acme/handbook"):
        with pytest.raises(InputError, match="kept in a folder or a bucket"):
            deepmemory.attach(str(database), path=place)
    assert contents(tmp_path) == before


# What is wrong


def test_arguments_that_are_wrong_are_told_together(database, tmp_path):
    with pytest.raises(InputError) as caught:
        deepmemory.attach(
            str(database),
            table="a",
            collection="b",
            id="",
            vector=3,
            metadata="lang",
            distance="l2",
            path=tmp_path / "s",
        )
    said = "\n".join(caught.value.problems)
    for part in ("id is the name", "vector is the name", "table and collection", "metadata is a list", "distance is"):
        assert part in said
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("url", ["redis://host/0", "db://cloud", "postgres//x", "", "deeplake://"])
def test_an_address_of_no_known_kind(url, tmp_path):
    with pytest.raises(InputError):
        deepmemory.attach(url, table="t", path=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_nothing_is_left_where_attaching_fails(database, tmp_path):
    for arguments in ({"table": "nope"}, {"vector": "body"}, {"read_only": False}, {"embedder": "nonsense"}):
        with pytest.raises((InputError, CapabilityError)):
            deepmemory.attach(str(database), path=tmp_path / "s", **arguments)
    with pytest.raises(EmbedderMismatchError, match=r"have 32 dimensions, and those of .*<lambda> have 3"):
        deepmemory.attach(str(database), path=tmp_path / "s", embedder=lambda texts: np.ones((len(texts), 3)))
    assert not (tmp_path / "s").exists()


def test_vectors_of_another_embedder_are_told(database, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "deepmemory"):
        deepmemory.attach(str(database), path=tmp_path / "right", embedder=synonyms.word_vectors).close()
        assert caplog.messages == []
        deepmemory.attach(str(database), path=tmp_path / "wrong", embedder=synonyms.other_vectors).close()
    [said] = caplog.messages
    assert "seem not to be those of other_vectors" in said
    with pytest.raises(EmbedderMismatchError, match="another embedder than other_vectors"):
        VectorStore(tmp_path / "right", synonyms.other_vectors)


def test_without_an_embedder_vectors_are_given(database, tmp_path):
    _, texts = synonyms.documents()
    with deepmemory.attach(str(database), path=tmp_path / "store") as store:
        with pytest.raises(InputError, match="has no embedder"):
            store.search(texts[0])
        assert store.search(embedding=synonyms.word_vectors(texts[:1])[0], k=1)[0].text == texts[0]
    with pytest.raises(EmbedderMismatchError, match="32 dimensions"):
        VectorStore(tmp_path / "store", lambda texts: np.ones((len(texts), 3)))


def test_what_is_gone_later_is_said(database, tmp_path):
    deepmemory.attach(str(database), path=tmp_path / "store").close()
    table = lancedb.connect(database).open_table("chunks")
    table.drop_columns(["body", "row"])
    with pytest.raises(StorageError, match=r"chunks in .* has no column body, row any more"):
        VectorStore(tmp_path / "store")
    lancedb.connect(database).drop_table("chunks")
    with pytest.raises(StorageError, match="there is no table chunks in"):
        VectorStore(tmp_path / "store")
    shutil.rmtree(database)
    with pytest.raises(StorageError, match=r"there is no folder .*lancedb any more"):
        VectorStore(tmp_path / "store")
    assert not database.exists()


def test_a_store_of_ours_is_opened_and_not_attached(tmp_path):
    VectorStore(tmp_path / "own", embedder=None).close()
    with pytest.raises(InputError, match="is a Deep Memory store, which needs no attaching"):
        deepmemory.attach(str(tmp_path / "own"), table="documents", path=tmp_path / "store")
