"""LanceDB tables that others made: read as they are, in every column layout that is known, and never changed."""

import json
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from deepmemory.backends import Backend
from deepmemory.backends.attaching import Asked
from deepmemory.backends.exact import ExactBackend
from deepmemory.backends.lance_attached import open_attached, recognise
from deepmemory.data import Document
from deepmemory.errors import CapabilityError, InputError, ReadOnlyError, StorageError
from deepmemory.testing.backend_contract import BackendContract
from deepmemory.testing.backend_twins import DIMENSIONS, agree, corpus
from deepmemory.testing.filled_elsewhere import FilledElsewhere


def table_of(documents, vectors) -> pa.Table:
    """Rows in columns that are called otherwise than ours, with metadata as JSON text."""
    flat = pa.array(np.asarray(vectors, np.float32).ravel())
    return pa.table(
        {
            "Key of it": [document.id for document in documents],
            "body": [document.text for document in documents],
            "embedding": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
            "extra": [json.dumps(document.metadata) for document in documents],
        }
    )


class Chunks(FilledElsewhere):
    def __init__(self, folder: Path, *, words: bool = False) -> None:
        super().__init__(full_text=words)
        self.folder = folder
        self.words = words
        self.database = lancedb.connect(folder)

    def fill(self, documents, vectors) -> None:
        rows = table_of(documents, vectors)
        if not self.exists():
            table = self.database.create_table("chunks", rows)
            if self.words:
                table.create_index("body", config=lancedb.index.FTS())
            return
        table = self.database.open_table("chunks")
        table.merge_insert("Key of it").when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def remove(self, ids) -> None:
        listed = ", ".join("'" + id.replace("'", "''") + "'" for id in ids)
        self.database.open_table("chunks").delete(f"`Key of it` IN ({listed})")

    def forget(self) -> None:
        self.database.drop_table("chunks")

    def exists(self) -> bool:
        return "chunks" in self.database.list_tables().tables

    def attach(self) -> Backend:
        asked = Asked("chunks", id="Key of it", text="body", metadata_json="extra", metadata=())
        layout = recognise(str(self.folder), asked)
        return open_attached(str(self.folder), layout, read_only=True, storage_options=None)


