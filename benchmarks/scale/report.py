"""The table, the exponents and the pictures."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from benchmarks.scale.figures import Series, curves

from deepmemory.errors import InputError

__all__ = ["Slope", "exponents", "summary", "write"]

Line: TypeAlias = Mapping[str, Any]
Measure: TypeAlias = Callable[[Line], float | None]

_ROOM_BELOW_CEILING = 0.005
"""Less than this between the baseline and the ceiling can't be divided by."""


@dataclass(frozen=True, slots=True)
class Slope:
    """A power law fitted to some cells.

    Attributes:
        exponent: slope of log y by log x, by least squares.
        error: its standard error; None from two points.
        n: points.
    """

    exponent: float
    error: float | None
    n: int

    @classmethod
    def fitted(cls, points: Sequence[tuple[float, float]]) -> "Slope | None":
        """Of ``(x, y)`` above 0; None where there are fewer than two different ``x``."""
        if len({x for x, _ in points}) < 2:
            return None
        x, y = np.log(np.array(points, dtype=np.float64)).T
        away = x - x.mean()
        exponent = float(away @ y / (away @ away))
        if len(points) < 3:
            return cls(exponent, None, len(points))
        rest = y - y.mean() - exponent * away
        return cls(exponent, float(np.sqrt(rest @ rest / (len(points) - 2) / (away @ away))), len(points))

    def __str__(self) -> str:
        """As in a table."""
        return f"{self.exponent:.2f}" + ("" if self.error is None else f" ± {self.error:.2f}")


def captured(line: Line) -> float | None:
    """The part of what the planted map lifts that was learned; None where there is nothing to lift."""
    recall = line["recall"]
    ceiling = recall.get("ceiling")
    if ceiling is None or ceiling - recall["without"] < _ROOM_BELOW_CEILING:
        return None
    return float((recall["with"] - recall["without"]) / (ceiling - recall["without"]))


def summary(line: Line) -> str:
    """One cell in one line of text."""
    recall, part = line["recall"], captured(line)
    ceiling = f" of {recall['ceiling']:.3f}" if "ceiling" in recall else ""
    return (
        f"{_name(line)}, {line['cell']['queries']:,} queries: {line['seconds']:.1f} s "
        f"(CPU {line['cpu_seconds']:.1f} s), {line['peak_gib']:.2f} GiB, "
        f"recall@10 {recall['without']:.3f} to {recall['with']:.3f}{ceiling}"
        + ("" if part is None else f" ({100 * part:.0f}% of what can be learned)")
    )


def exponents(lines: Sequence[Line], by: str, measure: Measure) -> dict[str, Slope]:
    """Power laws in one size, the others fixed.

    Args:
        lines: cells.
        by: ``"queries"``, ``"documents"`` or ``"dimensions"``.
        measure: what grows.

    Returns:
        by the name of what is fixed.
    """
    points = defaultdict(list)
    for line in lines:
        value = measure(line)
        if value:
            points[_name(line, without=by)].append((line["cell"][by], value))
    slopes = {name: Slope.fitted(found) for name, found in points.items()}
    return {name: slope for name, slope in slopes.items() if slope is not None}


def write(lines: Sequence[Line], docs: Path) -> None:
    """Write ``scale-figures.md`` and the pictures, from cells in any order; of the same cell the last counts.

    Raises:
        InputError: the page has sizes that these lines haven't, as those of another machine, and would lose them.
    """
    last = {tuple(line["cell"].items()): line for line in lines}
    order = ("through", "dimensions", "documents", "queries")
    kept = sorted(last.values(), key=lambda line: [line["cell"][size] for size in order])
    page = docs / "scale-figures.md"
    _check_that_none_is_lost(page, kept)
    figures = docs / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    pictures = {
        "time": ("CPU seconds of training, all cores together, by number of training queries", _cpu, True),
        "memory": ("Peak resident memory in GiB by number of training queries", _peak, True),
        "lift": ("Part of the planted map's lift in recall@10 that was learned, in percent", _percent, False),
    }
    for name, (title, measure, is_log) in pictures.items():
        drawn = curves(title, _series(kept, measure), logarithmic=is_log)
        (figures / f"scale-{name}.svg").write_text(drawn)
    page.write_text(_page(kept))


