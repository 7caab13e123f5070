"""What a document's score is made of, part by part, and the training queries behind the query memory's part.

A part is a function of the documents that gives what it adds to each; `parts_of` lists those that a layer has. A new
kind of part is one more function and one more line there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory.backends.base import Distance
from deepmemory.explanation.model import Cause
from deepmemory.transform import Layer, unit_rows

__all__ = ["SIMILARITY", "Scored"]

SIMILARITY = "similarity"
LINEAR = "linear layer"
PRIOR = "prior"
MEMORY = "query memory"
WORDS = "words"

_CAUSES = 3

Added: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scored:
    """One query and some documents, scored part by part.

    Attributes:
        query_vector: ``(dim,)`` float32, as the embedder gave it.
        ids: n documents that exist.
        vectors: ``(n, dim)`` float32, theirs, as they are stored now.
        layer: the active layer; None where there is none.
        distance: how the store compares vectors.
        words: what the query's hits by words get for them, by id.
    """

    query_vector: NDArray[np.float32]
    ids: Sequence[str]
    vectors: NDArray[np.float32]
    layer: Layer | None
    distance: Distance
    words: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def parts(self) -> dict[str, Added]:
        """What each part adds to the documents' scores, ``(n,)`` each, in the order in which they are told."""
        parts = {SIMILARITY: self._similarity(self.query_vector)}
        layer = self.layer
        if layer is None:
            return parts
        if layer.matrix is not None:
            parts[LINEAR] = self._similarity(layer.transform(self.query_vector)) - parts[SIMILARITY]
        if layer.prior:
            parts[PRIOR] = np.where(self._places >= 0, layer.prior, 0.0)
        if layer.memory is not None:
            parts[MEMORY] = self._bonus - parts.get(PRIOR, 0.0)
        if layer.words is not None:
            parts[WORDS] = np.array([self.words.get(id, 0.0) for id in self.ids], dtype=np.float64)
        return parts

    def causes(self, row: int, training_queries: Sequence[str] | None) -> tuple[Cause, ...]:
        """The training queries that raised a document by the query memory, the one that counts first.

        Args:
            row: of the document.
            training_queries: texts in the order of the memory's keys; None where they are not kept.
        """
        place = int(self._places[row])
        if self.layer is None or self.layer.memory is None or place < 0:
            return ()
        memory = self.layer.memory
        pairs = np.arange(*np.searchsorted(memory.pair_document, [place, place + 1]))
        keys = memory.pair_key[pairs]
        raised = memory.gain * (self._key_cosines[keys] * memory.pair_weight[pairs] - memory.threshold)
        best = [pair for pair in np.argsort(-raised, kind="stable")[:_CAUSES].tolist() if raised[pair] > 0]
        return tuple(
            Cause(
                query=None if training_queries is None else training_queries[int(keys[pair])],
                number=int(keys[pair]),
                cosine=float(self._key_cosines[keys[pair]]),
                raised=float(raised[pair]),
            )
            for pair in best
        )

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """Each document's place among the labelled ones; -1 where it is none."""
        place_of = {} if self.layer is None else self.layer.place_of
        return np.array([place_of.get(id, -1) for id in self.ids], dtype=np.int64)

    @cached_property
    def _bonus(self) -> Added:
        assert self.layer is not None
        by_place = self.layer.bonus(self.query_vector[None])[0].astype(np.float64)
        return np.where(self._places >= 0, np.append(by_place, 0.0)[self._places], 0.0)

    @cached_property
    def _key_cosines(self) -> NDArray[np.float64]:
        """Of the query with each of the memory's keys."""
        assert self.layer is not None
        assert self.layer.memory is not None
        memory = self.layer.memory
        query = self.query_vector[None]
        compared = self.layer.transform(query) if memory.is_transformed else unit_rows(query)
        return np.asarray(memory.cosines(compared)[0], dtype=np.float64)

    def _similarity(self, query: NDArray[np.float32]) -> Added:
        documents, query = self.vectors.astype(np.float64), query.astype(np.float64)
        if self.distance == "cosine":
            lengths = np.linalg.norm(documents, axis=1) * np.linalg.norm(query)
            lengths[lengths == 0] = np.inf
            return np.asarray(documents @ query / lengths, dtype=np.float64)
        return np.asarray(documents @ query, dtype=np.float64)
