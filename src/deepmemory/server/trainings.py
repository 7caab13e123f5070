"""Training jobs as durable workflows: where the process that runs one ends, the hub goes on with it.

A workflow has three steps: embed the queries, gather the documents and fit, save and activate. What a step has made
is a blob in the dataset's state before the engine (DBOS) writes down that the step is finished, and the engine keeps
nothing but that. The job's record and the decision between cancelled and completed are those of every store.

A hub with a database of its own is one process, which takes up at its next start what it left. Several servers and
workers share a queue in PostgreSQL, and take up each other's trainings as soon as one has left or died (`Overseer`).
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory.data import LabelledQueries
from deepmemory.errors import Cancelled, DeepMemoryError, JobError, NotAStoreError, StorageError
from deepmemory.jobs import ON_REQUEST, DurableJobStore, DurableRun, EndedElsewhere, HandedOver, Job
from deepmemory.memory.history import History
from deepmemory.server.database import database_failures
from deepmemory.server.datasets import Dataset, Datasets
from deepmemory.server.folder import HubFolder
from deepmemory.server.overseer import Overseer, new_process_id
from deepmemory.server.refusals import Refusal
from deepmemory.server.registry import DatasetName, Registry
from deepmemory.server.settings import HubSettings
from deepmemory.server.steps import Steps, layer_blob, npy, queries_blob

__all__ = ["Trainings"]

_log = logging.getLogger(__name__)

_QUEUE = "trainings"
_POLL_SECONDS = 0.25
_VERSION = "1"
"""Of the steps: workflows of one version are taken up by hubs of the same, whatever their release."""

_UNFINISHED = frozenset({"PENDING", "ENQUEUED", "DELAYED"})
_FINISHED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_STOP_SECONDS = 5.0
_WAIT_SECONDS = 30.0
_LOOK_SECONDS = 0.2
_BUSY_RETRY_SECONDS = 30.0
_SETTLED_SECONDS = 60.0
_MOST_ATTEMPTS = 5
_FORGOTTEN_AT_ONCE = 1_000

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
        self._database = folder.database
        self._registry = registry
        self._datasets = datasets
        self._settings = settings
        self._stopping = stopping
        self._running: dict[str, _Running] = {}
        self._workflow: Workflow | None = None
        self._process_id = new_process_id() if folder.is_shared else "hub"
        self._overseer = Overseer(
            registry,
            self._process_id,
            settings.silent_seconds,
            take_over=self._take_over,
            give_up=self._give_up,
            tidy=self._tidy,
        )
        self.on_end: Callable[[str], None] = lambda _: None

    def start(self) -> None:
        """Start the engine, and take up what is not finished."""
        from dbos import DBOS, DBOSConfig

        config: DBOSConfig = {
            "name": "deepmemory-hub",
            "application_version": _VERSION,
            "executor_id": self._process_id,
            "log_level": "ERROR",
            "enable_otlp": False,
        }
        config.update(self._database.workflows())
        DBOS(config=config)

        @DBOS.workflow(name="train")
        def train(dataset_id: str, job_id: str) -> None:
            self._train(dataset_id, job_id)

        self._workflow = train
        at_once = self._settings.training_jobs
        if at_once == 0:
            DBOS.listen_queues([])
        with database_failures(self._database.shown):
            DBOS.launch()
            DBOS.register_queue(
                _QUEUE,
                worker_concurrency=max(1, at_once),
                partition_concurrency=self._settings.training_jobs_per_org,
                polling_interval_sec=_POLL_SECONDS,
                on_conflict="always_update" if at_once else "never_update",
            )
        if not self._database.is_shared:
            self._take_up_all()
        self._overseer.start()

    def stop(self) -> None:
        """Leave what is running to the next start, or to others."""
        from dbos import DBOS

        self._stopping.set()
        deadline = time.monotonic() + _STOP_SECONDS
        for running in list(self._running.values()):
            running.left.wait(max(0.0, deadline - time.monotonic()))
        self._overseer.stop()
        DBOS.destroy()
        self._overseer.leave()

    @property
    def all_left(self) -> bool:
        """Whether no training is at work in this process."""
        return not self._running

    # What was left undone

    def _take_over(self, processes: Sequence[str]) -> None:
        """Put the trainings of processes that are gone back into the queue."""
        from dbos import DBOS

        with database_failures():
            left = DBOS.list_workflows(
                executor_id=list(processes), status="PENDING", name="train", load_input=False, load_output=False
            )
            for workflow in left:
                _log.warning("training %s of %s goes on elsewhere", workflow.workflow_id, workflow.executor_id)
                DBOS.resume_workflow(workflow.workflow_id, queue_name=_QUEUE)

    def _give_up(self) -> None:
        """Leave every training of this process to those who took it for dead."""
        for running in list(self._running.values()):
            running.run.hand_over()

    def _tidy(self) -> None:
        """See to what nobody is at any more, and forget what ended long ago."""
        if self._database.is_shared:
            self._take_up_all(older_than=_SETTLED_SECONDS)
        self._forget_finished()

    def _take_up_all(self, older_than: float = 0.0) -> None:
        known = {name.id: name for name in self._registry.list_datasets()}
        for job_id, dataset_id, _ in self._registry.open_jobs(older_than=older_than):
            if dataset_id not in known:
                self._registry.close_job(job_id)
                continue
            try:
                with suppress(NotAStoreError):  # it is deleted at this moment
                    self._take_up(self._datasets.opened(known[dataset_id]), job_id)
            except StorageError as error:  # a database that a dataset is attached to is away: the hub serves the rest
                _log.warning("training %s is put off: %s", job_id, error)

    def _take_up(self, dataset: Dataset, job_id: str) -> None:
        """See to it that a job that was not finished is."""
        from dbos import DBOS

        jobs = self.jobs(dataset)
        if jobs.has_ended(job_id):
            self._clean_up(dataset, job_id)
            return
        with database_failures():
            status = DBOS.get_workflow_status(job_id)
        if status is None:  # whoever took it in ended before it was in the queue
            self._enqueue(job_id, dataset.name.id, dataset.name.org)
        if status is None or status.status in _UNFINISHED:
            return
        error = JobError("the hub could not write down how the training ended; train again")
        with suppress(EndedElsewhere):
            DurableRun(jobs, jobs.get(job_id), threading.Event()).fail(error)
        self._clean_up(dataset, job_id)

    def _forget_finished(self) -> None:
        """Delete the engine's rows of trainings that ended long ago; their records stay."""
        from dbos import DBOS

        before = datetime.now(UTC) - timedelta(days=self._settings.workflow_days)
        with database_failures():
            ended = DBOS.list_workflows(
                status=_FINISHED,
                name="train",
                completed_before=before.isoformat(),
                limit=_FORGOTTEN_AT_ONCE,
                load_input=False,
                load_output=False,
            )
            if ended:
                DBOS.delete_workflows([workflow.workflow_id for workflow in ended])

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
            state.write(queries_blob(job_id), npy(vectors))
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
        if cancelled and self._withdraw(job_id):
            with suppress(EndedElsewhere):
                DurableRun(jobs, jobs.get(job_id), threading.Event()).cancel(ON_REQUEST)
                self._finish(dataset, job_id, "cancelled")
        return cancelled

    def delete(self, dataset: Dataset, job_id: str) -> bool:
        """Delete the record of a job that has ended; the layer that it saved stays.

        Raises:
            JobError: there is no such job, or it has not ended.
        """
        jobs = self.jobs(dataset)
        if jobs.is_cancelled(job_id):
            self._wait(lambda: jobs.has_ended(job_id))
        return jobs.delete(job_id)

    def forget(self, name: DatasetName) -> None:
        """Stop every job of a dataset that is about to be emptied or deleted, whichever process is at it."""
        mine = [job_id for job_id, dataset_id, _ in self._registry.open_jobs() if dataset_id == name.id]
        jobs = DurableJobStore(self._datasets.state(name))
        for job_id in mine:
            with suppress(JobError):
                jobs.cancel(job_id)
            if self._withdraw(job_id):
                self._registry.close_job(job_id)
            elif running := self._running.get(job_id):
                running.run.interrupt()
        self._wait(lambda: not any(self._registry.is_open_job(job_id) for job_id in mine))
        for job_id in mine:
            self._registry.close_job(job_id)

    @staticmethod
    def _wait(condition: Callable[[], bool]) -> None:
        """Wait for what another thread or process is about to do, within reason."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while not condition() and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)

    # The workflow

    def _train(self, dataset_id: str, job_id: str) -> None:
        """The workflow; what it has done already is done again in name only."""
        known = {name.id: name for name in self._registry.list_datasets()}
        if dataset_id not in known:
            return
        dataset = self._datasets.opened(known[dataset_id])
        jobs = self.jobs(dataset)
        if before := self._running.get(job_id):  # this process was taken for dead, and is still at it
            before.run.hand_over()
            before.left.wait(_WAIT_SECONDS)
        if jobs.has_ended(job_id):
            self._clean_up(dataset, job_id)
            return
        run = DurableRun(jobs, jobs.get(job_id), self._stopping)
        running = self._running[job_id] = _Running(run)
        try:
            self._finish(dataset, job_id, self._staged(dataset, run))
        except EndedElsewhere:
            self._clean_up(dataset, job_id)
        except HandedOver:
            _log.warning("training %s is handed over", job_id)
            with suppress(DeepMemoryError):
                self._registry.begin_job(job_id, -1)
            raise
        finally:
            if self._running.get(job_id) is running:
                del self._running[job_id]
            running.left.set()

    def _staged(self, dataset: Dataset, run: DurableRun) -> str:
        """Do all steps, and write down how it ended."""
        from dbos import DBOS

        try:
            run.begin()
            self._count(run.job_id)
            steps = Steps(dataset, run, self._registry)
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

    def _count(self, job_id: str) -> None:
        """Begin a job, unless it has ended the process that ran it time and again."""
        if self._registry.begin_job(job_id) > _MOST_ATTEMPTS:
            raise JobError(
                f"the process that ran the training ended {_MOST_ATTEMPTS} times before the training did, perhaps for "
                "want of memory; train again where there is more, or with fewer queries"
            )

    def _enqueue(self, job_id: str, dataset_id: str, org: str) -> None:
        from dbos import DBOS, SetEnqueueOptions, SetWorkflowID

        assert self._workflow is not None
        with SetWorkflowID(job_id), SetEnqueueOptions(queue_partition_key=org):
            DBOS.enqueue_workflow(_QUEUE, self._workflow, dataset_id, job_id)

    def _withdraw(self, job_id: str) -> bool:
        """See to it that a job that waits is not begun; False for one that was begun."""
        from dbos import DBOS

        with database_failures():
            status = DBOS.get_workflow_status(job_id)
            if status is not None and status.status == "PENDING":
                return False
            if status is not None:
                DBOS.cancel_workflow(job_id)
        return True

    def _finish(self, dataset: Dataset, job_id: str, state: str) -> None:
        """Forget a job that has ended, and what its steps have left."""
        self._clean_up(dataset, job_id)
        self.on_end(state)

    def _clean_up(self, dataset: Dataset, job_id: str) -> None:
        for blob in (queries_blob(job_id), layer_blob(job_id)):
            dataset.store.state.delete(blob)
        self._registry.close_job(job_id)


class _Running:
    """A job at work in this process."""

    def __init__(self, run: DurableRun) -> None:
        self.run = run
        self.left = threading.Event()
