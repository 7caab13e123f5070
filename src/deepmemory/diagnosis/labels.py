"""Findings about labels: how good the search is already, what the labels cover, and answers that can't be found."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from deepmemory import metrics
from deepmemory.diagnosis.model import Example, Finding
from deepmemory.diagnosis.queries import SHOWN
from deepmemory.diagnosis.scene import DEPTH, Scene, search, vectors_of
from deepmemory.diagnosis.wording import counted, share
from deepmemory.transform import Layer, unit_rows

__all__ = ["copies", "coverage", "headroom", "stale_layer", "unfound"]

NEARLY_PERFECT = 0.98
"""nDCG@10 from which a training finds nothing left to learn."""

HARDLY_FOUND = 0.5
"""Recall@100 below which the labels may be about other documents, or the vectors from another embedder."""

UNFOUND = 0.1
"""Share of labels that no search finds from which they are a warning."""

COPY = 0.99
"""Cosine from which a document is a copy of another."""

COPIES = 0.02
"""Share of queries with unlabelled copies of their answers from which they are a warning."""

ONE_FOR_ALL = 0.25
"""Share of the queries that one document answers from which it is what is learned."""

STALE = 0.05
"""Share of a layer's documents that are gone or have changed from which it should be trained again."""

_COPIES_LOOKED_FOR = 10


def headroom(scene: Scene) -> list[Finding]:
    """How good the plain search is already."""
    judged = metrics.judge([ranking.ids for ranking in scene.rankings], _qrels(scene))
    ndcg, first, ten, hundred = (
        float(values.mean())
        for values in (metrics.ndcg(judged, 10), *(metrics.recall(judged, k) for k in (1, 10, DEPTH)))
    )
    without, of = int((metrics.recall(judged, 10) == 0).sum()), len(scene.sample)
    what = (
        f"Without a layer, nDCG@10 is {ndcg:.3f} and recall is {first:.0%} at 1, {ten:.0%} at 10 and {hundred:.0%} at "
        f"{DEPTH}; {counted(without, 'query', 'queries')} of {of:,} find no answer in the first 10."
    )
    if ndcg >= NEARLY_PERFECT:
        why = "nothing is left to learn, so a training will leave the layer off."
        advice = "Be content, or gather queries that the search does badly on."
        return [Finding("headroom", "warning", without, of, what, why, advice)]
    if hundred < HARDLY_FOUND and scene.n_documents > 10 * DEPTH:
        why = (
            "a search that misses most answers even so far down mostly means that labels and documents don't belong "
            "together; a layer can mend a shift of the vectors, and not wrong labels."
        )
        advice = "Check that the ids are those of this store, and that one embedder made the vectors of both sides."
        return [Finding("headroom", "warning", without, of, what, why, advice)]
    why = f"a layer brings up answers that lie further down; {hundred - ten:.0%} lie between hit 10 and hit {DEPTH}."
    return [Finding("headroom", "info", without, of, what, why)]


def coverage(scene: Scene) -> list[Finding]:
    """How the labels are spread over documents and queries."""
    qrels = scene.labelled.qrels
    counts = Counter(id for judgements in qrels for id in judgements)
    top, most = counts.most_common(1)[0]
    n, pairs = len(counts), sum(counts.values())
    what = (
        f"{counted(n, 'document')} of {scene.n_documents:,} ({share(n, scene.n_documents)}) "
        f"{'has' if n == 1 else 'have'} labels; a labelled document answers {pairs / n:.1f} queries on average, and a "
        f"query wants {pairs / len(qrels):.1f} documents."
    )
    if most >= ONE_FOR_ALL * len(qrels) and len(qrels) >= 20:
        return [
            Finding(
                "coverage",
                "warning",
                most,
                len(qrels),
                f"{what} One document answers {share(most, len(qrels))} of the queries.",
                "mostly that document is learned, and it will be shown for whatever comes near it.",
                "Gather queries for other documents as well, or drop some of these.",
                (_one_for_all(scene, top, most),),
            )
        ]
    why = "queries about labelled documents gain most; what the others gain is learned about the language in common."
    return [Finding("coverage", "info", n, scene.n_documents, what, why)]


def _one_for_all(scene: Scene, id: str, times: int) -> Example:
    rows = [row for row, judgements in enumerate(scene.labelled.qrels) if id in judgements][:SHOWN]
    queries = tuple(scene.labelled.queries[row] for row in rows)
    return Example(f"wanted by {counted(times, 'query', 'queries')}", queries, scene.texts([id]))


def unfound(scene: Scene) -> list[Finding]:
    """Right answers that no search finds among the first hits, by vectors or by words.

    No layer has a part in it: one that was trained on these queries would find what it was told, right or wrong.
    """
    if scene.n_documents <= DEPTH:
        return []  # every search finds everything
    qrels = _qrels(scene)
    missing = _still_missing(
        scene,
        {
            row: lost
            for row, (ranking, judgements) in enumerate(zip(scene.rankings, qrels, strict=True))
            if (lost := judgements.keys() - set(ranking.ids))
        },
    )
    n, of = sum(map(len, missing.values())), sum(map(len, qrels))
    if not n:
        return []
    many = n >= UNFOUND * of
    ways = "by vectors or by words" if scene.backend.capabilities.full_text else "by vectors"
    return [
        Finding(
            "unfound",
            "warning" if many else "info",
            n,
            of,
            f"{counted(n, 'right answer is', 'right answers are')} not among the first {DEPTH} hits, {ways}: "
            f"{share(n, of)} of {of:,} labels.",
            "either the label is wrong, or the document doesn't say what the query asks in words that a search could "
            "know; training on wrong labels costs the right ones.",
            "Read some of them: correct the wrong ones, and split documents that hold the answer among much else."
            if many
            else "Read the examples; where the labels are right, nothing needs doing.",
            _unfound_examples(scene, missing),
        )
    ]


