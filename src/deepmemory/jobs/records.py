"""What is written down about a job, by whom, and what is decided between processes."""

import contextlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from deepmemory.errors import JobError
from deepmemory.jobs.owner import Owner
from deepmemory.state import State

__all__ = [
    "CANCELLED",
    "COMPLETED",
    "FAILED",
    "FINISHED",
    "ON_REQUEST",
    "PENDING",
    "TRAINING",
    "Job",
    "JobStore",
    "encode",
    "last_name",
    "running_here",
    "utc_now",
]

PENDING = "pending"
TRAINING = "training"
COMPLETED = "completed"
FAILED = "failed"
CANCELLED = "cancelled"
FINISHED = frozenset({COMPLETED, FAILED, CANCELLED})
ON_REQUEST = "cancelled on request"

_FOLDER = "jobs"
_POLL_SECONDS = 0.2

running_here: set[str] = set()
"""Ids of the jobs that this process works on; a job of this process that is not among them has ended."""


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


def utc_now() -> str:
    """The time as records have it, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat()


class JobStore:
    """The job records of one store."""

    def __init__(self, state: State) -> None:
        self._state = state

    @property
    def poll_seconds(self) -> float:
        """How often a record is worth looking at."""
        return max(_POLL_SECONDS, self._state.poll_seconds)

    def create(self, details: Mapping[str, Any], job_id: str | None = None) -> Job:
        """Add a pending job that this process will run (see `start`).

        Args:
            details: what it is asked to do.
            job_id: one that `new_id` gave, and that no job has; drawn by default.
        """
        while True:
            job = Job(
                job_id or self.new_id(),
                PENDING,
                Owner.this_process(),
                details=details,
                created=utc_now(),
                heartbeat=time.time(),
            )
            if self._state.write_new(_record_name(job.id), encode(job)):
                return job

    @staticmethod
    def new_id() -> str:
        """An id that no job has."""
        return secrets.token_hex(12)

    def get(self, job_id: str) -> Job:
        """The job as it stands: cancelled at once when that was asked, failed when its process has ended.

        Raises:
            JobError: there is no such job.
        """
        job = self._read(job_id)
        if job.is_finished:
            return job
        if self.is_cancelled(job_id):
            return replace(job, state=CANCELLED, eta_seconds=None, error=ON_REQUEST)
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

    def find(self, job_id: str) -> Job | None:
        """The job as `get` has it; None where there is none."""
        try:
            return self.get(job_id)
        except JobError:
            return None

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
        for name in (_end_name(job_id), last_name(job_id)):
            self._state.delete(name)
        return deleted

    def is_running(self, job: Job) -> bool:
        """Whether the process that owns an unfinished job still works on it."""
        if job.owner == Owner.this_process():
            return job.id in running_here
        return job.owner.is_running(job.heartbeat)

    def is_cancelled(self, job_id: str) -> bool:
        """Whether it was decided that the job is cancelled."""
        return self._decided(job_id) == CANCELLED

    def is_completing(self, job_id: str) -> bool:
        """Whether it was decided that the job completes."""
        return self._decided(job_id) == COMPLETED

    def claim_completion(self, job_id: str) -> bool:
        """Decide that the job completes; False when it was cancelled before that."""
        return self._decide(job_id, COMPLETED)

    def write(self, job: Job) -> None:
        """Replace a job's record; for the process that owns it alone."""
        self._state.write(_record_name(job.id), encode(job))

    def _decide(self, job_id: str, end: str) -> bool:
        decision = json.dumps({"state": end, "at": utc_now(), "by": os.getpid()})
        return self._state.write_new(_end_name(job_id), decision.encode())

    def _decided(self, job_id: str) -> str | None:
        decision = self._state.read(_end_name(job_id))
        return None if decision is None else str(json.loads(decision)["state"])

    def _read(self, job_id: str) -> Job:
        data = self._state.read(_record_name(job_id)) if _is_job_id(job_id) else None
        if data is None:
            raise JobError(f"there is no job {job_id!r} in {self._state.location}; list_jobs() shows those that are")
        try:
            job = _decode(data)
            last = None if job.is_finished else self._state.read(last_name(job_id))
            # Whoever wrote another record after the last one did not know that the job had ended.
            return job if last is None else _decode(last)
        except (ValueError, KeyError, TypeError):
            return Job(job_id, FAILED, Owner("", "", 0, ""), error="its record is damaged; delete the job")


def _is_job_id(job_id: object) -> bool:
    return isinstance(job_id, str) and len(job_id) == 24 and set(job_id) <= set("0123456789abcdef")


def _record_name(job_id: str) -> str:
    return f"{_FOLDER}/{job_id}.json"


def _end_name(job_id: str) -> str:
    return f"{_FOLDER}/{job_id}.end"


def last_name(job_id: str) -> str:
    """The blob with the last record of a job that several processes may write to, which only the first can create."""
    return f"{_FOLDER}/{job_id}.last"


def encode(job: Job) -> bytes:
    """A job's record."""
    return json.dumps(asdict(job), ensure_ascii=False).encode()


def _decode(data: bytes) -> Job:
    """A job from its record; keys that a later version added are left out."""
    values = {key: value for key, value in json.loads(data).items() if key in Job.__dataclass_fields__}
    return Job(**(values | {"owner": Owner(**values["owner"])}))
