"""The first-time reader's walk, command by command, as text and as JSON."""

import json
import shutil

import numpy as np
import pytest

from deepmemory.data import Document
from deepmemory.formats import Collection, write_beir


def test_a_folder_becomes_a_store_that_can_be_searched(deepmemory, endpoint, handbook):
    ingested = deepmemory("ingest", handbook, "--embedder", "openai:words")
    assert (ingested.code, ingested.err) == (0, "")
    assert "pages: 60 read" in ingested.out
    assert "60 documents. Try: deepmemory search QUESTION\n" in ingested.out
    words = (handbook / "page7.md").read_text().split()[-3:]
    found = deepmemory("search", *words)
    assert "page7.md" in found.out.splitlines()[0]
    assert "term" in found.out


def test_ingesting_again_takes_only_what_changed(deepmemory, handbook, endpoint):
    deepmemory("ingest", handbook, "--embedder", "openai:words")
    asked = len(endpoint.requests)
    again = deepmemory("ingest", handbook, "--json").json
    assert (again[0]["pages_unchanged"], again[0]["chunks_added"], len(endpoint.requests)) == (60, 0, asked)
    (handbook / "page7.md").write_text("# Page 7\n\nterm1\n")
    (handbook / "page8.md").unlink()
    [report] = deepmemory("ingest", handbook, "--json").json
    assert (report["pages_read"], report["pages_removed"], report["chunks_updated"]) == (1, 1, 1)
    assert deepmemory("info", "--json").json["documents"] == 59


def test_several_sources_and_a_store_elsewhere(deepmemory, endpoint, handbook, here):
    extra = here / "extra.txt"
    extra.write_text("term1 term2")
    done = deepmemory("ingest", handbook, extra, "--store", here / "else where", "--embedder", "openai:words")
    assert "The store " + str(here / "else where") + " holds 61 documents." in done.out
    assert f"--store '{here / 'else where'}'" in done.out
    assert not (here / "deepmemory-store").exists()


def test_the_store_may_be_named_by_the_environment(deepmemory, store, here, monkeypatch):
    shutil.move(store, here / "moved")
    monkeypatch.setenv("DEEPMEMORY_STORE", str(here / "moved"))
    assert deepmemory("info", "--json").json["documents"] == 60


