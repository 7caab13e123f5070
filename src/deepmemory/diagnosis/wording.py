"""How counts, shares and texts are written in findings."""

__all__ = ["beginning", "counted", "share"]

_SHOWN = 100


def counted(n: int, one: str, many: str | None = None) -> str:
    """A number with its noun: ``1 query``, ``2,000 documents``."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def share(n: int, of: int) -> str:
    """A part in percent, never 0% where there is something: ``12%``, ``0.3%``, ``under 0.1%``."""
    percent = 100 * n / of if of else 0.0
    if 0 < percent < 0.1:
        return "under 0.1%"
    return f"{percent:.0f}%" if percent >= 10 or percent == 0 else f"{percent:.1f}%"


def beginning(text: str, most: int = _SHOWN) -> str:
    """The beginning of a text, in one line."""
    line = " ".join(text[: 2 * most].split())
    return line if len(line) <= most and len(text) <= 2 * most else f"{line[: most - 3].rstrip()}..."
