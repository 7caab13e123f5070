"""The door: what is let in, what is refused and how, and splits that don't leak."""

from collections import UserList
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from deepmemory.data import (
    Document,
    LabelledQueries,
    Leak,
    check_documents,
    check_labelled,
    check_vectors,
    leaks,
    normalised,
    seen_documents,
    split_by_document,
    split_by_query,
)
from deepmemory.errors import InputError


def problems_of(function, *args, **kwargs) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    return caught.value.problems


def only_problem_of(function, *args, **kwargs) -> str:
    problems = problems_of(function, *args, **kwargs)
    assert len(problems) == 1, problems
    return problems[0]


# --- queries and relevance --------------------------------------------------------------------------------------------


def test_labelled_queries_are_aligned() -> None:
    labelled = check_labelled(["one?", "two?"], [[("a", 1.0), ("b", 0.5)], [("c", 1)]])
    assert labelled == LabelledQueries(("one?", "two?"), ({"a": 1.0, "b": 0.5}, {"c": 1.0}))
    assert len(labelled) == 2


def test_lists_tuples_arrays_and_numpy_numbers_will_do() -> None:
    queries = np.array(["one?", "two?"])
    relevance = ([["a", np.float32(1)]], UserList([(np.str_("b"), np.int64(2))]))
    assert check_labelled(queries, relevance).qrels == ({"a": 1.0}, {"b": 2.0})


def test_a_document_named_twice_counts_once() -> None:
    assert check_labelled(["one?"], [[("a", 1.0), ("b", 1.0), ("a", 1)]]).qrels == ({"a": 1.0, "b": 1.0},)


def test_a_document_named_twice_with_different_grades_is_a_problem() -> None:
    problem = only_problem_of(check_labelled, ["one?"], [[("a", 1.0), ("a", 0.5)]])
    assert problem == "relevance[0]: the id 'a' is given twice with different grades, 1 and 0.5."


def test_grades_of_zero_are_dropped() -> None:
    assert check_labelled(["one?"], [[("a", 0.0), ("b", 1.0)]]).qrels == ({"b": 1.0},)


def test_the_same_query_may_come_twice() -> None:
    assert len(check_labelled(["one?", "one?"], [[("a", 1.0)], [("b", 1.0)]])) == 2


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("doc-1", "found the text 'doc-1'"),
        ({"a": 1.0}, "found a dict; pass list(relevance.items())"),
        (None, "found None (NoneType)"),
        (7, "found 7 (int)"),
        (["a", "b"], "a list of ids without grades, starting with 'a'"),
        (("a", 1.0), "a single pair that is not in a list: ('a', 1.0)"),
        ([(1.0, "a")], "the pair (1.0, 'a') is in the wrong order"),
        ([("a", 1.0), "b"], "expected a (document id, grade) pair, found 'b' (str)"),
        ([("a",)], "expected a (document id, grade) pair, found ('a',) (tuple)"),
        ([(3, 1.0)], "a document id must be text, found 3 (int)"),
        ([("", 1.0)], "a document id is empty"),
        ([(" \n", 1.0)], "a document id is empty"),
        ([("a\ud800", 1.0)], "a document id holds half a surrogate pair"),
        ([("a", -1.0)], "the grade of 'a' must be 0 or more and finite, but is -1.0"),
        ([("a", float("nan"))], "must be 0 or more and finite, but is nan"),
        ([("a", float("inf"))], "must be 0 or more and finite, but is inf"),
        ([("a", 10**400)], "must be 0 or more and finite"),
        ([("a", 1e-60)], "too small to be told from 0"),
        ([("a", True)], "the grade of 'a' must be a number, found True (bool)"),
        ([("a", "1")], "the grade of 'a' must be a number, found '1' (str)"),
        ([("a", None)], "the grade of 'a' must be a number, found None"),
        ([("a", 0.0), ("b", 0)], "no relevant document (every grade is 0)"),
        ([], "no relevant document (its relevance is empty)"),
    ],
)
def test_relevance_that_is_refused(pairs, message: str) -> None:
    problem = only_problem_of(check_labelled, ["one?", "two?"], [[("z", 1.0)], pairs])
    assert problem.startswith("relevance[1]: ")
    assert message in problem
    assert problem.endswith(".")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "queries[0]: the query is empty."),
        ("  \t", "queries[0]: the query is empty."),
        (None, "queries[0]: the query must be text, found None (NoneType)."),
        (b"one?", "queries[0]: the query must be text, found b'one?' (bytes)."),
    ],
)
def test_queries_that_are_refused(query, message: str) -> None:
    assert only_problem_of(check_labelled, [query], [[("a", 1.0)]]) == message


