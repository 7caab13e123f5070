"""`fit`: arrays in, layer out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from deepmemory.errors import InputError
from deepmemory.progress import Progress
from deepmemory.training.crossvalidation import cross_validate, make_folds
from deepmemory.training.device import Device
from deepmemory.training.evidence import NO_EVIDENCE, Evidence, gather
from deepmemory.training.labels import Labels
from deepmemory.training.pool import MOST_QUERIES, document_pool, sample
from deepmemory.training.report import FitReport
from deepmemory.training.settings import IDENTITY, Linear, Settings
from deepmemory.training.spread import TYPICAL, score_spread
from deepmemory.training.trainer import Trainer, mean_of
from deepmemory.training.workers import Workers
from deepmemory.transform import Layer, QueryMemory, as_matrix, unit_rows
from deepmemory.words import LexicalScores, WordsWeight, above_the_rest, check_lexical_scores, times

__all__ = ["FitResult", "fit"]

Matrix: TypeAlias = NDArray[np.float32]

MIN_QUERIES = 10
"""Fewer can't be divided into folds that say anything."""

MOST_MADE = 2_000
"""Made queries that train, or as many as were asked where those are more; beyond that they cost time and teach little,
for all of them together never count more than the asked ones."""

ENOUGH_LABELLED = 10
"""Labelled documents that tell how far apart scores lie; where there are fewer, all documents are asked."""


@dataclass(frozen=True, eq=False)
class FitResult:
    """A layer and why it is what it is.

    Attributes:
        layer: the identity where nothing passed the gate.
        report: what was compared, with cross-validated figures.
    """

    layer: Layer
    report: FitReport


def fit(
    query_vectors: ArrayLike,
    document_vectors: ArrayLike,
    relevance: Sequence[Sequence[tuple[int, float]]],
    *,
    lexical_scores: LexicalScores | None = None,
    made: ArrayLike | None = None,
    seed: int = 0,
    distance: Literal["cosine", "dot"] = "cosine",
    device: str | None = None,
    progress: Progress | None = None,
) -> FitResult:
    """Learn a layer from queries whose right answers are known.

    The candidates (linear layer, prior, query memory, trust in words; the identity among them) are compared by
    cross-validation over held-out queries and over held-out documents; the winner is trained on everything. Where
    none beats the identity by more than noise, the layer is the identity, and the report says why. Of more than
    10,000 queries a sample takes part.

    Args:
        query_vectors: ``(n_queries, dim)``; taken as unit norm, or made so.
        document_vectors: ``(n_documents, dim)``; with ``"cosine"`` taken as unit norm, or made so. Never changed.
        relevance: for each query the ``(row of document_vectors, grade)`` pairs that answer it, grades above 0.
        lexical_scores: ``(n_queries, n_documents)``, sparse or dense: full-text scores (BM25, or the measure of any
            engine) of the documents that each query finds by words, 0 for the others; its best hundred count. With
            them, how far to trust words beside the vectors is learned too, and `Layer.rank` wants them of new queries.
        made: ``(n_queries,)`` bool: queries that were made out of their documents, by a model or by extraction, and not
            asked by anybody. They train the linear layer, together at most as much as the asked ones; they are no
            part of prior and memory, and judge nothing, unless there are too few asked ones to judge.
        seed: of the folds, and of samples; the same seed gives the same bytes on the same machine.
        distance: how the store compares vectors.
        device: a PyTorch device such as ``"cuda"`` for the large products, which then agree to rounding only; None is
            NumPy on the CPU.
        progress: called with (done, total) as work goes on, several times a second and always on the thread
            that called `fit`; may raise `Cancelled`.

    Raises:
        InputError: shapes that don't fit, values that are not finite, relevance that names no row; all at once. Or
            a device that can't be used.
        MissingExtraError: a device was asked for, and PyTorch is not installed.

    Example:
        >>> result = fit(query_vectors, document_vectors, [[(7, 1.0)], [(2, 1.0), (9, 0.5)]])
        >>> rows, scores = result.layer.rank(new_query_vectors, document_vectors, k=10)
    """
    started = time.perf_counter()
    queries, documents, labels = _checked(query_vectors, document_vectors, relevance, distance)
    is_made = _checked_made(made, len(queries))
    words = None
    if lexical_scores is not None:
        words = above_the_rest(check_lexical_scores(lexical_scores, len(queries), len(documents)))
    where = Device.named(device)
    training = _Training(queries, documents, labels, is_made, words, distance, seed, where, started, progress)
    return training.run()


