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
from deepmemory.training.crossvalidation import MAX_ITERATIONS, TOLERANCE, cross_validate, make_folds
from deepmemory.training.evidence import NO_EVIDENCE, Evidence, gather
from deepmemory.training.labels import Labels
from deepmemory.training.pool import document_pool, queries_to_learn_from
from deepmemory.training.report import FitReport
from deepmemory.training.settings import IDENTITY, LAYERS, Settings
from deepmemory.training.trainer import Trainer
from deepmemory.training.workers import Workers
from deepmemory.transform import Layer, QueryMemory, as_matrix, unit_rows
from deepmemory.words import LexicalScores, WordsWeight, above_the_rest, check_lexical_scores, times

__all__ = ["FitResult", "fit"]

Matrix: TypeAlias = NDArray[np.float32]

MIN_QUERIES = 10
"""Fewer can't be divided into folds that say anything."""

FINAL_TOLERANCE = 1e-4
FINAL_ITERATIONS = 50


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
    seed: int = 0,
    distance: Literal["cosine", "dot"] = "cosine",
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
        seed: of the folds, and of the sample; the same seed gives the same bytes on the same machine.
        distance: how the store compares vectors.
        progress: called with (done, total) as work goes on, several times a second and always on the thread
            that called `fit`; may raise `Cancelled`.

    Raises:
        InputError: shapes that don't fit, values that are not finite, relevance that names no row; all at once.

    Example:
        >>> result = fit(query_vectors, document_vectors, [[(7, 1.0)], [(2, 1.0), (9, 0.5)]])
        >>> rows, scores = result.layer.rank(new_query_vectors, document_vectors, k=10)
    """
    started = time.perf_counter()
    queries, documents, labels = _checked(query_vectors, document_vectors, relevance, distance)
    words = None
    if lexical_scores is not None:
        words = above_the_rest(check_lexical_scores(lexical_scores, len(queries), len(documents)))
    n_queries = len(queries)
    rows = queries_to_learn_from(n_queries, seed)
    if rows is not None:
        queries, labels, words = queries[rows], labels.subset(rows), None if words is None else words[rows]
    training = _Training(queries, documents, labels, words, distance, seed, started, progress, n_queries)
    return training.run()


@dataclass(eq=False)
class _Training:
    queries: Matrix
    documents: Matrix
    labels: Labels
    words: csr_array | None
    distance: Literal["cosine", "dot"]
    seed: int
    started: float
    progress: Progress | None
    n_queries: int
    done: int = 0
    total: int = len(LAYERS) + 1

    def run(self) -> FitResult:
        n_different = len(np.unique(self.queries, axis=0))
        if n_different < MIN_QUERIES:
            reason = f"too few different queries to learn from: {n_different}, and at least {MIN_QUERIES} are needed"
            return self._result(None, NO_EVIDENCE, reason)
        folds = make_folds(self.queries, self.labels, self.seed)
        with Workers(self._report_progress) as workers:
            documents, labels, words = self._pool()
            runs = cross_validate(
                self.queries,
                documents,
                labels,
                folds,
                words=None if words is None else times(words, 1 / self._typical_best),
                seed=self.seed,
                workers=workers,
                on_done=self._advance,
            )
            evidence = gather(runs, seed=self.seed)
            layer = self._train(evidence.winner, documents, labels, workers) if evidence.passes else None
        return self._result(layer, evidence, evidence.reason())

    @cached_property
    def _typical_best(self) -> float:
        """What the best hit by words has above the rest, mean over the queries that find anything: their unit."""
        assert self.words is not None
        best = self.words.max(axis=1).toarray().ravel()
        return float(best[best > 0].mean()) if best.any() else 1.0

    def _pool(self) -> tuple[Matrix, Labels, csr_array | None]:
        rng = np.random.default_rng(self.seed)
        rows = document_pool(self.queries, self.documents, self.labels.labelled, rng, words=self.words)
        if rows is None:
            return self.documents, self.labels, self.words
        words = None if self.words is None else self.words[:, rows]
        return self.documents[rows], self.labels.renumbered(rows), words

    def _train(self, settings: Settings, documents: Matrix, labels: Labels, workers: Workers) -> Layer:
        matrix = self._linear(settings, documents, labels, workers)
        trust = WordsWeight(settings.words / self._typical_best) if settings.words else None
        layer = Layer(dimensions=self.queries.shape[1], matrix=matrix, distance=self.distance, words=trust)
        if not settings.has_bonus:
            return layer
        labelled = self.labels.labelled
        return replace(
            layer,
            document_ids=tuple(labelled.tolist()),
            document_vectors=np.ascontiguousarray(self.documents[labelled]),
            prior=settings.prior,
            memory=self._memory(settings, layer.transform(self.queries)) if settings.gain else None,
        )

    def _linear(self, settings: Settings, documents: Matrix, labels: Labels, workers: Workers) -> Matrix | None:
        if settings.penalty is None:
            return None
        trainer = Trainer(self.queries, documents, labels, self.seed)
        winner = LAYERS.index(settings.linear)
        matrix = None
        for place, layer in enumerate(LAYERS[: winner + 1]):
            is_last = place == winner
            matrix = trainer.advance(
                layer,
                tolerance=FINAL_TOLERANCE if is_last else TOLERANCE,
                max_iterations=FINAL_ITERATIONS if is_last else MAX_ITERATIONS,
                on_step=workers.check,
                blocks=workers.map,
            )
        return matrix

    def _memory(self, settings: Settings, keys: Matrix) -> QueryMemory:
        return QueryMemory.build(
            keys,
            self.labels.query,
            np.searchsorted(self.labels.labelled, self.labels.document),
            self.labels.grade,
            threshold=settings.threshold,
            gain=settings.gain,
            is_transformed=True,
        )

    def _result(self, layer: Layer | None, evidence: Evidence, reason: str) -> FitResult:
        self.done = self.total
        self._report_progress()
        report = FitReport(
            active=layer is not None,
            reason=reason,
            n_queries=self.n_queries,
            n_learned=self.labels.n_queries,
            n_documents=len(self.documents),
            n_labelled=len(self.labels.labelled),
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
