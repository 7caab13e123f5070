"""Checks documents and vectors before anything is stored, and reports every problem at once."""

import math
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmemory.data.model import Document
from deepmemory.data.text import is_list, is_utf8, shown, text_problem
from deepmemory.errors import InputError

__all__ = ["check_documents", "check_vectors"]


def check_documents(texts: object, metadatas: object = None, ids: object = None) -> list[Document]:
    """Make documents of parallel lists, or say everything that is wrong with them.

    Without ids each document gets a random one (32 hexadecimal digits): the same text may well be two documents with
    different metadata, so nothing is guessed from it. Who wants to add the same thing twice without having it twice
    gives ids.

    Args:
        texts: a list of texts.
        metadatas: for each text a dict of JSON values by key, or None; or None for all of them.
        ids: for each text an id that is not used twice; or None for all of them.

    Raises:
        InputError: with every problem, in the order of the rows.
    """
    text_list = _as_list(texts, "texts")
    metadata_list = _aligned(metadatas, "metadatas", text_list)
    id_list = _aligned(ids, "ids", text_list) if ids is not None else [uuid.uuid4().hex for _ in text_list]
    problems: list[str] = []
    first_place: dict[str, int] = {}
    for row, (text, metadata, id) in enumerate(zip(text_list, metadata_list, id_list, strict=True)):
        if problem := text_problem(id):
            problems.append(f"ids[{row}]: the id {problem}.")
        elif (first := first_place.setdefault(id, row)) != row:
            problems.append(f"ids[{row}]: the id {id!r} is used already by ids[{first}].")
        if problem := text_problem(text):
            problems.append(f"texts[{row}]: the text {problem}.")
        if problem := _metadata_problem(metadata):
            problems.append(f"metadatas[{row}]: {problem}.")
    if problems:
        raise InputError(problems)
    return [
        Document(id=id, text=text, metadata=dict(metadata or {}))
        for text, metadata, id in zip(text_list, metadata_list, id_list, strict=True)
    ]


def check_vectors(
    vectors: object, n: int | None, dimensions: int | None, what: str, *, zeros: bool = False
) -> NDArray[np.float32]:
    """Make a float32 matrix of vectors, or name every row that can't be used.

    Args:
        vectors: an array, or a list of lists, with one row for each vector.
        n: how many there must be; None for any number.
        dimensions: how long each must be; None for any length.
        what: what messages call them, such as ``"embeddings"``.
        zeros: whether rows of zeros are let through; a backend takes them, though by cosine nothing finds them.

    Returns:
        ``(n, dimensions)`` float32, C-contiguous; the input itself where it is that already.

    Raises:
        InputError: it is no matrix of numbers, the wrong number of rows or columns, or rows that have NaN or infinite
            values, are zero (they have no direction), or are too long for their norm to be a float32.
    """
    array = _as_numbers(vectors, what)
    if array.ndim != 2:
        raise InputError(f"{what} must have two dimensions, one row for each vector, but have the shape {array.shape}.")
    problems = []
    if n is not None and len(array) != n:
        problems.append(f"{what}: expected {n} vectors, found {len(array)}.")
    if array.shape[1] == 0 or (dimensions is not None and array.shape[1] != dimensions):
        expected = "at least 1" if dimensions is None else dimensions
        problems.append(f"{what}: expected vectors of {expected} dimensions, found {array.shape[1]}.")
    if problems:
        raise InputError(problems)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite, and is named below
        matrix = np.ascontiguousarray(array, dtype=np.float32)
        squares = np.einsum("ij,ij->i", matrix, matrix)  # one pass, no copy: NaN and infinity come through
    bad = np.flatnonzero(~(np.isfinite(squares) & ((squares > 0) | zeros)))
    if len(bad):
        raise InputError([f"{what}[{row}]: {_vector_problem(array[row])}." for row in bad])
    return matrix


def _as_list(value: object, name: str) -> list[Any]:
    if not is_list(value):
        raise InputError(f"{name} must be a list, but is {shown(value)}.")
    return list(value)


def _aligned(value: object, name: str, texts: list[Any]) -> list[Any]:
    if value is None:
        return [None] * len(texts)
    values = _as_list(value, name)
    if len(values) != len(texts):
        raise InputError(
            f"{name} must have one entry for each text, but there are {len(texts)} texts and {len(values)} {name}."
        )
    return values


def _metadata_problem(metadata: object) -> str | None:
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        return f"metadata must be a dict, found {shown(metadata)}"
    try:
        return next(_json_problems(dict(metadata), ""), None)
    except RecursionError:
        return "metadata is nested too deeply, or holds itself"


def _json_problems(value: object, path: str) -> Iterator[str]:
    """Whatever JSON can't say, with the path of keys that leads to it."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str):
                yield f"metadata{path} has the key {shown(key)}; keys must be text"
            elif not is_utf8(key):
                yield f"metadata{path} has a key that can't be stored as UTF-8: {key!a}"
            yield from _json_problems(entry, f"{path}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for position, entry in enumerate(value):
            yield from _json_problems(entry, f"{path}[{position}]")
    elif isinstance(value, str):
        if not is_utf8(value):
            yield f"metadata{path} can't be stored as UTF-8"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"metadata{path} is {value}, which JSON can't say"
    elif not (value is None or isinstance(value, (bool, int, float))):
        yield f"metadata{path} is {shown(value)}; expected a text, number, true or false, None, list or dict"


def _as_numbers(vectors: object, what: str) -> NDArray[Any]:
    try:
        array = np.asarray(vectors)
    except ValueError as error:  # rows of different lengths
        raise InputError(_ragged_problems(vectors, what)) from error
    if array.dtype.kind not in "fiu":
        raise InputError(f"{what} must be numbers, but are of the type {array.dtype}.")
    return array


def _ragged_problems(vectors: object, what: str) -> list[str]:
    lengths = [len(row) if is_list(row) else None for row in vectors] if is_list(vectors) else []
    expected = next((length for length in lengths if length is not None), None)
    return [
        f"{what}[{row}]: expected {expected} numbers as in the first row, found {'none' if length is None else length}."
        for row, length in enumerate(lengths)
        if length != expected
    ] or [f"{what} must be a matrix of numbers, with rows of one length."]


def _vector_problem(vector: NDArray[Any]) -> str:
    if np.isnan(vector).any():
        return "the vector has NaN in it"
    if np.isinf(vector).any():
        return "the vector has an infinite value in it"
    if not vector.any():
        return "the vector is zero, so it has no direction"
    return "the vector is too short or too long for a float32; scale it to a norm of 1"