@dataclass(eq=False)
class _Training:
    queries: Matrix
    documents: Matrix
    labels: Labels
    made: NDArray[np.bool_]
    words: csr_array | None
    distance: Literal["cosine", "dot"]
    seed: int
    device: Device
    started: float
    progress: Progress | None
    done: int = 0
    total: int = 1

    def run(self) -> FitResult:
        if self.made.any() and self._n_different(~self.made) < MIN_QUERIES:
            # they have to judge each other, as if they had been asked
            self.made = np.zeros_like(self.made)
        given = len(self.made), int(self.made.sum())
        self._draw_queries()
        n_different = self._n_different(~self.made)
        if n_different < MIN_QUERIES:
            reason = f"too few different queries to learn from: {n_different}, and at least {MIN_QUERIES} are needed"
            return self._result(None, NO_EVIDENCE, reason, given)
        folds = make_folds(self.queries, self.labels, self.seed, judges=~self.made)
        with Workers(self._report_progress) as workers:
            documents, labels, words = self._pool()
            documents = documents / np.float32(self._unit)
            path = self._trainer(documents, labels).path
            self.total += len(path)
            runs = cross_validate(
                self.queries,
                documents,
                labels,
                folds,
                path=path,
                made=self.made,
                words=None if words is None else times(words, 1 / self._typical_best),
                seed=self.seed,
                workers=workers,
                on_done=self._advance,
                device=self.device,
            )
            evidence = gather(runs, seed=self.seed, each=workers.map)
            layer = self._train(evidence.winner, documents, labels, workers) if evidence.passes else None
        return self._result(layer, evidence, evidence.reason(), given)

    def _draw_queries(self) -> None:
        """Leave out, at random, more queries than a training takes."""
        asked, made = np.flatnonzero(~self.made), np.flatnonzero(self.made)
        rng = np.random.default_rng(self.seed)
        drawn = sample(asked, MOST_QUERIES, rng)
        drawn_made = sample(made, max(MOST_MADE, len(drawn)), rng)
        if len(drawn) + len(drawn_made) == len(self.made):
            return
        rows = np.sort(np.concatenate([drawn, drawn_made]))
        self.queries, self.labels, self.made = self.queries[rows], self.labels.subset(rows), self.made[rows]
        self.words = None if self.words is None else self.words[rows]

    def _n_different(self, which: NDArray[np.bool_]) -> int:
        return len(np.unique(self.queries[which], axis=0))

    @cached_property
    def _asked(self) -> tuple[Matrix, Labels]:
        """The queries that prior and memory know, and their right answers."""
        rows = np.flatnonzero(~self.made)
        return self.queries[rows], self.labels.subset(rows)

    @cached_property
    def _typical_best(self) -> float:
        """What the best hit by words has above the rest, mean over the queries that find anything: their unit."""
        assert self.words is not None
        best = self.words[np.flatnonzero(~self.made)].max(axis=1).toarray().ravel()
        return float(best[best > 0].mean()) if best.any() else 1.0

    @cached_property
    def _spread(self) -> float:
        """How far apart scores lie, over the labelled documents: arrays and a store's pool have the same ones."""
        queries, labels = self._asked
        labelled = labels.labelled
        known = self.documents[labelled] if len(labelled) >= ENOUGH_LABELLED else self.documents
        return score_spread(queries, known)

    @property
    def _unit(self) -> float:
        """What 1 in the candidates' settings is in the store's scores."""
        return self._spread / TYPICAL

    def _pool(self) -> tuple[Matrix, Labels, csr_array | None]:
        rng = np.random.default_rng(self.seed)
        rows = document_pool(
            self.queries, self.documents, self.labels.labelled, rng, words=self.words, device=self.device
        )
        if rows is None:
            return self.documents, self.labels, self.words
        words = None if self.words is None else self.words[:, rows]
        return self.documents[rows], self.labels.renumbered(rows), words

    def _train(self, settings: Settings, documents: Matrix, labels: Labels, workers: Workers) -> Layer:
        matrix = self._linear(settings.linear, documents, labels, workers)
        unit = self._unit
        trust = WordsWeight(unit * settings.words / self._typical_best) if settings.words else None
        layer = Layer(dimensions=self.queries.shape[1], matrix=matrix, distance=self.distance, words=trust)
        if not settings.has_bonus:
            return layer
        queries, labels = self._asked
        labelled = labels.labelled
        return replace(
            layer,
            document_ids=tuple(labelled.tolist()),
            document_vectors=np.ascontiguousarray(self.documents[labelled]),
            prior=unit * settings.prior,
            memory=self._memory(settings, layer.transform(queries), labels) if settings.gain else None,
        )

    def _trainer(self, documents: Matrix, labels: Labels) -> Trainer:
        return Trainer(self.queries, documents, labels, self.seed, made=self.made, device=self.device)

    def _linear(self, wanted: Sequence[Linear], documents: Matrix, labels: Labels, workers: Workers) -> Matrix | None:
        if not wanted:
            return None
        trainer = self._trainer(documents, labels)
        path = [layer for layer in trainer.path if layer.has_made == wanted[0].has_made]
        found = {
            layer: trainer.advance(layer, on_step=workers.check, blocks=workers.map)
            for layer in path[: path.index(wanted[-1]) + 1]
        }
        return mean_of([found[layer] for layer in wanted])

    def _memory(self, settings: Settings, keys: Matrix, labels: Labels) -> QueryMemory:
        return QueryMemory.build(
            keys,
            labels.query,
            np.searchsorted(labels.labelled, labels.document),
            labels.grade,
            threshold=settings.threshold,
            gain=self._unit * settings.gain,
            is_transformed=True,
        )

    def _result(self, layer: Layer | None, evidence: Evidence, reason: str, given: tuple[int, int]) -> FitResult:
        self.done = self.total
        self._report_progress()
        report = FitReport(
            active=layer is not None,
            reason=reason,
            n_queries=given[0],
            n_made=given[1],
            n_learned=self.labels.n_queries,
            n_documents=len(self.documents),
            n_labelled=len(self._asked[1].labelled),
            spread=self._spread,
            settings=evidence.winner if layer is not None else IDENTITY,
            by_query=evidence.by_query,
            by_document=evidence.by_document,
            candidates=evidence.candidates,
            seconds=time.perf_counter() - self.started,
            seed=self.seed,
        )
        return FitResult(layer or Layer.identity(self.queries.shape[1], distance=self.distance), report)

    def _report_progress(self) -> None:
        if self.progress is not None:
            self.progress(self.done, self.total)

    def _advance(self) -> None:
        self.done += 1
        self._report_progress()


