"""What runs in a worker of a Ray cluster."""

from typing import TYPE_CHECKING

from deepmemory.errors import DeepMemoryError, EngineError
from deepmemory.executors.base import BatchFunction, unheard
from deepmemory.executors.threads import ONE_THREAD, Threads
from deepmemory.executors.wire import packed, unpacked

if TYPE_CHECKING:
    from ray import ObjectRef

__all__ = ["BatchWorker"]

_KEPT = 3  # prepared functions: a training or an ingestion alternates between two or three


class BatchWorker:
    """An actor: does work to one batch at a time, and keeps what it prepared for the next."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._functions: dict[str, tuple[BatchFunction, Threads]] = {}
        self._threads: Threads | None = None

    def ping(self) -> bool:
        """True, once the worker is there."""
        return True

    def run(self, key: str, content: "list[ObjectRef[bytes]]", batch: bytes) -> bytes | DeepMemoryError:
        """Do work to a batch.

        Args:
            key: names the work.
            content: where the work is, in a list: otherwise Ray would fetch it for every batch.
            batch: as `packed`.

        Returns:
            the result, packed; or what the work raised, for whom it was done.
        """
        try:
            function, threads = self._prepared(key, content)
            if threads != self._threads:
                threads.apply()
                self._threads = threads
            return packed(function(unpacked(batch), unheard))
        except DeepMemoryError as error:
            return error

    def _prepared(self, key: str, content: "list[ObjectRef[bytes]]") -> tuple[BatchFunction, Threads]:
        if key not in self._functions:
            import ray
            from ray import cloudpickle

            try:
                work = cloudpickle.loads(ray.get(content[0]))
            except ImportError as error:
                raise EngineError(
                    f"a worker of the Ray cluster lacks what the work needs ({error}): install on every machine of the "
                    "cluster what is installed on this one"
                ) from error
            function = work.prepare()
            if work.threads is not None and (probe := work.probe()) is not None:
                function(probe, unheard)
            while len(self._functions) >= _KEPT:
                del self._functions[next(iter(self._functions))]
            self._functions[key] = (function, work.threads or ONE_THREAD)
            self._threads = None  # what was just loaded may have brought threads of its own
        return self._functions[key]
