"""Documents over HTTP: add, get, delete, count, search, export."""

import base64
import io
import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypeAlias

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from numpy.typing import NDArray

from deepmemory.backends import Ranking
from deepmemory.data import Document, check_documents, check_vectors
from deepmemory.data.text import text_problem
from deepmemory.errors import CapabilityError, InputError
from deepmemory.retrieval import documents_of, retrieve
from deepmemory.server import replies, schemas
from deepmemory.server.common import (
    ERRORS,
    IdempotencyKey,
    Name,
    Org,
    bounded,
    dataset_of,
    note_queries,
    own_embedder,
    reply,
)
from deepmemory.server.datasets import Dataset
from deepmemory.server.hub import Searches
from deepmemory.server.route import HubRoute, hub_of, needs

__all__ = ["router"]

router = APIRouter(prefix="/orgs/{org}/datasets/{name}", tags=["documents"], route_class=HubRoute, responses=ERRORS)

Result: TypeAlias = dict[str, Any]
"""What the reply says of one query: its hits."""

_ARROW = "application/vnd.apache.arrow.stream"
_LINES = "application/x-ndjson"
_EXPORT_BATCH = 1_024


@router.post("/documents", response_model=replies.Ids, openapi_extra=needs("write", body=schemas.AddRequest))
def add_documents(request: Request, org: Org, name: Name, key: IdempotencyKey = None) -> Response:
    """Add documents, replacing those whose id exists: all of the request or, where it is refused, none."""
    hub, body = hub_of(request), request.state.body
    asked = schemas.parse(schemas.AddRequest, body)
    bounded(len(asked.documents), hub.settings.max_documents, "documents")
    dataset = dataset_of(request, org, name)
    dataset.check_writable("add documents")
    given = [document.id if document.id is not None else uuid.uuid4().hex for document in asked.documents]
    texts = [document.text for document in asked.documents]
    metadatas = [document.metadata for document in asked.documents]
    check_documents(texts, metadatas, given)
    vectors = schemas.read_vectors(asked.vectors)
    if vectors is not None:
        _checked(vectors, len(texts), dataset)
    # Decided before anything is stored, so that a request that is sent again stores the same documents again.
    ids = hub.registry.promise(dataset.name.id, key, b"add\0" + body, given, hours=hub.settings.idempotency_hours)
    documents = check_documents(texts, metadatas, ids)
    if documents:
        if vectors is None:
            made = own_embedder(dataset, "vectors").embed_documents(texts)
            matrix = check_vectors(made, len(texts), _dimensions(dataset), "the vectors made")
        else:
            matrix = _checked(vectors, len(texts), dataset)
        dataset.store.backend.upsert(documents, matrix)
    return reply({"ids": ids})


@router.post(
    "/documents/get", response_model=replies.DocumentsReply, openapi_extra=needs("read", body=schemas.GetRequest)
)
def get_documents(request: Request, org: Org, name: Name) -> Response:
    """Fetch documents by id, in the order asked; null where there is none, or where it doesn't pass the filter."""
    asked = schemas.parse(schemas.GetRequest, request.state.body)
    bounded(len(asked.ids), hub_of(request).settings.max_ids, "ids")
    backend = dataset_of(request, org, name).store.backend
    found: dict[str, Any] = {}
    vectors = backend.get_vectors(asked.ids, filter=asked.filter) if asked.vectors or asked.filter else {}
    if asked.documents or not asked.vectors:
        wanted = [id for id in asked.ids if id in vectors] if asked.filter else asked.ids
        known = {document.id: document for document in backend.get(wanted) if document is not None}
        found["documents"] = [_shown(known.get(id), whole=asked.documents) for id in asked.ids]
    if asked.vectors:
        ids = list(vectors)
        values = np.stack([vectors[id] for id in ids]) if ids else np.empty((0, backend.dimensions or 0), np.float32)
        found["vectors"] = {"ids": ids, "values": schemas.pack_vectors(values)}
    return reply(found)


@router.post(
    "/documents/delete", response_model=replies.Deleted, openapi_extra=needs("write", body=schemas.DeleteRequest)
)
def delete_documents(request: Request, org: Org, name: Name) -> Response:
    """Delete documents by ids, by a filter, by both (ids that pass the filter), or all of them."""
    asked = schemas.parse(schemas.DeleteRequest, request.state.body)
    bounded(len(asked.ids or ()), hub_of(request).settings.max_ids, "ids")
    dataset = dataset_of(request, org, name)
    dataset.check_writable("delete documents")
    store = dataset.store
    if not asked.all and asked.ids is None and not asked.filter:
        raise InputError("say what to delete: ids, a filter with a key in it, or all")
    if asked.all and (asked.ids is not None or asked.filter is not None):
        raise InputError("all deletes everything: give it alone, or give ids or a filter")
    return reply({"deleted": store.delete(asked.ids, asked.filter, asked.all)})