def _checked_made(made: ArrayLike | None, n_queries: int) -> NDArray[np.bool_]:
    if made is None:
        return np.zeros(n_queries, dtype=bool)
    flags = np.asarray(made)
    if flags.dtype != bool or flags.shape != (n_queries,):
        raise InputError(
            f"made should be {n_queries} booleans, one for each query; it has the dtype {flags.dtype} and the shape "
            f"{flags.shape}"
        )
    return flags


def _checked(
    query_vectors: ArrayLike,
    document_vectors: ArrayLike,
    relevance: Sequence[Sequence[tuple[int, float]]],
    distance: Literal["cosine", "dot"],
) -> tuple[Matrix, Matrix, Labels]:
    if distance not in ("cosine", "dot"):
        raise InputError(f'distance should be "cosine" or "dot"; it is {distance!r}')
    documents = as_matrix(document_vectors, None, "document_vectors")
    queries = as_matrix(query_vectors, documents.shape[1], "query_vectors")
    for name, vectors in (("query_vectors", queries), ("document_vectors", documents)):
        zero = np.flatnonzero(~vectors.any(axis=1))
        if len(zero):
            raise InputError([f"{name}[{row}] is all zeros, which points nowhere" for row in zero.tolist()])
    labels = Labels.from_relevance(relevance, n_queries=len(queries), n_documents=len(documents))
    return unit_rows(queries), unit_rows(documents) if distance == "cosine" else documents, labels
