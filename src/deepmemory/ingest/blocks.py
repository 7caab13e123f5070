"""Blocks of text in order, and their assembly into one text that knows where everything in it is."""

import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

from deepmemory.ingest.text import Anchor, PageText, Section

__all__ = ["Block", "Inline", "Kind", "assemble"]

_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_SOURCE_SPACE = re.compile(r"[ \t\n\r\f\v]+")  # no-break spaces stay: authors indent with them
_NO_BREAK_SPACE = "\u00a0"


class Kind(Enum):
    """What a block is, where that matters to what follows."""

    TEXT = auto()
    HEADING = auto()
    CODE = auto()


@dataclass(slots=True)
class Block:
    """One paragraph, heading, code block, table or item of a list.

    Attributes:
        text: its lines, without the indentation that comes from what surrounds it.
        anchors: names with their offsets in `text`.
        kind: what it is.
        path: the titles of the headings that it stands under; a heading's own is the last.
        first: what its first line begins with.
        rest: what its other lines begin with.
        tight: whether it follows the block before it without a blank line.
    """

    text: str
    anchors: list[tuple[str, int]] = field(default_factory=list)
    kind: Kind = Kind.TEXT
    path: tuple[str, ...] = ()
    first: str = ""
    rest: str = ""
    tight: bool = False


class Inline:
    """The running text of one block, its white space made single as a browser does, and the anchors in it."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._anchors: list[tuple[str, int, int]] = []
        self._pieces: list[str] = []
        self._column = 0
        self._after_space = True

    def add(self, text: str) -> None:
        """Add text as it stands in the page's source."""
        text = _SOURCE_SPACE.sub(" ", text.translate(_INVISIBLE))
        if self._after_space and text.startswith(" "):
            text = text[1:]
        if text:
            self._pieces.append(text)
            self._column += len(text)
            self._after_space = text.endswith(" ")

    def line_break(self) -> None:
        """End the line."""
        self._lines.append("".join(self._pieces))
        self._pieces, self._column, self._after_space = [], 0, True

    def anchor(self, name: str) -> None:
        """Mark the place of what comes next."""
        self._anchors.append((name, len(self._lines), self._column))

    def finish(self) -> tuple[str, list[tuple[str, int]]]:
        """Return the text, without space around it, and its anchors with their offsets in it."""
        self.line_break()
        kept: list[str] = []
        starts: list[int] = []
        position = 0
        for row in self._lines:
            line = row.replace(_NO_BREAK_SPACE, " ").rstrip()
            starts.append(position)
            if line or (kept and kept[-1]):
                kept.append(line if kept else line.lstrip())
                position += len(kept[-1]) + 1
        text = "\n".join(kept).rstrip()
        return text, [(name, min(starts[row] + column, len(text))) for name, row, column in self._anchors]


def assemble(blocks: Iterable[Block], *, title: str, canonical: str | None = None) -> PageText:
    """Put blocks together, a blank line between any two that aren't tight."""
    parts: list[str] = []
    length = 0
    sections = [Section(0, ())]
    anchors: list[Anchor] = []
    code: list[tuple[int, int]] = []
    for block in blocks:
        if parts:
            gap = "\n" if block.tight else "\n\n"
            parts.append(gap)
            length += len(gap)
        lines, own_starts, starts = _with_prefixes(block)
        if block.kind is Kind.HEADING or block.path != sections[-1].path:
            sections.append(Section(length, block.path, headed=block.kind is Kind.HEADING))
        for name, offset in block.anchors:
            row = bisect_right(own_starts, offset) - 1
            anchors.append(Anchor(name, length + starts[row] + offset - own_starts[row]))
        rendered = "\n".join(lines)
        if block.kind is Kind.CODE:
            code.append((length, length + len(rendered)))
        parts.append(rendered)
        length += len(rendered)
    if len(sections) > 1 and sections[1].start == 0:
        del sections[0]
    anchors.sort(key=lambda anchor: anchor.offset)
    return PageText("".join(parts), title, tuple(sections), tuple(anchors), tuple(code), canonical)


def _with_prefixes(block: Block) -> tuple[list[str], list[int], list[int]]:
    """A block's lines as they stand in the page, and where each line's own text begins in its text and in them."""
    lines: list[str] = []
    own_starts: list[int] = []
    starts: list[int] = []
    own_position = position = 0
    for row, line in enumerate(block.text.split("\n")):
        prefix = block.rest if row else block.first
        lines.append((prefix + line) if line else prefix.rstrip())
        own_starts.append(own_position)
        starts.append(position + min(len(prefix), len(lines[-1])))
        own_position += len(line) + 1
        position += len(lines[-1]) + 1
    return lines, own_starts, starts
