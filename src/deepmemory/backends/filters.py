"""What a filter means, read once and the same for every backend.

A *term* is the text of one metadata key with its value. A document passes a filter when, for each of the filter's
keys, it has one of the terms that the key allows; so a backend needs no JSON functions, only sets.
"""

import json
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from deepmemory.backends.base import Filter
from deepmemory.data import Metadata
from deepmemory.errors import InputError

__all__ = ["Conditions", "metadata_terms", "read_filter"]

_ID_KEY = "id"


@dataclass(frozen=True, slots=True)
class Conditions:
    """A filter that was read.

    Attributes:
        ids: the document ids that pass; None where all do.
        any_of: for each metadata key, the terms of which a document must have one.
    """

    ids: frozenset[str] | None
    any_of: tuple[frozenset[str], ...]

    def accept(self, document_id: str, terms: AbstractSet[str]) -> bool:
        """Whether a document with this id and these terms passes."""
        if self.ids is not None and document_id not in self.ids:
            return False
        return all(not allowed.isdisjoint(terms) for allowed in self.any_of)


def read_filter(filter: Filter | None) -> Conditions:
    """Read a filter; None and an empty one let everything pass.

    Raises:
        InputError: it is no mapping from strings to JSON values.
    """
    if filter is None:
        return Conditions(ids=None, any_of=())
    if not isinstance(filter, Mapping):
        raise InputError(f"a filter maps metadata keys to values, such as {{'lang': 'en'}}; found {filter!r}")
    ids: frozenset[str] | None = None
    any_of: list[frozenset[str]] = []
    for key, allowed in filter.items():
        values = allowed if isinstance(allowed, list | tuple | set | frozenset) else (allowed,)
        if key == _ID_KEY:
            ids = frozenset(value for value in values if isinstance(value, str))
        else:
            any_of.append(frozenset(_term(key, value) for value in values))
    return Conditions(ids=ids, any_of=tuple(any_of))


def metadata_terms(metadata: Metadata) -> frozenset[str]:
    """The terms of a document, one for each of its metadata keys.

    Raises:
        InputError: a key is no string, or a value no JSON value.
    """
    return frozenset(_term(key, value) for key, value in metadata.items())


def _term(key: Any, value: Any) -> str:
    if not isinstance(key, str):
        raise InputError(f"metadata keys are strings; found {key!r}")
    return json.dumps([key, _canonical(key, value)], sort_keys=True, separators=(",", ":"))


def _canonical(key: str, value: Any) -> Any:
    """The value in a form that is written alike exactly when it is equal as JSON."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        # JSON knows one kind of number: 2.0 is 2, and -0.0 is 0.
        return int(value) if value.is_integer() else float(value)
    if isinstance(value, Mapping) and all(isinstance(inner, str) for inner in value):
        return {inner: _canonical(key, inner_value) for inner, inner_value in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_canonical(key, item) for item in value]
    raise InputError(
        f"metadata and filters hold JSON values (text, finite numbers, true, false, null, lists, objects); "
        f"found {value!r} under {key!r}"
    )
