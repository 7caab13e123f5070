"""The old model, the new one over the old vectors, and re-embedding, on the same queries and the same documents."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmemory.backends.base import Backend, Distance
from deepmemory.data import LabelledQueries
from deepmemory.embedders import Embedder
from deepmemory.evaluation.text import interval, percent, points
from deepmemory.metrics import judge_rows, recall
from deepmemory.migration import MigrationMap
from deepmemory.significance import PairedLift, paired_lift
from deepmemory.store.sample import Sample
from deepmemory.transform import Layer

__all__ = ["Comparison", "compare"]

DEPTH = 10
_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """Recall@10 on queries with answers, within a sample of the store.

    The sample is what was embedded by the new model: the pairs, and the documents that answer the queries. All three
    searches have the same documents before them, so they can be compared; within fewer documents recall is higher than
    in the whole store.

    Attributes:
        n_queries: queries measured.
        n_documents: documents searched.
        of: documents in the store.
        held_out: whether the queries took no part in anything; those of a training gave the map their texts.
        mapped: recall@10 of the new model over the old vectors.
        re_embedded: recall@10 of the new model over new vectors.
        lift: of the mapped search over the old model; None where the old model can't be asked.
        loss: of the mapped search against re-embedding.
    """

    n_queries: int
    n_documents: int
    of: int
    held_out: bool
    mapped: float
    re_embedded: float
    lift: PairedLift | None
    loss: PairedLift

    @property
    def share(self) -> float:
        """Of re-embedding's recall that the mapped search has."""
        return self.mapped / self.re_embedded if self.re_embedded else float("nan")

    def sentence(self) -> str:
        """All of it."""
        old = ""
        if self.lift is not None:
            old = f"{percent(self.lift.baseline)} by the old model, "
        against = f"{points(self.loss.lift)} points against re-embedding, 95% interval {interval(self.loss.interval)}"
        if self.lift is not None:
            against = (
                f"{points(self.lift.lift)} points over the old model, 95% interval {interval(self.lift.interval)}; "
                + against
            )
        return (
            f"recall@10 {old}{percent(self.mapped)} by the new model over the old vectors, "
            f"{percent(self.re_embedded)} re-embedded; {against}; {self.n_queries:,} queries, "
            f"{self.n_documents:,} of {self.of:,} documents"
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "n_queries": self.n_queries,
            "n_documents": self.n_documents,
            "of": self.of,
            "held_out": self.held_out,
            "old": None if self.lift is None else self.lift.baseline,
            "mapped": self.mapped,
            "re_embedded": self.re_embedded,
            "share": self.share if self.re_embedded else None,
            "lift": None if self.lift is None else self.lift.as_dict(),
            "loss": self.loss.as_dict(),
        }


def compare(
    backend: Backend,
    labelled: LabelledQueries,
    made: MigrationMap,
    *,
    old: Embedder | None,
    new: Embedder,
    sample: Sample,
    new_vectors: NDArray[np.float32],
    distance: Distance,
    held_out: bool,
    seed: int,
) -> Comparison:
    """Measure all three.

    Args:
        backend: of the store.
        labelled: the queries.
        made: the map.
        old: embeds as the store did until now; None where that can't be done.
        new: the new embedder.
        sample: the pairs.
        new_vectors: ``(len(sample.texts), new_dim)``, the pairs by the new model.
        distance: of the store.
        held_out: whether the queries took no part in the learning.
        seed: of the intervals.
    """
    answers = sorted(set(labelled.labelled_ids) - set(sample.ids))
    texts, extra = _fetched(backend, answers)
    ids = [*sample.ids, *extra]
    n_pairs = len(sample.ids)
    old_documents = np.concatenate([sample.vectors[:n_pairs], *([np.stack(list(extra.values()))] if extra else [])])
    new_documents = new_vectors[:n_pairs]
    if extra:
        new_documents = np.concatenate([new_documents, new.embed_documents([texts[id] for id in extra])])
    rows = {id: row for row, id in enumerate(ids)}
    qrels = [{rows[id]: grade for id, grade in pairs.items() if id in rows} for pairs in labelled.qrels]
    queries = new.embed_queries(labelled.queries)

    def found(vectors: NDArray[np.float32], documents: NDArray[np.float32], by: Distance) -> NDArray[np.float64]:
        ranked, _ = Layer.identity(documents.shape[1], distance=by).rank(vectors, documents, k=DEPTH)
        return recall(judge_rows(ranked, qrels), DEPTH)

    mapped = found(made.transform(queries), old_documents, distance)
    re_embedded = found(queries, new_documents, "cosine")
    lift = None
    if old is not None:
        before = found(old.embed_queries(labelled.queries), old_documents, distance)
        lift = paired_lift(before, mapped, seed=seed)
    return Comparison(
        n_queries=len(labelled),
        n_documents=len(ids),
        of=backend.count(),
        held_out=held_out,
        mapped=float(mapped.mean()),
        re_embedded=float(re_embedded.mean()),
        lift=lift,
        loss=paired_lift(re_embedded, mapped, seed=seed),
    )


def _fetched(backend: Backend, ids: Sequence[str]) -> tuple[dict[str, str], dict[str, NDArray[np.float32]]]:
    """Texts and vectors of documents; those that were deleted meanwhile are left out."""
    texts: dict[str, str] = {}
    vectors: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(ids), _BATCH):
        part = ids[start : start + _BATCH]
        texts |= {document.id: document.text for document in backend.get(part) if document is not None}
        vectors |= backend.get_vectors(part)
    return texts, {id: vectors[id] for id in ids if id in vectors and id in texts}