@router.post(
    "/documents/count",
    response_model=replies.Count,
    openapi_extra=needs("read", body=schemas.CountRequest, optional=True),
)
def count_documents(request: Request, org: Org, name: Name) -> Response:
    """Count documents, or those that pass a filter."""
    asked = schemas.parse(schemas.CountRequest, request.state.body, empty=True)
    return reply({"count": dataset_of(request, org, name).store.count(asked.filter)})


@router.post(
    "/search",
    response_model=replies.SearchReply,
    response_model_exclude_unset=True,
    openapi_extra=needs("read", body=schemas.SearchRequest),
)
def search(request: Request, org: Org, name: Name) -> Response:
    """Find the documents that answer each of several queries, given as texts, or as vectors."""
    asked = schemas.parse(schemas.SearchRequest, request.state.body)
    settings = hub_of(request).settings
    bounded(len(asked.queries or ()), settings.max_queries, "queries")
    if asked.k > settings.max_k:
        raise InputError(f"k is at most {settings.max_k:,} here; found {asked.k:,}")
    note_queries(request, asked.queries)
    dataset = dataset_of(request, org, name)
    if asked.mode == "words":
        layer, results = None, _by_words(dataset, asked)
    else:
        vectors = schemas.read_vectors(asked.vectors)
        bounded(0 if vectors is None else len(vectors), settings.max_queries, "queries")
        layer, results = _by_vectors(hub_of(request).searches, dataset, asked, vectors)
    return reply({"layer": layer, "results": results})


def _by_words(dataset: Dataset, asked: schemas.SearchRequest) -> Sequence[Result]:
    if asked.deep_memory:
        raise CapabilityError(
            "Deep Memory moves a query's vector, and mode='words' uses none: leave out deep_memory=True or the mode"
        )
    if asked.vectors is not None:
        raise InputError("mode='words' uses no vectors: leave out the vectors or the mode")
    rankings = dataset.store.backend.search_text(_queries(asked.queries), asked.k, filter=asked.filter)
    return _results(dataset, rankings, documents=asked.documents)


def _by_vectors(
    searches: Searches, dataset: Dataset, asked: schemas.SearchRequest, given: Any
) -> tuple[str | None, Sequence[Result]]:
    store = dataset.store
    if given is None:
        queries = _queries(asked.queries)
        embedder = own_embedder(dataset, "the queries' vectors")
        vectors: NDArray[np.float32] = embedder.embed_queries(queries) if queries else np.empty((0, 0), np.float32)
    else:
        vectors = _checked(given, None if asked.queries is None else len(asked.queries), dataset)
    name = None if asked.deep_memory is False else store.deep_memory.get_model()
    layer = None if name is None else store.deep_memory.layer
    if not len(vectors):
        return name, []
    distance = asked.distance or store.distance

    def work(together: Sequence[tuple[NDArray[np.float32], str]]) -> Sequence[Result]:
        found = retrieve(
            store.backend,
            np.stack([vector for vector, _ in together]),
            asked.k,
            layer=layer,
            texts=None if asked.queries is None else [text for _, text in together],
            distance=distance,
            filter=asked.filter,
        )
        return _results(dataset, found, documents=asked.documents)

    # requests without texts are worked out apart from those with them
    texts = asked.queries or [""] * len(vectors)
    options = (asked.k, distance, asked.documents, json.dumps(asked.filter, sort_keys=True), asked.queries is None)
    return name, searches.do((id(dataset), name, *options), list(zip(vectors, texts, strict=True)), work)


def _results(dataset: Dataset, rankings: list[Ranking], *, documents: bool) -> list[Result]:
    if not documents:
        return [
            {"hits": [{"id": id, "score": float(score)} for id, score in zip(ranking.ids, ranking.scores, strict=True)]}
            for ranking in rankings
        ]
    known = documents_of(dataset.store.backend, rankings)
    return [
        {
            "hits": [
                {"id": id, "score": float(score), "text": known[id].text, "metadata": dict(known[id].metadata)}
                for id, score in zip(ranking.ids, ranking.scores, strict=True)
                if id in known  # one that another deleted between search and fetch is no hit any more
            ]
        }
        for ranking in rankings
    ]


