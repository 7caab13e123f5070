"""Files in and out: round trips, agreement with other tools, every bad line named, nothing half written."""

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmemory.data import Document, LabelledQueries
from deepmemory.errors import InputError, StorageError
from deepmemory.formats import (
    Collection,
    embedded_text,
    read_beir,
    read_labelled,
    read_llama_index,
    read_trec_qrels,
    read_trec_run,
    write_beir,
    write_labelled,
    write_trec_qrels,
    write_trec_run,
)

REAL_COLLECTIONS = Path(__file__).parents[1] / ".." / "shared" / "data"

# Everything that text may hold, line separators of Unicode included.
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(lambda text: text.strip())
trec_ids = st.text(st.characters(exclude_categories=["Cs", "Z", "C"]), min_size=1, max_size=6)


def problems_of(function, *args, **kwargs) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    return caught.value.problems


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def json_lines(*records: object) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def assert_same(one: Collection, other: Collection) -> None:
    assert one.documents == other.documents
    assert one.query_ids == other.query_ids
    assert one.queries == other.queries
    assert one.qrels == other.qrels
    assert {split: list(rows) for split, rows in one.splits.items()} == {
        split: list(rows) for split, rows in other.splits.items()
    }
    for mine, theirs in ((one.document_vectors, other.document_vectors), (one.query_vectors, other.query_vectors)):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            np.testing.assert_array_equal(mine, theirs)


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """Three documents, three queries of which the last is not judged, one file of judgements."""
    folder = tmp_path / "small"
    write(
        folder / "corpus.jsonl",
        json_lines(
            {"_id": "d1", "title": "Sorting", "text": "Lists are sorted by sort."},
            {"_id": "d2", "title": "", "text": "A line\u2028separator.", "metadata": {"url": "http://x"}},
            {"_id": "d3", "text": ""},
        ),
    )
    write(
        folder / "queries.jsonl",
        json_lines({"_id": "q1", "text": "sort?"}, {"_id": "q2", "text": "split?"}, {"_id": "q3", "text": "other?"}),
    )
    write(folder / "qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t2\nq2\td1\t0\nq2\td3\t-1\n")
    return folder


# --- BEIR in ----------------------------------------------------------------------------------------------------------


def test_a_beir_folder_is_read(beir: Path) -> None:
    collection = read_beir(beir)
    assert collection.name == "small"
    assert collection.documents == (
        Document("d1", "Lists are sorted by sort.", {"title": "Sorting"}),
        Document("d2", "A line\u2028separator.", {"url": "http://x"}),
        Document("d3", "", {}),
    )
    assert collection.query_ids == ("q1", "q2", "q3")
    assert collection.queries == ("sort?", "split?", "other?")
    assert collection.qrels == ({"d1": 1.0}, {"d2": 2.0}, {})  # 0 and -1 say not relevant
    assert collection.splits == {}
    assert collection.document_vectors is None
    assert collection.query_vectors is None


def test_what_training_needs_comes_from_the_labelled_queries(beir: Path) -> None:
    collection = read_beir(beir)
    assert collection.labelled_positions.tolist() == [0, 1]
    assert collection.labelled() == LabelledQueries(("sort?", "split?"), ({"d1": 1.0}, {"d2": 2.0}))
    assert collection.labelled([1]) == LabelledQueries(("split?",), ({"d2": 2.0},))
    assert collection.relevance_by_row([1, 0]) == [[(1, 2.0)], [(0, 1.0)]]


def test_the_embedded_text_has_the_title_where_there_is_one(beir: Path) -> None:
    titled, untitled, _ = read_beir(beir).documents
    assert embedded_text(titled) == "Sorting. Lists are sorted by sort."
    assert embedded_text(untitled) == untitled.text
    assert embedded_text(Document("x", "text", {"title": 7})) == "text"


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels.tsv"])
def test_each_file_may_be_compressed(beir: Path, name: str) -> None:
    plain = read_beir(beir)
    write(beir / f"{name}.gz", gzip.compress((beir / name).read_bytes()))
    (beir / name).unlink()
    assert_same(read_beir(beir), plain)


