"""From an evaluation to the text of one self-contained HTML page."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from deepmemory.evaluation import ANSWERS_SHOWN, EXAMPLES, HITS_SHOWN, Evaluation, Group, QueryResult, text
from deepmemory.report.charts import lift_by_group, lift_by_query, recall_by_depth

__all__ = ["DEFAULT_TITLE", "render_report"]

DEFAULT_TITLE = "With and without Deep Memory"

_WIDE, _NARROW = 900, 360
_SNIPPET = 240  # characters of a document that are shown
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def render_report(
    evaluation: Evaluation,
    *,
    title: str = DEFAULT_TITLE,
    details: Mapping[str, str] | None = None,
    when: datetime | None = None,
) -> str:
    """Write the report as HTML that needs nothing but itself: no script, no font, no request.

    Args:
        evaluation: what is reported.
        title: the page's heading.
        details: further facts for "How this was measured", such as the store, the embedder and the layer.
        when: the date shown; now where None.
    """
    page = _environment().get_template("page.html.j2")
    html = page.render(
        evaluation=evaluation,
        title=title,
        style=Markup(resources.files(__package__).joinpath("style.css").read_text("utf-8")),
        verdict=text.verdict(evaluation),
        cautions=text.cautions(evaluation),
        changes=_changes(evaluation.fair_queries),
        curves={
            "wide": recall_by_depth(evaluation.curve, width=_WIDE, key="curves-wide"),
            "narrow": recall_by_depth(evaluation.curve, width=_NARROW, key="curves-narrow"),
        },
        bars={
            "wide": lift_by_query(evaluation.fair_queries, width=_WIDE, key="lifts-wide"),
            "narrow": lift_by_query(evaluation.fair_queries, width=_NARROW, key="lifts-narrow"),
        },
        forests=[
            {"metric": metric, "picture": lift_by_group(_groups(evaluation), metric, key=f"groups-{metric[:-3]}")}
            for metric in ("recall@10", "ndcg@10")
        ],
        saving=text.saving(evaluation.saving),
        gained=[_example(evaluation, result) for result in evaluation.gained(EXAMPLES)],
        lost=[_example(evaluation, result) for result in evaluation.lost(EXAMPLES)],
        facts=[*_facts(evaluation, when or datetime.now(UTC)), *(details or {}).items()],
    )
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", html)


@dataclass(frozen=True, slots=True)
class _Hit:
    id: str
    text: str
    right: bool


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("deepmemory.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=text.percent,
        points=text.points,
        interval=text.interval,
        p_value=text.p_value,
        metric_label=text.metric_label,
        rank=_rank,
    )
    environment.tests["beyond_chance"] = text.beyond_chance
    return environment


def _rank(rank: int | None) -> str:
    return "not found" if rank is None else f"rank {rank}"


def _changes(queries: Sequence[QueryResult]) -> str:
    gained = sum(result.lift > 0 for result in queries)
    lost = sum(result.lift < 0 for result in queries)
    return f"{gained:,} gained, {lost:,} lost, {len(queries) - gained - lost:,} unchanged"


def _groups(evaluation: Evaluation) -> list[tuple[str, Group]]:
    groups = [("All", evaluation.headline), ("Seen", evaluation.seen), ("Unseen", evaluation.unseen)]
    return [(name, group) for name, group in groups if group is not None]


def _example(evaluation: Evaluation, result: QueryResult) -> dict[str, object]:
    sides = [
        [_hit(evaluation, result, id_) for id_ in ids[:HITS_SHOWN]] for ids in (result.baseline_ids, result.trained_ids)
    ]
    shown = {hit.id for side in sides for hit in side}
    missed = [id_ for id_ in result.best_answers(ANSWERS_SHOWN) if id_ not in shown]
    tags = {True: " Seen.", False: " Unseen.", None: ""}[result.seen] + (" Trained on." if result.leaked else "")
    return {
        "result": result,
        "without": sides[0],
        "with": sides[1],
        "missed": [_hit(evaluation, result, id_) for id_ in missed],
        "tags": tags,
    }


def _hit(evaluation: Evaluation, result: QueryResult, document: str) -> _Hit:
    words = " ".join(evaluation.texts.get(document, "").split())
    shortened = words if len(words) <= _SNIPPET else words[:_SNIPPET].rsplit(" ", 1)[0] + " …"
    return _Hit(document, shortened, right=document in result.qrels)


def _facts(evaluation: Evaluation, when: datetime) -> Iterator[tuple[str, str]]:
    yield "Date", when.strftime("%Y-%m-%d %H:%M %Z").strip()
    yield "Queries", f"{evaluation.n:,}, {len(evaluation.leaks):,} of them trained on"
    if evaluation.n_documents is not None:
        yield "Documents searched", f"{evaluation.n_documents:,}"
    if evaluation.embedding_seconds is not None:
        yield "Embedding the queries", f"{evaluation.embedding_seconds:.2f} seconds"
    yield "Recall@k", "right answers among the first k hits / all right answers of the query; the mean over queries"
    yield "nDCG@10", "right answers among the first 10, weighted by grade and rank; 1 where the order is ideal"
    yield "MRR@10", "1 / rank of the first right answer among the first 10; the mean over queries"
    yield "Interval", "95% paired bootstrap over queries, percentile method"
    yield "p-value", "two-sided paired randomisation test; not corrected for looking at several metrics"
    yield "Seed", str(evaluation.seed)
