"""What every request passes: its id, its log line, its count, and the limit on its body."""

import asyncio
import contextlib
import json
import re
import time
import uuid
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deepmemory.server.hub import Hub
from deepmemory.server.refusals import Refusal

__all__ = ["Gate"]

_log = structlog.get_logger("deepmemory.hub")
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_DRAINED = 64 * 1024 * 1024
_DRAIN_SECONDS = 10.0
_QUIET = frozenset({"/health", "/ready", "/metrics"})


class Gate:
    """The outermost layer of the hub, in ASGI."""

    def __init__(self, app: ASGIApp, hub: Hub) -> None:
        """Stand before an application."""
        self._app = app
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Passage(self._app, self._hub, scope, receive, send).run()


class _Passage:
    """One request on its way."""

    def __init__(self, app: ASGIApp, hub: Hub, scope: Scope, receive: Receive, send: Send) -> None:
        self._app = app
        self._hub = hub
        self._scope = scope
        self._receive = receive
        self._send = send
        self._headers = dict(scope["headers"])
        self._begun = time.perf_counter()
        self._status = 0
        self._read = 0
        self._unread = "transfer-encoding" in self._names() or self._announced() > 0
        self.id = self._request_id()
        scope.setdefault("state", {})["request_id"] = self.id

    async def run(self) -> None:
        """Pass, and be logged and counted whatever happens."""
        self._hub.metrics.in_flight.inc()
        try:
            if refusal := self._refused():
                await self._refuse(refusal)
            else:
                await self._app(self._scope, self.receive, self.send)
        except Exception:
            _log.exception("request failed", request_id=self.id, route=self._route())
            if not self._status:
                await self._refuse(
                    Refusal(500, "internal", f"the hub failed; its log says why under the request id {self.id}")
                )
        finally:
            self._hub.metrics.in_flight.dec()
            self._note()

    async def receive(self) -> Message:
        """The next part of the body, as long as there are not too many: also where no length was announced."""
        message = await self._next()
        if self._read > self._hub.settings.max_body:
            raise self._too_large()
        return message

    async def send(self, message: Message) -> None:
        """A part of the reply, with the request's id."""
        if message["type"] == "http.response.start":
            await self._drain()
            self._status = message["status"]
            message["headers"] = [*message["headers"], (b"x-request-id", self.id.encode())]
            if self._hub.draining.is_set() and b"connection" not in dict(message["headers"]):
                # Whoever keeps connections open is to find another server before this one closes them.
                message["headers"].append((b"connection", b"close"))
        await self._send(message)

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            self._unread = bool(message.get("more_body"))
        else:
            self._unread = False
        return message

    async def _drain(self) -> None:
        """Read the rest of a body that is answered before its end, within reason.

        Most clients send all of it before they look for an answer; a connection that is closed on them then is reset,
        and the answer is lost.
        """
        if not self._unread or "expect" in self._names():
            return
        most = 2 * self._hub.settings.max_body + _DRAINED
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while self._read < most and (await self._next()).get("more_body"):
                    pass

    def _names(self) -> set[str]:
        return {name.decode("latin-1") for name in self._headers}

    def _announced(self) -> int:
        """The length that the body is said to have."""
        length = self._headers.get(b"content-length", b"0")
        return int(length) if length.isdigit() else 0

    def _request_id(self) -> str:
        """The id that a proxy gave it, or a new one."""
        given = self._headers.get(b"x-request-id", b"")
        return given.decode() if _ID.fullmatch(given) else uuid.uuid4().hex[:16]

    def _refused(self) -> Refusal | None:
        if self._hub.stopping.is_set() and self._scope["path"] not in {"/health", "/metrics"}:
            return Refusal(503, "unavailable", "the hub is stopping; try again in a moment", retry_after=1)
        return self._too_large() if self._announced() > self._hub.settings.max_body else None

    def _too_large(self) -> Refusal:
        return Refusal(
            413,
            "too_large",
            f"a request's body may have {self._hub.settings.max_body_mb:g} MiB here; send less at once",
        )

    async def _refuse(self, refusal: Refusal) -> None:
        body = json.dumps(refusal.body).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
        headers["connection"] = "close"
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": raw})
        await self._send({"type": "http.response.body", "body": body})

    def _route(self) -> str:
        """The template that matched, which has no names in it."""
        return str(self._scope.get("state", {}).get("route") or self._known_path() or "unknown")

    def _known_path(self) -> str | None:
        path = self._scope["path"]
        return path if path in {*_QUIET, "/openapi.json", "/docs"} else None

    def _note(self) -> None:
        seconds, route = time.perf_counter() - self._begun, self._route()
        status = self._status or 499  # whoever asked went away before there was an answer
        self._hub.metrics.count(self._scope["method"], route, status, seconds)
        state = self._scope.get("state", {})
        facts: dict[str, Any] = {
            "request_id": self.id,
            "method": self._scope["method"],
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
            "org": state.get("org"),
        }
        if queries := state.get("queries"):
            facts["queries"] = queries
        if route in _QUIET:
            _log.debug("request", **facts)
        else:
            _log.info("request", **facts)
