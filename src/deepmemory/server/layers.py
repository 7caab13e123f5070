"""Layers, history and a client's own blobs over HTTP."""

import re
from dataclasses import asdict
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Header, Path, Query, Request, Response

from deepmemory.artifacts import LayerArchive, encode_layer
from deepmemory.errors import InputError
from deepmemory.server import replies, schemas
from deepmemory.server.common import ERRORS, Name, Org, dataset_of, known_layer, reply
from deepmemory.server.refusals import Refusal
from deepmemory.server.route import OCTETS, HubRoute, needs

__all__ = ["router"]

router = APIRouter(prefix="/orgs/{org}/datasets/{name}", route_class=HubRoute, responses=ERRORS)

LayerName: TypeAlias = Annotated[str, Path(description="The layer.", examples=["v1"])]
BlobName: TypeAlias = Annotated[str, Path(description="The blob, with its folder.", examples=["ingest/0a1b.json.gz"])]

_BLOB = re.compile(r"ingest/[A-Za-z0-9_][A-Za-z0-9._-]{0,150}")
_BYTES: dict[str, Any] = {"content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}}


@router.get("/layers", tags=["layers"], response_model=replies.LayerList, openapi_extra=needs("read"))
def list_layers(request: Request, org: Org, name: Name) -> Response:
    """List the saved layers, oldest first; also those that did not pass the gate."""
    memory = dataset_of(request, org, name).store.deep_memory
    infos = [asdict(memory.model_info(layer)) for layer in memory.models()]
    return reply({"layers": infos, "active": memory.get_model()})


@router.put(
    "/layers/active",
    tags=["layers"],
    response_model=replies.Active,
    openapi_extra=needs("write", body=schemas.ActiveRequest),
)
def activate_layer(request: Request, org: Org, name: Name) -> Response:
    """Choose the layer that searches use; null for none."""
    asked = schemas.parse(schemas.ActiveRequest, request.state.body)
    dataset = dataset_of(request, org, name)
    dataset.store.deep_memory.set_model(None if asked.layer is None else known_layer(dataset, asked.layer))
    return reply({"active": asked.layer})


@router.post("/layers/rollback", tags=["layers"], response_model=replies.Active, openapi_extra=needs("write"))
def roll_back(request: Request, org: Org, name: Name) -> Response:
    """Make active again what was active before."""
    return reply({"active": dataset_of(request, org, name).store.deep_memory.rollback()})


@router.get("/layers/{layer}", tags=["layers"], response_model=replies.LayerOut, openapi_extra=needs("read"))
def get_layer(request: Request, org: Org, name: Name, layer: LayerName) -> Response:
    """What is known of a saved layer, its training report among it."""
    dataset = dataset_of(request, org, name)
    return reply(asdict(dataset.store.deep_memory.model_info(known_layer(dataset, layer))))


@router.get(
    "/layers/{layer}/file",
    tags=["layers"],
    response_class=Response,
    responses={200: {"description": "The layer in safetensors.", **_BYTES}},
    openapi_extra=needs("read"),
)
def download_layer(request: Request, org: Org, name: Name, layer: LayerName) -> Response:
    """Download a saved layer, which any store with the same embedder can take in."""
    dataset = dataset_of(request, org, name)
    saved = LayerArchive(dataset.store.state).load(known_layer(dataset, layer))
    return Response(encode_layer(saved.layer, saved.info), media_type=OCTETS)


@router.post(
    "/layers",
    tags=["layers"],
    status_code=201,
    response_model=replies.LayerOut,
    openapi_extra=needs("write", media=OCTETS),
)
def import_layer(request: Request, org: Org, name: Name) -> Response:
    """Save a downloaded layer here, under the next free name; it isn't made active."""
    dataset = dataset_of(request, org, name)
    info = LayerArchive(dataset.store.state).import_data(request.state.body, "the layer that was sent")
    return reply(asdict(info), 201)


@router.get("/history", tags=["layers"], response_model=replies.HistoryList, openapi_extra=needs("read"))
def history(request: Request, org: Org, name: Name) -> Response:
    """The queries that were trained on and evaluated, oldest first."""
    entries = [
        {
            "kind": entry.kind,
            "at": entry.at,
            "queries": entry.labelled.queries,
            "relevance": entry.labelled.relevance,
            "made": list(entry.labelled.made),
            "details": dict(entry.details),
        }
        for entry in dataset_of(request, org, name).store.deep_memory.history
    ]
    return reply({"entries": entries})


@router.get("/state", tags=["state"], response_model=replies.BlobList, openapi_extra=needs("read"))
def list_blobs(
    request: Request,
    org: Org,
    name: Name,
    folder: Annotated[str, Query(description="`ingest`, the only one.")] = "ingest",
) -> Response:
    """List what clients keep here about what they have ingested."""
    dataset = dataset_of(request, org, name)
    if folder != "ingest":
        raise InputError(f"clients keep blobs in the folder ingest alone; found {folder[:80]!a}")
    return reply({"blobs": list(dataset.store.state.list(folder))})


@router.get(
    "/state/{blob:path}",
    tags=["state"],
    response_class=Response,
    responses={200: {"description": "Its content.", **_BYTES}},
    openapi_extra=needs("read"),
)
def read_blob(request: Request, org: Org, name: Name, blob: BlobName) -> Response:
    """Read a blob."""
    dataset = dataset_of(request, org, name)
    data = dataset.store.state.read(_checked(blob))
    if data is None:
        raise Refusal(404, "not_found", f"there is no blob {blob} in {dataset.path}")
    return Response(data, media_type=OCTETS)


@router.put("/state/{blob:path}", tags=["state"], status_code=204, openapi_extra=needs("write", media=OCTETS))
def write_blob(
    request: Request,
    org: Org,
    name: Name,
    blob: BlobName,
    if_none_match: Annotated[str | None, Header(description="`*` only where there is none yet.")] = None,
) -> Response:
    """Create or replace a blob; with `If-None-Match: *` of several writers at once exactly one succeeds."""
    dataset = dataset_of(request, org, name)
    if if_none_match not in (None, "*"):
        raise InputError(f"If-None-Match may be * here; found {if_none_match[:80]!a}")
    if if_none_match is None:
        dataset.store.state.write(_checked(blob), request.state.body)
    elif not dataset.store.state.write_new(_checked(blob), request.state.body):
        raise Refusal(412, "conflict", f"there is a blob {blob} in {dataset.path} already")
    return Response(status_code=204)


@router.delete("/state/{blob:path}", tags=["state"], response_model=replies.Removed, openapi_extra=needs("write"))
def delete_blob(request: Request, org: Org, name: Name, blob: BlobName) -> Response:
    """Delete a blob."""
    return reply({"deleted": dataset_of(request, org, name).store.state.delete(_checked(blob))})


def _checked(blob: str) -> str:
    if not _BLOB.fullmatch(blob):
        raise InputError(
            "a blob is named ingest/ and up to 151 letters, digits, '_', '-' and '.', the first of them no dot or "
            f"dash; found {blob[:80]!a}"
        )
    return blob
