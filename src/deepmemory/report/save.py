"""Write the report so that the file is either whole or untouched."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from deepmemory.errors import InputError, StorageError
from deepmemory.evaluation import Evaluation
from deepmemory.report.page import DEFAULT_TITLE, render_report

__all__ = ["save_report"]


def save_report(
    evaluation: Evaluation,
    path: str | os.PathLike[str],
    *,
    title: str = DEFAULT_TITLE,
    details: Mapping[str, str] | None = None,
) -> Path:
    """Save the evaluation as one self-contained HTML file, replacing one that is there.

    Args:
        evaluation: what is reported.
        path: the file to write; its folder exists.
        title: the page's heading.
        details: further facts for "How this was measured", such as the store, the embedder and the layer.

    Returns:
        The path written.

    Raises:
        InputError: the path is a folder, or its folder doesn't exist.
        StorageError: the disk refused or is full; a file that was there is unchanged.
    """
    target = Path(path)
    if os.path.isdir(target):  # noqa: PTH112  Path.is_dir raises where a name is too long
        raise InputError(f"The report needs the name of a file, but {target} is a folder.")
    if not os.path.isdir(target.parent):  # noqa: PTH112
        raise InputError(f"The report can't be written to {target}: there is no folder {target.parent}.")
    page = render_report(evaluation, title=title, details=details).encode("utf-8")
    try:
        _replace(target, page)
    except (OSError, ValueError) as error:  # a ValueError is what a zero byte in the name gives
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"can't write {str(target)!r}: {reason}; what was there before is unchanged") from error
    return target


def _replace(target: Path, content: bytes) -> None:
    """Write beside the target, then swap: a reader, and a fault at any moment, sees the old file or the new one."""
    beside = target.parent / f".tmp-{uuid.uuid4().hex}"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
