"""Training jobs and evaluation over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, TypeAlias, cast

import numpy as np
from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from numpy.typing import NDArray

from deepmemory.data import Relevance, check_labelled, check_vectors
from deepmemory.errors import InputError
from deepmemory.evaluation import TOP_K
from deepmemory.evaluation.wire import encode_evaluation
from deepmemory.jobs import DurableJobStore, Job
from deepmemory.server import replies, schemas
from deepmemory.server.common import (
    ERRORS,
    IdempotencyKey,
    Name,
    Org,
    bounded,
    dataset_of,
    known_layer,
    note_queries,
    own_embedder,
    reply,
)
from deepmemory.server.datasets import Dataset
from deepmemory.server.refusals import Refusal, without_places
from deepmemory.server.route import HubRoute, asker, hub_of, needs

__all__ = ["router"]

router = APIRouter(prefix="/orgs/{org}/datasets/{name}", tags=["training"], route_class=HubRoute, responses=ERRORS)

_INNER = ("owner", "heartbeat")
_WATCH_SECONDS = 0.25
_LOOKED_UP_AT_ONCE = 1_000

JobId: TypeAlias = Annotated[str, Path(description="The job's id.", examples=["0123456789abcdef01234567"])]


@router.post(
    "/jobs", status_code=202, response_model=replies.JobOut, openapi_extra=needs("write", body=schemas.TrainRequest)
)
def train(request: Request, org: Org, name: Name, key: IdempotencyKey = None) -> Response:
    """Start a training. It runs on the hub, goes on after a restart, and changes what searches use only if it helps."""
    hub, body = hub_of(request), request.state.body
    asked = schemas.parse(schemas.TrainRequest, body)
    bounded(len(asked.queries), hub.settings.max_labelled, "queries")
    note_queries(request, asked.queries)
    dataset = dataset_of(request, org, name)
    labelled = check_labelled(asked.queries, asked.relevance, made=asked.made, known_ids=_known_ids(dataset))
    vectors = _vectors(dataset, asked.vectors, len(labelled))
    job_id = hub.registry.promise(
        dataset.name.id, key, b"train\0" + body, DurableJobStore.new_id(), hours=hub.settings.idempotency_hours
    )
    if vectors is not None:
        vectors = vectors[labelled.first_positions]
    job = hub.trainings.submit(
        dataset,
        labelled,
        vectors,
        seed=asked.seed,
        words=asked.words,
        own_embedder=asked.own_embedder,
        job_id=job_id,
    )
    return reply(job_record(job, dataset), 202)


@router.get("/jobs", response_model=replies.JobList, openapi_extra=needs("read"))
def list_jobs(request: Request, org: Org, name: Name) -> Response:
    """List all trainings, oldest first."""
    dataset = dataset_of(request, org, name)
    jobs = hub_of(request).trainings.jobs(dataset).list()
    return reply({"jobs": [job_record(job, dataset) for job in jobs]})


@router.get("/jobs/{id}", response_model=replies.JobOut, openapi_extra=needs("read"))
def get_job(request: Request, org: Org, name: Name, id: JobId) -> Response:
    """A training as it stands."""
    dataset = dataset_of(request, org, name)
    return reply(job_record(_known_job(request, dataset, id), dataset))


@router.post("/jobs/{id}/cancel", response_model=replies.Cancelled, openapi_extra=needs("write"))
def cancel_job(request: Request, org: Org, name: Name, id: JobId) -> Response:
    """Cancel a training; it stops at its next step and leaves nothing. False where it had ended before."""
    dataset = dataset_of(request, org, name)
    _known_job(request, dataset, id)
    return reply({"cancelled": hub_of(request).trainings.cancel(dataset, id)})


@router.delete("/jobs/{id}", response_model=replies.Removed, openapi_extra=needs("write"))
def delete_job(request: Request, org: Org, name: Name, id: JobId) -> Response:
    """Delete the record of a training that has ended; the layer that it saved stays."""
    dataset = dataset_of(request, org, name)
    _known_job(request, dataset, id)
    return reply({"deleted": hub_of(request).trainings.delete(dataset, id)})


def _watched(request: Request, org: Org, name: Name, id: JobId) -> tuple[Dataset, Job]:
    """The job to be watched; what is wrong with the address is said before the stream begins."""
    dataset = dataset_of(request, org, name)
    return dataset, _known_job(request, dataset, id)


@router.get("/jobs/{id}/events", response_class=EventSourceResponse, openapi_extra=needs("read"))
async def watch_job(
    request: Request, watched: Annotated[tuple[Dataset, Job], Depends(_watched)]
) -> AsyncIterator[ServerSentEvent]:
    """Watch a training: an event `job` with the job at each change, until it has ended."""
    dataset, job = watched
    hub = hub_of(request)
    jobs = hub.trainings.jobs(dataset)
    shown: dict[str, Any] = {}
    while True:
        record = job_record(job, dataset)
        if record != shown:
            shown = record
            yield ServerSentEvent(data=record, event="job")
        if job.is_finished or hub.stopping.is_set():
            return
        await asyncio.sleep(_WATCH_SECONDS)
        job = await to_thread.run_sync(jobs.get, job.id)


@router.post("/evaluate", response_model=dict[str, Any], openapi_extra=needs("read", body=schemas.EvaluateRequest))
def evaluate(request: Request, org: Org, name: Name) -> Response:
    """Search the same queries without and with the layer, and compare; every difference with its interval."""
    settings = hub_of(request).settings
    asked = schemas.parse(schemas.EvaluateRequest, request.state.body)
    bounded(len(asked.queries), settings.max_labelled, "queries")
    if any(k > settings.max_k for k in asked.top_k or ()):
        raise InputError(f"top_k goes up to {settings.max_k:,} here; found {max(asked.top_k or ()):,}")
    may_log = asker(request).allows("write")
    if asked.log_queries and not may_log:
        raise Refusal(
            403, "forbidden", "to keep queries in the history needs a token with the scope write: leave out log_queries"
        )
    note_queries(request, asked.queries)
    dataset = dataset_of(request, org, name)
    if asked.model is not None:
        known_layer(dataset, asked.model)
    vectors = _vectors(dataset, asked.vectors, None)
    logs = may_log and asked.log_queries is not False
    evaluation = dataset.store.deep_memory.evaluate(
        cast("Relevance", asked.relevance),
        asked.queries,
        embeddings=vectors,
        top_k=asked.top_k or TOP_K,
        model=asked.model,
        seed=asked.seed,
        qvs_params={**asked.qvs_params, **({} if logs else {"log_queries": False})},
        verbose=False,
    )
    return reply(encode_evaluation(evaluation))


@router.post(
    "/diagnosis", response_model=replies.DiagnosisOut, openapi_extra=needs("read", body=schemas.DiagnoseRequest)
)
def diagnose(request: Request, org: Org, name: Name) -> Response:
    """Look at queries before they train, or after: what is wrong with them, why it matters, and what to do."""
    settings = hub_of(request).settings
    asked = schemas.parse(schemas.DiagnoseRequest, request.state.body)
    bounded(len(asked.queries), settings.max_labelled, "queries")
    bounded(len(asked.test_queries or ()), settings.max_labelled, "test queries")
    note_queries(request, asked.queries)
    dataset = dataset_of(request, org, name)
    diagnosis = dataset.store.deep_memory.diagnose(
        asked.queries,
        cast("Relevance", asked.relevance),
        test_queries=asked.test_queries,
        embeddings=_vectors(dataset, asked.vectors, None),
        test_embeddings=schemas.read_vectors(asked.test_vectors, "test_vectors"),
        seed=asked.seed,
    )
    return reply(diagnosis.as_dict())


def job_record(job: Job, dataset: Dataset) -> dict[str, Any]:
    """A job as replies have it: without what only its runner needs."""
    record = {name: value for name, value in asdict(job).items() if name not in _INNER}
    record["error"] = None if job.error is None else without_places(job.error, dataset.path, dataset.database)
    return record


def _known_job(request: Request, dataset: Dataset, job_id: str) -> Job:
    jobs = hub_of(request).trainings.jobs(dataset)
    found = jobs.find(job_id)
    if found is None:
        raise Refusal(
            404,
            "job",
            f"there is no job {job_id[:80]!r} in {dataset.path}; list_jobs() shows those that are",
            kind="JobError",
        )
    return found


def _known_ids(dataset: Dataset) -> Callable[[Sequence[str]], set[str]]:
    def known(ids: Sequence[str]) -> set[str]:
        parts = (ids[start : start + _LOOKED_UP_AT_ONCE] for start in range(0, len(ids), _LOOKED_UP_AT_ONCE))
        return {document.id for part in parts for document in dataset.store.get(part) if document is not None}

    return known


def _vectors(dataset: Dataset, given: schemas.Vectors | None, n: int | None) -> NDArray[np.float32] | None:
    """The queries' vectors; None where the hub is to make them, and can."""
    vectors = schemas.read_vectors(given)
    if vectors is None:
        own_embedder(dataset, "the queries' vectors")
        return None
    return check_vectors(vectors, n, dataset.store.backend.dimensions, "vectors")
