"""Documents in a store: added, found, read, deleted, and refused in one sentence."""

import numpy as np
import pytest
import synonyms

from deepmemory import (
    CapabilityError,
    Document,
    EmbedderError,
    Hit,
    InputError,
    ReadOnlyError,
    VectorStore,
)


def problems(error: pytest.ExceptionInfo[InputError]) -> str:
    return "\n".join(error.value.problems)


def test_what_is_added_is_found_by_its_words_with_its_metadata(filled):
    [new] = filled.add(["term1 term2 rare"], metadatas=[{"page": 7, "tags": ["a"]}])
    hit = filled.search("rare term2 term1", k=3)[0]
    assert isinstance(hit, Hit)
    assert (hit.id, hit.text, hit.metadata) == (new, "term1 term2 rare", {"page": 7, "tags": ["a"]})
    assert hit.score == pytest.approx(1.0, abs=1e-5)
    assert len(filled) == filled.count() == 61


def test_hits_come_best_first_at_most_k(filled):
    hits = filled.search("term1 term2", k=7)
    assert len(hits) == 7
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len(filled.search("term1", k=1000)) == 60


def test_several_queries_are_answered_like_each_alone(filled):
    queries = ["term1 term5", "term9", "nothing of this"]
    assert [[hit.id for hit in hits] for hits in filled.search_many(queries, k=5)] == [
        [hit.id for hit in filled.search(query, k=5)] for query in queries
    ]
    assert filled.search_many([]) == []


def test_a_query_may_come_as_its_vector(filled):
    vector = synonyms.word_vectors(["term3 term4"])
    by_text = [hit.id for hit in filled.search("term3 term4", k=5)]
    assert [hit.id for hit in filled.search(embedding=vector[0], k=5)] == by_text
    assert [hit.id for hit in filled.search("other words", embedding=vector[0].tolist(), k=5)] == by_text
    assert [hit.id for hit in filled.search_many(embeddings=vector, k=5)[0]] == by_text


def test_adding_an_id_again_replaces_the_document(filled):
    filled.add(["quite new"], ids=["doc-3"], metadatas=[{"v": 2}])
    assert len(filled) == 60
    assert filled.get(["doc-3"]) == [Document("doc-3", "quite new", {"v": 2})]
    assert filled.search("quite new", k=1)[0].id == "doc-3"


def test_documents_are_read_by_id_and_one_after_the_other(filled):
    ids, texts = synonyms.documents()
    assert filled.get(["doc-1", "no", "doc-0"]) == [Document("doc-1", texts[1]), None, Document("doc-0", texts[0])]
    assert filled.get([]) == []
    assert sorted(document.id for document in filled.documents()) == sorted(ids)


def test_filters_restrict_search_count_and_deletion(store):
    store.add(["one word", "two word", "three word"], ids=["a", "b", "c"], metadatas=[{"n": 1}, {"n": 2}, {"n": 2}])
    assert {hit.id for hit in store.search("word", filter={"n": 2})} == {"b", "c"}
    assert {hit.id for hit in store.search("word", filter={"id": ["a", "b"], "n": [2, 3]})} == {"b"}
    assert store.count({"n": 2}) == 2
    assert store.delete(filter={"n": 2}, ids=["a", "b"]) == 1
    assert store.delete(filter={"n": 3}) == 0
    assert store.delete(ids=["a", "never there"]) == 1
    assert store.delete(ids=[]) == 0
    assert [document.id for document in store.documents()] == ["c"]
    assert store.delete(delete_all=True) == 1
    assert len(store) == 0
    assert store


@pytest.mark.parametrize("arguments", [{}, {"filter": {}}, {"ids": ["a"], "delete_all": True}, {"ids": "a"}])
def test_an_unclear_deletion_deletes_nothing(filled, arguments):
    with pytest.raises(InputError):
        filled.delete(**arguments)
    assert len(filled) == 60


