"""A job that outlives the process that runs it: another takes it up where the last finished stage left it.

Who calls the stages, and remembers which of them are finished, is a workflow engine's business and not ours.
"""

import threading
from collections.abc import Mapping
from typing import Any

from deepmemory.errors import Cancelled
from deepmemory.jobs.records import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    TRAINING,
    Job,
    JobStore,
    encode,
    last_name,
    utc_now,
)
from deepmemory.jobs.run import JobRun, one_line

__all__ = ["DurableJobStore", "DurableRun", "EndedElsewhere", "HandedOver"]


class HandedOver(BaseException):
    """The process is about to end, and leaves the job to the next one.

    It is no `Exception`, so that nothing on its way takes it for the end of the job.
    """


class EndedElsewhere(BaseException):
    """Another process has ended the job meanwhile, or its record is gone: nothing is left to do, or to write down."""


class DurableJobStore(JobStore):
    """Job records of a store whose jobs are taken up again when their process has ended."""

    def has_ended(self, job_id: str) -> bool:
        """Whether a job's record says that it has ended, or is gone."""
        found = self.find(job_id)
        # One that is cancelled but still to be stopped has no end on record.
        return found is None or found.finished is not None

    def write(self, job: Job) -> None:
        """Replace a job's record; how a job ended is written once, and stays whatever comes after it.

        Raises:
            EndedElsewhere: another process has written how it ended.
        """
        if job.is_finished and not self._state.write_new(last_name(job.id), encode(job)):
            raise EndedElsewhere
        super().write(job)

    def is_running(self, job: Job) -> bool:  # noqa: ARG002  whatever process it was
        """An unfinished job goes on, sooner or later."""
        return True


class DurableRun(JobRun):
    """One run of a durable job, of which there may be several after each other."""

    def __init__(self, jobs: DurableJobStore, job: Job, stopping: threading.Event) -> None:
        """Take up a job.

        Args:
            jobs: where its record is.
            job: as it stands.
            stopping: set when the process is about to end.
        """
        super().__init__(jobs, job, None)
        self._records = jobs
        self._stopping = stopping
        self._handed_over = threading.Event()

    def hand_over(self) -> None:
        """Leave the job, at its next step, to whoever takes it up."""
        self._handed_over.set()

    def begin(self) -> None:
        """Write down that the work goes on."""
        self.check_cancelled()
        if self._job.state == PENDING:
            self._update(state=TRAINING, started=utc_now())

    def check_cancelled(self) -> None:
        """Raise `Cancelled` once the job is cancelled, and `HandedOver` once the process is about to end."""
        if self._stopping.is_set() or self._handed_over.is_set():
            raise HandedOver
        super().check_cancelled()

    def commit(self) -> bool:
        """Decide that the job completes, if no run before did; see `JobRun.commit`."""
        try:
            return super().commit()
        except Cancelled:
            if self._jobs.is_completing(self.job_id):
                return False
            raise

    def complete(self, results: Mapping[str, Any]) -> None:
        """Write down what was found."""
        self._end(COMPLETED, results=results, progress=1.0)

    def cancel(self, reason: str) -> None:
        """Write down that it was cancelled."""
        self._end(CANCELLED, error=reason)

    def fail(self, error: BaseException) -> None:
        """Write down why it failed."""
        self._end(FAILED, error=one_line(error))

    def _update(self, **changes: Any) -> None:
        # A process that was taken for dead, and is not, has nothing to say about a job that another has ended.
        if self._records.has_ended(self.job_id):
            raise EndedElsewhere
        super()._update(**changes)
