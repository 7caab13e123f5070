"""The workers of one executor: which of them are there, and what they are busy with."""

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayActorError, RayError

from deepmemory.executors.ray_cluster import Cluster
from deepmemory.executors.ray_worker import BatchWorker
from deepmemory.executors.threads import Threads

if TYPE_CHECKING:
    from ray import ObjectRef

__all__ = ["RayWorkers", "Slot"]

_FIRST_SECONDS = 180.0  # a cluster may first have to start a machine


class Slot:
    """One worker.

    Attributes:
        actor: to be called.
        ping: its answer says that the worker is there; None while it is known to be.
        is_dead: whether Ray won't start it again.
        reason: why not.
    """

    def __init__(self, actor: Any) -> None:
        """Wait for a new actor."""
        self.actor = actor
        self.is_dead = False
        self.reason = ""
        self.ping: ObjectRef[bool] | None = actor.ping.remote()

    @property
    def is_there(self) -> bool:
        """Whether it can be given something to do."""
        return self.ping is None and not self.is_dead

    def lost(self) -> None:
        """Don't call it before it says that it is there again."""
        if self.ping is None and not self.is_dead:
            self.ping = self.actor.ping.remote()


class RayWorkers:
    """Actors of a cluster. Several executors and threads may use them: each does one batch after the other.

    Attributes:
        cluster: where they are.
    """

    def __init__(self, cluster: Cluster) -> None:
        """Begin without any; they are started as they are asked for."""
        self.cluster = cluster
        self._actor = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=0)(BatchWorker)
        self._slots: list[Slot] = []
        self._lock = threading.Lock()
        self._since = time.monotonic()

    def usable(self, asked: int | None, threads: Threads | None) -> list[Slot]:
        """Workers for work that keeps so many threads busy: as many as were asked for, or as there are cores for.

        Those that there is room for come; it does no harm to ask for more.
        """
        n = asked or self.cluster.cpus()
        with self._lock:
            self._slots += [Slot(self._actor.remote()) for _ in range(n - len(self._slots))]
        step = 1 if asked or threads is None else threads.most
        return self._slots[:n:step]

    def look(self) -> None:
        """See which workers have come, or come again.

        Raises:
            EngineError: none is there, and none has been for too long.
        """
        with self._lock:
            for slot in self._slots:
                if slot.ping is not None and ray.wait([slot.ping], timeout=0)[0]:
                    self._answered(slot)
            now = time.monotonic()
            if any(slot.is_there for slot in self._slots):
                self._since = now
                return
        if all(slot.is_dead for slot in self._slots):
            raise self.cluster.gone(f"all workers have ended: {self._slots[0].reason}")
        if now - self._since > _FIRST_SECONDS:
            raise self.cluster.gone(f"it has had no room for a worker for {now - self._since:.0f} seconds")

    def _answered(self, slot: Slot) -> None:
        assert slot.ping is not None
        try:
            ray.get(slot.ping, timeout=0)
            slot.ping = None
        except ActorDiedError as error:
            slot.ping, slot.is_dead, slot.reason = None, True, str(error)
        except (RayActorError, GetTimeoutError):
            slot.ping = slot.actor.ping.remote()

    def interrupt(self, slot: Slot) -> None:
        """End what a worker is doing, and the worker with it; Ray starts another."""
        with self._lock, contextlib.suppress(RayError):
            ray.kill(slot.actor, no_restart=False)
            slot.lost()

    def end(self) -> None:
        """End all workers."""
        for slot in self._slots:
            with contextlib.suppress(RayError):
                ray.kill(slot.actor)
            slot.is_dead = True
