"""A store says what is wrong with its training queries, and what Deep Memory changed in a search."""

import json

import numpy as np
import pytest
import synonyms

from deepmemory import InputError, VectorStore

IDS, TEXTS = synonyms.documents()
QUERIES, RELEVANCE = synonyms.questions(TEXTS, IDS, n=120)
HELD_OUT, _ = synonyms.questions(TEXTS, IDS, n=20, seed=5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained store in a folder, which no test changes."""
    with VectorStore(tmp_path_factory.mktemp("trained") / "store", embedder=synonyms.word_vectors) as store:
        store.add(TEXTS, ids=IDS, metadatas=[{"even": row % 2 == 0} for row in range(len(IDS))])
        store.deep_memory.train(QUERIES, RELEVANCE, seed=3, wait=True)
        assert store.deep_memory.get_model() == "v1"
        yield store


def test_what_the_diagnosis_warns_of_stays_with_the_training_report(tmp_path):
    with VectorStore(tmp_path / "store", embedder=synonyms.word_vectors) as store:
        store.add(TEXTS, ids=IDS)
        wrong = [[(IDS[(IDS.index(pairs[0][0]) + 7) % 60], 1.0)] for pairs in RELEVANCE[:20]]
        queries, relevance = [*QUERIES, *(f"{query}  " for query in QUERIES[:20])], [*RELEVANCE, *wrong]
        job_id = store.deep_memory.train(queries, relevance, wait=True)
        results = store.deep_memory.status(job_id, verbose=False).results
        found = {finding["kind"]: finding for finding in results["diagnosis"]}
        assert found["contradictions"]["n"] == 40
        assert found["contradictions"]["severity"] == "problem"
        assert store.deep_memory.model_info(results["layer"]).report["diagnosis"] == results["diagnosis"]
        assert not any(query in json.dumps(results["diagnosis"]) for query in QUERIES)


def test_a_diagnosis_by_texts_and_by_vectors_is_the_same(trained):
    memory = trained.deep_memory
    by_text = memory.diagnose(queries=QUERIES, relevance=RELEVANCE, test_queries=[QUERIES[0].upper(), *HELD_OUT])
    given = memory.diagnose(
        QUERIES,
        RELEVANCE,
        embeddings=synonyms.word_vectors(QUERIES),
        test_queries=[QUERIES[0].upper(), *HELD_OUT],
        test_embeddings=synonyms.word_vectors([QUERIES[0].upper(), *HELD_OUT]),
    )
    assert by_text == given
    assert by_text["leaks"].n == 1
    assert QUERIES[0] in str(by_text)
    again = memory.diagnose(QUERIES, RELEVANCE, embedding_function=synonyms.word_vectors)
    assert "leaks" not in again
    assert again.n_queries == 120


def test_a_diagnosis_leaves_no_trace(tmp_path):
    with VectorStore(tmp_path / "store", embedder=synonyms.word_vectors) as store:
        store.add(TEXTS, ids=IDS)
        store.deep_memory.diagnose(QUERIES, RELEVANCE)
        assert store.deep_memory.history == []
        assert store.deep_memory.list_jobs(verbose=False) == []
    with VectorStore(tmp_path / "store", embedder=synonyms.word_vectors, read_only=True) as store:
        assert store.deep_memory.diagnose(QUERIES, RELEVANCE).n_documents == 60


def test_a_diagnosis_refuses_what_is_wrong_and_names_all_of_it(trained):
    memory = trained.deep_memory
    with pytest.raises(InputError) as refused:
        memory.diagnose([" ", "b"], [[("doc-1", 1.0)], [("none", 1.0)]])
    assert len(refused.value.problems) == 2
    with pytest.raises(InputError, match=r"test_queries\[1\]: the query is empty"):
        memory.diagnose(QUERIES, RELEVANCE, test_queries=["a", ""])
    with pytest.raises(InputError, match="test_queries must be a list of texts"):
        memory.diagnose(QUERIES, RELEVANCE, test_queries="a")
    with pytest.raises(InputError, match="expected 1 vectors, found 2"):
        memory.diagnose(QUERIES, RELEVANCE, test_queries=["a"], test_embeddings=np.eye(32)[:2])
    with pytest.raises(InputError, match="expected 0 vectors, found 2"):
        memory.diagnose(QUERIES, RELEVANCE, test_embeddings=np.eye(32)[:2])


def test_after_a_training_it_tells_whether_the_layer_is_out_of_date(tmp_path):
    with VectorStore(tmp_path / "store", embedder=synonyms.word_vectors) as store:
        store.add(TEXTS, ids=IDS)
        store.deep_memory.train(QUERIES, RELEVANCE, wait=True)
        assert "stale_layer" not in store.deep_memory.diagnose(QUERIES, RELEVANCE)
        wanted = list(dict.fromkeys(pairs[0][0] for pairs in RELEVANCE))
        store.delete(wanted[:10])
        kept = [row for row, pairs in enumerate(RELEVANCE) if pairs[0][0] not in wanted[:10]]
        finding = store.deep_memory.diagnose([QUERIES[row] for row in kept], [RELEVANCE[row] for row in kept])
        assert finding["stale_layer"].n == 10
        assert finding["stale_layer"].severity == "warning"


@pytest.mark.parametrize("options", [{}, {"filter": {"even": True}}])
def test_an_explanation_is_of_what_the_search_finds(trained, options):
    for query in HELD_OUT[:5]:
        explanation = trained.explain(query, 5, **options)
        hits = trained.search(query, 5, **options)
        assert [(hit.id, hit.text, hit.metadata) for hit in explanation.hits] == [
            (hit.id, hit.text, hit.metadata) for hit in hits
        ]
        np.testing.assert_allclose([hit.score for hit in explanation.hits], [hit.score for hit in hits], atol=1e-5)
        before = [hit.id for hit in trained.search(query, 5, deep_memory=False, **options)]
        assert [hit.id for hit in explanation.left] == [id for id in before if id not in {hit.id for hit in hits}]
        assert (explanation.query, explanation.layer, explanation.k) == (query, "v1", 5)
        vector = synonyms.word_vectors([query])[0]
        given = trained.explain(query, 5, embedding=vector, **options)
        assert [(hit.id, hit.rank_before) for hit in given.hits] == [
            (hit.id, hit.rank_before) for hit in explanation.hits
        ]
        assert trained.explain(k=5, embedding=vector, **options).hits == given.hits


def test_the_training_queries_behind_a_hit_are_told_by_their_texts(trained):
    causes = [cause for query in QUERIES[:20] for hit in trained.explain(query).hits for cause in hit.causes]
    assert causes
    assert {cause.query for cause in causes} <= set(QUERIES)
    own = [hit.causes[0] for query in QUERIES[:20] for hit in trained.explain(query).hits[:1] if hit.causes]
    # Asked again, a training query is nearest to itself.
    assert any(cause.cosine == pytest.approx(1, abs=1e-4) for cause in own)
    for number, query in enumerate(QUERIES[:20]):
        for hit in trained.explain(query).hits:
            assert all((cause.number == number) == (cause.query == query) for cause in hit.causes)


def test_queries_that_were_given_twice_are_told_by_the_right_text(tmp_path):
    with VectorStore(tmp_path / "store", embedder=synonyms.word_vectors) as store:
        store.add(TEXTS, ids=IDS)
        # Training takes each text once, so places move.
        store.deep_memory.train([*QUERIES[:30], *QUERIES], [*RELEVANCE[:30], *RELEVANCE], wait=True)
        layer = store.layer
        assert layer is not None
        assert layer.memory is not None
        for query in QUERIES[60:70]:
            for hit in store.explain(query).hits:
                for cause in hit.causes:
                    at = QUERIES.index(cause.query)
                    assert RELEVANCE[at][0][0] == hit.id
                    assert cause.number == at


def test_a_layer_that_was_imported_tells_no_texts(trained, tmp_path):
    trained.deep_memory.export_model("v1", tmp_path / "layer")
    with VectorStore(tmp_path / "other", embedder=synonyms.word_vectors) as other:
        other.add(TEXTS, ids=IDS)
        assert "No layer is active" in str(other.explain(QUERIES[0]))
        other.deep_memory.set_model(other.deep_memory.import_model(tmp_path / "layer"))
        explanation = other.explain(QUERIES[0])
        assert explanation.hits[0].causes
        assert all(cause.query is None for hit in explanation.hits for cause in hit.causes)
        assert "not kept with this store" in str(explanation)


def test_training_queries_that_were_deleted_are_told_by_number(tmp_path):
    folder = tmp_path / "store"
    with VectorStore(folder, embedder=synonyms.word_vectors) as store:
        store.add(TEXTS, ids=IDS)
        store.deep_memory.train(QUERIES, RELEVANCE, wait=True)
        for file in (folder / "history").glob("*.json"):
            file.unlink()
        explanation = store.explain(QUERIES[0])
        assert explanation.hits[0].causes[0].query is None
        assert "they were deleted" in str(explanation)


def test_an_explanation_refuses_what_is_wrong(trained):
    for arguments, message in (
        ({"query": ""}, "the query is empty"),
        ({}, "the query must be text"),
        ({"query": "a", "k": 0}, "k is a whole number"),
        ({"embedding": np.ones((2, 32))}, "expected 1 vectors, found 2"),
        ({"embedding": np.ones(5)}, "32 dimensions"),
    ):
        with pytest.raises(InputError, match=message):
            trained.explain(**arguments)
    with VectorStore("memory://", embedder=None) as store, pytest.raises(InputError, match="has no embedder"):
        store.explain("a question")
