"""What LanceDB's errors mean: its exceptions are plain ones, told apart by their text."""

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from deepmemory.errors import DeepMemoryError, StorageError

__all__ = ["engine_errors", "is_conflict", "is_gone", "retry_conflicts"]

T = TypeVar("T")

_PATIENCE_SECONDS = 120.0
_FIRST_DELAY_SECONDS = 0.02
_LONGEST_DELAY_SECONDS = 1.0
_LONGEST_REASON = 300

_MISSING_TABLE = re.compile(r"^Table '\w+' was not found|Not found: [^,]*/_versions\b")
_RUST_PREFIX = re.compile(r"^(lance error: )?(LanceError\(\w+\): )?")
# An object store's own words, inside the debugging output of the client that asked it.
_REMOTE_REASON = re.compile(r'<Code>(?P<code>\w+)</Code>\s*<Message>(?P<reply>[^<]*)|message: "(?P<system>[^"]+)"')
_RUST_SOURCE_LINE = re.compile(r",? /\S+\.rs:\d+(:\d+)?$")


@contextmanager
def engine_errors(action: str, location: str) -> Iterator[None]:
    """Turn what LanceDB raises into a `StorageError` of one sentence.

    Args:
        action: what can't be done, as in "can't *search*".
        location: where the table is.
    """
    try:
        yield
    except DeepMemoryError:
        raise
    except Exception as error:
        if not _is_from_engine(error):
            raise
        raise StorageError(f"can't {action} in {location}: {_reason(error)}") from error


def retry_conflicts(attempt: Callable[[], T]) -> T:
    """Try a write again, later and later, as long as other writers come first.

    LanceDB itself starts a merge again a few times; this goes on for two minutes after that.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    delay = _FIRST_DELAY_SECONDS
    while True:
        try:
            return attempt()
        except Exception as error:
            if not is_conflict(error) or time.monotonic() > deadline:
                raise
        # Writers that collided once would collide again if they all waited the same time.
        time.sleep(delay * random.uniform(0.5, 1.5))
        delay = min(2 * delay, _LONGEST_DELAY_SECONDS)


def is_conflict(error: BaseException) -> bool:
    """Whether another process's commit came first, so that the same write may succeed now."""
    text = str(error).lower()
    return _is_from_engine(error) and ("conflict" in text or "concurrent" in text or "too many retries" in text)


def is_gone(error: BaseException) -> bool:
    """Whether the table is not there, or not there any more."""
    return _is_from_engine(error) and _MISSING_TABLE.search(str(error)) is not None


def _is_from_engine(error: BaseException) -> bool:
    # A panic in Rust is an Exception of a class that can't be imported; Arrow's errors are ValueErrors and the like.
    return isinstance(error, RuntimeError | ValueError | OSError) or type(error).__name__ == "RustPanic"


def _reason(error: Exception) -> str:
    if type(error).__name__ == "RustPanic":
        return "a file of the table is damaged; restore it from a copy, or delete the store and fill it again"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    remote = _REMOTE_REASON.search(str(error))
    if remote:
        return remote["system"] or f"{remote['reply']} ({remote['code']})"
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    reason = _RUST_SOURCE_LINE.sub("", _RUST_PREFIX.sub("", first_line))
    return reason if len(reason) <= _LONGEST_REASON else reason[:_LONGEST_REASON] + "..."
