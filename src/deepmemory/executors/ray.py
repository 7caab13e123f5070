"""Work on a Ray cluster: batches go to workers on one machine or many, and come back in order."""

import importlib.util
import os
import threading
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING

from deepmemory.errors import InputError, MissingExtraError
from deepmemory.executors.base import Executor, Work
from deepmemory.executors.ray_cluster import ADDRESS_VARIABLE, Cluster
from deepmemory.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["RayExecutor"]


class RayExecutor(Executor):
    """Workers are started with the first work, keep what they prepared (a model, say), and end when this is closed.

    A worker that dies costs the batches that it had: they are done again by others, while Ray starts another in its
    place. A cluster that was started here ends with this; one that was there, and one that the program itself had
    joined, stays.
    """

    name = "ray"

    def __init__(self, workers: int | None = None, address: str | None = None, *, patience: float = 10.0) -> None:
        """Describe the workers; none is started yet.

        Args:
            workers: at most so many; by default as many as the cluster has cores.
            address: of the cluster; by default what ``RAY_ADDRESS`` has, and without it a cluster of its own on this
                machine.
            patience: seconds without any sign of the cluster after which it is gone.

        Raises:
            InputError: a number makes no sense.
            MissingExtraError: Ray is not installed.
        """
        if workers is not None and (isinstance(workers, bool) or workers < 1):
            raise InputError(f"workers must be a whole number of 1 or more; found {workers!r}")
        if importlib.util.find_spec("ray") is None:
            raise MissingExtraError("the engine 'ray'", "ray")
        self._asked = workers
        self._address = address or os.environ.get(ADDRESS_VARIABLE) or None
        self._patience = patience
        self._lock = threading.Lock()
        self._cluster: Cluster | None = None

    def map(
        self, work: Work, batches: "Iterable[pa.RecordBatch]", *, progress: Progress | None = None
    ) -> "Generator[pa.RecordBatch, None, None]":
        """See `Executor.map`."""
        workers = self._joined().workers()
        from deepmemory.executors.ray_run import RayRun

        run = RayRun(workers, self._asked, work, batches, progress)
        try:
            yield from run.results()
        finally:
            run.stop()

    def close(self) -> None:
        """Leave the cluster; the last executor of a process ends the workers, and a cluster that was started here."""
        with self._lock:
            cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.leave()

    def _joined(self) -> Cluster:
        with self._lock:
            if self._cluster is None:
                self._cluster = Cluster(self._address, self._asked, patience=self._patience)
            return self._cluster
