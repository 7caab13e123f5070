"""Pages of Python's own documentation server, put into today's HTML before they are walked.

``pydoc`` lays out its pages with tables within tables and spells indentation with no-break spaces. A class is a
table whose title names it, each member is a definition list of its own, and running text between rules says of what
kind the members are. What only leads elsewhere is left out: lists of links, the tree of the classes and the orders
of method resolution (each class names its bases), the two attributes that every class has. So are the addresses in
memory of default values, which would make a page another at each start of the server.
"""

import re
from collections.abc import Iterator

from lxml.html import builder

from deepmemory.ingest.blocks import Inline
from deepmemory.ingest.elements import Element, add_flat, anchor_names, classes

__all__ = ["rewritten"]

_PLAIN_BASE = re.compile(r"\((?:builtins\.)?object\)$")
_UNSAID_LABELS = frozenset({"", "Methods defined here"})
_MEMORY_ADDRESS = re.compile("[ \u00a0]at[ \u00a0]0x[0-9A-Fa-f]{8,}")
_RESOLUTION_ORDER = "Method resolution order:"
_IN_EVERY_CLASS = frozenset({"__dict__", "__weakref__"})


def rewritten(root: Element) -> Element | None:
    """The content of a pydoc page as an ``article``; None where the page isn't one. The page's tree is taken apart."""
    title = next((cell for cell in root.iter("td") if "title" in classes(cell)), None)
    banner = None if title is None else next(title.iterancestors("table"), None)
    container = None if banner is None else banner.getparent()
    if title is None or banner is None or container is None or "heading" not in classes(banner):
        return None
    for element in container.iter():
        element.text, element.tail = _without_addresses(element.text), _without_addresses(element.tail)
    name = next((strong for strong in title.iterchildren("strong")), title)  # a version may follow it
    article = builder.ARTICLE(builder.H1(_text(name)))
    for docstring in container.iterdescendants("span"):
        if "code" in classes(docstring) and _section_around(docstring) is None:
            article.append(builder.DIV(docstring))
    for section in list(_sections_in(container, None)):
        article.extend(_section(section, 2))
    return article


def _without_addresses(text: str | None) -> str | None:
    return _MEMORY_ADDRESS.sub("", text) if text else text


def _section(table: Element, level: int) -> Iterator[Element]:
    heading_cell = next(cell for cell in table.iter("td") if "section-title" in classes(cell))
    content = next((cell for cell in table.iter("td") if _is_content(cell, table)), None)
    inner = list(_sections_in(table, table))
    if content is None or (not inner and _is_only_links(content)):
        return
    heading = builder.E(f"h{level}", _PLAIN_BASE.sub("", _text(heading_cell)))
    for name in (name for link in heading_cell.iter("a") for name in anchor_names(link)):
        heading.set("id", name)
    yield heading
    for section in inner:
        yield from _section(section, level + 1)
    if not inner:
        prelude = next((cell for cell in table.iter("td") if cell.get("colspan") == "2"), None)
        if prelude is not None:
            yield builder.DIV(*prelude)
        yield from _members(content, level + 1)


def _sections_in(part: Element, around: Element | None) -> Iterator[Element]:
    for table in part.iterdescendants("table"):
        if "section" in classes(table) and _section_around(table) is around:
            yield table


def _section_around(element: Element) -> Element | None:
    return next((table for table in element.iterancestors("table") if "section" in classes(table)), None)


def _is_content(cell: Element, table: Element) -> bool:
    return "singlecolumn" in classes(cell) and _section_around(cell) is table


def _is_only_links(content: Element) -> bool:
    linked = sum(len("".join(link.itertext()).split()) for link in content.iter("a"))
    return linked == len("".join(content.itertext()).split())


def _members(content: Element, level: int) -> Iterator[Element]:
    """What a class or module holds, kind by kind."""
    if next(content.iterchildren("dl"), None) is None:
        yield builder.DIV(content.text or "", *content)
        return
    for label, lists in _kinds(content):
        described = list(_described(lists))
        if described and label not in _UNSAID_LABELS:
            yield builder.E(f"h{level}", label)
        yield from described


def _kinds(content: Element) -> Iterator[tuple[str, list[Element]]]:
    """The lists of each kind, with the words that stand before them."""
    label, lists = content.text or "", list[Element]()
    for child in content:
        if child.tag == "hr":
            yield _spelled(label), lists
            label, lists = child.tail or "", []
        elif child.tag == "dl":
            lists.append(child)
        else:
            label += "".join(child.itertext()) + (child.tail or "")
    yield _spelled(label), lists


def _described(lists: list[Element]) -> Iterator[Element]:
    """Each member as a definition where links can point to it, as an item of a list where they can't."""
    plain: list[Element] = []
    for members in lists:
        term = next(members.iterchildren("dt"), None)
        if term is None or _text(term) == _RESOLUTION_ORDER:
            continue
        if any(anchor_names(link) for link in term.iter("a")):
            for note in [span for span in term.iterchildren("span") if "grey" in classes(span)]:
                note.drop_tree()  # from which other class a method comes
            members.tail = None
            yield members
        elif _text(term) not in _IN_EVERY_CLASS:
            description = next(members.iterchildren("dd"), ())
            plain.append(builder.LI(f"{_text(term)}{': ' if len(description) else ''}", *description))
    if plain:  # those that links point to and those that they don't are never of one kind
        yield builder.UL(*plain)


def _text(element: Element) -> str:
    inline = Inline()
    add_flat(element, inline)
    return " ".join(inline.finish()[0].split())


def _spelled(label: str) -> str:
    return " ".join(label.split()).rstrip(":")
