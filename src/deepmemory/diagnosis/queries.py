"""Findings about queries: how many, the same ones, those that disagree, those near to nothing, and leaks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepmemory.diagnosis.model import Example, Finding, Severity
from deepmemory.diagnosis.near import NEAR, near_pairs, same_text, worded
from deepmemory.diagnosis.scene import Scene, vectors_of
from deepmemory.diagnosis.wording import counted, share
from deepmemory.training.fit import MIN_QUERIES

__all__ = [
    "Doubles",
    "contradictions",
    "far_queries",
    "few_queries",
    "find_doubles",
    "leaked_queries",
    "repeated_queries",
]

FEW = 50
ENOUGH = 200
"""Queries: below the first the cross-validation rarely sees what there is to see, from the second on it mostly does."""

DISAGREE = 0.02
DISAGREE_MUCH = 0.1
"""Shares of queries with contradicted answers from which they are a warning, and a problem."""

REPEATED = 0.2
"""Share of queries with a double from which figures on held-out queries say little about new ones."""

LEAKED = 0.1
"""Share of test queries that train from which their figures can't be used."""

FAR = 0.5
"""Of the usual similarity to the nearest document; less is far, whatever the embedder."""

FAR_DEVIATIONS = 4.0
"""Robust deviations below the median from which a query is far, for embedders whose cosines all lie close together."""

FAR_MANY = 0.05

SAME_ANSWER = 0.98
"""Cosine from which two documents say the same, so that two queries that want one each don't disagree."""

SHOWN = 3


@dataclass(frozen=True, slots=True)
class Doubles:
    """Queries that are the same as others, or nearly.

    Attributes:
        pairs: rows of two queries and their cosine; the first one is of the sample. Each pair may come both ways.
    """

    pairs: tuple[tuple[int, int, float], ...]

    @property
    def rows(self) -> set[int]:
        """Rows of the sample that have a double."""
        return {row for row, _, _ in self.pairs}


def find_doubles(scene: Scene) -> Doubles:
    """Compare a sample of the queries with all of them, by vector and by text."""
    sample = scene.sample
    near = near_pairs(scene.directions[sample], scene.directions, itself=sample)
    pairs = {(int(sample[row]), other): cosine for row, other, cosine in near}
    texts = scene.labelled.queries
    for row, others in zip(sample.tolist(), same_text([texts[row] for row in sample.tolist()], texts), strict=True):
        for other in others[: SHOWN + 1]:
            if other != row:
                pairs.setdefault((row, other), float(scene.directions[row] @ scene.directions[other]))
    return Doubles(tuple((row, other, cosine) for (row, other), cosine in sorted(pairs.items())))


def few_queries(scene: Scene) -> list[Finding]:
    """Whether there are enough different queries to learn from."""
    n = len({worded(query) for query in scene.labelled.queries})
    if n >= ENOUGH:
        return []
    what = f"There {'is' if n == 1 else 'are'} {counted(n, 'different query', 'different queries')}."
    why = "what is learned is judged on queries left out of it, and few can't tell a gain from chance."
    advice = "Label more, or let 'deepmemory queries' make some out of the documents; some hundreds are a good number."
    if n < MIN_QUERIES:
        return [
            Finding(
                "few_queries",
                "problem",
                n,
                len(scene.labelled),
                f"{what} At least {MIN_QUERIES} are needed to learn anything.",
                why,
                advice,
            )
        ]
    return [Finding("few_queries", "warning" if n < FEW else "info", n, len(scene.labelled), what, why, advice)]


def repeated_queries(scene: Scene, doubles: Doubles) -> list[Finding]:
    """Queries of the same text or nearly the same vector."""
    rows, of = doubles.rows, len(scene.sample)
    if not rows:
        return []
    texts = scene.labelled.queries
    seen: set[frozenset[str]] = set()
    examples: list[Example] = []
    for row, other, cosine in sorted(doubles.pairs, key=lambda pair: -pair[2]):
        if len(examples) < SHOWN and (both := frozenset((texts[row], texts[other]))) not in seen:
            seen.add(both)
            examples.append(Example(f"cosine {cosine:.3f}", (texts[row], texts[other])))
    many = len(rows) >= REPEATED * of
    return [
        Finding(
            "repeated_queries",
            "warning" if many else "info",
            len(rows),
            of,
            f"{counted(len(rows), 'query has', 'queries have')} a double among the others, of the same text or nearly "
            f"the same vector (cosine of {NEAR} or more): {share(len(rows), of)} of {of:,}.",
            "a query whose double was trained on is no new one, so held-out figures look better than they are.",
            "Keep one of each, unless people do ask the same again and again; then the figures are about such queries."
            if many
            else "",
            tuple(examples),
        )
    ]


def contradictions(scene: Scene, doubles: Doubles) -> list[Finding]:
    """Queries that are nearly the same and want documents that have nothing in common."""
    found = _disagreeing(scene, doubles)
    rows, of = {row for row, _, _ in found}, len(scene.sample)
    if not rows:
        return []
    severity: Severity = (
        "problem" if len(rows) >= DISAGREE_MUCH * of else "warning" if len(rows) >= DISAGREE * of else "info"
    )
    return [
        Finding(
            "contradictions",
            severity,
            len(rows),
            of,
            f"{counted(len(rows), 'query has', 'queries have')} a double (same text, or cosine of {NEAR} or more) "
            f"whose right answers are entirely different documents: {share(len(rows), of)} of {of:,}.",
            "a search can't tell such queries apart, so whatever it learns from one is wrong for the other.",
            "Let each of them name all documents that answer it, or drop those that can't be understood by themselves.",
            _contradiction_examples(scene, found),
        )
    ]


