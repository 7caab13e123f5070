"""How a command ends: with an exit code and, where something went wrong, one clear sentence.

==== ===========================================================================
0    it did what was asked
1    it couldn't: the sentence on stderr says why and what to do
2    the command line itself is wrong: an unknown option, a missing argument
130  it was interrupted by Ctrl-C
==== ===========================================================================
"""

import contextlib
import errno
import io
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence

from deepmemory.errors import DeepMemoryError

__all__ = ["DEBUG_VARIABLE", "INTERRUPTED", "interruptible", "run", "show_tracebacks"]

DEBUG_VARIABLE = "DEEPMEMORY_DEBUG"
"""Environment variable that asks for tracebacks, as ``--debug`` does."""

INTERRUPTED = 130
_FAILED = 1
_GRACE_SECONDS = 3.0

_asked_for_tracebacks = threading.Event()


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    _asked_for_tracebacks.clear()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows a question mark
    _log_in_sentences()
    try:
        code = _dispatch(list(arguments))
        sys.stdout.flush()
    except DeepMemoryError as error:
        return _failed(error, "\n".join([str(error), *getattr(error, "__notes__", ())]))
    except OSError as error:
        if error.errno == errno.EPIPE:  # whoever reads our output has enough of it, as head has
            _abandon_output()
            return _FAILED
        what = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        return _failed(error, f"the system refused: {what}")
    except Exception as error:
        return _failed(
            error,
            f"unexpected {type(error).__name__}: {error}. This is a fault in Deep Memory: "
            "please report it with what 'deepmemory --debug ...' shows.",
        )
    return code


def _dispatch(arguments: list[str]) -> int:
    from deepmemory.cli.app import app

    try:
        app(args=arguments, prog_name="deepmemory")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


@contextlib.contextmanager
def interruptible(what_is_left: str) -> Iterator[None]:
    """Around long work: when Ctrl-C ends it, say what is left, and see to it that the end comes.

    What is open is closed as it should be, but only for a few seconds: a thread that waits for a slow endpoint must
    not keep a person waiting who wants to leave. A store takes no harm from a process that just ends.

    Args:
        what_is_left: a sentence, such as "The store is as it was.".
    """
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nInterrupted. {what_is_left}", file=sys.stderr, flush=True)
        end = threading.Timer(_GRACE_SECONDS, os._exit, [INTERRUPTED])
        end.daemon = True
        end.start()
        raise


def show_tracebacks() -> None:
    """Show everything about the errors of the command that is running."""
    _asked_for_tracebacks.set()


def _is_debugging() -> bool:
    return _asked_for_tracebacks.is_set() or os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def _failed(error: Exception, sentence: str) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        _abandon_output()
    if _is_debugging():
        traceback.print_exception(error)
    print(f"Error: {sentence}", file=sys.stderr)
    return _FAILED


def _abandon_output() -> None:
    """Let what is still to be written go nowhere, or the interpreter would try again at its end, and complain."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _OneLine(logging.Formatter):
    """What is logged, without the traceback unless that was asked for."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record) if _is_debugging() else f"Warning: {record.getMessage()}"


def _log_in_sentences() -> None:
    logger = logging.getLogger("deepmemory")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_OneLine("%(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
