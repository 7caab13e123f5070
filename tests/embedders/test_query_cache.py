"""The query cache: embeds once, is shared by processes, stays small, and never stands in the way."""

import logging
import sqlite3
import subprocess
import sys
import threading

import numpy as np
import pytest

from deepmemory.embedders import CachedEmbedder, CallableEmbedder, QueryCache
from deepmemory.errors import EmbedderError, InputError
from deepmemory.testing.openai_server import word_vector


class Counting(CallableEmbedder):
    """Knows what it was asked."""

    def __init__(self, dimensions=8):
        self.asked = []

        def embed(texts):
            self.asked += texts
            return [word_vector(text, dimensions) for text in texts]

        super().__init__(embed, name="counting")


def expected(texts, dimensions=8):
    return np.stack([word_vector(text, dimensions) for text in texts])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "caches" / "queries.sqlite"


def test_each_distinct_text_is_embedded_once(path):
    embedder = Counting()
    texts = ["b", "a", "b", "c", "a"]
    np.testing.assert_allclose(QueryCache(path).embed_queries(embedder, "k", texts), expected(texts), rtol=1e-6)
    assert embedder.asked == ["b", "a", "c"]
    np.testing.assert_allclose(
        QueryCache(path).embed_queries(embedder, "k", ["d", "a"]), expected(["d", "a"]), rtol=1e-6
    )
    assert embedder.asked == ["b", "a", "c", "d"]


def test_what_comes_from_the_cache_is_what_was_embedded_to_the_bit(path):
    embedder = Counting(dimensions=384)
    texts = [f"query {n}" for n in range(700)]
    first = QueryCache(path).embed_queries(embedder, "k", texts)
    again = QueryCache(path).embed_queries(embedder, "k", texts[::-1])
    assert again.dtype == np.float32
    assert first[::-1].tobytes() == again.tobytes()
    assert len(embedder.asked) == 700


def test_embedders_do_not_share_vectors(path):
    cache = QueryCache(path)
    cache.embed_queries(Counting(8), "eight", ["a"])
    other = Counting(4)
    assert cache.embed_queries(other, "four", ["a"]).shape == (1, 4)
    assert other.asked == ["a"]


def test_an_embedder_with_a_cache_is_an_embedder(path):
    inner = Counting()
    embedder = CachedEmbedder(inner, "k", QueryCache(path))
    assert embedder.name == "counting"
    for _ in range(2):
        embedder.embed_queries(["a query"])
        embedder.embed_documents(["a document"])
    assert inner.asked == ["a query", "a document", "a document"]
    assert embedder.dimensions == 8
    assert embedder.embed_queries([]).shape == (0, 8)


def test_bad_texts_are_refused_before_anything_is_written(path):
    with pytest.raises(InputError, match="text 1 must be a string"):
        QueryCache(path).embed_queries(Counting(), "k", ["a", 3])
    assert not path.exists()


def test_progress_counts_what_was_kept_as_done(path):
    cache, reports = QueryCache(path), []
    cache.embed_queries(Counting(), "k", ["a", "b"])
    cache.embed_queries(Counting(), "k", ["a", "b", "c", "c"], progress=lambda *report: reports.append(report))
    assert reports == [(4, 4)]
    cache.embed_queries(Counting(), "k", ["a", "a"], progress=lambda *report: reports.append(report))
    assert reports[-1] == (2, 2)


def test_a_failure_keeps_what_was_embedded_before_it(path):
    embedder = Counting()
    texts = [f"query {n}" for n in range(2000)]

    def stop(done, total):
        if done > 1500:
            raise EmbedderError("the endpoint went away")

    with pytest.raises(EmbedderError):
        QueryCache(path).embed_queries(embedder, "k", texts, progress=stop)
    embedder.asked.clear()
    QueryCache(path).embed_queries(embedder, "k", texts[:1024])
    assert embedder.asked == []


def test_the_oldest_are_dropped(path):
    cache, embedder = QueryCache(path, max_entries=10), Counting()
    for number in range(25):
        cache.embed_queries(embedder, "k", [f"query {number}"])
    embedder.asked.clear()
    cache.embed_queries(embedder, "k", [f"query {number}" for number in range(15, 25)])
    assert embedder.asked == []
    cache.embed_queries(embedder, "k", ["query 14"])
    assert embedder.asked == ["query 14"]
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM query_vectors").fetchone() == (10,)
    connection.close()


