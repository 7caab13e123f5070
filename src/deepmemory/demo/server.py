"""Python's own documentation server, on a loopback port for as long as it is needed."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

from deepmemory.errors import IngestError

__all__ = ["PORT", "documentation_server"]

PORT = 7878
"""The port tried first: where pages keep their addresses, a second run has nothing to write."""

_START_SECONDS = 30.0

# ``python -m pydoc`` with two differences. It ends when we do, however that happens, because then its standard input
# is closed. And it ends at once: a page is made by importing its module anew, threading among them, after which pydoc's
# own way of stopping waits for a thread that can no longer be joined.
_PROGRAM = """
import os, pydoc, sys

def wait_for_the_end(prompt):
    sys.stdin.read()
    os._exit(0)

pydoc.input = wait_for_the_end
pydoc.browse(int(sys.argv[1]), open_browser=False, hostname="127.0.0.1")
"""


@contextlib.contextmanager
def documentation_server(port: int = PORT) -> Iterator[str]:
    """Serve the documentation of this Python's standard library.

    Args:
        port: tried first; where it is taken, any free one will do.

    Yields:
        the address, such as ``http://127.0.0.1:7878/``.

    Raises:
        IngestError: the server doesn't start.
    """
    with tempfile.TemporaryDirectory(prefix="deepmemory-pydoc-") as empty, contextlib.ExitStack() as stack:
        process, said = _start(port, empty)
        if _address(said) is None and port:
            _stop(process)
            process, said = _start(0, empty)
        stack.callback(_stop, process)
        address = _address(said)
        if address is None:
            raise IngestError(
                f"Python's documentation server (pydoc) did not start: {said.strip() or 'it said nothing'}"
            )
        yield address


def _start(port: int, folder: str) -> tuple["subprocess.Popen[str]", str]:
    """Start the server, and wait for the first line that it says.

    It runs where there is nothing to import by mistake, and sees almost nothing of the environment: pydoc's page of
    ``os`` prints all of it, and what is secret has no place in a store. A fixed hash seed keeps the order in which
    sets are printed.
    """
    environment = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
    environment |= {name: os.environ[name] for name in ("SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-s", "-P", "-W", "ignore", "-c", _PROGRAM, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        cwd=folder,
        env=environment,
    )
    assert process.stdout is not None
    too_late = threading.Timer(_START_SECONDS, process.kill)
    too_late.start()
    try:
        said = process.stdout.readline()
    finally:
        too_late.cancel()
    # What pages print when their modules are imported must be read, or the pipe fills and the server stands still.
    threading.Thread(target=process.stdout.read, name="deepmemory-pydoc", daemon=True).start()
    return process, said


def _address(said: str) -> str | None:
    found = re.search(r"http://127\.0\.0\.1:\d+/", said)
    return found.group() if found else None


def _stop(process: "subprocess.Popen[str]") -> None:
    process.kill()  # it holds nothing that could be lost
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
