"""Who asks, tokens and datasets over HTTP."""

import contextlib
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from deepmemory.errors import NotAStoreError
from deepmemory.server import replies, schemas
from deepmemory.server.common import ERRORS, Name, Org, check_org, dataset_of, reply
from deepmemory.server.datasets import LOCAL, GivenEmbedder
from deepmemory.server.refusals import not_found
from deepmemory.server.registry import check_name
from deepmemory.server.route import HubRoute, asker, hub_of, needs

__all__ = ["router"]

router = APIRouter(route_class=HubRoute, responses=ERRORS)

_MOST = 200


@router.get("/me", tags=["tokens"], response_model=replies.Me, openapi_extra=needs("read"))
def me(request: Request) -> Response:
    """Whose token it is."""
    token = asker(request)
    return reply({"org": token.org, "scope": token.scope, "token": token.as_dict()})


@router.get("/orgs/{org}/tokens", tags=["tokens"], response_model=replies.TokenList, openapi_extra=needs("admin"))
def list_tokens(request: Request, org: Org) -> Response:
    """List the organisation's tokens, without their secrets."""
    org = check_org(request, org)
    return reply({"tokens": [token.as_dict() for token in hub_of(request).registry.tokens(org)]})


@router.post(
    "/orgs/{org}/tokens",
    tags=["tokens"],
    status_code=201,
    response_model=replies.NewToken,
    openapi_extra=needs("admin", body=schemas.TokenRequest),
)
def create_token(request: Request, org: Org) -> Response:
    """Make a token. Its secret is in this reply, and nowhere else."""
    asked = schemas.parse(schemas.TokenRequest, request.state.body)
    org = check_org(request, org)
    secret, token = hub_of(request).registry.create_token(org, asked.scope, asked.name, asked.expires_in_days)
    return reply({**token.as_dict(), "secret": secret}, 201)


@router.delete("/orgs/{org}/tokens/{id}", tags=["tokens"], status_code=204, openapi_extra=needs("admin"))
def revoke_token(request: Request, org: Org, id: Annotated[str, Path(description="The token's id.")]) -> Response:
    """Revoke a token, at once; it stays in the list."""
    org = check_org(request, org)
    if not hub_of(request).registry.revoke_token(id, org):
        raise not_found(f"token {id[:40]!r}")
    return Response(status_code=204)


@router.get("/orgs/{org}/datasets", tags=["datasets"], response_model=replies.DatasetList, openapi_extra=needs("read"))
def list_datasets(
    request: Request,
    org: Org,
    limit: Annotated[int, Query(ge=1, le=_MOST, description="At most so many.")] = 50,
    cursor: Annotated[str, Query(max_length=63, description="As the reply before has it as `next`.")] = "",
) -> Response:
    """List the organisation's datasets by name."""
    org, hub = check_org(request, org), hub_of(request)
    found = hub.registry.list_datasets(org, cursor, limit + 1)
    rows = []
    for name in found[:limit]:
        with contextlib.suppress(NotAStoreError):  # deleted at this moment
            rows.append(hub.datasets.row(name))
    return reply({"datasets": rows, "next": found[limit - 1].name if len(found) > limit else None})


@router.put(
    "/orgs/{org}/datasets/{name}",
    tags=["datasets"],
    response_model=replies.DatasetRecord,
    responses={201: {"model": replies.DatasetRecord, "description": "It was made."}},
    openapi_extra=needs("write", body=schemas.DatasetRequest, optional=True),
)
def create_dataset(request: Request, org: Org, name: Name) -> Response:
    """Make a dataset; one that is there and agrees stays as it is."""
    asked = schemas.parse(schemas.DatasetRequest, request.state.body, empty=True)
    dataset, is_new = hub_of(request).datasets.create(
        asker(request).org,
        org,
        name,
        asked.distance,
        _given(asked),
        any_embedder="embedder" not in asked.model_fields_set,
    )
    return reply(dataset.as_dict(), 201 if is_new else 200)


@router.get(
    "/orgs/{org}/datasets/{name}", tags=["datasets"], response_model=replies.DatasetRecord, openapi_extra=needs("read")
)
def get_dataset(request: Request, org: Org, name: Name) -> Response:
    """All that is known of a dataset."""
    return reply(dataset_of(request, org, name).as_dict())


@router.patch(
    "/orgs/{org}/datasets/{name}",
    tags=["datasets"],
    response_model=replies.DatasetRecord,
    openapi_extra=needs("write", body=schemas.PinRequest),
)
def pin_embedder(request: Request, org: Org, name: Name) -> Response:
    """Put on record which embedder fills a dataset, the first time that it embedded something."""
    asked = schemas.parse(schemas.PinRequest, request.state.body)
    record, dataset = asked.embedder, dataset_of(request, org, name)
    given = GivenEmbedder(record.name, record.spec, record.fingerprint)
    return reply(hub_of(request).datasets.pin(dataset, given).as_dict())


@router.delete("/orgs/{org}/datasets/{name}", tags=["datasets"], status_code=204, openapi_extra=needs("admin"))
def delete_dataset(request: Request, org: Org, name: Name) -> Response:
    """Delete a dataset with everything in it; one that is not there is fine, too."""
    hub = hub_of(request)
    found = hub.registry.find_dataset(asker(request).org, check_org(request, org), check_name(name, "a dataset"))
    if found is not None:
        hub.trainings.forget(found)
        hub.datasets.remove(found)
    return Response(status_code=204)


@router.post(
    "/orgs/{org}/datasets/{name}/clear",
    tags=["datasets"],
    response_model=replies.DatasetRecord,
    openapi_extra=needs("write", body=schemas.ClearRequest, optional=True),
)
def clear_dataset(request: Request, org: Org, name: Name) -> Response:
    """Remove documents, layers, jobs and history. The record stays, unless the body says what it is to be."""
    asked = schemas.parse(schemas.ClearRequest, request.state.body, empty=True)
    hub, dataset = hub_of(request), dataset_of(request, org, name)
    record = None if asked.record is None else (asked.record.distance, _given(asked.record))
    dataset.check_is_own("remove everything")
    hub.trainings.forget(dataset.name)
    return reply(hub.datasets.clear(dataset, record).as_dict())


def _given(asked: schemas.DatasetRequest) -> GivenEmbedder | None:
    """The embedder that a new dataset gets: the local one where nothing is said, as in a store of one's own."""
    if "embedder" not in asked.model_fields_set:
        return LOCAL
    record = asked.embedder
    return None if record is None else GivenEmbedder(record.name, record.spec, record.fingerprint)
