"""`fit_map`: the candidates compared on what they were not learned from, and the winner learned from everything."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepmemory.data import check_vectors
from deepmemory.errors import InputError
from deepmemory.migration.agreement import Judge
from deepmemory.migration.candidates import (
    CLOSED_FORMS,
    RANKINGS,
    Candidate,
    Pairs,
    affine_maps,
    closed_forms,
    ranking_map,
)
from deepmemory.migration.model import Affine, MigrationMap
from deepmemory.migration.report import Compared, MapReport
from deepmemory.progress import Progress
from deepmemory.significance import paired_interval
from deepmemory.training.folds import Fold, query_folds
from deepmemory.training.workers import Workers
from deepmemory.transform import unit_rows

__all__ = ["MIN_PAIRS", "MapResult", "fit_map"]

Matrix: TypeAlias = NDArray[np.float32]
PerQuery: TypeAlias = NDArray[np.float64]

MIN_PAIRS = 50
"""Fewer can't be divided into folds that say anything."""

_FOLDS = 5
_AS_GOOD_AS_RE_EMBEDDING = 0.995
"""From this agreement on nothing is to be had beyond a closed form."""


@dataclass(frozen=True, eq=False)
class MapResult:
    """A map and why it is what it is.

    Attributes:
        map: from the new model's vectors into the old one's space.
        report: what was compared.
    """

    map: MigrationMap
    report: MapReport


def fit_map(
    new_vectors: ArrayLike,
    old_vectors: ArrayLike,
    *,
    query_vectors: ArrayLike | None = None,
    n_documents: int | None = None,
    distance: Literal["cosine", "dot"] = "cosine",
    seed: int = 0,
    progress: Progress | None = None,
) -> MapResult:
    """Learn to search an old model's document vectors with a new model's query vectors.

    The candidates (see `deepmemory.migration.candidates`) are compared by cross-validation: how much of what the new
    model would find, had the documents been embedded by it, does each find in the old vectors? Of those within one
    standard error of the best the most cautious wins, and is learned from everything.

    Args:
        new_vectors: ``(n, new_dim)``, texts by the new model. Best are documents of the store: what is learned is what
            their old vectors say about their new ones.
        old_vectors: ``(n, old_dim)``, the same texts by the old model, in the same order.
        query_vectors: ``(n_queries, new_dim)``, queries like those to come, by the new model; they need no old vectors
            and no answers. With them the map is judged, and fitted more closely, where queries are.
        n_documents: how many documents there are to search, the pairs among them; None for very many more than pairs.
            A map serves the pairs themselves better than documents that it has not seen, so candidates are judged on
            both, in the proportion in which a search will meet them.
        distance: how the store compares vectors.
        seed: of the folds; the same seed gives the same bytes on the same machine.
        progress: called with (done, total) on the thread that called; may raise `Cancelled`.

    Raises:
        InputError: numbers of pairs that differ, too few, shapes that don't fit, rows that are zero or not finite; or
            both sides are the same vectors.

    Example:
        >>> result = fit_map(new_vectors, old_vectors)
        >>> scores = result.map.transform(new_query_vectors) @ all_old_document_vectors.T
    """
    started = time.perf_counter()
    pairs = _checked(new_vectors, old_vectors, query_vectors, n_documents, distance)
    return _Fit(pairs, n_documents, seed, started, progress).run()


Agreement: TypeAlias = dict[Candidate, list[PerQuery]]
"""Of each candidate, for each fold, the agreement of its held-out queries."""


