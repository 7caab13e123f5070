"""Vectors, texts and metadata as PostgreSQL holds them."""

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepmemory.backends.base import VectorArray, metadata_json
from deepmemory.data import Document
from deepmemory.errors import InputError

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = [
    "VectorTypes",
    "check_encodable",
    "decode_vectors",
    "encodable",
    "encode_vectors",
    "escape",
    "escape_json",
    "holds_nul",
    "is_encodable",
    "unescape",
    "unescape_json",
]

# PostgreSQL's text can hold every character but U+0000. In tables of our own it is written as two characters, of which
# the first, "data link escape", is written twice where it is meant itself.
_ESCAPE = "\x10"
_ESCAPED_NUL = _ESCAPE + "0"
_TO_ESCAPE = re.compile("[\x00\x10]")
_ESCAPED = re.compile("\x10[\x100]")
# In JSON both stand as \u0000 and \u0010. Backslashes are matched in pairs, for behind one a "u0000" is plain text.
_JSON_TO_ESCAPE = re.compile(r"\\(?:\\|u0000|u0010)")
_JSON_ESCAPED = re.compile(r"\\(?:\\|u0010(?:\\u0010|0))")


def escape(text: str) -> str:
    """A text without U+0000, from which `unescape` makes the same text again."""
    return _TO_ESCAPE.sub(lambda found: _ESCAPED_NUL if found[0] == "\x00" else _ESCAPE * 2, text)


def unescape(text: str) -> str:
    """The text that `escape` was given."""
    if _ESCAPE not in text:
        return text
    return _ESCAPED.sub(lambda found: "\x00" if found[0] == _ESCAPED_NUL else _ESCAPE, text)


def escape_json(text: str) -> str:
    """JSON whose strings are escaped, from which `unescape_json` makes the same again."""
    replaced = {"\\u0000": "\\u00100", "\\u0010": "\\u0010\\u0010"}
    return _JSON_TO_ESCAPE.sub(lambda found: replaced.get(found[0], found[0]), text)


def unescape_json(text: str) -> str:
    """The JSON that `escape_json` was given."""
    if "\\u0010" not in text:
        return text
    replaced = {"\\u00100": "\\u0000", "\\u0010\\u0010": "\\u0010"}
    return _JSON_ESCAPED.sub(lambda found: replaced.get(found[0], found[0]), text)


class _Vector(bytes):
    """A value of the type ``vector`` in its binary form."""


class _HalfVector(bytes):
    """A value of the type ``halfvec`` in its binary form."""


_HEADER = struct.Struct(">HH")
_HALF_LARGEST = float(np.finfo(np.float16).max)


def encode_vectors(vectors: VectorArray, *, half: bool = False) -> list[bytes]:
    """Vectors ``(n, dimensions)`` as n values of the type ``vector``, or ``halfvec``.

    Raises:
        InputError: a number is too large for half precision.
    """
    if half and vectors.size and float(np.abs(vectors).max()) > _HALF_LARGEST:
        raise InputError(
            f"a column of half precision holds numbers up to {_HALF_LARGEST:g}; found {np.abs(vectors).max():g}"
        )
    header, kind = _HEADER.pack(vectors.shape[1], 0), _HalfVector if half else _Vector
    return [kind(header + row.tobytes()) for row in np.asarray(vectors, dtype=">f2" if half else ">f4")]


def decode_vectors(values: Sequence[bytes], *, half: bool = False) -> VectorArray:
    """The vectors ``(n, dimensions)`` float32 of n values of one length of the type ``vector``, or ``halfvec``."""
    flat = np.frombuffer(b"".join(value[_HEADER.size :] for value in values), dtype=">f2" if half else ">f4")
    return flat.astype(np.float32).reshape(len(values), -1 if len(flat) else 0)


@dataclass(frozen=True, slots=True)
class VectorTypes:
    """What pgvector's types are called in one database.

    Attributes:
        schema: where the extension is installed.
        version: of the extension.
        oids: of each type and of its arrays, by the type's name.
    """

    schema: str
    version: tuple[int, ...]
    oids: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, connection: "Connection[Any]") -> "VectorTypes | None":
        """Look them up; None where the extension is not installed."""
        rows = connection.execute(
            "SELECT n.nspname, e.extversion, t.typname, t.oid::bigint, t.typarray::bigint FROM pg_extension e "
            "JOIN pg_namespace n ON n.oid = e.extnamespace "
            "JOIN pg_type t ON t.typnamespace = e.extnamespace AND t.typname IN ('vector', 'halfvec') "
            "WHERE e.extname = 'vector'"
        ).fetchall()
        if not rows:
            return None
        version = tuple(int(part) for part in re.findall(r"\d+", str(rows[0][1])))
        return cls(str(rows[0][0]), version, {name: (oid, array) for _, _, name, oid, array in rows})

    def register(self, connection: "Connection[Any]") -> None:
        """Have a connection take what `encode_vectors` makes, and give what `decode_vectors` takes."""
        from psycopg.adapt import Dumper, Loader
        from psycopg.pq import Format
        from psycopg.types import TypeInfo

        class Bytes(Loader):
            format = Format.BINARY

            def load(self, data: Any) -> bytes:
                return bytes(data)

        adapters = connection.adapters
        for name, kind in (("vector", _Vector), ("halfvec", _HalfVector)):
            if name not in self.oids:
                continue
            number, array = self.oids[name]

            class AsIs(Dumper):
                format = Format.BINARY
                oid = number

                def dump(self, obj: Any) -> bytes:
                    return bytes(obj)

            adapters.types.add(TypeInfo(name, number, array))
            adapters.register_dumper(kind, AsIs)
            adapters.register_loader(number, Bytes)


def holds_nul(json_text: str) -> bool:
    """Whether some string in JSON has U+0000 in it, which no column of the type ``jsonb`` can hold."""
    return any(found[0] == "\\u0000" for found in _JSON_TO_ESCAPE.finditer(json_text))


def encodable(texts: Iterable[str]) -> list[str]:
    """Those of the texts that UTF-8 can hold, sorted, each once; the others were never stored."""
    return sorted(text for text in set(texts) if is_encodable(text))


def check_encodable(documents: Iterable[Document]) -> None:
    """Raise `InputError`, naming each, where documents hold what UTF-8 can't."""
    problems = [
        f"document {document.id!r} holds half of a surrogate pair, which UTF-8 can't hold; decode its text anew"
        for document in documents
        if not all(map(is_encodable, (document.id, document.text, metadata_json(document.metadata))))
    ]
    if problems:
        raise InputError(problems)


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can hold a text: half of a surrogate pair it can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
