"""Deep Memory of a store on this machine: jobs in threads, and everything kept in the store's state."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmemory import jobs
from deepmemory.artifacts import LayerArchive, LayerInfo, SavedLayer
from deepmemory.backends.base import Backend, Distance, Filter
from deepmemory.data import LabelledQueries
from deepmemory.diagnosis import Diagnosis, HeldOutQueries, diagnose
from deepmemory.embedders import Embedder, Fingerprint
from deepmemory.errors import ArtifactError, JobError, StorageError
from deepmemory.evaluation import Evaluation, depth_for, evaluate_rankings
from deepmemory.executors import Executor, InProcessExecutor
from deepmemory.explanation import Explanation, explain
from deepmemory.exporting import QueryMap
from deepmemory.jobs import CANCELLED, Job, JobStore
from deepmemory.memory.deep_memory import DeepMemory, EvaluationRequest, GivenQueries
from deepmemory.memory.history import History, HistoryEntry, data_hash
from deepmemory.memory.ranking import rank_both, rank_both_exactly
from deepmemory.memory.training_work import TrainingWork, embed_checked, embed_held_out
from deepmemory.progress import Progress
from deepmemory.state import State
from deepmemory.transform import Layer

__all__ = ["LocalDeepMemory"]

_log = logging.getLogger(__name__)

_LOOKUP_BATCH = 1_000


class LocalDeepMemory(DeepMemory):
    """Deep Memory of a store that this process opens itself."""

    def __init__(
        self,
        backend: Backend,
        embedder: Embedder | None,
        state: State,
        *,
        distance: Distance = "cosine",
        fingerprint: Callable[[], Fingerprint | None] | None = None,
        read_only: bool = False,
        executor: Executor | None = None,
    ) -> None:
        """Put Deep Memory beside a collection of documents.

        Args:
            backend: where the documents are.
            embedder: turns queries into vectors; None where vectors are always given.
            state: where layers, jobs and history are kept.
            distance: how the store compares vectors.
            fingerprint: of the embedder, where it is known already; by default it is taken when first needed.
            read_only: refuse everything that changes the store.
            executor: does bulk work, and is not closed here; None does it in this process.
        """
        super().__init__(embedder, location=state.location, read_only=read_only)
        self._backend = backend
        self._distance: Distance = distance
        self._executor = executor or InProcessExecutor()
        self._fingerprint = fingerprint or self._taken_fingerprint
        self._jobs = JobStore(state)
        self._archive = LayerArchive(state)
        self._history = History(state)
        self._known_fingerprint = fingerprint or _no_fingerprint
        self._other_queries: dict[str, bool] = {}
        self._started: list[str] = []

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """Wait for a job of any process to end."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not (job := self._jobs.get(job_id)).is_finished:
            if deadline is not None and time.monotonic() >= deadline:
                raise JobError(f"job {job_id} is still {job.state} after {timeout:g} seconds; it goes on")
            if not jobs.join(job_id, self._jobs.poll_seconds):
                time.sleep(self._jobs.poll_seconds)
        return job

    def models(self) -> list[str]:
        """Names of the saved layers, oldest first; also of those that did not pass the gate."""
        return self._archive.names()

    def model_info(self, name: str) -> LayerInfo:
        """What is known of a saved layer, its training report among it."""
        return self._archive.load(name).info

    def get_model(self) -> str | None:
        """Name of the active layer; None where searches go untransformed."""
        return self._archive.active()

    def export_model(self, name: str, path: str | Path) -> None:
        """Write a saved layer to a file that `import_model` of any store with the same embedder can take in."""
        self._archive.export(name, path)

    @property
    def layer(self) -> Layer | None:
        """The active layer; None where searches go untransformed."""
        saved = self._saved_layer(None)
        return None if saved is None else saved.layer

    @property
    def history(self) -> list[HistoryEntry]:
        """The queries that were trained on and evaluated, oldest first."""
        return list(self._history)

    def explain(
        self, query: str | None, query_vector: NDArray[np.float32], k: int, *, filter: Filter | None = None
    ) -> Explanation:
        """What the active layer changes in the ranking of one query; see `VectorStore.explain`.

        Args:
            query: its text; None where only the vector is known.
            query_vector: ``(dimensions,)`` float32.
            k: hits to explain.
            filter: metadata that hits must have.
        """
        saved = self._saved_layer(None)
        return explain(
            self._backend,
            query_vector,
            k,
            layer=None if saved is None else (saved.info.name, saved.layer),
            text=query,
            training_queries=None if saved is None else self._training_queries(saved),
            distance=self._distance,
            filter=filter,
        )

    def close(self) -> None:
        """Wait for the jobs that were started here."""
        for job_id in self._started:
            jobs.join(job_id, None)

    def _known_ids(self, ids: Sequence[str]) -> set[str]:
        known: set[str] = set()
        for start in range(0, len(ids), _LOOKUP_BATCH):
            found = self._backend.get(ids[start : start + _LOOKUP_BATCH])
            known.update(document.id for document in found if document is not None)
        return known

    def _dimensions(self) -> int | None:
        return self._backend.dimensions

    def _start(
        self,
        given: GivenQueries,
        seed: int,
        progress: Progress | None,
        *,
        words: bool,
        wait: bool,  # noqa: ARG002  the job has a thread of its own either way
    ) -> str:
        vectors = given.vectors
        if vectors is not None:
            vectors = vectors[given.labelled.first_positions]
        job, entry = self._new_job(given.labelled, {"seed": seed, "words": words})
        work = TrainingWork(
            backend=self._backend,
            archive=self._archive,
            labelled=given.labelled.merged(),
            vectors=vectors,
            embedder=given.embedder,
            fingerprint=self._fingerprint if given.by_own_embedder else _no_fingerprint,
            distance=self._distance,
            seed=seed,
            words=words,
            provenance={"history": entry},
            executor=self._executor,
        )
        self._started.append(job.id)
        jobs.start(self._jobs, job, work, progress=progress)
        return job.id

    def _finished(self, job_id: str, progress: Progress | None) -> Job:  # noqa: ARG002  the job's thread calls it
        return self.wait(job_id)

    def _evaluate(self, given: GivenQueries, asked: EvaluationRequest, progress: Progress | None) -> Evaluation:
        saved = self._saved_layer(asked.model)
        vectors, seconds = given.vectors, None
        if vectors is None:
            assert given.embedder is not None
            begun = time.perf_counter()
            vectors = embed_checked(given.embedder, given.labelled, self._backend.dimensions)
            seconds = time.perf_counter() - begun
        rank = partial(rank_both_exactly, executor=self._executor) if asked.exact else rank_both
        baseline, trained = rank(
            self._backend,
            vectors,
            depth_for(asked.top_k),
            layer=saved.layer if saved else None,
            texts=given.labelled.queries,
            distance=self._distance,
            progress=progress,
        )
        seen_ids, training_queries = self._trained_on(saved)
        evaluation = evaluate_rankings(
            given.labelled,
            baseline,
            trained,
            top_k=asked.top_k,
            seen_ids=seen_ids,
            training_queries=training_queries,
            embedding_seconds=seconds,
            n_documents=self._backend.count(),
            document_text=self._texts,
            seed=asked.seed,
        )
        if asked.is_logged and not self._read_only:
            self._log_evaluation(given.labelled, evaluation, saved, asked)
        return evaluation

    def _diagnose(
        self, given: GivenQueries, test: HeldOutQueries | None, seed: int, progress: Progress | None
    ) -> Diagnosis:
        saved, vectors = self._saved_layer(None), given.vectors
        if vectors is None:
            assert given.embedder is not None
            vectors = embed_checked(given.embedder, given.labelled, self._backend.dimensions)
            test = embed_held_out(given.embedder, test, self._backend.dimensions)
        return diagnose(
            self._backend,
            given.labelled,
            vectors,
            distance=self._distance,
            layer=None if saved is None else (saved.info.name, saved.layer),
            test=test,
            seed=seed,
            progress=progress,
        )

    def _exportable(self, name: str) -> tuple[SavedLayer, QueryMap | None]:
        saved = self._archive.load(name)
        query_map = None if self._embedder is None else self._embedder.query_map
        if query_map is None or not saved.info.embedder:
            return saved, None
        # A layer from before the queries were moved to another model takes the vectors of the model before.
        ours = self._fingerprint()
        is_behind_it = ours is not None and Fingerprint.from_dict(saved.info.embedder).matches(ours)
        return saved, query_map if is_behind_it else None

    def _job(self, job_id: str) -> Job:
        return self._jobs.get(job_id)

    def _all_jobs(self) -> list[Job]:
        return list(self._jobs.list())

    def _cancel(self, job_id: str) -> bool:
        return self._jobs.cancel(job_id)

    def _delete(self, job_id: str) -> bool:
        if self._jobs.get(job_id).state == CANCELLED:
            # It is seen as cancelled at once, but may need until its next step to stop.
            jobs.join(job_id, None)
        return self._jobs.delete(job_id)

    def _set_model(self, name: str | None) -> None:
        if name is not None:
            self._check_fits(self._archive.load(name))
        self._archive.activate(name)

    def _rollback(self) -> str | None:
        return self._archive.rollback()

    def _import_model(self, path: str | Path) -> str:
        return self._archive.import_file(path).name

    def _new_job(self, labelled: LabelledQueries, settings: Mapping[str, Any]) -> tuple[Job, str]:
        """A pending job, and the name of the history's entry that has its queries."""
        entry = self._history.add("train", labelled, settings)
        try:
            return self._jobs.create({"n_queries": len(labelled), **settings, "history": entry}), entry
        except StorageError:
            self._history.remove(entry)
            raise

    def _texts(self, ids: Sequence[str]) -> dict[str, str]:
        return {document.id: document.text for document in self._backend.get(ids) if document is not None}

    def _taken_fingerprint(self) -> Fingerprint | None:
        return None if self._embedder is None else Fingerprint.of(self._embedder)

    def _check_fits(self, saved: SavedLayer) -> None:
        info, dimensions = saved.info, self._backend.dimensions
        if dimensions is not None and info.dimensions != dimensions:
            raise ArtifactError(
                f"layer {info.name} takes vectors of {info.dimensions} dimensions and the store has {dimensions}; "
                "train one here"
            )
        if info.distance != self._distance:
            raise ArtifactError(
                f"layer {info.name} was trained for the distance {info.distance} and the store has {self._distance}; "
                "train one here"
            )
        ours = self._fingerprint() if info.embedder else None
        if ours is not None and info.embedder and (said := Fingerprint.from_dict(info.embedder).difference(ours)):
            raise ArtifactError(f"layer {info.name} was trained with another embedder than the store's: {said}")

    def _saved_layer(self, name: str | None) -> SavedLayer | None:
        if name is not None:
            return self._archive.load(name)
        active = self._archive.active()
        saved = None if active is None else self._archive.load(active)
        return None if saved is not None and self._is_for_other_queries(saved.info) else saved

    def _is_for_other_queries(self, info: LayerInfo) -> bool:
        """Whether a layer was trained on another embedder's queries.

        That happens where another process has moved the store to a new embedding model: this one, which goes on with
        the old, then searches without the layer that was trained for the new.
        """
        if info.name not in self._other_queries:
            ours = self._known_fingerprint() if info.embedder else None
            is_other = ours is not None and not Fingerprint.from_dict(info.embedder or {}).matches(ours)
            self._other_queries[info.name] = is_other
            if is_other:
                _log.warning(
                    "layer %s of %s was trained on queries of another embedder than this process uses, and is left "
                    "out; open the store anew",
                    info.name,
                    self._location,
                )
        return self._other_queries[info.name]

    def _trained_on(self, saved: SavedLayer | None) -> tuple[set[str] | None, tuple[str, ...]]:
        """Documents and queries that a layer was trained on; None where the documents are not known."""
        if saved is None:
            return None, ()
        entry = self._history.read(str(saved.info.report.get("history", "")))
        if entry is not None:
            told = entry.labelled.asked if saved.info.report.get("n_made") else entry.labelled
            return set(told.labelled_ids), entry.labelled.queries
        return {str(id) for id in saved.layer.document_ids} or None, ()

    def _training_queries(self, saved: SavedLayer) -> tuple[str, ...] | None:
        """Texts that a layer was trained on, in the order of its memory's keys; None where they are not kept here."""
        entry = self._history.read(str(saved.info.report.get("history", "")))
        merged = None if entry is None else entry.labelled.merged()
        # The history of another store may have an entry of the same name, though that is hardly possible.
        if merged is None or data_hash(merged) != saved.info.data_hash:
            return None
        # Made queries that judged nothing are no keys either.
        queries = merged.asked.queries if saved.info.report.get("n_made") else merged.queries
        memory = saved.layer.memory
        # Of very many queries a sample has trained, and which they were is not kept.
        return queries if memory is None or len(memory.keys) == len(queries) else None

    def _log_evaluation(
        self, labelled: LabelledQueries, evaluation: Evaluation, saved: SavedLayer | None, asked: EvaluationRequest
    ) -> None:
        layer, metrics = saved and saved.info.name, evaluation.overall.as_dict()
        self._history.add(
            "evaluate", labelled, {"layer": layer, "metrics": metrics, "qvs_params": dict(asked.qvs_params)}
        )


def _no_fingerprint() -> None:
    return None
