"""The comparison's two pictures, drawn with the parts of Deep Memory's own report."""

from collections.abc import Sequence

from benchmarks.palette import COLOURS, STYLE
from markupsafe import Markup

from deepmemory.report import svg

__all__ = ["learning_curve", "lift_by_collection"]

_WIDTH, _ROW = 860, 26
_STYLE = STYLE + "text.row{font-size:13.5px}.zero{stroke:#7a7f87;stroke-dasharray:3 3}.mean{fill:#1b1d21}"


def lift_by_collection(methods: Sequence[tuple[str, dict[str, float]]], split: str) -> str:
    """A row for each method, a dot for each collection, a tick at the mean of those that have all.

    Args:
        methods: name, and lift in points by collection.
        split: for the title.
    """
    names = sorted({name for _, lifts in methods for name in lifts})
    values = [lift for _, lifts in methods for lift in lifts.values()]
    ticks = svg.round_ticks(min(*values, 0.0), max(*values, 1.0), about=8)
    frame = svg.Frame(left=230, top=40, right=_WIDTH - 20, bottom=40 + _ROW * len(methods))
    x = svg.linear(ticks[0], ticks[-1], frame.left, frame.right)
    drawn = [svg.line((x(0), frame.top - 4), (x(0), frame.bottom), "zero")]
    for place, (method, lifts) in enumerate(methods):
        middle = frame.top + _ROW * (place + 0.5)
        drawn.append(svg.line((frame.left, middle), (frame.right, middle), "grid"))
        drawn.append(svg.label((frame.left - 10, middle + 4.5), method, "row", "end"))
        drawn += [
            svg.circle((x(lift), middle), 5, f"c{names.index(name)}", f"{method}, {name}: {lift:+.1f} points")
            for name, lift in lifts.items()
        ]
        if set(lifts) == set(names):
            mean = x(sum(lifts.values()) / len(lifts))
            bar = svg.Frame(mean - 1.5, middle - 10, mean + 1.5, middle + 10)
            drawn.append(svg.rectangle(bar, "mean", f"{method}, mean"))
    title = f"Lift in nDCG@10 by collection, split by {split}, in points; the bar is the mean"
    return _picture(
        frame.bottom + 34,
        title,
        svg.horizontal_axis(frame, x, ticks, lambda value: f"{value:+g}" if value else "0"),
        *drawn,
        *_legend(names, 10),
    )


def learning_curve(methods: Sequence[tuple[str, list[tuple[int, float]]]]) -> str:
    """Lift against the number of training queries, a line for each method."""
    sizes = sorted({size for _, points in methods for size, _ in points})
    values = [lift for _, points in methods for _, lift in points]
    ticks = svg.round_ticks(min(*values, 0.0), max(*values, 1.0), about=6)
    frame = svg.Frame(left=50, top=20, right=_WIDTH - 250, bottom=380)
    x = svg.logarithmic(sizes[0], sizes[-1], frame.left + 8, frame.right - 8)
    y = svg.linear(ticks[0], ticks[-1], frame.bottom, frame.top)
    drawn: list[Markup] = []
    for place, (name, points) in enumerate(methods):
        colour = f"c{place % len(COLOURS)}"
        drawn.append(svg.path([(x(size), y(lift)) for size, lift in points], colour))
        drawn += [
            svg.circle((x(size), y(lift)), 3.2, colour, f"{name}, {size} queries: {lift:+.1f} points")
            for size, lift in points
        ]
        drawn.append(svg.circle((frame.right + 24, 30 + 22 * place), 5, colour))
        drawn.append(svg.label((frame.right + 36, 34.5 + 22 * place), name, "row", "start"))
    return _picture(
        430,
        "Lift in nDCG@10 by number of training queries, in points",
        svg.vertical_axis(frame, y, ticks, lambda value: f"{value:+g}" if value else "0"),
        svg.horizontal_axis(frame, x, sizes, lambda value: f"{value:g}"),
        svg.label(((frame.left + frame.right) / 2, 420), "training queries (log scale)"),
        *drawn,
    )


def _legend(names: Sequence[str], top: float) -> list[Markup]:
    step = (_WIDTH - 20) / max(len(names), 1)
    drawn = []
    for place, name in enumerate(names):
        drawn.append(svg.circle((14 + step * place, top), 5, f"c{place}"))
        drawn.append(svg.label((24 + step * place, top + 4.5), name, "row", "start"))
    return drawn


def _picture(height: float, title: str, *children: Markup) -> str:
    style = svg.element("style", Markup(_STYLE))
    return str(svg.picture(_WIDTH, height, style, *children, key="peers", title=title, description=title)) + "\n"
