"""Searches that wait for the same thing are done together: an engine answers sixteen at once in the time of five."""

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeAlias, TypeVar

__all__ = ["Together"]

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

Work: TypeAlias = Callable[[Sequence[Asked]], Sequence[Answer]]


class _Waiting(Generic[Asked, Answer]):
    """One request: what it asks, and what becomes of it."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        self.asked = asked
        self.answers: Sequence[Answer] = ()
        self.error: BaseException | None = None
        self.is_answered = False
        self.woken = threading.Event()


class Together(Generic[Asked, Answer]):
    """Does what several threads ask for in one go, as soon as the one before is done; alone, a request never waits.

    Whoever asks first does the work of all who have come meanwhile, and then hands on to the next of those who wait.
    """

    def __init__(self, most: int = 64) -> None:
        """Begin with nobody waiting.

        Args:
            most: questions in one go, unless a single request has more.
        """
        self._most = most
        self._waiting: dict[Hashable, list[_Waiting[Asked, Answer]]] = {}
        self._lock = threading.Lock()

    def do(self, key: Hashable, asked: Sequence[Asked], work: Work[Asked, Answer]) -> Sequence[Answer]:
        """The answers to some questions, worked out together with others that have the same key.

        Args:
            key: requests of one key may be answered by the same work.
            asked: the questions of this request.
            work: takes n questions, of several requests, and gives n answers.

        Raises:
            whatever the work raised.
        """
        mine = _Waiting[Asked, Answer](asked)
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

    def _lead(self, key: Hashable, work: Work[Asked, Answer]) -> None:
        """Answer those at the head of the queue, then wake the next of the others to do as much for the rest.

        Whoever leads stands first in the queue, and stays in it until the work is done, so that all who come
        meanwhile wait.
        """
        with self._lock:
            batch = _head(self._waiting[key], self._most)
        try:
            answers = work([question for each in batch for question in each.asked])
            start = 0
            for each in batch:
                each.answers = answers[start : start + len(each.asked)]
                start += len(each.asked)
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


def _head(waiting: list[_Waiting[Asked, Answer]], most: int) -> list[_Waiting[Asked, Answer]]:
    """As many from the beginning as fit, and at least one."""
    total = 0
    for place, each in enumerate(waiting):
        total += len(each.asked)
        if total > most and place:
            return waiting[:place]
    return list(waiting)