class TestAttached(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        return Chunks(tmp_path)

    def reopened(self, backend: Backend) -> Backend:
        return Chunks(backend.folder)


class TestWords:
    """The part of the contract that is about words, on a table with a full-text index of its own."""

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        return Chunks(tmp_path, words=True)

    _needs = BackendContract._needs
    test_words_rank_documents = BackendContract.test_words_rank_documents
    test_words_of_new_changed_and_deleted_documents = BackendContract.test_words_of_new_changed_and_deleted_documents
    test_any_string_is_a_query_by_words = BackendContract.test_any_string_is_a_query_by_words


def rows(n: int = 60) -> tuple[pa.Table, ExactBackend]:
    """Rows with a column of each type that is metadata, and the same documents in the exact backend."""
    documents, vectors = corpus(n)
    langs = ["en", "fr", "de", None]
    metadata = [
        {"lang": langs[i % 4], "page": i % 5, "score": i / 4, "draft": i % 2 == 0, "tags": ["a", str(i % 3)]}
        for i in range(n)
    ]
    columns = {name: [row[name] for row in metadata] for name in metadata[0]}
    flat = pa.array(vectors.ravel())
    table = pa.table(
        {
            "pk": pa.array(range(1000, 1000 + n), pa.int64()),
            "content": [document.text for document in documents],
            "vec": pa.FixedSizeListArray.from_arrays(flat, DIMENSIONS),
            **columns,
            "blob": [b"x"] * n,
        }
    )
    oracle = ExactBackend()
    kept = [{key: value for key, value in row.items() if value is not None} for row in metadata]
    oracle.upsert([Document(str(1000 + i), documents[i].text, kept[i]) for i in range(n)], vectors)
    return table, oracle


def attached(folder: Path, **asked) -> Backend:
    layout = recognise(str(folder), Asked(**{"collection": "t", **asked}))
    return open_attached(str(folder), layout, read_only=True, storage_options=None)


CONDITIONS = [
    {"lang": "en"},
    {"lang": ["en", "fr", 7]},
    {"lang": None},
    {"page": 3},
    {"page": 3.0},
    {"page": [1, 2.5, "3", True, 10**30]},
    {"score": 1},
    {"score": [0.25, 3]},
    {"draft": True},
    {"draft": [False, "true", 0]},
    {"tags": [["a", "1"]]},
    {"tags": [["a", "1"]], "lang": "en", "page": [0, 1, 2]},
    {"nothing": 1},
    {"lang": []},
    {"id": ["1003", "1004", "x", "01003", "1003.0"]},
    {"id": "1003", "lang": "nothing"},
    {"lang": "x' OR '1'='1"},
]


@pytest.mark.parametrize("nested", [False, True])
def test_filters_on_columns_of_every_type_agree_with_the_exact_backend(tmp_path: Path, nested: bool) -> None:
    table, oracle = rows()
    if nested:
        names = ["lang", "page", "score", "draft", "tags"]
        struct = pa.StructArray.from_arrays([table.column(name).combine_chunks() for name in names], names)
        table = table.drop(names).append_column("metadata", struct)
    lancedb.connect(tmp_path).create_table("t", table)
    backend = attached(tmp_path)
    ids = [str(id) for id in range(1000, 1060)]
    assert backend.get(ids) == oracle.get(ids)
    queries = corpus(12, seed=3)[1]
    for condition in CONDITIONS:
        assert backend.count(condition) == oracle.count(condition), condition
        assert set(backend.get_vectors(ids, filter=condition)) == set(oracle.get_vectors(ids, filter=condition))
        for n in (1, 12):
            found = backend.search(queries[:n], 7, filter=condition)
            agree(found, oracle.search(queries[:n], 7, filter=condition))


def test_an_index_of_the_table_is_used_and_measured_as_cosine(tmp_path: Path) -> None:
    table, oracle = rows(600)
    made = lancedb.connect(tmp_path).create_table("t", table)
    queries = corpus(10, seed=3)[1]
    for metric in ("l2", "cosine", "dot"):
        made.create_index("vec", config=lancedb.index.HnswSq(distance_type=metric))
        backend = attached(tmp_path)
        for distance in ("cosine", "dot"):
            for n in (1, 10):
                found = backend.search(queries[:n], 5, distance=distance)
                agree(found, oracle.search(queries[:n], 5, distance=distance))
        assert recognise(str(tmp_path), Asked("t")).distance == ("dot" if metric == "dot" else "cosine")


def test_an_l2_index_over_vectors_of_several_lengths_is_refused_with_their_share(tmp_path: Path) -> None:
    table, _ = rows(400)
    vectors = corpus(400)[1] * np.where(np.arange(400) % 4 == 0, 3, 1)[:, None].astype(np.float32)
    place = table.schema.get_field_index("vec")
    stretched = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMENSIONS)
    made = lancedb.connect(tmp_path).create_table("t", table.set_column(place, "vec", stretched))
    made.create_index("vec", config=lancedb.index.HnswSq(distance_type="l2"))
    with pytest.raises(InputError, match=r"compares by l2, and 25% of the vectors.*distance='cosine'"):
        recognise(str(tmp_path), Asked("t"))
    backend = attached(tmp_path, distance="cosine")
    exact = ExactBackend()
    exact.upsert([Document(str(1000 + i), "") for i in range(400)], vectors)
    agree(backend.search(vectors[:3], 5), exact.search(vectors[:3], 5))


def test_rows_without_a_vector_are_left_out_and_counted(tmp_path: Path) -> None:
    table, _ = rows(20)
    place = table.schema.get_field_index("vec")
    holes = pa.array(
        [None if i < 3 else v for i, v in enumerate(corpus(20)[1].tolist())], table.schema.field("vec").type
    )
    lancedb.connect(tmp_path).create_table("t", table.set_column(place, "vec", holes))
    backend = attached(tmp_path)
    assert (backend.count(), backend.left_out, backend.count({"draft": True})) == (17, 3, 8)
    assert backend.get(["1000", "1003"])[0] is None
    assert backend.get_vectors(["1000", "1003"]).keys() == {"1003"}
    assert sum(len(batch) for batch in backend.batches()) == 17
    for n in (1, 10):
        assert all(len(ranking) == 17 for ranking in backend.search(np.ones((n, DIMENSIONS), np.float32), 20))


