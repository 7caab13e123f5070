"""PDF: the text of its pages in order, each page an anchor, the outline as headings."""

import io
from collections.abc import Iterator
from typing import Any

from deepmemory.errors import IngestError, MissingExtraError
from deepmemory.ingest.text import Anchor, PageText, Section

__all__ = ["pdf_text"]

_PAGE_BREAK = "\n\n"


def pdf_text(body: bytes) -> PageText:
    """Extract the text of a PDF file; its page 3 is the anchor ``page=3``, which viewers understand in a link.

    Raises:
        IngestError: it asks for a password.
        MissingExtraError: pypdf is not installed.
    """
    try:
        import pypdf
    except ImportError as error:
        raise MissingExtraError("reading PDF files", "pdf") from error
    reader = pypdf.PdfReader(io.BytesIO(body))
    if reader.is_encrypted and not reader.decrypt(""):
        raise IngestError("it asks for a password")
    pages = ["\n".join(line.rstrip() for line in page.extract_text().strip().split("\n")) for page in reader.pages]
    starts, position = [], 0
    for page in pages:
        starts.append(position)
        position += len(page) + len(_PAGE_BREAK)
    text = _PAGE_BREAK.join(pages)
    return PageText(
        text=text if text.strip() else "",
        title=str((reader.metadata.title if reader.metadata else None) or "").strip(),
        sections=_sections(reader, starts),
        anchors=tuple(Anchor(f"page={number}", start) for number, start in enumerate(starts, start=1)),
    )


def _sections(reader: Any, starts: list[int]) -> tuple[Section, ...]:
    sections = [Section(0, ())]
    path: list[tuple[int, str]] = []
    for level, title, page in _outline(reader, reader.outline, 1):
        path = [(outer, words) for outer, words in path if outer < level] + [(level, title)]
        start = starts[page]
        # The outline says on which page a section begins and not where on it; the last of a page stands for it.
        if start < sections[-1].start:
            continue
        if start == sections[-1].start:
            sections.pop()
        sections.append(Section(start, tuple(words for _, words in path)))
    return tuple(sections)


def _outline(reader: Any, entries: list[Any], level: int) -> Iterator[tuple[int, str, int]]:
    """Level, title and page of each entry of the outline, in order."""
    for entry in entries:
        if isinstance(entry, list):
            yield from _outline(reader, entry, level + 1)
            continue
        page = reader.get_destination_page_number(entry)
        if page is not None and page >= 0 and entry.title:
            yield level, " ".join(str(entry.title).split()), page
