"""Searching through a backend with a layer finds what ranking everything exactly would find, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmemory.backends import open_backend
from deepmemory.data import Document
from deepmemory.retrieval import retrieve
from deepmemory.transform import Layer, QueryMemory, unit_rows

DIM, N = 16, 120


def unit(rng, n):
    return unit_rows(rng.standard_normal((n, DIM)).astype(np.float32))


def ids_of(rows):
    return tuple(f"d{row:03d}" for row in rows)


def scene(seed=0, *, gain=0.8, prior=0.05, backend=None, n_labelled=8):
    rng = np.random.default_rng(seed)
    documents, keys = unit(rng, N), unit(rng, n_labelled)
    rows = sorted(rng.choice(N, n_labelled, replace=False).tolist())
    pairs, grades = (np.arange(n_labelled), rng.permutation(n_labelled)), np.ones(n_labelled, np.float32)
    memory = QueryMemory.build(keys, *pairs, grades, threshold=0.3, gain=gain)
    layer = Layer(
        dimensions=DIM,
        matrix=(0.1 * rng.standard_normal((DIM, DIM))).astype(np.float32),
        document_ids=tuple(rows),
        document_vectors=documents[rows],
        prior=prior,
        memory=memory,
    )
    backend = backend or open_backend("memory://", create=True)
    backend.upsert(
        [Document(id, f"text of {id}", {"even": row % 2 == 0}) for row, id in enumerate(ids_of(range(N)))], documents
    )
    queries = np.concatenate([keys[:4], unit_rows(keys[4:8] + 0.2 * unit(rng, 4)), unit(rng, 6)])
    return backend, layer, layer.with_document_ids(ids_of(rows)), queries, documents


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.05]), st.integers(1, 20))
@settings(deadline=None, max_examples=25)
def test_it_agrees_with_the_exact_ranking(seed, prior, k):
    backend, by_row, layer, queries, documents = scene(seed, prior=prior)
    rows, scores = by_row.rank(queries, documents, k=k)
    for found, expected, expected_scores in zip(retrieve(backend, queries, k, layer=layer), rows, scores, strict=True):
        assert found.ids == ids_of(expected)
        np.testing.assert_allclose(found.scores, expected_scores, atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.sampled_from([-0.03, -0.3]), st.integers(1, 20), st.sampled_from([8, 70]))
@settings(deadline=None, max_examples=25)
def test_it_looks_further_down_where_a_prior_below_0_lets_others_past(seed, prior, k, n_labelled):
    backend, by_row, layer, queries, documents = scene(seed, prior=prior, n_labelled=n_labelled)
    rows, scores = by_row.rank(queries, documents, k=k)
    for found, expected, expected_scores in zip(retrieve(backend, queries, k, layer=layer), rows, scores, strict=True):
        assert found.ids == ids_of(expected)
        np.testing.assert_allclose(found.scores, expected_scores, atol=1e-5)


@pytest.mark.parametrize("layer", [None, Layer.identity(DIM)])
def test_without_a_layer_it_is_the_plain_search(layer):
    backend, _, _, queries, _ = scene()
    plain = backend.search(queries, 7)
    assert [r.ids for r in retrieve(backend, queries, 7, layer=layer)] == [r.ids for r in plain]


def strongly_remembered(scene_):
    """The document that the first key's memory raises to the top, whatever its own similarity."""
    backend, _, layer, queries, _ = scene_
    return backend, layer, queries, retrieve(backend, queries[:1], 1, layer=layer)[0].ids[0]


def test_a_deleted_document_never_comes_back():
    backend, layer, queries, remembered = strongly_remembered(scene(gain=50.0))
    assert remembered in layer.document_ids
    backend.delete(ids=[remembered])
    for k in (1, 10, N):
        assert all(remembered not in r.ids for r in retrieve(backend, queries, k, layer=layer))


def test_a_document_that_the_filter_keeps_out_stays_out():
    backend, layer, queries, remembered = strongly_remembered(scene(gain=50.0))
    is_even = int(remembered[1:]) % 2 == 0
    for ranking in retrieve(backend, queries, 10, layer=layer, filter={"even": not is_even}):
        assert remembered not in ranking.ids
        assert all((int(id[1:]) % 2 == 0) != is_even for id in ranking.ids)
        assert len(ranking) == 10
    assert remembered in retrieve(backend, queries[:1], 10, layer=layer, filter={"even": is_even})[0].ids


def test_a_document_that_changed_is_scored_by_the_vector_it_has_now():
    backend, layer, queries, remembered = strongly_remembered(scene(gain=5.0))
    before = retrieve(backend, queries[:1], 1, layer=layer)[0].scores[0]
    moved = layer.transform(queries[:1])
    backend.upsert([Document(remembered, "new", {})], -moved)
    after = retrieve(backend, queries[:1], N, layer=layer)[0]
    assert after.scores[after.ids.index(remembered)] == pytest.approx(
        -1 + layer.bonus(queries[:1])[0, layer.place_of[remembered]], abs=1e-5
    )
    assert after.scores[after.ids.index(remembered)] < before


def test_through_lancedb_it_finds_the_same(tmp_path):
    backend, by_row, layer, queries, documents = scene(backend=open_backend(tmp_path / "store", create=True))
    rows, _ = by_row.rank(queries, documents, k=10)
    assert [r.ids for r in retrieve(backend, queries, 10, layer=layer)] == [ids_of(r) for r in rows]
    backend.close()
