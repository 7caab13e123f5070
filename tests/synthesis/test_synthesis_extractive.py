"""Queries without a model: what they say, that they are the same every time, and that they come from real text."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmemory.data import Document, normalised
from deepmemory.store import VectorStore
from deepmemory.synthesis import KINDS, ExtractiveGenerator, FilterOptions, generate_queries, synthesize
from deepmemory.testing.openai_server import word_vector

DOCS = Path(__file__).parents[2] / "docs"

PAGE = """# Storage

## Deleting buckets

- `storage.drop_bucket`: Removes a bucket and everything that it holds.
- `storage.list_buckets`: Lists the buckets of an account.

A tombstone is a marker that stays behind where something was deleted.

The call fails with BucketNotEmptyError while objects are locked by a retention rule.

```python
client.drop_bucket("photos", force_unlock=True)
```
"""
OTHERS = ["# Bread\n\nFlour and water.", "# Sails\n\nThe jib and the mainsail.", "# Account\n\nThe account has a name."]


def made_of(text: str, n: int = 12, kinds=KINDS, **options) -> dict[str, list[str]]:
    generator = ExtractiveGenerator([text, *OTHERS], **options)
    found = generator.queries(Document("page", text), n, kinds)
    return {kind: [one.query for one in found if one.kind == kind] for kind in kinds}


def test_what_a_page_of_documentation_offers():
    made = made_of(PAGE, 30)
    assert "how do I remove a bucket and everything that it holds?" in made["question"]
    assert "what is needed for deleting buckets in Storage?" in made["question"]
    assert any("marker stays behind" in query for query in made["question"]), "a definition, asked from its meaning"
    assert any("BucketNotEmptyError" in query and "retention" in query for query in made["symptom"])
    assert any("drop_bucket drop bucket" in query for query in made["keywords"]), "a code name, as people say it"
    assert any("tombstone" in query for query in made["claim"])


def test_words_that_every_document_has_do_not_make_a_query():
    common = [f"Getting started guide. Topic{number} stands here alone." for number in range(30)]
    generator = ExtractiveGenerator(common)
    queries = generator.queries(Document("one", common[7]), 4, ["keywords"])
    assert queries
    assert all("Topic7" in one.query for one in queries)


def test_only_the_kinds_that_were_asked_for():
    for kind in KINDS:
        assert set(made_of(PAGE, 8, (kind,))) == {kind}
        assert made_of(PAGE, 8, (kind,))[kind]


def test_the_language_of_a_document_is_kept():
    german = (
        "# Lagerung\n\nDer Käse reift im Gewölbe. Ein Laib wird täglich gewendet.\n\n"
        "Die Rinde entsteht durch Salzlake und Bürsten."
    )
    queries = [query for kind in made_of(german).values() for query in kind]
    assert queries
    assert not [query for query in queries if query.startswith(("how", "what"))], "no English around German words"


def test_a_title_in_the_metadata_is_known_to_the_questions():
    text = "## Quick start\n\nRun the installer and wait for the green light to appear."
    queries = ExtractiveGenerator([text, *OTHERS]).queries(Document("a", text, {"title": "Kettle"}), 10)
    assert any("Kettle" in one.query for one in queries)


def test_the_seed_decides_and_nothing_else():
    documents = [Document(f"p{number}", f"{PAGE}\n\nChapter number {number} of storage.") for number in range(5)]
    first = synthesize(documents, seed=3)
    assert first == synthesize(iter(documents), "extractive", seed=3)
    assert first.queries != synthesize(documents, seed=4).queries
    some = synthesize(documents, n=3, seed=3)
    assert len(some.queries) == 3
    assert some == synthesize(documents, n=3, seed=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=300), min_size=1, max_size=5), st.integers(1, 9), st.integers(0, 3))
def test_any_text_gives_sound_queries_or_none(texts, n, seed):
    documents = [Document(f"d{place}", text) for place, text in enumerate(texts)]
    generator = ExtractiveGenerator(texts, seed=seed)
    for document in documents:
        queries = generator.queries(document, n)
        assert len(queries) <= n
        assert all(one.source_id == document.id and one.query.strip() and one.kind in KINDS for one in queries)
        assert len({normalised(one.query) for one in queries}) == len(queries)


def test_never_a_query_without_relevance():
    ids = [f"p{number}" for number in range(3)]
    questions, relevances = generate_queries([PAGE, *OTHERS[:2]], ids, 50)
    assert 0 < len(questions) == len(relevances) <= 50
    assert all(len(pairs) == 1 and pairs[0][0] in ids and pairs[0][1] == 1.0 for pairs in relevances)


def test_a_shortage_is_said():
    made = synthesize([Document("a", PAGE)], n=500)
    assert len(made.problems) == 1
    assert made.problems[0].startswith(f"only {len(made.queries)} of the 500 wanted queries are left")


def test_on_real_pages_nearly_every_section_has_queries_and_most_find_it():
    sections = [
        Document(f"{page.stem}-{place}", section)
        for page in sorted(DOCS.glob("*.md"))
        for place, section in enumerate(re.split(r"\n(?=## )", page.read_text(encoding="utf-8")))
    ]
    with VectorStore("memory://", embedder=lambda texts: np.stack([word_vector(text, 256) for text in texts])) as store:
        store.add([section.text for section in sections], ids=[section.id for section in sections])
        every = synthesize(store)
        found = synthesize(store, filters=FilterOptions(round_trip=5, generic_limit=None))
    assert every.documents["used"] >= 0.95 * len(sections)
    assert found.counts["kept"] >= 0.6 * every.counts["kept"]


@pytest.mark.parametrize("text", ["", "   ", "12 34 56", "a b c", "---\n===\n```", "?" * 5000, "x" * 100_000])
def test_nothing_to_say(text):
    assert ExtractiveGenerator([text, PAGE]).queries(Document("n", text), 3) == []


def test_long_and_hostile_texts_are_quick():
    for text in ("(" * 50_000, "a_" * 50_000, "is " * 50_000, "[](" * 30_000, "# " * 30_000, "`x` : " * 20_000):
        ExtractiveGenerator([text]).queries(Document("h", text), 3)
