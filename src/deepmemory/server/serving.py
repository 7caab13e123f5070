"""A hub as a process: its socket, its signals, its beginning and its end."""

import contextlib
import errno
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import structlog
import uvicorn

from deepmemory.errors import StoreError
from deepmemory.server.app import make_app
from deepmemory.server.folder import HubFolder
from deepmemory.server.hub import Hub
from deepmemory.server.logs import log_as_json
from deepmemory.server.settings import HubSettings
from deepmemory.state import replace_file

__all__ = ["serve"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_WAITING_CONNECTIONS = 2_048
_LAST_SECONDS, _HURRY_SECONDS = 6.0, 1.0

INTERRUPTED = 130
"""The exit code after Ctrl-C."""


def serve(
    folder: HubFolder,
    *,
    host: str = "127.0.0.1",
    port: int = 8900,
    settings: HubSettings | None = None,
    requests: bool = True,
    on_ready: Callable[[str], None] = lambda _: None,
) -> bool:
    """Serve a hub until the process is asked to stop by SIGTERM or SIGINT (Ctrl-C).

    Requests in flight are then finished, and trainings are left to others, or to the next start.

    Args:
        folder: where the hub keeps everything; made where it is new.
        host: to listen at.
        port: to listen at; 0 for any that is free. Where the folder has no database elsewhere, the address is also in
            `HubFolder.address`.
        settings: its limits.
        requests: False for a worker, which runs trainings alone, and answers only how it is.
        on_ready: called with the address once the hub takes requests.

    Returns:
        whether it was Ctrl-C that ended it.

    Raises:
        NotAStoreError: the folder holds something else.
        StoreError: another hub holds the folder, or something else has the port.
        StorageError: the folder can't be written.
    """
    settings = settings or HubSettings()
    folder.prepare()
    with folder.held(), _listening(host, port) as listener:
        log_as_json()
        hub = Hub.open(folder, settings)
        config = uvicorn.Config(
            make_app(hub, serves=requests),
            log_config=None,
            access_log=False,
            lifespan="on",
            ws="none",
            backlog=_WAITING_CONNECTIONS,
            server_header=False,
            timeout_graceful_shutdown=int(settings.grace_seconds),
        )
        address = _address(host, listener)
        server = _Server(config, hub, lambda: _ready(folder, address, on_ready))
        hub.start(serves=requests)
        try:
            server.run(sockets=[listener])
        finally:
            if not folder.is_shared:
                folder.address.unlink(missing_ok=True)
            hub.stop()
            if hub.trainings.all_left:
                server.relax()
        return server.interrupted


class _Server(uvicorn.Server):
    """Uvicorn's server, which tells the hub when it is to stop, and doesn't kill the process at the end."""

    def __init__(self, config: uvicorn.Config, hub: Hub, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._hub = hub
        self._on_ready = on_ready
        self._timers: list[threading.Timer] = []
        self.interrupted = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop in good order at a signal; at the second one, without waiting for anybody."""

        def handle(number: int, _: FrameType | None) -> None:
            self.interrupted = self.interrupted or number == signal.SIGINT
            settings = self._hub.settings
            if number == signal.SIGTERM and settings.drain_seconds and not self._hub.draining.is_set():
                self._hub.draining.set()
                self._end_in(settings.drain_seconds + settings.grace_seconds + _LAST_SECONDS)
                self._start(settings.drain_seconds, self._close)
                return
            self.force_exit = self.should_exit
            self._close()
            self._end_in(_HURRY_SECONDS if self.force_exit else settings.grace_seconds + _LAST_SECONDS)

        before = {number: signal.signal(number, handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _close(self) -> None:
        """Take nothing new."""
        self._hub.draining.set()
        self._hub.stopping.set()
        self.should_exit = True

    def _end_in(self, seconds: float) -> None:
        """See to it that the process ends, even where a thread waits for an endpoint that says nothing.

        Nothing takes harm from it: what was acknowledged is on the disk.
        """
        self._start(seconds, lambda: os._exit(INTERRUPTED if self.interrupted else 0))

    def _start(self, seconds: float, action: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def relax(self) -> None:
        """Everything has ended by itself."""
        for timer in self._timers:
            timer.cancel()


def _ready(folder: HubFolder, address: str, on_ready: Callable[[str], None]) -> None:
    if not folder.is_shared:
        replace_file(folder.address, f"{address}\n".encode())
    structlog.get_logger("deepmemory.hub").info("started", address=address)
    on_ready(address)


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens: taken before anything is started, so that a port in use is told at once."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise StoreError(
            f"{host!r} is no address to listen at ({error.strerror or error}); try --host 127.0.0.1"
        ) from error
    with socket.socket(family, kind) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(place)
            listener.listen(_WAITING_CONNECTIONS)
        except OSError as error:
            raise StoreError(_refused(host, port, error)) from error
        yield listener


def _refused(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} at {host} is in use by another program; choose another with --port, or 0 for any"
    if error.errno == errno.EACCES:
        return f"port {port} needs rights that you don't have; choose one above 1023 with --port"
    return f"can't listen at {host}, port {port}: {error.strerror or error}; try --host 127.0.0.1"


def _address(host: str, listener: socket.socket) -> str:
    """The address to give to a client on this machine."""
    port = listener.getsockname()[1]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"
