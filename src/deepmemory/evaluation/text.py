"""An evaluation in words: the original's two lists, and then what the difference is worth."""

from collections.abc import Iterator

from deepmemory.evaluation.result import ContextSaving, Evaluation, Group
from deepmemory.significance import PairedLift

__all__ = [
    "beyond_chance",
    "cautions",
    "interval",
    "metric_label",
    "p_value",
    "percent",
    "points",
    "render",
    "saving",
    "verdict",
]

_FEW = 30  # queries; below, a bootstrap interval is too narrow
_LEAKS_LISTED = 10
_LEVEL = 0.05
_NAMES = {"recall": "Recall", "ndcg": "nDCG", "mrr": "MRR"}


def render(evaluation: Evaluation) -> str:
    """Everything that `Evaluation.print` prints."""
    return "\n".join(_lines(evaluation))


def percent(fraction: float) -> str:
    """A fraction in percent with one decimal: ``69.0%``."""
    return f"{100 * fraction:.1f}%"


def points(difference: float) -> str:
    """A difference of fractions in percentage points: ``+27.0``, ``-3.5``, ``0.0``."""
    rounded = round(100 * difference, 1)
    return f"{rounded:+.1f}" if rounded else "0.0"


def interval(bounds: tuple[float, float]) -> str:
    """An interval of a lift in percentage points: ``+18.0 to +36.0``."""
    return f"{points(bounds[0])} to {points(bounds[1])}"


def p_value(p: float) -> str:
    """A p-value to three decimals: ``p = 0.012``, ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def beyond_chance(lift: PairedLift) -> bool:
    """Whether both tests say so: the randomisation test stays exact where few queries make the interval too narrow."""
    low, high = lift.interval
    return lift.p_value <= _LEVEL and (low > 0 or high < 0)


def metric_label(metric: str) -> str:
    """A metric's name as people write it: ``Recall@10``, ``nDCG@10``, ``MRR@10``."""
    name, _, k = metric.partition("@")
    return f"{_NAMES[name]}@{k}"


def verdict(evaluation: Evaluation) -> str:
    """One sentence that says whether Deep Memory found more, judged by queries that were not trained on."""
    if evaluation.identical:
        return (
            "No change: both searches returned the same hits in the same order for every query, "
            "so the layer is off, or it changes nothing here."
        )
    group = evaluation.headline
    if group.n == 1:
        return "One query can't tell a lift from chance."
    recall = group["recall@10"]
    change = f"{percent(recall.baseline)} to {percent(recall.trained)}"
    evidence = f"{points(recall.lift)} points, {_evidence(recall)}, {_headline_queries(evaluation)}"
    if not beyond_chance(recall):
        sides = f"{percent(recall.baseline)} without, {percent(recall.trained)} with"
        return f"No difference in recall@10 beyond chance: {sides} ({evidence})."
    if recall.lift > 0:
        return f"Deep Memory found more: recall@10 rose from {change} ({evidence})."
    return f"Deep Memory found less: recall@10 fell from {change} ({evidence})."


def cautions(evaluation: Evaluation) -> list[str]:
    """What a reader must know before believing the figures, one sentence each; often none."""
    return [*_leak_cautions(evaluation), *_small_cautions(evaluation), *_loss_cautions(evaluation)]


def saving(saving: ContextSaving) -> str:
    """What the same recall costs in hits and tokens, in one or two sentences."""
    if saving.target <= 0:
        return "Without Deep Memory nothing relevant is in the top 10, so there is no recall to reach with fewer hits."
    goal = f"the recall@10 of the search without it ({percent(saving.target)})"
    if saving.trained_k is None:
        return f"With Deep Memory no number of hits reaches {goal}, so no context is saved."
    if not saving.saves:
        return (
            f"With Deep Memory it takes {_hits(saving.trained_k)} to reach {goal}, "
            f"and without it {_hits(saving.baseline_k)}, so no context is saved."
        )
    sentence = f"With Deep Memory {_hits(saving.trained_k)} reach{'es' if saving.trained_k == 1 else ''} {goal}"
    if saving.baseline_k < 10:
        sentence += f"; without it, {_hits(saving.baseline_k)} would do"
    if saving.baseline_tokens is None or saving.trained_tokens is None:
        return f"{sentence}."
    how = "an estimate: characters / 4" if saving.estimated else "counted by the tokenizer given"
    return (
        f"{sentence}. That is {saving.trained_tokens:,.0f} tokens of context a question "
        f"instead of {saving.baseline_tokens:,.0f} ({how})."
    )


