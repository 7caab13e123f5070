"""Text files in and out: gzip seen through, failures told in a sentence, writes all or nothing."""

import gzip
import io
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from deepmemory.errors import InputError, StorageError

__all__ = ["atomic_file", "atomic_folder", "json_lines", "lines", "open_text", "parse_json"]

_GZIP_MAGIC = b"\x1f\x8b"


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 file, compressed or not, for reading; lines end at a newline and nowhere else.

    Raises:
        InputError: the file is missing, is no UTF-8, is a damaged gzip file, or can't be read; also while it is read.
    """
    try:
        with path.open("rb") as raw:
            compressed = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            raw.seek(0)
            stream = gzip.GzipFile(fileobj=raw) if compressed else raw
            # A newline of "\n" keeps U+2028 and its like inside a line, where JSON allows them.
            with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="\n") as text:
                yield text
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; convert it first.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is a truncated or damaged gzip file.") from error
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}.") from error


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a file that are not blank, each with the place that messages name.

    Raises:
        InputError: as `open_text`.
    """
    with open_text(path) as text:
        for number, line in enumerate(text, start=1):
            if stripped := line.strip():
                yield f"{path}, line {number}", stripped


def json_lines(path: Path, problems: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON Lines file with their places; what is no object is added to the problems.

    Raises:
        InputError: as `open_text`.
    """
    for where, line in lines(path):
        try:
            record = parse_json(line)
        except ValueError as error:
            problems.append(f"{where}: not valid JSON ({error}).")
            continue
        if isinstance(record, dict):
            yield where, record
        else:
            problems.append(f"{where}: expected a JSON object, found {type(record).__name__}.")


def parse_json(text: str) -> Any:
    """Parse strict JSON: without NaN and infinities.

    Raises:
        ValueError: it is not valid, or is nested too deeply; the message fits into parentheses.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


@contextmanager
def atomic_file(path: Path) -> Iterator[TextIO]:
    """Write a UTF-8 file that appears, or replaces the old one, when the block ends without an error.

    It is compressed where the name ends in ``.gz``, and the same text always gives the same bytes.

    Raises:
        InputError: a text can't be encoded.
        StorageError: the disk refused.
    """
    temporary = _beside(path)
    try:
        try:
            with temporary.open("xb") as raw:
                with _compressing(raw) if path.suffix == ".gz" else nullcontext(raw) as stream:
                    text = io.TextIOWrapper(stream, encoding="utf-8", newline="\n")
                    try:
                        yield text
                    finally:
                        text.detach()  # flushes, and leaves the stream open
                raw.flush()
                os.fsync(raw.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except UnicodeEncodeError as error:
        raise InputError(f"{path} can't be written: a text holds half a surrogate pair, which is no UTF-8.") from error
    except OSError as error:
        raise StorageError(f"{path} can't be written: {error.strerror or error}.") from error


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Fill a temporary folder that gets the path when the block ends without an error.

    Raises:
        InputError: the path is taken by a file, or by a folder that isn't empty.
        StorageError: the disk refused.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} exists already; give a new or empty folder.")
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.mkdir()
            yield temporary
            if path.exists():
                path.rmdir()  # it is empty; not every system renames over it
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise StorageError(f"{path} can't be written: {error.strerror or error}.") from error


def _compressing(raw: BinaryIO) -> gzip.GzipFile:
    """Gzip without a name or time in it, so that the same text gives the same bytes."""
    return gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0)


def _beside(path: Path) -> Path:
    """A name in the same folder, so that the rename stays on one disk and is atomic."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
