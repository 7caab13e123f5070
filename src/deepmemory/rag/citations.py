"""Citations in an answer, read as it comes: ``[1]``, ``[1, 2]``, ``[1-3]``."""

import re
from collections.abc import Iterator

__all__ = ["CitationReader"]

_TEXT = re.compile(r"[^`\[【\s]+")
_SPACE = re.compile(r"\s+")
_TICKS = re.compile(r"`+")
_CITATION = re.compile(r"[\[【]\s*(\d+(?:\s*[,;\u2013-]\s*\d+)*)\s*[\]】]")
_BEGINNING_OF_ONE = re.compile(r"[\[【][\d\s,;\u2013-]*\Z")
_LONGEST = 80  # characters; what is longer is no citation
_RANGE = re.compile(r"(\d+)\s*[\u2013-]\s*(\d+)")
_MOST_IN_A_RANGE = 50


class CitationReader:
    """Passes an answer on piece by piece, without the citations of sources that do not exist.

    Numbers in brackets within backticks are code, and stay as they are.

    Attributes:
        cited: numbers of the sources that were cited, in the order of their first mention.
        invented: numbers that were cited and belong to no source.
    """

    def __init__(self, n_sources: int) -> None:
        self.cited: list[int] = []
        self.invented: list[int] = []
        self._n_sources = n_sources
        self._waiting = ""
        self._space = ""  # held back: it goes with the citation after it, where that is dropped
        self._code: str | None = None  # the backticks that opened the code that we are in

    def feed(self, piece: str) -> str:
        """Take a piece of the answer; return what can be shown by now."""
        self._waiting += piece
        return "".join(self._ready(ended=False))

    def end(self) -> str:
        """The answer is over: return what was held back."""
        return "".join(self._ready(ended=True))

    def _ready(self, *, ended: bool) -> Iterator[str]:
        while self._waiting and (ended or not self._undecided()):
            yield from self._next()

    def _undecided(self) -> bool:
        """Whether what comes next may depend on what is still to come."""
        waiting = self._waiting
        if self._code is None and len(waiting) < _LONGEST and _BEGINNING_OF_ONE.match(waiting):
            return True
        ticks = _TICKS.match(waiting)
        return ticks is not None and ticks.end() == len(waiting)

    def _next(self) -> Iterator[str]:
        waiting = self._waiting
        if space := _SPACE.match(waiting):
            self._take(space.end())
            self._space += space[0]
            if self._code is not None or not self._waiting:
                yield from self._release()
            return
        citation = _CITATION.match(waiting) if self._code is None else None
        if citation:
            self._take(citation.end())
            kept = self._judge(citation)
            if kept:
                yield from self._release()
                yield kept
            elif "\n" not in self._space:
                self._space = ""
            return
        yield from self._release()
        if ticks := _TICKS.match(waiting):
            self._code = ticks[0] if self._code is None else None if ticks[0] == self._code else self._code
        token = ticks or _TEXT.match(waiting)
        end = token.end() if token else 1
        self._take(end)
        yield waiting[:end]

    def _judge(self, citation: re.Match[str]) -> str:
        """Count a citation; return it as it is to be shown."""
        numbers = list(_numbers(citation[1]))
        real = [number for number in numbers if 1 <= number <= self._n_sources]
        self.cited += [number for number in dict.fromkeys(real) if number not in self.cited]
        unreal = [number for number in dict.fromkeys(numbers) if number not in real]
        self.invented += [number for number in unreal if number not in self.invented]
        if len(real) == len(numbers):
            return citation[0]
        return f"[{', '.join(map(str, real))}]" if real else ""

    def _take(self, end: int) -> None:
        self._waiting = self._waiting[end:]

    def _release(self) -> Iterator[str]:
        if self._space:
            yield self._space
            self._space = ""


def _numbers(listed: str) -> Iterator[int]:
    """The numbers of ``1, 3-5``; a range that is no range gives its two ends."""
    for part in re.split(r"[,;]", listed):
        ends = _RANGE.fullmatch(part.strip())
        if ends and 0 <= int(ends[2]) - int(ends[1]) < _MOST_IN_A_RANGE:
            yield from range(int(ends[1]), int(ends[2]) + 1)
        else:
            yield from map(int, re.findall(r"\d+", part))
