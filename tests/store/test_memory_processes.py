"""Training across processes: killed, interrupted, cancelled from elsewhere, and left to end by itself."""

import signal

import synonyms

from deepmemory import VectorStore
from deepmemory.jobs import CANCELLED, COMPLETED, FAILED, TRAINING

IDS, TEXTS = synonyms.documents()
QUERIES, RELEVANCE = synonyms.questions(TEXTS, IDS)


def only_job(store: VectorStore):
    [job] = store.deep_memory.list_jobs(verbose=False)
    return job


def test_a_training_killed_by_kill_9_is_failed_and_the_store_is_as_it_was(folder, spawn):
    with VectorStore(folder, embedder=synonyms.word_vectors) as store:
        store.deep_memory.train(QUERIES, RELEVANCE, wait=True)
        found = [hit.id for hit in store.search(QUERIES[0])]
    trainer = spawn(synonyms.TRAINER, folder, "slow", "go on")
    assert trainer.stdout.readline()
    trainer.stdout.readline()
    trainer.kill()
    trainer.communicate()
    with VectorStore(folder, embedder=synonyms.word_vectors, create=False) as store:
        first, killed = store.deep_memory.list_jobs(verbose=False)
        assert (first.state, killed.state) == (COMPLETED, FAILED)
        assert f"(number {trainer.pid} on " in killed.error
        assert (store.deep_memory.models(), store.deep_memory.get_model()) == (["v1"], "v1")
        assert [hit.id for hit in store.search(QUERIES[0])] == found
        assert None not in store.get(IDS)
        assert store.deep_memory.delete(killed.id)
        again = store.deep_memory.train(QUERIES, RELEVANCE, wait=True)
        assert store.deep_memory.status(again, verbose=False).results["layer"] == "v2"


def test_kill_9_at_any_moment_of_training_leaves_a_store_that_opens(folder, spawn, until):
    """Killed in the fit, and about when the layer is saved."""
    for number, moment in enumerate((0.4, 0.9), start=1):
        trainer = spawn(synonyms.TRAINER, folder, "fast", "go on")
        job_id = trainer.stdout.readline().strip()
        with VectorStore(folder, embedder=synonyms.word_vectors) as store:
            memory = store.deep_memory
            until(
                lambda memory=memory, job_id=job_id, moment=moment: (
                    (job := memory.status(job_id, verbose=False)).progress >= moment or job.is_finished
                )
            )
            trainer.kill()
            trainer.communicate()
            assert memory.status(job_id, verbose=False).state in {FAILED, COMPLETED}
            assert len(memory.list_jobs(verbose=False)) == number
            assert memory.get_model() in {None, *memory.models()}
            assert store.search(QUERIES[0])
            for name in memory.models():
                memory.set_model(name)


def test_a_program_that_ends_right_after_train_gets_its_layer(folder, spawn):
    trainer = spawn(synonyms.TRAINER, folder, "fast", "go on")
    printed, errors = trainer.communicate(timeout=120)
    assert (trainer.returncode, errors) == (0, "")
    with VectorStore(folder) as store:
        assert only_job(store).id == printed.strip()
        assert only_job(store).state == COMPLETED
        assert store.deep_memory.get_model() == "v1"


def test_ctrl_c_while_waiting_cancels_the_training(folder, spawn):
    trainer = spawn(synonyms.TRAINER, folder, "slow", "wait")
    assert trainer.stdout.readline() == "embedding\n"
    trainer.send_signal(signal.SIGINT)
    _, errors = trainer.communicate(timeout=120)
    assert trainer.returncode != 0
    assert errors.rstrip().endswith("KeyboardInterrupt")
    with VectorStore(folder) as store:
        assert only_job(store).state == CANCELLED
        assert store.deep_memory.models() == []


def test_a_training_is_cancelled_and_watched_from_another_process(folder, spawn):
    trainer = spawn(synonyms.TRAINER, folder, "slow", "go on")
    assert trainer.stdout.readline()
    trainer.stdout.readline()
    with VectorStore(folder) as store:
        job = only_job(store)
        assert job.state == TRAINING
        assert store.deep_memory.cancel(job.id)
        assert store.deep_memory.wait(job.id).state == CANCELLED
        trainer.communicate(timeout=120)
        assert trainer.returncode == 0
        assert store.deep_memory.delete(job.id)
        assert store.deep_memory.models() == []


def test_a_layer_that_another_process_trained_is_used_at_once(folder, spawn):
    with VectorStore(folder, embedder=synonyms.word_vectors) as store:
        assert store.layer is None
        spawn(synonyms.TRAINER, folder, "fast", "wait").communicate(timeout=120)
        assert store.deep_memory.get_model() == "v1"
        assert store.layer is not None
        assert store.search(QUERIES[0], k=1)[0].id == RELEVANCE[0][0][0]
