"""Which embedder made these vectors: kept beside a store, and compared with the embedder that opens it."""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmemory.embedders.base import Embedder
from deepmemory.errors import InputError

__all__ = ["PROBE_TEXT", "Fingerprint"]

PROBE_TEXT = "A quiet harbour at dawn: 17 boats, one lighthouse, and the smell of coffee from the customs office."
"""Embedded as a document to tell embedders apart. It never changes: stores have its vector on record."""

_SAME_MODEL_COSINE = 0.99  # one model in bfloat16 and float32 agrees to .999 and more; two models of one size do not


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """An embedder's name, its dimensions and its vector of one fixed text.

    A model served elsewhere, or computed in another precision, gives the same probe but for the last digits, so two
    fingerprints are compared with `matches`. `key` names this very record: it is the same wherever the record is read,
    and differs between two records that merely match.

    Attributes:
        name: what the embedder calls itself; for people, not compared.
        dimensions: length of the vectors.
        probe: ``(dimensions,)`` float32, unit norm, read-only.
    """

    name: str
    dimensions: int
    probe: NDArray[np.float32]

    def __post_init__(self) -> None:
        probe = np.array(self.probe, dtype=np.float32)
        problem = _probe_problem(probe, self.dimensions)
        if problem:
            raise InputError(f"the fingerprint of {self.name} is damaged: {problem}")
        probe.setflags(write=False)
        object.__setattr__(self, "probe", probe)

    @classmethod
    def of(cls, embedder: Embedder) -> "Fingerprint":
        """Embed the probe text and take the fingerprint.

        Raises:
            EmbedderError: the embedder failed.
        """
        probe = embedder.embed_documents([PROBE_TEXT])[0]
        return cls(embedder.name, len(probe), probe)

    @cached_property
    def key(self) -> str:
        """32 hexadecimal digits that name this record, for caches and saved layers."""
        digest = hashlib.sha256(json.dumps([self.name, self.dimensions]).encode())
        digest.update(_little_endian(self.probe))
        return digest.hexdigest()[:32]

    def matches(self, other: "Fingerprint") -> bool:
        """Whether vectors of the two can be compared: the same model, in whatever precision, under whatever name."""
        return self.dimensions == other.dimensions and self._cosine(other) > _SAME_MODEL_COSINE

    def difference(self, other: "Fingerprint") -> str:
        """What tells the two apart, as a sentence without its full stop; empty where they match."""
        if self.dimensions != other.dimensions:
            return f"{self.name} makes vectors of {self.dimensions} dimensions and {other.name} of {other.dimensions}"
        if self.matches(other):
            return ""
        return (
            f"{self.name} and {other.name} both make vectors of {self.dimensions} dimensions, but not the same ones: "
            f"the cosine of their vectors of one text is {self._cosine(other):.2f}, expected more than "
            f"{_SAME_MODEL_COSINE}"
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON values from which `from_dict` makes the same fingerprint, to the bit."""
        probe = base64.b64encode(_little_endian(self.probe)).decode()
        return {"name": self.name, "dimensions": self.dimensions, "probe": probe}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Fingerprint":
        """Read what `as_dict` wrote.

        Raises:
            InputError: the values are no fingerprint.
        """
        try:
            name, dimensions, encoded = values["name"], values["dimensions"], values["probe"]
            probe = np.frombuffer(base64.b64decode(encoded, validate=True), dtype="<f4")
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise InputError(
                "the record of the embedder is damaged: expected a name, dimensions and a probe in base64, "
                f"found {type(error).__name__}: {error}"
            ) from error
        if not isinstance(name, str) or not isinstance(dimensions, int):
            raise InputError(
                f"the record of the embedder is damaged: name {name!r} must be a string, and dimensions "
                f"{dimensions!r} an integer"
            )
        return cls(name, dimensions, probe)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fingerprint) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def _cosine(self, other: "Fingerprint") -> float:
        return float(self.probe @ other.probe)


def _probe_problem(probe: NDArray[np.float32], dimensions: int) -> str | None:
    if probe.shape != (dimensions,) or dimensions < 1:
        return f"expected a probe of shape ({dimensions},), found {probe.shape}"
    norm = float(np.linalg.norm(probe.astype(np.float64)))
    if not abs(norm - 1) < 1e-3:  # NaN is not below anything either
        return f"expected a probe of norm 1, found {norm:.4g}"
    return None


def _little_endian(probe: NDArray[np.float32]) -> bytes:
    return probe.astype("<f4").tobytes()
