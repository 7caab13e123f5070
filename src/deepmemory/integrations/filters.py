"""Deep Lake's filters, read once: what the store can apply itself, and what is asked of each document."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from deepmemory.backends import Filter
from deepmemory.backends.filters import metadata_terms, read_filter
from deepmemory.data import Document
from deepmemory.errors import InputError
from deepmemory.integrations.dataset import Sample
from deepmemory.store import VectorStore

__all__ = [
    "EVERYTHING",
    "DeepLakeFilter",
    "Predicate",
    "Selection",
    "matching",
    "metadata_predicate",
    "read_deeplake_filter",
]

DeepLakeFilter: TypeAlias = Mapping[str, Any] | Callable[[Any], Any]
"""``{"metadata": {"lang": "en"}}``, ``{"lang": "en"}``, ``{"id": [...]}``, ``{"text": "..."}``, or a function of a
`Sample`."""

Predicate: TypeAlias = Callable[[Document], bool]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which documents are meant: those that pass both parts.

    Attributes:
        native: what the store filters by itself, with its index; None where everything passes.
        predicate: asked of one document after the other, and so dearer; None where everything passes.
    """

    native: Filter | None = None
    predicate: Predicate | None = None

    @property
    def is_everything(self) -> bool:
        """Whether every document passes."""
        return not self.native and self.predicate is None

    def test(self) -> Predicate:
        """What tells of one document whether it passes both parts."""
        conditions, predicate = read_filter(self.native), self.predicate

        def passes(document: Document) -> bool:
            return conditions.accept(document.id, metadata_terms(document.metadata)) and (
                predicate is None or predicate(document)
            )

        return passes


EVERYTHING: Final = Selection()
"""What no filter selects."""


def read_deeplake_filter(filter: DeepLakeFilter | None, store: VectorStore) -> Selection:
    """Read a filter.

    In a mapping everything must hold. ``metadata`` maps keys to values, ``id`` and ``text`` give a value, or a list
    of values of which one must match; any other key is a metadata key itself.

    Raises:
        InputError: it is no filter, names a key twice, or holds what is no JSON value.
    """
    if filter is None:
        return EVERYTHING
    if isinstance(filter, Mapping):
        return _from_mapping(filter)
    if callable(filter):
        return Selection(predicate=lambda document: bool(filter(Sample(document, store))))
    raise InputError(
        "a filter is a dict such as {'metadata': {'lang': 'en'}}, or a function of one sample; "
        f"found {type(filter).__name__}"
    )


def _from_mapping(filter: Mapping[str, Any]) -> Selection:
    native: dict[str, Any] = {}
    predicates: list[Predicate] = []
    for key, value in filter.items():
        if key == "embedding":
            raise InputError("a filter can't compare embeddings: search with the vector instead")
        if key == "text":
            predicates.append(_text_predicate(value))
            continue
        conditions = value if key == "metadata" and isinstance(value, Mapping) else {key: value}
        for inner, expected in conditions.items():
            if conditions is value and inner == "id":
                # To the store "id" is the document's id, so the metadata key of that name is compared here.
                predicates.append(metadata_predicate(inner, expected))
            elif inner in native:
                raise InputError(f"the filter names the key {inner!r} twice: give it once, in metadata or beside it")
            else:
                native[inner] = expected
    read_filter(native)  # what is no JSON value is refused before anything is searched
    return Selection(native or None, _all(predicates))


def metadata_predicate(key: str, expected: Any) -> Predicate:
    """Whether a metadata key has a value, or one of a list of values, by the store's own idea of equal."""
    conditions = read_filter({"value": expected})

    def passes(document: Document) -> bool:
        metadata = document.metadata
        return key in metadata and conditions.accept("", metadata_terms({"value": metadata[key]}))

    return passes


def matching(store: VectorStore, selection: Selection) -> Iterator[Document]:
    """Iterate over the documents that pass; reads every document of the store."""
    return filter(selection.test(), store.documents())


def _text_predicate(value: Any) -> Predicate:
    allowed = {value} if isinstance(value, str) else set(value) if isinstance(value, list | tuple | set) else None
    if allowed is None or not all(isinstance(text, str) for text in allowed):
        raise InputError(f"the filter's text is a text or a list of texts; found {value!r}")
    return lambda document: document.text in allowed


def _all(predicates: list[Predicate]) -> Predicate | None:
    if not predicates:
        return None
    return lambda document: all(predicate(document) for predicate in predicates)
