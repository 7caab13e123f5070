"""Diagnosis and explanation of a store on a hub are those of the store that it would be in a folder."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import synonyms
from scripted_hub import OPEN, Scripted, answer

from deepmemory import HubError, InputError, VectorStore
from deepmemory.testing import OpenAIServer

IDS, TEXTS = synonyms.documents()
QUERIES, RELEVANCE = synonyms.questions(TEXTS, IDS)
HELD_OUT, _ = synonyms.questions(TEXTS, IDS, n=5, seed=9)


@pytest.fixture(scope="module")
def twins(module_environment, tmp_path_factory) -> Iterator[tuple[VectorStore, VectorStore]]:
    """The same documents on the hub and in a folder, trained with the same seed."""
    folder = tmp_path_factory.mktemp("twin") / "store"
    with (
        VectorStore("hub://acme/trust", synonyms.word_vectors) as there,
        VectorStore(folder, synonyms.word_vectors) as here,
    ):
        for store in (there, here):
            store.add(TEXTS, [{"even": row % 2 == 0} for row in range(len(IDS))], IDS)
            store.deep_memory.train(QUERIES, RELEVANCE, seed=3, wait=True)
        yield there, here


def test_the_same_diagnosis(twins):
    tests = [QUERIES[0].upper(), *HELD_OUT]
    for options in (
        {},
        {"test_queries": tests},
        {"embeddings": synonyms.word_vectors(QUERIES), "test_queries": tests},
        {
            "embeddings": synonyms.word_vectors(QUERIES),
            "test_queries": tests,
            "test_embeddings": synonyms.word_vectors(tests),
            "seed": 4,
        },
    ):
        there, here = (store.deep_memory.diagnose(QUERIES, RELEVANCE, **options) for store in twins)
        assert there == here
        assert ("leaks" in there) == ("test_queries" in options)
    assert [len(store.deep_memory.history) for store in twins] == [1, 1]  # the training alone


def test_the_same_warnings_stay_with_the_training(twins):
    there, here = (store.deep_memory.model_info("v1").report["diagnosis"] for store in twins)
    assert there == here


def test_what_is_wrong_is_said_before_anything_is_sent(twins):
    with pytest.raises(InputError, match=r"test_queries\[0\]: the query is empty"):
        twins[0].deep_memory.diagnose(QUERIES, RELEVANCE, test_queries=[""])
    with pytest.raises(InputError, match="none"):
        twins[0].deep_memory.diagnose(["a"], [[("none", 1.0)]])


def test_progress_of_a_diagnosis_comes_to_its_end(twins):
    seen: list[tuple[int, int]] = []
    for store in twins:
        store.deep_memory.diagnose(QUERIES, RELEVANCE, progress=lambda *done: seen.append(done))
        assert seen.pop() == (len(QUERIES), len(QUERIES))


@pytest.mark.parametrize("options", [{}, {"k": 3}, {"filter": {"even": True}}])
def test_the_same_explanation(twins, options):
    for query in (*QUERIES[:3], *HELD_OUT):
        there, here = (store.explain(query, **options) for store in twins)
        assert (there.query, there.layer, there.k, there.depth, there.notes) == (query, "v1", here.k, 100, here.notes)
        for ours, theirs in ((there.hits, here.hits), (there.left, here.left)):
            assert [(hit.id, hit.text, hit.metadata, hit.rank, hit.rank_before) for hit in ours] == [
                (hit.id, hit.text, hit.metadata, hit.rank, hit.rank_before) for hit in theirs
            ]
            for one, other in zip(ours, theirs, strict=True):
                assert [part.name for part in one.parts] == [part.name for part in other.parts]
                np.testing.assert_allclose(
                    [part.value for part in one.parts], [part.value for part in other.parts], atol=1e-6
                )
                assert [cause.query for cause in one.causes] == [cause.query for cause in other.causes]
        assert str(there) == str(here)
        vector = synonyms.word_vectors([query])[0]
        assert [hit.id for hit in twins[0].explain(embedding=vector, **options).hits] == [hit.id for hit in there.hits]


def test_a_hub_that_embeds_makes_the_vectors(module_environment):
    with VectorStore("hub://acme/trust-local", "local") as store:
        store.add(["Ice is frozen water.", "Bread is baked in an oven."], ids=["ice", "bread"])
        explanation = store.explain("what does water become when it freezes?", 1)
        assert [hit.id for hit in explanation.hits] == ["ice"]
        assert "No layer is active" in str(explanation)
        diagnosis = store.deep_memory.diagnose(
            ["what does water become when it freezes?", "how is bread made"],
            [[("ice", 1.0)], [("bread", 1.0)]],
            test_queries=["what does the water become when it freezes?", "who was first"],
        )
        assert diagnosis["leaks"].n == 1  # the text differs, and the vector nearly doesn't
        assert diagnosis["few_queries"].severity == "problem"


def test_an_embedder_of_this_machine_makes_the_vectors_of_test_queries_too(path, monkeypatch):
    with OpenAIServer(embed=lambda text: synonyms.word_vectors([text.rstrip("?")])[0].tolist()) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        with VectorStore(path, "openai:words") as store:
            store.add(TEXTS, ids=IDS)
            found = store.deep_memory.diagnose(QUERIES, RELEVANCE, test_queries=[f"{QUERIES[0]}?"])
            assert found["leaks"].n == 1


def test_a_reader_may_diagnose_and_ask_for_explanations(twins, tokens):
    with VectorStore("hub://acme/trust", synonyms.word_vectors, token=tokens["read"], read_only=True) as store:
        assert store.deep_memory.diagnose(QUERIES, RELEVANCE).n_queries == len(QUERIES)
        assert store.explain(QUERIES[0]).layer == "v1"


@pytest.mark.parametrize("reply", [{"findings": 3}, [], {"hits": [{}]}])
def test_a_reply_that_is_none_is_an_error_of_the_hub(reply, monkeypatch):
    with Scripted() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            monkeypatch.setenv("DEEPMEMORY_HUB_URL", server.url)
            server.answers = [OPEN]
            with VectorStore("hub://acme/docs", None) as store:
                server.answers = [answer(reply)]
                with pytest.raises(HubError):
                    store.explain(embedding=[1.0, 0.0])
                server.answers = [answer({"documents": [{"id": "a"}]}), answer(reply)]
                with pytest.raises(HubError):
                    store.deep_memory.diagnose(["q"], [[("a", 1.0)]], embeddings=[[1.0, 0.0]])
        finally:
            server.shutdown()
            thread.join()
