"""Many documents, ids or queries as requests that a hub takes."""

from collections.abc import Callable, Sequence

from deepmemory.data import Document
from deepmemory.errors import DeepMemoryError, TooLargeError
from deepmemory.progress import Progress

__all__ = ["DOCUMENTS_AT_ONCE", "ask_in_parts", "send_in_parts"]

DOCUMENTS_AT_ONCE = 512

_BYTES_AT_ONCE = 8 * 2**20
"""Roughly: what the texts, metadata and vectors of one request may weigh."""


def ask_in_parts(n: int, ask: Callable[[slice], None], *, most: int) -> None:
    """Ask about n things part by part, in order; in smaller parts where the hub finds one too large.

    Args:
        n: how many things.
        ask: asks about those of a part, in one request.
        most: things in one request.
    """
    start = 0
    while start < n:
        part = slice(start, min(n, start + most))
        try:
            ask(part)
        except TooLargeError:
            if part.stop - start == 1:
                raise
            most = (part.stop - start) // 2
            continue
        start = part.stop


def send_in_parts(
    documents: Sequence[Document],
    put: Callable[[int, int], None],
    *,
    vector_bytes: int,
    most: int = DOCUMENTS_AT_ONCE,
    progress: Progress | None = None,
) -> None:
    """Send documents part by part, each of which is stored whole or not at all.

    Where one fails, a note of its error says how many came before. A hub that finds a part too large gets smaller ones
    from then on.

    Args:
        documents: all of them.
        put: sends those of the rows ``start`` to ``end``, in one request.
        vector_bytes: what each document's vector weighs in a request; 0 where none is sent.
        most: documents in one request.
        progress: called with documents stored, and their number.
    """
    total, start = len(documents), 0
    while start < total:
        size = _size(documents[start : start + most], vector_bytes)
        try:
            put(start, start + size)
        except TooLargeError as error:
            if size > 1:
                most = size // 2
                continue
            error.add_note(f"The document {documents[start].id!r} alone is too large. {_before(start, total)}")
            raise
        except DeepMemoryError as error:
            if start:
                error.add_note(_before(start, total))
            raise
        start += size
        if progress is not None:
            progress(start, total)


def _size(documents: Sequence[Document], vector_bytes: int) -> int:
    """How many of the documents one request may have; at least one."""
    weight = 0
    for n, document in enumerate(documents):
        weight += len(document.text.encode()) + len(repr(document.metadata)) + len(document.id) + vector_bytes
        if weight > _BYTES_AT_ONCE and n:
            return n
    return len(documents)


def _before(start: int, total: int) -> str:
    return f"{start} of {total} documents were added before that"
