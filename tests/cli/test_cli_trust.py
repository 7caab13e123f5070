"""``diagnose``, ``search --explain``, and what ``train`` says of the questions."""

import json
from pathlib import Path

import pytest


def words(text: str) -> str:
    """A text without its line breaks, which depend on the screen."""
    return " ".join(text.split())


@pytest.fixture
def questions(deepmemory, store, here):
    """Writes questions that name two topics of a page; those that could mean two pages are left out."""
    pages = [(page["id"], page["text"].split("\n\n")[1].split()) for page in deepmemory("documents", "--json").json]

    def write(name: str, topics: slice, *, contradicted: int = 0) -> Path:
        pairs = [(id, " ".join(sorted(terms[topics]))) for id, terms in pages]
        once = [(id, text) for id, text in pairs if [other for _, other in pairs].count(text) == 1]
        wrong = [(once[row + 1][0], f"{text}  ") for row, (_, text) in enumerate(once[:contradicted])]
        lines = [json.dumps({"query": text, "relevance": [[id, 1.0]]}) for id, text in [*once, *wrong]]
        path = here / f"{name}.jsonl"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


FIRST, LAST = slice(0, 2), slice(1, 3)


def test_good_questions_need_nothing(deepmemory, questions, contents):
    train, test = questions("train", FIRST), questions("test", LAST)
    before = contents("deepmemory-store")
    outcome = deepmemory("diagnose", "--queries", train)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("Diagnosis of ")
    assert "Why it matters:" in outcome.out
    assert contents("deepmemory-store") == before
    found = deepmemory("diagnose", "--queries", train, "--test-queries", test, "--json").json
    assert found["n_documents"] == 60
    assert {finding["kind"] for finding in found["findings"]} >= {"headroom", "coverage", "few_queries"}
    assert "contradictions" not in {finding["kind"] for finding in found["findings"]}


def test_contradictions_and_leaks_are_told_with_their_texts(deepmemory, questions):
    train = questions("train", FIRST, contradicted=30)
    outcome = deepmemory("diagnose", "--queries", train, "--test-queries", train)
    assert outcome.code == 0
    assert "PROBLEM Contradictions" in words(outcome.out)
    assert "PROBLEM Test queries that train" in words(outcome.out)
    assert "query term" in words(outcome.out)
    assert max(map(len, outcome.out.splitlines())) <= 120


def test_a_training_says_what_is_wrong_with_its_questions(deepmemory, questions):
    good = deepmemory("train", "--queries", questions("good", FIRST))
    assert "entirely different documents" not in words(good.out)
    outcome = deepmemory("train", "--queries", questions("train", FIRST, contradicted=30))
    assert (outcome.code, outcome.err) == (0, "")
    said = words(outcome.out)
    assert "- Problem: 60 queries have a double" in said.partition("Found in the questions:")[2]
    assert "To see which they are: deepmemory diagnose --queries FILE" in said
    job = deepmemory("status", "--json").json
    assert "contradictions" in {finding["kind"] for finding in job["results"]["diagnosis"]}


def test_mistakes_get_one_sentence(deepmemory, ask, store):
    train = ask("train", 20)
    outcome = deepmemory("diagnose", "--queries", train, "--test-split", "test")
    assert (outcome.code, outcome.out) == (1, "")
    assert "--test-queries" in outcome.err
    assert deepmemory("diagnose", "--queries", "none.jsonl").code == 1
    for option in (["--mode", "words"], ["--no-deep-memory"]):
        outcome = deepmemory("search", "term1", "--explain", *option)
        assert (outcome.code, outcome.out) == (1, "")
        assert f"{' '.join(option)} leaves it out" in outcome.err


def test_a_search_explains_what_was_learned(deepmemory, ask):
    before = deepmemory("search", "synonym1", "synonym2", "--explain")
    assert (before.code, before.err) == (0, "")
    assert "No layer is active" in before.out
    deepmemory("train", "--queries", ask("train", 150))
    outcome = deepmemory("search", "synonym1", "synonym2", "--explain")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("Layer v1 changed the rank of ")
    assert "= similarity " in outcome.out
    assert "No longer among the first 5:" in outcome.out

    explained = deepmemory("search", "synonym1", "synonym2", "--explain", "--json").json
    plain = deepmemory("search", "synonym1", "synonym2", "--json").json
    assert (explained["layer"], explained["mode"], explained["k"]) == ("v1", "vectors", 5)
    assert [hit["id"] for hit in explained["hits"]] == [hit["id"] for hit in plain["hits"]]
    assert set(plain["hits"][0]) < set(explained["hits"][0])
    for hit in explained["hits"]:
        assert abs(sum(part["value"] for part in hit["parts"]) - hit["score"]) < 1e-9
    narrow = deepmemory("search", "synonym1", "--explain", "--filter", "path=page3.md", "--json").json
    assert [hit["metadata"]["path"] for hit in narrow["hits"]] == ["page3.md"]


def test_an_explanation_shows_whole_documents_on_request(deepmemory, endpoint, here):
    (here / "long.md").write_text("# Long\n\n" + "".join(f"- term{number}\n" for number in range(60)))
    deepmemory("ingest", here / "long.md", "--embedder", "openai:words")
    assert "term59" not in deepmemory("search", "term1", "--explain").out
    assert "term59" in deepmemory("search", "term1", "--explain", "--full").out


def test_what_a_page_holds_never_steers_the_terminal(deepmemory, endpoint, here):
    (here / "evil.txt").write_text("term1 \x1b[31mred\x1b]0;title\x07 \x9b2J\n")
    deepmemory("ingest", here / "evil.txt", "--embedder", "openai:words")
    document = deepmemory("documents", "--json").json[0]["id"]
    (here / "train.jsonl").write_text(json.dumps({"query": "\x1b[31mred", "relevance": [[document, 1.0]]}))
    for command in (["search", "term1", "--explain"], ["diagnose", "--queries", "train.jsonl"]):
        outcome = deepmemory(*command)
        assert outcome.code == 0
        assert not set(outcome.out) & {"\x1b", "\x07", "\x9b"}