@pytest.mark.parametrize(
    ("queries", "relevance", "message"),
    [
        ("one?", [[("a", 1.0)]], "queries must be a list of texts, but is 'one?' (str)"),
        (["one?"], {"one?": [("a", 1.0)]}, "relevance must be a list with one entry for each query"),
        (["one?"], None, "relevance must be a list"),
        (["one?", "two?"], [[("a", 1.0)]], "there are 2 queries and 1 entries of relevance"),
        ([], [], "queries is empty"),
    ],
)
def test_arguments_that_are_refused_as_a_whole(queries, relevance, message: str) -> None:
    assert message in only_problem_of(check_labelled, queries, relevance)


def test_every_problem_is_reported_at_once_in_the_order_of_the_rows() -> None:
    problems = problems_of(
        check_labelled,
        ["one?", "", "three?", 4],
        [[("a", -1), ("gone", 1.0)], ["b"], [("also gone", 1.0)], []],
        known_ids=lambda ids: {"a", "b"},
    )
    assert [problem.split(":")[0] for problem in problems] == [
        "relevance[0]",
        "relevance[0]",
        "queries[1]",
        "relevance[1]",
        "relevance[2]",
        "queries[3]",
        "relevance[3]",
    ]
    assert problems[1] == "relevance[0]: there is no document with the id 'gone'."


def test_known_ids_is_asked_once_for_all_distinct_ids() -> None:
    asked = []

    def known_ids(ids):
        asked.append(list(ids))
        return set(ids)

    check_labelled(["one?", "two?"], [[("a", 1), ("b", 1)], [("b", 1), ("c", 0)]], known_ids=known_ids)
    assert asked == [["a", "b", "c"]]


def test_rows_may_carry_names_of_their_own() -> None:
    problems = problems_of(
        check_labelled, ["", "two?"], [[("a", 1)], [("b", 1)]], known_ids=lambda ids: {"a"}, rows=["line 3", "line 9"]
    )
    assert problems == ("line 3: the query is empty.", "line 9: there is no document with the id 'b'.")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)


@settings(deadline=None, max_examples=150)
@given(anything | st.just(["one?"]), anything | st.lists(anything, min_size=1, max_size=1))
def test_whatever_comes_in_is_valid_or_an_input_error(queries, relevance) -> None:
    with suppress(InputError):
        labelled = check_labelled(queries, relevance)
        assert len(labelled) == len(queries) > 0
        assert all(judgements and min(judgements.values()) > 0 for judgements in labelled.qrels)


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text("abc", min_size=1), st.floats(0.01, 3), min_size=1), min_size=1, max_size=5))
def test_relevance_goes_round(qrels) -> None:
    labelled = LabelledQueries(tuple(f"query {n}" for n in range(len(qrels))), tuple(qrels))
    assert check_labelled(labelled.queries, labelled.relevance) == labelled


# --- labelled queries -------------------------------------------------------------------------------------------------


@pytest.fixture
def labelled() -> LabelledQueries:
    return LabelledQueries(("one?", "two?", "one?"), ({"b": 1.0, "a": 0.5}, {"c": 1.0}, {"a": 2.0, "c": 1.0}))


