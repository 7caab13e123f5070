"""Saved layers: one safetensors file each, numbered versions, which of them is active, and the way back.

A file holds the layer's arrays and, in its metadata, a JSON header: format version, name, dimensions, distance,
embedder, hash of the training data, report, and a SHA-256 over all of it. Safetensors can be read by anything and
runs no code; the checksum finds what was cut off or altered.
"""

import hashlib
import json
import math
import re
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmemory.errors import ArtifactError, NewerFormatError
from deepmemory.state import State, replace_file
from deepmemory.transform import Layer

__all__ = ["FORMAT", "LayerArchive", "LayerInfo", "SavedLayer", "decode_layer", "encode_layer"]

FORMAT = 1
"""The version of the layout written here; a reader refuses a higher one."""

_HEADER_KEY = "deepmemory"
_FOLDER = "layers"
_SUFFIX = ".safetensors"
_EVENTS = "layers/active"
_NAME = re.compile(r"v([1-9][0-9]{0,8})")
_CACHED_LAYERS = 4
_WHAT_TO_DO = "train again, or activate another layer with set_model() or rollback()"

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """What is known of a saved layer without its arrays.

    Attributes:
        name: ``v1``, ``v2`` ... in the order of saving.
        dimensions: length of the vectors that it transforms.
        distance: how documents are compared, ``"cosine"`` or ``"dot"``.
        embedder: the fingerprint of the embedder whose vectors it was trained on; None where vectors were given.
        data_hash: SHA-256 of the queries and relevance that it was trained on.
        report: the training report, held-out figures and the gate's reason among them.
        created: when it was saved, ISO 8601 in UTC.
        format: version of the file's layout.
    """

    name: str
    dimensions: int
    distance: str
    embedder: Mapping[str, Any] | None
    data_hash: str
    report: Mapping[str, Any]
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class SavedLayer:
    """A layer with what is known of it."""

    info: LayerInfo
    layer: Layer


def encode_layer(layer: Layer, info: LayerInfo) -> bytes:
    """The bytes of a layer's file; the same layer and info give the same bytes."""
    from safetensors.numpy import save

    # np.ascontiguousarray would turn a scalar into a row.
    arrays = {key: np.asarray(value, order="C") for key, value in sorted(layer.to_arrays().items())}
    header = json.loads(json.dumps(asdict(info) | {"tensors": _shapes(arrays)}))
    header["sha256"] = _checksum(header, arrays)
    return save(arrays, metadata={_HEADER_KEY: json.dumps(header, sort_keys=True)})


def decode_layer(data: bytes, source: str) -> SavedLayer:
    """Read a layer's file, trusting nothing in it.

    Args:
        data: the whole file.
        source: what to call it in messages.

    Raises:
        ArtifactError: it is truncated, altered, or no saved layer.
        NewerFormatError: it was written by a newer version.
    """
    header = _header(data, source)
    arrays = _arrays(data, source)
    if header.get("tensors") != _shapes(arrays) or header.get("sha256") != _checksum(header, arrays):
        raise ArtifactError(f"{source} was altered: its checksum doesn't match what it holds; {_WHAT_TO_DO}")
    try:
        info = LayerInfo(**{key: header[key] for key in LayerInfo.__dataclass_fields__})
        layer = Layer.from_arrays(arrays)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ArtifactError(f"{source} doesn't hold a layer that can be used: {error!r}; {_WHAT_TO_DO}") from error
    if layer.dimensions != info.dimensions:
        raise ArtifactError(
            f"{source} says {info.dimensions} dimensions and holds a layer of {layer.dimensions}; {_WHAT_TO_DO}"
        )
    return SavedLayer(info, layer)