def _disagreeing(scene: Scene, doubles: Doubles) -> list[tuple[int, int, float]]:
    qrels = scene.labelled.qrels
    disjoint = [pair for pair in doubles.pairs if qrels[pair[0]].keys().isdisjoint(qrels[pair[1]])]
    wanted = dict.fromkeys(id for row, other, _ in disjoint for id in (*qrels[row], *qrels[other]))
    vectors = vectors_of(scene.backend, list(wanted))

    def say_the_same(row: int, other: int) -> bool:
        ours, theirs = ([vectors[id] for id in qrels[each] if id in vectors] for each in (row, other))
        return bool(ours and theirs and (np.stack(ours) @ np.stack(theirs).T).max() >= SAME_ANSWER)

    return [pair for pair in disjoint if not say_the_same(pair[0], pair[1])]


def _contradiction_examples(scene: Scene, found: Sequence[tuple[int, int, float]]) -> tuple[Example, ...]:
    chosen: dict[frozenset[int], tuple[int, int, float]] = {}
    for pair in sorted(found, key=lambda pair: -pair[2]):
        chosen.setdefault(frozenset(pair[:2]), pair)
    shown = list(chosen.values())[:SHOWN]
    labelled = scene.labelled
    best = [[next(iter(labelled.qrels[row])) for row in pair[:2]] for pair in shown]
    texts = scene.texts(id for ids in best for id in ids)
    return tuple(
        Example(
            f"cosine {cosine:.3f}, and each wants its own document",
            (labelled.queries[row], labelled.queries[other]),
            {id: texts[id] for id in ids if id in texts},
        )
        for (row, other, cosine), ids in zip(shown, best, strict=True)
    )


def far_queries(scene: Scene) -> list[Finding]:
    """Queries whose nearest document is much further away than is usual."""
    nearest = np.array([ranking.scores[0] if len(ranking) else np.nan for ranking in scene.rankings])
    rows = _far(nearest)
    if not len(rows):
        return []
    texts, of, usual = scene.labelled.queries, len(scene.sample), float(np.nanmedian(nearest))
    lowest = rows[np.argsort(np.nan_to_num(nearest[rows], nan=-np.inf), kind="stable")][:SHOWN]
    hits = [scene.rankings[row].ids[:1] for row in lowest.tolist()]
    shown = scene.texts(id for ids in hits for id in ids)
    many = len(rows) >= FAR_MANY * of
    return [
        Finding(
            "far_queries",
            "warning" if many else "info",
            len(rows),
            of,
            f"{counted(len(rows), 'query is', 'queries are')} near to no document: {share(len(rows), of)} of {of:,} "
            f"have a best similarity far below the usual {usual:.2f}.",
            "such a query is in another language, can't be understood without what was said before, or is none; it "
            "teaches nothing about the others.",
            "Look at them, and rewrite or drop those that nobody could answer.",
            tuple(
                Example(
                    f"best similarity {nearest[row]:.2f}" if ids else "finds nothing at all",
                    (texts[int(scene.sample[row])],),
                    {id: shown[id] for id in ids if id in shown},
                )
                for row, ids in zip(lowest.tolist(), hits, strict=True)
            ),
        )
    ]


def _far(nearest: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows whose best similarity is far below that of the others."""
    known = nearest[~np.isnan(nearest)]
    if len(known) < MIN_QUERIES:
        return np.flatnonzero(np.isnan(nearest))
    median = float(np.median(known))
    deviation = 1.4826 * float(np.median(np.abs(known - median)))
    # Where nearly all are alike, a deviation of nothing would make every other one stand out.
    limit = median - FAR_DEVIATIONS * max(deviation, 0.05 * abs(median))
    if median > 0:
        limit = max(limit, FAR * median)
    return np.flatnonzero(np.isnan(nearest) | (nearest < limit))


def leaked_queries(
    scene: Scene, test_queries: Sequence[str], test_vectors: NDArray[np.float32] | None
) -> list[Finding]:
    """Test queries that are among the training queries, by text or by vector.

    Args:
        scene: of the training queries.
        test_queries: texts.
        test_vectors: ``(len(test_queries), dim)`` float32, unit norm; None compares texts alone.
    """
    same = same_text(test_queries, scene.labelled.queries)
    twins = {test: (rows[0], "the same text") for test, rows in enumerate(same) if rows}
    if test_vectors is not None:
        for test, row, cosine in near_pairs(test_vectors, scene.directions):
            twins.setdefault(test, (row, f"cosine {cosine:.3f}"))
    n, of = len(twins), len(test_queries)
    if not n:
        return []
    texts = scene.labelled.queries
    return [
        Finding(
            "leaks",
            "problem" if n >= LEAKED * of else "warning",
            n,
            of,
            f"{counted(n, 'test query', 'test queries')} of {of:,} ({share(n, of)}) {'is' if n == 1 else 'are'} also "
            "among the training queries, by text or nearly by vector.",
            "figures on queries that were trained on show what was memorised, and not what new queries will gain.",
            "Take them out of one of the two sets before measuring.",
            tuple(
                Example(f"a test query and its double in training: {alike}", (test_queries[test], texts[row]))
                for test, (row, alike) in list(twins.items())[:SHOWN]
            ),
        )
    ]
