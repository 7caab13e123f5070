"""A store in PostgreSQL: documents and what is learned of them in two tables, for several processes."""

import psycopg
import pytest
import synonyms

from deepmemory import VectorStore
from deepmemory.errors import NotAStoreError, ReadOnlyError
from deepmemory.jobs import CANCELLED, COMPLETED, FAILED

IDS, TEXTS = synonyms.documents()
QUERIES, RELEVANCE = synonyms.questions(TEXTS, IDS)


@pytest.fixture
def filled(own_url) -> str:
    """The address of a store with the documents of `synonyms`."""
    with VectorStore(own_url, embedder=synonyms.word_vectors) as store:
        store.add(TEXTS, ids=IDS)
    return own_url


def test_a_store_is_made_filled_trained_evaluated_and_opened_again(filled) -> None:
    with VectorStore(filled, embedder=synonyms.word_vectors, create=False) as store:
        assert store.search(TEXTS[7], k=1)[0].text == TEXTS[7]
        assert store.search("term3", mode="words")
        job = store.deep_memory.train(QUERIES, RELEVANCE, wait=True)
        assert store.deep_memory.status(job, verbose=False).results["lift"] > 0.3
        result = store.deep_memory.evaluate(queries=QUERIES, relevance=RELEVANCE)
        assert result.overall.metrics["recall@10"].lift > 0.3
    with VectorStore(filled, embedder=synonyms.word_vectors, read_only=True) as store:
        assert store.deep_memory.get_model() == "v1"
        assert store.search(QUERIES[0], k=1)[0].id == RELEVANCE[0][0][0]
        with pytest.raises(ReadOnlyError):
            store.add(["more"])
    with VectorStore(filled, embedder=synonyms.word_vectors, overwrite=True) as store:
        assert store.deep_memory.models() == []
        assert store.get(IDS[:1]) == [None]


def test_what_is_not_there_is_not_made(own_url) -> None:
    with pytest.raises(NotAStoreError, match="there is no Deep Memory store at postgresql://"):
        VectorStore(own_url, create=False)
    with psycopg.connect(own_url.partition("&")[0]) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE tablename LIKE %s", [own_url.rpartition("=")[2] + "%"]
        ).fetchall()
    assert tables == []


def test_a_layer_that_another_process_trained_is_used_soon(filled, spawn, until) -> None:
    with VectorStore(filled, embedder=synonyms.word_vectors) as store:
        assert store.layer is None
        printed, errors = spawn(synonyms.TRAINER, filled, "fast", "wait").communicate(timeout=200)
        assert errors == ""
        assert store.deep_memory.status(printed.strip(), verbose=False).state == COMPLETED
        until(lambda: store.layer is not None)
        assert store.search(QUERIES[0], k=1)[0].id == RELEVANCE[0][0][0]


def test_a_training_is_cancelled_or_found_failed_from_another_process(filled, spawn) -> None:
    with VectorStore(filled, embedder=synonyms.word_vectors) as store:
        memory = store.deep_memory
        trainer = spawn(synonyms.TRAINER, filled, "slow", "wait")
        assert trainer.stdout.readline() == "embedding\n"
        [job] = memory.list_jobs(verbose=False)
        assert memory.cancel(job.id)
        assert memory.wait(job.id).state == CANCELLED
        trainer.communicate(timeout=200)
        killed = spawn(synonyms.TRAINER, filled, "slow", "wait")
        assert killed.stdout.readline() == "embedding\n"
        killed.kill()
        killed.communicate()
        assert memory.list_jobs(verbose=False)[-1].state == FAILED
        assert memory.models() == []
