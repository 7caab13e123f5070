"""What commands print: JSON for programs, text for people, progress for those who wait."""

import contextlib
import json
import os
import shlex
import subprocess
import sys
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from deepmemory.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

__all__ = [
    "print_json",
    "print_table",
    "print_warning",
    "printable",
    "progress_bars",
    "screen_width",
    "shell_word",
    "wrapped",
]

_NARROWEST_TEXT, _WIDEST_TEXT = 20, 100
_UNLIMITED = 10_000


def print_json(value: object) -> None:
    """Print a value as JSON on stdout."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, ensure_ascii=not unicode, indent=2, allow_nan=False))


def print_warning(sentence: str) -> None:
    """Say on stderr what doesn't stop a command."""
    print(f"Warning: {printable(sentence)}", file=sys.stderr)


def printable(text: str) -> str:
    """A stored text without the characters that would steer a terminal; line breaks stay, a tab is a space."""
    return "".join(
        character if character == "\n" or unicodedata.category(character) != "Cc" else " " for character in text
    )


def screen_width() -> int:
    """Columns for running text."""
    return max(_NARROWEST_TEXT, min(_console().width, _WIDEST_TEXT))


def shell_word(word: str) -> str:
    """A word as this system's shell takes it, for commands that people copy."""
    return subprocess.list2cmdline([word]) if os.name == "nt" else shlex.quote(word)


def wrapped(text: str) -> str:
    """The text with its long lines broken for the screen, each under the indentation that it begins with."""
    width = screen_width()
    lines = (
        textwrap.fill(line, width, subsequent_indent=line[: len(line) - len(line.lstrip())])
        if len(line) > width
        else line
        for line in text.split("\n")
    )
    return "\n".join(lines)


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
) -> None:
    """Print rows under headings, folded to the screen's width; as wide as need be where stdout is no screen.

    Args:
        columns: the headings.
        rows: cells as text.
        right: the columns of numbers, which are aligned to the right.
    """
    from rich.table import Table
    from rich.text import Text

    console = _console()
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    if not sys.stdout.isatty():
        console.width = _UNLIMITED
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


@contextlib.contextmanager
def progress_bars(*doing: str) -> Iterator[tuple[Progress | None, ...]]:
    """Show bars on stderr while something works; nothing where stderr is no terminal.

    Args:
        doing: what each bar is about, such as ``"Training"``.

    Yields:
        for each bar what to call with ``(done, total)``, from any thread; None where nothing is shown.
    """
    if not sys.stderr.isatty():
        yield (None,) * len(doing)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = [bars.add_task(name, total=None) for name in doing]
        yield tuple(partial(_advance, bars, task) for task in tasks)


def _advance(bars: "Bars", task: "TaskID", done: int, total: int) -> None:
    bars.update(task, completed=done, total=total)


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False)