@dataclass(eq=False)
class _Fit:
    pairs: Pairs
    n_documents: int | None
    seed: int
    started: float
    progress: Progress | None
    done: int = 0
    total: int = 2 * _FOLDS + 1

    def run(self) -> MapResult:
        folds = self._folds()
        with Workers(self._report_progress) as workers:
            judges = [Judge.of(held_out, seen=self._met_again(train, held_out)) for train, held_out in folds]
            learned = workers.map(self._closed, [train for train, _ in folds])
            agreement: Agreement = {
                candidate: [judge.agreement(maps[candidate]) for judge, (maps, _) in zip(judges, learned, strict=True)]
                for candidate in CLOSED_FORMS
            }
            start = max((c for c in CLOSED_FORMS if c.kind == "scores"), key=lambda c: _mean(agreement[c]))
            if _mean(agreement[start]) < _AS_GOOD_AS_RE_EMBEDDING:
                agreement |= self._rankings(folds, judges, [maps[start] for maps, _ in learned], workers)
            chosen = _choose(agreement)
            documents, cosine = _best_for_documents([maps for _, maps in learned], [held for _, held in folds])
            made = MigrationMap(self._final(chosen, start, workers), affine_maps(self.pairs)[documents])
        self.done = self.total
        self._report_progress()
        return MapResult(made, self._report(chosen, agreement, cosine, judges[0]))

    def _folds(self) -> list[tuple[Pairs, Pairs]]:
        """Texts with their queries to learn from and to judge by; queries too few to be divided are learned from."""
        rng = np.random.default_rng(self.seed)
        queries = self.pairs.queries
        texts = query_folds(self.pairs.new, _FOLDS, rng)
        given = query_folds(queries, _FOLDS, rng) if len(queries) else []
        if len(given) < len(texts):
            everything = np.arange(len(queries))
            given = [Fold("queries", everything, everything[:0])] * len(texts)
        return [
            (self.pairs.only(text.train, query.train), self.pairs.only(text.held_out, query.held_out))
            for text, query in zip(texts, given, strict=False)
        ]

    def _met_again(self, train: Pairs, held_out: Pairs) -> Pairs:
        """As many documents of the learning as a search meets beside so many that it has not seen."""
        n, total = len(self.pairs.new), self.n_documents
        share = 0.0 if total is None else n / max(total - n, 1)
        count = min(len(train.new), round(share * len(held_out.new)))
        return train.only(np.arange(count), np.arange(0))

    def _closed(self, train: Pairs) -> tuple[dict[Candidate, Affine], dict[Candidate, Affine]]:
        made = closed_forms(train), affine_maps(train)
        self.done += 1
        return made

    def _rankings(
        self, folds: Sequence[tuple[Pairs, Pairs]], judges: Sequence[Judge], starts: Sequence[Affine], workers: Workers
    ) -> Agreement:
        def judged(place: int) -> list[PerQuery]:
            path = self._path(folds[place][0], starts[place], RANKINGS, workers)
            self.done += 1
            return [judges[place].agreement(found) for found in path]

        by_fold = workers.map(judged, range(len(folds)))
        return {candidate: [values[i] for values in by_fold] for i, candidate in enumerate(RANKINGS)}

    def _path(self, pairs: Pairs, start: Affine, candidates: Sequence[Candidate], workers: Workers) -> list[Affine]:
        """Each begins where the one before it, which stays nearer to the start, has ended."""
        found = [start]
        for candidate in candidates:
            penalty = candidate.penalty or 0.0
            found.append(ranking_map(pairs, start, penalty, begin=found[-1], check=workers.check))
        return found[1:]

    def _final(self, chosen: Candidate, start: Candidate, workers: Workers) -> Affine:
        closed = closed_forms(self.pairs)
        if chosen in closed:
            return closed[chosen]
        candidates = RANKINGS[: RANKINGS.index(chosen) + 1]
        return workers.map(lambda some: self._path(self.pairs, closed[start], some, workers)[-1], [candidates])[0]

    def _report(self, chosen: Candidate, agreement: Agreement, cosine: float, judge: Judge) -> MapReport:
        judged = _nested(agreement)
        return MapReport(
            chosen=chosen,
            agreement=float(judged.mean()),
            interval=paired_interval(judged, seed=self.seed),
            depth=judge.first.shape[1],
            document_cosine=cosine,
            candidates=tuple(_compared(candidate, values) for candidate, values in agreement.items()),
            n_pairs=len(self.pairs.new),
            n_queries=len(self.pairs.queries),
            n_judged=len(judged),
            n_ranked=len(judge.documents),
            new_dimensions=self.pairs.new.shape[1],
            old_dimensions=self.pairs.old.shape[1],
            seed=self.seed,
            seconds=time.perf_counter() - self.started,
        )

    def _report_progress(self) -> None:
        if self.progress is not None:
            self.progress(self.done, self.total)


