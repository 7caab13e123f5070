"""Tables of our own in PostgreSQL: what goes wrong under them, several processes at once, the graph, half precision."""

import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psycopg
import pytest

from deepmemory import VectorStore
from deepmemory.backends import open_backend
from deepmemory.backends.exact import ExactBackend
from deepmemory.backends.pgvector import PgvectorBackend
from deepmemory.data import Document
from deepmemory.errors import InputError, NotAStoreError, ReadOnlyError, StorageError
from deepmemory.testing.backend_twins import DIMENSIONS, agree, corpus

PROGRAM = Path(__file__).parent / "store_process.py"


def end_all_connections(url: str) -> int:
    """Have the server end every other connection to a database, as an administrator would."""
    with psycopg.connect(url.partition("&")[0], autocommit=True) as connection:
        return len(
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchall()
        )


@pytest.fixture
def lonely(postgres) -> str:
    """The address of a store in a database that nobody else uses."""
    return f"{postgres.database()}&table=docs"


def test_somebody_elses_table_is_no_store_and_stays_as_it_is(lonely) -> None:
    with psycopg.connect(lonely.partition("&")[0], autocommit=True) as connection:
        connection.execute("CREATE TABLE docs (id text, body text)")
        connection.execute("INSERT INTO docs VALUES ('a', 'mine')")
        with pytest.raises(NotAStoreError, match="has something else in it"):
            VectorStore(lonely, embedder=None)
        backend = open_backend(lonely, create=True)
        for use in (backend.count, backend.drop, backend.delete, lambda: backend.upsert(*corpus(1))):
            with pytest.raises(NotAStoreError, match=r"was not made by Deep Memory: it has no column metadata, text"):
                use()
        assert connection.execute("SELECT * FROM docs").fetchall() == [("a", "mine")]
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (1,)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://user:secret@host/db", "say which table the store is to be in: postgresql://user@host/db with"),
        ("postgresql://user:secret@host/db?table=docs&bogus=1", 'invalid URI query parameter: "bogus"'),
        ("postgresql://host/db?table=docs&precision=tenth", "precision is 'single' or 'half', and not 'tenth'"),
        (f"postgresql://host/db?table={'x' * 49}", "at most 48 bytes"),
    ],
)
def test_an_address_that_is_wrong_is_one_clear_sentence_without_the_password(url, message) -> None:
    for open_it in (lambda: open_backend(url, create=True), lambda: VectorStore(url, embedder=None)):
        with pytest.raises(InputError) as caught:
            open_it()
        assert message in str(caught.value)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_names_that_need_quoting_with_sql_in_them(shared_database) -> None:
    table = 'My "docs" %s; DROP TABLE x'
    url = f"{shared_database}&table={quote(table)}"
    with closing(PgvectorBackend(url, index_threshold=1)) as backend:
        documents, vectors = corpus(20)
        backend.upsert(documents, vectors)
        backend.optimize()
        assert backend.search(vectors[3:4], 1, filter={"parity": "odd"})[0].ids == ("d00003",)
        assert backend.search_text(["number 7"], 1)[0].ids == ("d00007",)
        with VectorStore(url.replace("table=", "table=store%20"), embedder=None) as store:
            store.add(["text"], embeddings=[[1.0, 2.0]], ids=["a"])
            assert store.search(embedding=[1.0, 2.0], k=1)[0].id == "a"
        backend.drop()
        assert backend.count() == 0


def test_a_schema_can_be_named_and_is_not_made(lonely) -> None:
    with psycopg.connect(lonely.partition("&")[0], autocommit=True) as connection:
        url = f"{lonely}&schema=Their%20own"
        with pytest.raises(StorageError, match='schema "Their own" does not exist'):
            open_backend(url, create=True).upsert(*corpus(1))
        connection.execute('CREATE SCHEMA "Their own"')
        backend = open_backend(url, create=True)
        backend.upsert(*corpus(3))
        assert connection.execute('SELECT count(*) FROM "Their own".docs').fetchone() == (3,)
        assert open_backend(lonely, create=True).count() == 0


