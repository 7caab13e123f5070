"""From a page's text to chunks, along its headings."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import groupby, takewhile

from deepmemory.errors import InputError
from deepmemory.ingest.cuts import Cutter
from deepmemory.ingest.text import Anchor, PageText

__all__ = ["Chunk", "SplitOptions", "split"]

_LONGEST_TITLE = 80
_PATH_SEPARATOR = " > "
_PATH_SHARE = 3  # the line of headings takes at most one in so many of a chunk's characters
_HEADING_MARK = 8  # an anchor of a heading points behind its "## "


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitOptions:
    """How large chunks are.

    Attributes:
        max_chars: a chunk's text, headings included, is never longer. The default local model reads 256 tokens and
            ignores the rest. Its tokens have 3.7 characters in prose (the Rust book, npm's manual) and 3.2 in pydoc's
            pages, by the median; of 1,500 chunks of those pages, 95% are read to their end.
        min_chars: sections shorter than this are put together with their neighbours under the same heading.
    """

    max_chars: int = 900
    min_chars: int = 200

    def __post_init__(self) -> None:
        if not 100 <= self.max_chars <= 100_000 or not 0 <= self.min_chars <= self.max_chars:
            raise InputError(
                "a chunk's max_chars must be from 100 to 100,000 and its min_chars from 0 to max_chars, "
                f"but they are {self.max_chars} and {self.min_chars}"
            )


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a page that is embedded and found as one document.

    Attributes:
        text: the headings that it stands under, on a line, and its own body.
        start: where its body begins in the page's text, in characters.
        end: where its body ends; ``page.text[start:end]`` is the body.
        headings: the titles that all of it stands under, outermost first.
        anchors: the anchors that lie in it.
        anchor: the one to link to: where it begins, or else the last before, or else its first.
    """

    text: str
    start: int
    end: int
    headings: tuple[str, ...] = ()
    anchors: tuple[str, ...] = ()
    anchor: str | None = None


def split(page: PageText, options: SplitOptions | None = None) -> list[Chunk]:
    """Split a page into chunks.

    Sections shorter than ``min_chars`` are joined with their neighbours under the same heading, longer ones stand
    alone, and those that don't fit are cut at blank lines, sentences or lines into parts of about the same size;
    code is cut only where one block of it doesn't fit.

    Returns:
        the chunks in order; together they hold all of the text but blank space, and no two overlap.
    """
    splitter = _Splitter(page, options or SplitOptions())
    parts = splitter.under_heading(_sections(page), 0)
    ends = [part.start for part in parts[1:]] + [len(page.text) + 1]
    return [splitter.chunk(part, 0 if n == 0 else part.start, ends[n]) for n, part in enumerate(parts)]


class _Kind(Enum):
    """How a part may be joined with its neighbours under the same heading."""

    OWN = auto()
    """Text of that heading itself: with anything."""
    WHOLE = auto()
    """All that stands under a deeper heading: with another whole."""
    PIECE = auto()
    """Some of what stands under a deeper heading: not at all, for ends and beginnings make no good chunk."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A span of the text that may still be joined with the next.

    Attributes:
        start: where it begins.
        end: where it ends.
        path: the headings that all of it stands under.
        above: those that it stands under where it begins and whose lines are not in it.
        section: where the section begins in which it begins.
        kind: how it may be joined.
    """

    start: int
    end: int
    path: tuple[str, ...]
    above: tuple[str, ...]
    section: int
    kind: _Kind = _Kind.OWN

    @property
    def length(self) -> int:
        return self.end - self.start

    def may_join(self, following: "_Part") -> bool:
        kinds = (self.kind, following.kind)
        return _Kind.OWN in kinds or kinds == (_Kind.WHOLE, _Kind.WHOLE)

    def joined(self, following: "_Part") -> "_Part":
        """This and the next as one."""
        shared = takewhile(lambda pair: pair[0] == pair[1], zip(self.path, following.path, strict=False))
        path = tuple(title for title, _ in shared)
        kind = _Kind.PIECE if _Kind.PIECE in (self.kind, following.kind) else self.kind
        return replace(self, end=following.end, path=path, kind=kind)


def _sections(page: PageText) -> list[_Part]:
    """The sections with their ends; one that is a heading and nothing else begins the section under it."""
    sections: list[_Part] = []
    ends = [section.start for section in page.sections[1:]] + [len(page.text)]
    lone: _Part | None = None
    for section, after in zip(page.sections, ends, strict=True):
        start, end = _trimmed(page.text, section.start, after)
        if start == end:
            continue
        part = _Part(start, end, section.path, section.path[:-1] if section.headed else section.path, start)
        if lone is not None and section.path[: len(lone.path)] == lone.path != section.path:
            part = replace(lone, end=end, path=section.path)
        elif lone is not None:
            sections.append(lone)
        lone = part if section.headed and "\n" not in page.text[start:end] else None
        if lone is None:
            sections.append(part)
    return sections if lone is None else [*sections, lone]


class _Splitter:
    def __init__(self, page: PageText, options: SplitOptions) -> None:
        self._page = page
        self._options = options
        self._cutter = Cutter(page.text, page.code)
        self._offsets = [anchor.offset for anchor in page.anchors]

    def under_heading(self, sections: Sequence[_Part], depth: int) -> list[_Part]:
        """The parts of sections that share their first ``depth`` headings, small neighbours joined."""
        parts: list[_Part] = []
        for path, group in groupby(sections, key=lambda section: section.path[: depth + 1]):
            alike = list(group)
            parts = self._with(parts, self._cut_all(alike) if len(path) == depth else self._deeper(alike, depth + 1))
        while len(parts) > 1 and parts[-1].length < self._options.min_chars and self._may_be_one(*parts[-2:]):
            parts[-2:] = [parts[-2].joined(parts[-1])]
        return parts

    def chunk(self, part: _Part, owned_from: int, owned_to: int) -> Chunk:
        """A part as a chunk, which owns the anchors of a stretch of the text."""
        owned = self._anchors_in(owned_from, owned_to)
        body = self._page.text[part.start : part.end]
        line = self._line_of(part.above, part.path)
        return Chunk(
            text=f"{line}\n\n{body}" if line else body,
            start=part.start,
            end=part.end,
            headings=tuple(map(_short, part.path)),
            anchors=tuple(anchor.name for anchor in owned),
            anchor=self._link(part, owned),
        )

    def _link(self, part: _Part, owned: Sequence[Anchor]) -> str | None:
        """Where a link should point: the nearest place before the part in its own section, or its own first."""
        before = self._anchors_in(part.section, part.start + _HEADING_MARK + 1)
        nearest = [anchor for anchor in before if anchor.offset == before[-1].offset]
        return next((anchor.name for anchor in (*nearest, *owned)), None)

    def _anchors_in(self, start: int, end: int) -> Sequence[Anchor]:
        return self._page.anchors[bisect_left(self._offsets, start) : bisect_left(self._offsets, end)]

    def _deeper(self, sections: Sequence[_Part], depth: int) -> list[_Part]:
        parts = self.under_heading(sections, depth)
        kind = _Kind.WHOLE if len(parts) == 1 else _Kind.PIECE
        return [replace(part, kind=kind) for part in parts]

    def _cut_all(self, sections: Iterable[_Part]) -> list[_Part]:
        parts: list[_Part] = []
        for section in sections:
            parts = self._with(parts, self._cut(section))
        return parts

    def _cut(self, section: _Part) -> list[_Part]:
        first_line_end = self._page.text.find("\n", section.start, section.end)
        heading_end = first_line_end + 2 if section.above != section.path and first_line_end > 0 else 0
        spans = self._cutter.cut(section.start, section.end, self._room(section.path, section.path), uncut=heading_end)
        parts: list[_Part] = []
        for span in spans:
            start, end = _trimmed(self._page.text, *span)
            if start == end:
                continue
            part = replace(section, start=start, end=end, above=section.path if parts else section.above)
            small = min(part.length, parts[-1].length) < self._options.min_chars if parts else False
            if small and self._may_be_one(parts[-1], part):
                part = parts.pop().joined(part)
            parts.append(part)
        return parts

    def _with(self, parts: list[_Part], following: list[_Part]) -> list[_Part]:
        """Both lists, the last of the one joined with the first of the other if one of them is too small alone.

        Those that are too small go with what follows them, or with one another; a long definition doesn't
        swallow a short one that comes after it.
        """
        if not parts or not following or not self._may_be_one(parts[-1], following[0]):
            return parts + following
        last, first = parts[-1], following[0]
        small, half = self._options.min_chars, self._options.max_chars // 2
        if last.length < small or (first.length < small and first.end - last.start <= half):
            return [*parts[:-1], last.joined(first), *following[1:]]
        return parts + following

    def _may_be_one(self, last: _Part, first: _Part) -> bool:
        both = last.joined(first)
        return last.may_join(first) and both.length <= self._room(both.above, both.path)

    def _room(self, above: Sequence[str], path: Sequence[str]) -> int:
        """How long a body may be below the line of these headings."""
        line = self._line_of(above, path)
        return self._options.max_chars - (len(line) + 2 if line else 0)

    def _line_of(self, above: Sequence[str], path: Sequence[str]) -> str:
        """Headings as one line, the page's title first; the middle is left out where there is no room."""
        titles = [_short(title) for title in above]
        if self._page.title and self._page.title not in path[:1]:
            titles.insert(0, _short(self._page.title))
        room = self._options.max_chars // _PATH_SHARE
        while len(titles) > 1 and len(_PATH_SEPARATOR.join(titles)) > room:
            del titles[1 if len(titles) > 2 else 0]
        return _PATH_SEPARATOR.join(titles)[:room].rstrip()


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A span without blank space around it; the indentation of its first line stays."""
    body = text[start:end]
    first = start + len(body) - len(body.lstrip())
    line = text.rfind("\n", start, first) + 1
    if line or start == 0 or text[start - 1] == "\n":
        first = max(line, start)
    return first, max(first, start + len(body.rstrip()))


def _short(title: str) -> str:
    """A title that fits into a line of them: a long signature without its parameters, other words cut."""
    if len(title) <= _LONGEST_TITLE:
        return title
    name, parenthesis, _ = title.partition("(")
    return f"{name}(...)" if parenthesis and len(name) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 3] + "..."
