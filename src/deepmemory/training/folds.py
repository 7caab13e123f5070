"""Two kinds of folds, for two kinds of questions a layer will meet.

*Query folds* hold out queries; most of what they ask for was asked for before. They stand for tomorrow's log.
*Document folds* hold out documents with all the queries that want them. They stand for questions about documents
that nobody has asked about yet, which a layer must not harm.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory.training.labels import Labels

__all__ = ["Fold", "document_folds", "query_folds"]

Rows: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Fold:
    """One division of the training queries.

    Attributes:
        kind: what was held out.
        train: ``(n_train,)`` rows of the queries to train on, ascending; also those that are never held out.
        held_out: ``(n_held_out,)`` rows of the queries to judge on, ascending.
    """

    kind: Literal["queries", "documents"]
    train: Rows
    held_out: Rows


def query_folds(query_vectors: NDArray[np.float32], n_folds: int, rng: np.random.Generator) -> list[Fold]:
    """Hold out each query once; queries with the same vector stay together, lest one give the other away."""
    _, group = np.unique(query_vectors, axis=0, return_inverse=True)
    group = group.ravel()
    fold_of_group = np.empty(group.max() + 1, dtype=np.int64)
    fold_of_group[rng.permutation(len(fold_of_group))] = np.arange(len(fold_of_group)) % n_folds
    fold = fold_of_group[group]
    folds = [Fold("queries", np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(n_folds)]
    return [f for f in folds if len(f.train) and len(f.held_out)]


def document_folds(labels: Labels, n_folds: int, rng: np.random.Generator) -> list[Fold]:
    """Hold out each labelled document once, with the queries that want only held-out ones.

    A query that wants documents on both sides is on neither side of that fold. The result is empty where all queries
    want the same few documents, so that nothing can be held out.
    """
    labelled = labels.labelled
    fold_of_document = np.empty(len(labelled), dtype=np.int64)
    fold_of_document[rng.permutation(len(labelled))] = np.arange(len(labelled)) % n_folds
    fold_of_pair = fold_of_document[np.searchsorted(labelled, labels.document)]
    wanted = np.bincount(labels.query, minlength=labels.n_queries)
    folds = []
    for f in range(n_folds):
        held = np.bincount(labels.query, fold_of_pair == f, labels.n_queries)
        folds.append(Fold("documents", np.flatnonzero(held == 0), np.flatnonzero(held == wanted)))
    return [f for f in folds if len(f.train) and len(f.held_out)]
