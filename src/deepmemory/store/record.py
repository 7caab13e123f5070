"""What a store says of itself, in one blob: format, distance, embedder, and what it is attached to."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast, get_args

from deepmemory.backends.base import Distance
from deepmemory.embedders import Fingerprint
from deepmemory.errors import InputError, NewerFormatError, NotAStoreError, StoreError
from deepmemory.state import FolderState, State
from deepmemory.store.attachment import Attachment

__all__ = ["FORMAT", "RECORD_NAME", "StoreRecord", "open_record", "replace_record"]

FORMAT = 2
"""The version of the layout written here; a store with a higher one is refused."""

_FORMAT_UNATTACHED = 1
"""What is written for a store with documents of its own: versions that know of no attachment read it as well."""

RECORD_NAME = "deepmemory.json"


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """What must be the same each time a store is opened.

    Attributes:
        distance: how vectors are compared.
        embedder: name of the embedder that fills the store; None where vectors are given.
        spec: what it can be made of again, such as ``"local"``; None for an object or a function.
        fingerprint: of that embedder; None until it has embedded something.
        created: when, ISO 8601 in UTC.
        attachment: the collection of somebody else's that has the documents; None where the store has its own.
    """

    distance: Distance
    embedder: str | None = None
    spec: str | None = None
    fingerprint: Fingerprint | None = None
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    attachment: Attachment | None = None

    def pinned(self, fingerprint: Fingerprint, spec: str | None) -> "StoreRecord":
        """The same with the embedder that fills the store."""
        return replace(self, embedder=fingerprint.name, spec=spec, fingerprint=fingerprint)

    def encode(self) -> bytes:
        """The bytes of the blob."""
        values = {
            "format": _FORMAT_UNATTACHED if self.attachment is None else FORMAT,
            "distance": self.distance,
            "embedder": self.embedder,
            "spec": self.spec,
            "fingerprint": None if self.fingerprint is None else self.fingerprint.as_dict(),
            "created": self.created,
        }
        if self.attachment is not None:
            values["attachment"] = self.attachment.as_dict()
        return json.dumps(values, indent=2, ensure_ascii=False).encode()

    @classmethod
    def decode(cls, data: bytes, location: str) -> "StoreRecord":
        """Read the blob of the store at a location.

        Raises:
            NewerFormatError: it was written by a newer version.
            StoreError: it is damaged.
        """
        try:
            values: dict[str, Any] = json.loads(data)
            version = int(values["format"])
        except (ValueError, TypeError, KeyError) as error:
            raise _damaged(location, "it is no JSON object with a format") from error
        if version > FORMAT:
            raise NewerFormatError(
                f"{location} was written by a newer Deep Memory (format {version}; this one reads up to {FORMAT}); "
                "upgrade with: pip install --upgrade deepmemory"
            )
        try:
            if values["distance"] not in get_args(Distance):
                raise _damaged(location, f"the distance is {values['distance']!r}")
            fingerprint, attachment = values["fingerprint"], values.get("attachment")
            return cls(
                distance=cast("Distance", values["distance"]),
                embedder=values["embedder"],
                spec=values["spec"],
                fingerprint=None if fingerprint is None else Fingerprint.from_dict(fingerprint),
                created=values["created"],
                attachment=None if attachment is None else Attachment.from_dict(attachment),
            )
        except (KeyError, TypeError, InputError) as error:
            raise _damaged(location, str(error)) from error


def _damaged(location: str, reason: str) -> StoreError:
    return StoreError(
        f"the record {RECORD_NAME} of the store {location} is damaged ({reason}); restore it from a backup"
    )


def open_record(state: State, make: Callable[[], StoreRecord] | None) -> StoreRecord:
    """The record of the store at a place, which is made a store where nothing is there yet.

    Args:
        state: the place.
        make: makes the record to begin with; None where the store must exist.

    Raises:
        NotAStoreError: nothing is there and it must exist, or something else is there. Nothing was written.
        NewerFormatError: it was written by a newer version.
        StoreError: the record is damaged.
    """
    _refuse_file(state)
    data = state.read(RECORD_NAME)
    if data is None:
        if make is None:
            raise NotAStoreError(
                f"there is no Deep Memory store at {state.location}; check the path, or create one there"
            )
        if not state.is_empty():
            raise NotAStoreError(
                f"{state.location} has something else in it and is no Deep Memory store; choose an empty or new folder"
            )
        record = make()
        if state.write_new(RECORD_NAME, record.encode()):
            return record
        # Another process was faster.
        data = state.read(RECORD_NAME) or b""
    return StoreRecord.decode(data, state.location)


def replace_record(state: State, record: StoreRecord) -> None:
    """Write the record of a store anew."""
    state.write(RECORD_NAME, record.encode())


def _refuse_file(state: State) -> None:
    if isinstance(state, FolderState) and state.root.exists() and not state.root.is_dir():
        raise NotAStoreError(f"{state.location} is a file, and a Deep Memory store is a folder; choose another path")
