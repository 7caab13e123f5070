"""What is written is read back by our own readers, and splits keep what they promise."""

import json
from dataclasses import replace

import pytest
from writer import documents

from deepmemory.data import Document
from deepmemory.errors import InputError
from deepmemory.formats import read_beir, read_labelled, read_llama_index, read_trec_qrels
from deepmemory.synthesis import Generated, Synthesis, read_examples, synthesize, write_queries

QUERIES = (
    Generated("how do spores sleep?", "d0", "question"),
    Generated("Zeile\ttrennt  Räder", "d1", "keywords"),
    Generated("bread fails to rise", "d1", "symptom"),
)
MADE = Synthesis(QUERIES, "openai:m")


def test_json_lines_for_training(tmp_path):
    write_queries(tmp_path / "q.jsonl", MADE)
    labelled = read_labelled(tmp_path / "q.jsonl")
    assert labelled == MADE.labelled
    assert labelled.made == (True, True, True)
    first = json.loads((tmp_path / "q.jsonl").read_text().splitlines()[0])
    assert (first["kind"], first["generator"]) == ("question", "openai:m")


def test_a_beir_folder(tmp_path):
    write_queries(tmp_path / "beir", MADE, "beir", documents=documents())
    read = read_beir(tmp_path / "beir")
    assert [document.id for document in read.documents] == [document.id for document in documents()]
    assert read.labelled() == replace(MADE.labelled, made=())  # only JSON Lines tell made queries from asked ones


def test_trec_topics_and_qrels(tmp_path):
    write_queries(tmp_path / "trec", MADE, "trec")
    assert read_trec_qrels(tmp_path / "trec" / "qrels.txt") == {"q0": {"d0": 1.0}, "q1": {"d1": 1.0}, "q2": {"d1": 1.0}}
    topics = (tmp_path / "trec" / "topics.tsv").read_text(encoding="utf-8").splitlines()
    assert topics[1] == "q1\tZeile trennt Räder"


def test_a_llama_index_dataset(tmp_path):
    write_queries(tmp_path / "d.json", MADE, "llamaindex", documents=documents())
    assert read_llama_index(tmp_path / "d.json").labelled() == replace(MADE.labelled, made=())
    record = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))
    assert set(record) == {"queries", "corpus", "relevant_docs", "mode"}, (
        "as EmbeddingQAFinetuneDataset.save_json has it"
    )


def test_what_can_not_be_written_is_refused_and_nothing_is_left(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for path, form, sentence in (
        ("x", "xml", "the format is one of jsonl, beir, trec, llamaindex"),
        ("full", "beir", "exists already"),
        ("full", "jsonl", "is a folder"),
        ("no/where", "jsonl", "there is no folder"),
        ("x", "beir", "holds the documents, too: 'd0' is not among them"),
    ):
        with pytest.raises(InputError, match=sentence):
            write_queries(tmp_path / path, MADE, form)
    spaced = Synthesis((Generated("a query", "id with spaces", "claim"),), "m")
    with pytest.raises(InputError, match="TREC files can't hold the id"):
        write_queries(tmp_path / "trec", spaced, "trec")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_split_keeps_the_queries_of_a_document_together_or_not():
    made = synthesize([Document(f"d{n}", f"Topic{n} needs thing{n}. Part{n} breaks often{n}.") for n in range(20)])
    train, test = made.split(0.5, by="document", seed=1)
    assert not set(train.labelled_ids) & set(test.labelled_ids)
    assert len(train) + len(test) == len(made.queries)
    train, test = made.split(0.5, by="query", seed=1)
    assert set(train.labelled_ids) & set(test.labelled_ids)
    assert made.split(seed=2) == made.split(seed=2)


def test_examples_from_whatever_file_they_are_in(tmp_path):
    (tmp_path / "log.txt").write_text('how 2 reset\n\n"locked out" what now\nhow 2 reset\n', encoding="utf-8")
    assert read_examples(tmp_path / "log.txt") == ["how 2 reset", '"locked out" what now']
    write_queries(tmp_path / "q.jsonl", MADE)
    assert read_examples(tmp_path / "q.jsonl") == MADE.questions
    (tmp_path / "q.csv").write_text("query,id\nfirst,d1\nsecond,d2\n")
    assert read_examples(tmp_path / "q.csv") == ["first", "second"]
    (tmp_path / "bad.jsonl").write_text('{"query": 7}\n{"query"\n')
    with pytest.raises(InputError, match="2 problems"):
        read_examples(tmp_path / "bad.jsonl")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(InputError, match="holds no query"):
        read_examples(tmp_path / "empty.txt")
