"""How documents are kept in a LanceDB table: its columns, and conditions on them as SQL."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
import pyarrow as pa

from deepmemory.backends.base import VectorArray, metadata_json
from deepmemory.backends.filters import Conditions, metadata_terms
from deepmemory.data import Document
from deepmemory.errors import InputError

__all__ = ["COLUMNS", "dimensions_of", "documents_of", "hash_term", "id_list", "rows", "schema", "vectors_of", "where"]

COLUMNS = ("id", "text", "metadata", "terms", "vector")

# LanceDB then sees that two concurrent merges insert the same id, and has the later one start again.
_PRIMARY_KEY = {"lance-schema:unenforced-primary-key": "true"}


def schema(dimensions: int) -> pa.Schema:
    """The table's columns; ``terms`` repeats the metadata as hashes that a filter can be compared with."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False, metadata=_PRIMARY_KEY),
            pa.field("text", pa.string()),
            pa.field("metadata", pa.string()),
            pa.field("terms", pa.list_(pa.int64())),
            pa.field("vector", pa.list_(pa.float32(), dimensions)),
        ]
    )


def dimensions_of(table_schema: pa.Schema, column: str = "vector") -> int:
    """The length of the vectors of a table with this schema."""
    return int(table_schema.field(column).type.list_size)


def rows(documents: Sequence[Document], vectors: VectorArray) -> pa.Table:
    """Documents and their vectors ``(len(documents), dimensions)`` as rows of the table.

    Raises:
        InputError: a text can't be written as UTF-8, or metadata is no JSON.
    """
    _check_encodable(documents)
    flat = np.ascontiguousarray(vectors, dtype=np.float32).ravel()
    columns = [
        pa.array([document.id for document in documents], pa.string()),
        pa.array([document.text for document in documents], pa.string()),
        pa.array([metadata_json(document.metadata) for document in documents], pa.string()),
        pa.array([_term_hashes(document) for document in documents], pa.list_(pa.int64())),
        pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), vectors.shape[1]),
    ]
    return pa.Table.from_arrays(columns, schema=schema(vectors.shape[1]))


def _check_encodable(documents: Iterable[Document]) -> None:
    problems = [
        f"document {document.id!r} holds half of a surrogate pair, which UTF-8 can't hold; decode its text anew"
        for document in documents
        if not (_encodable(document.id) and _encodable(document.text) and _encodable(metadata_json(document.metadata)))
    ]
    if problems:
        raise InputError(problems)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _term_hashes(document: Document) -> list[int]:
    return sorted(hash_term(term) for term in metadata_terms(document.metadata))


def hash_term(term: str) -> int:
    """A term in 64 bits: filters then compare integers, nothing in them needs quoting, and a scan reads little.

    Among ten million different terms, the chance that a filter lets a wrong document pass is about 10**-12.
    """
    return int.from_bytes(hashlib.blake2b(term.encode(), digest_size=8).digest(), "big", signed=True)


def documents_of(table: pa.Table) -> Iterator[Document]:
    """The documents of rows that have the columns ``id``, ``text`` and ``metadata``."""
    columns = (table.column(name).to_pylist() for name in ("id", "text", "metadata"))
    for document_id, text, metadata in zip(*columns, strict=True):
        yield Document(document_id, text, json.loads(metadata))


def vectors_of(table: pa.Table) -> VectorArray:
    """The column ``vector`` as an array ``(n, dimensions)`` float32."""
    chunks = [np.asarray(chunk.flatten(), dtype=np.float32) for chunk in table.column("vector").chunks]
    flat = np.concatenate(chunks) if chunks else np.empty(0, dtype=np.float32)
    return flat.reshape(-1, dimensions_of(table.schema))


def where(conditions: Conditions) -> str | None:
    """The SQL of conditions; None where everything passes."""
    clauses = [
        f"array_has_any(terms, [{_hash_list(allowed)}])" if allowed else "false" for allowed in conditions.any_of
    ]
    if conditions.ids is not None:
        clauses.append(id_list(conditions.ids))
    return " AND ".join(clauses) or None


def _hash_list(terms: AbstractSet[str]) -> str:
    return ", ".join(str(hash_term(term)) for term in sorted(terms))


def id_list(ids: Iterable[str], column: str = "id") -> str:
    """The SQL that is true for rows with one of the ids, or one of the texts in another column."""
    # An id that can't be encoded was never stored. Doubling is all that SQL knows of quoting; a backslash is itself.
    literals = [_literal(document_id) for document_id in sorted(set(ids)) if _encodable(document_id)]
    return f"{column} IN ({', '.join(literals)})" if literals else "false"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
