"""What a layer changed in one ranking, over HTTP."""

from fastapi import APIRouter, Request, Response

from deepmemory.errors import InputError
from deepmemory.server import replies, schemas
from deepmemory.server.common import ERRORS, Name, Org, bounded, dataset_of, note_queries, own_embedder, reply
from deepmemory.server.route import HubRoute, hub_of, needs

__all__ = ["router"]

router = APIRouter(prefix="/orgs/{org}/datasets/{name}", tags=["documents"], route_class=HubRoute, responses=ERRORS)


@router.post(
    "/explain", response_model=replies.ExplanationOut, openapi_extra=needs("read", body=schemas.ExplainRequest)
)
def explain(request: Request, org: Org, name: Name) -> Response:
    """Search, and say what the active layer changed: ranks, the parts of each score, the training queries behind it."""
    asked = schemas.parse(schemas.ExplainRequest, request.state.body)
    settings = hub_of(request).settings
    if asked.k > settings.max_k:
        raise InputError(f"k is at most {settings.max_k:,} here; found {asked.k:,}")
    note_queries(request, None if asked.query is None else [asked.query])
    dataset = dataset_of(request, org, name)
    vectors = schemas.read_vectors(asked.vectors)
    if vectors is None:
        if asked.query is None:
            raise InputError("send a query, or its vector as vectors; found neither")
        own_embedder(dataset, "the query's vector as vectors")
    else:
        bounded(len(vectors), 1, "vectors")
    explanation = dataset.store.explain(asked.query, asked.k, filter=asked.filter, embedding=vectors)
    return reply(explanation.as_dict())
