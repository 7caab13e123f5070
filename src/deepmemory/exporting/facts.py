"""What every exported file says of its layer, and the parts of a layer in the form that the formats share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory._version import __version__
from deepmemory.artifacts import LayerInfo, SavedLayer
from deepmemory.errors import InputError
from deepmemory.transform import Layer

__all__ = ["LayerFacts", "QueryMap"]

QueryMap: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""A matrix ``(n, dim)`` and an offset ``(dim,)``: queries are ``unit(x matrix + offset)`` before the layer."""


@dataclass(frozen=True, eq=False)
class LayerFacts:
    """A layer on its way into a file of another format.

    Attributes:
        layer: what is written.
        info: what is known of it; its name is empty where it was never saved.
        query_map: what queries go through before the layer, as `deepmemory.embedders.Embedder.query_map`; or None.
    """

    layer: Layer
    info: LayerInfo
    query_map: QueryMap | None = None

    @property
    def title(self) -> str:
        """The layer in a few words, such as ``layer v2, trained 2026-02-01``."""
        name = f"layer {self.info.name}" if self.info.name else "a layer"
        return f"{name}, trained {self.info.created[:10]}"

    def header(self, notes: Sequence[str]) -> list[str]:
        """The lines that a file's first comment has.

        Each is one line, whatever names are in it: an imported layer's may have been chosen to end the comment.
        """
        layer = self.layer
        embedder = str((self.info.embedder or {}).get("name") or "") or "not recorded"
        lines = [
            f"Deep Memory: {self.title}; exported by deepmemory {__version__}.",
            f"It takes query vectors of {self.takes} dimensions. Embedder: {embedder}.",
            f"Documents are compared by {'cosine' if layer.distance == 'cosine' else 'dot product'}.",
            *notes,
        ]
        return [" ".join(line.split()) for line in lines]

    @cached_property
    def document_ids(self) -> list[str]:
        """The labelled documents that get something, by id as text; none where there is neither prior nor memory."""
        return [str(id) for id in self.layer.document_ids] if self.layer.has_bonus else []

    @property
    def takes(self) -> int:
        """Length of the queries' vectors."""
        return self.layer.dimensions if self.query_map is None else len(self.query_map[0])

    @property
    def changes_nothing(self) -> bool:
        """Whether all that is done to a query is to scale it."""
        return self.layer.is_identity and self.query_map is None

    @cached_property
    def whole(self) -> NDArray[np.float32] | None:
        """``(takes, dim)`` float32, ``A + 1`` behind the map: a query times it is the query moved; None for neither."""
        if self.layer.matrix is None:
            return None if self.query_map is None else self.query_map[0]
        square: NDArray[np.float32] = self.layer.matrix + np.eye(self.layer.dimensions, dtype=np.float32)
        return square if self.query_map is None else _product(self.query_map[0], square)

    @cached_property
    def offset(self) -> NDArray[np.float32] | None:
        """``(dim,)`` float32, what is added to that before it is scaled; None without a map."""
        if self.query_map is None or self.layer.matrix is None:
            return None if self.query_map is None else self.query_map[1]
        square = self.layer.matrix + np.eye(self.layer.dimensions, dtype=np.float32)
        return _product(self.query_map[1], square)

    @classmethod
    def of(cls, saved: SavedLayer, query_map: QueryMap | None = None) -> "LayerFacts":
        """The facts of a layer, whose arrays are made float32 where somebody's are float16 or float64.

        Raises:
            InputError: the map doesn't lead to the layer, or the layer's memory looks at queries between the two.
        """
        layer = saved.layer
        if query_map is not None:
            _check_map(layer, query_map)
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
        return cls(single, saved.info, query_map and (_single(query_map[0]), _single(query_map[1])))


def _check_map(layer: Layer, query_map: QueryMap) -> None:
    matrix, offset = query_map
    if matrix.ndim != 2 or matrix.shape[1] != layer.dimensions or offset.shape != (layer.dimensions,):
        raise InputError(
            f"the map of the queries should lead to the {layer.dimensions} dimensions that the layer takes; its matrix "
            f"has the shape {matrix.shape} and its offset {offset.shape}"
        )
    if layer.memory is not None and not layer.memory.is_transformed:
        raise InputError(
            "the layer is from an older version, and can't be exported with a map of its queries; train again"
        )


def _product(rows: NDArray[np.float32], square: NDArray[np.float32]) -> NDArray[np.float32]:
    return (rows.astype(np.float64) @ square).astype(np.float32)


def _single(array: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    return array.astype(np.float32, copy=False)
