"""What a training job does, from queries to a saved layer."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmemory.artifacts import LayerArchive, LayerInfo
from deepmemory.backends.base import Backend, Distance, Ranking
from deepmemory.data import LabelledQueries, check_vectors
from deepmemory.diagnosis import HeldOutQueries, diagnose
from deepmemory.embedders import Embedder, Fingerprint
from deepmemory.jobs import JobRun
from deepmemory.memory.history import data_hash
from deepmemory.memory.pool import gather_pool
from deepmemory.progress import Progress
from deepmemory.retrieval import lexical_scores
from deepmemory.training import fit
from deepmemory.transform import Layer
from deepmemory.words import DEPTH

__all__ = ["Learned", "TrainingWork", "embed_checked", "embed_held_out"]

_EMBEDDED, _FOUND_BY_WORDS, _GATHERED, _LOOKED_AT, _FITTED = 0.3, 0.35, 0.4, 0.45, 1.0
_WORDS_BATCH = 50

DEVICE_VARIABLE = "DEEPMEMORY_DEVICE"
"""Names the PyTorch device on which this process's jobs train; without it they train by NumPy."""

_DIAGNOSED = 500
"""Queries that are looked at in passing; `DeepMemory.diagnose` looks at more."""


@dataclass(frozen=True, eq=False)
class TrainingWork:
    """One training, ready to run: every argument was checked.

    Attributes:
        backend: where the documents are.
        archive: where the layer goes.
        labelled: the training queries, each text once.
        vectors: ``(len(labelled), dimensions)`` float32 where they were given.
        embedder: makes them where they were not.
        fingerprint: takes the fingerprint of the store's embedder; None where another made the vectors.
        distance: how the store compares vectors.
        seed: of everything that is drawn.
        words: whether to learn how far to trust full-text search, where the backend has it.
        provenance: JSON values to keep with the layer.
    """

    backend: Backend
    archive: LayerArchive
    labelled: LabelledQueries
    vectors: NDArray[np.float32] | None
    embedder: Embedder | None
    fingerprint: Callable[[], Fingerprint | None]
    distance: Distance
    seed: int
    words: bool
    provenance: Mapping[str, Any]

    def __call__(self, run: JobRun) -> Mapping[str, Any]:
        """Do it; nothing of the store changes before the job commits.

        Returns:
            the training report, and the ``layer``'s name.
        """
        return self.save(run, self.learn(run, self.query_vectors(run)))

    def query_vectors(self, run: JobRun) -> NDArray[np.float32]:
        """The first stage: ``(len(labelled), dimensions)`` float32, the queries' vectors."""
        if self.vectors is not None:
            return self.vectors
        assert self.embedder is not None
        progress = run.stage("embedding queries", 0.0, _EMBEDDED)
        return embed_checked(self.embedder, self.labelled, self.backend.dimensions, progress=progress)

    def learn(self, run: JobRun, vectors: NDArray[np.float32]) -> "Learned":
        """The second stage: search by words, gather the documents, look at the labels, and fit."""
        by_words = self._search_words(run.stage("searching by words", _EMBEDDED, _FOUND_BY_WORDS))
        pool = gather_pool(
            self.backend,
            self.labelled.labelled_ids,
            vectors,
            distance=self.distance,
            seed=self.seed,
            progress=run.stage("reading documents", _FOUND_BY_WORDS, _GATHERED),
            by_words=by_words,
        )
        diagnosis = diagnose(
            self.backend,
            self.labelled,
            vectors,
            distance=self.distance,
            sample=_DIAGNOSED,
            seed=self.seed,
            progress=run.stage("looking at the labels", _GATHERED, _LOOKED_AT),
        )
        rows = pool.rows()
        relevance = [[(rows[id], grade) for id, grade in qrels.items()] for qrels in self.labelled.qrels]
        result = fit(
            vectors,
            pool.vectors,
            relevance,
            lexical_scores=lexical_scores(by_words, rows) if by_words else None,
            made=self.labelled.made or None,
            seed=self.seed,
            distance=self.distance,
            device=os.environ.get(DEVICE_VARIABLE) or None,
            progress=run.stage("training", _LOOKED_AT, _FITTED),
        )
        layer = result.layer.with_document_ids([pool.ids[int(row)] for row in result.layer.document_ids])
        report = {**result.report.as_dict(), "diagnosis": diagnosis.short(), **self.provenance, "job": run.job_id}
        return Learned(layer, report)

    def _search_words(self, progress: Progress) -> list[Ranking]:
        """What each query finds by words; nothing where words are to have no part."""
        if not (self.words and self.backend.capabilities.full_text):
            return []
        found: list[Ranking] = []
        for start in range(0, len(self.labelled), _WORDS_BATCH):
            progress(start, len(self.labelled))
            found += self.backend.search_text(self.labelled.queries[start : start + _WORDS_BATCH], DEPTH + 1)
        return found

    def save(self, run: JobRun, learned: "Learned") -> Mapping[str, Any]:
        """The last stage: commit, save the layer, and activate it where it passed the gate.

        Where a run of the same job was cut short after it had committed, the layer that it saved is taken.

        Returns:
            the training report, and the ``layer``'s name.
        """
        fingerprint = self.fingerprint()
        values = None if fingerprint is None else fingerprint.as_dict()
        info = None if run.commit() else self._saved_before(run.job_id)
        if info is None:
            info = self.archive.save(
                learned.layer, embedder=values, data_hash=data_hash(self.labelled), report=learned.report
            )
        if learned.report["active"]:
            self.archive.activate(info.name)
        return {**learned.report, "layer": info.name}

    def _saved_before(self, job_id: str) -> LayerInfo | None:
        infos = (self.archive.load(name).info for name in reversed(self.archive.names()))
        return next((info for info in infos if info.report.get("job") == job_id), None)


@dataclass(frozen=True, eq=False)
class Learned:
    """What a training learned, before it is saved.

    Attributes:
        layer: with document ids.
        report: the training report, JSON values.
    """

    layer: Layer
    report: Mapping[str, Any]


def embed_checked(
    embedder: Embedder, labelled: LabelledQueries, dimensions: int | None, *, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Embed queries, and check that the vectors are of the store's dimensions, ``(len(labelled), dimensions)``."""
    vectors = embedder.embed_queries(list(labelled.queries), progress=progress)
    return check_vectors(vectors, len(labelled), dimensions, f"the vectors that {embedder.name} made of the queries")


def embed_held_out(embedder: Embedder, test: HeldOutQueries | None, dimensions: int | None) -> HeldOutQueries | None:
    """Test queries with their vectors, made where they were not given."""
    if test is None or test.vectors is not None or not test.texts:
        return test
    vectors = embedder.embed_queries(list(test.texts))
    what = f"the vectors that {embedder.name} made of the test queries"
    return HeldOutQueries(test.texts, check_vectors(vectors, len(test.texts), dimensions, what))
