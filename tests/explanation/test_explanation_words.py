"""Words are a part of the score like the others."""

from dataclasses import replace

import numpy as np
import pytest

from deepmemory.backends import open_backend
from deepmemory.data import Document
from deepmemory.explanation import DEPTH, explain
from deepmemory.retrieval import retrieve
from deepmemory.transform import Layer, unit_rows
from deepmemory.words import WordsWeight

DIM, N = 16, 200


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A store with full-text search, a layer that trusts words, and queries with their texts."""
    random = np.random.default_rng(0)
    vectors = unit_rows(random.standard_normal((N, DIM)).astype(np.float32))
    words = [f"w{number}x" for number in range(60)]
    texts = [" ".join(random.choice(words, 8, replace=False)) for _ in range(N)]
    backend = open_backend(tmp_path_factory.mktemp("words") / "store", create=True)
    backend.upsert([Document(f"d{row}", text) for row, text in enumerate(texts)], vectors)
    layer = Layer(
        DIM,
        matrix=(0.1 * random.standard_normal((DIM, DIM))).astype(np.float32),
        document_ids=tuple(f"d{row}" for row in range(20)),
        document_vectors=vectors[:20],
        prior=0.05,
        words=WordsWeight(0.1, depth=30),
    )
    queries = [" ".join(random.choice(words, 3, replace=False)) for _ in range(6)]
    yield backend, layer, queries, unit_rows(random.standard_normal((6, DIM)).astype(np.float32))
    backend.close()


@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("alone", [True, False], ids=["words alone", "with the other parts"])
def test_the_parts_sum_to_the_score_that_the_search_gives(scene, k, alone):
    backend, layer, queries, vectors = scene
    layer = Layer(DIM, words=layer.words) if alone else layer
    raised = 0
    for text, vector in zip(queries, vectors, strict=True):
        explanation = explain(backend, vector, k, layer=("v1", layer), text=text)
        found = retrieve(backend, vector[None], k, layer=layer, texts=[text])[0]
        assert tuple(hit.id for hit in explanation.hits) == found.ids
        np.testing.assert_allclose([hit.score for hit in explanation.hits], found.scores, atol=1e-5)
        names = ["similarity", "words"] if alone else ["similarity", "linear layer", "prior", "words"]
        for hit in (*explanation.hits, *explanation.left):
            assert [part.name for part in hit.parts] == names
            assert sum(part.value for part in hit.parts) == pytest.approx(hit.score, abs=1e-9)
            shares = set(text.split()) & set(hit.text.split())
            assert shares or hit.part("words") == 0
            raised += hit.part("words") > 0
    assert raised
    assert explanation.depth == DEPTH


def test_words_without_a_text_add_nothing_and_it_says_so(scene):
    backend, layer, queries, vectors = scene
    without = explain(backend, vectors[0], 5, layer=("v1", layer))
    assert all(hit.part("words") == 0 for hit in without.hits)
    assert "trusts words as well" in str(without)
    assert "trusts words" not in str(explain(backend, vectors[0], 5, layer=("v1", layer), text=queries[0]))
    assert "trusts words" not in str(explain(backend, vectors[0], 5, layer=("v1", replace(layer, words=None))))


def test_the_text_tells_what_words_add(scene):
    backend, layer, queries, vectors = scene
    explanation = explain(backend, vectors[0], 5, layer=("v1", layer), text=queries[0])
    (added,) = (hit.part("words") for hit in explanation.hits[:1])
    assert f"+ words {added:.3f}" in str(explanation)
