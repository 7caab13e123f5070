"""What every embedder checks: the texts that go in and the vectors that come out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmemory.errors import EmbedderError, InputError

__all__ = ["check_texts", "no_vectors", "unit_rows"]

_SHOWN_ROWS = 5


def check_texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list, each a string that can be written as UTF-8.

    Raises:
        InputError: naming every row that is no such string.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence | np.ndarray):
        raise InputError(f"texts must be a list of strings, found {type(texts).__name__}")
    problems = [problem for row, text in enumerate(texts) if (problem := _text_problem(row, text))]
    if problems:
        raise InputError(problems)
    return [str(text) for text in texts]


def _text_problem(row: int, text: object) -> str | None:
    if not isinstance(text, str):
        return f"text {row} must be a string, found {type(text).__name__}"
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"text {row} holds half of a surrogate pair, which is no character: remove it or decode the text anew"
    return None


def no_vectors(dimensions: int | None) -> NDArray[np.float32]:
    """The vectors of no texts: ``(0, dimensions)``, with 0 for dimensions that are not known yet."""
    return np.empty((0, dimensions or 0), dtype=np.float32)


def unit_rows(raw: Any, count: int, source: str, dimensions: int | None = None) -> NDArray[np.float32]:
    """Check that something is one vector a text, and scale each to unit norm.

    Args:
        raw: what a model answered: anything that NumPy reads as ``(count, dimensions)`` real numbers.
        count: how many texts it was given.
        source: who answered, as the subject of a sentence.
        dimensions: what the length of the vectors must be, where it is known.

    Returns:
        ``(count, dimensions)`` float32, unit norm.

    Raises:
        EmbedderError: naming the source, what was expected and what was found.
    """
    try:
        vectors = np.asarray(raw, dtype=np.float64)
    except Exception as error:
        raise EmbedderError(
            f"{source} answered {count} texts with something that is no array of numbers of shape "
            f"({count}, {dimensions or 'dimensions'}): {_first_line(error)}"
        ) from error
    of_each_text = vectors.ndim == 2 and len(vectors) == count
    if not of_each_text or not vectors.shape[1] or dimensions not in (None, vectors.shape[1]):
        raise EmbedderError(
            f"{source} answered {count} texts with an array of shape {vectors.shape}; "
            f"expected ({count}, {dimensions or 'dimensions'}), a vector for each text"
        )
    _refuse_rows(~np.all(np.isfinite(vectors), axis=1, keepdims=True), source, "NaN or infinite numbers in the vector")
    # Divided by its largest number first, a row of very large or very small numbers has a norm that float64 can hold.
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    _refuse_rows(largest == 0, source, "a vector of zeros, which has no direction,")
    scaled = vectors / largest
    unit: NDArray[np.float32] = (scaled / np.linalg.norm(scaled, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _refuse_rows(bad: NDArray[np.bool_], source: str, found: str) -> None:
    rows = np.flatnonzero(bad).tolist()
    if not rows:
        return
    shown = ", ".join(map(str, rows[:_SHOWN_ROWS])) + (", ..." if len(rows) > _SHOWN_ROWS else "")
    raise EmbedderError(f"{source} answered with {found} for {len(rows)} of {len(bad)} texts (positions {shown})")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
