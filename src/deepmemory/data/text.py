"""What the checks share: is it text, is it a list, and how a wrong value is shown in a sentence."""

from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np

from deepmemory.errors import InputError

__all__ = ["checked_texts", "is_list", "is_utf8", "shown", "text_problem", "text_problems"]

_SHOWN_CHARACTERS = 60


def is_list(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether it is an ordered collection of entries: a list, a tuple, an array, but no text."""
    return isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, (str, bytes, bytearray))


def shown(value: object) -> str:
    """A wrong value and its type, cut to a length that fits into a sentence."""
    written = repr(value)
    if len(written) > _SHOWN_CHARACTERS:
        written = written[:_SHOWN_CHARACTERS] + "..."
    return f"{written} ({type(value).__name__})"


def text_problem(value: object) -> str | None:
    """Why a value is no usable text, as the end of a sentence; None where it is one."""
    if not isinstance(value, str):
        return f"must be text, found {shown(value)}"
    if not value.strip():
        return "is empty"
    if not is_utf8(value):
        return f"holds half a surrogate pair and can't be stored as UTF-8: {value[:_SHOWN_CHARACTERS]!a}"
    return None


def text_problems(values: object, name: str, one: str) -> list[str]:
    """Why values are no list of usable texts, a sentence for each row that isn't one; empty where they are.

    Args:
        values: what was given.
        name: of the argument.
        one: what one of them is called.
    """
    if not is_list(values):
        return [f"{name} must be a list of texts, but is {shown(values)}"]
    rows = enumerate(values)
    return [f"{name}[{row}]: the {one} {problem}." for row, value in rows if (problem := text_problem(value))]


def checked_texts(values: object, name: str, one: str) -> list[str]:
    """The values as a list of texts; arguments as `text_problems`.

    Raises:
        InputError: they are something else, naming every row that can't be used.
    """
    if problems := text_problems(values, name, one):
        raise InputError(problems)
    return list(values)  # type: ignore[call-overload,no-any-return]  # it is a list, or there would be a problem


def is_utf8(text: str) -> bool:
    """Whether it can be written as UTF-8, as every file, database and endpoint needs it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
