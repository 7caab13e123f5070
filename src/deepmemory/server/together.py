"""Searches that wait for the same thing are done together: an engine answers sixteen at once in the time of five."""

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Together"]

T = TypeVar("T")

Work: TypeAlias = Callable[[NDArray[np.float32]], Sequence[T]]


class _Waiting(Generic[T]):
    """One request: its vectors, and what becomes of it."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.vectors = vectors
        self.answers: Sequence[T] = ()
        self.error: BaseException | None = None
        self.is_answered = False
        self.woken = threading.Event()


class Together(Generic[T]):
    """Does what several threads ask for in one go, as soon as the one before is done; alone, a request never waits.

    Whoever asks first does the work of all who have come meanwhile, and then hands on to the next of those who wait.
    """

    def __init__(self, most: int = 64) -> None:
        """Begin with nobody waiting.

        Args:
            most: vectors in one go, unless a single request has more.
        """
        self._most = most
        self._waiting: dict[Hashable, list[_Waiting[T]]] = {}
        self._lock = threading.Lock()

    def do(self, key: Hashable, vectors: NDArray[np.float32], work: Work[T]) -> Sequence[T]:
        """The answers to vectors ``(n, dim)``, worked out together with others that have the same key.

        Args:
            key: requests of one key may be answered by the same work.
            vectors: of this request, of the same length as those of the others.
            work: takes vectors ``(n, dim)`` and gives n answers.

        Raises:
            whatever the work raised.
        """
        mine = _Waiting[T](vectors)
        with self._lock:
            is_first = key not in self._waiting
            self._waiting.setdefault(key, []).append(mine)
        if not is_first:
            mine.woken.wait()
        if not mine.is_answered:
            self._lead(key, work)
        if mine.error is not None:
            raise mine.error
        return mine.answers

    def _lead(self, key: Hashable, work: Work[T]) -> None:
        """Answer those at the head of the queue, then wake the next of the others to do as much for the rest.

        Whoever leads stands first in the queue, and stays in it until the work is done, so that all who come
        meanwhile wait.
        """
        with self._lock:
            batch = _head(self._waiting[key], self._most)
        try:
            answers = work(np.concatenate([each.vectors for each in batch]) if len(batch) > 1 else batch[0].vectors)
            start = 0
            for each in batch:
                each.answers = answers[start : start + len(each.vectors)]
                start += len(each.vectors)
        except BaseException as error:
            for each in batch:
                each.error = error
        finally:
            with self._lock:
                rest = self._waiting[key][len(batch) :]
                if rest:
                    self._waiting[key] = rest
                else:
                    del self._waiting[key]
            for each in batch:
                each.is_answered = True
                each.woken.set()
            if rest:
                rest[0].woken.set()


def _head(waiting: list[_Waiting[T]], most: int) -> list[_Waiting[T]]:
    """As many from the beginning as fit, and at least one."""
    total = 0
    for place, each in enumerate(waiting):
        total += len(each.vectors)
        if total > most and place:
            return waiting[:place]
    return list(waiting)
