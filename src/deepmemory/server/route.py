"""A route of the hub: who asks is known, and allowed, before anything of the request is read."""

from collections.abc import Callable, Coroutine
from typing import Any

import anyio
from anyio import CapacityLimiter, to_thread
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from deepmemory.server.hub import Hub
from deepmemory.server.refusals import Refusal
from deepmemory.server.registry import Scope, Token

__all__ = ["JSON", "OCTETS", "HubRoute", "asker", "hub_of", "needs"]

JSON = "application/json"
OCTETS = "application/octet-stream"

_LOOKUPS = 8
_lookups: dict[int, CapacityLimiter] = {}


def needs(scope: Scope, *, body: type[Any] | None = None, media: str = JSON, optional: bool = False) -> dict[str, Any]:
    """What a route asks of a request, as an addition to its OpenAPI description.

    Args:
        scope: that the token must have.
        body: the model of its body; None for none, or for one that is no JSON.
        media: of its body.
        optional: whether the body may be left out.
    """
    extra: dict[str, Any] = {"x-scope": scope}
    if body is not None:
        schema = {"$ref": f"#/components/schemas/{body.__name__}"}
        extra["requestBody"] = {"required": not optional, "content": {media: {"schema": schema}}}
        extra["x-model"] = body.__name__
    elif media == OCTETS:
        extra["requestBody"] = {
            "required": True,
            "content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}},
        }
    return extra


class HubRoute(APIRoute):
    """Authenticates and reads the body, in this order."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with what comes before it."""
        handle = super().get_route_handler()
        extra = self.openapi_extra or {}
        content = extra.get("requestBody", {}).get("content")
        media = next(iter(content)) if content else None
        scope: Scope = extra["x-scope"]
        template = self.path if self.path.startswith("/v1") else f"/v1{self.path}"

        async def admitted(request: Request) -> Response:
            request.state.route = template
            await _admit(request, scope)
            request.state.body = await _body(request, media)
            return await handle(request)

        return admitted


def hub_of(request: Request) -> Hub:
    """The hub that a request came to."""
    hub: Hub = request.app.state.hub
    return hub


def asker(request: Request) -> Token:
    """Whose request it is."""
    token: Token = request.state.token
    return token


async def _admit(request: Request, scope: Scope) -> None:
    hub = hub_of(request)
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not secret.strip():
        raise _unauthenticated("a token is needed: send the header 'Authorization: Bearer dm_...'")
    token = await to_thread.run_sync(hub.registry.authenticate, secret.strip(), limiter=_lookup_threads())
    if token is None:
        raise _unauthenticated("the token is not known here; 'deepmemory token create' makes one")
    if ended := token.ended:
        raise _unauthenticated(f"the token {ended}; 'deepmemory token create' makes a new one")
    request.state.token = token
    request.state.org = token.org
    if wait := hub.buckets.take(token.id):
        raise Refusal(
            429,
            "over_limit",
            f"the token may make {hub.settings.rate:g} requests a second; try again in {wait:.1f} seconds",
            retry_after=wait,
        )
    if not token.allows(scope):
        raise Refusal(403, "forbidden", f"that needs a token with the scope {scope}, and this one has {token.scope}")


def _unauthenticated(message: str) -> Refusal:
    return Refusal(401, "unauthenticated", message, headers={"WWW-Authenticate": "Bearer"})


def _lookup_threads() -> CapacityLimiter:
    """Threads for looking up tokens alone, so that nobody waits behind long searches to be told no."""
    loop = id(anyio.lowlevel.current_token())
    if loop not in _lookups:
        _lookups.clear()
        _lookups[loop] = CapacityLimiter(_LOOKUPS)
    return _lookups[loop]


async def _body(request: Request, media: str | None) -> bytes:
    if media is None:
        return b""
    try:
        body = await request.body()
    except ClientDisconnect:
        raise Refusal(400, "bad_request", "the body was cut off before its end") from None
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent != media and (body or sent):
        raise Refusal(415, "bad_request", f"the body must be {media}; found {sent[:80] or 'no Content-Type'!r}")
    return body
