"""Each filter on cases made for it, with its count."""

import numpy as np
import pytest
from writer import documents

from deepmemory.errors import InputError
from deepmemory.store import VectorStore
from deepmemory.synthesis import STAGES, FilterOptions, Generated, QueryFilter, synthesize
from deepmemory.testing.openai_server import word_vector

TEXTS = {document.id: document.text for document in documents()}
FERNS = "d0"


def asked(*queries: str, source: str = FERNS) -> list[Generated]:
    return [Generated(query, source, "question") for query in queries]


def dropped(filter: QueryFilter) -> dict[str, int]:
    return {stage: count for stage, count in filter.counts.items() if stage in STAGES and count}


def embed(texts):
    return np.stack([word_vector(text) for text in texts])


@pytest.fixture
def store():
    with VectorStore("memory://", embedder=embed) as made:
        made.add(list(TEXTS.values()), ids=list(TEXTS))
        yield made


@pytest.mark.parametrize(
    ("stage", "query"),
    [
        ("too_short", ""),
        ("too_short", "fern"),
        ("too_short", "?!?!?!?!?!?!"),
        ("too_long", "fern " * 100),
        ("about_the_text", "what does this document say about ferns"),
        ("about_the_text", "According to the passage, what do ferns need?"),
        ("verbatim", "please: It takes ferns spores fronds shade moisture"),
    ],
)
def test_by_the_text_alone(stage, query):
    filter = QueryFilter(TEXTS, options=FilterOptions(verbatim_words=6))
    assert filter.keep(asked(query, "where do green plants get moisture")) == asked(
        "where do green plants get moisture"
    )
    assert dropped(filter) == {stage: 1}
    assert filter.counts["made"] == 2
    assert filter.counts["kept"] == 1


def test_a_short_question_in_chinese_is_long_enough():
    assert len(QueryFilter(TEXTS).keep(asked("\u5982\u4f55\u5220\u9664\u6570\u636e\u96c6"))) == 1


def test_words_of_the_document_in_another_order_are_no_copy():
    filter = QueryFilter(TEXTS, options=FilterOptions(verbatim_words=6))
    assert len(filter.keep(asked("moisture shade fronds spores ferns takes it"))) == 1


def test_the_same_question_in_another_spelling_is_a_duplicate_also_of_what_users_asked():
    filter = QueryFilter(TEXTS, asked=["How do ferns drink?"])
    kept = filter.keep(asked("how do FERNS drink", "Do ferns drink?", "do  ferns drink"))
    assert [one.query for one in kept] == ["Do ferns drink?"]
    assert filter.keep(asked("do ferns drink!", source="d1")) == []
    assert dropped(filter) == {"duplicate": 3}


def test_a_query_that_does_not_find_its_document_is_dropped(store):
    options = FilterOptions(round_trip=1, generic_limit=None, near_duplicate=None)
    filter = QueryFilter(TEXTS, search=store, options=options)
    kept = filter.keep(asked("spores and fronds of ferns", "kiln and glaze for pottery"))
    assert [one.query for one in kept] == ["spores and fronds of ferns"]
    assert dropped(filter) == {"not_found": 1}


def test_a_query_that_many_documents_answer_as_well_is_dropped():
    scores = {f"d{place}": 0.8 - 0.001 * place for place in range(12)}

    def search(queries, k):
        specific = [("d0", 0.8), *[(id, 0.5) for id in scores if id != "d0"]]
        return [list(scores.items())[:k] if "all" in query else specific[:k] for query in queries]

    filter = QueryFilter(TEXTS, search=search, options=FilterOptions(generic_limit=5))
    kept = filter.keep(asked("all about it, generally", "how spores sleep in shade"))
    assert [one.query for one in kept] == ["how spores sleep in shade"]
    assert dropped(filter) == {"generic": 1}


def test_nearly_the_same_is_told_by_the_stores_embedder(store):
    options = FilterOptions(round_trip=None, generic_limit=None, near_duplicate=0.9)
    filter = QueryFilter(TEXTS, search=store, options=options)
    same = "water for the ferns in deep green shade of a forest"
    kept = filter.keep(asked(same, f"{same} please", "how long does a queen bee live"))
    assert [one.query for one in kept] == [same, "how long does a queen bee live"]
    assert dropped(filter) == {"near_duplicate": 1}


def test_any_search_will_do_with_or_without_scores():
    class Hit:
        id = "d0"

    for hits in (["d0"], [("d0", 0.5)], [Hit()]):
        filter = QueryFilter(TEXTS, search=lambda queries, k, hits=hits: [hits] * len(queries))
        assert len(filter.keep(asked("how spores sleep", "what fronds drink"))) == 2
        assert len(filter.keep(asked("knead the dough well", source="d1"))) == 0


def test_a_search_that_makes_no_sense_is_refused():
    for search, sentence in (
        (lambda queries, k: [], "answered 1 queries with 0 lists"),
        (lambda queries, k: [[7]], "must find ids"),
        ("store", "search must be a store, or a function"),
    ):
        with pytest.raises(InputError, match=sentence):
            QueryFilter(TEXTS, search=search).keep(asked("how spores sleep"))
    with pytest.raises(InputError, match="round_trip must be 1 or more"):
        QueryFilter(TEXTS, options=FilterOptions(round_trip=0, near_duplicate=2.0))


def test_a_store_that_can_not_search_texts_is_refused_before_a_model_is_paid(server, model):
    with VectorStore("memory://", embedder=None) as store:
        store.add(list(TEXTS.values()), ids=list(TEXTS), embeddings=embed(list(TEXTS.values())))
        with pytest.raises(InputError, match="has no embedder"):
            synthesize(store, model())
        assert server.requests == []
        without = FilterOptions(round_trip=None, generic_limit=None)
        assert synthesize(store, model(), filters=without).documents == {"used": 12}
        assert synthesize(store).queries, "extracts need no search"


def test_a_layer_that_is_on_has_no_part_in_the_round_trip(store, monkeypatch):
    seen = []
    real = store.search_many
    monkeypatch.setattr(store, "search_many", lambda *a, **options: seen.append(options) or real(*a, **options))
    QueryFilter(TEXTS, search=store).keep(asked("spores and fronds of ferns"))
    assert [options["deep_memory"] for options in seen] == [False]


def test_every_query_that_came_in_is_kept_or_counted(store):
    for options in (None, FilterOptions(round_trip=2, generic_limit=2, near_duplicate=0.7, verbatim_words=6)):
        made = synthesize(store, per_document=6, filters=options)
        counts = dict(made.counts)
        assert counts.pop("made") == sum(counts.values())
        assert counts["kept"] == len(made.queries) > 0
