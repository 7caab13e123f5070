"""The contract of an executor: batches in, results out, in order, however many of them are worked on at once."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

from deepmemory.executors.threads import Threads
from deepmemory.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BatchFunction", "Executor", "Work", "unheard"]

BatchFunction: TypeAlias = Callable[["pa.RecordBatch", Progress], "pa.RecordBatch"]
"""Makes the result of one batch; told meanwhile, where it can say so, are the rows that are done and their number."""


class Work(ABC):
    """What is done to every batch: pure, so that it makes no difference where, when and how often it is done.

    It is pickled to the workers, which is why it holds what is needed to make the function and not the function.

    Attributes:
        name: what a person would call it, such as ``embedding with local``.
        threads: the numbers of threads on which its results depend; None where they don't depend on it.
    """

    name: str
    threads: Threads | None = None

    @abstractmethod
    def prepare(self) -> BatchFunction:
        """Make the function, with all that it takes, such as a model: once in every worker.

        Raises:
            DeepMemoryError: it can't be made; who waits for a result is told.
        """

    def probe(self) -> "pa.RecordBatch | None":
        """A small batch, on which a worker tries the function first where the result depends on numbers of threads.

        What a function loads when it is first called, it has loaded then, before the numbers are set.
        """
        return None


class Executor(ABC):
    """Does work to batches; it may be asked by several threads at once, and holds what it needs until it is closed.

    Attributes:
        name: ``in-process`` or ``ray``.
    """

    name: str

    @abstractmethod
    def map(
        self, work: Work, batches: "Iterable[pa.RecordBatch]", *, progress: Progress | None = None
    ) -> "Generator[pa.RecordBatch, None, None]":
        """Do the work to each batch.

        Batches are read as they are needed, never more than a few of them beyond the result that was last taken. Who
        closes the iterator, or raises in ``progress``, stops the work: nothing new is begun, and what runs is ended.

        Args:
            work: what to do.
            batches: read in the caller's thread.
            progress: called in the caller's thread while it waits, several times a second where that is possible,
                with the rows that are done of the batch whose result is next, and their number.

        Yields:
            the result of each batch, in the order of the batches.

        Raises:
            EngineError: the workers can't be started, are gone, or die of a batch.
            InputError: the work can't be sent to other processes.
            DeepMemoryError: what the work itself raised for the first batch that failed.
        """

    def close(self) -> None:  # noqa: B027  not every executor holds something
        """Let go of the workers."""

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


def unheard(_done: int, _total: int) -> None:
    """Progress that nobody asked for."""