def _lines(evaluation: Evaluation) -> Iterator[str]:
    if evaluation.embedding_seconds is not None:
        yield f"Embedding queries took {evaluation.embedding_seconds:.2f} seconds"
    yield "---- Evaluating without Deep Memory ----"
    yield from (f"Recall@{k}:\t  {percent(evaluation.overall[f'recall@{k}'].baseline)}" for k in evaluation.top_k)
    yield "---- Evaluating with Deep Memory ----"
    yield from (f"Recall@{k}:\t  {percent(evaluation.overall[f'recall@{k}'].trained)}" for k in evaluation.top_k)
    yield f"---- Lift, {_headline_queries(evaluation)} ----"
    for name, lift in evaluation.headline.metrics.items():
        yield f"{metric_label(name) + ':':<12}{points(lift.lift):>6} points  ({_evidence(lift)})"
    yield verdict(evaluation)
    yield from _group_lines(evaluation)
    yield saving(evaluation.saving)
    yield from cautions(evaluation)


def _group_lines(evaluation: Evaluation) -> Iterator[str]:
    for name, group in (("Seen", evaluation.seen), ("Unseen", evaluation.unseen)):
        if group is not None:
            yield f"{name} documents ({_queries(group.n)}): {_group_summary(group)}"


def _group_summary(group: Group) -> str:
    return "; ".join(
        f"{metric_label(name)} from {percent(lift.baseline)} to {percent(lift.trained)}, "
        f"{points(lift.lift)} points ({_evidence(lift)})"
        for name, lift in group.metrics.items()
        if name in ("recall@10", "ndcg@10")
    )


def _evidence(lift: PairedLift) -> str:
    if lift.n_queries == 1:
        return "one query, no interval"
    return f"95% interval {interval(lift.interval)}, {p_value(lift.p_value)}"


def _leak_cautions(evaluation: Evaluation) -> Iterator[str]:
    leaks = evaluation.leaks
    if not leaks:
        return
    if len(leaks) == evaluation.n:
        yield (
            "Every one of these queries was trained on, so the figures show what was memorised, "
            "and not what new queries will gain. Evaluate with queries that took no part in training."
        )
        return
    listed = ", ".join(repr(query) for query in leaks[:_LEAKS_LISTED])
    more = f" and {len(leaks) - _LEAKS_LISTED} more" if len(leaks) > _LEAKS_LISTED else ""
    were, them = ("was", "it") if len(leaks) == 1 else ("were", "them")
    yield (
        f"{len(leaks)} of the {evaluation.n} queries {were} trained on ({listed}{more}). "
        f"Only the figures over all {evaluation.n} count {them}."
    )


def _small_cautions(evaluation: Evaluation) -> Iterator[str]:
    if 1 < evaluation.headline.n < _FEW and not evaluation.identical:
        yield f"With only {evaluation.headline.n} queries the intervals are rough; {_FEW} or more make them dependable."


def _loss_cautions(evaluation: Evaluation) -> Iterator[str]:
    """A gain at one depth never hides a loss at another."""
    metrics = evaluation.headline.metrics
    losses = {name: lift for name, lift in metrics.items() if round(lift.lift, 3) < 0}
    for sure, claim in ((True, "Lower with Deep Memory"), (False, "Lower with Deep Memory, though by chance perhaps")):
        listed = [
            f"{metric_label(name)} by {points(-lift.lift).lstrip('+')}"
            for name, lift in losses.items()
            if beyond_chance(lift) is sure
        ]
        if listed:
            yield f"{claim}: {', '.join(listed)} points."


def _headline_queries(evaluation: Evaluation) -> str:
    return _queries(evaluation.headline.n) + (" not trained on" if evaluation.unleaked else "")


def _queries(n: int) -> str:
    return "1 query" if n == 1 else f"{n:,} queries"


def _hits(k: int) -> str:
    return "the top hit" if k == 1 else f"the top {k}"
