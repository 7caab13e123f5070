"""Training jobs as durable workflows: a hub that dies in the middle of one goes on with it when it starts again.

A workflow has three steps: embed the queries, gather the documents and fit, save and activate. What a step has made
is a blob in the dataset's state before the engine (DBOS) writes down that the step is finished, and the engine keeps
nothing but that. The job's record and the decision between cancelled and completed are those of every store.
"""

import io
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory.artifacts import LayerArchive, LayerInfo, decode_layer, encode_layer
from deepmemory.data import LabelledQueries
from deepmemory.embedders import Fingerprint
from deepmemory.errors import Cancelled, DeepMemoryError, JobError, StorageError
from deepmemory.jobs import DurableJobStore, DurableRun, HandedOver, Job
from deepmemory.memory.history import History
from deepmemory.memory.training_work import Learned, TrainingWork
from deepmemory.server.datasets import Dataset, Datasets
from deepmemory.server.folder import HubFolder
from deepmemory.server.refusals import Refusal
from deepmemory.server.registry import DatasetName, Registry
from deepmemory.server.settings import HubSettings

__all__ = ["Trainings"]

_log = logging.getLogger(__name__)

_QUEUE = "trainings"
_POLL_SECONDS = 0.25
_VERSION = "1"
"""Of the steps: workflows of one version are taken up by hubs of the same, whatever their release."""

_UNFINISHED = frozenset({"PENDING", "ENQUEUED", "DELAYED"})
_STOP_SECONDS = 5.0
_WAIT_SECONDS = 30.0
_BUSY_RETRY_SECONDS = 30.0

Workflow: TypeAlias = Callable[[str, str], None]


