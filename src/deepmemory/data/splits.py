"""Splits into training and held-out queries, and what the two have in common."""

import unicodedata
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from deepmemory.errors import InputError

__all__ = [
    "Leak",
    "Split",
    "leaks",
    "normalised",
    "seen_documents",
    "split_by_document",
    "split_by_query",
]

Positions: TypeAlias = NDArray[np.int64]
Id = TypeVar("Id", bound=Hashable)


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Which queries train and which are held out.

    Attributes:
        train: ``(n_train,) int64`` positions, ascending.
        test: ``(n_test,) int64`` positions, ascending.
        dropped: ``(n_dropped,) int64`` positions of the queries that are in neither, ascending.
    """

    train: Positions
    test: Positions
    dropped: Positions


@dataclass(frozen=True, slots=True)
class Leak:
    """A test query that was trained on.

    Attributes:
        test: its position among the test queries.
        train: the positions of its doubles among the training queries.
    """

    test: int
    train: tuple[int, ...]


def split_by_query(n: int, fraction: float = 0.6, *, seed: int = 0) -> Split:
    """Draw training queries at random; the rest is held out.

    Test queries may want documents that training queries want, too, as new questions about known documents do.

    Args:
        n: how many queries there are.
        fraction: the share that trains, rounded to whole queries.
        seed: of the draw; the same seed gives the same split.

    Raises:
        InputError: the fraction is not between 0 and 1, or one side would be empty.
    """
    order = _drawn(n, fraction, seed, "queries")
    return Split(train=np.flatnonzero(order), test=np.flatnonzero(~order), dropped=np.empty(0, dtype=np.int64))


def split_by_document(qrels: Sequence[Mapping[Id, float]], fraction: float = 0.6, *, seed: int = 0) -> Split:
    """Draw documents at random, so that no test query wants a document that a training query wants.

    The documents drawn from are those that answer some query. Queries that want only documents that were drawn train;
    queries that want only others are the test; those that want some of both are dropped.

    Args:
        qrels: for each query the grade of each document by id; a grade of 0 says not relevant.
        fraction: the share of the labelled documents that train, rounded to whole documents.
        seed: of the draw; the same seed and the same order of queries give the same split.

    Raises:
        InputError: the fraction is not between 0 and 1, or one side would be empty.
    """
    wanted = [[id for id, grade in judgements.items() if grade > 0] for judgements in qrels]
    documents = list(dict.fromkeys(id for ids in wanted for id in ids))
    drawn = _drawn(len(documents), fraction, seed, "documents that answer a query")
    trains = dict(zip(documents, drawn.tolist(), strict=True))
    share = np.array([np.mean([trains[id] for id in ids]) if ids else np.nan for ids in wanted])
    train, test = share == 1, share == 0
    if not train.any() or not test.any():
        raise InputError(
            f"No split by document: of {len(qrels)} queries {train.sum()} would train and {test.sum()} be held out, "
            "because most want documents on both sides; split by query instead."
        )
    return Split(train=np.flatnonzero(train), test=np.flatnonzero(test), dropped=np.flatnonzero(~(train | test)))


def normalised(query: str) -> str:
    """A query without its differences of case, spacing and Unicode form; alike in this form is the same question."""
    return " ".join(unicodedata.normalize("NFKC", query).casefold().split())


def leaks(train_queries: Sequence[str], test_queries: Sequence[str]) -> tuple[Leak, ...]:
    """The test queries that are also training queries, compared as `normalised`.

    Figures on them are not held out, so a report says how many there are.
    """
    places: dict[str, list[int]] = {}
    for position, query in enumerate(train_queries):
        places.setdefault(normalised(query), []).append(position)
    return tuple(
        Leak(test=position, train=tuple(places[form]))
        for position, form in enumerate(map(normalised, test_queries))
        if form in places
    )


def seen_documents(labelled_ids: Collection[Id], test_qrels: Sequence[Mapping[Id, float]]) -> NDArray[np.float64]:
    """How much of what each test query wants was wanted by some training query, too.

    Reports keep the two ends apart: a gain on *unseen* documents was learnt about the domain, a gain on *seen* ones may
    have been learnt about the document.

    Args:
        labelled_ids: the documents that are relevant to some training query (`LabelledQueries.labelled_ids`).
        test_qrels: for each of n test queries the grade of each document by id; only grades above 0 matter.

    Returns:
        ``(n,) float64``, the share of the query's relevant documents that are among ``labelled_ids``: 1 where all are
        seen, 0 where none is, between them where some are.
    """
    labelled = frozenset(labelled_ids)
    return np.array(
        [
            np.mean([id in labelled for id, grade in judgements.items() if grade > 0] or [False])
            for judgements in test_qrels
        ],
        dtype=np.float64,
    )


def _drawn(n: int, fraction: float, seed: int, what: str) -> NDArray[np.bool_]:
    """``(n,)`` true for a share of n things drawn at random."""
    if not 0 < fraction < 1:
        raise InputError(f"The share that trains must lie between 0 and 1, but is {fraction}.")
    size = round(n * fraction)
    if not 0 < size < n:
        raise InputError(f"{n} {what} are too few to split: {size} would train and {n - size} be held out.")
    drawn = np.zeros(n, dtype=np.bool_)
    drawn[np.random.default_rng(seed).permutation(n)[:size]] = True
    return drawn