def test_vectors_of_other_precision_are_float32_here(tmp_path: Path) -> None:
    vectors = corpus(10)[1]
    for kind in (np.float16, np.float64):
        flat = pa.array(vectors.astype(kind).ravel())
        table = pa.table({"id": list("abcdefghij"), "v": pa.FixedSizeListArray.from_arrays(flat, DIMENSIONS)})
        lancedb.connect(tmp_path).create_table("t", table, mode="overwrite")
        backend = attached(tmp_path)
        assert backend.search(vectors[3:4], 1)[0].ids == ("d",)
        assert next(backend.batches()).column("vector").type == pa.list_(pa.float32(), DIMENSIONS)
        assert backend.get(["a"]) == [Document("a", "")]


def test_what_others_commit_is_seen_and_what_they_remove_is_said(tmp_path: Path) -> None:
    table, _ = rows(20)
    database = lancedb.connect(tmp_path)
    made = database.create_table("t", table.slice(0, 10))
    backend = attached(tmp_path)
    made.add(table.slice(10))
    assert backend.count() == 20
    made.drop_columns(["content"])
    with pytest.raises(StorageError, match="content"):
        backend.get(["1000"])
    with pytest.raises(StorageError, match="has no column content any more"):
        open_attached(str(tmp_path), backend._layout, read_only=True, storage_options=None)
    database.drop_table("t")
    for ask in (backend.count, lambda: backend.get(["1000"]), lambda: list(backend.batches())):
        with pytest.raises(StorageError, match=r"there is no table t in .* any more"):
            ask()


def test_nothing_is_changed_and_every_change_is_refused(tmp_path: Path) -> None:
    table, _ = rows(20)
    lancedb.connect(tmp_path).create_table("t", table)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    backend = attached(tmp_path)
    documents, vectors = corpus(2)
    for change in (lambda: backend.upsert(documents, vectors), backend.delete, backend.optimize, backend.drop):
        with pytest.raises(ReadOnlyError, match=r"the table t in .* is attached for reading only"):
            change()
    with pytest.raises(CapabilityError, match="for reading only"):
        open_attached(str(tmp_path), backend._layout, read_only=False, storage_options=None)
    backend.search(vectors, 3)
    backend.count({"tags": [["a", "1"]]})
    list(backend.batches(text=True))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


# Recognition


def test_langchains_table_is_recognised(tmp_path: Path) -> None:
    from langchain_community.vectorstores import LanceDB
    from langchain_core.embeddings import DeterministicFakeEmbedding

    embeddings = DeterministicFakeEmbedding(size=16)
    store = LanceDB(connection=lancedb.connect(tmp_path), embedding=embeddings, table_name="langchain")
    ids = store.add_texts(["one", "two"], metadatas=[{"lang": "en", "page": 1}, {"lang": "fr", "page": 2}])
    layout = recognise(str(tmp_path), Asked(""))
    assert (layout.collection, layout.id, layout.text, layout.vector) == ("langchain", "id", "text", "vector")
    assert (layout.metadata, layout.metadata_json) == ((), "metadata")
    backend = open_attached(str(tmp_path), layout, read_only=True, storage_options=None)
    assert backend.get(ids)[1] == Document(ids[1], "two", {"lang": "fr", "page": 2})
    [ranking] = backend.search(np.array([embeddings.embed_query("two")], np.float32), 2, filter={"lang": "fr"})
    assert ranking.ids == (ids[1],)


