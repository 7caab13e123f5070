"""Training jobs: their records and states, kept beside the vectors, and the thread that runs one.

A record is written by the process that owns the job and by no other, so two writers never meet. What must be
decided between processes, whether a job was cancelled or completed, is decided by one blob that only the first of
them can create. A job whose process has ended is never seen as running: the record says which process that was.
"""

import contextlib
import json
import logging
import math
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from deepmemory.errors import Cancelled, DeepMemoryError, JobError
from deepmemory.progress import Progress
from deepmemory.state import State

__all__ = ["CANCELLED", "COMPLETED", "FAILED", "FINISHED", "PENDING", "TRAINING", "Job", "JobRun", "JobStore", "start"]

PENDING = "pending"
TRAINING = "training"
COMPLETED = "completed"
FAILED = "failed"
CANCELLED = "cancelled"
FINISHED = frozenset({COMPLETED, FAILED, CANCELLED})

_FOLDER = "jobs"
_HEARTBEAT_SECONDS = 15.0
_SILENT_SECONDS = 120.0
"""After this long without a heartbeat the process of another machine is taken for dead."""
_WRITE_SECONDS = 0.5
_POLL_SECONDS = 0.2
_ON_REQUEST = "cancelled on request"
_BY_INTERRUPT = "the program that ran it was interrupted"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that runs a job, told apart from every other process before and after it.

    Attributes:
        host: the machine's name, for people.
        machine: identity of the running machine and its process numbering; empty where it can't be told.
        pid: the process's number.
        started: when the process started, as the system says it: numbers are used again, this isn't.
    """

    host: str
    machine: str
    pid: int
    started: str

    @classmethod
    def this_process(cls) -> "Owner":
        """The process that asks."""
        return cls(socket.gethostname(), _machine(), os.getpid(), _process_started(os.getpid()) or "")

    def is_running(self, heartbeat: float) -> bool:
        """Whether the process is there: looked up on its own machine, by its last heartbeat on another."""
        if self.machine and self.machine == _machine():
            return _process_started(self.pid) == self.started
        return time.time() - heartbeat < _SILENT_SECONDS


@lru_cache(maxsize=1)
def _machine() -> str:
    """What process numbers mean something within: the boot, and on Linux the namespace (a container has its own)."""
    if os.name == "nt":
        return ""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    try:
        return f"{socket.gethostname()} {boot.read_text().strip()} {namespace.readlink()}"
    except OSError:
        return socket.gethostname()


def _process_started(pid: int) -> str | None:
    """When the running process of that number started; None where there is none, or only its zombie."""
    if os.name == "nt":
        return None
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    asked = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    status, _, started = asked.stdout.strip().partition(" ")
    return None if not started or status.startswith("Z") else started.strip()


@dataclass(frozen=True, slots=True)
class Job:
    """A training job as it stands.

    Attributes:
        id: 24 hexadecimal characters.
        state: ``pending``, ``training``, ``completed``, ``failed`` or ``cancelled``.
        progress: the part of the work that is done, 0 to 1.
        stage: what is being done, in words.
        eta_seconds: what is left, guessed from what it took so far; None before there is anything to guess from.
        details: what the job was asked to do, such as the number of queries.
        results: what a completed job found: the training report, and the saved ``layer``'s name.
        error: why it failed, or by what it was cancelled.
        created: ISO 8601 in UTC, as are `started` and `finished`.
        owner: the process that runs it.
        heartbeat: when that process last wrote the record, in seconds since 1970.
    """

    id: str
    state: str
    owner: Owner
    progress: float = 0.0
    stage: str = ""
    eta_seconds: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] | None = None
    error: str | None = None
    created: str = ""
    started: str | None = None
    finished: str | None = None
    heartbeat: float = 0.0

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in FINISHED

    @property
    def recall(self) -> float | None:
        """Held-out recall@10 with the layer, a fraction; None before the job is completed."""
        return self._score("trained")

    @property
    def baseline_recall(self) -> float | None:
        """Held-out recall@10 without the layer, a fraction; None before the job is completed."""
        return self._score("baseline")

    def _score(self, side: str) -> float | None:
        score = ((self.results or {}).get(side) or {}).get("recall@10")
        return None if score is None else float(score)


def _now() -> str:
    return datetime.now(UTC).isoformat()


class JobStore:
    """The job records of one store."""

    def __init__(self, state: State) -> None:
        self._state = state

    @property
    def poll_seconds(self) -> float:
        """How often a record is worth looking at."""
        return max(_POLL_SECONDS, self._state.poll_seconds)

    def create(self, details: Mapping[str, Any]) -> Job:
        """Add a pending job that this process will run (see `start`)."""
        while True:
            job = Job(
                secrets.token_hex(12),
                PENDING,
                Owner.this_process(),
                details=details,
                created=_now(),
                heartbeat=time.time(),
            )
            if self._state.write_new(_record_name(job.id), _encode(job)):
                return job

    def get(self, job_id: str) -> Job:
        """The job as it stands: cancelled at once when that was asked, failed when its process has ended.

        Raises:
            JobError: there is no such job.
        """
        job = self._read(job_id)
        if job.is_finished:
            return job
        if self.is_cancelled(job_id):
            return replace(job, state=CANCELLED, eta_seconds=None, error=_ON_REQUEST)
        if self.is_running(job):
            return job
        # It may have ended well between the first look and the second.
        job = self._read(job_id)
        if job.is_finished:
            return job
        return replace(
            job,
            state=FAILED,
            eta_seconds=None,
            error=f"the process that ran it (number {job.owner.pid} on {job.owner.host}) ended before the job did; "
            "train again",
        )

    def list(self) -> tuple[Job, ...]:
        """All jobs as they stand, oldest first."""
        jobs = []
        for name in self._state.list(_FOLDER):
            if name.endswith(".json"):
                # One that is deleted at this moment is simply not in the list.
                with contextlib.suppress(JobError):
                    jobs.append(self.get(name.rpartition("/")[2].removesuffix(".json")))
        return tuple(sorted(jobs, key=lambda job: (job.created, job.id)))

    def cancel(self, job_id: str) -> bool:
        """Cancel a job, whichever process runs it.

        Returns:
            True when the job is cancelled now: its work stops at its next step, and will leave nothing.
            False when it had finished, or was just being completed.

        Raises:
            JobError: there is no such job.
        """
        if self.get(job_id).is_finished:
            return False
        return self._decide(job_id, CANCELLED)

    def delete(self, job_id: str) -> bool:
        """Delete a job's record; the layer that it saved stays.

        Raises:
            JobError: there is no such job, or its work goes on (cancel it first).
        """
        job = self._read(job_id)
        if not job.is_finished and self.is_running(job):
            doing = "is stopping" if self.is_cancelled(job_id) else f"is {self.get(job_id).state}"
            raise JobError(f"job {job_id} {doing} and can't be deleted yet: cancel it and wait until it has stopped")
        deleted = self._state.delete(_record_name(job_id))
        self._state.delete(_end_name(job_id))
        return deleted

    def is_running(self, job: Job) -> bool:
        """Whether the process that owns an unfinished job still works on it."""
        if job.owner == Owner.this_process():
            return job.id in _runs
        return job.owner.is_running(job.heartbeat)

    def is_cancelled(self, job_id: str) -> bool:
        """Whether it was decided that the job is cancelled."""
        decided = self._state.read(_end_name(job_id))
        return decided is not None and json.loads(decided)["state"] == CANCELLED

    def claim_completion(self, job_id: str) -> bool:
        """Decide that the job completes; False when it was cancelled before that."""
        return self._decide(job_id, COMPLETED)

    def write(self, job: Job) -> None:
        """Replace a job's record; for the process that owns it alone."""
        self._state.write(_record_name(job.id), _encode(job))

    def _decide(self, job_id: str, end: str) -> bool:
        decision = json.dumps({"state": end, "at": _now(), "by": os.getpid()})
        return self._state.write_new(_end_name(job_id), decision.encode())

    def _read(self, job_id: str) -> Job:
        data = self._state.read(_record_name(job_id)) if _is_job_id(job_id) else None
        if data is None:
            raise JobError(f"there is no job {job_id!r} in {self._state.location}; list_jobs() shows those that are")
        try:
            return _decode(data)
        except (ValueError, KeyError, TypeError):
            return Job(job_id, FAILED, Owner("", "", 0, ""), error="its record is damaged; delete the job")