def _header(data: bytes, source: str) -> dict[str, Any]:
    """The JSON header of a file whose format this version knows."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 + length:
        raise ArtifactError(f"{source} is cut off or no saved layer ({len(data):,} bytes); {_WHAT_TO_DO}")
    try:
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_HEADER_KEY])
        version = int(header["format"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{source} is no layer saved by Deep Memory; {_WHAT_TO_DO}") from error
    if version > FORMAT:
        raise NewerFormatError(
            f"{source} was written by a newer Deep Memory (format {version}; this one reads up to {FORMAT}); "
            "upgrade with: pip install --upgrade deepmemory"
        )
    return dict(header)


def _arrays(data: bytes, source: str) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArtifactError(f"{source} is cut off or altered ({error}); {_WHAT_TO_DO}") from error


def _shapes(arrays: Arrays) -> dict[str, list[Any]]:
    """Dtype and shape of each array, in the form that JSON gives back."""
    return {key: [value.dtype.str, list(value.shape)] for key, value in arrays.items()}


def _checksum(header: Mapping[str, Any], arrays: Arrays) -> str:
    """SHA-256 over the header, but for the checksum itself, and every array."""
    signed = {key: value for key, value in header.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(signed, sort_keys=True).encode())
    for key in sorted(arrays):
        digest.update(key.encode() + b"\0")
        digest.update(np.asarray(arrays[key], order="C").tobytes())
    return digest.hexdigest()


class LayerArchive:
    """The saved layers of one store, and which of them is active.

    Which one is active is a history of numbered events, each created and never replaced: two processes that
    activate at once both have their event, and `rollback` finds its way back through them.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._loaded: dict[str, SavedLayer] = {}
        self._seen: tuple[float, str | None] = (-math.inf, None)
        self._lock = threading.Lock()

    def save(
        self,
        layer: Layer,
        *,
        embedder: Mapping[str, Any] | None,
        data_hash: str,
        report: Mapping[str, Any],
    ) -> LayerInfo:
        """Save a layer under the next free name; it isn't made active.

        Args:
            layer: what was trained.
            embedder: fingerprint of the embedder; None where vectors were given.
            data_hash: SHA-256 of the training data.
            report: JSON values that say how it was chosen and what it gains.

        Raises:
            StorageError: it could not be written; nothing was changed.
        """
        info = LayerInfo(
            name="",
            dimensions=layer.dimensions,
            distance=layer.distance,
            embedder=embedder,
            data_hash=data_hash,
            report=dict(report),
        )
        return self._save_next(layer, info)

    def names(self) -> list[str]:
        """The names of all saved layers, oldest first."""
        numbers = [self._number(blob) for blob in self._state.list(_FOLDER)]
        return [f"v{number}" for number in sorted(number for number in numbers if number)]

    def load(self, name: str) -> SavedLayer:
        """Load a saved layer, verified; it is read once and then kept in memory.

        Raises:
            ArtifactError: there is none of that name (the message lists those that are), or it is damaged.
            NewerFormatError: it was written by a newer version.
        """
        with self._lock:
            if name in self._loaded:
                return self._loaded[name]
        saved = decode_layer(self._read(name), f"layer {name} of {self._state.location}")
        with self._lock:
            self._loaded[name] = saved
            while len(self._loaded) > _CACHED_LAYERS:
                del self._loaded[next(iter(self._loaded))]
        return saved

    def active(self) -> str | None:
        """The name of the active layer; None where searches go untransformed.

        What another process has changed is seen at once in a folder, and within seconds in a bucket, where every
        look costs a request.
        """
        at, name = self._seen
        if time.monotonic() - at >= self._state.poll_seconds:
            name = self._current(self._state.list(_EVENTS))
            self._seen = (time.monotonic(), name)
        return name

    def activate(self, name: str | None) -> None:
        """Make a saved layer the active one, after verifying it; None makes searches go untransformed.

        Raises:
            ArtifactError: there is none of that name, or it is damaged; the active layer stays as it was.
        """
        if name is not None:
            self.load(name)
        while True:
            events = self._state.list(_EVENTS)
            if self._current(events) == name:
                return
            if self._record(events, name=name, before=events[-1] if events else None):
                return

    def rollback(self) -> str | None:
        """Make active again what was active before the active layer; repeated, go back step by step.

        Returns:
            the name of the layer that is active now; None where searches go untransformed.

        Raises:
            ArtifactError: nothing was ever activated, or all of it has been taken back.
        """
        while True:
            events = self._state.list(_EVENTS)
            current = self._event(events[-1]) if events else {"name": None, "before": None}
            before = current.get("before")
            if before is None and current.get("name") is None:
                raise ArtifactError("there is nothing to roll back to: no layer has been made active before this one")
            target = self._event(before) if before else {"name": None, "before": None}
            if (name := _name_of(target)) is not None:
                self.load(name)
            if self._record(events, name=name, before=target.get("before")):
                return name

    def export(self, name: str, path: str | Path) -> None:
        """Copy a saved layer to a file, which `import_file` of any store can take in.

        Raises:
            ArtifactError: there is none of that name, or it is damaged.
            StorageError: the file could not be written.
        """
        saved = self.load(name)
        replace_file(Path(path), encode_layer(saved.layer, saved.info))

    def import_file(self, path: str | Path) -> LayerInfo:
        """Save the layer of an exported file here, under the next free name; it isn't made active.

        Raises:
            ArtifactError: the file is missing, damaged or no saved layer.
            NewerFormatError: it was written by a newer version.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ArtifactError(f"can't read the layer file {path}: {error.strerror or error}") from error
        return self.import_data(data, str(path))

    def import_data(self, data: bytes, source: str) -> LayerInfo:
        """Save the layer of an exported file that was read already; see `import_file`.

        Args:
            data: the whole file.
            source: what to call it in messages.
        """
        saved = decode_layer(data, source)
        return self._save_next(saved.layer, saved.info)

    def _save_next(self, layer: Layer, info: LayerInfo) -> LayerInfo:
        names = self.names()
        number = int(names[-1][1:]) if names else 0
        while True:
            number += 1
            info = replace(info, name=f"v{number}")
            if self._state.write_new(self._blob(info.name), encode_layer(layer, info)):
                return info

    def _read(self, name: str) -> bytes:
        data = self._state.read(self._blob(name)) if _NAME.fullmatch(name) else None
        if data is None:
            known = ", ".join(self.names()) or "none yet: train one"
            raise ArtifactError(f"there is no layer {name!r} in {self._state.location}; the layers are: {known}")
        return data

    def _current(self, events: tuple[str, ...]) -> str | None:
        return _name_of(self._event(events[-1])) if events else None

    def _record(self, events: tuple[str, ...], *, name: str | None, before: str | None) -> bool:
        """Add the event that follows the given ones; False where another process has added one meanwhile."""
        number = int(events[-1].rpartition("/")[2].removesuffix(".json")) + 1 if events else 1
        event = {"name": name, "before": before, "at": datetime.now(UTC).isoformat(), "by": uuid.uuid4().hex}
        is_ours = self._state.write_new(f"{_EVENTS}/{number:08d}.json", json.dumps(event).encode())
        self._seen = (-math.inf, None)
        return is_ours

    def _event(self, blob: str) -> dict[str, Any]:
        try:
            return dict(json.loads(self._state.read(blob) or b""))
        except (ValueError, TypeError) as error:
            raise ArtifactError(
                f"{blob} in {self._state.location} is damaged, so the active layer is not known; "
                "delete that file to go back to the layer before it"
            ) from error

    @staticmethod
    def _blob(name: str) -> str:
        return f"{_FOLDER}/{name}{_SUFFIX}"

    @staticmethod
    def _number(blob: str) -> int | None:
        match = _NAME.fullmatch(blob.rpartition("/")[2].removesuffix(_SUFFIX))
        return int(match[1]) if match else None


def _name_of(event: Mapping[str, Any]) -> str | None:
    name = event.get("name")
    return None if name is None else str(name)
