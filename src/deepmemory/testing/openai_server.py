"""A server on loopback that speaks OpenAI's API, for tests of code that calls a model."""

import base64
import hashlib
import json
import re
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from deepmemory.testing.openai_chat import (
    ChatFunction,
    ChatReply,
    ChatRequest,
    completion,
    completion_events,
    count_tokens,
)
from deepmemory.testing.openai_faults import Fault

__all__ = ["OpenAIServer", "RecordedRequest", "word_vector"]

_MOST_TEXTS = 2048  # in one request, as OpenAI has it


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request as it arrived.

    Attributes:
        method: ``GET`` or ``POST``.
        path: without the query string.
        headers: by name in lower case.
        body: the JSON that was sent; None without any.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class OpenAIServer:
    """A real HTTP server that answers as OpenAI does, deterministically, and misbehaves when told to.

    It serves ``/v1/embeddings`` (numbers or base64), ``/v1/chat/completions`` (whole or streamed) and ``/v1/models``::

        with OpenAIServer(chat=lambda request: "Paris") as server:
            client = openai.OpenAI(base_url=server.base_url, api_key="any")
            server.fail_next(Fault.http(429, retry_after=0.1), Fault.dropped())
            ...
            assert len(server.requests) == 3

    Attributes:
        requests: what arrived, in order.
        most_at_once: the largest number of requests that were in hand at the same moment.
    """

    def __init__(
        self,
        *,
        embed: Callable[[str], Iterable[float]] | None = None,
        dimensions: int = 64,
        chat: ChatFunction | None = None,
        models: Sequence[str] = ("text-embedding-test", "chat-test"),
        api_key: str | None = None,
    ) -> None:
        """Describe the server; it starts with ``with`` or `start`.

        Args:
            embed: the vector of a text; `word_vector` by default, which puts texts that share words close together.
            dimensions: of the default vectors.
            chat: plays the model; without it ``/chat/completions`` is not found.
            models: listed by ``/models``. A request may name any model.
            api_key: the only key that is let in; any, or none, by default.
        """
        self.requests: list[RecordedRequest] = []
        self.most_at_once = 0
        self._api = _Api(embed or (lambda text: word_vector(text, dimensions)), chat, models, api_key)
        self._faults: deque[Fault | None] = deque()
        self._in_hand = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._http: _HttpServer | None = None

    @property
    def base_url(self) -> str:
        """What clients call ``base_url``, such as ``http://127.0.0.1:40123/v1``."""
        if self._http is None:
            raise RuntimeError("the server is not running: use it in a with statement, or call start()")
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def start(self) -> Self:
        """Serve on a free port of loopback, in a thread of its own."""
        self._closing.clear()
        self._http = _HttpServer(self, self._api)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), name="openai-server", daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop serving and close every connection."""
        if self._http is not None:
            self._closing.set()
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def fail_next(self, *faults: Fault | None) -> None:
        """Let the next requests go wrong, one fault each; None is a request that goes well."""
        with self._lock:
            self._faults.extend(faults)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _take(self, request: RecordedRequest) -> Fault:
        """Record a request, and say what is to go wrong with it."""
        with self._lock:
            self.requests.append(request)
            self._in_hand += 1
            self.most_at_once = max(self.most_at_once, self._in_hand)
            return (self._faults.popleft() if self._faults else None) or Fault()

    def _release(self) -> None:
        """A request that was taken has its reply."""
        with self._lock:
            self._in_hand -= 1

    def _pause(self, seconds: float) -> None:
        """Wait, though not longer than the server runs."""
        self._closing.wait(seconds)


class _RefusedError(Exception):
    """A refusal with OpenAI's JSON body."""

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.fault = Fault.http(status, message, code=code)


class _Api:
    """What the server answers while nothing goes wrong."""

    def __init__(
        self,
        embed: Callable[[str], Iterable[float]],
        chat: ChatFunction | None,
        models: Sequence[str],
        api_key: str | None,
    ) -> None:
        self._embed = embed
        self._chat = chat
        self._models = tuple(models)
        self._api_key = api_key

    def answer(self, request: RecordedRequest) -> dict[str, Any] | list[bytes]:
        """The true reply: JSON, or the events of a stream.

        Raises:
            _RefusedError: the request is refused, as OpenAI would.
        """
        if self._api_key is not None and request.headers.get("authorization") != f"Bearer {self._api_key}":
            raise _RefusedError(401, "Incorrect API key provided.", "invalid_api_key")
        path = request.path.removeprefix("/v1")
        if request.method == "GET" and path == "/models":
            return {"object": "list", "data": [_model(name) for name in self._models]}
        if request.method == "GET" and path.removeprefix("/models/") in self._models:
            return _model(path.removeprefix("/models/"))
        if request.method == "POST" and path == "/embeddings":
            return self._embeddings(_checked_body(request, "model", "input"))
        if request.method == "POST" and path == "/chat/completions" and self._chat is not None:
            return self._completion(self._chat, ChatRequest(_checked_body(request, "model", "messages")))
        raise _RefusedError(404, f"There is no {request.method} {request.path} here.", "not_found")

    def _embeddings(self, body: Mapping[str, Any]) -> dict[str, Any]:
        texts = _texts(body["input"])
        vectors = [_shortened(self._embed(text), body.get("dimensions")) for text in texts]
        as_text = body.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": _base64(vector) if as_text else vector.tolist()}
            for index, vector in enumerate(vectors)
        ]
        tokens = sum(map(count_tokens, texts))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": body["model"], "usage": usage}

    def _completion(self, chat: ChatFunction, request: ChatRequest) -> dict[str, Any] | list[bytes]:
        reply = ChatReply.of(chat(request))
        return list(completion_events(request, reply)) if request.stream else completion(request, reply)


