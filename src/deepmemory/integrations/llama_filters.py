"""LlamaIndex's metadata filters as a selection: equality goes to the store, the rest is asked of each document."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from deepmemory.data import Document
from deepmemory.errors import CapabilityError, InputError
from deepmemory.integrations.filters import Predicate, Selection

__all__ = ["read_metadata_filters"]

_Test: TypeAlias = Callable[[Any, Any], bool]

_NATIVE = (FilterOperator.EQ, FilterOperator.IN)
_MET_BY_ABSENCE = (FilterOperator.NE, FilterOperator.NIN)


def read_metadata_filters(filters: MetadataFilters | None, native: Mapping[str, Any]) -> Selection:
    """Read filters.

    Args:
        filters: equality and membership joined by "and" are the store's own; anything else is asked of one document
            after the other, which costs what a filter function costs.
        native: what must hold besides, in the store's own form.

    Raises:
        CapabilityError: an operator or condition that isn't known.
        InputError: an operator got a value that it can't work with.
    """
    own = dict(native)
    predicates: list[Predicate] = []
    for part in _parts(filters):
        if isinstance(part, MetadataFilter) and part.operator in _NATIVE and _is_free(part, own):
            # For the store a list means "one of these", which is what IN says; EQ gets a list of one.
            own[part.key] = list(_listed(part)) if part.operator == FilterOperator.IN else [part.value]
        else:
            predicates.append(_predicate(part))
    if not predicates:
        return Selection(own or None)
    return Selection(own or None, lambda document: all(predicate(document) for predicate in predicates))


def _parts(filters: MetadataFilters | None) -> list[MetadataFilter | MetadataFilters]:
    """What must hold together."""
    if filters is None or not filters.filters:
        return []
    if filters.condition in (FilterCondition.AND, None) or (
        filters.condition == FilterCondition.OR and len(filters.filters) == 1
    ):
        return list(filters.filters)
    return [filters]


def _is_free(part: MetadataFilter, taken: Mapping[str, Any]) -> bool:
    """Whether the store can compare the key: to it "id" is the document's id, and a key can be named once."""
    return part.key != "id" and part.key not in taken


def _predicate(part: MetadataFilter | MetadataFilters) -> Predicate:
    if isinstance(part, MetadataFilters):
        inner = [_predicate(one) for one in part.filters]
        match part.condition:
            case FilterCondition.AND | None:
                return lambda document: all(predicate(document) for predicate in inner)
            case FilterCondition.OR:
                return lambda document: any(predicate(document) for predicate in inner)
            case FilterCondition.NOT:
                return lambda document: not any(predicate(document) for predicate in inner)
        raise CapabilityError(f"filters are joined by and, or, not; found {part.condition!r}")
    return _single(part)


def _single(part: MetadataFilter) -> Predicate:
    key, wanted, operator = part.key, part.value, part.operator
    if operator == FilterOperator.IS_EMPTY:
        return lambda document: document.metadata.get(key) in (None, "", [])
    if operator not in _TESTS:
        raise CapabilityError(f"the filter operator {operator!r} is not known: use one of {sorted(_TESTS)}")
    if operator in _TAKES_A_LIST:
        _listed(part)
    if operator in _TAKES_A_TEXT and not isinstance(wanted, str):
        raise InputError(f"the filter on {key!r}: {operator.value} takes a text; found {wanted!r}")
    test = _TESTS[operator]

    def passes(document: Document) -> bool:
        value = document.metadata.get(key)
        if value is None:
            return operator in _MET_BY_ABSENCE
        try:
            return test(value, wanted)
        except TypeError as error:
            raise InputError(
                f"the filter on {key!r}: {operator.value} can't compare {value!r} of document {document.id!r} "
                f"with {wanted!r}"
            ) from error

    return passes


def _listed(part: MetadataFilter) -> list[Any]:
    if not isinstance(part.value, list):
        raise InputError(f"the filter on {part.key!r}: {part.operator.value} takes a list; found {part.value!r}")
    return list(part.value)


def _contains_text(value: Any, wanted: Any) -> bool:
    return isinstance(value, str) and wanted in value


_TESTS: dict[FilterOperator, _Test] = {
    FilterOperator.EQ: lambda value, wanted: bool(value == wanted),
    FilterOperator.NE: lambda value, wanted: bool(value != wanted),
    FilterOperator.GT: lambda value, wanted: bool(value > wanted),
    FilterOperator.GTE: lambda value, wanted: bool(value >= wanted),
    FilterOperator.LT: lambda value, wanted: bool(value < wanted),
    FilterOperator.LTE: lambda value, wanted: bool(value <= wanted),
    FilterOperator.IN: lambda value, wanted: value in wanted,
    FilterOperator.NIN: lambda value, wanted: value not in wanted,
    FilterOperator.ANY: lambda value, wanted: any(one in value for one in wanted),
    FilterOperator.ALL: lambda value, wanted: all(one in value for one in wanted),
    FilterOperator.CONTAINS: lambda value, wanted: wanted in value,
    FilterOperator.TEXT_MATCH: _contains_text,
    FilterOperator.TEXT_MATCH_INSENSITIVE: lambda value, wanted: (
        isinstance(value, str) and wanted.lower() in value.lower()
    ),
}
_TAKES_A_LIST = (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL)
_TAKES_A_TEXT = (FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE)
