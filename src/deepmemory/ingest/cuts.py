"""Where a text that doesn't fit may be cut, the best places first."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil

__all__ = ["Cutter"]

_BLANK_LINES = re.compile(r"\n[ \t]*\n(?:[ \t]*\n)*")
_ITEMS = re.compile(r"\n(?=[ \t]*(?:[-*+•|]|\d{1,3}[.)])[ \t])")
_LINES = re.compile(r"\n")
_SENTENCES = re.compile(r"""(?:[.!?…]["'”’)\]]*\s+|[。！？]["'”’」』）]*)(?=\S)""")  # noqa: RUF001  those of Chinese and Japanese
_WORDS = re.compile(r"[ \t\n]+(?=\S)")


class Cutter:
    """Cuts spans of one text."""

    def __init__(self, text: str, code: Sequence[tuple[int, int]]) -> None:
        """Take a text and the ``(start, end)`` of its code blocks, in order."""
        self._text = text
        self._code = code
        self._code_starts = [start for start, _ in code]
        self._levels = (self._blocks, self._code_paragraphs, self._code_lines, self._items, self._sentences)
        self._last_levels = (_LINES, _WORDS)

    def cut(self, start: int, end: int, limit: int, *, uncut: int = 0) -> list[tuple[int, int]]:
        """Cut a span into parts of at most ``limit`` characters and, where there is a choice, of about one size.

        Args:
            start: where the span begins.
            end: where it ends.
            limit: the most characters of a part.
            uncut: a position up to which the span is cut only if it is longer than the limit by itself.
        """
        return list(self._cut(start, end, limit, uncut, 0))

    def _cut(self, start: int, end: int, limit: int, uncut: int, level: int) -> Iterator[tuple[int, int]]:
        if end - start <= limit:
            yield start, end
            return
        places = [place for place in self._places(start, end, limit, level) if start < place < end and place > uncut]
        if not places and level == len(self._levels) + len(self._last_levels):
            # what was to stay uncut reaches so far that nothing else is left to cut
            yield from self._cut(start, end, limit, 0, 0)
            return
        if not places:
            yield from self._cut(start, end, limit, uncut, level + 1)
            return
        even = (end - start) / ceil((end - start) / limit)
        begun = start
        for left, right in pairwise((start, *places, end)):
            if left > begun and (right - begun > limit or left - begun >= even):
                yield begun, left
                begun = left
            if right - begun > limit:  # one unit alone, since nothing was begun before it
                yield from self._cut(begun, right, limit, uncut, level + 1)
                begun = right
        if begun < end:
            yield begun, end

    def _places(self, start: int, end: int, limit: int, level: int) -> Iterator[int]:
        if level < len(self._levels):
            return self._levels[level](start, end)
        if level < len(self._levels) + len(self._last_levels):
            return self._after(self._last_levels[level - len(self._levels)], start, end)
        return iter(range(start + limit, end, limit))

    def _blocks(self, start: int, end: int) -> Iterator[int]:
        return (place for place in self._after(_BLANK_LINES, start, end) if not self._in_code(place))

    def _code_paragraphs(self, start: int, end: int) -> Iterator[int]:
        return self._after(_BLANK_LINES, start, end)

    def _code_lines(self, start: int, end: int) -> Iterator[int]:
        return (place for place in self._after(_LINES, start, end) if self._in_code(place))

    def _items(self, start: int, end: int) -> Iterator[int]:
        return self._after(_ITEMS, start, end)

    def _sentences(self, start: int, end: int) -> Iterator[int]:
        return (place for place in self._after(_SENTENCES, start, end) if not self._in_code(place))

    def _after(self, pattern: re.Pattern[str], start: int, end: int) -> Iterator[int]:
        return (match.end() for match in pattern.finditer(self._text, start, end))

    def _in_code(self, place: int) -> bool:
        block = bisect_right(self._code_starts, place) - 1
        return block >= 0 and self._code[block][0] < place < self._code[block][1]
