"""How long work reports on itself, and is asked to stop."""

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Progress"]

Progress: TypeAlias = Callable[[int, int], None]
"""Called with ``(done, total)`` as work goes on; raise `deepmemory.errors.Cancelled` in it to stop the work."""
