"""An explanation accounts for every score, names who did it, and shows only what a search would show."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmemory import InputError
from deepmemory.backends import Backend, open_backend
from deepmemory.data import Document
from deepmemory.explanation import DEPTH, Explanation, decode_explanation, explain
from deepmemory.retrieval import retrieve
from deepmemory.transform import Layer, QueryMemory, unit_rows

DIM, N, LABELLED = 16, 300, 40
TRAINING = tuple(f"training query {number}" for number in range(LABELLED))


def unit(random: np.random.Generator, n: int) -> np.ndarray:
    return unit_rows(random.standard_normal((n, DIM)).astype(np.float32))


def scene(
    seed: int = 0, *, linear: bool = True, prior: float = 0.05, gain: float = 0.6, transformed: bool = True, **layer
) -> tuple[Backend, Layer, np.ndarray]:
    """A store, a layer with any of its parts, and queries, some of them near to its training queries."""
    random = np.random.default_rng(seed)
    documents, keys = unit(random, N), unit(random, LABELLED)
    if layer.get("distance") == "dot":
        documents *= random.uniform(0.5, 2, (N, 1)).astype(np.float32)
    rows = sorted(random.choice(N, LABELLED, replace=False).tolist())
    matrix = (0.15 * random.standard_normal((DIM, DIM))).astype(np.float32) if linear else None
    made = Layer(DIM, matrix=matrix, **layer)
    memory = None
    if gain:
        pairs = np.arange(2 * LABELLED) % LABELLED, np.concatenate([np.arange(LABELLED), random.permutation(LABELLED)])
        memory = QueryMemory.build(
            made.transform(keys) if transformed else keys,
            *pairs,
            random.choice([0.5, 1.0], 2 * LABELLED).astype(np.float32),
            threshold=0.3,
            gain=gain,
            is_transformed=transformed,
        )
    ids = tuple(f"d{row}" for row in rows) if gain or prior else ()
    vectors = documents[rows] if ids else None
    made = Layer(DIM, matrix, ids, vectors, prior, memory, **layer)
    backend = open_backend("memory://", create=True)
    stored = [Document(f"d{row}", f"text of {row}", {"even": row % 2 == 0}) for row in range(N)]
    backend.upsert(stored, documents)
    return backend, made, np.concatenate([unit_rows(keys[:3] + 0.3 * unit(random, 3)), unit(random, 2)])


layers = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "linear": st.booleans(),
        "prior": st.sampled_from([0.0, 0.05, -0.05]),
        "gain": st.sampled_from([0.0, 0.6, 3.0]),
        "transformed": st.booleans(),
        "distance": st.sampled_from(["cosine", "dot"]),
    }
)


@given(layers, st.integers(1, 30))
@settings(deadline=None, max_examples=40)
def test_the_parts_of_each_hit_sum_to_the_score_that_the_search_gives(options, k):
    backend, layer, queries = scene(**options)
    distance = options["distance"]
    for query in queries:
        explanation = explain(backend, query, k, layer=("v1", layer), distance=distance)
        found = retrieve(backend, query[None], k, layer=layer, distance=distance)[0]
        plain = backend.search(query[None], N, distance=distance)[0]
        before = dict(zip(plain.ids, plain.scores.tolist(), strict=True))
        assert tuple(hit.id for hit in explanation.hits) == found.ids
        np.testing.assert_allclose([hit.score for hit in explanation.hits], found.scores, atol=1e-5)
        for hit in (*explanation.hits, *explanation.left):
            assert sum(part.value for part in hit.parts) == pytest.approx(hit.score, abs=1e-9)
            assert hit.score_before == hit.part("similarity") == pytest.approx(before[hit.id], abs=1e-5)


@given(layers, st.integers(1, 30))
@settings(deadline=None, max_examples=40)
def test_ranks_are_those_of_the_two_searches_and_who_left_is_told(options, k):
    backend, layer, queries = scene(**options)
    distance = options["distance"]
    explanation = explain(backend, queries[0], k, layer=("v1", layer), distance=distance)
    rankings = [retrieve(backend, queries[:1], DEPTH, layer=each, distance=distance)[0].ids for each in (layer, None)]
    for hit in (*explanation.hits, *explanation.left):
        for rank, ids in zip((hit.rank, hit.rank_before), rankings, strict=True):
            assert rank == (ids.index(hit.id) + 1 if hit.id in ids else None)
    after, before = (set(ids[:k]) for ids in rankings)
    assert {hit.id for hit in explanation.hits} == after
    assert {hit.id for hit in explanation.left} == before - after
    assert [hit.rank for hit in explanation.hits] == list(range(1, k + 1))


@given(layers)
@settings(deadline=None, max_examples=30)
def test_the_first_cause_is_what_the_memory_adds(options):
    backend, layer, queries = scene(**options)
    for query in queries:
        explanation = explain(
            backend, query, N, layer=("v1", layer), training_queries=TRAINING, distance=options["distance"]
        )
        for hit in explanation.hits:
            raised = [cause.raised for cause in hit.causes]
            assert raised == sorted(raised, reverse=True)
            assert all(value > 0 for value in raised)
            assert hit.part("query memory") == pytest.approx(raised[0] if raised else 0.0, abs=1e-5)
            for cause in hit.causes:
                assert cause.query == TRAINING[cause.number]
                # The training query wants the document: the memory pairs them.
                memory = layer.memory
                assert memory is not None
                pairs = set(zip(memory.pair_key.tolist(), memory.pair_document.tolist(), strict=True))
                assert (cause.number, layer.place_of[hit.id]) in pairs


def test_a_document_that_nobody_asked_for_has_no_cause_and_no_bonus():
    backend, layer, queries = scene(gain=3.0)
    explanation = explain(backend, queries[0], N, layer=("v1", layer), training_queries=TRAINING)
    others = [hit for hit in explanation.hits if hit.id not in layer.place_of]
    assert len(others) == N - LABELLED
    assert all(not hit.causes and hit.part("prior") == hit.part("query memory") == 0 for hit in others)
    assert any(hit.causes for hit in explanation.hits)


@pytest.mark.parametrize("layer", [None, Layer.identity(DIM)])
def test_without_a_layer_it_says_so_and_nothing_has_changed(layer):
    backend, _, queries = scene()
    explanation = explain(backend, queries[0], 7, layer=None if layer is None else ("v1", layer), text="a question")
    assert tuple(hit.id for hit in explanation.hits) == backend.search(queries[:1], 7)[0].ids
    assert explanation.left == ()
    for hit in explanation.hits:
        assert hit.rank == hit.rank_before
        assert hit.score == hit.score_before
        assert [part.name for part in hit.parts] == ["similarity"]
        assert hit.causes == ()
    said = str(explanation)
    assert ("No layer is active" in said) == (layer is None)
    assert ("changes nothing" in said) == (layer is not None)


def test_a_deleted_document_never_appears():
    backend, layer, queries = scene(gain=50.0)
    for _ in range(10):
        first = explain(backend, queries[0], 10, layer=("v1", layer)).hits[0].id
        backend.delete(ids=[first])
        explanation = explain(backend, queries[0], 10, layer=("v1", layer))
        assert len(explanation.hits) == 10
        assert first not in {hit.id for hit in (*explanation.hits, *explanation.left)}
    backend.delete()
    assert explain(backend, queries[0], 10, layer=("v1", layer)).hits == ()
    assert str(explain(backend, queries[0], 10, layer=("v1", layer))).startswith("Nothing was found.")


def test_a_document_that_the_filter_keeps_out_stays_out():
    backend, layer, queries = scene(gain=50.0)
    explanation = explain(backend, queries[0], 10, layer=("v1", layer), filter={"even": True})
    assert len(explanation.hits) == 10
    assert all(hit.metadata["even"] for hit in (*explanation.hits, *explanation.left))


def test_a_document_that_changed_is_explained_by_the_vector_it_has_now():
    backend, layer, queries = scene(gain=50.0)
    first = explain(backend, queries[0], 1, layer=("v1", layer)).hits[0]
    backend.upsert([Document(first.id, "rewritten", {})], -queries[:1])
    (now,) = [hit for hit in explain(backend, queries[0], N, layer=("v1", layer)).hits if hit.id == first.id]
    assert (now.text, now.score_before) == ("rewritten", pytest.approx(-1, abs=1e-6))
    assert now.causes == first.causes


def explained(**options) -> Explanation:
    backend, layer, queries = scene(**options)
    return explain(backend, queries[0], 5, layer=("v7", layer), text="how?", training_queries=TRAINING)


def test_the_text_tells_the_sums_the_ranks_and_the_training_queries():
    explanation = explained(gain=3.0)
    text = str(explanation)
    first = explanation.hits[0]
    assert text.startswith("Layer v7 changed the rank of ")
    assert f"= similarity {first.score_before:.3f}" in text
    assert f'raised by "{first.causes[0].query}" (cosine {first.causes[0].cosine:.2f}, ' in text
    assert "No longer among the first 5:" in text
    lost = explanation.left[0]
    assert f"was {lost.rank_before}, now {lost.rank or 'beyond 100'}" in text
    assert "learned from all training queries together" in text


def test_a_layer_whose_training_queries_are_not_kept_tells_their_numbers():
    backend, layer, queries = scene(gain=3.0)
    explanation = explain(backend, queries[0], 5, layer=("v1", layer))
    assert all(cause.query is None for hit in explanation.hits for cause in hit.causes)
    assert "not kept with this store" in str(explanation)
    assert "raised by training query number " in str(explanation)


def test_a_layer_without_memory_says_that_no_single_query_did_it():
    assert "no query memory" in str(explained(gain=0.0))
    assert "no query memory" not in str(explained())
    assert "linear layer" not in str(explained(linear=False))


def test_it_comes_back_from_json_as_it_was():
    explanation = explained()
    assert decode_explanation(json.loads(json.dumps(explanation.as_dict()))) == explanation


@pytest.mark.parametrize("spoil", [lambda values: values.pop("left"), lambda values: values.update(hits=[{"id": "a"}])])
def test_what_is_no_explanation_is_refused(spoil):
    values = explained().as_dict()
    spoil(values)
    with pytest.raises(InputError, match="no explanation"):
        decode_explanation(values)