def test_a_graph_is_made_from_some_size_on_and_used(lonely) -> None:
    documents, vectors = corpus(400, dimensions=32)
    with closing(PgvectorBackend(f"{lonely}&options=-c%20enable_seqscan%3Doff", index_threshold=300)) as backend:
        backend.upsert(documents[:200], vectors[:200])
        backend.optimize()
        with psycopg.connect(lonely.partition("&")[0], autocommit=True) as connection:
            graphs = "SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%hnsw%'"
            assert connection.execute(graphs).fetchall() == []
            backend.upsert(documents[200:], vectors[200:])
            backend.optimize()
            backend.optimize()
            assert connection.execute(graphs).fetchall() == [("docs_graph",)]
            exact = ExactBackend()
            exact.upsert(documents, vectors)
            queries = corpus(30, seed=1, dimensions=32)[1]
            agree(backend.search(queries, 10), exact.search(queries, 10))
            agree(
                backend.search(queries, 10, filter={"n": [1, 2, 3]}), exact.search(queries, 10, filter={"n": [1, 2, 3]})
            )
            backend.close()
            used = (
                "SELECT pg_stat_clear_snapshot(), idx_scan FROM pg_stat_all_indexes WHERE indexrelname = 'docs_graph'"
            )
            for _ in range(100):
                if connection.execute(used).fetchone()[1] >= 30:
                    break
                connection.execute("SELECT pg_sleep(0.05)")
            assert connection.execute(used).fetchone()[1] >= 30


def test_half_precision_halves_the_vectors_and_keeps_the_ranking(own_url) -> None:
    documents, vectors = corpus(200, dimensions=64)
    with closing(PgvectorBackend(f"{own_url}&precision=half")) as backend:
        backend.upsert(documents, vectors)
        exact = ExactBackend()
        exact.upsert(documents, vectors)
        found, expected = backend.search(vectors[:12], 5), exact.search(vectors[:12], 5)
        assert [ranking.ids[0] for ranking in found] == [ranking.ids[0] for ranking in expected]
        np.testing.assert_allclose([r.scores for r in found], [r.scores for r in expected], atol=2e-3)
        np.testing.assert_allclose(backend.get_vectors(["d00007"])["d00007"], vectors[7], atol=1e-3)
        with pytest.raises(InputError, match="holds numbers up to 65504; found 70000"):
            backend.upsert([Document("large", "")], np.full((1, 64), 70_000, dtype=np.float32))
        assert backend.count() == 200
    with closing(PgvectorBackend(own_url)) as same:  # what the table is decides, and not the address
        np.testing.assert_array_equal(same.get_vectors(["d00007"])["d00007"], vectors[7].astype(np.float16))


def test_text_that_utf8_can_not_hold_is_refused_with_every_document_named(own_url) -> None:
    half = "half a pair: \ud83e"
    with closing(PgvectorBackend(own_url)) as backend:
        backend.upsert(*corpus(3))
        bad = [Document(half, ""), Document("b", half), Document("c", "", {"x": half})]
        with pytest.raises(InputError, match="surrogate") as caught:
            backend.upsert([Document("good", ""), *bad], np.ones((4, DIMENSIONS), dtype=np.float32))
        assert len(caught.value.problems) == 3
        assert backend.count() == 3
        assert backend.get([half]) == [None]
        assert backend.count({"x": half}) == 0
        assert backend.delete(ids=[half]) == 0


def test_a_user_without_the_right_to_write(postgres, lonely) -> None:
    name = lonely.split("/")[3].partition("?")[0]
    with closing(PgvectorBackend(lonely)) as backend:
        backend.upsert(*corpus(5))
    if not postgres.execute("SELECT 1 FROM pg_roles WHERE rolname = 'only reads'"):
        postgres.execute('CREATE ROLE "only reads" LOGIN')
    postgres.execute('GRANT SELECT ON docs TO "only reads"', database=name)
    url = f"{postgres.url(name, user='only reads')}&table=docs"
    with closing(PgvectorBackend(url)) as reader:
        assert reader.search(corpus(1)[1], 1)[0].ids == ("d00000",)
        for change in (lambda: reader.upsert(*corpus(1)), lambda: reader.delete(ids=["d00001"])):
            with pytest.raises(StorageError, match="permission denied for table docs"):
                change()
        with pytest.raises(StorageError, match="must be owner of table docs"):
            reader.drop()
    with closing(PgvectorBackend(lonely, read_only=True)) as reader:
        with pytest.raises(ReadOnlyError, match="opened for reading only"):
            reader.delete()
        assert reader.count() == 5


