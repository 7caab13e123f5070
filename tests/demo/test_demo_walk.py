"""The demo on real input: pydoc's own pages over HTTP; few modules with the real model, or all of them without."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepmemory import VectorStore
from deepmemory.demo import Demo
from deepmemory.demo.answers import Answers, label
from deepmemory.demo.pages import MODULES, page_of
from deepmemory.demo.questions import load_questions
from deepmemory.demo.server import documentation_server
from deepmemory.errors import InputError
from deepmemory.ingest import CrawlOptions, IngestOptions, ingest

FEW = (
    "fnmatch",
    "glob",
    "heapq",
    "queue",
    "sched",
    "secrets",
    "shelve",
    "shlex",
    "tempfile",
    "textwrap",
)


def lengths(texts):
    return np.array([[len(text), 1.0, text.count(" ")] for text in texts], dtype=np.float32)


@pytest.fixture(scope="module")
def all_pages():
    """Every page that the demo reads, by vectors that cost nothing."""
    with VectorStore("memory://", embedder=lengths) as store, documentation_server() as address:
        crawl = CrawlOptions(max_depth=0, max_pages=len(MODULES), allow_private=True, delay=0.0)
        pages = [address.rstrip("/") + page_of(module) for module in MODULES]
        ingest(pages, store, options=IngestOptions(crawl=crawl, name="pydoc"))
        yield list(store.documents())


def test_nearly_every_answer_is_on_the_pages_of_this_python(all_pages):
    questions = load_questions()
    labels = label(questions, Answers(all_pages))
    names = {name for question in questions for name in question.answers}
    assert len(labels.missing) <= len(names) / 100, labels.missing
    assert labels.unanswered <= len(questions) / 200
    assert len(labels.train) >= 500
    assert len(labels.test) >= 250


def test_what_answers_a_question_names_it(all_pages):
    documents = {document.id: document for document in all_pages}
    ids = Answers(all_pages).find("shutil.disk_usage")
    assert ids
    assert all("disk_usage" in documents[id].text for id in ids)
    assert Answers(all_pages).find("shutil.no_such_thing") == []


def test_a_module_that_it_knows_nothing_about_is_refused(tmp_path):
    with pytest.raises(InputError, match="no questions about nonsense"):
        Demo(tmp_path, modules=["queue", "nonsense"])


def test_the_whole_walk_over_a_few_modules_and_once_more(tmp_path):
    with Demo(tmp_path / "demo", modules=FEW) as walk:
        assert walk.is_new
        read = walk.read()
        labels = walk.label()
        training = walk.train(labels)
        evaluation = walk.evaluate(labels, training)
        examples = walk.compare(evaluation)
        found = walk.store.search("a queue where the smallest item comes out first", k=5)
        files = walk.files
    assert read.pages_read == len(FEW)
    assert read.chunks_added > len(FEW)
    assert len(labels.train) >= 20
    assert len(labels.test) >= 10
    assert training.is_new
    assert evaluation.n == len(labels.test)
    assert 0.2 < evaluation["without model"]["recall@10"] <= 1
    assert any("PriorityQueue" in hit.text or "heap" in hit.text for hit in found)
    assert all(example.question in labels.test.queries for example in examples)
    assert "Deep Memory on Python" in Path(files["report"]).read_text(encoding="utf-8")

    with Demo(tmp_path / "demo", modules=FEW) as again:
        assert not again.is_new
        assert not again.read().changed
        assert not again.train(again.label()).is_new


def test_the_command_tells_the_same_as_json(tmp_path):
    """A folder where the walk can't begin ends the command with one sentence, before anything is read."""
    (tmp_path / "taken").write_text("a file")
    command = [sys.executable, "-m", "deepmemory", "demo", "--dir", str(tmp_path / "taken"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    with pytest.raises(json.JSONDecodeError):
        json.loads(done.stdout)
