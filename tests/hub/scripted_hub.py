"""A server that answers in a hub's place, as it is told."""

import json
import socket
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RECORD = {
    "org": "acme",
    "name": "docs",
    "documents": 0,
    "dimensions": None,
    "distance": "cosine",
    "embedder": None,
    "embeds": False,
    "layer": None,
    "capabilities": {"full_text": True, "persistent": True, "concurrent_writers": True},
    "created": "2026-01-01T00:00:00+00:00",
}


JOB = {
    "id": "a" * 24,
    "state": "training",
    "progress": 0.5,
    "stage": "training",
    "eta_seconds": 1.0,
    "details": {},
    "results": None,
    "error": None,
    "created": "2026-01-01T00:00:00+00:00",
    "started": None,
    "finished": None,
}
COMPLETED = {**JOB, "state": "completed", "progress": 1.0, "results": {"layer": "v1"}}


class Scripted(ThreadingHTTPServer):
    """An HTTP server that answers as it is told, the last answer for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.requests: list[tuple[str, str, bytes]] = []
        self.before: Callable[[str, Mapping[str, str]], None] | None = None
        """Called with the path and the headers of each request before it is answered."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address) -> None:
        """Clients go away on purpose here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        server: Scripted = self.server  # type: ignore[assignment]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server.requests.append((self.command, self.path, body))
        if server.before is not None:
            server.before(self.path, dict(self.headers))
        status, headers, content = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
        if status == 0:  # break off
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        if int(headers.get("Content-Length", len(content))) != len(content):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815  the base class calls them so

    def log_message(self, *_: object) -> None:
        pass


def answer(content: object, status: int = 200, **headers: str) -> tuple[int, dict[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, content if isinstance(content, bytes) else json.dumps(content).encode()


OPEN = answer(RECORD)
IDS = answer({"documents": [{"id": "a"}]})
BREAK = answer(b"", 0)
PAGE = answer(b"<html>Sign in</html>", Content_Type="text/html")
BUSY = answer({"error": {"code": "over_limit", "message": "too much"}}, 429, Retry_After="0")