# Connections that break


def test_connections_that_the_server_ended_are_made_anew(lonely, postgres) -> None:
    documents, vectors = corpus(30)
    with closing(PgvectorBackend(lonely)) as backend:
        backend.upsert(documents, vectors)
        for use in (
            lambda: backend.search(vectors[:1], 1)[0].ids == ("d00000",),
            lambda: backend.upsert(documents[:1], vectors[:1]) is None,
            lambda: sum(batch.num_rows for batch in backend.batches()) == 30,
            lambda: backend.delete(ids=["d00029"]) == 1,
            lambda: backend.count() == 29,
        ):
            assert end_all_connections(lonely) >= 1
            assert use()
        postgres.restart()
        assert backend.count() == 29


def test_a_connection_that_breaks_in_the_middle_of_reading_everything(lonely) -> None:
    with closing(PgvectorBackend(lonely)) as backend:
        backend.upsert(*corpus(500))
        stream = backend.batches(batch_size=10)
        next(stream)
        end_all_connections(lonely)
        with pytest.raises(
            StorageError, match=r"can't read documents in postgresql://.*: the connection was lost"
        ) as caught:
            list(stream)
        assert "\n" not in str(caught.value)
        assert sum(batch.num_rows for batch in backend.batches()) == 500


def test_connections_that_keep_breaking_lose_nothing_that_was_acknowledged(lonely) -> None:
    stop = threading.Event()

    def cut() -> None:
        # Five times at most: so often is one change tried again.
        for _ in range(5):
            if not stop.wait(0.05):
                end_all_connections(lonely)

    documents, vectors = corpus(200)
    cutter = threading.Thread(target=cut)
    with closing(PgvectorBackend(lonely)) as backend:
        backend.upsert(documents[:1], vectors[:1])
        cutter.start()
        try:
            for start in range(0, 200, 10):
                backend.upsert(documents[start : start + 10], vectors[start : start + 10])
        finally:
            stop.set()
            cutter.join()
        assert backend.count() == 200
        assert backend.get([document.id for document in documents]) == documents


# Several processes


def start(url: str, role: str, name: str, n: int) -> "subprocess.Popen[str]":
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, str(PROGRAM), url, role, name, str(n)], text=True, **pipes)


def test_writers_a_reader_and_a_deleter_at_once(lonely) -> None:
    n_batches = 15
    with closing(PgvectorBackend(lonely)) as backend:
        backend.upsert([Document(f"X-{i}", "to be deleted") for i in range(10)], corpus(10)[1])
        processes = [start(lonely, "write", name, n_batches) for name in "AB"]
        processes.append(start(lonely, "delete", "X", 10))
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        results = [process.communicate(timeout=200) for process in processes]
        assert [(process.returncode, error) for process, (_, error) in zip(processes, results, strict=True)] == [
            (0, "")
        ] * 3
        assert results[2][0].split() == ["1"] * 10
        assert backend.count() == 3 * n_batches * 5
        for batch in range(n_batches):
            found = backend.get([f"shared-{batch}-{i}" for i in range(5)])
            # A batch is written as a whole: all its shared documents are the same writer's.
            assert len({document.metadata["writer"] for document in found if document}) == 1


def test_after_kill_9_everything_acknowledged_is_there(lonely) -> None:
    writer = start(lonely, "write", "A", 10_000)
    writer.stdin.write("go\n")
    writer.stdin.flush()
    acknowledged = [writer.stdout.readline() for _ in range(5)]
    writer.send_signal(signal.SIGKILL)
    acknowledged += writer.stdout.readlines()
    writer.communicate()
    n_acknowledged = len([line for line in acknowledged if line.endswith("\n")])
    with closing(PgvectorBackend(lonely)) as backend:
        assert None not in backend.get([f"A-{batch}-{i}" for batch in range(n_acknowledged) for i in range(5)])
        assert backend.count({"writer": "A"}) % 5 == 0
