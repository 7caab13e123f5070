"""One task that everyone gets: a collection, its split, and what may be seen of it in training."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory.data import split_by_document, split_by_query
from deepmemory.formats import Collection, embedded_text, read_beir

__all__ = ["Problem", "Side", "Split", "collections", "load"]

Split: TypeAlias = Literal["query", "document"]

_FRACTION = 0.6  # of `deepmemory benchmark`
_KEPT = 0.8  # of the training queries, while settings are chosen on the others
_MOST_SEARCHED = 1500  # training queries that a search of settings looks at; what is chosen is trained on all


@dataclass(frozen=True, eq=False)
class Side:
    """Queries of one side of a split.

    Attributes:
        positions: ``(n,) int64``, their places in the collection.
        vectors: ``(n, dim) float32``.
        relevance: for each the ``(row of the document, grade)`` pairs that answer it.
    """

    positions: NDArray[np.int64]
    vectors: NDArray[np.float32]
    relevance: list[list[tuple[int, float]]]

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def qrels(self) -> list[dict[int, float]]:
        """Grades by row, as the measures take them."""
        return [dict(pairs) for pairs in self.relevance]


@dataclass(frozen=True, eq=False)
class Problem:
    """A split of a collection.

    Attributes:
        collection: with its vectors.
        split: how test queries were held out.
        seed: of the split, and of whatever is trained on it.
        size: training queries where fewer than all are given, for the learning curve; None for all.
        train: what may be learned from.
        test: what is measured.
    """

    collection: Collection
    split: Split
    seed: int
    size: int | None
    train: Side
    test: Side

    @property
    def documents(self) -> NDArray[np.float32]:
        """``(n_documents, dim)``."""
        assert self.collection.document_vectors is not None
        return self.collection.document_vectors

    @property
    def texts(self) -> list[str]:
        """Of the documents, as the embedder was given them."""
        return [embedded_text(document) for document in self.collection.documents]

    def queries(self, side: Side) -> list[str]:
        """The texts of one side."""
        return [self.collection.queries[position] for position in side.positions.tolist()]

    def held_out(self) -> "Problem":
        """The training queries alone, a fifth of them held out as the test is: what settings are chosen on.

        Of more than 1,500, which only the largest collection has, that many are drawn, so that searches end in minutes.
        """
        positions = np.random.default_rng(self.seed).permutation(self.train.positions)[:_MOST_SEARCHED]
        positions.sort()
        if self.split == "query":
            parts = split_by_query(len(positions), _KEPT, seed=self.seed)
        else:
            qrels = [self.collection.qrels[position] for position in positions.tolist()]
            parts = split_by_document(qrels, _KEPT, seed=self.seed)
        sides = (_side(self.collection, positions[rows]) for rows in (parts.train, parts.test))
        return Problem(self.collection, self.split, self.seed, self.size, *sides)


def load(folder: Path, split: Split, seed: int, size: int | None = None) -> Problem:
    """The split that `deepmemory benchmark` makes with this seed, cut to some training queries where a size is given.

    Raises:
        InputError: no such folder, or a side without queries.
        ValueError: the collection comes without vectors.
    """
    collection = _read(folder)
    if collection.query_vectors is None or collection.document_vectors is None:
        raise ValueError(f"{folder} has no embeddings.npz, and the peers start from vectors")
    labelled = collection.labelled_positions
    if split == "query":
        parts = split_by_query(len(labelled), _FRACTION, seed=seed)
    else:
        parts = split_by_document([collection.qrels[p] for p in labelled.tolist()], _FRACTION, seed=seed)
    train, test = labelled[parts.train], labelled[parts.test]
    if size is not None:
        train = np.sort(np.random.default_rng(seed).permutation(train)[:size])
    return Problem(collection, split, seed, size, _side(collection, train), _side(collection, test))


def collections(data: Path) -> list[Path]:
    """The BEIR folders below a folder."""
    return sorted(found.parent for found in data.glob("*/queries.jsonl*"))


@lru_cache(maxsize=2)
def _read(folder: Path) -> Collection:
    return read_beir(folder)


def _side(collection: Collection, positions: NDArray[np.int64]) -> Side:
    assert collection.query_vectors is not None
    return Side(positions, collection.query_vectors[positions], collection.relevance_by_row(positions.tolist()))
