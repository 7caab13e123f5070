"""Names, texts, numbers and vectors as PostgreSQL reads them, whatever is in them."""

import re

import numpy as np
from numpy.typing import NDArray

__all__ = ["dollar_quoted", "identifier", "name_problem", "number", "split_name", "text", "vector"]

_LONGEST_NAME = 63
"""Bytes; PostgreSQL cuts a longer name off, and two names may then be one."""

_PART = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')


def name_problem(name: str, what: str) -> str | None:
    """Why a name can't be one in PostgreSQL, as a sentence; None where it can."""
    if not name or "\0" in name:
        return f"{what} should be a name without zero bytes, and is {name!r}"
    if (size := len(name.encode())) > _LONGEST_NAME:
        return f"{what} should have at most {_LONGEST_NAME} bytes, and {name!r} has {size}"
    return None


def split_name(name: str, schema: str) -> tuple[str, str] | None:
    """The schema and the name that ``table``, ``schema.table`` or ``"with.dots"."as in SQL"`` say; None for neither.

    Case is kept: names are not folded as SQL folds those without quotes.
    """
    parts, end = [], 0
    while match := _PART.match(name, end):
        parts.append(match[1].replace('""', '"') if match[1] else match[2])
        end = match.end() + 1
        if name[match.end() : end] != ".":
            break
    if end <= len(name) or len(parts) not in (1, 2):
        return None
    return (schema, parts[0]) if len(parts) == 1 else (parts[0], parts[1])


def identifier(*names: str) -> str:
    """A name, qualified by those before it, in quotes."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def text(value: str) -> str:
    """A text as a literal of ASCII alone, which is the same under every encoding and setting."""
    escaped = "".join(_escaped(character) for character in value)
    return f"E'{escaped}'" if "\\" in escaped else f"'{escaped}'"


def _escaped(character: str) -> str:
    if character == "'":
        return "''"
    if character == "\\":
        return "\\\\"
    code = ord(character)
    if 0x20 <= code < 0x7F:
        return character
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def dollar_quoted(code: str) -> str:
    """Code as a string between dollar signs, with a tag that isn't in it."""
    tag = "$deep_memory$"
    while tag[:-1] in code:
        tag = f"{tag[:-1]}_$"
    return f"{tag}\n{code.strip()}\n{tag}"


def number(value: float) -> str:
    """A float64 as a literal that reads back the same."""
    return f"'{float(value)!r}'::double precision"


def vector(values: NDArray[np.float32]) -> str:
    """A vector as pgvector's literal; each float32 reads back the same."""
    return "'[" + ",".join(["%.9g"] * len(values)) % tuple(values.tolist()) + "]'"