def _is_job_id(job_id: object) -> bool:
    return isinstance(job_id, str) and len(job_id) == 24 and set(job_id) <= set("0123456789abcdef")


def _record_name(job_id: str) -> str:
    return f"{_FOLDER}/{job_id}.json"


def _end_name(job_id: str) -> str:
    return f"{_FOLDER}/{job_id}.end"


def _encode(job: Job) -> bytes:
    return json.dumps(asdict(job), ensure_ascii=False).encode()


def _decode(data: bytes) -> Job:
    """A job from its record; keys that a later version added are left out."""
    values = {key: value for key, value in json.loads(data).items() if key in Job.__dataclass_fields__}
    return Job(**(values | {"owner": Owner(**values["owner"])}))


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
                raise Cancelled(_ON_REQUEST)

    def commit(self) -> None:
        """Decide that the job completes: from here on it can't be cancelled, and may change the store.

        Raises:
            Cancelled: it was cancelled before that.
        """
        if self._interrupted.is_set():
            raise Cancelled(_BY_INTERRUPT)
        if not self._jobs.claim_completion(self.job_id):
            raise Cancelled(_ON_REQUEST)

    def interrupt(self) -> None:
        """Ask the work to stop at its next step."""
        self._interrupted.set()

    def run(self, work: "Work") -> None:
        """Do the work, one job of this process at a time, and write down how it ended."""
        try:
            with self._heartbeats(), self._turn():
                self._begun = time.monotonic()
                self._update(state=TRAINING, started=_now())
                results = work(self)
            self._end(COMPLETED, results=results, progress=1.0)
        except Cancelled as reason:
            self._end(CANCELLED, error=str(reason))
        except BaseException as error:
            if not isinstance(error, DeepMemoryError):
                _log.exception("training job %s failed", self.job_id)
            self._end(FAILED, error=_one_line(error))

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for the jobs before: a fit uses every core, and two at once would need twice the memory."""
        while not _turn.acquire(timeout=_POLL_SECONDS):
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
            self._update(state=state, finished=_now(), eta_seconds=None, **changes)
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

    def target() -> None:
        try:
            run.run(work)
        finally:
            del _runs[job.id]
            run.left.set()

    threading.Thread(target=target, name=f"deepmemory-job-{job.id}").start()


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
    _turn = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_jobs_of_parent)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, DeepMemoryError) and text else f"{type(error).__name__}: {text}".rstrip(": ")
