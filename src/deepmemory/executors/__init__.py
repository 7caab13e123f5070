"""Where bulk work is done: in this process, or by the workers of a Ray cluster, with the same results.

Work is a pure function over Arrow record batches. The batch is the unit of everything: what is computed together, what
a worker that dies costs, what is in flight. So the engine changes neither the input nor the order of any sum.
"""

import os
import re

from deepmemory.errors import InputError
from deepmemory.executors.base import BatchFunction, Executor, Work
from deepmemory.executors.in_process import InProcessExecutor
from deepmemory.executors.threads import Threads

__all__ = ["ENGINE_VARIABLE", "BatchFunction", "Executor", "InProcessExecutor", "Threads", "Work", "open_executor"]

ENGINE_VARIABLE = "DEEPMEMORY_ENGINE"
"""Environment variable that names the engine where nobody else does."""

_RAY = re.compile(r"ray(?::([1-9]\d*))?")


def open_executor(engine: str | Executor | None = None) -> Executor:
    """The executor that someone means.

    Nothing is started and no cluster is asked before the first work.

    Args:
        engine: ``"in-process"``; ``"ray"`` for the cluster that ``RAY_ADDRESS`` names, or one on this machine;
            ``"ray:4"`` for at most 4 workers of it; an executor, which is returned as it is. None is what
            ``DEEPMEMORY_ENGINE`` says, and in-process where it says nothing.

    Raises:
        InputError: it is none of these.
        MissingExtraError: Ray is not installed.
    """
    if isinstance(engine, Executor):
        return engine
    asked = os.environ.get(ENGINE_VARIABLE) or "in-process" if engine is None else engine
    if asked == "in-process":
        return InProcessExecutor()
    if ray := _RAY.fullmatch(str(asked)):
        from deepmemory.executors.ray import RayExecutor

        return RayExecutor(workers=int(ray[1]) if ray[1] else None)
    where = f" in {ENGINE_VARIABLE}" if engine is None else ""
    raise InputError(f"the engine is 'in-process', 'ray', or 'ray:4' for at most 4 workers; found {asked!r}{where}")
