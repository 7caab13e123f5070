"""HTML to text: a walk over the page's main part that keeps headings, code, lists, tables, definitions and anchors.

Libraries for this were looked at and left: those that find the main text flatten definition lists and code, those
that convert to Markdown take the whole page, and none says where in its output an anchor went.
"""
# ruff: noqa: SIM905  long lists of words read better as one string

import re
from collections.abc import Iterator

from lxml import etree
from lxml import html as lxml_html

from deepmemory.ingest import pydoc
from deepmemory.ingest.blocks import Block, Inline, Kind, assemble
from deepmemory.ingest.code_blocks import code_block
from deepmemory.ingest.elements import Element, add_flat, anchor_names, classes, is_noise, is_permalink
from deepmemory.ingest.main_part import main_part
from deepmemory.ingest.tables import is_data_table, table_block
from deepmemory.ingest.text import PageText

__all__ = ["html_text", "parse_html"]

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details dir div dl dt fieldset figcaption figure "
    "form header hgroup hr label legend li main menu ol p section summary table tbody td tfoot th thead tr ul".split()
)
_CODE = frozenset({"code", "tt", "kbd", "samp"})
_FOOTNOTES = frozenset({"footnote", "footnotes", "citation"})
_FURNITURE = re.compile(
    r"[•·▪◦‣*-]|Edit this page|Edit on \w+|Copy|Copied!?|On this page|Was this (?:page |section )?helpful\?"
    r"|Last (?:updated|modified)\b.{0,60}",
    re.I,
)  # what a page says about itself, and marks of lists that are drawn as text
_DEEPEST = 200  # elements within one another; more is a broken or hostile page, and its text is taken as it comes


def parse_html(source: str) -> Element | None:
    """Parse a page, however broken; None where it holds no element."""
    parser = lxml_html.HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    try:
        root = lxml_html.document_fromstring(source.replace("\0", "").encode("utf-8", errors="replace"), parser=parser)
    except etree.ParserError:
        return None
    _flatten(root)
    return root


def _flatten(root: Element) -> None:
    """Make what is nested too deep to be walked plain text."""
    waiting = [(root, 0)]
    while waiting:
        element, depth = waiting.pop()
        if depth < _DEEPEST:
            waiting += [(child, depth + 1) for child in element]
        elif len(element):
            text = "".join(element.itertext())
            del element[:]
            element.text = text


def html_text(source: str) -> PageText:
    """Extract the main text of an HTML page."""
    root = parse_html(source)
    if root is None:
        return PageText("")
    part = pydoc.rewritten(root)
    walk = _Walk()
    walk.children(main_part(root) if part is None else part)
    blocks = walk.finish()
    if all(block.kind is Kind.HEADING for block in blocks):
        return PageText("", _title(root, blocks), canonical=_canonical(root))
    return assemble(blocks, title=_title(root, blocks), canonical=_canonical(root))


def _title(root: Element, blocks: list[Block]) -> str:
    first = next((block.text for block in blocks if block.kind is Kind.HEADING and len(block.path) == 1), "")
    return first or " ".join((root.findtext(".//title") or "").split())


def _canonical(root: Element) -> str | None:
    for link in root.iter("link"):
        if "canonical" in (link.get("rel") or "").lower().split() and link.get("href"):
            return str(link.get("href")).strip()
    return None