def test_subset_keeps_the_order_asked(labelled: LabelledQueries) -> None:
    assert labelled.subset(np.array([2, 0])) == LabelledQueries(
        ("one?", "one?"), (labelled.qrels[2], labelled.qrels[0])
    )
    assert len(labelled.subset([])) == 0
    with pytest.raises(IndexError):
        labelled.subset([3])


def test_labelled_ids_are_distinct_and_in_order(labelled: LabelledQueries) -> None:
    assert labelled.labelled_ids == ("b", "a", "c")


def test_merged_unites_what_equal_queries_want(labelled: LabelledQueries) -> None:
    assert labelled.merged() == LabelledQueries(("one?", "two?"), ({"b": 1.0, "a": 2.0, "c": 1.0}, {"c": 1.0}))
    assert labelled.qrels[0] == {"b": 1.0, "a": 0.5}


# --- documents --------------------------------------------------------------------------------------------------------


def test_made_queries_are_told_from_those_that_were_asked() -> None:
    labelled = check_labelled(["a", "b", "a"], [[("x", 1.0)], [("y", 1.0)], [("z", 1.0)]], made=[True, True, False])
    assert labelled.asked.queries == ("a",)
    assert labelled.subset([1]).made == (True,)
    assert labelled.merged().made == (False, True)
    assert check_labelled(["a"], [[("x", 1.0)]], made=[False]) == check_labelled(["a"], [[("x", 1.0)]])


@pytest.mark.parametrize(
    ("made", "message"), [([True], "there are 2 queries and 1"), ([1, 0], "list of True"), ("yes", "list of True")]
)
def test_made_that_is_refused(made, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_labelled(["a", "b"], [[("x", 1.0)], [("y", 1.0)]], made=made)


def test_documents_are_made_of_parallel_lists() -> None:
    documents = check_documents(["x", "y"], [{"page": 1, "tags": ["a", None]}, None], ["1", "2"])
    assert documents == [Document("1", "x", {"page": 1, "tags": ["a", None]}), Document("2", "y", {})]
    assert check_documents([]) == []


def test_without_ids_every_document_gets_one_of_its_own() -> None:
    ids = [document.id for document in check_documents(["same", "same"]) + check_documents(["same"])]
    assert len(set(ids)) == 3
    assert all(len(id) == 32 for id in ids)


def test_metadata_is_copied() -> None:
    metadata = {"page": 1}
    (document,) = check_documents(["x"], [metadata])
    metadata["page"] = 2
    assert document.metadata == {"page": 1}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("page 1", "metadata must be a dict, found 'page 1' (str)"),
        ({1: "x"}, "the key 1 (int); keys must be text"),
        ({"when": {"made": object}}, "metadata['when']['made'] is <class 'object'> (type); expected a text"),
        ({"scores": [1.0, float("nan")]}, "metadata['scores'][1] is nan, which JSON can't say"),
        ({"x": b"bytes"}, "metadata['x'] is b'bytes' (bytes)"),
        ({"x": "\udfff"}, "metadata['x'] can't be stored as UTF-8"),
        ({"\udfff": 1}, "a key that can't be stored as UTF-8"),
    ],
)
def test_metadata_that_is_refused(metadata, message: str) -> None:
    problem = only_problem_of(check_documents, ["x", "y"], [None, metadata], ["1", "2"])
    assert problem.startswith("metadatas[1]: ")
    assert message in problem


def test_metadata_that_holds_itself_is_refused() -> None:
    metadata: dict[str, object] = {}
    metadata["self"] = metadata
    assert "nested too deeply" in only_problem_of(check_documents, ["x"], [metadata])


