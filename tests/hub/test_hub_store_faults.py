"""A hub that is killed in the middle of calls and started again: nothing acknowledged is lost, nothing comes twice."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import synonyms

from deepmemory import EmbedderMismatchError, HubUnavailableError, VectorStore
from deepmemory.evaluation import Evaluation, encode_evaluation
from deepmemory.testing import HubProcess


@pytest.fixture(scope="module")
def mortal() -> Iterator[tuple[HubProcess, str]]:
    """A hub that may be killed, and a token for it; it embeds nothing itself."""
    with HubProcess(environment={"DEEPMEMORY_HUB_EMBEDDERS": "none"}) as hub:
        yield hub, hub.token()


@pytest.fixture
def impatient(monkeypatch) -> None:
    """Not to be waited for longer than a moment."""
    monkeypatch.setenv("DEEPMEMORY_HUB_TIMEOUT", "1")


@pytest.fixture
def opened(mortal, path, monkeypatch) -> Iterator[VectorStore]:
    hub, token = mortal
    monkeypatch.setenv("DEEPMEMORY_HUB_URL", hub.url)
    with VectorStore(path, synonyms.word_vectors, token=token) as store:
        yield store


def test_killed_while_documents_are_added(mortal, opened: VectorStore) -> None:
    hub, _ = mortal
    ids = [f"id-{n}" for n in range(8_000)]
    vectors = np.random.default_rng(0).normal(size=(len(ids), 32)).astype(np.float32)
    begun, acknowledged = threading.Event(), []

    def progress(done: int, total: int) -> None:
        acknowledged.append(done)
        begun.set()

    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(opened.add, ids, ids=ids, embeddings=vectors, progress=progress)
        begun.wait(60)
        hub.kill()
        hub.restart()
        # What was in flight is sent again by itself, by the same ids.
        assert adding.result() == ids
    assert acknowledged[-1] == len(ids)
    assert opened.count() == len(ids)
    assert sorted(document.id for document in opened.documents()) == sorted(ids)


def test_killed_for_good_while_documents_are_added(mortal, impatient, opened: VectorStore) -> None:
    hub, _ = mortal
    ids = [f"id-{n}" for n in range(8_000)]
    acknowledged = 0

    def progress(done: int, total: int) -> None:
        nonlocal acknowledged
        if not acknowledged:
            hub.kill()
        acknowledged = done

    try:
        with pytest.raises(HubUnavailableError) as caught:
            opened.add(ids, ids=ids, embeddings=np.ones((len(ids), 32), np.float32), progress=progress)
    finally:
        hub.restart()
    assert caught.value.__notes__ == [f"{acknowledged} of 8000 documents were added before that"]
    assert acknowledged <= opened.count() <= acknowledged + 512
    assert all(opened.get(ids[:acknowledged]))
    assert opened.add(ids[:2_000], ids=ids[:2_000], embeddings=np.ones((2_000, 32), np.float32)) == ids[:2_000]
    assert opened.count() == 2_000


def test_killed_while_a_job_is_waited_for_and_searches_go_on_after_it(mortal, opened: VectorStore) -> None:
    hub, _ = mortal
    ids, texts = synonyms.documents(300)
    opened.add(texts, ids=ids)
    killed = threading.Event()

    def progress(done: int, total: int) -> None:
        if done > 100 and not killed.is_set():
            killed.set()
            hub.kill()
            hub.restart()

    job_id = opened.deep_memory.train(*synonyms.questions(texts, ids, n=500), wait=True, progress=progress)
    assert killed.is_set()
    (job,) = opened.deep_memory.list_jobs(verbose=False)
    assert (job.id, job.state, job.results["layer"]) == (job_id, "completed", "v1")
    assert opened.deep_memory.models() == ["v1"]
    before = opened.search("synonym3 synonym7")
    hub.kill()
    hub.restart()
    assert opened.search("synonym3 synonym7") == before
    entries = opened.deep_memory.history
    assert [entry.kind for entry in entries] == ["train"]


def test_killed_while_it_evaluates(mortal, opened: VectorStore) -> None:
    hub, _ = mortal
    ids, texts = synonyms.documents(200)
    opened.add(texts, ids=ids)
    queries, relevance = synonyms.questions(texts, ids, n=1_500)
    ask = {"qvs_params": {"log_queries": False}, "verbose": False}
    expected = opened.deep_memory.evaluate(relevance, queries, **ask)
    accidents: list[threading.Thread] = []

    def accident() -> None:
        time.sleep(0.2)
        hub.kill()
        hub.restart()

    def progress(done: int, total: int) -> None:
        if not accidents:
            accidents.append(threading.Thread(target=accident))
            accidents[0].start()

    measured = opened.deep_memory.evaluate(relevance, queries, **ask, progress=progress)
    accidents[0].join()
    assert without_time(measured) == without_time(expected)
    assert opened.deep_memory.history == []


def without_time(evaluation: Evaluation) -> dict[str, object]:
    return {**encode_evaluation(evaluation), "embedding_seconds": None}


def test_where_the_hub_has_no_embedder_this_machine_embeds(mortal, path, opened: VectorStore) -> None:
    _, token = mortal
    with VectorStore(f"{path}-local", token=token) as store:
        store.add(["Ice is frozen water.", "A cat sleeps all day."], ids=["ice", "cat"])
        assert store.search("What does water become when it freezes?", k=1)[0].id == "ice"
    with VectorStore(f"{path}-local", "local", token=token) as store:
        assert store.search("Which animal rests?", k=1)[0].id == "cat"
    # The first text that was embedded put the embedder's fingerprint on record.
    with pytest.raises(EmbedderMismatchError, match=r"384 dimensions"):
        VectorStore(f"{path}-local", synonyms.word_vectors, token=token)