def damage_header(path):
    path.write_bytes(b"this is no database" * 100)


def damage_pages(path):
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * len(content[4096:])
    path.write_bytes(content)


def another_table(path):
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE query_vectors (something TEXT)")
    connection.close()


def a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [damage_header, damage_pages, another_table, a_folder])
def test_a_damaged_file_is_left_alone_and_work_goes_on(path, damage, caplog):
    QueryCache(path).embed_queries(Counting(), "k", [f"query {n}" for n in range(200)])
    damage(path)
    before = None if path.is_dir() else path.read_bytes()
    cache, embedder = QueryCache(path), Counting()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            np.testing.assert_allclose(
                cache.embed_queries(embedder, "k", ["query 1", "new"]), expected(["query 1", "new"]), rtol=1e-6
            )
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]
    assert "without it" in caplog.text
    assert before is None or path.read_bytes() == before


def test_a_vector_that_was_altered_on_disk_is_embedded_anew(path):
    embedder = Counting()
    QueryCache(path).embed_queries(embedder, "k", ["a", "b"])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE query_vectors SET vector = substr(vector, 1, 10) WHERE age = 1")
        connection.execute("UPDATE query_vectors SET vector = zeroblob(32) WHERE age = 2")
    connection.close()
    vectors = QueryCache(path).embed_queries(embedder, "k", ["a", "b"])
    np.testing.assert_allclose(vectors, expected(["a", "b"]), rtol=1e-6)
    assert embedder.asked == ["a", "b", "a", "b"]


def test_a_place_that_can_not_be_written_is_no_obstacle(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    cache, embedder = QueryCache(tmp_path / "file" / "cache.sqlite"), Counting()
    for _ in range(2):
        assert cache.embed_queries(embedder, "k", ["a"]).shape == (1, 8)
    assert embedder.asked == ["a", "a"]
    assert len(caplog.records) == 1


def test_a_file_deleted_while_in_use_is_started_anew(path, caplog):
    cache, embedder = QueryCache(path), Counting()
    cache.embed_queries(embedder, "k", ["a"])
    for file in path.parent.iterdir():
        file.unlink()
    for _ in range(2):
        cache.embed_queries(embedder, "k", ["a"])
    assert embedder.asked == ["a", "a"]
    assert not caplog.records


def test_threads_share_a_cache(path, caplog):
    cache = QueryCache(path)

    def work(number):
        for step in range(30):
            texts = [f"shared {step}", f"own {number} {step}"]
            np.testing.assert_allclose(cache.embed_queries(Counting(), "k", texts), expected(texts), rtol=1e-6)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not caplog.records
    embedder = Counting()
    cache.embed_queries(embedder, "k", [f"own {n} {s}" for n in range(4) for s in range(30)])
    assert embedder.asked == []


WORKER = """
import sys
from deepmemory.embedders import CallableEmbedder, QueryCache
from deepmemory.testing.openai_server import word_vector
cache = QueryCache(sys.argv[1])
embedder = CallableEmbedder(lambda texts: [word_vector(text, 8) for text in texts])
print("ready", flush=True)
sys.stdin.readline()
for step in range(40):
    cache.embed_queries(embedder, "k", [f"shared {step}", f"own {sys.argv[2]} {step}"])
    print(step, flush=True)
"""


def start_worker(path, number):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path), str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_that_start_a_cache_together_share_it(path):
    workers = [start_worker(path, number) for number in range(3)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        _, stderr = worker.communicate(timeout=60)
        assert (worker.returncode, stderr) == (0, "")
    embedder = Counting()
    QueryCache(path).embed_queries(embedder, "k", [f"own {n} {s}" for n in range(3) for s in range(40)])
    assert embedder.asked == []


def test_what_a_killed_process_had_kept_is_there(path):
    worker = start_worker(path, 0)
    worker.stdin.write("go\n")
    worker.stdin.flush()
    while worker.stdout.readline() != "10\n":
        pass
    worker.kill()
    worker.communicate()
    embedder = Counting()
    QueryCache(path).embed_queries(embedder, "k", [f"shared {step}" for step in range(11)])
    assert embedder.asked == []
