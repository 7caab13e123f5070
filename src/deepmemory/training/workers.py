"""All cores at once, and the same bytes whatever their number.

Folds are independent, so each runs on a thread of its own with BLAS kept to one thread: that is faster than the other
way round for matrices of this size, doesn't collapse when other programs want the cores too, and makes sums come out
in the same order on every machine.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from threading import Event
from types import TracebackType
from typing import Any, Protocol, TypeVar

from threadpoolctl import threadpool_limits

from deepmemory.errors import Cancelled

__all__ = ["Map", "Workers"]

Item = TypeVar("Item")
Step = TypeVar("Step")
Result = TypeVar("Result")


class Map(Protocol):
    """`map`, or the same on several threads (`Workers.map`): results in the order of the items."""

    def __call__(self, work: Callable[[Item], Result], items: Sequence[Item], /) -> Iterable[Result]:
        """Apply the work to each item."""
        ...


_REPORT_EVERY = 0.1
"""Seconds between calls of ``on_wait``."""


class Workers:
    """A context with one thread for each core; leaving it early stops what is running."""

    def __init__(self, on_wait: Callable[[], None]) -> None:
        """Prepare the threads.

        Args:
            on_wait: called on the caller's thread while it waits; what it raises stops the work.
        """
        self._on_wait = on_wait
        self._stop = Event()
        self._stack = ExitStack()
        self._pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="deepmemory-fit")

    def __enter__(self) -> "Workers":
        """Keep BLAS to one thread, in the whole process, until the context is left."""
        self._stack.enter_context(threadpool_limits(1, user_api="blas"))
        self._stack.enter_context(self._pool)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the threads, which end at their next `check` if there was an error."""
        if kind is not None:
            self._stop.set()
        self._stack.__exit__(kind, error, trace)

    def check(self) -> None:
        """To be called by long work on a thread, often; raises `Cancelled` once the work is to stop."""
        if self._stop.is_set():
            raise Cancelled("training was asked to stop")

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Do the work for each item; results in the order of the items."""
        futures = [self._pool.submit(work, item) for item in items]
        with self._stopping(futures):
            waiting = set(futures)
            while waiting:
                self._on_wait()
                finished, waiting = wait(waiting, timeout=_REPORT_EVERY, return_when=FIRST_EXCEPTION)
                for future in finished:
                    future.result()
        return [future.result() for future in futures]

    def along(
        self,
        work: Callable[[Item, Step], None],
        items: Sequence[Item],
        steps: Sequence[Step],
        on_done: Callable[[], None],
    ) -> None:
        """Take each item through all steps, in their order; no item waits for another before its next step.

        Args:
            work: one step for one item.
            items: side by side, those behind first.
            steps: at least one.
            on_done: called on the caller's thread whenever one more step was done for every item.
        """
        place = {self._pool.submit(work, item, steps[0]): (item, 0) for item in items}
        n_done = [0] * len(steps)
        with self._stopping(place):
            while place:
                self._on_wait()
                finished, _ = wait(place, timeout=_REPORT_EVERY, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                    item, step = place.pop(future)
                    if step + 1 < len(steps):
                        place[self._pool.submit(work, item, steps[step + 1])] = (item, step + 1)
                    n_done[step] += 1
                    if n_done[step] == len(items):
                        on_done()

    @contextmanager
    def _stopping(self, futures: Iterable["Future[Any]"]) -> Iterator[None]:
        """Where the context ends by an error, the futures that haven't begun never do, and the others end early."""
        try:
            yield
        except BaseException:
            self._stop.set()
            for future in futures:
                future.cancel()
            raise
