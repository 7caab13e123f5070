"""Tables of data as rows of text; tables that only lay out a page are walked like any other element."""

from collections.abc import Iterator, Sequence

from deepmemory.ingest.blocks import Block, Inline
from deepmemory.ingest.elements import Element, add_flat, anchor_names, is_noise

__all__ = ["is_data_table", "table_block"]

_NOT_IN_DATA = ("table", "pre", "dl", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6")
_LONGEST_CELL = 600  # characters; longer ones are prose that a table holds in place


def is_data_table(table: Element) -> bool:
    """Whether a table's rows and columns mean something."""
    if table.get("role") in ("presentation", "none") or next(table.iterdescendants(*_NOT_IN_DATA), None) is not None:
        return False
    if any(map(_has_loose_content, table.iter("table", "thead", "tbody", "tfoot", "tr"))):
        return False
    rows = [list(_cells(row)) for row in _rows(table)]
    if max((len(row) for row in rows), default=0) < 2:
        return False
    return all(len("".join(cell.itertext())) <= _LONGEST_CELL for row in rows for cell in row)


def _has_loose_content(part: Element) -> bool:
    """Whether a table or row holds anything beside cells; then it is broken, and is walked so that nothing is lost."""
    if part.tag == "tr" and any(isinstance(child.tag, str) and child.tag not in ("td", "th") for child in part):
        return True
    return bool((part.text or "").strip()) or any((child.tail or "").strip() for child in part)


def table_block(table: Element) -> Block:
    """A table as ``| cell | cell |`` lines, its caption first, with a rule below its header."""
    lines = [_flat(caption)[0] for caption in table.iterchildren("caption")]
    anchors: list[tuple[str, int]] = []
    length = sum(len(line) + 1 for line in lines)
    for number, row in enumerate(_rows(table)):
        cells = list(_cells(row))
        line, places = _row(cells)
        if number == 0 and cells and all(cell.tag == "th" for cell in cells):
            line += "\n|" + " --- |" * len(cells)
        anchors += [(name, length) for name in anchor_names(row)]
        anchors += [(name, length + place) for name, place in places]
        lines.append(line)
        length += len(line) + 1
    return Block("\n".join(lines), anchors)


def _row(cells: Sequence[Element]) -> tuple[str, list[tuple[str, int]]]:
    line = "|"
    anchors: list[tuple[str, int]] = []
    for cell in cells:
        text, inner = _flat(cell)
        place = len(line) + 1
        anchors += [(name, place) for name in anchor_names(cell)]
        anchors += [(name, place + offset) for name, offset in inner]
        line += f" {text} |"
    return line, anchors


def _flat(cell: Element) -> tuple[str, list[tuple[str, int]]]:
    inline = Inline()
    add_flat(cell, inline)
    return inline.finish()


def _rows(table: Element) -> Iterator[Element]:
    return (row for row in table.iterdescendants("tr") if not is_noise(row))


def _cells(row: Element) -> Iterator[Element]:
    return (cell for cell in row.iterchildren("td", "th") if not is_noise(cell))
