"""What a training job does, from queries to a saved layer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmemory.artifacts import LayerArchive
from deepmemory.backends.base import Backend, Distance
from deepmemory.data import LabelledQueries, check_vectors
from deepmemory.embedders import Embedder, Fingerprint
from deepmemory.jobs import JobRun
from deepmemory.memory.history import data_hash
from deepmemory.memory.pool import gather_pool
from deepmemory.progress import Progress
from deepmemory.training import fit
from deepmemory.transform import Layer

__all__ = ["TrainingWork", "embed_checked"]

_EMBEDDED, _GATHERED, _FITTED = 0.3, 0.4, 1.0


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
    provenance: Mapping[str, Any]

    def __call__(self, run: JobRun) -> Mapping[str, Any]:
        """Do it; nothing of the store changes before the job commits.

        Returns:
            the training report, and the ``layer``'s name.
        """
        vectors = self._query_vectors(run)
        pool = gather_pool(
            self.backend,
            self.labelled.labelled_ids,
            vectors,
            distance=self.distance,
            seed=self.seed,
            progress=run.stage("reading documents", _EMBEDDED, _GATHERED),
        )
        rows = pool.rows()
        relevance = [[(rows[id], grade) for id, grade in qrels.items()] for qrels in self.labelled.qrels]
        result = fit(
            vectors,
            pool.vectors,
            relevance,
            seed=self.seed,
            distance=self.distance,
            progress=run.stage("training", _GATHERED, _FITTED),
        )
        layer = result.layer.with_document_ids([pool.ids[int(row)] for row in result.layer.document_ids])
        return self._save(run, layer, {**result.report.as_dict(), **self.provenance, "job": run.job_id})

    def _query_vectors(self, run: JobRun) -> NDArray[np.float32]:
        if self.vectors is not None:
            return self.vectors
        assert self.embedder is not None
        progress = run.stage("embedding queries", 0.0, _EMBEDDED)
        return embed_checked(self.embedder, self.labelled, self.backend.dimensions, progress=progress)

    def _save(self, run: JobRun, layer: Layer, report: Mapping[str, Any]) -> Mapping[str, Any]:
        fingerprint = self.fingerprint()
        values = None if fingerprint is None else fingerprint.as_dict()
        run.commit()
        info = self.archive.save(layer, embedder=values, data_hash=data_hash(self.labelled), report=report)
        if report["active"]:
            self.archive.activate(info.name)
        return {**report, "layer": info.name}


def embed_checked(
    embedder: Embedder, labelled: LabelledQueries, dimensions: int | None, *, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Embed queries, and check that the vectors are of the store's dimensions, ``(len(labelled), dimensions)``."""
    vectors = embedder.embed_queries(list(labelled.queries), progress=progress)
    return check_vectors(vectors, len(labelled), dimensions, f"the vectors that {embedder.name} made of the queries")
