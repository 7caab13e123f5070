"""Asynchronous twins of methods, for programs with an event loop."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

__all__ = ["in_a_thread"]

P = ParamSpec("P")
R = TypeVar("R")
Owner = TypeVar("Owner")


def in_a_thread(
    method: Callable[Concatenate[Owner, P], R],
) -> Callable[Concatenate[Owner, P], Coroutine[Any, Any, R]]:
    """The same with the same arguments, to be awaited: the event loop goes on while one of its threads does it."""
    name = method.__name__

    @functools.wraps(method)
    async def twin(owner: Owner, /, *args: P.args, **kwargs: P.kwargs) -> R:
        # By its name, so that a subclass that does it otherwise is asked.
        result: R = await asyncio.to_thread(getattr(owner, name), *args, **kwargs)
        return result

    twin.__name__, twin.__qualname__ = f"a{name}", method.__qualname__.removesuffix(name) + f"a{name}"
    twin.__doc__ = f"As `{name}`, while the event loop goes on; what is called back is called in the thread that works."
    return twin
