"""Jobs as the tables that the original printed."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deepmemory.jobs import COMPLETED, PENDING, TRAINING, Job

__all__ = ["NO_JOBS", "jobs_table", "status_table"]

NO_JOBS = "No Deep Memory training jobs were found for this dataset"

_INNER = 60
_LEFT, _RIGHT = 27, 30
_LINE = "-" * (_INNER + 2)
_HALF_OF_LAST_DIGIT = 0.00005


def status_table(job: Job) -> str:
    """One job, in the original's layout."""
    rows = [("status", [job.state]), ("progress", list(_progress(job))), ("results", list(_results(job)))]
    lines = [_LINE, f"|{job.id:^{_INNER}}|", _LINE]
    for name, values in rows:
        wrapped = [line for value in values for line in textwrap.wrap(value, _RIGHT - 1)] or [""]
        lines += [
            f"| {label:<{_LEFT}}| {value:<{_RIGHT}}|"
            for label, value in zip([name] + [""] * (len(wrapped) - 1), wrapped, strict=True)
        ]
        lines.append(_LINE)
    return "\n".join(lines)


def jobs_table(jobs: Sequence[Job], *, debug: bool = False) -> str:
    """All jobs as columns; `NO_JOBS` where there are none.

    Args:
        jobs: in the order of the rows.
        debug: adds when each was created, its layer, and its error in full.
    """
    if not jobs:
        return NO_JOBS
    header = ["ID", "STATUS", "RESULTS", "PROGRESS"] + (["CREATED", "LAYER", "ERROR"] if debug else [])
    rows = [header, *([*_cells(job), *_debug_cells(job)] if debug else _cells(job) for job in jobs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _cells(job: Job) -> list[str]:
    results = next(_results(job), "")
    return [job.id, job.state, results, next(_progress(job), "")]


def _debug_cells(job: Job) -> list[str]:
    return [job.created[:19].replace("T", " "), str((job.results or {}).get("layer", "")), job.error or ""]


def _progress(job: Job) -> Iterator[str]:
    if job.state == PENDING:
        yield "waiting for its turn"
    elif job.state == TRAINING:
        yield f"eta: {job.eta_seconds:.1f} seconds" if job.eta_seconds is not None else "eta: not known yet"
        yield f"{job.stage or 'starting'}: {job.progress:.0%}"
    elif job.state == COMPLETED:
        yield "eta: 0.0 seconds"
        yield from _lifts(job.results or {})
    else:
        yield job.error or "stopped"


def _results(job: Job) -> Iterator[str]:
    if job.state != COMPLETED or job.results is None:
        yield "not available"
        return
    yield from _lifts(job.results)
    if not job.results.get("active"):
        yield f"layer off: {job.results.get('reason', '')}"


def _lifts(results: Mapping[str, Any]) -> Iterator[str]:
    """Held-out recall@10, and whatever else was measured and fell: a gain never hides a loss."""
    baseline, trained = results.get("baseline") or {}, results.get("trained") or {}
    for metric in trained:
        lift = trained[metric] - baseline[metric]
        if metric == "recall@10" or lift < -_HALF_OF_LAST_DIGIT:
            yield f"{metric}: {100 * trained[metric]:.2f}% ({100 * lift:+.2f}%)"
