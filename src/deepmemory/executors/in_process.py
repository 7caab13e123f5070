"""Work in this process, one batch after the other: each is read when the result of the one before was taken."""

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING

from deepmemory.executors.base import Executor, Work, unheard
from deepmemory.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["InProcessExecutor"]


class InProcessExecutor(Executor):
    """The default. What it does to a batch may use every core, as a model does."""

    name = "in-process"

    def map(
        self, work: Work, batches: "Iterable[pa.RecordBatch]", *, progress: Progress | None = None
    ) -> "Generator[pa.RecordBatch, None, None]":
        """See `Executor.map`."""
        tell = progress or unheard
        function = work.prepare()
        for batch in batches:
            tell(0, batch.num_rows)
            yield function(batch, tell)
