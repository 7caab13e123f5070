"""What others keep beside a document, as metadata: JSON, and what JSON can't hold left out."""

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from typing import Any

import numpy as np

from deepmemory.backends.base import metadata_json

__all__ = ["as_metadata"]


def as_metadata(values: Mapping[str, Any]) -> str:
    """Values by key as JSON: dates and times as text; numbers that aren't finite, bytes and the like are left out."""
    return metadata_json({key: plain for key, value in values.items() if (plain := _plain(value)) is not _NOTHING})


_NOTHING = object()


def _plain(value: Any) -> Any:
    plain: Any = _NOTHING
    if isinstance(value, np.generic | np.ndarray):
        plain = _plain(value.tolist())
    elif value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        plain = value
    elif isinstance(value, datetime | date | time):
        plain = value.isoformat()
    elif isinstance(value, Mapping):
        parts = {str(key): _plain(inner) for key, inner in value.items()}
        plain = {key: inner for key, inner in parts.items() if inner is not _NOTHING}
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        plain = [inner for item in value if (inner := _plain(item)) is not _NOTHING]
    return plain
