"""The training jobs of a dataset on a hub: asked, and followed while they run."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from deepmemory.errors import HubError, HubUnavailableError, JobError
from deepmemory.hub.connection import Effect, HubConnection
from deepmemory.jobs import Job, Owner

__all__ = ["HubJobs"]

_EVENTS = "text/event-stream"
_SILENT_SECONDS = 30.0
"""A stream of events that says nothing, not even that it is alive, for this long is given up."""

_POLL_SECONDS = 0.5
_AWAY_SECONDS = 120.0
"""A hub that can't be reached for this long while a job is followed is given up; a restart is shorter."""

_FIELDS = ("state", "progress", "stage", "eta_seconds", "details", "results", "error", "created", "started", "finished")


class HubJobs:
    """The jobs of one dataset."""

    def __init__(self, connection: HubConnection) -> None:
        """Take the jobs of the dataset that a connection is to."""
        self._connection = connection

    def get(self, job_id: str) -> Job:
        """A job as it stands.

        Raises:
            JobError: there is none of that id.
        """
        return self._read(self._connection.call("GET", self.where(job_id), effect=Effect.NONE))

    def all(self) -> list[Job]:
        """All jobs, oldest first."""
        reply = self._connection.call("GET", "/jobs", effect=Effect.NONE)
        with self._connection.understood("jobs"):
            values = list(reply["jobs"])
        return sorted(map(self._read, values), key=lambda job: (job.created, job.id))

    def cancel(self, job_id: str) -> bool:
        """Cancel a job; False where it had ended before."""
        reply = self._connection.call("POST", f"{self.where(job_id)}/cancel", effect=Effect.ONCE)
        with self._connection.understood("a cancellation"):
            return bool(reply["cancelled"])

    def delete(self, job_id: str) -> bool:
        """Delete the record of a job that has ended."""
        reply = self._connection.call("DELETE", self.where(job_id), effect=Effect.ONCE)
        with self._connection.understood("a deletion"):
            return bool(reply["deleted"])

    def follow(self, job_id: str, deadline: float | None = None) -> Iterator[Job]:
        """A job at each change, until it has ended.

        The hub's stream of events tells of changes as they happen; where it breaks off, or something in between holds
        it back, the job is asked for again and again instead. A hub that restarts meanwhile is waited for.

        Args:
            job_id: of the job.
            deadline: in `time.monotonic`, when to stop.

        Raises:
            JobError: there is none of that id.
            HubUnavailableError: the hub can't be reached for long; the job may go on.
        """
        job = self.get(job_id)
        yield job
        if not job.is_finished:
            for job in self._told(job_id, deadline):
                yield job
        while not job.is_finished and not _is_past(deadline):
            time.sleep(_POLL_SECONDS)
            job = self._asked_for_long(job_id, deadline)
            yield job

    def where(self, job_id: str) -> str:
        """The place of a job below the dataset.

        Raises:
            JobError: no job has such an id.
        """
        return f"/jobs/{_checked(job_id, self._connection.path)}"

    def _told(self, job_id: str, deadline: float | None) -> Iterator[Job]:
        left = _SILENT_SECONDS if deadline is None else min(_SILENT_SECONDS, max(0.01, deadline - time.monotonic()))
        try:
            with self._connection.stream(f"{self.where(job_id)}/events", accept=_EVENTS, seconds=left) as response:
                for data in _events(response.iter_lines()):
                    if data is not None:
                        with self._connection.understood("a job"):
                            values = json.loads(data)
                        yield self._read(values)
                    if _is_past(deadline):
                        return
        except HubError:
            return  # asking says why, or that it was for a moment

    def _asked_for_long(self, job_id: str, deadline: float | None) -> Job:
        until = time.monotonic() + _AWAY_SECONDS
        if deadline is not None:
            until = min(until, deadline)
        while True:
            try:
                return self.get(job_id)
            except HubUnavailableError as error:
                if time.monotonic() >= until:
                    error.add_note(f"The job {job_id} may go on there: ask for its status once the hub is back.")
                    raise
            time.sleep(_POLL_SECONDS)

    def _read(self, values: Mapping[str, Any]) -> Job:
        with self._connection.understood("a job"):
            # Which of its processes runs it is the hub's own matter.
            owner = Owner(self._connection.address.url, "", 0, "")
            return Job(id=str(values["id"]), owner=owner, **{name: values[name] for name in _FIELDS})


def _checked(job_id: object, path: str) -> str:
    if not isinstance(job_id, str) or not job_id.isascii() or not job_id.replace("-", "").isalnum():
        raise JobError(f"there is no job {job_id!r} in {path}; list_jobs() shows those that are")
    return job_id


def _events(lines: Iterator[str]) -> Iterator[str | None]:
    """The data of each event of a stream of server-sent events; None for a comment, which only says "alive"."""
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif line.startswith(":"):
            yield None
        elif not line and data:
            yield "\n".join(data)
            data = []


def _is_past(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
