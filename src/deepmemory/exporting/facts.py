"""What every exported file says of its layer, and the parts of a layer in the form that the formats share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmemory._version import __version__
from deepmemory.artifacts import LayerInfo, SavedLayer
from deepmemory.transform import Layer

__all__ = ["LayerFacts"]


@dataclass(frozen=True, eq=False)
class LayerFacts:
    """A layer on its way into a file of another format.

    Attributes:
        layer: what is written.
        info: what is known of it; its name is empty where it was never saved.
    """

    layer: Layer
    info: LayerInfo

    @property
    def title(self) -> str:
        """The layer in a few words, such as ``layer v2, trained 2026-02-01``."""
        name = f"layer {self.info.name}" if self.info.name else "a layer"
        return f"{name}, trained {self.info.created[:10]}"

    def header(self, notes: Sequence[str]) -> list[str]:
        """The lines that a file's first comment has; each is one line whatever the embedder calls itself."""
        layer = self.layer
        embedder = str((self.info.embedder or {}).get("name") or "") or "not recorded"
        return [
            f"Deep Memory: {self.title}; exported by deepmemory {__version__}.",
            f"It takes query vectors of {layer.dimensions} dimensions. Embedder: {' '.join(embedder.split())}.",
            f"Documents are compared by {'cosine' if layer.distance == 'cosine' else 'dot product'}.",
            *notes,
        ]

    @cached_property
    def document_ids(self) -> list[str]:
        """The labelled documents that get something, by id as text; none where there is neither prior nor memory."""
        return [str(id) for id in self.layer.document_ids] if self.layer.has_bonus else []

    @cached_property
    def square(self) -> NDArray[np.float32] | None:
        """``(dim, dim)`` float32, ``A + 1``: a query times it is the query moved; None for the identity."""
        if self.layer.matrix is None:
            return None
        whole: NDArray[np.float32] = self.layer.matrix + np.eye(self.layer.dimensions, dtype=np.float32)
        return whole

    @classmethod
    def of(cls, saved: SavedLayer) -> "LayerFacts":
        """The facts of a layer, whose arrays are made float32 where somebody's are float16 or float64."""
        layer = saved.layer
        memory = layer.memory and replace(
            layer.memory,
            centre=_single(layer.memory.centre),
            keys=_single(layer.memory.keys),
            pair_weight=_single(layer.memory.pair_weight),
        )
        single = replace(
            layer,
            matrix=None if layer.matrix is None else _single(layer.matrix),
            document_vectors=None if layer.document_vectors is None else _single(layer.document_vectors),
            memory=memory,
        )
        return cls(single, saved.info)


def _single(array: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    return array.astype(np.float32, copy=False)
