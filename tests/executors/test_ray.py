"""The same bytes from Ray as from this process, whatever happens to its workers; on a real cluster of two."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from works import Deadly, Doubled, Refusing, numbers, values
from world import articles, hashed_words, texts

from deepmemory import Cancelled, EngineError, InputError, VectorStore
from deepmemory.backends.bulk import ExactSearch, search_nearest
from deepmemory.backends.lance import LanceBackend
from deepmemory.data import Document
from deepmemory.embedders import CallableEmbedder, LocalEmbedder, SpreadEmbedder
from deepmemory.executors import InProcessExecutor
from deepmemory.synthesis import synthesize

ray = pytest.importorskip("ray")


def stored(store):
    """All that a store holds, to the bit."""
    rows = [row for batch in store.backend.batches(text=True) for row in batch.to_pylist()]
    return sorted((row["id"], row["text"], np.float32(row["vector"]).tobytes()) for row in rows)


def bits(rankings):
    return [(ranking.ids, ranking.scores.tobytes()) for ranking in rankings]


def wait_for(folder, pattern):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := sorted(folder.glob(pattern)):
            return found
        time.sleep(0.02)
    raise AssertionError(f"no {pattern} in {folder}")


def test_results_come_in_order_and_a_worker_prepares_once(tmp_path, ray_executor):
    work = Doubled(tmp_path)
    for _ in range(2):
        assert values(ray_executor.map(work, numbers(30))) == [2 * n for n in range(90)]
    assert len(list(tmp_path.glob("begun-*"))) == 60
    prepared = [path.name.split("-")[1] for path in tmp_path.glob("prepared-*")]
    assert len(prepared) == len(set(prepared)) <= 2
    assert os.getpid() not in map(int, prepared)


def test_the_input_is_read_a_few_batches_ahead_and_never_whole(tmp_path, ray_executor):
    read = 0

    def counted():
        nonlocal read
        for batch in numbers(40):
            read += 1
            yield batch

    with closing(ray_executor.map(Doubled(tmp_path), counted())) as results:
        for taken, _ in enumerate(results):
            assert read <= taken + 4  # two workers: one batch each in work, and one each waiting
    assert (taken, read) == (39, 40)


def test_a_worker_that_is_killed_costs_its_batches_and_changes_nothing(tmp_path, ray_executor):
    def kill():
        begun = wait_for(tmp_path, "begun-*")
        os.kill(int(begun[0].name.split("-")[2]), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert values(ray_executor.map(Doubled(tmp_path, seconds=0.15), numbers(12))) == [2 * n for n in range(36)]
    killer.join()
    begun = [path.name.split("-")[1] for path in tmp_path.glob("begun-*")]
    assert len(set(begun)) == 12
    assert 13 <= len(begun) <= 14  # again: the one that it was at, and one that it had before it said a word


def test_what_the_work_raises_is_raised_here_as_it_was(ray_executor):
    results = ray_executor.map(Refusing(7), numbers(6))
    assert values([next(results), next(results)]) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(InputError) as caught:
        next(results)
    assert caught.value.problems == ("7 is wrong", "and so is the rest")


def test_work_that_cannot_be_pickled_is_refused(tmp_path, ray_executor):
    work = Doubled(tmp_path)
    work.lock = threading.Lock()
    with pytest.raises(InputError, match=r"doubling can't be sent to Ray's workers, .*do the work in-process"):
        next(ray_executor.map(work, numbers(1)))


def test_cancelling_ends_what_runs(tmp_path, ray_executor):
    def progress(done, total):
        if list(tmp_path.glob("begun-*")):
            raise Cancelled("enough")

    begun = time.monotonic()
    with pytest.raises(Cancelled, match="enough"):
        values(ray_executor.map(Doubled(tmp_path, seconds=300), numbers(20), progress=progress))
    pids = {int(path.name.split("-")[2]) for path in tmp_path.glob("begun-*")}
    deadline = time.monotonic() + 30
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, "a worker goes on with what nobody waits for"
        time.sleep(0.05)
    assert time.monotonic() - begun < 200
    assert values(ray_executor.map(Doubled(tmp_path), numbers(3))) == [2 * n for n in range(9)]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_embedded_documents_have_the_same_bytes(tmp_path, ray_executor):
    added = texts(1_300)
    ids = [f"d{row}" for row in range(len(added))]
    contents = []
    for engine in (InProcessExecutor(), ray_executor):
        with VectorStore(tmp_path / engine.name, embedder=hashed_words, engine=engine) as store:
            told = []
            store.add(added, ids=ids, progress=lambda *at: told.append(at))  # noqa: B023
            assert told == sorted(told)
            assert told[-1] == (1_300, 1_300)
            contents.append(stored(store))
    assert contents[0] == contents[1]


def test_many_queries_have_the_same_bytes(in_process, ray_executor):
    queries = texts(2_500, seed=3)
    made = [
        SpreadEmbedder(CallableEmbedder(hashed_words), executor).embed_queries(queries)
        for executor in (in_process, ray_executor)
    ]
    assert made[0].tobytes() == made[1].tobytes()


def test_the_local_model_gives_the_same_bytes(in_process, ray_executor):
    pytest.importorskip("torch")
    some = texts(24, seed=8)
    batches = [some[:8], some[8:16], some[16:]]
    from deepmemory.embedders import embed_batches

    here, there = (
        np.concatenate(list(embed_batches(executor, LocalEmbedder(), batches, "documents")))
        for executor in (in_process, ray_executor)
    )
    assert here.shape == (24, 384)
    assert here.tobytes() == there.tobytes()


def test_extracted_queries_are_the_same(ray_executor):
    documents = [Document(f"a{row}", text, {"title": f"Module {row}"}) for row, text in enumerate(articles(150))]
    for n in (None, 90):
        here, there = (synthesize(documents, n=n, seed=4, engine=e) for e in ("in-process", ray_executor))
        assert here == there
        assert len(here.queries) > 80


@pytest.fixture(scope="module")
def world():
    random = np.random.default_rng(2)
    vectors = random.normal(size=(1_500, 24)).astype(np.float32)
    vectors[700:720] = vectors[:20]  # equal scores, whose order is by id
    queries = random.normal(size=(130, 24)).astype(np.float32)
    return [Document(f"d{row * 7919 % 1500:04}", f"text {row}") for row in range(1_500)], vectors, queries


def test_nearest_documents_are_found_the_same_through_an_index(tmp_path, ray_executor, in_process, world):
    documents, vectors, queries = world
    backend = LanceBackend(str(tmp_path), index_threshold=1_000)
    backend.upsert(documents, vectors)
    backend.optimize()
    told = []
    found = [
        search_nearest(
            executor, backend, queries, 20, at_once=40, distance="cosine", progress=lambda *at: told.append(at)
        )
        for executor in (in_process, ray_executor)
    ]
    assert bits(found[0]) == bits(found[1])
    assert len(found[0]) == 130
    assert found[0][0].ids
    assert {total for _, total in told} == {130}
    backend.close()


@pytest.mark.parametrize("distance", ["cosine", "dot"])
def test_all_documents_are_ranked_the_same(tmp_path, ray_executor, in_process, world, distance, monkeypatch):
    documents, vectors, queries = world
    monkeypatch.setattr("deepmemory.backends.bulk._BATCH_BYTES", 1)
    monkeypatch.setattr("deepmemory.backends.bulk._READ_AT_ONCE", 200)
    with VectorStore(tmp_path, embedder=None, distance=distance) as store:
        store.add([d.text for d in documents], ids=[d.id for d in documents], embeddings=vectors)
        here, there = (
            ExactSearch(store.backend, executor).search(queries, 30, distance=distance)
            for executor in (in_process, ray_executor)
        )
        assert bits(here) == bits(there)
        assert bits(here) == bits(store.backend.search(queries, 30, distance=distance))


def test_a_training_and_its_evaluation_are_the_same(tmp_path, ray_executor, monkeypatch):
    """The whole way, on a store that is too large to be ranked whole."""
    monkeypatch.setattr("deepmemory.memory.pool.WHOLE_STORE", 100)
    added = texts(400, seed=6)
    ids = [f"d{row}" for row in range(400)]
    queries = [" ".join(f"asked{word[4:]}" for word in text.split()[:6]) for text in added[:60]]
    relevance = [[(id, 1.0)] for id in ids[:60]]
    outcomes = []
    for engine in (InProcessExecutor(), ray_executor):
        with VectorStore(tmp_path / engine.name, embedder=hashed_words, engine=engine) as store:
            store.add(added, ids=ids)
            store.deep_memory.train(queries, relevance, seed=1, wait=True)
            name = store.deep_memory.models()[-1]
            layer = store._parts.deep_memory._archive.load(name).layer
            evaluation = store.deep_memory.evaluate(relevance, queries, model=name, exact=True, verbose=False)
            through_index = store.deep_memory.evaluate(relevance, queries, model=name, verbose=False)
            assert evaluation.overall.as_dict() == through_index.overall.as_dict()
            arrays = {key: value.tobytes() for key, value in layer.to_arrays().items()}
            outcomes.append((arrays, evaluation.overall.as_dict(), [q.trained_ids for q in evaluation.queries]))
    assert outcomes[0] == outcomes[1]


def test_a_batch_that_ends_every_worker_ends_the_work(ray_executor):
    with pytest.raises(EngineError, match="ending: a batch of 3 rows was lost with its worker 3 times"):
        next(ray_executor.map(Deadly(), numbers(1)))


def test_the_cluster_goes_away(tmp_path):
    """In a process and on a cluster of its own: a thread of Ray's goes on looking for the head, as fast as it can."""
    script = Path(__file__).with_name("lose_the_head.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
    )
    said = done.stdout.strip()
    assert said.startswith("EngineError: the Ray cluster on this machine went away (its head has not answered"), done
    assert said.endswith("run the same again, or without --engine ray")
