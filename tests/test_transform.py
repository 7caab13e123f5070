"""The layer: properties of the transform, the memory and the ranking, and lossless saving."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmemory.errors import ArtifactError, InputError
from deepmemory.transform import Layer, QueryMemory, unit_rows

DIM = 8


def unit(rng, n, dim=DIM):
    return unit_rows(rng.standard_normal((n, dim)).astype(np.float32))


def layer_with_memory(seed=0, threshold=0.2, gain=0.5, prior=0.0, is_transformed=False):
    rng = np.random.default_rng(seed)
    queries, documents = unit(rng, 6), unit(rng, 30)
    pair_query, place = np.array([0, 1, 2, 3, 4, 5, 5]), np.array([0, 1, 2, 0, 1, 2, 3])
    matrix = (0.1 * rng.standard_normal((DIM, DIM))).astype(np.float32)
    memory = QueryMemory.build(
        unit_rows(queries + queries @ matrix) if is_transformed else queries,
        pair_query,
        place,
        np.array([1, 1, 1, 1, 1, 1, 0.5], np.float32),
        threshold=threshold,
        gain=gain,
        is_transformed=is_transformed,
    )
    rows = (3, 7, 11, 20)
    layer = Layer(
        dimensions=DIM,
        matrix=matrix,
        document_ids=rows,
        document_vectors=documents[list(rows)],
        prior=prior,
        memory=memory,
    )
    return layer, queries, documents


seeds = st.integers(0, 2**32 - 1)


@given(seeds)
@settings(deadline=None, max_examples=25)
def test_transform_gives_unit_vectors_and_leaves_its_input_alone(seed):
    layer, _, _ = layer_with_memory(seed)
    queries = np.random.default_rng(seed).standard_normal((5, DIM))
    before = queries.copy()
    moved = layer.transform(queries)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(queries, before)


@given(seeds)
@settings(deadline=None, max_examples=25)
def test_identity_ranks_as_plain_cosine_does(seed):
    rng = np.random.default_rng(seed)
    queries, documents = unit(rng, 4), unit(rng, 25)
    rows, scores = Layer.identity(DIM).rank(queries, documents, k=25)
    np.testing.assert_array_equal(rows, np.argsort(-(queries @ documents.T), axis=1, kind="stable"))
    np.testing.assert_allclose(scores, -np.sort(-(queries @ documents.T), axis=1), atol=1e-6)


@given(seeds, st.floats(0, 0.9))
@settings(deadline=None, max_examples=40)
def test_the_bonus_is_what_the_nearest_keys_say_above_the_threshold(seed, threshold):
    rng = np.random.default_rng(seed)
    keys, n_documents = unit(rng, 12), 7
    document = np.concatenate([np.arange(n_documents), rng.integers(0, n_documents, 14)])
    grade = rng.uniform(0.1, 1, len(document)).astype(np.float32)
    memory = QueryMemory.build(keys, rng.integers(0, 12, len(document)), document, grade, threshold=threshold, gain=0.3)
    queries = unit_rows(np.concatenate([keys, unit(rng, 5)]))
    expected = np.float32(0.3) * np.maximum(0, memory.nearest(queries) - np.float32(threshold))
    np.testing.assert_allclose(memory.bonus(queries), expected, atol=1e-7)
    prior = Layer(DIM, document_ids=tuple(range(n_documents)), document_vectors=keys[:7], prior=0.1, memory=memory)
    moved, bonus = prior.apply(queries)
    np.testing.assert_array_equal(moved, prior.transform(queries))
    np.testing.assert_array_equal(bonus, prior.bonus(queries))


def test_one_vector_keeps_its_shape():
    layer, queries, _ = layer_with_memory()
    assert layer.transform(queries[0]).shape == (DIM,)
    np.testing.assert_allclose(layer.transform(queries[0]), layer.transform(queries)[0], atol=1e-6)


@pytest.mark.parametrize("is_transformed", [False, True])
def test_the_bonus_is_that_of_the_nearest_key_by_hand(is_transformed):
    layer, queries, _ = layer_with_memory(threshold=0.2, gain=0.5, is_transformed=is_transformed)
    given_queries, queries = queries, layer.transform(queries) if is_transformed else queries
    centre = queries.mean(axis=0)
    keys = (queries - centre) / np.linalg.norm(queries - centre, axis=1, keepdims=True)
    x = queries[0] - centre
    cosines = keys @ (x / np.linalg.norm(x))
    expected = [
        max(cosines[0], cosines[3]),  # the document of keys 0 and 3
        max(cosines[1], cosines[4]),
        max(cosines[2], cosines[5]),
        0.5 * cosines[5],  # half the grade of the key's best document
    ]
    np.testing.assert_allclose(
        layer.bonus(given_queries[0])[0], 0.5 * np.maximum(0, np.array(expected) - 0.2), atol=1e-6
    )


def test_rank_adds_the_bonus_to_labelled_documents_only():
    layer, queries, documents = layer_with_memory(prior=0.05)
    rows, scores = layer.rank(queries, documents, k=len(documents))
    plain = layer.transform(queries) @ documents.T
    raised = plain.copy()
    raised[:, list(layer.document_ids)] += layer.bonus(queries)
    np.testing.assert_allclose(np.take_along_axis(raised, rows, axis=1), scores, atol=1e-5)
    others = np.setdiff1d(np.arange(len(documents)), layer.document_ids)
    np.testing.assert_array_equal(raised[:, others], plain[:, others])


def test_rank_gives_all_documents_when_k_is_larger_and_the_same_first_k_otherwise():
    layer, queries, documents = layer_with_memory()
    rows, _ = layer.rank(queries, documents, k=1000)
    assert rows.shape == (len(queries), len(documents))
    np.testing.assert_array_equal(layer.rank(queries, documents, k=7)[0], rows[:, :7])


def test_equal_scores_come_by_ascending_row():
    documents = np.tile(np.eye(DIM, dtype=np.float32)[:1], (5, 1))
    rows, _ = Layer.identity(DIM).rank(documents[:1], documents, k=5)
    assert rows.tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("is_transformed", [False, True])
@pytest.mark.parametrize("with_ids", [False, True])
def test_saved_and_restored_it_is_the_same_to_the_bit(with_ids, is_transformed):
    layer, queries, _ = layer_with_memory(prior=0.02, is_transformed=is_transformed)
    if with_ids:
        layer = layer.with_document_ids(["a", "über/ß", "", "d" * 300])
    again = Layer.from_arrays(layer.to_arrays())
    assert again.document_ids == layer.document_ids
    assert again.prior == layer.prior
    assert again.transform(queries).tobytes() == layer.transform(queries).tobytes()
    assert again.bonus(queries).tobytes() == layer.bonus(queries).tobytes()


def test_a_layer_saved_before_keys_were_transformed_gives_the_same_scores():
    layer, queries, documents = layer_with_memory()
    arrays = layer.to_arrays()
    arrays["memory.numbers"] = arrays["memory.numbers"][:2]  # as such files have it
    again = Layer.from_arrays(arrays)
    assert again.memory.is_transformed is False
    assert again.rank(queries, documents)[1].tobytes() == layer.rank(queries, documents)[1].tobytes()


def test_identity_survives_saving():
    again = Layer.from_arrays(Layer.identity(5, distance="dot").to_arrays())
    assert again.is_identity
    assert (again.dimensions, again.distance) == (5, "dot")


@pytest.mark.parametrize("name", ["dimensions", "matrix", "memory.keys", "memory.centre", "document_rows"])
def test_arrays_that_were_lost_or_changed_are_refused(name):
    arrays = layer_with_memory()[0].to_arrays()
    without = {k: v for k, v in arrays.items() if k != name}
    if name not in ("matrix", "memory.keys"):  # optional parts: without them it is another layer
        with pytest.raises(ArtifactError, match="lacks"):
            Layer.from_arrays(without)
    if name != "dimensions":
        with pytest.raises(ArtifactError, match="should"):
            Layer.from_arrays(arrays | {name: arrays[name][:-1]})


def test_bad_vectors_are_named():
    layer, queries, documents = layer_with_memory()
    with pytest.raises(InputError, match="should have 8 dimensions; it has 3"):
        layer.transform(np.zeros((2, 3)))
    broken = queries.copy()
    broken[[1, 4], 0] = np.nan
    with pytest.raises(InputError) as error:
        layer.rank(broken, documents)
    assert [p.split(" ")[0] for p in error.value.problems] == ["query_vectors[1]", "query_vectors[4]"]
    with pytest.raises(InputError, match="array of numbers"):
        layer.transform([["a"] * DIM])


def test_rank_needs_the_documents_it_was_trained_on():
    layer, queries, documents = layer_with_memory()
    with pytest.raises(InputError, match="at least 21 documents; document_vectors has 10"):
        layer.rank(queries, documents[:10])
    with pytest.raises(InputError, match="ids of a store"):
        layer.with_document_ids(["a", "b", "c", "d"]).rank(queries, documents)
    with pytest.raises(InputError, match="4 labelled documents; 1 ids"):
        layer.with_document_ids(["a"])
