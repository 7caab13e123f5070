"""A real hub in a process of its own, for tests of code that talks to one."""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["HubProcess"]

_START_SECONDS = 180.0
_STOP_SECONDS = 60.0


class HubProcess:
    """A hub on a free port of loopback, which can be killed and started again on the same folder.

    It is ``deepmemory serve``, nothing else::

        with HubProcess() as hub:
            token = hub.token("acme", "write")
            httpx.get(f"{hub.url}/v1/me", headers={"Authorization": f"Bearer {token}"})
            hub.kill()
            hub.restart()

    Where several share a database and a folder, each is one of these::

        with HubProcess(data, database=url) as one, HubProcess(data, database=url, role="worker") as another:
            ...

    Attributes:
        data: the hub's folder; a temporary one, which ends with the ``with`` statement, unless one was given.
    """

    def __init__(
        self,
        data: str | os.PathLike[str] | None = None,
        *,
        options: Sequence[str] = (),
        program: Sequence[str] = ("-m", "deepmemory"),
        environment: Mapping[str, str] | None = None,
        database: str | None = None,
        role: str = "serve",
    ) -> None:
        """Describe the hub; it starts with ``with`` or `start`.

        Args:
            data: its folder.
            options: more options of ``deepmemory serve``.
            program: what Python runs; a script that goes wrong on purpose and then does the same, for instance.
            environment: more variables, such as ``DEEPMEMORY_HUB_RATE``; the rest is this process's.
            database: the URL of a PostgreSQL database that several share; None for files in the folder.
            role: ``serve``, or ``worker``.
        """
        self._temporary = tempfile.TemporaryDirectory(prefix="deepmemory-hub-") if data is None else None
        self.data = Path(self._temporary.name) / "hub" if self._temporary else Path(os.fspath(data or ""))
        self._options = options
        self._program = program
        self._environment = {**os.environ, **(environment or {})}
        self._database = database
        self._role = role
        self._name = self.data.name if database is None else f"{self.data.name}-{secrets.token_hex(4)}"
        self._process: subprocess.Popen[bytes] | None = None
        self._url: str | None = None
        self._admins: dict[str, str] = {}

    @property
    def url(self) -> str:
        """Its address, such as ``http://127.0.0.1:40123``; it stays the same when the hub is started again."""
        if self._url is None:
            raise RuntimeError("the hub was not started: use it in a with statement, or call start()")
        return self._url

    @property
    def is_running(self) -> bool:
        """Whether it was started, and neither stopped nor killed since; what it ends by itself doesn't count."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._running().pid

    def start(self) -> Self:
        """Start, and wait until it takes requests."""
        self.begin()
        return self.wait()

    def wait(self) -> Self:
        """Wait until it takes requests."""
        deadline = time.monotonic() + _START_SECONDS
        while (address := self._address()) is None:
            if self._running().poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the hub did not start:\n{self.log}")
            time.sleep(0.02)
        self._url = address
        return self

    def begin(self) -> None:
        """Start, and leave it to `wait` to wait: several start in the time of one."""
        if self._process is not None:
            raise RuntimeError("the hub is running already")
        (self.data / "hub.url").unlink(missing_ok=True)
        port = "0" if self._url is None else self._url.rpartition(":")[2]
        self.data.parent.mkdir(parents=True, exist_ok=True)
        self._logged = len(self.log)
        command = [*self._program, self._role, *self._place, "--port", port, *self._options]
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *command], stdout=log, stderr=log, env=self._environment, start_new_session=True
            )

    def _address(self) -> str | None:
        """Where it takes requests, once it does."""
        if self._database is None:
            address = self.data / "hub.url"
            return address.read_text(encoding="utf-8").strip() if address.exists() else None
        for line in self.log[self._logged :].splitlines():
            if line.startswith("{") and '"event": "started"' in line and line.endswith("}"):
                return str(json.loads(line)["address"])
        return None

    @property
    def _place(self) -> list[str]:
        """The options that say where the hub's data is."""
        return ["--data", str(self.data), *(() if self._database is None else ("--database", self._database))]

    def token(self, org: str = "acme", scope: str = "write", **more: Any) -> str:
        """Make a token.

        Args:
            org: its organisation.
            scope: ``read``, ``write`` or ``admin``.
            more: ``name``, ``expires_in_days``.
        """
        options = [part for name, value in more.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        made = self.command("token", "create", "--org", org, "--scope", scope, "--json", *options)
        return str(json.loads(made)["secret"])

    def command(self, *arguments: str) -> str:
        """Run a command of ``deepmemory`` on the hub's folder; return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "deepmemory", *arguments, *self._place],
            capture_output=True,
            text=True,
            check=False,
            env=self._environment,
        )
        if done.returncode:
            raise RuntimeError(f"deepmemory {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL)."""
        self._running().kill()
        self._reap()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop, and wait until it has; return its exit code."""
        self._running().send_signal(number)
        return self._reap()

    def restart(self) -> Self:
        """Start it again, on the same folder and port; a hub that still runs is stopped before."""
        if self._process is not None:
            self.stop()
        return self.start()

    @property
    def log(self) -> str:
        """What it has printed and logged so far."""
        return self._log_file.read_text(encoding="utf-8", errors="replace") if self._log_file.exists() else ""

    def __enter__(self) -> Self:
        try:
            return self.start()
        except RuntimeError:
            self._clean_up()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()
        self._clean_up()

    def _clean_up(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()

    @property
    def _log_file(self) -> Path:
        return self.data.with_name(f"{self._name}.log")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the hub is not running")
        return self._process

    def _reap(self) -> int:
        process, self._process = self._running(), None
        try:
            return process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise RuntimeError(f"the hub did not stop in {_STOP_SECONDS:.0f} seconds:\n{self.log}") from None
