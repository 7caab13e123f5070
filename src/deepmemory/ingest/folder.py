"""A folder of files, read as a site is: each file a page."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from deepmemory.errors import IngestError
from deepmemory.ingest.extract import MEDIA_TYPES, media_type_of
from deepmemory.ingest.visit import Page, Status, Visit

__all__ = ["read_folder"]


def read_folder(folder: str | os.PathLike[str], *, max_file_bytes: int = 20 * 2**20) -> Iterator[Visit]:
    """Read the HTML, Markdown, text, reStructuredText and PDF files in a folder and the folders in it.

    Hidden files and folders are passed over, and so are links that lead out of the folder. A single file is read as
    a folder that holds nothing else.

    Args:
        folder: where to read.
        max_file_bytes: larger files are skipped.

    Yields:
        each file in order of its path; files of other kinds as skipped, files that can't be read as failed.

    Raises:
        IngestError: there is no such folder, it can't be listed, or nothing in it is of a kind that is read.
    """
    root = Path(folder)
    if not root.exists():
        raise IngestError(f"{root} doesn't exist: name a folder, a file, or an address that begins with https://")
    found = [(root, None)] if root.is_file() else list(_files(root))
    readable = 0
    for number, (path, problem) in enumerate(found, start=1):
        visit = _visit(path, root if root.is_dir() else root.parent, max_file_bytes, problem)
        readable += visit.status is not Status.SKIPPED
        yield replace(visit, waiting=len(found) - number)
    if not readable:
        kinds = ", ".join(sorted(MEDIA_TYPES))
        raise IngestError(f"{root} holds no file that is read ({kinds})")


def _files(root: Path) -> Iterator[tuple[Path, str | None]]:
    """Each file that isn't hidden, and each folder that can't be listed, with the reason."""
    unlisted: list[OSError] = []
    for current, folders, files in os.walk(root, onerror=unlisted.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(current, name), None
    for error in unlisted:
        if Path(error.filename) == root:
            raise IngestError(f"{root} can't be listed: {error.strerror}") from error
        yield Path(error.filename), f"it can't be listed: {error.strerror}"


def _visit(path: Path, root: Path, max_bytes: int, problem: str | None) -> Visit:
    # A name needn't be UTF-8, and what names a page is stored as text.
    key = os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", errors="replace")
    location = os.fsencode(path).decode("utf-8", errors="replace")
    if problem is not None:
        return Visit(key, location, Status.FAILED, problem)
    media_type = media_type_of(path.name)
    if media_type is None:
        return Visit(key, location, Status.SKIPPED, f"{path.suffix or 'a file without a suffix'} is not read")
    try:
        unwanted = _why_unwanted(path, root, max_bytes)
        if unwanted:
            return Visit(key, location, Status.SKIPPED, unwanted)
        return Visit(key, location, Status.FETCHED, page=Page(path.read_bytes(), media_type))
    except OSError as error:
        return Visit(key, location, Status.FAILED, f"it can't be read: {error.strerror}")


def _why_unwanted(path: Path, root: Path, max_bytes: int) -> str | None:
    if path.is_symlink() and not path.resolve(strict=True).is_relative_to(root.resolve()):
        return "a link out of the folder"
    if not path.is_file():
        return "no file"
    return f"larger than {max_bytes:,} bytes" if path.stat().st_size > max_bytes else None
