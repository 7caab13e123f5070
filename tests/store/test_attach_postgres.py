"""Deep Memory beside what LangChain's and LlamaIndex's own classes wrote to PostgreSQL, and beside other tables."""

import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
import synonyms

import deepmemory
from deepmemory import VectorStore
from deepmemory.backends.attaching import Asked
from deepmemory.backends.pgvector import recognise
from deepmemory.errors import InputError, StorageError

IDS, TEXTS = synonyms.documents()
QUERIES, RELEVANCE = synonyms.questions(TEXTS, IDS)


@pytest.fixture(scope="module")
def written(postgres) -> str:
    """A database with a table by each of the frameworks' classes."""
    for package in ("langchain_postgres", "llama_index.vector_stores.postgres"):
        pytest.importorskip(package, reason="writes with the frameworks' own classes")
    url = postgres.database()
    program = Path(__file__).parent / "postgres_frameworks.py"
    done = subprocess.run([sys.executable, str(program), url], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return url


def everything_in(url: str) -> dict[str, list[tuple[str, ...]]]:
    """All rows with the transactions that wrote them, and the definitions of all columns and indexes."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
        ).fetchall()
        found = {
            table: connection.execute(f"SELECT t::text, xmin::text FROM {table} t ORDER BY 1").fetchall()
            for (table,) in tables
        }
        found["indexes"] = connection.execute("SELECT indexdef FROM pg_indexes ORDER BY 1").fetchall()
        found["columns"] = connection.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = 'public' ORDER BY 1, 2"
        ).fetchall()
    return found


@pytest.mark.parametrize("table", ["my docs", "v2_docs", "docs"])
def test_what_the_frameworks_wrote_is_recognised_and_searched(written, tmp_path, table) -> None:
    before = everything_in(written)
    with deepmemory.attach(written, table=table, path=tmp_path, embedder=synonyms.word_vectors) as store:
        found = store.get(["doc-3", "odoc-3"])
        assert found[0].text == TEXTS[3]
        assert found[1] is None
        assert found[0].metadata["topic"] == TEXTS[3].split()[0]
        assert found[0].metadata["row"] == 3
        assert store.search(TEXTS[7], k=1)[0].text == TEXTS[7]
        assert {hit.metadata["topic"] for hit in store.search(TEXTS[7], filter={"topic": "term3"})} == {"term3"}
        assert [hit.id for hit in store.search(TEXTS[7], filter={"row": [4, 5]})] in (
            ["doc-4", "doc-5"],
            ["doc-5", "doc-4"],
        )
    assert everything_in(written) == before


def test_a_layer_is_learned_beside_langchains_table_and_nothing_in_it_changes(written, tmp_path) -> None:
    before = everything_in(written)
    with deepmemory.attach(written, table="my docs", path=tmp_path, embedder=synonyms.word_vectors) as store:
        job = store.deep_memory.train(queries=QUERIES, relevance=RELEVANCE, wait=True)
        report = store.deep_memory.status(job, verbose=False).results
        assert report["active"]
        assert report["lift"] > 0.3
        result = store.deep_memory.evaluate(RELEVANCE, QUERIES, top_k=[10])
        assert result.trained["recall@10"] > result.baseline["recall@10"]
    with VectorStore(tmp_path, embedder=synonyms.word_vectors, create=False) as store:
        assert store.deep_memory.get_model() == "v1"
        assert store.search(QUERIES[0], k=1)[0].id == RELEVANCE[0][0][0]
    assert everything_in(written) == before


def test_langchains_table_holds_several_collections(written) -> None:
    with pytest.raises(
        InputError, match=r"say with table= which of LangChain's collections is meant.*: my docs, others"
    ):
        recognise(written, Asked("langchain_pg_embedding"))
    with pytest.raises(InputError, match=r"no table 'theirs'.*LangChain's collections there: my docs, others"):
        recognise(written, Asked("theirs"))
    layout = recognise(written, Asked("others"))
    assert (layout.collection, layout.text, list(layout.where)) == (
        "langchain_pg_embedding",
        "document",
        ["collection_id"],
    )


def test_words_are_searched_where_llamaindex_indexed_them(written, tmp_path) -> None:
    with deepmemory.attach(written, table="docs", path=tmp_path, embedder=synonyms.word_vectors) as store:
        topic = TEXTS[0].split()[0]
        assert all(topic in hit.text.split() for hit in store.search(topic, mode="words"))
        assert store.search(topic, mode="words")


@pytest.fixture
def chunks(postgres) -> str:
    """A database with a table of the documents of `synonyms`."""
    url = postgres.database()
    vectors = synonyms.word_vectors(TEXTS).tolist()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE chunks (id text PRIMARY KEY, body text, embedding vector(32))")
        rows = [(id, text, str(vector)) for id, text, vector in zip(IDS, TEXTS, vectors, strict=True)]
        connection.cursor().executemany("INSERT INTO chunks VALUES (%s, %s, %s)", rows)
    return url


def test_a_table_that_changes_while_it_is_trained_on(chunks, tmp_path) -> None:
    stop = threading.Event()

    def change() -> None:
        with psycopg.connect(chunks, autocommit=True) as connection:
            number = 0
            while not stop.is_set():
                number += 1
                connection.execute(
                    "INSERT INTO chunks SELECT 'new' || %s, body, embedding FROM chunks LIMIT 1", [number]
                )
                connection.execute("DELETE FROM chunks WHERE id = %s", [f"new{number - 1}"])

    thread = threading.Thread(target=change)
    thread.start()
    try:
        with deepmemory.attach(chunks, table="chunks", path=tmp_path, embedder=synonyms.word_vectors) as store:
            job = store.deep_memory.train(queries=QUERIES, relevance=RELEVANCE, wait=True)
            assert store.deep_memory.status(job, verbose=False).results["active"]
    finally:
        stop.set()
        thread.join()


def test_labelled_documents_that_are_deleted_when_training_begins(chunks, tmp_path) -> None:
    def embed(texts):
        if any("synonym" in text for text in texts):
            with psycopg.connect(chunks, autocommit=True) as connection:
                connection.execute("DELETE FROM chunks WHERE id = %s", [RELEVANCE[0][0][0]])
        return synonyms.word_vectors(texts)

    with deepmemory.attach(chunks, table="chunks", path=tmp_path, embedder=embed) as store:
        job = store.deep_memory.train(queries=QUERIES, relevance=RELEVANCE)
        assert "of the labelled documents were deleted while training began" in store.deep_memory.wait(job).error
        assert store.deep_memory.models() == []


def test_a_server_that_goes_away_while_a_table_is_trained_on(chunks, postgres, tmp_path) -> None:
    asked = threading.Event()

    def embed(texts):
        if any("synonym" in text for text in texts) and not asked.is_set():
            asked.set()
            postgres.stop()
        return synonyms.word_vectors(texts)

    with deepmemory.attach(chunks, table="chunks", path=tmp_path, embedder=embed) as store:
        try:
            job = store.deep_memory.train(queries=QUERIES, relevance=RELEVANCE)
            error = store.deep_memory.wait(job).error
        finally:
            postgres.restart()
        assert "the connection was lost" in error or "can't" in error
        assert "\n" not in error
        job = store.deep_memory.train(queries=QUERIES, relevance=RELEVANCE, wait=True)
        assert store.deep_memory.status(job, verbose=False).results["active"]


def test_nothing_answers_at_the_address(tmp_path) -> None:
    url = f"postgresql://me:secret@/db?host={tmp_path}"
    with pytest.raises(
        StorageError, match=r"can't look for pgvector in postgresql://me@/db\?host=.*No such file"
    ) as caught:
        deepmemory.attach(url, table="chunks", path=tmp_path / "store")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()