def test_a_search_as_json_has_the_question_the_layer_and_whole_hits(deepmemory, store):
    found = deepmemory("search", "term1", "term2", "--k", "3", "--json").json
    assert (found["query"], found["mode"], found["layer"]) == ("term1 term2", "vectors", None)
    assert len(found["hits"]) == 3
    assert set(found["hits"][0]) == {"id", "score", "text", "metadata"}
    scores = [hit["score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True)


def test_a_search_by_words_needs_no_embedding(deepmemory, store, endpoint):
    asked = len(endpoint.requests)
    found = deepmemory("search", "term1", "--mode", "words", "--json").json
    assert found["hits"]
    assert all("term1" in hit["text"].split() for hit in found["hits"])
    assert len(endpoint.requests) == asked


def test_filters_are_anded_by_key_and_ored_by_value(deepmemory, store):
    def paths(*filters: str) -> set[str]:
        arguments = [argument for value in filters for argument in ("--filter", value)]
        hits = deepmemory("search", "term1", "--k", "60", "--json", *arguments).json["hits"]
        return {hit["metadata"]["path"] for hit in hits}

    assert paths("path=page3.md") == {"page3.md"}
    assert paths("path=page3.md", "path=page4.md") == {"page3.md", "page4.md"}
    assert paths("path=page3.md", "title=Page 3") == {"page3.md"}
    assert paths("path=page3.md", "title=Page 4") == set()
    assert paths("start=0", "path=page3.md") == paths("path=page3.md")  # a number is compared as one
    assert paths('start="0"') == set()  # and in quotes it is a text
    assert deepmemory("search", "term1", "--filter", "path=none").out == "Nothing found that passes the filter.\n"


def test_a_hit_shows_its_first_lines_or_all_of_them(deepmemory, endpoint, here):
    (here / "long.md").write_text("# Long\n\n" + "".join(f"- term{number}\n" for number in range(30)))
    deepmemory("ingest", here / "long.md", "--embedder", "openai:words")
    assert "term29" not in deepmemory("search", "term1").out
    assert "term29" in deepmemory("search", "term1", "--full").out


def test_what_a_page_holds_never_steers_the_terminal(deepmemory, endpoint, here):
    (here / "evil.txt").write_text("term1 \x1b[31mred\x1b]0;title\x07 \x9b2J\n")
    deepmemory("ingest", here / "evil.txt", "--embedder", "openai:words")
    for command in (("search", "term1"), ("search", "term1", "--full"), ("documents",)):
        shown = deepmemory(*command).out
        assert "red" in shown
        assert not set(shown) & {"\x1b", "\x07", "\x9b"}


def test_training_tells_what_it_found_and_every_search_uses_it(deepmemory, ask, here):
    train, test = ask("train", 150), ask("test", 60, seed=2)
    before = deepmemory("search", "synonym1", "synonym2", "--json").json
    trained = deepmemory("train", "--queries", train)
    assert (trained.code, trained.err) == (0, "")
    assert "| status                     | completed" in trained.out
    assert "Layer v1 is on." in " ".join(trained.out.split())
    assert "95% interval +" in " ".join(trained.out.split())
    after = deepmemory("search", "synonym1", "synonym2", "--json").json
    assert after["layer"] == "v1"
    assert [hit["id"] for hit in after["hits"]] != [hit["id"] for hit in before["hits"]]
    without = deepmemory("search", "synonym1", "synonym2", "--no-deep-memory", "--json").json
    assert (without["layer"], without["hits"]) == (None, before["hits"])

    report = here / "report.html"
    measured = deepmemory("evaluate", "--queries", test, "--report", report)
    assert "---- Evaluating without Deep Memory ----" in measured.out
    assert "Deep Memory found more" in measured.out
    assert measured.out.endswith(f"Report: {report}\n")
    assert "v1" in report.read_text(encoding="utf-8")

    recall = deepmemory("evaluate", "--queries", test, "--top-k", "1", "--top-k", "10", "--json").json
    assert set(recall["with model"]) == {"recall@1", "recall@10"}
    assert recall["with model"]["recall@10"] > recall["without model"]["recall@10"]
    assert recall["layer"] == "v1"


def test_training_as_json_is_the_job(deepmemory, ask):
    job = deepmemory("train", "--queries", ask("train", 150), "--seed", "3", "--json").json
    assert (job["state"], job["results"]["layer"], job["results"]["seed"]) == ("completed", "v1", 3)
    assert job["recall@10"] > job["baseline_recall@10"]
    assert deepmemory("status", "--json").json == job
    assert deepmemory("jobs", "--json").json == [job]


def test_a_layer_that_helps_nobody_stays_off_and_says_why(deepmemory, ask):
    trained = deepmemory("train", "--queries", ask("train", 4))
    assert trained.code == 0
    assert "The layer stays off: " in trained.out
    assert "Layer v1 is on" not in trained.out
    assert deepmemory("search", "synonym1", "--json").json["layer"] is None
    assert "kept off" in deepmemory("layers").out


def test_jobs_are_found_by_the_beginning_of_their_id(deepmemory, ask):
    assert deepmemory("jobs").out == "No Deep Memory training jobs were found for this dataset\n"
    train = ask("train", 30)
    first, second = (deepmemory("train", "--queries", train, "--json").json["id"] for _ in range(2))
    assert first in deepmemory("status", first[:10]).out
    assert second in deepmemory("status").out
    listed = deepmemory("jobs", "--details").out.splitlines()
    assert listed[0].split()[:2] == ["ID", "STATUS"]
    assert [line.split()[0] for line in listed[1:]] == [first, second]
    cancelled = deepmemory("cancel", second)
    assert (cancelled.code, cancelled.out) == (1, "")
    assert "has ended already (completed)" in cancelled.err


def test_layers_are_listed_and_chosen(deepmemory, ask):
    assert "Nothing was learned yet" in deepmemory("layers").out
    train = ask("train", 150)
    for _ in range(2):
        deepmemory("train", "--queries", train)

    def active(*options: str) -> list[bool]:
        return [layer["active"] for layer in deepmemory("layers", *options, "--json").json]

    assert active() == [False, True]
    assert active("--use", "v1") == [True, False]
    assert active("--rollback") == [False, True]
    assert active("--off") == [False, False]
    assert "No layer is active" in deepmemory("layers").out
    assert deepmemory("search", "synonym1", "--json").json["layer"] is None
    assert "on" in deepmemory("layers", "--use", "v1").out.splitlines()[1].split()


def test_info_and_documents_say_what_is_there(deepmemory, store):
    info = deepmemory("info").out
    assert "documents: 60" in info
    assert "32 dimensions, compared by cosine" in info
    assert deepmemory("info", "--json").json["embedder"] == "openai:words"
    documents = deepmemory("documents", "--limit", "5", "--json").json
    assert len(documents) == 5
    lines = deepmemory("documents", "--limit", "5").out.splitlines()
    assert [line.split()[0] for line in lines] == [document["id"] for document in documents]


@pytest.mark.parametrize("columns", ["20", "40", "200"])
def test_a_terminal_of_any_width_will_do(deepmemory, ask, monkeypatch, columns):
    deepmemory("train", "--queries", ask("train", 150))
    monkeypatch.setenv("COLUMNS", columns)
    for command in (("search", "term1"), ("documents",), ("layers",), ("info",), ("--help",), ("ingest", "--help")):
        outcome = deepmemory(*command)
        assert outcome.code == 0
        assert outcome.out
    widest = max(map(len, deepmemory("search", "term1", "term2", "--full").out.splitlines()[2:3]))
    assert widest <= max(20, min(int(columns), 100))


@pytest.fixture
def collections(here):
    """Two BEIR folders with vectors: queries are documents turned by one rotation, which can be learned."""
    random = np.random.default_rng(0)
    turn = np.linalg.qr(random.normal(size=(DIM, DIM)))[0]
    for name in ("first", "second"):
        vectors = random.normal(size=(120, DIM))
        rows = random.choice(120, 200)
        folder = here / name
        write_beir(
            folder,
            Collection(
                name=name,
                documents=tuple(Document(f"d{row}", f"document {row}") for row in range(120)),
                query_ids=tuple(f"q{number}" for number in range(200)),
                queries=tuple(f"question {number}" for number in range(200)),
                qrels=tuple({f"d{row}": 1.0} for row in rows.tolist()),
                splits={},
                query_vectors=((vectors[rows] + 0.1 * random.normal(size=(200, DIM))) @ turn).astype(np.float32),
                document_vectors=vectors.astype(np.float32),
            ),
        )
    return here / "first", here / "second"


DIM = 16


def test_benchmark_as_json_is_a_list_with_what_was_measured(deepmemory, collections):
    results = deepmemory("benchmark", *collections, "--split", "query", "--seed", "1", "--json").json
    assert [result["name"] for result in results] == ["first", "second"]
    for result in results:
        assert result["n_test"] == 80
        assert result["active"] is True
        assert result["fit_seconds"] > 0
        for side in ("baseline", "trained"):
            assert 0 <= result[side]["ndcg@10"] <= 1
            assert 0 <= result[side]["recall@10"] <= 1
        assert result["lift"] == pytest.approx(result["trained"]["ndcg@10"] - result["baseline"]["ndcg@10"])


def test_benchmark_as_a_table_has_a_line_for_each_group(deepmemory, collections):
    table = deepmemory("benchmark", *collections, "--split", "document").out.splitlines()
    assert table[0].split()[:2] == ["NAME", "DOCUMENTS"]
    assert [line.split()[:2] for line in table[1:3]] == [["first", "all"], ["first", "unseen"]]
    assert table[-1].startswith("Mean lift of nDCG@10: ")


def test_json_has_no_escapes_that_a_terminal_would_need(deepmemory, store):
    raw = deepmemory("search", "term1", "--json").out
    assert json.loads(raw)
    assert "\x1b" not in raw
