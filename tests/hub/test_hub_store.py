"""A store on a hub is the store that it would be in a folder: same hits, same layer, same evaluation, same words."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import synonyms

from deepmemory import (
    ArtifactError,
    AuthorizationError,
    Cancelled,
    InputError,
    JobError,
    VectorStore,
)
from deepmemory.evaluation import Evaluation


@dataclass
class Twins:
    """The same documents on the hub and in a folder, and questions about them."""

    there: VectorStore
    here: VectorStore
    queries: list[str]
    relevance: list[list[tuple[str, float]]]

    @property
    def both(self) -> tuple[VectorStore, VectorStore]:
        return self.there, self.here


@pytest.fixture(scope="module")
def twins(module_environment, tmp_path_factory) -> Iterator[Twins]:
    """Trained, both of them, with the same seed."""
    ids, texts = synonyms.documents()
    queries, relevance = synonyms.questions(texts, ids)
    folder = tmp_path_factory.mktemp("twin") / "store"
    with (
        VectorStore("hub://acme/twin", synonyms.word_vectors, runtime={"tensor_db": True}) as there,
        VectorStore(folder, synonyms.word_vectors) as here,
    ):
        for store in (there, here):
            metadatas = [{"even": row % 2 == 0} for row in range(len(ids))]
            assert store.add(texts, metadatas, ids) == ids
            made = [row >= 100 for row in range(len(queries))]
            store.deep_memory.train(queries, relevance, made=made, seed=3, wait=True)
        yield Twins(there, here, queries, relevance)


def parts(evaluation: Evaluation) -> dict[str, object]:
    fields = {field.name: getattr(evaluation, field.name) for field in dataclasses.fields(evaluation)}
    return fields | {"embedding_seconds": None}


def test_the_same_training_gives_the_same_layer(twins: Twins) -> None:
    there, here = (store.layer for store in twins.both)
    assert there is not None
    assert here is not None
    arrays = there.to_arrays(), here.to_arrays()
    assert {name: array.tobytes() for name, array in arrays[0].items()} == {
        name: array.tobytes() for name, array in arrays[1].items()
    }
    infos = [store.deep_memory.model_info("v1") for store in twins.both]
    assert infos[0].embedder == infos[1].embedder
    assert infos[0].data_hash == infos[1].data_hash
    timed = {"seconds", "job", "history"}
    reports = [{key: value for key, value in info.report.items() if key not in timed} for info in infos]
    assert reports[0] == reports[1]
    assert twins.there.layer is there  # downloaded once


@pytest.mark.parametrize(
    "options",
    [{}, {"deep_memory": False}, {"deep_memory": True, "filter": {"even": True}}, {"mode": "words"}, {"k": 3}],
)
def test_the_same_searches_find_the_same_hits(twins: Twins, options: dict[str, object]) -> None:
    queries = [*twins.queries[:5], "term3 term7"]
    there, here = (store.search_many(queries, **options) for store in twins.both)  # type: ignore[arg-type]
    assert [[hit.id for hit in hits] for hits in there] == [[hit.id for hit in hits] for hits in here]
    for hits, others in zip(there, here, strict=True):
        np.testing.assert_allclose([hit.score for hit in hits], [hit.score for hit in others], atol=1e-6)
        assert [(hit.text, hit.metadata) for hit in hits] == [(hit.text, hit.metadata) for hit in others]
    assert twins.there.embedder is not None
    vectors = twins.there.embedder.embed_queries(queries)
    if "mode" not in options:
        assert twins.there.search_many(embeddings=vectors, **options) == there  # type: ignore[arg-type]
        alone = twins.there.search(queries[0], **options)  # type: ignore[arg-type]
        assert [hit.id for hit in alone] == [hit.id for hit in there[0]]
        # One query is multiplied otherwise than several are, and rounded otherwise in the last place.
        np.testing.assert_allclose([hit.score for hit in alone], [hit.score for hit in there[0]], atol=1e-6)


def test_more_queries_than_one_request_takes_keep_their_order(twins: Twins) -> None:
    queries = (twins.queries * 3)[:300]
    found = twins.there.search_many(queries, k=1)
    assert [hits[0].id for hits in found[:120]] == [hits[0].id for hits in found[120:240]]
    assert len(found) == 300


def test_the_same_evaluation(twins: Twins, capsys) -> None:
    ids, texts = synonyms.documents()
    queries, relevance = synonyms.questions(texts, ids, n=40, seed=9)
    queries += twins.queries[:2]
    relevance += twins.relevance[:2]
    seen: list[tuple[int, int]] = []
    there, here = (
        store.deep_memory.evaluate(relevance, queries, top_k=[1, 10], seed=2, progress=lambda *done: seen.append(done))
        for store in twins.both
    )
    assert parts(there) == parts(here)
    assert there.embedding_seconds is not None
    assert there["with model"]["recall@10"] > there["without model"]["recall@10"]
    assert "---- Evaluating without Deep Memory ----" in capsys.readouterr().out
    assert (84, 84) in seen
    vectors = synonyms.word_vectors(queries)
    given = twins.there.deep_memory.evaluate(
        relevance, queries, embeddings=vectors, top_k=[1, 10], seed=2, verbose=False
    )
    assert parts(given) == parts(there)
    entry = twins.there.deep_memory.history[-1]
    assert (entry.kind, list(entry.labelled.queries)) == ("evaluate", queries)


def test_an_evaluation_that_is_not_to_be_logged_is_not(twins: Twins, tokens) -> None:
    before = len(twins.there.deep_memory.history)
    ask = (twins.relevance[:5], twins.queries[:5])
    twins.there.deep_memory.evaluate(*ask, qvs_params={"log_queries": False}, verbose=False)
    with VectorStore("hub://acme/twin", synonyms.word_vectors, read_only=True, token=tokens["read"]) as reader:
        reader.deep_memory.evaluate(*ask, verbose=False)
        assert len(reader.deep_memory.history) == before
    with VectorStore("hub://acme/twin", synonyms.word_vectors, token=tokens["read"]) as reader:
        reader.deep_memory.evaluate(*ask, verbose=False)  # nobody asked for the log, which this token may not write
        with pytest.raises(AuthorizationError, match="write"):
            reader.deep_memory.evaluate(*ask, qvs_params={"log_queries": True}, verbose=False)
    assert len(twins.there.deep_memory.history) == before
    twins.there.deep_memory.evaluate(*ask, qvs_params={"log_queries": True, "branch": "main"}, verbose=False)
    assert twins.there.deep_memory.history[-1].details["qvs_params"] == {"log_queries": True, "branch": "main"}


def test_jobs_print_and_return_what_local_ones_do(twins: Twins, capsys) -> None:
    jobs = [store.deep_memory.list_jobs(verbose=False) for store in twins.both]
    there, here = jobs[0][0], jobs[1][0]
    assert (there.state, there.recall, there.baseline_recall) == (here.state, here.recall, here.baseline_recall)
    assert there.details["n_queries"] == here.details["n_queries"] == len(twins.queries)
    printed = []
    for store, job in ((twins.there, there), (twins.here, here)):
        store.deep_memory.status(job.id)
        store.deep_memory.list_jobs(debug=False)
        printed.append(capsys.readouterr().out.replace(job.id, "ID"))
    assert [line.split() for line in printed[0].splitlines()] == [line.split() for line in printed[1].splitlines()]
    assert twins.there.deep_memory.cancel(there.id) is False
    with pytest.raises(JobError, match="there is no job"):
        twins.there.deep_memory.status("0" * 24)
    with pytest.raises(JobError, match="there is no job"):
        twins.there.deep_memory.status("../../active")


def test_layers_are_chosen_exported_and_imported(twins: Twins, tmp_path) -> None:
    memory = twins.there.deep_memory
    assert (memory.models(), memory.get_model()) == (["v1"], "v1")
    memory.set_model(None)
    assert memory.layer is None
    query = twins.queries[0]
    assert twins.there.search(query) == twins.there.search(query, deep_memory=False)
    assert memory.rollback() == "v1"
    memory.export_model("v1", tmp_path / "layer")
    _, weights = memory.export(tmp_path / "exported", "typescript").files
    assert weights.read_bytes() == (tmp_path / "layer").read_bytes()
    assert twins.here.deep_memory.import_model(tmp_path / "layer") == "v2"
    twins.here.deep_memory.export_model("v1", tmp_path / "other")
    assert memory.import_model(tmp_path / "other") == "v2"
    assert memory.models() == ["v1", "v2"]
    with pytest.raises(ArtifactError, match="v1, v2"):
        memory.set_model("v9")
    with pytest.raises(ArtifactError, match="v9"):
        memory.export_model("v9", tmp_path / "none")
    with pytest.raises(ArtifactError, match="models"):
        memory.model_info("../v1")
    (tmp_path / "other").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="cut off"):
        memory.import_model(tmp_path / "other")
    assert memory.models() == ["v1", "v2"]


def test_what_is_wrong_with_labels_is_said_all_at_once_and_as_locally(twins: Twins) -> None:
    wrong = (["a", "", "c"], [[("doc-0", 1.0)], [("doc-1", 1.0)], [("nowhere", 1.0), ("gone", 1.0)]])
    unknown = (["a"], [[("nowhere", 1.0)]])
    for queries, relevance in (wrong, unknown):
        said = []
        for store in twins.both:
            with pytest.raises(InputError) as caught:
                store.deep_memory.train(queries, relevance)
            said.append(caught.value.problems)
        assert said[0] == said[1]
    assert len(twins.there.deep_memory.list_jobs(verbose=False)) == 1
    with pytest.raises(InputError, match="32"):
        twins.there.deep_memory.train(["a"], [[("doc-0", 1.0)]], embeddings=[[1.0, 2.0]])


def test_a_summary_and_everything_in_it(twins: Twins) -> None:
    there, here = (store.summary() for store in twins.both)
    assert there["path"] == "hub://acme/twin"
    differing = {"path", "created", "layers"}
    assert {k: v for k, v in there.items() if k not in differing} == {
        k: v for k, v in here.items() if k not in differing
    }
    assert sorted(document.id for document in twins.there.documents()) == sorted(synonyms.documents()[0])
    assert twins.there.get(["doc-3", "nothing"]) == twins.here.get(["doc-3", "nothing"])
    assert twins.there.count({"even": True}) == 30
    assert len(twins.there) == 60


def test_documents_come_in_requests_that_the_hub_takes(path) -> None:
    vectors = np.random.default_rng(0).normal(size=(1_300, 8)).astype(np.float32)
    seen: list[tuple[int, int]] = []
    with VectorStore(path, embedder=None) as store:
        ids = store.add(["x"] * 1_300, embeddings=vectors, progress=lambda *done: seen.append(done))
        assert store.count() == len(set(ids)) == 1_300
        assert seen == [(512, 1_300), (1_024, 1_300), (1_300, 1_300)]
        assert store.search(embedding=vectors[700], k=1)[0].id == ids[700]
        assert store.delete(ids[:1_200]) == 1_200
        assert store.delete(delete_all=True) == 100


def test_training_in_the_background_reports_and_can_be_waited_for(path, until) -> None:
    ids, texts = synonyms.documents()
    with VectorStore(path, synonyms.word_vectors) as store:
        store.add(texts, ids=ids)
        done: list[int] = []
        job_id = store.deep_memory.train(*synonyms.questions(texts, ids), progress=lambda part, _: done.append(part))
    with VectorStore(path, synonyms.word_vectors) as store:  # another, later: the hub went on
        job = store.deep_memory.wait(job_id)
        assert job.state == "completed"
        assert job.results["layer"] == "v1"
        until(lambda: bool(done) and done[-1] == 1000)
        assert done == sorted(done)
        assert store.deep_memory.delete(job_id)
        assert store.deep_memory.models() == ["v1"]


def test_a_job_is_followed_by_its_events_and_not_by_asking(hub, path) -> None:
    ids, texts = synonyms.documents()
    with VectorStore(path, synonyms.word_vectors) as store:
        store.add(texts, ids=ids)
        before = hub.log.count('/jobs/{id}"')
        seen: list[int] = []
        store.deep_memory.train(*synonyms.questions(texts, ids), wait=True, progress=lambda done, _: seen.append(done))
        assert seen[-1] == 1000
        # Once to begin with; all else came by itself.
        assert hub.log.count('/jobs/{id}"') - before == 1


def test_waiting_ends_in_time_and_cancelling_is_heard(path) -> None:
    ids, texts = synonyms.documents(600)
    with VectorStore(path, synonyms.word_vectors) as store:
        store.add(texts, ids=ids)
        queries, relevance = synonyms.questions(texts, ids, n=1_500)
        job_id = store.deep_memory.train(queries, relevance)
        with pytest.raises(JobError, match="it goes on"):
            store.deep_memory.wait(job_id, timeout=0.05)
        with pytest.raises(JobError, match="cancel"):
            store.deep_memory.delete(job_id)
        assert store.deep_memory.cancel(job_id)
        assert store.deep_memory.wait(job_id).state == "cancelled"

        def enough(done: int, total: int) -> None:
            raise Cancelled("enough")

        with pytest.raises(Cancelled, match="was cancelled"):
            store.deep_memory.train(queries, relevance, wait=True, progress=enough)
        assert store.deep_memory.models() == []


def test_ctrl_c_cancels_the_job_that_is_waited_for(path) -> None:
    ids, texts = synonyms.documents(600)
    with VectorStore(path, synonyms.word_vectors) as store:
        store.add(texts, ids=ids)

        def interrupted(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.deep_memory.train(*synonyms.questions(texts, ids, n=1_500), wait=True, progress=interrupted)
        (job,) = store.deep_memory.list_jobs(verbose=False)
        assert store.deep_memory.wait(job.id).state == "cancelled"