def _mean(by_fold: Sequence[PerQuery]) -> float:
    return float(np.concatenate(by_fold).mean())


def _choose(agreement: Agreement) -> Candidate:
    """The most cautious of those that can't be told from the best: within one standard error of its difference."""
    best = max(agreement, key=lambda candidate: _mean(agreement[candidate]))
    for candidate, by_fold in agreement.items():
        behind = np.concatenate(agreement[best]) - np.concatenate(by_fold)
        if behind.mean() <= behind.std() / np.sqrt(len(behind)):
            return candidate
    return best


def _nested(agreement: Agreement) -> PerQuery:
    """The agreement on each fold of the candidate that the other folds choose."""
    n_folds = len(next(iter(agreement.values())))
    found = []
    for fold in range(n_folds):
        others = {candidate: [v for f, v in enumerate(values) if f != fold] for candidate, values in agreement.items()}
        found.append(agreement[_choose(others)][fold])
    return np.concatenate(found)


def _best_for_documents(
    maps: Sequence[Mapping[Candidate, Affine]], held_out: Sequence[Pairs]
) -> tuple[Candidate, float]:
    """The map that puts held-out documents nearest to where the old model did, and its mean cosine with that."""
    cosines = {
        candidate: float(
            np.concatenate(
                [
                    np.einsum("ij,ij->i", by_fold[candidate](part.new), unit_rows(part.old))
                    for by_fold, part in zip(maps, held_out, strict=True)
                ]
            ).mean()
        )
        for candidate in maps[0]
    }
    best = max(cosines, key=cosines.__getitem__)
    return best, cosines[best]


def _compared(candidate: Candidate, by_fold: Sequence[PerQuery]) -> Compared:
    values = np.concatenate(by_fold)
    return Compared(candidate, float(values.mean()), float(values.std() / np.sqrt(len(values))))


def _checked(
    new_vectors: ArrayLike,
    old_vectors: ArrayLike,
    query_vectors: ArrayLike | None,
    n_documents: int | None,
    distance: object,
) -> Pairs:
    problems: list[str] = []

    def checked(vectors: ArrayLike, dimensions: int | None, what: str) -> Matrix | None:
        try:
            return check_vectors(vectors, None, dimensions, what)
        except InputError as error:
            problems.extend(error.problems)
            return None

    if distance not in ("cosine", "dot"):
        problems.append(f"distance is 'cosine' or 'dot'; found {distance!r}.")
    new, old = checked(new_vectors, None, "new_vectors"), checked(old_vectors, None, "old_vectors")
    queries = None
    if query_vectors is not None:
        queries = checked(query_vectors, None if new is None else new.shape[1], "query_vectors")
    if new is not None and old is not None:
        problems += _pair_problems(new, old)
        if n_documents is not None and n_documents < len(new):
            problems.append(f"n_documents counts the {len(new)} pairs too, but is {n_documents}.")
    if problems or new is None or old is None:
        raise InputError(problems)
    if queries is None:
        queries = np.empty((0, new.shape[1]), dtype=np.float32)
    return Pairs(unit_rows(new), unit_rows(old) if distance == "cosine" else old, unit_rows(queries))


def _pair_problems(new: Matrix, old: Matrix) -> list[str]:
    if len(new) != len(old):
        return [
            f"new_vectors and old_vectors are the same texts by two models, but there are {len(new)} and {len(old)}."
        ]
    different = len(np.unique(new, axis=0))
    if different < MIN_PAIRS:
        return [
            f"a map needs at least {MIN_PAIRS} pairs of different texts, better 2,000, and there are {different}; "
            "give more, or embed the documents anew: there can't be many."
        ]
    if new.shape == old.shape and np.allclose(unit_rows(new), unit_rows(old), atol=1e-3):
        return ["new_vectors and old_vectors are the same: there is nothing to migrate."]
    return []
