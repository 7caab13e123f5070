"""Everything that the parts of a running hub share."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import structlog
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from deepmemory.errors import InputError
from deepmemory.server.datasets import Datasets
from deepmemory.server.folder import HubFolder
from deepmemory.server.limits import TokenBuckets
from deepmemory.server.metrics import HubMetrics
from deepmemory.server.registry import Registry
from deepmemory.server.settings import HubSettings
from deepmemory.server.together import Together
from deepmemory.server.trainings import Trainings

__all__ = ["Hub", "Searches"]

Searches: TypeAlias = Together[tuple[NDArray[np.float32], str], dict[str, Any]]
"""Questions are a query's vector and its text; answers are results as replies have them."""


@dataclass(eq=False)
class Hub:
    """A hub at work.

    Attributes:
        folder: where it keeps everything.
        settings: its limits.
        registry: organisations, tokens and the names of datasets.
        datasets: the datasets themselves.
        trainings: the training jobs.
        buckets: how often each token may ask.
        metrics: what is counted.
        draining: set once the hub is asked to stop: it says that it isn't ready, and still does what comes.
        stopping: set once the hub takes nothing new.
        searches: those under way, and those that wait to be done together.
    """

    folder: HubFolder
    settings: HubSettings
    registry: Registry
    datasets: Datasets
    trainings: Trainings
    buckets: TokenBuckets
    metrics: HubMetrics
    draining: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)
    searches: Searches = field(default_factory=Together)
    started: float = field(default_factory=time.time)

    @classmethod
    def open(cls, folder: HubFolder, settings: HubSettings) -> "Hub":
        """Open what is in a prepared folder that this process holds, or shares.

        Raises:
            InputError: nobody would run the trainings.
        """
        if settings.training_jobs == 0 and not folder.is_shared:
            raise InputError(
                "training_jobs is 0, and no worker can share this hub's files: give 1 or more, or a --database"
            )
        registry = Registry(folder)
        datasets = Datasets(folder, registry, settings)
        datasets.sweep()
        stopping = threading.Event()
        return cls(
            folder=folder,
            settings=settings,
            registry=registry,
            datasets=datasets,
            trainings=Trainings(folder, registry, datasets, settings, stopping),
            buckets=TokenBuckets(settings.rate, settings.burst),
            metrics=HubMetrics(datasets, registry),
            stopping=stopping,
        )

    def __post_init__(self) -> None:
        self.trainings.on_end = lambda state: self.metrics.jobs.labels(state).inc()

    def start(self, *, serves: bool = True) -> None:
        """Load what the first request would wait for, and take up what was left undone.

        Args:
            serves: whether requests are to come; a worker has none.
        """
        import lancedb  # noqa: F401

        if serves:
            # Requests keep every core busy by themselves: threads of one product would only wait for each other.
            threadpool_limits(limits=1, user_api="blas")
        self.trainings.start()

    def stop(self) -> None:
        """Hand over what is running to the next start, and let go of everything."""
        self.stopping.set()
        self.trainings.stop()
        self.registry.close()
        structlog.get_logger("deepmemory.hub").info("stopped")
