"""What a filter means."""

import json

from hypothesis import given
from hypothesis import strategies as st

from deepmemory.backends.filters import metadata_terms, read_filter

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2).map(lambda x: round(x, 1)) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


def equal_as_json(one: object, other: object) -> bool:
    """JSON's own equality, told apart from Python's, for which True is 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal_as_json(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal_as_json, one, other))
    return one == other


@given(st.dictionaries(st.sampled_from(["a", "b"]), JSON), st.sampled_from(["a", "b"]), st.lists(JSON, max_size=3))
def test_a_key_passes_when_its_value_equals_one_of_the_list(
    metadata: dict[str, object], key: str, allowed: list[object]
) -> None:
    expected = key in metadata and any(equal_as_json(metadata[key], value) for value in allowed)
    assert read_filter({key: allowed}).accept("some id", metadata_terms(metadata)) == expected


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_metadata_that_went_through_json_means_the_same(metadata: dict[str, object]) -> None:
    assert metadata_terms(json.loads(json.dumps(metadata))) == metadata_terms(metadata)


def test_a_key_cannot_be_mistaken_for_a_value() -> None:
    assert not read_filter({"a": 'b","c'}).accept("", metadata_terms({'a","b': "c"}))


def test_tuples_and_sets_are_lists_of_values() -> None:
    terms = metadata_terms({"lang": "en"})
    for allowed in (("en", "fr"), {"en", "fr"}, frozenset({"en"})):
        assert read_filter({"lang": allowed}).accept("", terms)
    assert read_filter(None).accept("", terms)