def test_llamaindex_table_is_recognised(tmp_path: Path) -> None:
    from llama_index.core.schema import TextNode
    from llama_index.core.vector_stores.utils import node_to_metadata_dict

    nodes = [TextNode(id_=f"n{i}", text=f"node {i}", metadata={"lang": "en", "n": i}) for i in range(3)]
    table = [
        # What llama-index-vector-stores-lancedb 0.6 writes, which is not installed here.
        {
            "id": node.node_id,
            "doc_id": node.ref_doc_id or "none",
            "vector": [float(i == j) for j in range(4)],
            "text": node.text,
            "metadata": node_to_metadata_dict(node, remove_text=False, flat_metadata=True),
        }
        for i, node in enumerate(nodes)
    ]
    lancedb.connect(tmp_path).create_table("vectors", table)
    layout = recognise(str(tmp_path), Asked("vectors"))
    assert (layout.id, layout.text, layout.vector, layout.metadata_json) == ("id", "text", "vector", "metadata")
    backend = open_attached(str(tmp_path), layout, read_only=True, storage_options=None)
    assert backend.count({"n": 2, "lang": "en"}) == 1
    [found] = backend.get(["n1"])
    assert found is not None
    assert (found.text, found.metadata["n"]) == ("node 1", 1)


def test_other_tables_are_read_where_only_one_reading_is_possible(tmp_path: Path) -> None:
    table, _ = rows(5)
    lancedb.connect(tmp_path).create_table("t", table)
    layout = recognise(str(tmp_path), Asked(""))
    assert (layout.collection, layout.id, layout.text, layout.vector) == ("t", "pk", "content", "vec")
    assert layout.metadata == ("lang", "page", "score", "draft", "tags")
    assert recognise(str(tmp_path / "t.lance"), Asked("")) == layout
    assert recognise(str(tmp_path), Asked("t", metadata=("page",), text="lang")).metadata == ("page",)


def test_all_that_is_wrong_is_said_at_once_with_the_columns_that_there_are(tmp_path: Path) -> None:
    table, _ = rows(5)
    lancedb.connect(tmp_path).create_table("t", table.append_column("vec2", table.column("vec")))
    with pytest.raises(InputError) as caught:
        recognise(str(tmp_path), Asked("t", id="nope", text="page", metadata=("blob", "lang"), namespace="s"))
    said = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 5
    for part in (
        "there is no column 'nope'",
        "'page' is of int64",
        "vector= which column of vectors of one length is the vector; found vec, vec2",
        "'blob' is of binary",
        "leave out schema=",
        "the columns of t: pk (int64)",
    ):
        assert part in said


@pytest.mark.parametrize("ids", [["a", "b", "a"], ["a", None, "b"]])
def test_ids_that_tell_nothing_apart_are_refused(tmp_path: Path, ids: list) -> None:
    flat = pa.array(corpus(3)[1].ravel())
    table = pa.table({"id": ids, "vector": pa.FixedSizeListArray.from_arrays(flat, DIMENSIONS)})
    lancedb.connect(tmp_path).create_table("t", table)
    with pytest.raises(InputError, match="the column id is to tell documents apart, and 1 "):
        recognise(str(tmp_path), Asked("t"))


def test_where_there_is_no_such_thing(tmp_path: Path) -> None:
    table, _ = rows(3)
    with pytest.raises(InputError, match=r"found nothing at .*none"):
        recognise(str(tmp_path / "none"), Asked("t"))
    assert not (tmp_path / "none").exists()
    database = lancedb.connect(tmp_path)
    with pytest.raises(InputError, match=r"say which table .*; its tables: none"):
        recognise(str(tmp_path), Asked(""))
    database.create_table("t", table)
    database.create_table("u", table)
    with pytest.raises(InputError, match=r"there is no table 'x' in .*; its tables: t, u"):
        recognise(str(tmp_path), Asked("x"))
    with pytest.raises(InputError, match=r"say which table in .* with table=\.\.\.; its tables: t, u"):
        recognise(str(tmp_path), Asked(""))
    (tmp_path / "deepmemory.json").write_text("{}")
    with pytest.raises(InputError, match="is a Deep Memory store, which needs no attaching"):
        recognise(str(tmp_path), Asked("t"))
