"""What is extracted from a page: plain text that reads like Markdown, and where its parts begin."""

import codecs
import re
from dataclasses import dataclass

__all__ = ["Anchor", "PageText", "Section", "decode"]


@dataclass(frozen=True, slots=True)
class Anchor:
    """A place that a link can point to.

    Attributes:
        name: what follows ``#`` in the link.
        offset: where in the text the place is, in characters.
    """

    name: str
    offset: int


@dataclass(frozen=True, slots=True)
class Section:
    """What stands under one heading, up to the start of the next section.

    Attributes:
        start: where in the text the section begins, in characters: at its heading line, where it has one.
        path: the titles of the headings that it stands under, outermost first; empty before the first heading.
        headed: whether the line of its own heading, the last of the path, is its first.
    """

    start: int
    path: tuple[str, ...]
    headed: bool = False


@dataclass(frozen=True, slots=True)
class PageText:
    """The main text of a page or file.

    Attributes:
        text: headings as ``# lines``, code in fences, lists with ``-``, tables with ``|``.
        title: what the page calls itself; empty where it doesn't.
        sections: in order of start, the first at 0.
        anchors: in order of offset; several may share one, and the last may stand at the end of the text.
        code: ``(start, end)`` of each code block, in order.
        canonical: the address that the page gives as its own, where it gives one.
    """

    text: str
    title: str = ""
    sections: tuple[Section, ...] = (Section(0, ()),)
    anchors: tuple[Anchor, ...] = ()
    code: tuple[tuple[int, int], ...] = ()
    canonical: str | None = None


_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED_CHARSET = re.compile(rb"""<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.I)
_DECLARATION_WINDOW = 4096


def decode(body: bytes, charset: str | None = None, *, html: bool = False) -> str:
    r"""Decode a page: by its byte-order mark, its declared charset, as UTF-8, and last as Windows-1252.

    Args:
        body: the page.
        charset: what the server said, if it did.
        html: whether a declaration may stand in the body; in a text such a line is an example of one.

    Returns:
        the text, with line ends as ``\n`` and without null characters; never fails.
    """
    return re.sub(r"\r\n?", "\n", _decoded(body, charset, html)).replace("\0", "")


def _decoded(body: bytes, charset: str | None, html: bool) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if body.startswith(mark):
            return body.decode(encoding, errors="replace")
    for name in (charset, _declared(body) if html else None, "utf-8"):
        try:
            if name:
                return body.decode(_as_browsers_do(name))
        except (UnicodeError, LookupError):
            continue
    # Windows-1252 is what pages that say Latin-1, or nothing, are written in; five bytes mean nothing in it.
    return body.decode("cp1252", errors="replace")


def _declared(body: bytes) -> str | None:
    found = _DECLARED_CHARSET.search(body[:_DECLARATION_WINDOW])
    name: str = found[1].decode("ascii", "replace") if found else ""
    # A declaration that can be read as ASCII doesn't stand in a page of two or four bytes a letter.
    return None if not name or name.lower().startswith(("utf-16", "utf-32")) else name


def _as_browsers_do(encoding: str) -> str:
    """The encoding that a name stands for on the web, where Latin-1 and ASCII mean Windows-1252."""
    return "cp1252" if encoding.lower() in {"iso-8859-1", "latin-1", "latin1", "us-ascii", "ascii"} else encoding