def test_every_problem_of_documents_is_reported_at_once() -> None:
    assert problems_of(check_documents, ["x", "", 3, "y"], [None, None, None, 4], ["1", "2", "1", ""]) == (
        "texts[1]: the text is empty.",
        "ids[2]: the id '1' is used already by ids[0].",
        "texts[2]: the text must be text, found 3 (int).",
        "ids[3]: the id is empty.",
        "metadatas[3]: metadata must be a dict, found 4 (int).",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("one text",), "texts must be a list, but is 'one text' (str)"),
        ((["x"], {"page": 1}), "metadatas must be a list, but is {'page': 1} (dict)"),
        ((["x"], None, "1"), "ids must be a list, but is '1' (str)"),
        ((["x"], None, ["1", "2"]), "there are 1 texts and 2 ids"),
        ((["x", "y"], [{}]), "there are 2 texts and 1 metadatas"),
    ],
)
def test_documents_that_are_refused_as_a_whole(arguments, message: str) -> None:
    assert message in only_problem_of(check_documents, *arguments)


# --- vectors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.uint8])
@pytest.mark.parametrize("order", ["C", "F"])
def test_vectors_become_a_contiguous_float32_matrix(dtype, order) -> None:
    given_vectors = np.array([[1, 2, 3], [4, 5, 6]], dtype=dtype, order=order)
    vectors = check_vectors(given_vectors, 2, 3, "embeddings")
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert vectors.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_lists_of_lists_will_do_and_sizes_may_be_left_open() -> None:
    assert check_vectors([[1, 0.5]], None, None, "embeddings").shape == (1, 2)
    assert check_vectors(np.empty((0, 4)), 0, 4, "embeddings").shape == (0, 4)


def test_vectors_that_are_right_already_are_not_copied() -> None:
    vectors = np.ones((2, 3), dtype=np.float32)
    assert check_vectors(vectors, 2, 3, "embeddings") is vectors


def test_every_bad_vector_is_named() -> None:
    vectors = np.ones((6, 2))
    vectors[1, 0], vectors[2, 1], vectors[3], vectors[4], vectors[5] = np.nan, -np.inf, 0, 1e-30, 1e200
    assert problems_of(check_vectors, vectors, 6, 2, "embeddings") == (
        "embeddings[1]: the vector has NaN in it.",
        "embeddings[2]: the vector has an infinite value in it.",
        "embeddings[3]: the vector is zero, so it has no direction.",
        "embeddings[4]: the vector is too short or too long for a float32; scale it to a norm of 1.",
        "embeddings[5]: the vector is too short or too long for a float32; scale it to a norm of 1.",
    )


@pytest.mark.parametrize(
    ("vectors", "messages"),
    [
        (np.ones((2, 3)), ["expected 4 vectors, found 2", "expected vectors of 5 dimensions, found 3"]),
        (np.ones(3), ["one row for each vector, but have the shape (3,)"]),
        (np.ones((4, 0)), ["expected vectors of 5 dimensions, found 0"]),
        ([["a", "b"]], ["must be numbers, but are of the type <U1"]),
        (np.ones((4, 5), dtype=bool), ["must be numbers, but are of the type bool"]),
        (np.ones((4, 5), dtype=complex), ["must be numbers, but are of the type complex128"]),
        ([[1, None]], ["must be numbers, but are of the type object"]),
        (
            [[1.0, 2.0], [1.0], [1.0, 2.0], 3.0],
            ["embeddings[1]: expected 2 numbers", "embeddings[3]: expected 2 numbers"],
        ),
        (None, ["must be numbers"]),
    ],
)
def test_vectors_that_are_refused_as_a_whole(vectors, messages: list[str]) -> None:
    problems = problems_of(check_vectors, vectors, 4, 5, "embeddings")
    assert len(problems) == len(messages)
    for problem, message in zip(problems, messages, strict=True):
        assert problem.startswith("embeddings")
        assert message in problem


# --- splits -----------------------------------------------------------------------------------------------------------

