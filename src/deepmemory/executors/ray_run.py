"""One pass over batches on a cluster: read ahead a little, give out, take back in order, give what is lost again."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayActorError, WorkerCrashedError

from deepmemory.errors import DeepMemoryError, EngineError
from deepmemory.executors.base import Work, unheard
from deepmemory.executors.ray_workers import RayWorkers, Slot
from deepmemory.executors.wire import packed, parcel, unpacked
from deepmemory.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa
    from ray import ObjectRef

__all__ = ["RayRun"]

_AT_ONE_WORKER = 2  # one that it works on, and one that is there when it has finished
_ATTEMPTS = 3  # a batch that ends its worker so often would end every worker
_WAIT_SECONDS = 0.1
_LOSSES = (RayActorError, WorkerCrashedError, NodeDiedError, ObjectLostError, OutOfMemoryError)


@dataclass(slots=True)
class _Task:
    """A batch that was read and whose result was not yet taken."""

    rows: int
    content: bytes
    attempts: int = 0
    result: bytes | DeepMemoryError | None = None


class RayRun:
    """One call of `RayExecutor.map`."""

    def __init__(
        self,
        workers: RayWorkers,
        asked: int | None,
        work: Work,
        batches: "Iterable[pa.RecordBatch]",
        progress: Progress | None,
    ) -> None:
        """Put the work where the workers find it.

        Raises:
            InputError: it can't be pickled.
        """
        self._name = work.name
        self._workers = workers
        parcelled = parcel(work)
        self._slots = workers.usable(asked, work.threads)
        self._key, self._content = parcelled.key, ray.put(parcelled.content)
        self._source = iter(batches)
        self._tell = progress or unheard
        self._is_read = False
        self._in_hand: deque[_Task] = deque()  # in the order of the batches
        self._to_do: deque[_Task] = deque()
        self._running: dict[ObjectRef[Any], tuple[Slot, _Task]] = {}

    def results(self) -> "Iterator[pa.RecordBatch]":
        """See `Executor.map`."""
        while True:
            self._read_ahead()
            if not self._in_hand:
                return
            self._give_out()
            result = self._in_hand[0].result
            if result is None:
                self._wait()
                continue
            self._in_hand.popleft()
            if isinstance(result, DeepMemoryError):
                raise result
            yield unpacked(result)

    def stop(self) -> None:
        """End what still runs; nothing does where everything was taken."""
        for slot in {id(slot): slot for slot, _ in self._running.values()}.values():
            self._workers.interrupt(slot)
        self._running.clear()

    def _read_ahead(self) -> None:
        while not self._is_read and len(self._in_hand) < _AT_ONE_WORKER * len(self._slots):
            batch = next(self._source, None)
            if batch is None:
                self._is_read = True
                return
            task = _Task(batch.num_rows, packed(batch))
            self._in_hand.append(task)
            self._to_do.append(task)

    def _give_out(self) -> None:
        self._workers.look()
        busy = Counter(id(slot) for slot, _ in self._running.values())
        while self._to_do:
            free = [slot for slot in self._slots if slot.is_there and busy[id(slot)] < _AT_ONE_WORKER]
            if not free:
                return
            slot = min(free, key=lambda slot: busy[id(slot)])
            task = self._to_do.popleft()
            busy[id(slot)] += 1
            self._running[slot.actor.run.remote(self._key, [self._content], task.content)] = (slot, task)

    def _wait(self) -> None:
        """Take back what is finished, or wait a moment for it."""
        self._tell(0, self._in_hand[0].rows)
        self._workers.cluster.check()
        awaited = [*self._running, *(slot.ping for slot in self._slots if slot.ping is not None)]
        finished = ray.wait(awaited, timeout=_WAIT_SECONDS)[0] if awaited else ()
        for reference in finished:
            if reference in self._running:
                self._take_back(reference)

    def _take_back(self, reference: "ObjectRef[Any]") -> None:
        slot, task = self._running.pop(reference)
        try:
            task.result = ray.get(reference)
        except _LOSSES as error:
            slot.lost()
            task.attempts += 1
            if task.attempts >= _ATTEMPTS:
                raise EngineError(
                    f"{self._name}: a batch of {task.rows} rows was lost with its worker {task.attempts} times "
                    f"({type(error).__name__}); it may need more memory than a worker has, or end the process"
                ) from error
            self._to_do.appendleft(task)
