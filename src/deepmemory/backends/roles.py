"""Which column of a table that others made is for what: as it was said, or found out by names and types."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from deepmemory.backends.attaching import Asked
from deepmemory.backends.layout import Layout
from deepmemory.errors import InputError

__all__ = ["Kinds", "find_layout", "repeated_ids"]

T = TypeVar("T")

# By what LangChain's and LlamaIndex's own classes call them, and then by what many do.
_ID_NAMES = ("id", "ids", "_id", "uuid", "chunk_id", "pk")
_TEXT_NAMES = ("text", "documents", "document", "content", "page_content", "body", "chunk")
_VECTOR_NAMES = ("vector", "embeddings", "embedding", "vectors")
_METADATA_NAMES = ("metadata",)


@dataclass(frozen=True)
class Kinds(Generic[T]):
    """What columns of an engine's types can be for; each is asked with a column's type.

    Attributes:
        is_id: whether it can tell documents apart.
        is_text: whether it is text.
        is_vector: whether it holds vectors, all of one length.
        is_metadata: whether it holds what JSON can hold.
        is_object: whether it holds objects, whose keys can be metadata.
        has_objects: whether a column of text, by its name, holds JSON objects.
        name_problem: why a column's name can't be used, as the end of a sentence; None where it can.
    """

    is_id: Callable[[T], bool]
    is_text: Callable[[T], bool]
    is_vector: Callable[[T], bool]
    is_metadata: Callable[[T], bool]
    is_object: Callable[[T], bool]
    has_objects: Callable[[str], bool] = lambda _: False
    name_problem: Callable[[str], str | None] = lambda _: None


def find_layout(
    collection: str, columns: Mapping[str, T], kinds: Kinds[T], asked: Asked, problems: Sequence[str] = ()
) -> Layout:
    """The layout of a table, its distance still to be found.

    Args:
        collection: the table's name.
        columns: its columns' types by name.
        kinds: what types can be for.
        asked: what was said.
        problems: what is wrong besides, to be told together.

    Raises:
        InputError: everything that is wrong or can't be told.
    """
    return _Roles(columns, kinds, asked, list(problems)).layout(collection)


class _Roles(Generic[T]):
    def __init__(self, columns: Mapping[str, T], kinds: Kinds[T], asked: Asked, problems: list[str]) -> None:
        self._columns = columns
        self._kinds = kinds
        self._asked = asked
        self._problems = problems

    def layout(self, collection: str) -> Layout:
        asked, kinds = self._asked, self._kinds
        vector = self._one("vector", asked.vector, _VECTOR_NAMES, kinds.is_vector, "vectors of one length")
        text = self._one("text", asked.text, _TEXT_NAMES, kinds.is_text, "text", taken=(asked.id, *_ID_NAMES))
        id = self._one("id", asked.id, _ID_NAMES, kinds.is_id, "text or whole numbers", taken=(text,))
        nested = self._metadata_json({id, text, vector})
        metadata = self._metadata({id, text, vector, nested})
        if self._problems:
            there = ", ".join(f"{name} ({kind})" for name, kind in self._columns.items())
            where = f"the columns of {collection}" if collection else "its columns"
            raise InputError([f"{problem} ({where}: {there})" for problem in self._problems])
        assert id is not None
        assert vector is not None
        return Layout(collection, id=id, vector=vector, text=text, metadata=metadata, metadata_json=nested)

    def _one(
        self,
        role: str,
        asked: str | None,
        usual: Sequence[str],
        fits: Callable[[T], bool],
        kind: str,
        *,
        taken: Sequence[str | None] = (),
    ) -> str | None:
        """The column for something: the one named, or one of the usual names, or the only one that can be."""
        if asked is not None:
            self._check(asked, fits, f"{role}= names a column of {kind}")
            return asked
        able = [name for name in self._columns if self._is(name, fits)]
        usually = [name for name in usual if name in able]
        if usually:
            return usually[0]
        left = [name for name in able if name not in taken]
        if len(left) == 1:
            return left[0]
        if left or role != "text":  # there need be no text
            found = f"found {', '.join(left)}" if left else "found none"
            self._problems.append(f"say with {role}= which column of {kind} is the {role}; {found}")
        return None

    def _metadata_json(self, taken: set[str | None]) -> str | None:
        asked, kinds = self._asked, self._kinds
        if asked.metadata_json is not None:
            expected = "metadata_json= names a column of objects or of JSON text"
            self._check(asked.metadata_json, lambda kind: kinds.is_object(kind) or kinds.is_text(kind), expected)
            return asked.metadata_json
        if asked.metadata is not None:
            return None
        for name in _METADATA_NAMES:
            if name in taken:
                continue
            if self._is(name, kinds.is_object) or (self._is(name, kinds.is_text) and kinds.has_objects(name)):
                return name
        return None

    def _metadata(self, taken: set[str | None]) -> tuple[str, ...]:
        fits = self._kinds.is_metadata
        if self._asked.metadata is None:
            return tuple(name for name in self._columns if name not in taken and self._is(name, fits))
        for name in self._asked.metadata:
            self._check(name, fits, "metadata= names columns of what JSON can hold")
        return self._asked.metadata

    def _is(self, name: str, fits: Callable[[T], bool]) -> bool:
        return name in self._columns and fits(self._columns[name]) and self._kinds.name_problem(name) is None

    def _check(self, name: str, fits: Callable[[T], bool], expected: str) -> None:
        if name not in self._columns:
            self._problems.append(f"{expected}; there is no column {name!r}")
        elif not fits(self._columns[name]):
            self._problems.append(f"{expected}; {name!r} is of {self._columns[name]}")
        elif problem := self._kinds.name_problem(name):
            self._problems.append(f"{expected}; {name!r} {problem}")


def repeated_ids(column: str, n_missing: int, repeated: Sequence[tuple[object, int]]) -> list[str]:
    """What is wrong with a column of ids.

    Args:
        column: its name.
        n_missing: rows without one.
        repeated: those that are there more than once, with how often.
    """
    problems = []
    if n_missing:
        problems.append(f"the column {column} is to tell documents apart, and {n_missing:,} rows have none")
    if repeated:
        value, times = repeated[0]
        problems.append(
            f"the column {column} is to tell documents apart, and {len(repeated):,} of its values are there more than "
            f"once, such as {str(value)[:80]!r} {times} times; name another with id=, or remove what is there twice"
        )
    return problems