def test_an_empty_store_finds_nothing(store):
    assert store.search("anything") == []
    assert store.search_many(["a", "b"]) == [[], []]
    assert store.add([]) == []
    assert list(store.documents()) == []


def test_words_are_found_where_the_engine_can(folder):
    with VectorStore(folder, embedder=synonyms.word_vectors) as store:
        store.add(["the word zymurgy is rare"], ids=["rare"])
        assert [hit.id for hit in store.search("zymurgy", mode="words", k=3)] == ["rare"]
        with pytest.raises(CapabilityError, match="mode='words' uses none"):
            store.search("zymurgy", mode="words", deep_memory=True)
        with pytest.raises(InputError, match="uses no vectors"):
            store.search("zymurgy", mode="words", embedding=np.ones(32))


def test_words_where_the_engine_can_not_are_refused(store):
    store.add(["a"])
    with pytest.raises(CapabilityError, match="no full-text search"):
        store.search("a", mode="words")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"texts": "a text"}, "texts must be a list"),
        ({"texts": ["a", "", 3]}, "texts[1]: the text is empty.\ntexts[2]: the text must be text, found 3 (int)."),
        ({"texts": ["a", "b"], "ids": ["x"]}, "2 texts and 1 ids"),
        ({"texts": ["a", "b"], "ids": ["x", "x"]}, "ids[1]: the id 'x' is used already by ids[0]."),
        ({"texts": ["a", "b"], "ids": ["", 7]}, "ids[0]: the id is empty.\nids[1]: the id must be text"),
        ({"texts": ["a"], "metadatas": [{"x": {1, 2}}]}, "metadatas[0]"),
        ({"texts": ["a"], "metadatas": [{"x": float("nan")}]}, "which JSON can't say"),
        ({"texts": ["a", "b"], "embeddings": np.zeros((1, 32))}, "expected 2 vectors, found 1"),
        ({"texts": ["a"], "embeddings": np.ones((1, 31))}, "expected vectors of 32 dimensions, found 31"),
        ({"texts": ["a"], "embeddings": np.full((1, 32), np.nan)}, "embeddings[0]: the vector has NaN in it."),
        ({"texts": ["a"], "embeddings": np.zeros((1, 32))}, "embeddings[0]: the vector is zero"),
        ({"texts": ["a"], "embeddings": "vectors"}, "must be numbers"),
    ],
)
def test_bad_documents_are_all_named_and_change_nothing(filled, arguments, said):
    with pytest.raises(InputError) as error:
        filled.add(**arguments)
    assert said in problems(error)
    assert len(filled) == 60


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"query": ""}, "the query is empty"),
        ({"query": 3}, "the query must be text, found 3 (int)"),
        ({}, "the query must be text, found None"),
        ({"query": "a", "k": 0}, "k is a whole number of 1 or more; found 0"),
        ({"query": "a", "k": 2.5}, "found 2.5"),
        ({"query": "a", "k": True}, "found True"),
        ({"query": "a", "mode": "both"}, "mode is 'vectors' or 'words'; found 'both'"),
        ({"query": "a", "filter": "n = 1"}, "a filter maps metadata keys to values"),
        ({"query": "a", "embedding": [1.0, 2.0]}, "expected vectors of 32 dimensions, found 2"),
        ({"embedding": [float("inf")] * 32}, "infinite"),
    ],
)
def test_a_bad_search_says_what_is_wrong(filled, arguments, said):
    with pytest.raises(InputError) as error:
        filled.search(**arguments)
    assert said in problems(error)


def test_bad_lists_of_queries_and_ids_are_named_by_row(filled):
    with pytest.raises(InputError) as error:
        filled.search_many(["fine", "", None])
    assert (
        problems(error) == "queries[1]: the query is empty.\nqueries[2]: the query must be text, found None (NoneType)."
    )
    with pytest.raises(InputError, match="ids must be a list of texts"):
        filled.get("doc-1")
    with pytest.raises(InputError, match=r"ids\[1\]: the id must be text, found 2"):
        filled.get(["doc-1", 2])


