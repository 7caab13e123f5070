"""What a hub counts, for Prometheus. Labels name routes and states, never organisations, datasets or texts."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from deepmemory.server.datasets import Datasets
from deepmemory.server.registry import Registry

__all__ = ["HubMetrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class HubMetrics:
    """The hub's counters, in a registry of their own."""

    def __init__(self, datasets: Datasets, registry: Registry) -> None:
        """Count from zero."""
        self._collectors = CollectorRegistry()
        self._requests = Counter(
            "deepmemory_hub_requests_total",
            "Requests by method, route and status.",
            ("method", "route", "status"),
            registry=self._collectors,
        )
        self._seconds = Histogram(
            "deepmemory_hub_request_seconds",
            "How long requests took.",
            ("route",),
            buckets=_SECONDS,
            registry=self._collectors,
        )
        self.in_flight = Gauge(
            "deepmemory_hub_requests_in_flight", "Requests that are worked on.", registry=self._collectors
        )
        self.jobs = Counter(
            "deepmemory_hub_jobs_total", "Trainings that ended, by state.", ("state",), registry=self._collectors
        )
        self._collectors.register(_Sizes(datasets, registry))

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def exposition(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self._collectors)


class _Sizes:
    """What is counted when it is asked for."""

    def __init__(self, datasets: Datasets, registry: Registry) -> None:
        self._datasets = datasets
        self._registry = registry

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges as they stand."""
        yield GaugeMetricFamily("deepmemory_hub_open_stores", "Datasets kept open.", self._datasets.n_open)
        yield GaugeMetricFamily(
            "deepmemory_hub_datasets", "Datasets that there are.", len(self._registry.list_datasets())
        )
        yield GaugeMetricFamily(
            "deepmemory_hub_open_jobs", "Trainings that are not finished.", len(self._registry.open_jobs())
        )
        if self._registry.is_shared:
            yield GaugeMetricFamily(
                "deepmemory_hub_processes", "Servers and workers that share the database.", self._registry.n_processes()
            )
