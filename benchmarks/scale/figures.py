"""Curves over the number of training queries, drawn with the parts of Deep Memory's own report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.palette import COLOURS, STYLE
from markupsafe import Markup

from deepmemory.report import svg

__all__ = ["Series", "curves"]

_WIDTH, _LEGEND = 860, 300


@dataclass(frozen=True, slots=True)
class Series:
    """A curve.

    Attributes:
        name: in the legend.
        points: ``(queries, value)``, ascending.
    """

    name: str
    points: Sequence[tuple[float, float]]


def curves(title: str, series: Sequence[Series], *, logarithmic: bool) -> str:
    """A curve for each series; the number of queries has a logarithmic axis, and values may have one."""
    sizes = sorted({size for each in series for size, _ in each.points}) or [1]
    values = [value for each in series for _, value in each.points] or [1.0]
    frame = svg.Frame(left=56, top=20, right=_WIDTH - _LEGEND, bottom=max(340, 60 + 22 * len(series)))
    x = svg.logarithmic(sizes[0], sizes[-1], frame.left + 8, frame.right - 8)
    ticks = _decades(min(values), max(values)) if logarithmic else svg.round_ticks(min(0.0, *values), max(values), 6)
    scale = svg.logarithmic if logarithmic else svg.linear
    y = scale(ticks[0], ticks[-1], frame.bottom, frame.top)
    drawn: list[Markup] = []
    for place, each in enumerate(series):
        colour = f"c{place % len(COLOURS)}"
        drawn.append(svg.path([(x(size), y(value)) for size, value in each.points], colour))
        drawn += [
            svg.circle((x(size), y(value)), 3.2, colour, f"{each.name}, {size:,} queries: {value:.3g}")
            for size, value in each.points
        ]
        drawn.append(svg.circle((frame.right + 20, 30 + 22 * place), 5, colour))
        drawn.append(svg.label((frame.right + 30, 34.5 + 22 * place), each.name, "row", "start"))
    height = frame.bottom + 50
    return (
        str(
            svg.picture(
                _WIDTH,
                height,
                svg.element("style", Markup(STYLE)),
                svg.vertical_axis(frame, y, ticks, lambda value: f"{value:g}"),
                svg.horizontal_axis(frame, x, sizes, lambda value: f"{value:,.0f}"),
                svg.label(((frame.left + frame.right) / 2, height - 8), "training queries (log scale)"),
                *drawn,
                key="scale",
                title=title,
                description=title,
            )
        )
        + "\n"
    )


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, the fewest that cover the range; only powers where there would be many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 2 else (1,)
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    start = max(place for place, tick in enumerate(ticks) if tick <= low)
    end = min(place for place, tick in enumerate(ticks) if tick >= high)
    return ticks[start : max(end, start + 1) + 1]