class _HttpServer(ThreadingHTTPServer):
    """Serves one `OpenAIServer`, a thread a connection, and knows its connections so as to close them."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, owner: OpenAIServer, api: _Api) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.owner = owner
        self.api = api
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for connection in tuple(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it, which closes it

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up is part of what is tested."""


class _Handler(BaseHTTPRequestHandler):
    """One connection: reads requests, lets the `OpenAIServer` answer, writes replies or what a fault makes of them."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HttpServer

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def _serve(self) -> None:
        owner = self.server.owner
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = RecordedRequest(self.command, self.path.partition("?")[0], headers, _json_or_none(content))
        fault = owner._take(request)
        try:
            owner._pause(fault.delay)
            if fault.kept < 0:
                self.close_connection = True
                return
            self._reply(request, fault)
        finally:
            owner._release()

    def _reply(self, request: RecordedRequest, fault: Fault) -> None:
        try:
            answer = self.server.api.answer(request) if fault.body is None else {}
        except _RefusedError as refusal:
            fault, answer = refusal.fault, {}
        except Exception as error:
            message = f"the function given to OpenAIServer failed: {type(error).__name__}: {error}"
            fault, answer = Fault.http(500, message, code="server_error"), {}
        if isinstance(answer, list):
            self._send_events(answer, fault)
        else:
            self._send(fault.spoil(answer), fault)

    def _send(self, body: bytes, fault: Fault) -> None:
        self._send_head(fault, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.wfile.write(body[: int(len(body) * fault.kept)])
        self.close_connection = self.close_connection or fault.kept < 1

    def _send_events(self, events: Sequence[bytes], fault: Fault) -> None:
        self._send_head(fault, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        for event in events[: int(len(events) * fault.kept)]:
            self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
        if fault.kept < 1:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _send_head(self, fault: Fault, headers: Mapping[str, str]) -> None:
        self.send_response(fault.status)
        for name, value in {**headers, **fault.headers}.items():
            self.send_header(name, value)
        self.end_headers()


def word_vector(text: str, dimensions: int = 64) -> NDArray[np.float32]:
    """A vector that depends on the words of a text alone: the more words two texts share, the closer they are.

    Args:
        text: anything; case and marks do not count.
        dimensions: length of the vector.

    Returns:
        ``(dimensions,)`` float32, unit norm, the same on every machine.
    """
    words = re.findall(r"\w+", text.lower()) or [text]
    seeds = [int.from_bytes(hashlib.sha256(word.encode(errors="replace")).digest()[:8]) for word in words]
    total = np.sum([np.random.default_rng(seed).standard_normal(dimensions) for seed in seeds], axis=0)
    vector: NDArray[np.float32] = (total / np.linalg.norm(total)).astype(np.float32)
    return vector


def _checked_body(request: RecordedRequest, *required: str) -> Mapping[str, Any]:
    body = request.body
    if not isinstance(body, dict):
        raise _RefusedError(400, "We could not parse the JSON body of your request.", "invalid_json")
    missing = [name for name in required if not body.get(name)]
    if missing:
        raise _RefusedError(400, f"Missing required parameter: '{missing[0]}'.", "missing_required_parameter")
    return body


def _texts(inputs: object) -> list[str]:
    """The inputs of an embeddings request; tokens, which some clients send, are treated as words."""
    items = inputs if isinstance(inputs, list) else [inputs]
    if items and all(isinstance(item, int) for item in items):
        items = [items]
    if len(items) > _MOST_TEXTS:
        raise _RefusedError(400, f"'$.input' is invalid: {len(items)} inputs, at most {_MOST_TEXTS}.", "invalid_input")
    texts = [" ".join(map(str, item)) if isinstance(item, list) else item for item in items]
    if not all(isinstance(text, str) and text for text in texts):
        raise _RefusedError(400, "'$.input' is invalid: texts must be strings and not empty.", "invalid_input")
    return [str(text) for text in texts]


def _shortened(vector: Iterable[float], dimensions: int | None) -> NDArray[np.float32]:
    """The first dimensions of a vector, at unit norm, as OpenAI's newer models have it; whole where none are asked."""
    whole = np.asarray(list(vector), dtype=np.float32)
    if dimensions is None:
        return whole
    part = whole[:dimensions]
    return part / np.linalg.norm(part)


def _base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "deepmemory-testing"}


def _json_or_none(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None