def _still_missing(scene: Scene, missing: dict[int, set[str]]) -> dict[int, set[str]]:
    """What a search by words doesn't find either."""
    if not scene.backend.capabilities.full_text or not missing:
        return missing
    texts = [scene.labelled.queries[scene.sample[row]] for row in missing]
    found = scene.backend.search_text(texts, DEPTH)
    rest = {row: lost - set(ranking.ids) for (row, lost), ranking in zip(missing.items(), found, strict=True)}
    return {row: lost for row, lost in rest.items() if lost}


def _unfound_examples(scene: Scene, missing: dict[int, set[str]]) -> tuple[Example, ...]:
    """Those whose answer is furthest away."""
    qrels = _qrels(scene)
    # A query that finds none of its answers is worse than one that misses one of many.
    rows = sorted(missing, key=lambda row: (len(qrels[row]) - len(missing[row]), row))[: 10 * SHOWN]
    vectors = vectors_of(scene.backend, sorted({id for row in rows for id in missing[row]}))
    cosines = [
        (float(scene.directions[scene.sample[row]] @ vectors[id]), row, id)
        for row in rows
        for id in sorted(missing[row])
        if id in vectors
    ]
    worst = sorted(cosines)[:SHOWN]
    texts = scene.texts(id for _, _, id in worst)
    return tuple(
        Example(f"cosine {cosine:.2f}", (scene.labelled.queries[scene.sample[row]],), {id: texts.get(id, "")})
        for cosine, row, id in worst
    )


def copies(scene: Scene, *, sample: int, seed: int) -> list[Finding]:
    """Documents of which a copy is labelled for a query, and they are not.

    Args:
        scene: the queries.
        sample: at most so many labelled documents are looked at.
        seed: draws them.
    """
    labelled = scene.labelled.labelled_ids
    if len(labelled) > sample:
        drawn = np.random.default_rng(seed).choice(len(labelled), sample, replace=False)
        labelled = tuple(labelled[row] for row in np.sort(drawn).tolist())
    copies_of = _copies_of(scene, labelled)
    rows = [
        (row, id, unlabelled[0])
        for row, judgements in enumerate(scene.labelled.qrels)
        for id in judgements
        if (unlabelled := [copy for copy in copies_of.get(id, ()) if copy not in judgements])
    ]
    looked_at = set(labelled)
    n = len({row for row, _, _ in rows})
    of = sum(1 for judgements in scene.labelled.qrels if not looked_at.isdisjoint(judgements))
    if not n:
        return []
    shown = rows[:SHOWN]
    texts = scene.texts(each for _, id, copy in shown for each in (id, copy))
    return [
        Finding(
            "copies",
            "warning" if n >= COPIES * of else "info",
            n,
            of,
            f"{counted(n, 'query wants', 'queries want')} a document and not its copy, which has the same vector or "
            f"nearly (cosine of {COPY} or more): {share(n, of)} of {of:,} queries.",
            "a search that shows the copy is counted as wrong, and training pushes apart what is the same.",
            "Label the copies as well, or take them out of the store.",
            tuple(
                Example(
                    "the first document is labelled, the second is not",
                    (scene.labelled.queries[row],),
                    {each: texts.get(each, "") for each in (id, copy)},
                )
                for row, id, copy in shown
            ),
        )
    ]


def _copies_of(scene: Scene, ids: tuple[str, ...]) -> dict[str, list[str]]:
    """The copies of each document that has some, nearest first, found by the store's own search."""
    vectors = vectors_of(scene.backend, ids)
    known = [id for id in ids if id in vectors]
    if not known:
        return {}
    matrix = np.stack([vectors[id] for id in known])
    found = search(scene.backend, matrix, _COPIES_LOOKED_FOR, distance="cosine")
    copies = {
        id: [
            other
            for other, score in zip(ranking.ids, ranking.scores.tolist(), strict=True)
            if score >= COPY and other != id
        ]
        for id, ranking in zip(known, found, strict=True)
    }
    return {id: others for id, others in copies.items() if others}


def stale_layer(scene: Scene, name: str, layer: Layer) -> list[Finding]:
    """Whether the documents that a layer was trained on are still what they were."""
    if layer.document_vectors is None or not layer.document_ids:
        return []
    ids = [str(id) for id in layer.document_ids]
    now = vectors_of(scene.backend, ids)
    gone = [id for id in ids if id not in now]
    changed = _changed(ids, unit_rows(layer.document_vectors), now)
    n, of = len(gone) + len(changed), len(ids)
    if not n:
        return []
    old = n >= STALE * of
    shown = changed[:SHOWN]
    texts = scene.texts(shown)
    return [
        Finding(
            "stale_layer",
            "warning" if old else "info",
            n,
            of,
            f"Of the {of:,} documents that the layer {name} was trained on, {counted(len(gone), 'is', 'are')} gone and "
            f"{counted(len(changed), 'has', 'have')} changed.",
            "what was learned about them no longer holds; what is gone is never shown, but what took its place may be "
            "what people should find now.",
            "Train again with the labels of the present documents." if old else "",
            tuple(Example("changed since the training", (), {id: texts.get(id, "")}) for id in shown),
        )
    ]


def _changed(ids: list[str], then: NDArray[np.float32], now: Mapping[str, NDArray[np.float32]]) -> list[str]:
    return [id for id, vector in zip(ids, then, strict=True) if id in now and float(vector @ now[id]) < COPY]


def _qrels(scene: Scene) -> list[dict[str, float]]:
    return [dict(scene.labelled.qrels[row]) for row in scene.sample.tolist()]
