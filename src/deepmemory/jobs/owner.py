"""Which process runs a job, and whether it still does."""

import os
import socket
import subprocess
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

__all__ = ["Owner"]

_SILENT_SECONDS = 120.0
"""After this long without a heartbeat the process of another machine is taken for dead."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that runs a job, told apart from every other process before and after it.

    Attributes:
        host: the machine's name, for people.
        machine: identity of the running machine and its process numbering; empty where it can't be told.
        pid: the process's number.
        started: when the process started, as the system says it: numbers are used again, this isn't.
    """

    host: str
    machine: str
    pid: int
    started: str

    @classmethod
    def this_process(cls) -> "Owner":
        """The process that asks."""
        return cls(socket.gethostname(), _machine(), os.getpid(), _process_started(os.getpid()) or "")

    def is_running(self, heartbeat: float) -> bool:
        """Whether the process is there: looked up on its own machine, by its last heartbeat on another."""
        if self.machine and self.machine == _machine():
            return _process_started(self.pid) == self.started
        return time.time() - heartbeat < _SILENT_SECONDS


@lru_cache(maxsize=1)
def _machine() -> str:
    """What process numbers mean something within: the boot, and on Linux the namespace (a container has its own)."""
    if os.name == "nt":
        return ""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    try:
        return f"{socket.gethostname()} {boot.read_text().strip()} {namespace.readlink()}"
    except OSError:
        return socket.gethostname()


def _process_started(pid: int) -> str | None:
    """When the running process of that number started; None where there is none, or only its zombie."""
    if os.name == "nt":
        return None
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    asked = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    status, _, started = asked.stdout.strip().partition(" ")
    return None if not started or status.startswith("Z") else started.strip()
