"""What a hub says of a dataset, and how one is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from deepmemory.backends.base import Capabilities, Distance
from deepmemory.embedders import Fingerprint
from deepmemory.errors import NotFoundError
from deepmemory.hub.connection import Effect, HubConnection

__all__ = ["DatasetRecord", "EmbedderWish", "HubDataset"]


@dataclass(frozen=True, slots=True)
class EmbedderWish:
    """Which embedder a dataset is to be filled by; see `DatasetRecord`."""

    name: str
    spec: str | None
    fingerprint: Fingerprint | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        pinned = self.fingerprint and self.fingerprint.as_dict()
        return {"name": self.name, "spec": self.spec, "fingerprint": pinned}


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """A dataset as the hub describes it.

    Attributes:
        distance: how vectors are compared.
        embedder: name of the embedder that fills it; None where vectors are given.
        spec: what that can be made of again, such as ``"local"``; None for an object or a function of somebody's.
        fingerprint: of that embedder; None until it has embedded something.
        embeds: whether the hub itself makes its vectors, so that texts may be sent.
        capabilities: of the engine behind it.
        created: when, ISO 8601 in UTC.
    """

    distance: Distance
    embedder: str | None
    spec: str | None
    fingerprint: Fingerprint | None
    embeds: bool
    capabilities: Capabilities
    created: str

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "DatasetRecord":
        """Read what the hub sent.

        Raises:
            KeyError, TypeError, ValueError: it is no record.
        """
        embedder = values["embedder"]
        pinned = embedder and embedder.get("fingerprint")
        able = values["capabilities"]
        if values["distance"] not in ("cosine", "dot"):
            raise ValueError(f"the distance is {values['distance']!r}")
        return cls(
            distance=cast("Literal['cosine', 'dot']", values["distance"]),
            embedder=embedder and str(embedder["name"]),
            spec=embedder and embedder["spec"],
            fingerprint=Fingerprint.from_dict(pinned) if pinned else None,
            embeds=bool(values["embeds"]),
            capabilities=Capabilities(
                full_text=bool(able.get("full_text")),
                persistent=bool(able.get("persistent")),
                concurrent_writers=bool(able.get("concurrent_writers")),
            ),
            created=str(values["created"]),
        )


class HubDataset:
    """One dataset's record on its hub."""

    def __init__(self, connection: HubConnection) -> None:
        """Take the record of the dataset that a connection is to."""
        self._connection = connection

    def find(self) -> DatasetRecord | None:
        """The record; None where there is no such dataset that the token may see."""
        try:
            return self._read(self._connection.call("GET", effect=Effect.NONE))
        except NotFoundError:
            return None

    def make(self, distance: Distance | None, embedder: EmbedderWish | None) -> DatasetRecord:
        """Make the dataset; where another was faster, theirs, if it agrees."""
        return self._read(self._connection.call("PUT", "", _wish(distance, embedder), effect=Effect.SAME))

    def start_anew(self, distance: Distance | None, embedder: EmbedderWish | None) -> DatasetRecord:
        """Remove everything that the dataset holds, and give it a new record."""
        body = {"record": _wish(distance or "cosine", embedder)}
        return self._read(self._connection.call("POST", "/clear", body, effect=Effect.SAME, slow=True))

    def pin(self, embedder: EmbedderWish) -> None:
        """Put on record which embedder fills the dataset.

        Raises:
            EmbedderMismatchError: another is on record by now.
        """
        self._connection.call("PATCH", "", {"embedder": embedder.as_dict()}, effect=Effect.SAME)

    def _read(self, values: Any) -> DatasetRecord:
        with self._connection.understood("the dataset"):
            return DatasetRecord.read(values)


def _wish(distance: Distance | None, embedder: EmbedderWish | None) -> dict[str, Any]:
    return {"distance": distance, "embedder": embedder and embedder.as_dict()}
