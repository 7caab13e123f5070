"""Drawing in SVG: elements, scales, ticks and axes, each a small function; what they mean is for `charts`.

Looks are left to the page's style sheet by class names, so that one drawing serves light and dark.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from markupsafe import Markup, escape

__all__ = [
    "Frame",
    "Scale",
    "band",
    "circle",
    "element",
    "group",
    "horizontal_axis",
    "label",
    "line",
    "linear",
    "logarithmic",
    "path",
    "picture",
    "rectangle",
    "round_ticks",
    "spaced",
    "vertical_axis",
]

Scale: TypeAlias = Callable[[float], float]
"""From a value to a coordinate in the drawing."""

Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Frame:
    """The rectangle that data is drawn in, in the drawing's own units; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float


def element(name: str, *children: str | Markup, **attributes: object) -> Markup:
    """One element; text and attribute values are escaped.

    Args:
        name: of the tag.
        children: markup is kept, text is escaped.
        attributes: ``stroke_width`` becomes ``stroke-width``, ``class_`` becomes ``class``; None leaves one out.
    """
    written = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    return Markup(f"<{name}{''.join(written)}>{''.join(map(escape, children))}</{name}>")


def picture(width: float, height: float, *children: Markup, key: str, title: str, description: str) -> Markup:
    """The whole drawing, scaled to the width of its place, with a title and description for those who can't see it.

    Args:
        width: of the drawing's units.
        height: likewise.
        children: what is drawn, later over earlier.
        key: unique in the page; the ids of title and description derive from it.
        title: a few words.
        description: what the drawing shows, in a sentence or two.
    """
    return element(
        "svg",
        element("title", title, id=f"{key}-title"),
        element("desc", description, id=f"{key}-desc"),
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_number(width)} {_number(height)}",
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
        class_=key,
    )


def group(*children: Markup, class_: str | None = None) -> Markup:
    """Elements together."""
    return element("g", *children, class_=class_)


def line(start: Point, end: Point, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_=class_)


def path(points: Sequence[Point], class_: str) -> Markup:
    """A line through the points."""
    return element("polyline", points=_coordinates(points), class_=class_)


def band(upper: Sequence[Point], lower: Sequence[Point], class_: str) -> Markup:
    """The area between two lines that run from left to right."""
    return element("polygon", points=_coordinates([*upper, *reversed(lower)]), class_=class_)


def circle(centre: Point, radius: float, class_: str, tip: str | None = None) -> Markup:
    """A dot, with a tip that shows on hovering."""
    return element("circle", *_tip(tip), cx=centre[0], cy=centre[1], r=radius, class_=class_)


def rectangle(frame: Frame, class_: str, tip: str | None = None) -> Markup:
    """A bar, with a tip that shows on hovering."""
    width, height = frame.right - frame.left, frame.bottom - frame.top
    return element("rect", *_tip(tip), x=frame.left, y=frame.top, width=width, height=height, class_=class_)


def label(at: Point, text: str, class_: str = "tick", anchor: str = "middle") -> Markup:
    """A text whose baseline starts, ends or has its middle at the point."""
    return element("text", text, x=at[0], y=at[1], class_=class_, text_anchor=anchor)


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """Map ``[low, high]`` evenly onto ``[start, end]``; a range of no width goes to the middle."""
    if high == low:
        return lambda _: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """Map ``[low, high]``, both above 0, onto ``[start, end]`` so that equal ratios are equally far apart."""
    inner = linear(math.log(low), math.log(high), start, end)
    return lambda value: inner(math.log(value))


def round_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) that cover the range, some `about` of them."""
    span = high - low
    if span <= 0:
        return [low]
    magnitude = 10.0 ** math.floor(math.log10(span / about))
    step = next(step for step in (magnitude, 2 * magnitude, 5 * magnitude, 10 * magnitude) if span / step <= about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(tick * step, 12) for tick in range(first, last + 1)]


def spaced(values: Sequence[float], scale: Scale, apart: float) -> list[float]:
    """Those of the ascending values whose places are at least so far apart; the last one always stays."""
    kept: list[float] = []
    for value in reversed(values):
        if not kept or abs(scale(kept[-1]) - scale(value)) >= apart:
            kept.append(value)
    return kept[::-1]


def horizontal_axis(frame: Frame, scale: Scale, ticks: Sequence[float], write: Callable[[float], str]) -> Markup:
    """Ticks and their labels below the frame."""
    marks = [line((scale(tick), frame.bottom), (scale(tick), frame.bottom + 4), "axis") for tick in ticks]
    labels = [label((scale(tick), frame.bottom + 18), write(tick)) for tick in ticks]
    return group(line((frame.left, frame.bottom), (frame.right, frame.bottom), "axis"), *marks, *labels)


def vertical_axis(frame: Frame, scale: Scale, ticks: Sequence[float], write: Callable[[float], str]) -> Markup:
    """Grid lines across the frame and their labels to its left."""
    lines = [line((frame.left, scale(tick)), (frame.right, scale(tick)), "grid") for tick in ticks]
    labels = [label((frame.left - 8, scale(tick) + 4), write(tick), anchor="end") for tick in ticks]
    return group(*lines, *labels)


def _tip(tip: str | None) -> tuple[Markup, ...]:
    return () if tip is None else (element("title", tip),)


def _coordinates(points: Sequence[Point]) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)


def _number(value: object) -> str:
    """Hundredths are finer than any screen shows, and keep the page small."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
