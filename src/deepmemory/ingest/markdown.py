"""Markdown: its source is the text already; this finds the headings, code and anchors in it."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate, pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

from deepmemory.ingest.text import Anchor, PageText, Section

__all__ = ["markdown_text"]

_FRONT_MATTER = re.compile(r"\A(---|\+\+\+)[ \t]*\n(.*?\n)?\1[ \t]*(?:\n|\Z)", re.S)
_FRONT_TITLE = re.compile(r"^title[ \t]*[:=][ \t]*(.+?)[ \t]*$", re.M | re.I)
_GIVEN_ID = re.compile(r"[ \t]*\{:?[ \t]*#([\w.:-]+)[^}]*\}[ \t]*$")
_MARKED_PLACE = re.compile(r"""<\w+[^>]*?\s(?:id|name)\s*=\s*["']?([^\s"'>]+)|^\(([^\s()]+)\)=[ \t]*$""", re.M)
_COMMENT = re.compile(r"\s*<!--(?:(?!-->).)*-->\s*", re.S)
_NOT_IN_SLUG = re.compile(r"[^\w\- ]")


def markdown_text(source: str) -> PageText:
    """Take the text of a Markdown file: the file itself, without front matter and without comments on their own."""
    front = _FRONT_MATTER.match(source)
    title = _FRONT_TITLE.search(front[2] or "") if front else None
    lines = source[front.end() if front else 0 :].split("\n")
    tokens = MarkdownIt("commonmark").enable("table").parse("\n".join(lines))
    kept = _without_comments(lines, tokens)
    starts = list(
        accumulate((len(line) + 1 if line_kept else 0 for line, line_kept in zip(lines, kept, strict=True)), initial=0)
    )
    text = "\n".join(line for line, line_kept in zip(lines, kept, strict=True) if line_kept)
    code = tuple((starts[first], starts[end] - 1) for first, end in _code(tokens))
    headings = list(_headings(tokens))
    anchors = [Anchor(name, starts[line]) for name, line in _heading_anchors(headings)]
    places = [place for place in _MARKED_PLACE.finditer(text) if not _is_within(place.start(), code)]
    anchors += [Anchor(place[1] or place[2], place.start()) for place in places]
    first = next((words for level, words, _ in headings if level == 1), "")
    return PageText(
        text=text,
        title=title[1].strip("\"'") if title else _named(first)[0],
        sections=_sections(headings, starts),
        anchors=tuple(sorted(anchors, key=lambda anchor: anchor.offset)),
        code=code,
    )


def _is_within(place: int, spans: tuple[tuple[int, int], ...]) -> bool:
    return any(start <= place < end for start, end in spans)


def _without_comments(lines: list[str], tokens: list[Token]) -> list[bool]:
    kept = [True] * len(lines)
    for token in tokens:
        if token.type == "html_block" and token.map and _COMMENT.fullmatch(token.content):
            kept[token.map[0] : token.map[1]] = [False] * (token.map[1] - token.map[0])
    return kept


def _code(tokens: list[Token]) -> Iterator[tuple[int, int]]:
    for token in tokens:
        if token.type in ("fence", "code_block") and token.map:
            yield token.map[0], token.map[1]


def _headings(tokens: list[Token]) -> Iterator[tuple[int, str, int]]:
    """Level, words and line of each heading that is no part of a list or quotation."""
    for token, following in pairwise(tokens):
        if token.type == "heading_open" and token.level == 0 and token.map:
            words = "".join(part.content for part in following.children or () if part.type in ("text", "code_inline"))
            yield int(token.tag[1:]), words.strip(), token.map[0]


def _heading_anchors(headings: list[tuple[int, str, int]]) -> Iterator[tuple[str, int]]:
    """The anchors that headings get when they are rendered: the one they name, or GitHub's slug of their words."""
    seen: Counter[str] = Counter()
    for _, words, line in headings:
        words, given = _named(words)  # noqa: PLW2901
        slug = given or _NOT_IN_SLUG.sub("", words.lower()).replace(" ", "-")
        if slug:
            yield (slug if not seen[slug] else f"{slug}-{seen[slug]}"), line
            seen[slug] += 1


def _named(words: str) -> tuple[str, str | None]:
    """A heading's words, and the id that may follow them as ``{#id}``."""
    given = _GIVEN_ID.search(words)
    return (words[: given.start()], given[1]) if given else (words, None)


def _sections(headings: list[tuple[int, str, int]], starts: list[int]) -> tuple[Section, ...]:
    sections = [Section(0, ())]
    path: list[tuple[int, str]] = []
    for level, words, line in headings:
        path = [(outer, title) for outer, title in path if outer < level] + [(level, _named(words)[0])]
        if starts[line] == 0:
            sections.clear()
        sections.append(Section(starts[line], tuple(title for _, title in path), headed=True))
    return tuple(sections)
