"""The report's three pictures: recall by depth, lift by query, and lift by group of queries."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from deepmemory.evaluation import CurvePoint, Group, QueryResult
from deepmemory.evaluation.text import interval, metric_label, percent, points
from deepmemory.report import svg

__all__ = ["lift_by_group", "lift_by_query", "recall_by_depth"]

_MOST_BARS = 240
_WIDEST_BAR = 60.0
_DEPTH_TICKS = (1, 3, 5, 10, 50, 100, 500, 1000)
_CROWDED = 24.0  # units between two labels on the axis of depth


def recall_by_depth(curve: Sequence[CurvePoint], *, width: int, key: str) -> Markup:
    """Recall without and with by depth, on a log axis, and where the lift's interval puts the line with.

    Args:
        curve: at least one point, by ascending depth.
        width: of the drawing; its height follows.
        key: unique in the page.
    """
    height = round(120 + 0.3 * width)
    frame = svg.Frame(left=46, top=16, right=width - 16, bottom=height - 44)
    deepest = curve[-1].k
    x = svg.logarithmic(1, deepest, frame.left + 6, frame.right - 6)
    y = svg.linear(0, 1, frame.bottom, frame.top)
    depths = svg.spaced(sorted({*(k for k in _DEPTH_TICKS if k <= deepest), deepest}), x, _CROWDED)
    low, high = ([(x(point.k), y(_bound(point, side))) for point in curve] for side in (0, 1))
    without = [(x(point.k), y(point.baseline)) for point in curve]
    with_ = [(x(point.k), y(point.trained)) for point in curve]
    dots = [
        svg.group(
            svg.circle(at, 3.2, "dot-without", f"Recall@{point.k} without: {percent(point.baseline)}"),
            svg.circle(to, 3.6, "dot-with", f"Recall@{point.k} with: {percent(point.trained)}, {_lift(point)}"),
        )
        for point, at, to in zip(curve, without, with_, strict=True)
    ]
    first, last = curve[0], curve[-1]
    return svg.picture(
        width,
        height,
        svg.vertical_axis(frame, y, [0, 0.2, 0.4, 0.6, 0.8, 1], _whole_percent),
        svg.horizontal_axis(frame, x, depths, lambda k: f"{k:g}"),
        svg.label(((frame.left + frame.right) / 2, height - 6), "hits looked at (k, log scale)"),
        svg.band(high, low, "band"),
        svg.path(without, "line-without"),
        svg.path(with_, "line-with"),
        *dots,
        *_lift_at_ten(curve, x, y),
        key=key,
        title="Recall by depth, without and with Deep Memory",
        description=(
            f"Recall rises from {percent(first.baseline)} at k = {first.k} to {percent(last.baseline)} at k = {last.k} "
            f"without Deep Memory, and from {percent(first.trained)} to {percent(last.trained)} with it."
        ),
    )


def lift_by_query(queries: Sequence[QueryResult], *, width: int, key: str) -> Markup:
    """One bar for each query, the largest gain first; more queries than fit are averaged over neighbours."""
    height = round(130 + 0.16 * width)
    lifts = sorted((result.lift for result in queries), reverse=True)
    bars = _thinned(lifts, _MOST_BARS if width > 500 else _MOST_BARS // 2)
    tips = [result.query for result in sorted(queries, key=lambda result: -result.lift)]
    ticks = svg.round_ticks(min(-0.1, lifts[-1]), max(0.1, lifts[0]))
    frame = svg.Frame(left=52, top=12, right=width - 12, bottom=height - 28)
    y = svg.linear(ticks[0], ticks[-1], frame.bottom, frame.top)
    slot = min((frame.right - frame.left) / len(bars), _WIDEST_BAR)
    gap = slot / 5 if slot > 4 else 0.0
    drawn = [
        svg.rectangle(
            svg.Frame(
                frame.left + place * slot, y(max(lift, 0.0)), frame.left + (place + 1) * slot - gap, y(min(lift, 0.0))
            ),
            "bar-gain" if lift > 0 else "bar-loss",
            f"{tips[place]}: {points(lift)} points" if len(bars) == len(lifts) else f"{points(lift)} points",
        )
        for place, lift in enumerate(bars)
        if lift != 0
    ]
    gained, lost = sum(lift > 0 for lift in lifts), sum(lift < 0 for lift in lifts)
    return svg.picture(
        width,
        height,
        svg.vertical_axis(frame, y, ticks, _whole_points),
        *drawn,
        svg.line((frame.left, y(0)), (frame.right, y(0)), "axis"),
        svg.label(((frame.left + frame.right) / 2, height - 6), "queries, the largest gain first"),
        key=key,
        title="Lift by query",
        description=f"Of {len(lifts)} queries {gained} gained nDCG@10, {lost} lost, the others did not change.",
    )


def lift_by_group(groups: Sequence[tuple[str, Group]], metric: str, *, key: str) -> Markup:
    """The lift in one metric with its interval, a row for each group, and the line of no change.

    Args:
        groups: names with their groups, at least one.
        metric: such as ``recall@10``.
        key: unique in the page.
    """
    width, row, names, figures = 430, 36, 140, 52
    frame = svg.Frame(left=names, top=4, right=width - figures, bottom=4 + row * len(groups))
    lifts = [group[metric] for _, group in groups]
    low, high = min(lift.interval[0] for lift in lifts), max(lift.interval[1] for lift in lifts)
    ticks = svg.round_ticks(min(low, 0.0), max(high, 0.02), about=4)
    x = svg.linear(ticks[0], ticks[-1], frame.left + 10, frame.right - 10)
    rows = [svg.line((x(0), frame.top), (x(0), frame.bottom), "zero")]
    for place, ((name, group), lift) in enumerate(zip(groups, lifts, strict=True)):
        middle = frame.top + row * (place + 0.5)
        tip = f"{name}: {points(lift.lift)} points, 95% interval {interval(lift.interval)}"
        rows += [
            svg.label((0, middle + 4.5), f"{name} (n = {group.n:,})", "row", "start"),
            svg.label((width, middle + 4.5), points(lift.lift), "row", "end"),
            svg.line((x(lift.interval[0]), middle), (x(lift.interval[1]), middle), "whisker"),
            svg.circle((x(lift.lift), middle), 5, "dot-with", tip),
        ]
    return svg.picture(
        width,
        frame.bottom + 26,
        svg.horizontal_axis(frame, x, ticks, _whole_points if ticks[-1] - ticks[0] > 0.05 else points),
        *rows,
        key=key,
        title=f"Lift in {metric_label(metric)} by group, in points",
        description="; ".join(
            f"{name}: {points(lift.lift)} points, 95% interval {interval(lift.interval)}"
            for (name, _), lift in zip(groups, lifts, strict=True)
        ),
    )


def _lift_at_ten(curve: Sequence[CurvePoint], x: svg.Scale, y: svg.Scale) -> list[Markup]:
    """The gap at the depth that the verdict is about, written where rising lines leave room."""
    ten = next((point for point in curve if point.k == 10), None)
    if ten is None:
        return []
    up = ten.trained >= ten.baseline
    at, anchor = ((x(10) + 8, y(ten.trained) - 14), "end") if up else ((x(10) - 8, y(ten.trained) + 24), "start")
    gap = svg.line((x(10), y(ten.baseline)), (x(10), y(ten.trained)), "gap")
    return [gap, svg.label(at, f"{points(ten.trained - ten.baseline)} points at 10", "value", anchor)]


def _whole_points(difference: float) -> str:
    return f"{100 * difference:+.0f}" if difference else "0"


def _bound(point: CurvePoint, side: int) -> float:
    return min(1.0, max(0.0, point.baseline + point.interval[side]))


def _lift(point: CurvePoint) -> str:
    return f"{points(point.trained - point.baseline)} points ({interval(point.interval)})"


def _whole_percent(fraction: float) -> str:
    return f"{100 * fraction:.0f}%"


def _thinned(values: Sequence[float], most: int) -> list[float]:
    """The values, or the means of that many even runs of them."""
    if len(values) <= most:
        return list(values)
    return [float(run.mean()) for run in np.array_split(np.asarray(values), most)]
