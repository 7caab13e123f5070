"""The Ray cluster that this process uses: joined when it is first needed, left or ended with the last who needs it."""

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepmemory.errors import EngineError, InputError

if TYPE_CHECKING:
    from deepmemory.executors.ray_workers import RayWorkers

__all__ = ["ADDRESS_VARIABLE", "Cluster"]

ADDRESS_VARIABLE = "RAY_ADDRESS"
"""Ray's own variable for the cluster to join."""

_START_SECONDS = 180.0
_REACH_SECONDS = 10.0
_LOOK_SECONDS = 1.0  # between two looks whether the cluster's head is there
_ALL_PROCESSES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # without it, a warning about graphics cards that nobody asked for
    # By default Ray ends this whole process a minute after the cluster is gone; we look for ourselves, and say it.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "86400",
}
# Ray's daemons give each other half a minute to start, and end where that is not enough, as on a busy machine.
_UNHURRIED = {
    "RAY_gcs_server_port_wait_time_s": "180",
    "RAY_agent_register_timeout_ms": "180000",
    "RAY_worker_register_timeout_seconds": "180",
}
_lock = threading.RLock()
_users = 0
_temporary: Path | None = None
_is_ours = False
_workers: "RayWorkers | None" = None


class Cluster:
    """A share in this process's connection to a cluster."""

    def __init__(self, address: str | None, workers: int | None, *, patience: float) -> None:
        """Join the cluster at an address; without one, start a cluster on this machine, unless this process has one.

        Args:
            address: ``host:port`` of the cluster's head, or ``auto``.
            workers: how many a cluster that is started has room for, at least.
            patience: seconds without any sign of the cluster's head after which it is gone.

        Raises:
            EngineError: it can't be reached or started.
        """
        global _users  # noqa: PLW0603  Ray itself has one connection a process
        self.address = address
        self._patience = patience
        self._left = False
        with _lock:
            _join(address, workers)
            _users += 1
        import ray

        self._head = ray.get_runtime_context().gcs_address
        self._looked = self._seen = time.monotonic()

    @property
    def name(self) -> str:
        """What to call it."""
        return f"the Ray cluster at {self.address}" if self.address else "the Ray cluster on this machine"

    def cpus(self) -> int:
        """Cores that the cluster counts."""
        import ray

        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return max(1, int(resources.get("CPU", 1)))

    def check(self) -> None:
        """Look whether the head is there, now and then.

        Raises:
            EngineError: it has not been for too long.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        try:
            _reach(self._head, _LOOK_SECONDS)
        except OSError as error:
            if now - self._seen >= self._patience:
                raise self.gone(f"its head has not answered for {now - self._seen:.0f} seconds") from error
        else:
            self._seen = now

    def gone(self, why: str) -> EngineError:
        """What to raise where the cluster went away."""
        return EngineError(
            f"{self.name} went away ({' '.join(why.split())}); what was stored until then is whole: see to the "
            "cluster and run the same again, or without --engine ray"
        )

    def workers(self) -> "RayWorkers":
        """The workers of this process, which all that share its connection use: others would find no cores free."""
        global _workers  # noqa: PLW0603  see above
        # Only now: Ray must be imported first as the cluster needs it.
        from deepmemory.executors.ray_workers import RayWorkers

        with _lock:
            if _workers is None:
                _workers = RayWorkers(self)
            return _workers

    def leave(self) -> None:
        """Give up the share.

        The last one ends the workers, and a cluster that was started here, with all that it has left on disk.
        """
        global _users, _workers  # noqa: PLW0603  see above
        with _lock:
            if self._left:
                return
            self._left = True
            _users -= 1
            if _users == 0:
                if _workers is not None:
                    _workers.end()
                _workers = None
                _part()


def _reach(address: str, seconds: float) -> None:
    """Knock at ``host:port``. Asked through Ray, a head that is not there would not be answered for, but waited for.

    Raises:
        OSError: nothing answers.
        ValueError: the address is none.
    """
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()


def _join(address: str | None, workers: int | None) -> None:
    global _is_ours, _temporary  # noqa: PLW0603  see above
    with _surroundings(is_new=False):
        import ray

    if ray.is_initialized():  # by another executor, or by the program itself, which then also ends it
        return
    if address and address.startswith("ray://"):
        raise InputError(
            f"{ADDRESS_VARIABLE} is {address!r}, of Ray's client, which is not supported: run this on a machine of the "
            "cluster, and give host:port of its head, or auto"
        )
    options: dict[str, Any] = {"address": address}
    if address is None:
        folder = "/tmp" if os.name == "posix" else None  # a socket's path has room for 100 characters
        _temporary = Path(tempfile.mkdtemp(prefix="deepmemory-ray-", dir=folder))
        cpus = max(os.cpu_count() or 1, workers or 1)
        options = {"address": "local", "num_cpus": cpus, "include_dashboard": False, "_temp_dir": str(_temporary)}
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    try:
        with _surroundings(is_new=address is None):
            if address not in (None, "auto", "local"):
                _reach(str(address), _REACH_SECONDS)
            _begin(options)
    except Exception as error:  # Ray's own reasons are of many kinds, plain Exception among them
        _part()
        reason = " ".join(str(error).split())
        raise EngineError(
            f"no Ray cluster can be {f'joined at {address}' if address else 'started on this machine'}: {reason}; "
            f"see to it, or to {ADDRESS_VARIABLE}, or do the work in-process"
        ) from error
    _is_ours = True
    _quieten()


def _begin(options: dict[str, Any]) -> None:
    """Connect, or start a cluster: it ends whole where it doesn't get there."""
    import ray

    with warnings.catch_warnings(), _patience_at_start():
        # Ray starts its processes by fork and exec; LanceDB warns of forks that would go on working with it.
        warnings.filterwarnings("ignore", "lancedb fork support", RuntimeWarning)
        try:
            ray.init(**options, log_to_driver=False, configure_logging=False)
        except Exception as error:
            _end_half_started(error)
            raise