class Trainings:
    """The training jobs of a hub; there is one hub in a process, as there is one engine."""

    def __init__(
        self,
        folder: HubFolder,
        registry: Registry,
        datasets: Datasets,
        settings: HubSettings,
        stopping: threading.Event,
    ) -> None:
        """Prepare; nothing runs before `start`.

        Args:
            folder: where the engine's database is.
            registry: knows the jobs that are not finished.
            datasets: opens the datasets that are trained.
            settings: how many at once.
            stopping: set when the process is about to end.
        """
        self._folder = folder
        self._registry = registry
        self._datasets = datasets
        self._settings = settings
        self._stopping = stopping
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._workflow: Workflow | None = None
        self.on_end: Callable[[str], None] = lambda _: None

    def start(self) -> None:
        """Start the engine, and take up what is not finished."""
        from dbos import DBOS

        DBOS(
            config={
                "name": "deepmemory-hub",
                "system_database_url": f"sqlite:///{self._folder.workflows}",
                "application_version": _VERSION,
                "executor_id": "hub",
                "log_level": "ERROR",
                "enable_otlp": False,
            }
        )

        @DBOS.workflow(name="train")
        def train(dataset_id: str, job_id: str) -> None:
            self._train(dataset_id, job_id)

        self._workflow = train
        DBOS.launch()
        DBOS.register_queue(
            _QUEUE,
            global_concurrency=self._settings.training_jobs,
            partition_concurrency=min(self._settings.training_jobs, self._settings.training_jobs_per_org),
            polling_interval_sec=_POLL_SECONDS,
            on_conflict="always_update",
        )
        known = {name.id: name for name in self._registry.list_datasets()}
        for job_id, dataset_id, _ in self._registry.open_jobs():
            if dataset_id not in known:
                self._registry.close_job(job_id)
                continue
            try:
                self._take_up(self._datasets.opened(known[dataset_id]), job_id)
            except StorageError as error:  # a database that a dataset is attached to is away: the hub serves the rest
                _log.warning("training %s is put off: %s", job_id, error)

    def stop(self) -> None:
        """Leave what is running to the next start."""
        from dbos import DBOS

        self._stopping.set()
        deadline = time.monotonic() + _STOP_SECONDS
        for running in list(self._running.values()):
            running.left.wait(max(0.0, deadline - time.monotonic()))
        DBOS.destroy()

    @property
    def all_left(self) -> bool:
        """Whether no training is at work in this process."""
        return not self._running

    def _take_up(self, dataset: Dataset, job_id: str) -> None:
        """See to it that a job that was not finished is."""
        from dbos import DBOS

        jobs = self.jobs(dataset)
        if self._is_ended(jobs, job_id):
            self._clean_up(dataset, job_id)
            return
        status = DBOS.get_workflow_status(job_id)
        if status is None or status.status in _UNFINISHED:
            # For one that was enqueued before, this changes nothing.
            self._enqueue(job_id, dataset.name.id, dataset.name.org)
            return
        error = JobError("the hub could not write down how the training ended; train again")
        DurableRun(jobs, jobs.get(job_id), threading.Event()).fail(error)
        self._clean_up(dataset, job_id)

    # What is asked of jobs

    def submit(
        self,
        dataset: Dataset,
        labelled: LabelledQueries,
        vectors: NDArray[np.float32] | None,
        *,
        seed: int,
        words: bool,
        own_embedder: bool,
        job_id: str,
    ) -> Job:
        """Take in a training whose arguments were checked; one that was taken in before stays as it is.

        Args:
            dataset: to train for.
            labelled: the queries as they were given.
            vectors: ``(len(labelled), dimensions)``; None where the hub embeds.
            seed: of everything that is drawn.
            words: whether to learn how far to trust full-text search.
            own_embedder: whether the dataset's own embedder made the vectors.
            job_id: its id.

        Raises:
            Refusal: the organisation has as many unfinished jobs as it may have.
        """
        jobs = self.jobs(dataset)
        try:
            return jobs.get(job_id)
        except JobError:
            pass
        most = self._settings.waiting_jobs_per_org
        if len(self._registry.open_jobs(dataset.name.org)) >= most:
            raise Refusal(
                429,
                "over_limit",
                f"{dataset.name.org} has {most} trainings that are not finished, which is as many as it may have; "
                "wait for one, or cancel one",
                retry_after=_BUSY_RETRY_SECONDS,
            )
        state = dataset.store.state
        if vectors is not None:
            state.write(_queries_blob(job_id), _npy(vectors))
        settings = {"seed": seed, "words": words}
        entry = History(state).add("train", labelled, settings)
        details = {"n_queries": len(labelled), **settings, "history": entry}
        self._registry.open_job(job_id, dataset.name)
        job = jobs.create(details | ({"own_embedder": True} if own_embedder else {}), job_id)
        self._enqueue(job_id, dataset.name.id, dataset.name.org)
        return job

    def jobs(self, dataset: Dataset) -> DurableJobStore:
        """The job records of a dataset."""
        return DurableJobStore(dataset.store.state)

    def cancel(self, dataset: Dataset, job_id: str) -> bool:
        """Cancel a job; one that waits ends at once, one that runs at its next step.

        Raises:
            JobError: there is no such job.
        """
        jobs = self.jobs(dataset)
        cancelled = jobs.cancel(job_id)
        with self._lock:
            waits = job_id not in self._running and not self._is_ended(jobs, job_id)
            if cancelled and waits:
                self._withdraw(job_id)
                DurableRun(jobs, jobs.get(job_id), threading.Event()).cancel("cancelled on request")
                self._finish(dataset, job_id, "cancelled")
        return cancelled

    def delete(self, dataset: Dataset, job_id: str) -> bool:
        """Delete the record of a job that has ended; the layer that it saved stays.

        Raises:
            JobError: there is no such job, or it has not ended.
        """
        jobs = self.jobs(dataset)
        if jobs.is_cancelled(job_id) and (running := self._running.get(job_id)):
            running.left.wait(_WAIT_SECONDS)
        return jobs.delete(job_id)

    def forget(self, name: DatasetName) -> None:
        """Stop every job of a dataset that is about to be emptied or deleted."""
        for job_id, dataset_id, _ in self._registry.open_jobs():
            if dataset_id != name.id:
                continue
            self._withdraw(job_id)
            if running := self._running.get(job_id):
                running.run.interrupt()
                running.left.wait(_WAIT_SECONDS)
            self._registry.close_job(job_id)

    # The workflow

    def _train(self, dataset_id: str, job_id: str) -> None:
        """The workflow; what it has done already is done again in name only."""
        known = {name.id: name for name in self._registry.list_datasets()}
        if dataset_id not in known:
            return
        dataset = self._datasets.opened(known[dataset_id])
        jobs = self.jobs(dataset)
        with self._lock:
            if self._is_ended(jobs, job_id):
                self._clean_up(dataset, job_id)
                return
            run = DurableRun(jobs, jobs.get(job_id), self._stopping)
            running = self._running[job_id] = _Running(run)
        try:
            state = self._staged(dataset, run)
            self._finish(dataset, job_id, state)
        except HandedOver:
            _log.warning("training %s is handed over to the next start", job_id)
            raise
        finally:
            del self._running[job_id]
            running.left.set()

    def _staged(self, dataset: Dataset, run: DurableRun) -> str:
        """Do all steps, and write down how it ended."""
        from dbos import DBOS

        try:
            run.begin()
            steps = _Steps(dataset, run)
            DBOS.run_step({"name": "embed the queries"}, steps.embed)
            DBOS.run_step({"name": "gather the documents and fit"}, steps.fit)
            layer = DBOS.run_step({"name": "save and activate"}, steps.save)
            run.complete(steps.results(layer))
        except Cancelled as reason:
            run.cancel(str(reason))
            return "cancelled"
        except Exception as error:
            if not isinstance(error, DeepMemoryError):
                _log.exception("training %s failed", run.job_id)
            run.fail(error)
            return "failed"
        return "completed"

    def _enqueue(self, job_id: str, dataset_id: str, org: str) -> None:
        from dbos import DBOS, SetEnqueueOptions, SetWorkflowID

        assert self._workflow is not None
        with SetWorkflowID(job_id), SetEnqueueOptions(queue_partition_key=org):
            DBOS.enqueue_workflow(_QUEUE, self._workflow, dataset_id, job_id)

    def _withdraw(self, job_id: str) -> None:
        """See to it that a job that waits is not begun."""
        from dbos import DBOS

        DBOS.cancel_workflow(job_id)

    def _finish(self, dataset: Dataset, job_id: str, state: str) -> None:
        """Forget a job that has ended, and what its steps have left."""
        self._clean_up(dataset, job_id)
        self.on_end(state)

    def _clean_up(self, dataset: Dataset, job_id: str) -> None:
        for blob in (_queries_blob(job_id), _layer_blob(job_id)):
            dataset.store.state.delete(blob)
        self._registry.close_job(job_id)

    @staticmethod
    def _is_ended(jobs: DurableJobStore, job_id: str) -> bool:
        """Whether its record says that it has ended, or is gone."""
        try:
            job = jobs.get(job_id)
        except JobError:
            return True
        # One that is cancelled but still to be stopped has no end on record.
        return job.finished is not None


