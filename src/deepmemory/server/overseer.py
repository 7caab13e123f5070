"""What every process of a hub does beside its work: it says that it is there, and looks after what others left.

A server or worker that dies says nothing, so each writes down every few seconds that it is at work, by the clock of
the database. Whoever finds one that has been silent for too long, or that has left, puts its trainings back into the
queue, from which the engine gives each to one worker. Where it was wrong, and the other was only slow, that one finds
out at its next beat and leaves its trainings; the engine takes no results from it, and nothing is saved twice.
"""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence

from deepmemory.errors import DeepMemoryError
from deepmemory.server.registry import Registry

__all__ = ["Overseer", "new_process_id"]

_log = logging.getLogger(__name__)

_TIDY_SECONDS = 15.0
_LEAST_SECONDS, _MOST_SECONDS = 0.2, 5.0
_STOP_SECONDS = 10.0


def new_process_id() -> str:
    """Names this process among those of its hub: no other has the name, before or after it."""
    return f"{socket.gethostname()[:80]}-{os.getpid()}-{secrets.token_hex(4)}"


class Overseer:
    """A thread that beats, finds the silent, and tidies up."""

    def __init__(
        self,
        registry: Registry,
        process_id: str,
        silent_seconds: float,
        *,
        take_over: Callable[[Sequence[str]], None],
        give_up: Callable[[], None],
        tidy: Callable[[], None],
    ) -> None:
        """Prepare; nothing happens before `start`.

        Args:
            registry: knows the processes.
            process_id: of this one.
            silent_seconds: after which a process is taken for dead.
            take_over: gets the processes whose trainings go back into the queue.
            give_up: is called where this one was taken for dead itself.
            tidy: is called every few seconds, in one process at a time.
        """
        self._registry = registry
        self._process_id = process_id
        self._silent_seconds = silent_seconds
        self._take_over = take_over
        self._give_up = give_up
        self._tidy = tidy
        self._judges_from = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deepmemory-overseer", daemon=True)

    def start(self) -> None:
        """Begin, and say that this process is there."""
        if self._registry.is_shared:
            self._registry.join(self._process_id)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join(_STOP_SECONDS)

    def leave(self) -> None:
        """Say that this process is about to end: what it leaves undone is for the others from now on."""
        if self._registry.is_shared:
            try:
                self._registry.leave(self._process_id)
            except DeepMemoryError as error:  # the others find out by themselves
                _log.warning("%s", error)

    def _run(self) -> None:
        interval = min(_MOST_SECONDS, max(_LEAST_SECONDS, self._silent_seconds / 5))
        tidied, tidies_every = 0.0, min(_TIDY_SECONDS, self._silent_seconds)
        while True:
            try:
                if self._registry.is_shared:
                    self._look_round()
                if time.monotonic() - tidied > tidies_every:
                    tidied = time.monotonic()
                    with self._registry.alone("tidy up", wait=False) as mine:
                        if mine:
                            self._tidy()
            except DeepMemoryError as error:
                # Where the database was away, it was so for the others as well: they get time to be heard of.
                self._judges_from = time.monotonic() + self._silent_seconds
                _log.warning("%s", error)
            except Exception:
                _log.exception("looking after the hub failed, and is tried again")
            if self._stopped.wait(interval):
                return

    def _look_round(self) -> None:
        if not self._registry.beat(self._process_id):
            _log.warning("this process was taken for dead, and leaves its trainings to others")
            self._give_up()
            self._registry.join(self._process_id)
        if time.monotonic() < self._judges_from:
            return
        with self._registry.silent(self._silent_seconds) as ids:
            if ids:
                self._take_over(ids)