class _Walk:
    """One pass over a tree, which gathers running text until an element ends the block."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._inline = Inline()
        self._waiting: list[str] = []  # anchors whose text is still to come
        self._headings: list[tuple[int, str]] = []
        self._floor = 0  # headings within a definition stand under it, whatever their number
        self._prefix = ""
        self._marker: str | None = None
        self._tight = False

    def finish(self) -> list[Block]:
        """End the last block; the walk is over."""
        self._end_block()
        if self._waiting and self._blocks:
            last = self._blocks[-1]
            last.anchors += [(name, len(last.text)) for name in self._waiting]
        return self._blocks

    def children(self, element: Element) -> None:
        """Walk what is in an element."""
        self._inline.add(element.text or "")
        for child in element:
            if isinstance(child.tag, str) and not is_noise(child):
                self._element(child)
            self._inline.add(child.tail or "")

    def _element(self, element: Element) -> None:
        tag = element.tag
        if tag in _BLOCKS or tag in _HEADINGS or tag == "pre":
            self._end_block()
            self._waiting += anchor_names(element)
            self._block(element)
            self._end_block()
        elif tag == "br":
            self._inline.line_break()
        elif not is_permalink(element):
            for name in anchor_names(element):
                self._inline.anchor(name)
            self._run(element)

    def _run(self, element: Element) -> None:
        """Walk an element that is part of running text."""
        if element.tag == "img":
            self._inline.add(element.get("alt") or "")
        elif element.tag == "math":
            self._inline.add(_formula(element))
        elif _is_code(element):
            code = _flat(element)[0]
            self._inline.add(f"`{code}`" if code else "")
        else:
            self.children(element)

    def _block(self, element: Element) -> None:
        tag = element.tag
        if tag in _HEADINGS:
            self._heading(*_flat(element), max(_HEADINGS[tag], self._floor + 1))
        elif tag == "pre":
            code = code_block(element)
            if code:
                self._put(Block(code, kind=Kind.CODE))
        elif tag == "table" and is_data_table(element):
            self._put(table_block(element))
        elif tag in ("ul", "ol", "menu", "dir"):
            self._list(element)
        elif tag == "dl":
            self._definitions(element)
        elif tag == "blockquote":
            self._within(element, marker="> ", rest="> ")
        else:
            self.children(element)

    def _heading(self, title: str, anchors: list[tuple[str, int]], level: int) -> None:
        self._waiting += [name for name, _ in anchors]
        if not title:
            return
        while self._headings and self._headings[-1][0] >= level:
            self._headings.pop()
        self._headings.append((level, title))
        self._marker, self._tight = None, False
        self._put(Block(title, kind=Kind.HEADING), "#" * min(level, 6) + " ")

    def _list(self, element: Element) -> None:
        parent = element.getparent()
        self._tight = parent is not None and parent.tag in ("li", "dd")
        start = element.get("start") or ""
        first = int(start) if start.isdecimal() else 1
        for number, item in enumerate(self._items(element), start=first):
            marker = f"{number}. " if element.tag == "ol" else "- "
            self._waiting += anchor_names(item)
            self._within(item, marker=marker, rest=" " * len(marker))
            self._tight = True
        self._tight = False

    def _items(self, element: Element) -> Iterator[Element]:
        """The items of a list, of which those of definitions may be wrapped; text between them is text."""
        self._inline.add(element.text or "")
        for child in element:
            if isinstance(child.tag, str) and not is_noise(child):
                self._end_block()
                if child.tag == "div" and element.tag == "dl":
                    yield from self._items(child)
                else:
                    yield child
            self._inline.add(child.tail or "")
        self._end_block()

    def _within(self, element: Element, *, marker: str, rest: str) -> None:
        """Walk an element whose lines all begin with something: a list's item, a quotation."""
        prefix, outer_marker = self._prefix, self._marker
        self._marker = (prefix if outer_marker is None else outer_marker) + marker
        self._prefix = prefix + rest
        self.children(element)
        self._end_block()
        self._prefix, self._marker = prefix, outer_marker if self._marker_is_due() else None

    def _marker_is_due(self) -> bool:
        """Whether the marker of the item at hand is still to be set: at its end, that the item was empty."""
        return self._marker is not None

    def _definitions(self, element: Element) -> None:
        headings, floor = list(self._headings), self._floor
        level = max(floor, headings[-1][0] if headings else 0) + 1
        linked = not _FOOTNOTES & set(classes(element))
        for item in self._items(element):
            self._waiting += anchor_names(item)
            if item.tag != "dt":
                indent = "" if self._floor == level else "    "
                self._within(item, marker=indent, rest=indent)
                continue
            self._headings, self._floor = list(headings), floor
            if linked and _is_linked(item):
                text, anchors = _flat(item)
                self._heading(_signature(text), anchors, level)
                self._floor = level
            else:
                self._within(item, marker="", rest="")
                self._tight = True
        self._headings, self._floor, self._tight = headings, floor, False

    def _end_block(self) -> None:
        text, anchors = self._inline.finish()
        self._inline = Inline()
        if text and not _FURNITURE.fullmatch(text):
            self._put(Block(text, anchors))
        else:
            self._waiting += [name for name, _ in anchors]

    def _put(self, block: Block, prefix: str = "") -> None:
        """Add a block where the walk is; anchors that waited for text have found it."""
        block.anchors = [(name, 0) for name in self._waiting] + block.anchors
        block.path = tuple(title for _, title in self._headings)
        block.first = (self._prefix if self._marker is None else self._marker) + prefix
        block.rest = self._prefix
        block.tight = self._tight and bool(self._blocks)
        self._waiting, self._marker, self._tight = [], None, False
        self._blocks.append(block)


def _flat(element: Element) -> tuple[str, list[tuple[str, int]]]:
    """Everything in an element on one line, and its anchors."""
    inline = Inline()
    add_flat(element, inline)
    return inline.finish()


def _is_code(element: Element) -> bool:
    """Whether running text is set as code; docutils says so with a class."""
    if element.tag not in _CODE and not (element.tag == "span" and {"docutils", "literal"} <= set(classes(element))):
        return False
    return next(element.iterdescendants("pre", "p", "div", "code"), None) is None


def _is_linked(term: Element) -> bool:
    """Whether links can point to a term, as to a function's signature: then it is a heading in all but name."""
    return bool(anchor_names(term)) or any(anchor_names(inner) for inner in term.iterdescendants())


def _signature(text: str) -> str:
    """A signature that was set with one parameter on a line, on one line."""
    return re.sub(r"(?<=[(\[])\s+|,?\s+(?=[)\]])", "", text)


def _formula(element: Element) -> str:
    """A formula by its source, where the page has it; by its symbols otherwise."""
    for note in element.iterdescendants("annotation"):
        if "tex" in (note.get("encoding") or ""):
            return f"${''.join(note.itertext()).strip()}$"
    return "".join(element.itertext())