qrels_lists = st.lists(st.dictionaries(st.integers(0, 12), st.sampled_from([0.0, 0.5, 1.0]), max_size=3), max_size=30)


@settings(deadline=None)
@given(st.integers(2, 300), st.floats(0.01, 0.99), st.integers(0, 5))
def test_a_split_by_query_is_a_partition(n: int, fraction: float, seed: int) -> None:
    size = round(n * fraction)
    if not 0 < size < n:
        assert "too few to split" in only_problem_of(split_by_query, n, fraction, seed=seed)
        return
    split = split_by_query(n, fraction, seed=seed)
    assert len(split.train) == size
    assert sorted([*split.train, *split.test]) == list(range(n))
    assert len(split.dropped) == 0
    assert split.train.tolist() == split_by_query(n, fraction, seed=seed).train.tolist()


def test_another_seed_gives_another_split() -> None:
    assert split_by_query(100, seed=0).train.tolist() != split_by_query(100, seed=1).train.tolist()


@settings(deadline=None, max_examples=200)
@given(qrels_lists, st.floats(0.05, 0.95), st.integers(0, 3))
def test_a_split_by_document_shares_no_relevant_document(qrels, fraction: float, seed: int) -> None:
    try:
        split = split_by_document(qrels, fraction, seed=seed)
    except InputError:
        reject()
    assert sorted([*split.train, *split.test, *split.dropped]) == list(range(len(qrels)))
    wanted = [{id for id, grade in judgements.items() if grade > 0} for judgements in qrels]
    train = set().union(*(wanted[position] for position in split.train))
    test = set().union(*(wanted[position] for position in split.test))
    assert train
    assert test
    assert not train & test
    assert (seen_documents(train, [qrels[position] for position in split.test]) == 0).all()


def test_a_split_by_document_drops_the_queries_that_straddle() -> None:
    qrels = [{n: 1.0} for n in range(10)] + [dict.fromkeys(range(10), 1.0)]
    split = split_by_document(qrels, 0.6, seed=0)
    assert (len(split.train), len(split.test), split.dropped.tolist()) == (6, 4, [10])


def test_where_all_queries_straddle_the_error_says_what_to_do() -> None:
    problem = only_problem_of(split_by_document, [{"a": 1.0, "b": 1.0}] * 5, 0.5)
    assert "of 5 queries 0 would train and 0 be held out" in problem
    assert "split by query instead" in problem


@pytest.mark.parametrize("fraction", [0, 1, 1.5, -1, float("nan")])
def test_a_share_out_of_range_is_refused(fraction: float) -> None:
    assert "between 0 and 1" in only_problem_of(split_by_query, 10, fraction)
    assert "between 0 and 1" in only_problem_of(split_by_document, [{"a": 1.0}, {"b": 1.0}], fraction)


# --- what training and test have in common ----------------------------------------------------------------------------


def test_leaks_name_the_test_query_and_its_doubles() -> None:
    train = ["How do I sort?", "other", "how  do i\nSORT?"]
    assert leaks(train, ["new", " HOW do I sort? ", "Other"]) == (Leak(test=1, train=(0, 2)), Leak(test=2, train=(1,)))
    assert leaks(train, ["new"]) == ()


def test_queries_are_compared_without_case_spacing_and_unicode_form() -> None:
    assert normalised(" Stra\u00dfe\u00a0\ufb01le\n") == normalised("STRASSE file")
    assert normalised("caf\u00e9") == normalised("cafe\u0301")
    assert normalised("sort a list") != normalised("sort a dict")


def test_the_share_of_seen_documents() -> None:
    qrels = [{"a": 1.0}, {"a": 1.0, "z": 1.0}, {"y": 0.5, "z": 1.0}, {"z": 1.0, "a": 0.0}, {"a": 2.0, "b": 1.0}]
    assert seen_documents(("a", "b"), qrels).tolist() == [1.0, 0.5, 0.0, 0.0, 1.0]
