"""``deepmemory attach``: what it finds is said in plain words, and every other command takes the store then."""

import json

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from deepmemory_world import vector_of, write_handbook


@pytest.fixture
def database(here) -> str:
    """A table with the pages of a handbook, their vectors those of the endpoint's model."""
    pages = sorted(write_handbook(here / "pages").glob("*.md"))
    rows = [{"id": page.stem, "body": page.read_text(), "n": number} for number, page in enumerate(pages)]
    vectors = np.array([vector_of(row["body"]) for row in rows], np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    lancedb.connect(here / "lancedb").create_table("pages", pa.Table.from_pylist(rows).append_column("emb", column))
    return "./lancedb"


def test_what_was_found_is_said_in_plain_words(deepmemory, database, here):
    done = deepmemory("attach", database, "--table", "pages")
    assert (done.code, done.err) == (0, "")
    for line in (
        "documents: 60\n",
        f"in:        pages of {here / 'lancedb'}\n",
        "id:        id\n",
        "text:      body\n",
        "dimensions, compared by cosine\n",
        "metadata:  n\n",
        "words:     no full-text search\n",
        "embedder:  none: vectors are given\n",
        "changes:   none: the documents are only read\n",
        "What is learned goes to ./deepmemory-store. Try: deepmemory documents --limit 5\n",
    ):
        assert line in done.out
    assert f"attached:  pages in {here / 'lancedb'}, which is only read\n" in deepmemory("info").out
    assert "page1" in deepmemory("documents", "--limit", "60").out


def test_the_other_commands_take_what_is_attached(deepmemory, database, endpoint, here):
    found = deepmemory("attach", database, "--embedder", "openai:words", "--store", "store", "--json").json
    assert (found["documents"], found["layout"]["collection"], found["read_only"]) == (60, "pages", True)
    assert (found["store"], found["embedder"], found["without_vector"]) == ("store", "openai:words", 0)
    words = (here / "pages" / "page7.md").read_text().split()[-3:]
    hits = deepmemory("search", *words, "--store", "store", "--json", "--filter", "n=5", "--filter", "n=6").json["hits"]
    assert {hit["metadata"]["n"] for hit in hits} == {5, 6}
    lines = []
    for number in range(40):
        page = (here / "pages" / f"page{number}.md").read_text().split("\n\n")[1].replace("term", "synonym")
        lines.append(json.dumps({"query": f"about {page}", "relevance": [[f"page{number}", 1.0]]}))
    (here / "train.jsonl").write_text("\n".join(lines))
    assert deepmemory("train", "--queries", "train.jsonl", "--store", "store").code == 0
    assert deepmemory("layers", "--store", "store", "--json").json[0]["name"] == "v1"
    assert deepmemory("evaluate", "--queries", "train.jsonl", "--store", "store").code == 0
    refused = deepmemory("ingest", here / "pages", "--store", "store")
    assert refused.code == 1
    assert "is attached to pages in" in refused.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--table", "none"], "there is no table 'none' in"),
        (["--id", "nope", "--vector", "body"], "2 problems in the input"),
        (["--metadata", "n,nope"], "there is no column 'nope'"),
        (["--writable"], "is attached for reading only"),
        (["--distance", "l2"], "distance is 'cosine' or 'dot'"),
        (["--dataset", "acme/handbook"], "--hub-data and --dataset belong together"),
    ],
)
def test_mistakes_are_one_clear_sentence_and_leave_nothing(deepmemory, database, here, arguments, said):
    done = deepmemory("attach", database, *arguments)
    assert done.code == 1
    assert said in done.err
    assert not (here / "deepmemory-store").exists()


def test_the_address_may_come_from_the_environment(deepmemory, database, monkeypatch):
    monkeypatch.setenv("DEEPMEMORY_DATABASE_URL", database)
    assert deepmemory("attach", "--json").json["documents"] == 60