@contextlib.contextmanager
def _patience_at_start() -> Iterator[None]:
    """Give a new node longer to be known than the 30 seconds that Ray has for it, which a busy machine doesn't keep."""
    from ray._private import services

    look_up = services.get_node

    def patient(*where: Any) -> Any:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                return look_up(*where)  # type: ignore[no-untyped-call]
            except RuntimeError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(0.1)

    services.get_node = patient
    try:
        yield
    finally:
        services.get_node = look_up


def _end_half_started(error: Exception) -> None:
    """End the processes of a node that didn't get as far as being known to Ray, which would forget them."""
    from ray._private.node import Node

    for frame, _ in traceback.walk_tb(error.__traceback__):
        node = frame.f_locals.get("self")
        if isinstance(node, Node):
            node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
            return


def _part() -> None:
    global _is_ours, _temporary
    import ray

    if _is_ours or _temporary is not None:
        with _same_handlers():
            ray.shutdown()
        logging.getLogger("ray").setLevel(logging.NOTSET)
    if _temporary is not None:
        shutil.rmtree(_temporary, ignore_errors=True)
    _is_ours, _temporary = False, None


@contextlib.contextmanager
def _surroundings(*, is_new: bool) -> Iterator[None]:
    """Environment variables that Ray and the processes that it starts read, and signals as they were.

    Ray reads some of them when it is imported.
    """
    wanted = dict(_ALL_PROCESSES)
    if is_new:
        # Ray lets nobody else of this machine or network run code in a new cluster; it would keep its token in the home
        # folder.
        wanted |= {"RAY_AUTH_TOKEN": _token, **_UNHURRIED}
    before = {name: os.environ.get(name) for name in (*wanted, "RAY_AUTH_MODE", "PYTHONPATH")}
    os.environ.update({name: value for name, value in wanted.items() if before[name] is None})
    if is_new:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # workers import what this process can
    try:
        with _same_handlers():
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_token = secrets.token_hex(32)


@contextlib.contextmanager
def _same_handlers() -> Iterator[None]:
    """Ray takes over SIGTERM; give it back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _quieten() -> None:
    """Keep Ray from printing what its daemons say of a worker that died: who waits for its batch sees to that."""
    import ray._private.worker as internals

    if hasattr(internals, "_worker_logs_enabled"):
        internals._worker_logs_enabled = False