def test_judgements_by_split(beir: Path) -> None:
    (beir / "qrels.tsv").unlink()
    write(beir / "qrels" / "train.tsv", "query-id\tcorpus-id\tscore\nq2\td2\t1\n")
    write(beir / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\nq3\td3\t1\n")
    collection = read_beir(beir)
    assert {split: rows.tolist() for split, rows in collection.splits.items()} == {"test": [0, 2], "train": [1]}
    assert collection.qrels == ({"d1": 1.0}, {"d2": 1.0}, {"d3": 1.0})


def test_a_file_of_splits(beir: Path) -> None:
    write(beir / "split.tsv", "query-id\tsplit\nq2\ttrain\nq1\ttest\n")
    collection = read_beir(beir)
    assert {split: rows.tolist() for split, rows in collection.splits.items()} == {"train": [1], "test": [0]}


def test_embeddings_become_float32(beir: Path) -> None:
    rng = np.random.default_rng(0)
    documents, queries = rng.normal(size=(3, 4)).astype(np.float16), rng.normal(size=(3, 4)).astype(np.float16)
    np.savez_compressed(beir / "embeddings.npz", documents=documents, queries=queries)
    collection = read_beir(beir)
    assert collection.document_vectors.dtype == collection.query_vectors.dtype == np.float32
    np.testing.assert_array_equal(collection.document_vectors, documents)
    np.testing.assert_array_equal(collection.query_vectors, queries)


def test_every_bad_line_of_every_file_is_named(beir: Path) -> None:
    with (beir / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "d1", "text": "again"}\n{"_id": 7, "text": "x"}\n[1]\n\n{"_id": "d9"\n{"_id": "d8"}\n')
        file.write('{"_id": "d7", "text": "x", "title": 3}\n')
    with (beir / "queries.jsonl").open("a") as file:
        file.write('{"_id": "q8", "text": "  "}\n{"_id": "q9", "text": NaN}\n')
    with (beir / "qrels.tsv").open("a") as file:
        file.write("q1\td1\n\t\t1\nq1\td2\tmuch\nq1\td1\t3\nq1\td2\tnan\n")
    write(beir / "split.tsv", "query-id\tsplit\nq1\tone\ttoo many\nq77\ttrain\n")
    write(beir / "embeddings.npz", b"nothing of the kind")
    problems = problems_of(read_beir, beir)
    expected = [
        ("corpus.jsonl, line 4", "the _id 'd1' is used already"),
        ("corpus.jsonl, line 5", "_id must be text that isn't empty, found 7"),
        ("corpus.jsonl, line 6", "expected a JSON object, found list"),
        ("corpus.jsonl, line 8", "not valid JSON"),
        ("corpus.jsonl, line 9", "text must be text, found None"),
        ("corpus.jsonl, line 10", "title must be text"),
        ("queries.jsonl, line 4", "the query 'q8' is empty"),
        ("queries.jsonl, line 5", "not valid JSON (NaN is not JSON)"),
        ("qrels.tsv, line 6", "found 2 fields"),
        ("qrels.tsv, line 7", "an id is empty"),
        ("qrels.tsv, line 8", "the grade must be a finite number, found 'much'"),
        ("qrels.tsv, line 9", "judged twice with different grades, 1 and 3"),
        ("qrels.tsv, line 10", "the grade must be a finite number, found 'nan'"),
        ("split.tsv, line 2", "expected query-id and split"),
        ("split.tsv, line 3", "there is no query with the id 'q77'"),
        ("embeddings.npz", "is no NumPy archive, or is truncated"),
    ]
    assert len(problems) == len(expected), problems
    for problem, (where, what) in zip(problems, expected, strict=True):
        assert where in problem
        assert what in problem


def test_judgements_of_unknown_ids_are_named(beir: Path) -> None:
    with (beir / "qrels.tsv").open("a") as file:
        file.write("q1\tgone\t1\nnobody\td1\t1\n")
    assert problems_of(read_beir, beir) == (
        f"{beir / 'qrels.tsv'}, line 6: there is no document with the id 'gone'.",
        f"{beir / 'qrels.tsv'}, line 7: there is no query with the id 'nobody'.",
    )


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels.tsv"])
def test_a_missing_file_is_named(beir: Path, name: str) -> None:
    (beir / name).unlink()
    (problem,) = problems_of(read_beir, beir)
    assert "is no BEIR folder" in problem
    assert name in problem


def test_two_kinds_of_judgements_are_refused(beir: Path) -> None:
    write(beir / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    assert "both qrels.tsv and a folder qrels" in problems_of(read_beir, beir)[0]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert problems_of(read_beir, tmp_path / "gone") == (f"There is no folder {tmp_path / 'gone'}.",)


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"documents": np.ones((3, 4))}, "must hold the arrays documents and queries"),
        ({"documents": np.ones((2, 4)), "queries": np.ones((3, 4))}, "documents: expected 3 vectors, found 2"),
        ({"documents": np.ones((3, 4)), "queries": np.ones((3, 5))}, "must have the same dimensions"),
        ({"documents": np.ones((3, 4)), "queries": np.full((3, 4), np.nan)}, "queries[0]: the vector has NaN"),
        ({"documents": np.array([object()]), "queries": np.ones((3, 4))}, "is no NumPy archive"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(beir: Path, arrays: dict[str, np.ndarray], what: str) -> None:
    np.savez(beir / "embeddings.npz", **arrays)
    assert any(what in problem for problem in problems_of(read_beir, beir))


def test_another_numpy_file_is_no_archive(beir: Path) -> None:
    with (beir / "embeddings.npz").open("wb") as file:
        np.save(file, np.ones((3, 4)))
    assert "is no NumPy archive" in problems_of(read_beir, beir)[0]


def test_truncated_files_are_refused(beir: Path) -> None:
    np.savez(beir / "embeddings.npz", documents=np.ones((3, 64)), queries=np.ones((3, 64)))
    archive = (beir / "embeddings.npz").read_bytes()
    corpus = gzip.compress((beir / "corpus.jsonl").read_bytes())
    for cut in (0, 10, len(archive) // 2, len(archive) - 5):
        write(beir / "embeddings.npz", archive[:cut])
        assert "truncated or damaged" in problems_of(read_beir, beir)[0]
    (beir / "corpus.jsonl").unlink()
    for cut in (5, 20, len(corpus) - 4):
        write(beir / "corpus.jsonl.gz", corpus[:cut])
        assert "truncated or damaged gzip file" in problems_of(read_beir, beir)[0]
    write(beir / "corpus.jsonl.gz", corpus[:20] + b"\xff\xff\xff" + corpus[23:])
    assert "truncated or damaged gzip file" in problems_of(read_beir, beir)[0]


# --- BEIR out ---------------------------------------------------------------------------------------------------------


@st.composite
def collections(draw) -> Collection:
    document_ids = draw(st.lists(texts, min_size=1, max_size=4, unique=True))
    query_ids = draw(st.lists(texts, min_size=1, max_size=4, unique=True))
    metadata = st.dictionaries(st.sampled_from(["title", "url"]), texts | st.integers() | st.just(""))
    grades = st.dictionaries(st.sampled_from(document_ids), st.sampled_from([0.25, 1.0, 2.0]))
    qrels = tuple(draw(grades) for _ in query_ids)
    split_names = [draw(st.sampled_from(["train", "test", "dev set/1", None])) for _ in query_ids]
    return Collection(
        name="any",
        documents=tuple(Document(id, draw(texts), draw(metadata)) for id in document_ids),
        query_ids=tuple(query_ids),
        queries=tuple(draw(texts) for _ in query_ids),
        qrels=qrels,
        splits={
            name: np.array([row for row, other in enumerate(split_names) if other == name], dtype=np.int64)
            for name in {*split_names} - {None}
        },
    )


@settings(deadline=None, max_examples=60)
@given(collections(), st.booleans())
def test_a_collection_goes_round(tmp_path_factory: pytest.TempPathFactory, collection, compress: bool) -> None:
    folder = tmp_path_factory.mktemp("beir") / "out"
    write_beir(folder, collection, compress=compress)
    assert_same(read_beir(folder), collection)


def test_vectors_go_round(beir: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    np.savez(beir / "embeddings.npz", documents=rng.normal(size=(3, 4)), queries=rng.normal(size=(3, 4)))
    collection = read_beir(beir)
    write_beir(tmp_path / "out", collection)
    assert_same(read_beir(tmp_path / "out"), collection)


def test_splits_that_cover_the_labelled_queries_become_files_as_in_beir(beir: Path, tmp_path: Path) -> None:
    write(beir / "split.tsv", "query-id\tsplit\nq2\ttrain\nq1\ttest\n")
    write_beir(tmp_path / "out", read_beir(beir))
    assert sorted(path.name for path in (tmp_path / "out" / "qrels").iterdir()) == ["test.tsv", "train.tsv"]
    assert (tmp_path / "out" / "qrels" / "train.tsv").read_text() == "query-id\tcorpus-id\tscore\nq2\td2\t2\n"


def test_the_same_collection_gives_the_same_bytes(beir: Path, tmp_path: Path) -> None:
    collection = read_beir(beir)
    for name in ("one", "two"):
        write_beir(tmp_path / name, collection, compress=True)
    for file in ("corpus.jsonl.gz", "queries.jsonl.gz", "qrels.tsv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_folder_with_something_in_it_is_left_alone(beir: Path) -> None:
    before = {path: path.read_bytes() for path in beir.iterdir()}
    assert "exists already" in problems_of(write_beir, beir, read_beir(beir))[0]
    assert {path: path.read_bytes() for path in beir.iterdir()} == before


def test_an_empty_folder_is_filled(beir: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_beir(tmp_path / "empty", read_beir(beir))
    assert_same(read_beir(tmp_path / "empty"), read_beir(beir))


def test_a_write_that_fails_leaves_nothing_behind(beir: Path, tmp_path: Path) -> None:
    collection = read_beir(beir)
    broken = Collection(
        name="broken",
        documents=collection.documents,
        query_ids=("q\ud800",),  # can't be encoded; the corpus is written before it
        queries=("text",),
        qrels=({"d1": 1.0},),
    )
    (tmp_path / "parent").mkdir()
    assert "half a surrogate pair" in problems_of(write_beir, tmp_path / "parent" / "out", broken, compress=True)[0]
    assert list((tmp_path / "parent").iterdir()) == []


# --- real collections -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL_COLLECTIONS.is_dir(), reason="the shared retrieval collections are not here")
def test_a_real_collection_is_read_whole() -> None:
    collection = read_beir(REAL_COLLECTIONS / "scifact")
    assert (len(collection.documents), len(collection.queries)) == (5183, 1109)
    assert sum(map(len, collection.qrels)) == 1258
    assert {split: len(rows) for split, rows in collection.splits.items()} == {"train": 809, "test": 300}
    assert collection.document_vectors.shape == (5183, 384)
    assert collection.query_vectors.shape == (1109, 384)
    assert len(read_labelled(REAL_COLLECTIONS / "scifact", split="test")) == 300


# --- TREC -------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(trec_ids, st.dictionaries(trec_ids, st.integers(-1, 4), min_size=1, max_size=3), max_size=3))
def test_trec_qrels_go_round(tmp_path_factory: pytest.TempPathFactory, qrels) -> None:
    path = tmp_path_factory.mktemp("trec") / "qrels.txt"
    write_trec_qrels(path, qrels)
    assert read_trec_qrels(path) == qrels


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(
        trec_ids,
        st.dictionaries(trec_ids, st.floats(-1, 1), min_size=1, max_size=4).map(
            lambda hits: sorted(hits.items(), key=lambda hit: -hit[1])
        ),
        max_size=3,
    )
)
def test_trec_runs_go_round(tmp_path_factory: pytest.TempPathFactory, run) -> None:
    path = tmp_path_factory.mktemp("trec") / "run.txt"
    write_trec_run(path, run)
    assert read_trec_run(path) == run


def test_ir_measures_reads_what_is_written(tmp_path: Path) -> None:
    write_trec_qrels(tmp_path / "qrels", {"q1": {"d1": 1.0, "d2": 0.0}, "q2": {"d3": 2.0}})
    write_trec_run(tmp_path / "run", {"q1": [("d2", 0.5), ("d1", 0.25)], "q2": [("d3", 0.125)]}, tag="mine")
    qrels = list(ir_measures.read_trec_qrels(str(tmp_path / "qrels")))
    run = list(ir_measures.read_trec_run(str(tmp_path / "run")))
    assert [(row.query_id, row.doc_id, row.relevance) for row in qrels] == [
        ("q1", "d1", 1),
        ("q1", "d2", 0),
        ("q2", "d3", 2),
    ]
    assert [tuple(row) for row in run] == [("q1", "d2", 0.5), ("q1", "d1", 0.25), ("q2", "d3", 0.125)]
    assert (tmp_path / "run").read_text().splitlines()[0] == "q1 Q0 d2 1 0.5 mine"


def test_a_run_is_ordered_by_score_and_not_by_rank(tmp_path: Path) -> None:
    path = write(tmp_path / "run", "q1\tQ0\td1\t1\t0.1\tx\nq1 Q0 d2 2 0.9 x\n\nq1 Q0 d3 3 0.9 x\n")
    assert read_trec_run(path) == {"q1": [("d2", 0.9), ("d3", 0.9), ("d1", 0.1)]}


def test_every_bad_line_of_a_trec_file_is_named(tmp_path: Path) -> None:
    qrels = write(tmp_path / "qrels", "q1 0 d1 1\nq1 d1 1\nq1 0 d2 x\nq1 0 d1 2\nq1 0 d1 1\n")
    assert problems_of(read_trec_qrels, qrels) == (
        f"{qrels}, line 2: expected 4 fields (query, iteration, document, grade), found 3.",
        f"{qrels}, line 3: the grade must be a finite number, found 'x'.",
        f"{qrels}, line 4: query 'q1' and document 'd1' are judged twice with different grades, 1 and 2.",
    )
    run = write(tmp_path / "run", "q1 Q0 d1 1 0.5\nq1 Q0 d1 1 inf x\nq1 Q0 d1 1 0.5 x\nq1 Q0 d1 2 0.4 x\n")
    assert problems_of(read_trec_run, run) == (
        f"{run}, line 1: expected 6 fields (query, Q0, document, rank, score, tag), found 5.",
        f"{run}, line 2: the score must be a finite number, found 'inf'.",
        f"{run}, line 4: document 'd1' is found twice for query 'q1'.",
    )


def test_what_trec_files_can_not_hold_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = write(tmp_path / "file", "old")
    problems = problems_of(write_trec_qrels, path, {"q 1": {"d1": 1.0}, "q2": {"": 1.0, "d3": 0.5}})
    assert [problem.split(" (")[0] for problem in problems] == [
        "TREC files can't hold the id 'q 1': it is empty or has white space.",
        "TREC files can't hold the id '': it is empty or has white space.",
        "TREC grades are whole numbers, but document 'd3' has 0.5 for query 'q2'; scale them.",
    ]
    run = {"q1": [("d1", 0.1), ("d2", 0.2)], "q2": [("d1", 0.2), ("d1", 0.1)], "q3": [("d\t1", float("nan"))]}
    assert problems_of(write_trec_run, path, run, tag="a b") == (
        "TREC files can't hold the id 'd\\t1': it is empty or has white space.",
        "TREC files can't hold the tag 'a b': it is empty or has white space.",
        "The run of query 'q1' needs finite scores that descend from hit to hit.",
        "The run of query 'q2' has a document twice.",
        "The run of query 'q3' needs finite scores that descend from hit to hit.",
    )
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# --- LlamaIndex -------------------------------------------------------------------------------------------------------

LLAMA_INDEX = {
    "queries": {"a": "sort?", "b": "split?", "c": "unlabelled?"},
    "corpus": {"n1": "Lists are sorted.", "n2": "Text is split."},
    "relevant_docs": {"a": ["n1"], "b": ["n2", "n1", "n2"]},
    "mode": "text",
}


@pytest.mark.parametrize("indent", [None, 4])
def test_a_llama_index_dataset_is_read(tmp_path: Path, indent: int | None) -> None:
    path = write(tmp_path / "pairs.json", json.dumps(LLAMA_INDEX, indent=indent))
    collection = read_llama_index(path)
    assert collection.name == "pairs"
    assert collection.documents == (Document("n1", "Lists are sorted."), Document("n2", "Text is split."))
    assert collection.query_ids == ("a", "b", "c")
    assert collection.qrels == ({"n1": 1.0}, {"n2": 1.0, "n1": 1.0}, {})
    expected = LabelledQueries(("sort?", "split?"), ({"n1": 1.0}, {"n2": 1.0, "n1": 1.0}))
    assert collection.labelled() == read_labelled(path) == expected


def test_every_problem_of_a_llama_index_dataset_is_named(tmp_path: Path) -> None:
    dataset = {
        "queries": {"a": "", "b": "ok?"},
        "corpus": {"n1": 3},
        "relevant_docs": {"a": ["n1", "gone"], "b": "n1", "z": []},
    }
    path = write(tmp_path / "pairs.json", json.dumps(dataset))
    assert problems_of(read_llama_index, path) == (
        f"{path}, query 'a': expected a text, found ''.",
        f"{path}, document 'n1': expected a text, found 3.",
        f"{path}, relevant_docs of query 'a': there is no document with the id 'gone'.",
        f"{path}, relevant_docs of query 'b': expected a list of document ids, found 'n1'.",
        f"{path}, relevant_docs of query 'z': there is no such query.",
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "no LlamaIndex dataset"),
        ('{"queries": {}}', "no LlamaIndex dataset"),
        ('{"queries": [], "corpus": {}, "relevant_docs": {}}', "must be JSON objects by id"),
    ],
)
def test_what_is_no_llama_index_dataset_is_refused(tmp_path: Path, content: str, what: str) -> None:
    assert what in problems_of(read_llama_index, write(tmp_path / "pairs.json", content))[0]


# --- labelled queries, whatever the file ------------------------------------------------------------------------------

EXPECTED = LabelledQueries(("sort, please?", "split?"), ({"d1": 1.0, "d2": 0.5}, {"d2": 1.0}))
RECORDS = [
    {"query": "sort, please?", "relevance": [["d1", 1], ["d2", 0.5]]},
    {"question": "split?", "relevance": [["d2", 1.0]], "source": "logs"},
]


@pytest.mark.parametrize(
    "content",
    [
        json_lines(*RECORDS),
        json_lines(*RECORDS).replace("\n", "\r\n\r\n"),
        json.dumps(RECORDS),
        json.dumps(RECORDS, indent=2),
        "\ufeff" + json_lines(*RECORDS),
        'query,id,grade\n"sort, please?",d1,1\n"sort, please?",d2,0.5\nsplit?,d2,1\n',
        "question;document_id;score\r\nsort, please?;d1;1\r\n\r\nsplit?;d2;1\r\nsort, please?;d2;.5\r\n",
        "corpus-id\tnote\tQuery\tGrade\nd1\t\tsort, please?\t1\nd2\tx\tsort, please?\t0.5\nd2\ty\tsplit?\t1.0\n",
    ],
    ids=["jsonl", "jsonl crlf", "json list", "indented list", "byte order mark", "csv", "semicolons", "tabs"],
)
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_the_form_is_told_by_the_content(tmp_path: Path, content: str, compressed: bool) -> None:
    data = gzip.compress(content.encode()) if compressed else content.encode()
    assert read_labelled(write(tmp_path / "queries.any", data)) == EXPECTED


def test_a_single_record_is_read_also_where_it_spans_lines(tmp_path: Path) -> None:
    for indent in (None, 2):
        path = write(tmp_path / "one.json", json.dumps(RECORDS[0], indent=indent))
        assert read_labelled(path) == EXPECTED.subset([0])


def test_without_grades_every_pair_counts_fully(tmp_path: Path) -> None:
    path = write(tmp_path / "queries.csv", "query,id\nsort?,d1\nsort?,d2\n")
    assert read_labelled(path) == LabelledQueries(("sort?",), ({"d1": 1.0, "d2": 1.0},))


def test_a_beir_folder_gives_its_labelled_queries(beir: Path) -> None:
    assert read_labelled(beir) == LabelledQueries(("sort?", "split?"), ({"d1": 1.0}, {"d2": 2.0}))


def test_a_split_can_be_chosen(beir: Path) -> None:
    write(beir / "split.tsv", "query-id\tsplit\nq1\ttest\nq2\ttrain\nq3\tempty\n")
    assert read_labelled(beir, split="train").queries == ("split?",)
    assert "has no split 'dev'; there are: test, train, empty" in problems_of(read_labelled, beir, split="dev")[0]
    assert "no query with a relevant document" in problems_of(read_labelled, beir, split="empty")[0]
    file = write(beir / "queries.csv", "query,id\nsort?,d1\n")
    assert "is a file and has no splits" in problems_of(read_labelled, file, split="train")[0]


def test_every_bad_line_of_json_lines_is_named(tmp_path: Path) -> None:
    path = write(
        tmp_path / "queries.jsonl",
        json_lines(*RECORDS)
        + '\n{"query": "x"\n["x"]\n{"query": "x"}\n'
        + json_lines(
            {"query": "", "relevance": [["d1", 1]]},
            {"query": "x", "relevance": ["d1"]},
            {"query": "x", "relevance": [["d1", -1], ["d9", 1]]},
            {"query": "x", "relevance": [[3, 1]]},
        ),
    )
    problems = problems_of(read_labelled, path, known_ids=lambda ids: {"d1", "d2"} & set(ids))
    expected = [
        (4, "not valid JSON"),
        (5, 'expected {"query": "...", "relevance": [["document id", 1.0]]}'),
        (6, 'expected {"query": "...", "relevance": [["document id", 1.0]]}'),
        (7, "the query is empty"),
        (8, "a list of ids without grades"),
        (9, "the grade of 'd1' must be 0 or more"),
        (9, "there is no document with the id 'd9'"),
        (10, "a document id must be text, found 3 (int)"),
    ]
    assert len(problems) == len(expected), problems
    for problem, (line, what) in zip(problems, expected, strict=True):
        assert problem.startswith(f"{path}, line {line}: ")
        assert what in problem


def test_made_is_true_or_false(tmp_path: Path) -> None:
    path = write(tmp_path / "queries.jsonl", json_lines({"query": "x", "relevance": [["d1", 1]], "made": "yes"}))
    assert problems_of(read_labelled, path)[0] == f"{path}, line 1: \"made\" must be true or false, found 'yes'."


def test_every_bad_line_of_csv_is_named(tmp_path: Path) -> None:
    content = "query,id,grade\nsort?,d1,1\nsplit?,d1\nsort?,d2,many\n,d1,1\nsort?,d1,2\n"
    path = write(tmp_path / "queries.csv", content)
    assert problems_of(read_labelled, path) == (
        f"{path}, line 3: expected 3 fields as in the header, found 2.",
        f"{path}, line 4: the grade must be a finite number, found 'many'.",
        f"{path}, line 2: the id 'd1' is given twice with different grades, 1 and 2.",
        f"{path}, line 5: the query is empty.",
    )


def test_unknown_ids_of_other_forms_are_named_by_query(beir: Path, tmp_path: Path) -> None:
    assert problems_of(read_labelled, beir, known_ids=lambda ids: {"d1"}) == (
        f"{beir}, query 'q2': there is no document with the id 'd2'.",
    )
    path = write(tmp_path / "pairs.json", json.dumps(LLAMA_INDEX))
    assert problems_of(read_labelled, path, known_ids=lambda ids: {"n2", "n1"} - {"n1"})[0] == (
        f"{path}, query 'a': there is no document with the id 'n1'."
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty; expected JSON Lines with"),
        (b" \n\n", "is empty"),
        (b"[]", "holds no query"),
        (b"query,id\n", "holds no query"),
        (b"[{]", "not valid JSON"),
        (b"q1 0 d1 1\n", "has none of the forms that are understood: expected JSON Lines"),
        (b"just text", "has none of the forms"),
        (b'query,id\n"open,d1\n', "not valid CSV"),
        (b"\x89PNG\r\n\xff\xfe", "is not UTF-8 text"),
        (b"\x1f\x8b\x08\x00\x00", "truncated or damaged gzip file"),
        (b'{"query": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_files_that_are_nothing_of_the_kind_are_refused(tmp_path: Path, content: bytes, what: str) -> None:
    path = write(tmp_path / "queries", content)
    problems = problems_of(read_labelled, path)
    assert len(problems) == 1
    assert problems[0].startswith(str(path))
    assert what in problems[0]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert problems_of(read_labelled, tmp_path / "gone") == (f"There is no file {tmp_path / 'gone'}.",)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    assert "is no BEIR folder" in problems_of(read_labelled, tmp_path)[0]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(texts, st.dictionaries(texts, st.floats(0.001, 10), min_size=1, max_size=3)), min_size=1, max_size=4
    ),
    st.sampled_from(["queries.jsonl", "queries.jsonl.gz"]),
)
def test_labelled_queries_go_round(tmp_path_factory: pytest.TempPathFactory, pairs, name: str) -> None:
    made = tuple(len(query) % 2 == 0 for query, _ in pairs)
    labelled = LabelledQueries(tuple(query for query, _ in pairs), tuple(qrels for _, qrels in pairs), made)
    path = tmp_path_factory.mktemp("labelled") / name
    write_labelled(path, labelled)
    assert read_labelled(path) == labelled


# --- nothing half written ---------------------------------------------------------------------------------------------

_FILL_THE_DISK = """
import resource, signal, sys
from deepmemory.data import LabelledQueries
from deepmemory.errors import StorageError
from deepmemory.formats import write_labelled

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_labelled(sys.argv[1], LabelledQueries(("why?" * 1000,) * 50, ({"d1": 1.0},) * 50))
except StorageError as error:
    print(error)
"""

_WRITE_FOR_EVER = """
import sys
from deepmemory.data import LabelledQueries
from deepmemory.formats import write_labelled

queries = ("why?" * 100,) * 5000
for number in range(10**9):
    write_labelled(sys.argv[1], LabelledQueries(queries, ({f"d{number}": 1.0},) * len(queries)))
    print(number, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on the size of files")
@pytest.mark.parametrize("name", ["queries.jsonl", "queries.jsonl.gz"])
def test_a_full_disk_is_told_and_the_old_file_stays(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "old")
    script = _FILL_THE_DISK
    if name.endswith(".gz"):
        script = script.replace('"why?" * 1000', '__import__("secrets").token_hex(2000)').replace("10_000", "1_000")
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{path} can't be written: ")
    assert done.stderr == ""
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_killed_while_it_writes_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", _WRITE_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(5)][-1]
        os.kill(process.pid, signal.SIGKILL)
    labelled = read_labelled(path)
    assert len(labelled) == 5000
    (written,) = labelled.labelled_ids
    assert int(written[1:]) >= acknowledged


def test_a_folder_that_can_not_be_written_to_is_told(tmp_path: Path) -> None:
    write(tmp_path / "file", "")
    with pytest.raises(StorageError, match="can't be written"):
        write_labelled(tmp_path / "file" / "queries.jsonl", EXPECTED)
