"""A real HTTP server on a loopback port whose pages a test sets, and which remembers what was asked of it."""

import hashlib
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from deepmemory.ingest import CrawlOptions


@dataclass
class Reply:
    body: bytes | str | Iterable[bytes] = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    type: str = "text/html; charset=utf-8"
    etag: bool = False
    delay: float = 0.0


@dataclass(frozen=True)
class Asked:
    path: str
    headers: Mapping[str, str]
    moment: float


Answer = str | Reply | Callable[[Asked], "str | Reply"]


def page(title: str, *links: str, text: str = "") -> str:
    """A page of a small site: a heading, links, some words."""
    anchors = "".join(f'<a href="{link}">{link}</a> ' for link in links)
    return (
        f"<html><head><title>{title}</title></head><body><nav>{anchors}</nav>"
        f"<main><h1>{title}</h1><p>{text or 'Words about ' + title + '.'}</p></main></body></html>"
    )


class Site:
    """Pages by path; a path without one is answered with 404."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.pages: dict[str, Answer] = {}
        self.asked: list[Asked] = []
        self.released = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site._answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass  # clients that go away in the middle are what some tests are about

        self._server = Server((host, 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://{host}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def encrypt(self, certificate: Path) -> None:
        """Speak TLS from now on, with the certificate and key in one file."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        # The handshake is left to the thread of each connection, so that a failed one ends only that.
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def paths(self) -> list[str]:
        """What was asked for, in order, but for robots.txt and sitemaps that aren't there."""
        return [asked.path for asked in self.asked if asked.path in self.pages]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = Asked(handler.path, dict(handler.headers.items()), time.monotonic())
        self.asked.append(asked)
        answer = self.pages.get(handler.path, Reply("not here", 404, type="text/plain"))
        if callable(answer):
            answer = answer(asked)
        reply = Reply(answer) if isinstance(answer, str) else answer
        if reply.delay:
            self.released.wait(reply.delay)
        headers = {"Content-Type": reply.type, **reply.headers}
        if isinstance(reply.body, str | bytes):
            body = reply.body.encode() if isinstance(reply.body, str) else reply.body
            if reply.etag:
                headers["ETag"] = f'"{hashlib.sha256(body).hexdigest()[:12]}"'
                if asked.headers.get("If-None-Match") == headers["ETag"]:
                    self._send(handler, 304, headers, b"")
                    return
            self._send(handler, reply.status, {"Content-Length": str(len(body)), **headers}, body)
        else:
            self._send(handler, reply.status, {**headers, "Connection": "close"}, b"")
            for part in reply.body:
                handler.wfile.write(part)
                handler.wfile.flush()
            handler.close_connection = True

    def _send(self, handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], body: bytes) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            if value:
                handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)


def quick(**changes: Any) -> CrawlOptions:
    """Options for a server that is ours and near."""
    return CrawlOptions(
        **{"allow_private": True, "delay": 0.0, "retries": 1, "backoff": 0.01, "timeout": 5.0, **changes}
    )