def _check_that_none_is_lost(page: Path, lines: Sequence[Line]) -> None:
    if not page.exists():
        return
    measured = tuple(_sizes(line) for line in lines)
    written = [row for row in page.read_text().splitlines() if row.startswith(("| arrays |", "| store |"))]
    lost = [row for row in written if not row.startswith(measured)]
    if lost:
        raise InputError(
            f"{page} has {len(lost)} rows whose sizes are not among the {len(lines)} measured here, and would lose "
            "them; measure those too (python -m benchmarks.scale), or give another folder with --docs"
        )


def _page(lines: Sequence[Line]) -> str:
    return "\n".join(
        [
            "# Scale: the figures",
            "",
            "Written by `python -m benchmarks.scale --report`; what they mean is in [scale.md](scale.md).",
            "",
            *_table(lines),
            "",
            "## Exponents",
            "",
            "Slope of the logarithm by the logarithm of the size, the other sizes fixed, with its standard error. CPU",
            "time is of all threads; unlike time by the clock it hardly depends on what else the machine does.",
            "",
            *_exponent_table(lines),
            "",
        ]
    )


def _sizes(line: Line) -> str:
    """How a cell's row begins."""
    cell = line["cell"]
    return f"| {cell['through']} | {cell['dimensions']:,} | {cell['documents']:,} | {cell['queries']:,} |"


def _table(lines: Sequence[Line]) -> list[str]:
    rows = [
        "| through | dimensions | documents | queries | time | CPU | peak memory | given | layer | recall@10 without "
        "| with | ceiling | learned | one query | load | commit |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        recall, part = line["recall"], captured(line)
        given = _or_none(line.get("given_gib"), ".2f", " GiB")
        rows.append(
            f"{_sizes(line)} {line['seconds']:.1f} s | {line['cpu_seconds']:.1f} s | {line['peak_gib']:.2f} GiB "
            f"| {given} | {line['layer_mib']:.1f} MiB | {recall['without']:.3f} | {recall['with']:.3f} "
            f"| {_or_none(recall.get('ceiling'), '.3f')} | {'' if part is None else f'{100 * part:.0f}%'} "
            f"| {_or_none(line.get('apply_ms'), '.2f', ' ms')} | {line['load']:.0f} | {line['commit']} |"
        )
    return rows


def _exponent_table(lines: Sequence[Line]) -> list[str]:
    rows = ["| by | fixed | of CPU time | of time | of peak memory |", "|---|---|---|---|---|"]
    for by in ("queries", "documents", "dimensions"):
        cpu, seconds, peak = (exponents(lines, by, measure) for measure in (_cpu, _seconds, _peak))
        rows += [f"| {by} | {name} | {slope} | {seconds[name]} | {peak[name]} |" for name, slope in cpu.items()]
    return rows


def _series(lines: Sequence[Line], measure: Measure) -> list[Series]:
    points = defaultdict(list)
    for line in lines:
        value = measure(line)
        if value is not None and math.isfinite(value):
            points[_name(line)].append((line["cell"]["queries"], value))
    return [Series(name, sorted(found)) for name, found in points.items()]


def _name(line: Line, *, without: str = "queries") -> str:
    cell = line["cell"]
    parts = {
        "documents": f"{cell['documents']:,} documents",
        "dimensions": f"{cell['dimensions']:,} dimensions",
        "queries": f"{cell['queries']:,} queries",
    }
    return ", ".join([text for name, text in parts.items() if name != without] + [cell["through"]])


def _cpu(line: Line) -> float:
    return float(line["cpu_seconds"])


def _seconds(line: Line) -> float:
    return float(line["seconds"])


def _peak(line: Line) -> float:
    return float(line["peak_gib"])


def _percent(line: Line) -> float | None:
    part = captured(line)
    return None if part is None else 100 * part


def _or_none(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"
