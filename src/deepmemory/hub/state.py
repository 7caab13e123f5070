"""The small blobs that a client may keep on a hub: what was ingested."""

from collections.abc import Mapping
from urllib.parse import quote

from deepmemory.errors import CapabilityError, ReadOnlyError
from deepmemory.hub.connection import Effect, HubConnection
from deepmemory.state import State

__all__ = ["HubState"]

_FOLDER = "ingest"
_OCTETS = {"Content-Type": "application/octet-stream"}


class HubState(State):
    """Blobs below ``ingest``; the hub keeps layers, jobs and history itself and lets nobody write them."""

    poll_seconds = 1.0

    def __init__(self, connection: HubConnection, *, read_only: bool) -> None:
        """Take the blobs of a dataset.

        Args:
            connection: to the dataset.
            read_only: refuse every change before anything is sent.
        """
        self._connection = connection
        self._read_only = read_only
        self.location = connection.path

    def read(self, name: str) -> bytes | None:
        """The blob's content; None where there is no such blob."""
        reply = self._connection.send("GET", self._where(name), effect=Effect.NONE, accepted=(404,))
        return None if reply.status_code == 404 else reply.content

    def write(self, name: str, data: bytes) -> None:
        """Create or replace a blob, whole or not at all."""
        self._refuse_if_read_only()
        self._connection.send("PUT", self._where(name), data, effect=Effect.SAME, headers=_OCTETS)

    def write_new(self, name: str, data: bytes) -> bool:
        """Create a blob unless there is one; return whether it was created."""
        self._refuse_if_read_only()
        headers: Mapping[str, str] = {**_OCTETS, "If-None-Match": "*"}
        where = self._where(name)
        reply = self._connection.send("PUT", where, data, effect=Effect.ONCE, headers=headers, accepted=(412,))
        return reply.status_code != 412

    def list(self, folder: str = "") -> tuple[str, ...]:
        """The names of the blobs directly in a folder, in order."""
        if folder.rstrip("/") != _FOLDER:
            return ()
        reply = self._connection.call("GET", "/state", effect=Effect.NONE, params={"folder": _FOLDER})
        with self._connection.understood("blobs"):
            return tuple(sorted(str(name) for name in reply["blobs"]))

    def delete(self, name: str) -> bool:
        """Delete a blob; return whether there was one."""
        self._refuse_if_read_only()
        reply = self._connection.call("DELETE", self._where(name), effect=Effect.ONCE)
        with self._connection.understood("a deletion"):
            return bool(reply["deleted"])

    def is_empty(self) -> bool:
        """Whether no blob is kept."""
        return not self.list(_FOLDER)

    def _where(self, name: str) -> str:
        if not name.startswith(f"{_FOLDER}/"):
            raise CapabilityError(f"a hub keeps blobs below {_FOLDER}/ only, and {name!r} is not; it has its own place")
        return f"/state/{quote(name)}"

    def _refuse_if_read_only(self) -> None:
        if self._read_only:
            raise ReadOnlyError(
                f"can't write to {self.location}: it was opened for reading; open it without read_only=True"
            )
