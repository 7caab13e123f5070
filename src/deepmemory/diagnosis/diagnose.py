"""`diagnose`: everything that is looked at, in one call."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepmemory.backends.base import Backend, Distance
from deepmemory.data import LabelledQueries
from deepmemory.diagnosis.labels import copies, coverage, headroom, stale_layer, unfound
from deepmemory.diagnosis.model import KINDS, SEVERITIES, Diagnosis, Finding
from deepmemory.diagnosis.queries import (
    contradictions,
    far_queries,
    few_queries,
    find_doubles,
    leaked_queries,
    repeated_queries,
)
from deepmemory.diagnosis.scene import look
from deepmemory.progress import Progress
from deepmemory.transform import Layer, unit_rows

__all__ = ["SAMPLE", "HeldOutQueries", "diagnose"]

SAMPLE = 5_000
"""Queries, and labelled documents, that are searched for at most: more say the same and take long."""


@dataclass(frozen=True, eq=False)
class HeldOutQueries:
    """Queries that are to measure what was learned from others.

    Attributes:
        texts: of the queries.
        vectors: ``(len(texts), dim)`` float32; None where only texts can be compared.
    """

    texts: Sequence[str]
    vectors: NDArray[np.float32] | None = None


def diagnose(
    backend: Backend,
    labelled: LabelledQueries,
    vectors: NDArray[np.float32],
    *,
    distance: Distance = "cosine",
    layer: tuple[str, Layer] | None = None,
    test: HeldOutQueries | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
    progress: Progress | None = None,
) -> Diagnosis:
    """Look at labelled queries through a store's search, and name what a training would suffer from.

    Searches are the backend's own, batch by batch: one for each query and one for each labelled document, of a sample
    where there are many. Queries are compared with each other as well; queries and documents never all with all.

    Args:
        backend: where the documents are.
        labelled: n queries with their right answers, as they were given.
        vectors: ``(n, dim)`` float32.
        distance: how the store compares vectors.
        layer: name and layer, where one is active: whether it is up to date is looked at, too.
        test: queries that must not be among the others.
        sample: at most so many queries and labelled documents are searched for.
        seed: draws them.
        progress: called with (done, total).

    Raises:
        StorageError: the engine failed.
    """
    scene = look(backend, labelled, vectors, distance=distance, sample=sample, seed=seed, progress=progress)
    doubles = find_doubles(scene)
    findings: list[Finding] = [
        *few_queries(scene),
        *contradictions(scene, doubles),
        *repeated_queries(scene, doubles),
        *far_queries(scene),
        *headroom(scene),
        *coverage(scene),
        *unfound(scene),
        *copies(scene, sample=sample, seed=seed),
    ]
    if layer is not None:
        findings += stale_layer(scene, *layer)
    if test is not None:
        findings += leaked_queries(scene, test.texts, None if test.vectors is None else unit_rows(test.vectors))
    if progress is not None:
        progress(len(labelled), len(labelled))
    findings.sort(key=lambda finding: (SEVERITIES.index(finding.severity), KINDS.index(finding.kind)))
    return Diagnosis(
        n_queries=len(labelled),
        n_documents=scene.n_documents,
        n_looked_at=len(scene.sample),
        findings=tuple(findings),
    )
