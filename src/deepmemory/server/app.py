"""The hub as an ASGI application."""

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from deepmemory import __version__
from deepmemory.errors import DeepMemoryError, StorageError
from deepmemory.server import administration, documents, explanations, layers, replies, schemas, training
from deepmemory.server.gate import Gate
from deepmemory.server.hub import Hub
from deepmemory.server.refusals import Refusal, refusal_of

__all__ = ["make_app"]

_ERROR = {"$ref": "#/components/schemas/ErrorReply"}

_DESCRIPTION = """\
Stores for a team: documents with their vectors, search, training jobs that survive restarts, layers and evaluation.

Every request but those under *operations* needs `Authorization: Bearer dm_...`; `deepmemory token create` on the hub's
machine makes the first token. Names of organisations and datasets are 1 to 63 letters, digits, `_` and `-`; capitals
are taken as small letters. Vectors are lists of numbers, or `{"shape": [n, dimensions], "base64": "..."}` with
little-endian float32 values. `x-scope` says which scope an operation needs.
"""


def make_app(hub: Hub) -> ASGIApp:
    """The application that serves a hub."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = hub.settings.threads
        yield

    app = FastAPI(
        title="Deep Memory hub",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
    )
    app.state.hub = hub
    for router in (administration.router, documents.router, explanations.router, training.router, layers.router):
        app.include_router(router, prefix="/v1")
    _add_operations(app, hub)
    _add_handlers(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # as FastAPI says to do it
    return Gate(app, hub)


def _add_operations(app: FastAPI, hub: Hub) -> None:
    @app.get("/health", tags=["operations"], response_model=replies.Alive)
    async def health() -> Response:
        """Whether the process answers."""
        return JSONResponse({"status": "ok", "version": __version__})

    @app.get(
        "/ready", tags=["operations"], response_model=replies.Alive, responses={503: {"model": replies.ErrorReply}}
    )
    def ready() -> Response:
        """Whether it takes requests, and its disk and database answer."""
        hub.registry.check()
        if not hub.folder.datasets.is_dir():
            raise StorageError(f"{hub.folder.datasets} is gone")
        return JSONResponse({"status": "ok", "version": __version__})

    @app.get("/metrics", tags=["operations"], responses={200: {"content": {"text/plain": {}}}})
    def metrics() -> Response:
        """What is counted, in Prometheus's text format."""
        return Response(hub.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_handlers(app: FastAPI) -> None:
    async def refused(_: Request, refusal: Any) -> Response:
        return JSONResponse(refusal.body, refusal.status, refusal.headers)

    async def failed(request: Request, error: Any) -> Response:
        state = request.state
        refusal = refusal_of(error, getattr(state, "dataset", "the dataset"), getattr(state, "database", None))
        if refusal is None:
            raise error
        return JSONResponse(refusal.body, refusal.status, refusal.headers)

    async def invalid(_: Request, error: Any) -> Response:
        problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}." for problem in error.errors()]
        refusal = Refusal(422, "input", " ".join(problems), problems=problems, kind="InputError")
        return JSONResponse(refusal.body, refusal.status)

    async def unknown(request: Request, error: Any) -> Response:
        code, message = "bad_request", str(error.detail)
        if error.status_code == 404:
            code, message = "not_found", "there is nothing at this address; /docs shows what there is"
        elif error.status_code == 405:
            message = f"{request.method} is not possible at this address; /docs shows what is"
        refusal = Refusal(error.status_code, code, message, headers=error.headers)
        return JSONResponse(refusal.body, refusal.status, refusal.headers)

    async def broken(request: Request, _: Any) -> Response:
        # Whoever raised it is told in the log, by the gate, which sees it too.
        id = request.state.request_id
        refusal = Refusal(500, "internal", f"the hub failed; its log says why under the request id {id}")
        return JSONResponse(refusal.body, refusal.status)

    app.add_exception_handler(Exception, broken)
    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(DeepMemoryError, failed)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, unknown)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the bodies that our routes read themselves, and the token."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = document.setdefault("components", {})
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    names = sorted({operation.pop("x-model") for operation in operations if "x-model" in operation})
    _, definitions = models_json_schema(
        [(getattr(schemas, name), "validation") for name in names], ref_template="#/components/schemas/{model}"
    )
    components.setdefault("schemas", {}).update(definitions["$defs"])
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _describe_errors(operation["responses"])
            if path.startswith("/v1"):
                operation["security"] = [{"token": []}]
    _drop_unused(document, re.compile(r"HTTPValidationError|ValidationError"))
    app.openapi_schema = document
    return document


def _describe_errors(responses: dict[str, Any]) -> None:
    """Say that errors are JSON, also where what is sent when all is well isn't."""
    for status, described in responses.items():
        if status >= "400":
            content = described.setdefault("content", {}).pop("application/json", {})
            described["content"] = {"application/json": {**content, "schema": _ERROR}}


def _drop_unused(document: dict[str, Any], names: re.Pattern[str]) -> None:
    """FastAPI describes its own form of a validation error, which is never sent here."""
    kept = document["components"]["schemas"]
    for name in [name for name in kept if names.fullmatch(name)]:
        del kept[name]