class _Running:
    """A job at work in this process."""

    def __init__(self, run: DurableRun) -> None:
        self.run = run
        self.left = threading.Event()


class _Steps:
    """The steps of one training. Each finds in the dataset's state what the one before it has made."""

    def __init__(self, dataset: Dataset, run: DurableRun) -> None:
        self._run = run
        self._state = dataset.store.state
        self._archive = LayerArchive(self._state)
        self._work = self._described(dataset)

    def _described(self, dataset: Dataset) -> TrainingWork:
        job = DurableJobStore(self._state).get(self._run.job_id)
        entry = History(self._state).read(str(job.details["history"]))
        if entry is None:
            raise StorageError("the queries of this training can't be read any more; train again")
        given = self._state.read(_queries_blob(self._run.job_id))
        ours = given is None or bool(job.details.get("own_embedder"))

        def fingerprint() -> Fingerprint | None:
            # Asked for when the layer is saved: the hub's own embedding may have pinned it in the first step.
            return dataset.fingerprint() if ours else None

        return TrainingWork(
            backend=dataset.store.backend,
            archive=self._archive,
            labelled=entry.labelled.merged(),
            vectors=None if given is None else _from_npy(given),
            embedder=dataset.store.embedder,
            fingerprint=fingerprint,
            distance=dataset.store.distance,
            seed=int(job.details["seed"]),
            words=bool(job.details.get("words", True)),
            provenance={"history": str(job.details["history"])},
        )

    def embed(self) -> None:
        """Embed the queries, where their vectors did not come with them."""
        if self._work.vectors is None:
            self._state.write(_queries_blob(self._run.job_id), _npy(self._work.query_vectors(self._run)))

    def fit(self) -> None:
        """Gather the documents and fit."""
        blob = self._state.read(_queries_blob(self._run.job_id))
        if blob is None:
            raise StorageError("the vectors of this training's queries are gone; train again")
        learned = self._work.learn(self._run, _from_npy(blob))
        info = LayerInfo("", learned.layer.dimensions, learned.layer.distance, None, "", learned.report)
        self._state.write(_layer_blob(self._run.job_id), encode_layer(learned.layer, info))

    def save(self) -> str:
        """Save the layer and activate it where it passed the gate; return its name."""
        blob = self._state.read(_layer_blob(self._run.job_id))
        if blob is None:
            raise StorageError("what this training has learned is gone; train again")
        saved = decode_layer(blob, "the layer that was learned")
        return str(self._work.save(self._run, Learned(saved.layer, saved.info.report))["layer"])

    def results(self, layer: str) -> dict[str, Any]:
        """What the job's record says of a layer that was saved."""
        return {**self._archive.load(layer).info.report, "layer": layer}


def _queries_blob(job_id: str) -> str:
    return f"work/{job_id}-queries.npy"


def _layer_blob(job_id: str) -> str:
    return f"work/{job_id}-layer.safetensors"


def _npy(vectors: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    np.save(file, vectors, allow_pickle=False)
    return file.getvalue()


def _from_npy(data: bytes) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = np.load(io.BytesIO(data), allow_pickle=False)
    return vectors