def test_vectors_may_be_given_instead_of_an_embedder(tmp_path):
    vectors = np.eye(3, dtype=np.float32)
    with VectorStore(tmp_path / "given", embedder=None) as store:
        store.add(["a", "b", "c"], ids=["a", "b", "c"], embeddings=vectors)
        with pytest.raises(InputError, match="has no embedder: give the documents' vectors as embeddings"):
            store.add(["d"])
        with pytest.raises(InputError, match="give the query's vector as embedding"):
            store.search("a")
    with VectorStore(tmp_path / "given") as store:
        assert store.search(embedding=vectors[1], k=1)[0].id == "b"
        with pytest.raises(InputError, match="expected vectors of 3 dimensions, found 4"):
            store.add(["d"], embeddings=np.ones((1, 4)))


def test_the_dot_product_counts_lengths(tmp_path):
    with VectorStore(tmp_path / "dot", embedder=None, distance="dot") as store:
        store.add(["short", "long"], ids=["short", "long"], embeddings=[[1.0, 0.0], [3.0, 3.0]])
        assert [hit.id for hit in store.search(embedding=[1.0, 0.0])] == ["long", "short"]
    with VectorStore(tmp_path / "dot") as store:
        assert store.distance == "dot"
        assert store.search(embedding=[1.0, 0.0], k=1)[0].score == pytest.approx(3.0)


def test_progress_counts_the_documents(tmp_path):
    seen: list[tuple[int, int]] = []
    with VectorStore("memory://", embedder=synonyms.word_vectors) as store:
        store.add([f"text {n}" for n in range(700)], progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (700, 700)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {total for _, total in seen} == {700}


def test_what_was_stored_before_the_embedder_failed_is_kept(tmp_path):
    def fails_later(texts):
        if any("text 600" in text for text in texts):
            raise ConnectionError("the endpoint is gone")
        return synonyms.word_vectors(texts)

    with VectorStore(tmp_path / "store", embedder=fails_later) as store:
        with pytest.raises(EmbedderError, match="the endpoint is gone") as error:
            store.add([f"text {n}" for n in range(700)], ids=[str(n) for n in range(700)])
        assert error.value.__notes__ == ["512 of 700 documents were added before that"]
    with VectorStore(tmp_path / "store", embedder=synonyms.word_vectors) as store:
        assert len(store) == 512
        store.add([f"text {n}" for n in range(700)], ids=[str(n) for n in range(700)])
        assert len(store) == 700


def test_a_store_opened_for_reading_refuses_every_change(folder):
    before = sorted(path.name for path in folder.rglob("*"))
    queries, relevance = ["term1"], [[("doc-1", 1.0)]]
    with VectorStore(folder, embedder=synonyms.word_vectors, read_only=True) as store:
        for change in (
            lambda: store.add(["new"]),
            lambda: store.delete(delete_all=True),
            store.optimize,
            lambda: store.deep_memory.train(queries, relevance),
            lambda: store.deep_memory.set_model(None),
            store.deep_memory.rollback,
            lambda: store.deep_memory.cancel("0" * 24),
            lambda: store.deep_memory.delete("0" * 24),
            lambda: store.deep_memory.import_model("file"),
        ):
            with pytest.raises(ReadOnlyError, match="was opened for reading"):
                change()
        assert store.search("term1")
        store.deep_memory.evaluate(relevance, queries, verbose=False)
    assert sorted(path.name for path in folder.rglob("*")) == before


def test_the_summary_says_what_is_there(folder):
    with VectorStore(folder, embedder=synonyms.word_vectors) as store:
        summary = store.summary()
    assert (summary["documents"], summary["dimensions"], summary["distance"]) == (60, 32, "cosine")
    assert (summary["embedder"], summary["layer"], summary["layers"], summary["jobs"]) == ("word_vectors", None, [], 0)
