"""A job at work in a thread of this process."""

import contextlib
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from deepmemory.errors import Cancelled, DeepMemoryError
from deepmemory.jobs.records import (
    CANCELLED,
    COMPLETED,
    FAILED,
    ON_REQUEST,
    TRAINING,
    Job,
    JobStore,
    running_here,
    utc_now,
)
from deepmemory.progress import Progress

__all__ = ["JobRun", "Work", "join", "one_line", "start"]

_BY_INTERRUPT = "the program that ran it was interrupted"
_HEARTBEAT_SECONDS = 15.0
_WRITE_SECONDS = 0.5
_log = logging.getLogger(__name__)


class JobRun:
    """One job at work in this process: how the work reports itself, learns that it is cancelled, and commits.

    Attributes:
        left: set when its thread has nothing more to do.
    """

    def __init__(self, jobs: JobStore, job: Job, progress: Progress | None) -> None:
        self._jobs = jobs
        self._job = job
        self._progress = progress
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._looked = self._written = -math.inf
        self._interrupted = threading.Event()
        self._ended = threading.Event()
        self.left = threading.Event()

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self._job.id

    def stage(self, name: str, begin: float, end: float) -> Progress:
        """Report on one stage of the work.

        Args:
            name: what is being done, in words.
            begin: the part of the whole work that is done when the stage begins, 0 to 1.
            end: the part that is done when it ends.

        Returns:
            what to call with ``(done, total)`` of the stage; it raises `Cancelled` once the job is cancelled.
        """

        def report(done: int, total: int) -> None:
            self.check_cancelled()
            self._report(name, begin + (end - begin) * min(1.0, done / max(1, total)))

        report(0, 1)
        return report

    def check_cancelled(self) -> None:
        """Raise `Cancelled` once the job is cancelled, by whichever process."""
        if self._interrupted.is_set():
            raise Cancelled(_BY_INTERRUPT)
        now = time.monotonic()
        if now - self._looked >= self._jobs.poll_seconds:
            self._looked = now
            if self._jobs.is_cancelled(self.job_id):
                raise Cancelled(ON_REQUEST)

    def commit(self) -> bool:
        """Decide that the job completes: from here on it can't be cancelled, and may change the store.

        Returns:
            True; False where an earlier run of the job decided it, and was cut short after that.

        Raises:
            Cancelled: it was cancelled before that.
        """
        if self._interrupted.is_set():
            raise Cancelled(_BY_INTERRUPT)
        if not self._jobs.claim_completion(self.job_id):
            raise Cancelled(ON_REQUEST)
        return True

    def interrupt(self) -> None:
        """Ask the work to stop at its next step."""
        self._interrupted.set()

    def run(self, work: "Work") -> None:
        """Do the work, one job of this process at a time, and write down how it ended."""
        try:
            with self._heartbeats(), self._turn():
                self._begun = time.monotonic()
                self._update(state=TRAINING, started=utc_now())
                results = work(self)
            self._end(COMPLETED, results=results, progress=1.0)
        except Cancelled as reason:
            self._end(CANCELLED, error=str(reason))
        except BaseException as error:
            if not isinstance(error, DeepMemoryError):
                _log.exception("training job %s failed", self.job_id)
            self._end(FAILED, error=one_line(error))

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for the jobs before: a fit uses every core, and two at once would need twice the memory."""
        while not _turn.acquire(timeout=self._jobs.poll_seconds):
            self.check_cancelled()
        try:
            self._looked = -math.inf
            self.check_cancelled()
            yield
        finally:
            _turn.release()

    @contextlib.contextmanager
    def _heartbeats(self) -> Iterator[None]:
        """Write the record every few seconds, so that other machines see that the work goes on."""

        def beat() -> None:
            while not self._ended.wait(_HEARTBEAT_SECONDS):
                try:
                    self._update()
                except DeepMemoryError as error:
                    _log.warning("job %s: %s", self.job_id, error)

        thread = threading.Thread(target=beat, name=f"deepmemory-heartbeat-{self.job_id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _report(self, stage: str, fraction: float) -> None:
        now = time.monotonic()
        if stage != self._job.stage or now - self._written >= max(_WRITE_SECONDS, self._jobs.poll_seconds):
            elapsed = now - self._begun
            eta = elapsed * (1 - fraction) / fraction if fraction > 0.01 else None
            self._update(stage=stage, progress=fraction, eta_seconds=eta)
        if self._progress:
            self._progress(round(fraction * 1000), 1000)

    def _update(self, **changes: Any) -> None:
        with self._lock:
            self._written = time.monotonic()
            self._job = replace(self._job, heartbeat=time.time(), **changes)
            self._jobs.write(self._job)

    def _end(self, state: str, **changes: Any) -> None:
        try:
            self._update(state=state, finished=utc_now(), eta_seconds=None, **changes)
        except DeepMemoryError:
            # Nothing can be written: the job is seen as failed, as its process no longer works on it.
            _log.exception("the end of job %s (%s) could not be recorded", self.job_id, state)


Work = Callable[[JobRun], Mapping[str, Any]]
"""What a job does: given its run it returns the results, JSON values by key."""

_runs: dict[str, JobRun] = {}
_turn = threading.Lock()


def start(jobs: JobStore, job: Job, work: Work, *, progress: Progress | None = None) -> None:
    """Run a job in a thread of this process, after those started before it.

    A program that comes to its end waits for its jobs. One that is ended by Ctrl-C cancels them, also while it
    waits so.

    Args:
        jobs: where the job's record is.
        job: as made by `JobStore.create`.
        work: what to do.
        progress: called from the job's thread with thousandths of the whole work; `Cancelled` raised in it
            cancels the job.
    """
    _wait_for_jobs_at_exit()
    run = JobRun(jobs, job, progress)
    _runs[job.id] = run
    running_here.add(job.id)

    def target() -> None:
        try:
            run.run(work)
        finally:
            running_here.discard(job.id)
            del _runs[job.id]
            run.left.set()

    threading.Thread(target=target, name=f"deepmemory-job-{job.id}").start()


def join(job_id: str, timeout: float | None = None) -> bool:
    """Wait for a job of this process to leave its thread.

    Args:
        job_id: any job's id.
        timeout: at most this many seconds.

    Returns:
        False at once where this process does not work on it.
    """
    run = _runs.get(job_id)
    if run is None:
        return False
    run.left.wait(timeout)
    return True


@lru_cache(maxsize=1)
def _wait_for_jobs_at_exit() -> None:
    """Have the interpreter wait for jobs before it shuts down what they may use.

    It would wait for their threads anyway, but only after it has closed every thread pool, and an embedder may
    use one. There is no public way to be earlier than that.
    """
    import concurrent.futures.thread  # noqa: F401  what registers later is closed earlier

    register = getattr(threading, "_register_atexit", None)
    if register:
        register(_finish_jobs)


def _finish_jobs() -> None:
    if getattr(sys, "last_type", None) is KeyboardInterrupt:
        _interrupt_jobs()
    for run in list(_runs.values()):
        while not run.left.is_set():
            try:
                # Not Thread.join: up to Python 3.12 a thread whose join is interrupted counts as ended.
                run.left.wait()
            except KeyboardInterrupt:
                _interrupt_jobs()


def _interrupt_jobs() -> None:
    for run in list(_runs.values()):
        run.interrupt()


def _forget_jobs_of_parent() -> None:
    """A forked child has the memory of its parent's jobs and none of their threads."""
    global _turn  # noqa: PLW0603  a lock that a lost thread holds is never released
    _runs.clear()
    running_here.clear()
    _turn = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_jobs_of_parent)


def one_line(error: BaseException) -> str:
    """What a job's record says of an exception."""
    text = " ".join(str(error).split())
    return text if isinstance(error, DeepMemoryError) and text else f"{type(error).__name__}: {text}".rstrip(": ")
