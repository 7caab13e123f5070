"""Deep Memory of a store: trained, watched, cancelled, chosen, rolled back and evaluated."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import synonyms

from deepmemory import (
    ArtifactError,
    Cancelled,
    EmbedderError,
    InputError,
    JobError,
    VectorStore,
)
from deepmemory.evaluation import WITH, WITHOUT
from deepmemory.jobs import CANCELLED, COMPLETED, FAILED, TRAINING, Job, Owner
from deepmemory.memory import NO_JOBS, jobs_table, status_table

IDS, TEXTS = synonyms.documents()
QUERIES, RELEVANCE = synonyms.questions(TEXTS, IDS)
HELD_OUT, HELD_OUT_RELEVANCE = synonyms.questions(TEXTS, IDS, n=60, seed=5)


@pytest.fixture
def filled():
    """A store in memory with the documents of `synonyms`; across processes it is `test_memory_processes`."""
    with VectorStore("memory://", embedder=synonyms.word_vectors) as store:
        store.add(TEXTS, ids=IDS)
        yield store


@pytest.fixture
def memory(filled):
    return filled.deep_memory


@pytest.fixture
def gate():
    """An embedder that waits at queries until it is let on."""

    class Gate:
        def __init__(self) -> None:
            self.reached, self.open = threading.Event(), threading.Event()

        def __call__(self, texts):
            if any("synonym" in text for text in texts):
                self.reached.set()
                assert self.open.wait(60)
            return synonyms.word_vectors(texts)

    gate = Gate()
    yield gate
    gate.open.set()


def right_at_first(store: VectorStore, **options) -> int:
    hits = store.search_many(HELD_OUT, k=1, **options)
    return sum(found[0].id == answers[0][0] for found, answers in zip(hits, HELD_OUT_RELEVANCE, strict=True))


def test_training_lifts_the_searches_that_follow(filled):
    memory = filled.deep_memory
    before = right_at_first(filled)
    job_id = memory.train(QUERIES, RELEVANCE)
    job = memory.wait(job_id)
    assert (job.state, job.error, job.progress) == (COMPLETED, None, 1.0)
    assert job.results["active"]
    assert memory.get_model() == job.results["layer"] == "v1"
    assert job.recall > job.baseline_recall
    assert right_at_first(filled) == right_at_first(filled, deep_memory=True) > 40 > 10 > before
    assert right_at_first(filled, deep_memory=False) == before
    assert filled.layer is memory.layer is not None
    assert filled.search(HELD_OUT[0], k=1) == filled.search_many([HELD_OUT[0]], k=1)[0]


def test_the_job_tells_held_out_figures_only(memory):
    job = memory.wait(memory.train(QUERIES, RELEVANCE))
    results = job.results
    assert set(results["baseline"]) == set(results["trained"]) == {"recall@1", "recall@5", "recall@10", "ndcg@10"}
    assert results["n_queries"] == 120
    assert results["interval"][0] > 0
    assert memory.model_info("v1").report == {key: value for key, value in results.items() if key != "layer"}
    evaluation = memory.evaluate(HELD_OUT_RELEVANCE, HELD_OUT, verbose=False)
    # Not better than what new queries get by more than chance: it was not measured on what was trained on.
    assert results["trained"]["recall@10"] == pytest.approx(evaluation[WITH]["recall@10"], abs=0.1)


@pytest.mark.parametrize("vectors", [None, synonyms.word_vectors(QUERIES)], ids=["embedded", "given"])
def test_the_same_data_and_seed_give_the_same_bytes(folder, vectors):
    found = []
    for _ in range(2):
        with VectorStore(folder, embedder=synonyms.word_vectors) as store:
            store.deep_memory.train(QUERIES, RELEVANCE, embeddings=vectors, seed=3, wait=True)
            found.append({key: value.tobytes() for key, value in store.layer.to_arrays().items()})
    assert found[0] == found[1]


def test_the_order_in_which_documents_came_makes_no_difference():
    found = []
    for step in (1, -1):
        with VectorStore("memory://", embedder=synonyms.word_vectors) as store:
            store.add(TEXTS[::step], ids=IDS[::step])
            store.deep_memory.train(QUERIES, RELEVANCE, wait=True)
            found.append({key: value.tobytes() for key, value in store.layer.to_arrays().items()})
    assert found[0] == found[1]


def test_queries_may_be_embedded_by_a_function_of_the_call(filled):
    called: list[int] = []

    def counted(texts):
        called.append(len(texts))
        return synonyms.word_vectors(texts)

    filled.deep_memory.train(QUERIES, RELEVANCE, counted, "token", wait=True)
    assert filled.deep_memory.get_model() == "v1"
    assert sum(called) == len(set(QUERIES))
    filled.deep_memory.evaluate(HELD_OUT_RELEVANCE, HELD_OUT, counted, verbose=False)
    assert sum(called) == len(set(QUERIES)) + len(HELD_OUT)


def test_queries_that_come_twice_count_once(memory):
    job = memory.wait(memory.train(QUERIES + QUERIES[:30], RELEVANCE + RELEVANCE[:30]))
    assert job.results["n_queries"] == len(set(QUERIES))
    vectors = synonyms.word_vectors(QUERIES + QUERIES[:30])
    job = memory.wait(memory.train(QUERIES + QUERIES[:30], RELEVANCE + RELEVANCE[:30], embeddings=vectors))
    assert job.results["n_queries"] == len(set(QUERIES))


def test_made_queries_train_and_do_not_judge(filled):
    memory = filled.deep_memory
    made = [row >= 80 for row in range(len(QUERIES))]
    job = memory.status(memory.train(QUERIES, RELEVANCE, made=made, wait=True), verbose=False)
    assert (job.results["n_queries"], job.results["n_made"]) == (len(QUERIES), len(QUERIES) - 80)
    assert job.results["by_query"]["ndcg@10"]["n_queries"] == 80
    assert memory.history[-1].labelled.made == tuple(made)
    asked_for = {id for pairs in RELEVANCE[:80] for id, _ in pairs}
    evaluation = memory.evaluate(HELD_OUT_RELEVANCE, HELD_OUT, verbose=False)
    assert [query.seen for query in evaluation.queries] == [
        bool(set(query.qrels) & asked_for) for query in evaluation.queries
    ]
    causes = [cause for query in QUERIES for hit in filled.explain(query, k=3).hits for cause in hit.causes]
    assert {cause.query for cause in causes} <= set(QUERIES[:80])


def test_where_nothing_can_be_learned_the_layer_stays_off_and_says_why(memory, capsys):
    before = right_at_first_of(memory)
    job_id = memory.train(QUERIES[:3], RELEVANCE[:3], wait=True)
    job = memory.status(job_id)
    assert (job.state, job.results["active"]) == (COMPLETED, False)
    assert memory.get_model() is None
    assert memory.models() == ["v1"]
    printed = capsys.readouterr().out
    assert "layer off: too few different" in printed
    assert right_at_first_of(memory) == before


def right_at_first_of(memory) -> float:
    return memory.evaluate(HELD_OUT_RELEVANCE, HELD_OUT, verbose=False)[WITH]["recall@1"]


def test_a_training_that_does_not_pass_leaves_the_layer_that_did(memory):
    memory.train(QUERIES, RELEVANCE, wait=True)
    memory.train(QUERIES[:3], RELEVANCE[:3], wait=True)
    assert (memory.models(), memory.get_model()) == (["v1", "v2"], "v1")


def test_layers_are_chosen_and_taken_back(memory):
    memory.train(QUERIES, RELEVANCE, wait=True)
    memory.train(QUERIES[:90], RELEVANCE[:90], wait=True)
    assert memory.get_model() == "v2"
    assert memory.rollback() == memory.get_model() == "v1"
    memory.set_model("v2")
    memory.set_model(None)
    assert memory.get_model() is memory.layer is None
    assert memory.rollback() == "v2"
    with pytest.raises(ArtifactError, match=r"no layer 'v7' in .*; the layers are: v1, v2"):
        memory.set_model("v7")
    assert memory.get_model() == "v2"


def test_a_damaged_layer_is_refused_and_the_search_without_it_goes_on(folder):
    with VectorStore(folder, embedder=synonyms.word_vectors) as store:
        store.deep_memory.train(QUERIES, RELEVANCE, wait=True)
    (folder / "layers" / "v1.safetensors").write_bytes(b"cut")
    with VectorStore(folder, embedder=synonyms.word_vectors) as store:
        with pytest.raises(ArtifactError, match="cut off"):
            store.search(HELD_OUT[0])
        assert store.search(HELD_OUT[0], deep_memory=False)
        store.deep_memory.set_model(None)
        assert store.search(HELD_OUT[0])


BAD_TRAINING = [
    ({"queries": ["a", "b"], "relevance": [[("doc-1", 1.0)]]}, "2 queries and 1 entries"),
    ({"queries": [], "relevance": []}, "queries is empty"),
    ({"queries": "a", "relevance": [[("doc-1", 1.0)]]}, "queries must be a list of texts"),
    ({"queries": ["", 7], "relevance": [[("doc-1", 1.0)]] * 2}, "queries[0]: the query is empty.\nqueries[1]"),
    ({"queries": ["a"], "relevance": [[("no", 1.0), ("doc-1", 1.0)]]}, "no document with the id 'no'"),
    ({"queries": ["a"], "relevance": [[(7, 1.0)]]}, "a document id must be text, found 7"),
    ({"queries": ["a"], "relevance": [[("doc-1", -1.0)]]}, "must be 0 or more"),
    ({"queries": ["a"], "relevance": [[("doc-1", "1")]]}, "must be a number"),
    ({"queries": ["a"], "relevance": [[("doc-1", float("nan"))]]}, "must be 0 or more and finite"),
    ({"queries": ["a"], "relevance": [[("doc-1", 1.0), ("doc-1", 0.5)]]}, "given twice with different grades"),
    ({"queries": ["a"], "relevance": [[]]}, "no relevant document"),
    ({"queries": ["a"], "relevance": [("doc-1", 1.0)]}, "a single pair that is not in a list"),
    ({"queries": ["a"], "relevance": [["doc-1"]]}, "a list of ids without grades"),
    ({"queries": ["a"], "relevance": [[("doc-1", 1.0)]], "embeddings": np.ones((2, 32))}, "expected 1 vectors"),
    ({"queries": ["a"], "relevance": [[("doc-1", 1.0)]], "embeddings": np.ones((1, 5))}, "of 32 dimensions, found 5"),
    ({"queries": ["a"], "relevance": [[("doc-1", 1.0)]], "embeddings": np.full((1, 32), np.nan)}, "NaN"),
    ({"queries": ["a"], "relevance": [[("doc-1", 1.0)]], "embedding_function": "unknown"}, "unknown embedder"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD_TRAINING)
@pytest.mark.parametrize("wait", [True, False])
def test_bad_training_data_is_named_before_a_job_is_made(filled, arguments, said, wait):
    with pytest.raises(InputError) as error:
        filled.deep_memory.train(**arguments, wait=wait)
    assert said in "\n".join(error.value.problems)
    assert filled.deep_memory.list_jobs(verbose=False) == []
    assert filled.deep_memory.history == []


@pytest.mark.parametrize(("arguments", "said"), [case for case in BAD_TRAINING if "embeddings" not in case[0]])
def test_bad_evaluation_data_is_named(filled, arguments, said):
    with pytest.raises(InputError) as error:
        filled.deep_memory.evaluate(**arguments)
    assert said in "\n".join(error.value.problems)
    assert filled.deep_memory.history == []


def test_all_bad_rows_are_named_together(memory):
    with pytest.raises(InputError) as error:
        memory.train(["fine", "", "c"], [[("doc-1", 1.0)], [("doc-2", -1)], [("gone", 1.0), (3, 1.0)]])
    assert len(error.value.problems) == 4
    assert "4 problems in the input; nothing was changed:" in str(error.value)


def test_vectors_and_a_function_together_are_refused(memory):
    vectors = synonyms.word_vectors(QUERIES)
    with pytest.raises(InputError, match="not both"):
        memory.train(QUERIES, RELEVANCE, synonyms.word_vectors, embeddings=vectors)
    with pytest.raises(InputError, match="two names for the same thing"):
        memory.evaluate(RELEVANCE, QUERIES, embedding=vectors, embeddings=vectors)


def test_an_embedder_that_fails_fails_the_job_and_changes_nothing(memory):
    def broken(texts):
        raise ConnectionError("the endpoint is gone")

    job = memory.wait(memory.train(QUERIES, RELEVANCE, broken))
    assert job.state == FAILED
    assert "failed: ConnectionError: the endpoint is gone" in job.error
    with pytest.raises(JobError, match=r"job \w{24} failed: the embedder .* the endpoint is gone"):
        memory.train(QUERIES, RELEVANCE, broken, wait=True)
    with pytest.raises(EmbedderError, match="the endpoint is gone"):
        memory.evaluate(RELEVANCE, QUERIES, broken)
    with pytest.raises(JobError, match="expected vectors of 32 dimensions, found 3"):
        memory.train(QUERIES, RELEVANCE, lambda texts: np.ones((len(texts), 3)), wait=True)
    assert (memory.models(), memory.get_model()) == ([], None)


def test_a_document_that_vanishes_before_training_fails_the_job(filled, gate):
    job_id = filled.deep_memory.train(QUERIES, RELEVANCE, gate)
    assert gate.reached.wait(60)
    filled.delete(ids=[RELEVANCE[0][0][0]])
    gate.open.set()
    job = filled.deep_memory.wait(job_id)
    assert job.state == FAILED
    assert f"1 of the labelled documents were deleted while training began, '{RELEVANCE[0][0][0]}'" in job.error


def test_a_cancelled_training_leaves_nothing(filled, gate):
    memory = filled.deep_memory
    job_id = memory.train(QUERIES, RELEVANCE, gate)
    assert gate.reached.wait(60)
    assert memory.status(job_id, verbose=False).state == TRAINING
    with pytest.raises(JobError, match="is training and can't be deleted yet"):
        memory.delete(job_id)
    with pytest.raises(JobError, match=r"is still training after 0.05 seconds; it goes on"):
        memory.wait(job_id, timeout=0.05)
    assert memory.cancel(job_id)
    assert memory.wait(job_id).state == CANCELLED
    gate.open.set()
    assert memory.delete(job_id)
    assert memory.list_jobs(verbose=False) == []
    assert (memory.models(), memory.get_model()) == ([], None)


def test_a_caller_that_waits_is_told_of_the_cancellation(memory):
    def stop(done: int, total: int) -> None:
        if done > 300:
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match=r"job \w{24} was cancelled: enough"):
        memory.train(QUERIES, RELEVANCE, wait=True, progress=stop)
    assert memory.models() == []


def test_progress_goes_from_zero_to_the_end(memory):
    seen: list[tuple[int, int]] = []
    memory.train(QUERIES, RELEVANCE, wait=True, progress=lambda done, total: seen.append((done, total)))
    assert (seen[0], seen[-1]) == ((0, 1000), (1000, 1000))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_two_trainings_at_once_both_end_with_a_layer_of_their_own(memory):
    jobs = [memory.train(QUERIES, RELEVANCE), memory.train(QUERIES[:90], RELEVANCE[:90])]
    layers = [memory.wait(job_id).results["layer"] for job_id in jobs]
    assert sorted(layers) == memory.models() == ["v1", "v2"]
    assert memory.get_model() in layers
    assert [job.id for job in memory.list_jobs(verbose=False)] == jobs


def test_leaving_a_store_waits_for_its_jobs(folder):
    with VectorStore(folder, embedder=synonyms.word_vectors) as store:
        job_id = store.deep_memory.train(QUERIES, RELEVANCE)
    with VectorStore(folder) as store:
        assert store.deep_memory.status(job_id, verbose=False).state == COMPLETED


def test_unknown_jobs_are_named(memory):
    for act in (memory.status, memory.wait, memory.cancel, memory.delete):
        with pytest.raises(JobError, match="there is no job 'abc'"):
            act("abc")


def test_evaluation_has_the_originals_keys_order_and_lines(memory, capsys):
    memory.train(QUERIES, RELEVANCE, wait=True)
    found = memory.evaluate(HELD_OUT_RELEVANCE, HELD_OUT, None, None, [1, 10])
    assert set(found) == {"with model", "without model"}
    assert set(found["with model"]) == {"recall@1", "recall@10"}
    assert found[WITH]["recall@1"] > found[WITHOUT]["recall@1"]
    printed = capsys.readouterr().out
    assert printed.startswith("Embedding queries took ")
    assert "---- Evaluating without Deep Memory ----\nRecall@1:\t  " in printed
    assert "---- Evaluating with Deep Memory ----\nRecall@1:\t  " in printed
    assert (found.n_documents, found.n) == (60, 60)
    by_vectors = memory.evaluate(
        HELD_OUT_RELEVANCE, HELD_OUT, embedding=synonyms.word_vectors(HELD_OUT), top_k=[1, 10], verbose=False
    )
    assert dict(by_vectors) == dict(found)
    assert by_vectors.embedding_seconds is None
    assert capsys.readouterr().out == ""


def test_evaluation_names_seen_documents_and_leaked_queries(memory):
    memory.train(QUERIES, RELEVANCE, wait=True)
    found = memory.evaluate(HELD_OUT_RELEVANCE + RELEVANCE[:2], HELD_OUT + QUERIES[:2], verbose=False)
    assert set(QUERIES[:2]) <= set(found.leaks)
    assert found.seen.n + found.unseen.n == found.unleaked.n


def test_evaluation_of_any_layer_or_none(memory):
    memory.train(QUERIES, RELEVANCE, wait=True)
    memory.set_model(None)
    off = memory.evaluate(HELD_OUT_RELEVANCE, HELD_OUT, verbose=False)
    assert off.identical
    assert off[WITH] == off[WITHOUT]
    assert not memory.evaluate(HELD_OUT_RELEVANCE, HELD_OUT, model="v1", verbose=False).identical
    with pytest.raises(ArtifactError, match="no layer 'v9'"):
        memory.evaluate(HELD_OUT_RELEVANCE, HELD_OUT, model="v9")
    with pytest.raises(InputError, match="top_k must list whole numbers"):
        memory.evaluate(HELD_OUT_RELEVANCE, HELD_OUT, top_k=[0])


def test_history_keeps_every_training_and_evaluation(memory):
    job_id = memory.train(QUERIES, RELEVANCE, wait=True)
    memory.evaluate(HELD_OUT_RELEVANCE, HELD_OUT, verbose=False, qvs_params={"branch": "queries"})
    memory.evaluate(HELD_OUT_RELEVANCE, HELD_OUT, verbose=False)
    memory.evaluate(HELD_OUT_RELEVANCE, HELD_OUT, verbose=False, qvs_params={"log_queries": False})
    trained, first, second = memory.history
    assert [entry.kind for entry in memory.history] == ["train", "evaluate", "evaluate"]
    assert (list(trained.labelled.queries), trained.labelled.relevance) == (QUERIES, RELEVANCE)
    assert (list(first.labelled.queries), first.labelled.relevance) == (HELD_OUT, HELD_OUT_RELEVANCE)
    assert first.details["layer"] == second.details["layer"] == "v1"
    assert first.details["qvs_params"] == {"branch": "queries"}
    assert memory.status(job_id, verbose=False).details["n_queries"] == 120


def test_a_layer_travels_to_a_store_with_the_same_embedder_only(filled, tmp_path):
    filled.deep_memory.train(QUERIES, RELEVANCE, wait=True)
    file = tmp_path / "layer.safetensors"
    filled.deep_memory.export_model("v1", file)
    with VectorStore("memory://", embedder=synonyms.word_vectors) as twin:
        twin.add(TEXTS, ids=IDS)
        assert twin.deep_memory.import_model(file) == "v1"
        assert twin.deep_memory.get_model() is None
        twin.deep_memory.set_model("v1")
        assert right_at_first(twin) == right_at_first(filled)
        seen = twin.deep_memory.evaluate(HELD_OUT_RELEVANCE, HELD_OUT, verbose=False)
        assert seen.leaks == ()
    for options, said in (
        ({"embedder": synonyms.other_vectors}, "another embedder than the store's"),
        ({"embedder": synonyms.word_vectors, "distance": "dot"}, "for the distance cosine and the store has dot"),
        ({"embedder": lambda texts: np.ones((len(texts), 3))}, "32 dimensions and the store has 3"),
    ):
        with VectorStore("memory://", **options) as other:
            other.add(["a"])
            other.deep_memory.import_model(file)
            with pytest.raises(ArtifactError, match=said):
                other.deep_memory.set_model("v1")


def test_a_large_store_is_trained_on_what_can_be_ranked_first():
    """Beyond 20,000 documents the pool is the labelled ones and the neighbours of the queries."""
    random = np.random.default_rng(0)
    n = 20_500
    vectors = random.normal(size=(n, 16)).astype(np.float32)
    ids = [f"doc-{row}" for row in range(n)]
    rotation, _ = np.linalg.qr(random.normal(size=(16, 16)))
    rows = random.choice(n, 60, replace=False)
    queries = (vectors[rows] @ rotation.astype(np.float32)) + 0.05 * random.normal(size=(60, 16))
    with VectorStore("memory://", embedder=None) as store:
        store.add(["text"] * n, ids=ids, embeddings=vectors)
        relevance = [[(ids[row], 1.0)] for row in rows]
        job = store.deep_memory.wait(
            store.deep_memory.train([f"q{number}" for number in range(60)], relevance, embeddings=queries)
        )
    assert job.state == COMPLETED, job.error
    assert 100 < job.results["n_documents"] <= 60 * 100 + 60
    assert job.results["n_labelled"] == 60


OWNER = Owner("host", "machine", 1, "1")
DONE = Job(
    id="6538e02ecda4691033a51c5b",
    state=COMPLETED,
    owner=OWNER,
    progress=1.0,
    created="2024-05-01T10:20:30.123456+00:00",
    results={
        "active": True,
        "reason": "it is better",
        "layer": "v1",
        "baseline": {"recall@1": 0.125, "recall@10": 0.45},
        "trained": {"recall@1": 0.125, "recall@10": 0.79},
    },
)

DONE_TABLE = """\
--------------------------------------------------------------
|                  6538e02ecda4691033a51c5b                  |
--------------------------------------------------------------
| status                     | completed                     |
--------------------------------------------------------------
| progress                   | eta: 0.0 seconds              |
|                            | recall@10: 79.00% (+34.00%)   |
--------------------------------------------------------------
| results                    | recall@10: 79.00% (+34.00%)   |
--------------------------------------------------------------"""


def test_a_completed_job_is_printed_as_the_original_did():
    assert status_table(DONE) == DONE_TABLE


def test_a_gain_at_ten_never_hides_a_loss_at_one():
    results = {**DONE.results, "trained": {"recall@1": 0.117, "recall@10": 0.79}}
    table = status_table(replace(DONE, results=results))
    assert "| results                    | recall@1: 11.70% (-0.80%)     |" in table
    assert "|                            | recall@10: 79.00% (+34.00%)   |" in table


def test_a_job_at_work_is_printed_with_what_it_does():
    table = status_table(replace(DONE, state=TRAINING, results=None, progress=0.4, eta_seconds=1.44, stage="training"))
    assert "| status                     | training                      |" in table
    assert "| progress                   | eta: 1.4 seconds              |" in table
    assert "|                            | training: 40%                 |" in table
    assert "| results                    | not available                 |" in table


def test_a_failed_job_is_printed_with_its_error_in_lines_that_fit():
    error = "the process that ran it (number 17 on host) ended before the job did; train again"
    table = status_table(replace(DONE, state=FAILED, results=None, error=error))
    assert {len(line) for line in table.splitlines()} == {62}
    assert " ".join(line[30:].strip(" |") for line in table.splitlines()[5:9]).startswith(error[:40])


def test_no_jobs_are_said_to_be_none(memory, capsys):
    assert memory.list_jobs() == []
    assert capsys.readouterr().out == "No Deep Memory training jobs were found for this dataset\n" == NO_JOBS + "\n"


def test_jobs_are_listed_in_columns(memory, capsys):
    job_id = memory.train(QUERIES, RELEVANCE, wait=True)
    [job] = memory.list_jobs()
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["ID", "STATUS", "RESULTS", "PROGRESS"]
    assert row.startswith(f"{job_id}  completed  recall@10: ")
    assert job.id == job_id
    memory.list_jobs(debug=True)
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["ID", "STATUS", "RESULTS", "PROGRESS", "CREATED", "LAYER", "ERROR"]
    assert row.split()[-1] == "v1"
    assert jobs_table([]) == NO_JOBS
    memory.list_jobs(verbose=False)
    assert capsys.readouterr().out == ""