def _queries(queries: list[str] | None) -> list[str]:
    if queries is None:
        raise InputError("send queries, or their vectors; found neither")
    problems = [
        f"queries[{row}]: the query {said}." for row, query in enumerate(queries) if (said := text_problem(query))
    ]
    if problems:
        raise InputError(problems)
    return queries


def _checked(vectors: Any, n: int | None, dataset: Dataset) -> NDArray[np.float32]:
    if n in (None, 0) and len(vectors) == 0:
        return np.empty((0, _dimensions(dataset) or 0), np.float32)
    return check_vectors(vectors, n, _dimensions(dataset), "vectors", zeros=True)


def _dimensions(dataset: Dataset) -> int | None:
    """Length that vectors must have; None while any will do."""
    fingerprint = dataset.record.fingerprint
    return dataset.store.backend.dimensions or (fingerprint.dimensions if fingerprint else None)


def _shown(document: Document | None, *, whole: bool) -> dict[str, Any] | None:
    if document is None:
        return None
    if not whole:
        return {"id": document.id}
    return {"id": document.id, "text": document.text, "metadata": dict(document.metadata)}


@router.get(
    "/export",
    openapi_extra=needs("read"),
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "All documents, as they were when the export began.",
            "content": {
                _ARROW: {"schema": {"type": "string", "format": "binary"}},
                _LINES: {"schema": {"type": "string"}},
            },
        }
    },
)
def export(
    request: Request,
    org: Org,
    name: Name,
    text: Annotated[bool, Query(description="With texts and metadata.")] = True,
    vectors: Annotated[bool, Query(description="With vectors.")] = True,
) -> StreamingResponse:
    """Read the whole dataset as a stream: Arrow's by default, JSON lines with `Accept: application/x-ndjson`."""
    backend = dataset_of(request, org, name).store.backend
    batches = backend.batches(batch_size=_EXPORT_BATCH, text=text)
    columns = ["id", *(["vector"] if vectors else []), *(["text", "metadata"] if text else [])]
    if _LINES in request.headers.get("accept", ""):
        return StreamingResponse(_lines(batches, columns), media_type=_LINES)
    return StreamingResponse(_arrow(batches, columns, backend.dimensions or 0), media_type=_ARROW)


def _arrow(batches: Iterator[pa.RecordBatch], columns: list[str], dimensions: int) -> Iterator[bytes]:
    kinds = {
        "id": pa.string(),
        "vector": pa.list_(pa.float32(), dimensions),
        "text": pa.string(),
        "metadata": pa.string(),
    }
    schema = pa.schema([(column, kinds[column]) for column in columns])
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(pa.RecordBatch.from_arrays([batch.column(name) for name in columns], schema=schema))
            yield _taken(sink)
    yield _taken(sink)


def _taken(sink: io.BytesIO) -> bytes:
    """What was written since it was last taken."""
    data = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return data


def _lines(batches: Iterator[pa.RecordBatch], columns: list[str]) -> Iterator[bytes]:
    for batch in batches:
        taken = {name: batch.column(name).to_pylist() for name in columns if name != "vector"}
        if "vector" in columns:
            flat = batch.column("vector").flatten().to_numpy(zero_copy_only=False).astype("<f4")
            taken["vector"] = list(flat.reshape(batch.num_rows, -1))
        for row in range(batch.num_rows):
            yield (json.dumps({name: _line_value(name, taken[name][row]) for name in columns}) + "\n").encode()


def _line_value(column: str, value: Any) -> Any:
    if column == "metadata":
        return json.loads(value) if value else {}
    return base64.b64encode(value.tobytes()).decode() if column == "vector" else value


@router.post("/embed", response_model=replies.EmbedReply, openapi_extra=needs("read", body=schemas.EmbedRequest))
def embed(request: Request, org: Org, name: Name) -> Response:
    """Make vectors of texts, as the dataset's own embedder makes them; where `embeds` is true."""
    asked = schemas.parse(schemas.EmbedRequest, request.state.body)
    bounded(len(asked.texts), hub_of(request).settings.max_documents, "texts")
    dataset = dataset_of(request, org, name)
    embedder = own_embedder(dataset, "vectors wherever you would send texts")
    make = embedder.embed_documents if asked.kind == "documents" else embedder.embed_queries
    return reply({"vectors": schemas.pack_vectors(make(_queries(asked.texts)))})


@router.post("/optimize", status_code=204, openapi_extra=needs("write"))
def optimize(request: Request, org: Org, name: Name) -> Response:
    """Let the engine compact, and index what is not indexed yet; never needed for correct results."""
    dataset = dataset_of(request, org, name)
    dataset.check_writable("optimize")
    dataset.store.optimize()
    return Response(status_code=204)
