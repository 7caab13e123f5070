"""A saved map: safetensors with a JSON header and a SHA-256 over all of it, as layers are saved."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from deepmemory.errors import ArtifactError, NewerFormatError
from deepmemory.migration.model import MigrationMap

__all__ = ["decode_map", "encode_map"]

FORMAT = 1
"""The version of the layout written here; a reader refuses a higher one."""

_KEY = "deepmemory.migration"
_WHAT_TO_DO = "restore the file, migrate again, or go back with: deepmemory migrate --rollback"


def encode_map(made: MigrationMap, about: Mapping[str, Any]) -> bytes:
    """The bytes of a map's file; the same map and header give the same bytes.

    Args:
        made: the map.
        about: JSON values to keep with it: both embedders, the report.
    """
    from safetensors.numpy import save

    arrays = made.to_arrays()
    header = json.loads(json.dumps({**about, "format": FORMAT}))
    header["sha256"] = _checksum(header, arrays)
    return save(arrays, metadata={_KEY: json.dumps(header, sort_keys=True)})


def decode_map(data: bytes, source: str) -> tuple[MigrationMap, dict[str, Any]]:
    """Read a map's file, trusting nothing in it.

    Args:
        data: the whole file.
        source: what to call it in messages.

    Returns:
        the map, and what is kept with it.

    Raises:
        ArtifactError: it is truncated, altered, or no saved map.
        NewerFormatError: it was written by a newer version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_KEY])
        version = int(header["format"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{source} is cut off, or no map saved by Deep Memory; {_WHAT_TO_DO}") from error
    if version > FORMAT:
        raise NewerFormatError(
            f"{source} was written by a newer Deep Memory (format {version}; this one reads up to {FORMAT}); "
            "upgrade with: pip install --upgrade deepmemory"
        )
    try:
        arrays = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArtifactError(f"{source} is cut off or altered ({error}); {_WHAT_TO_DO}") from error
    if header.get("sha256") != _checksum(header, arrays):
        raise ArtifactError(f"{source} was altered: its checksum doesn't match what it holds; {_WHAT_TO_DO}")
    return MigrationMap.from_arrays(arrays), {key: value for key, value in header.items() if key != "sha256"}


def _checksum(header: Mapping[str, Any], arrays: Mapping[str, Any]) -> str:
    """SHA-256 over the header, but for the checksum itself, and every array with its shape."""
    signed = {key: value for key, value in header.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(signed, sort_keys=True).encode())
    for key in sorted(arrays):
        digest.update(f"{key} {arrays[key].dtype.str} {arrays[key].shape}\0".encode())
        digest.update(arrays[key].tobytes())
    return digest.hexdigest()
