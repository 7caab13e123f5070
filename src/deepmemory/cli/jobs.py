"""``deepmemory status``, ``jobs`` and ``cancel``: training jobs, also those of other processes."""

from typing import TYPE_CHECKING, Annotated

import typer

from deepmemory.cli.opening import open_store
from deepmemory.cli.options import DEFAULT_STORE, Json, StorePath
from deepmemory.cli.output import print_json
from deepmemory.cli.records import job_record
from deepmemory.errors import JobError

if TYPE_CHECKING:
    from deepmemory.jobs import Job
    from deepmemory.store import VectorStore

__all__ = ["cancel", "jobs", "status"]

JobId = Annotated[str | None, typer.Argument(metavar="JOB", hidden=True)]


def status(job: JobId = None, store: StorePath = DEFAULT_STORE, as_json: Json = False) -> None:
    """Show a training job: its progress and what it found.

    JOB is its id, or the beginning of it; by default the newest.
    """
    with open_store(store, read_only=True) as opened:
        found = _find(opened, job)
    if as_json:
        print_json(job_record(found))
        return
    from deepmemory.memory import status_table

    typer.echo(status_table(found))


def jobs(
    details: Annotated[
        bool, typer.Option("--details", help="Also when each was made, its layer and its error.")
    ] = False,
    store: StorePath = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """List the training jobs, oldest first."""
    with open_store(store, read_only=True) as opened:
        found = opened.deep_memory.list_jobs(verbose=False)
    if as_json:
        print_json([job_record(job) for job in found])
        return
    from deepmemory.memory import jobs_table

    typer.echo(jobs_table(found, debug=details))


def cancel(job: JobId = None, store: StorePath = DEFAULT_STORE, as_json: Json = False) -> None:
    """Cancel a training job, whichever process runs it.

    JOB is its id, or the beginning of it; by default the newest.
    """
    with open_store(store) as opened:
        found = _find(opened, job)
        if not opened.deep_memory.cancel(found.id):
            raise JobError(f"job {found.id} has ended already ({found.state}): there is nothing to cancel")
    if as_json:
        print_json({"id": found.id, "cancelled": True})
    else:
        typer.echo(f"Job {found.id} is cancelled.")


def _find(store: "VectorStore", beginning: str | None) -> "Job":
    """The one job whose id begins so; the newest where nothing is said."""
    all_jobs = store.deep_memory.list_jobs(verbose=False)
    if not all_jobs:
        raise JobError(f"there are no training jobs in {store.path}; start one: deepmemory train --queries FILE")
    if beginning is None:
        return all_jobs[-1]
    found = [job for job in all_jobs if job.id.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    raise JobError(
        f"{len(found) or 'no'} job{'s begin' if found else ' begins'} with {beginning!r}; 'deepmemory jobs' lists them"
    )
