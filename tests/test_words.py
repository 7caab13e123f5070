"""What words add: the same in training, over arrays and through a store; learned where it helps, and only there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from deepmemory import VectorStore
from deepmemory.artifacts import LayerInfo, decode_layer, encode_layer
from deepmemory.backends import open_backend
from deepmemory.data import Document
from deepmemory.errors import InputError
from deepmemory.metrics import judge_rows, ndcg
from deepmemory.retrieval import lexical_scores, retrieve
from deepmemory.training import fit
from deepmemory.transform import Layer, QueryMemory, unit_rows
from deepmemory.words import WordsWeight, above_the_rest

DIM, N = 16, 300
SYLLABLES = [first + vowel for first in "bdfgklmnprstvz" for vowel in "aeiou"]


def unit(rng, n):
    return unit_rows(rng.standard_normal((n, DIM)).astype(np.float32))


def written(rng, n):
    """Texts of words that no stemmer touches."""
    return [" ".join("".join(rng.choice(SYLLABLES, 2)) + "x" for _ in range(12)) for _ in range(n)]


def collection(seed=0, *, noise=2.0, n_queries=120):
    """Documents of random words and vectors; a query has three of its document's words, and a vector near it."""
    rng = np.random.default_rng(seed)
    texts, documents = written(rng, N), unit(rng, N)
    answers = rng.integers(0, N, n_queries)
    queries = [" ".join(rng.choice(texts[a].split(), 3, replace=False)) for a in answers]
    vectors = unit_rows((documents[answers] + noise * unit(rng, n_queries)).astype(np.float32))
    return texts, documents, queries, vectors, answers


def filled(folder, texts, vectors):
    backend = open_backend(folder, create=True)
    backend.upsert([Document(f"d{row:03d}", text, {"row": row}) for row, text in enumerate(texts)], vectors)
    return backend


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A collection in LanceDB, and what its queries find by words."""
    texts, documents, queries, vectors, answers = collection()
    backend = filled(tmp_path_factory.mktemp("words") / "store", texts, documents)
    scores = lexical_scores(backend.search_text(queries, 101), {f"d{row:03d}": row for row in range(N)})
    yield backend, documents, queries, vectors, answers, scores
    backend.close()


def mean_ndcg(layer, vectors, documents, answers, scores):
    rows, _ = layer.rank(vectors, documents, k=10, lexical_scores=scores)
    return ndcg(judge_rows(rows, [{int(a): 1.0} for a in answers]), 10).mean()


@given(
    st.lists(st.lists(st.floats(0, 50, width=32), min_size=6, max_size=6), min_size=1, max_size=5), st.integers(1, 8)
)
def test_what_counts_ends_without_a_step_below_the_first_hit_that_is_left_out(rows, depth):
    scores = np.array(rows, dtype=np.float32)
    found = above_the_rest(csr_array(scores), depth).toarray()
    best_first = -np.sort(-scores, axis=1)
    floor = best_first[:, depth : depth + 1] if depth < 6 else np.zeros((len(scores), 1))
    np.testing.assert_allclose(found, np.maximum(0, scores - floor), atol=1e-6)


@given(st.lists(st.floats(0, 50, width=32), min_size=1, max_size=12), st.integers(1, 8))
def test_hits_by_id_get_what_the_same_scores_in_an_array_get(scores, depth):
    best_first = sorted(scores, reverse=True)[: depth + 1]
    by_id = WordsWeight(0.02, depth).of_hits({f"d{row}": score for row, score in enumerate(best_first)})
    in_array = WordsWeight(0.02, depth).of_scores(csr_array(np.array([best_first], dtype=np.float32))).toarray()[0]
    np.testing.assert_allclose([by_id.get(f"d{row}", 0.0) for row in range(len(best_first))], in_array, atol=1e-6)


@pytest.mark.parametrize(("prior", "gain"), [(0.0, 0.0), (-0.05, 0.5), (0.05, 0.5)])
@pytest.mark.parametrize("k", [1, 10, 60])
@pytest.mark.parametrize("weight", [0.001, 0.03, 1.0])
def test_through_a_store_it_is_the_exact_ranking_of_all_documents(searched, prior, gain, k, weight):
    backend, documents, queries, vectors, answers, scores = searched
    labelled = np.unique(answers[:40])
    memory = QueryMemory.build(
        vectors[:40],
        np.arange(40),
        np.searchsorted(labelled, answers[:40]),
        np.ones(40, np.float32),
        threshold=0.3,
        gain=gain,
    )
    layer = Layer(
        dimensions=DIM,
        document_ids=tuple(labelled.tolist()),
        document_vectors=documents[labelled],
        prior=prior,
        memory=memory if gain else None,
        words=WordsWeight(weight),
    )
    rows, expected = layer.rank(vectors, documents, k=k, lexical_scores=scores)
    layer = layer.with_document_ids([f"d{row:03d}" for row in labelled])
    found = retrieve(backend, vectors, k, layer=layer, texts=queries)
    for ranking, scored in zip(found, expected, strict=True):
        np.testing.assert_allclose(ranking.scores, scored, atol=1e-4)
    agree = [ranking.ids == tuple(f"d{row:03d}" for row in best) for ranking, best in zip(found, rows, strict=True)]
    assert np.mean(agree) > 0.95  # but for ties


def test_without_texts_or_a_full_text_search_words_add_nothing(searched):
    backend, documents, queries, vectors, _, _ = searched
    layer = Layer(dimensions=DIM, words=WordsWeight(0.5))
    plain = [ranking.ids for ranking in backend.search(vectors, 5)]
    assert [ranking.ids for ranking in retrieve(backend, vectors, 5, layer=layer)] == plain
    assert [ranking.ids for ranking in retrieve(backend, vectors, 5, layer=layer, texts=queries)] != plain
    memory = open_backend("memory://", create=True)
    memory.upsert([Document(f"d{row:03d}", "text", {}) for row in range(N)], documents)
    assert [r.ids for r in retrieve(memory, vectors, 5, layer=layer, texts=queries)] == plain


def test_words_bring_back_neither_the_deleted_nor_what_a_filter_keeps_out(tmp_path):
    texts, documents, queries, _, answers = collection(seed=3)
    backend = filled(tmp_path / "store", texts, documents)
    layer = Layer(dimensions=DIM, words=WordsWeight(1.0))
    wanted = f"d{answers[0]:03d}"

    def found(**options):
        return retrieve(backend, -documents[answers[:1]], 10, layer=layer, texts=queries[:1], **options)[0].ids

    assert found()[0] == wanted
    assert wanted in found(filter={"row": [int(answers[0]), *range(20)]})
    assert wanted not in found(filter={"row": [row for row in range(20) if row != answers[0]]})
    backend.delete(ids=[wanted])
    assert wanted not in found()
    backend.close()


def test_where_words_help_they_are_trusted_and_where_they_mislead_they_are_not(searched):
    _, documents, _, vectors, answers, scores = searched
    relevance = [[(int(a), 1.0)] for a in answers]
    half = slice(0, 80), slice(80, None)
    result = fit(vectors[half[0]], documents, relevance[:80], lexical_scores=scores[half[0]])
    test = (vectors[half[1]], documents, answers[half[1]])
    plain = mean_ndcg(Layer.identity(DIM), *test, None)
    assert result.report.settings.words > 0
    assert mean_ndcg(result.layer, *test, scores[half[1]]) > plain + 0.3

    misleading = scores[:, np.random.default_rng(5).permutation(N)]
    result = fit(vectors, documents, relevance, lexical_scores=misleading)
    assert result.layer.words is None


def test_with_shuffled_labels_words_are_not_trusted(searched):
    _, documents, _, vectors, answers, scores = searched
    trusted = 0
    for seed in range(20):
        shuffled = np.random.default_rng(seed).permutation(N)[answers]
        result = fit(vectors, documents, [[(int(a), 1.0)] for a in shuffled], lexical_scores=scores, seed=seed)
        trusted += result.layer.words is not None
    assert trusted <= 4  # the gate's level is one in ten


@settings(deadline=None, max_examples=10)
@given(st.floats(0.01, 1000))
def test_the_scale_of_an_engines_scores_makes_no_difference(factor):
    _, documents, _, vectors, answers = collection(seed=1, n_queries=40)
    rng = np.random.default_rng(2)
    scores = np.where(rng.random((40, N)) < 0.05, rng.random((40, N)), 0)
    scores[np.arange(40), answers] = 1.5
    relevance = [[(int(a), 1.0)] for a in answers]
    one, other = (fit(vectors, documents, relevance, lexical_scores=scores * f) for f in (1.0, factor))
    assert one.report.settings == other.report.settings
    assert one.layer.words is not None
    assert other.layer.words is not None
    assert other.layer.words.weight * factor == pytest.approx(one.layer.words.weight, rel=1e-3)


def test_dense_and_sparse_scores_are_the_same_to_fit(searched):
    _, documents, _, vectors, answers, scores = searched
    relevance = [[(int(a), 1.0)] for a in answers]
    one, other = (fit(vectors, documents, relevance, lexical_scores=s) for s in (scores, scores.toarray()))
    assert all(np.array_equal(one.layer.to_arrays()[k], v) for k, v in other.layer.to_arrays().items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s[:-1], "a row for each of the 120 queries"),
        (lambda s: s[:, :-1], "a column for each of the 300 documents"),
        (lambda s: -s, r"lexical_scores\[0\] has a score that is negative"),
        (lambda s: s * np.float32(np.nan), r"lexical_scores\[0\] has a score that is negative or not finite"),
        (lambda s: "scores", "should be an array of numbers"),
    ],
)
def test_scores_that_make_no_sense_are_refused(searched, change, said):
    _, documents, _, vectors, answers, scores = searched
    with pytest.raises(InputError, match=said):
        fit(vectors, documents, [[(int(a), 1.0)] for a in answers], lexical_scores=change(scores))


def test_a_saved_layer_trusts_words_as_much_as_before():
    layer = Layer(dimensions=DIM, words=WordsWeight(0.0123))
    info = LayerInfo("v1", DIM, "cosine", None, "", {})
    assert decode_layer(encode_layer(layer, info), "file").layer.words == layer.words
    assert not layer.is_identity


def test_a_store_learns_to_trust_words_searches_by_them_and_says_what_it_brings(tmp_path):
    texts, documents, queries, vectors, answers = collection(seed=4)
    ids = [f"d{row:03d}" for row in range(N)]
    relevance = [[(f"d{a:03d}", 1.0)] for a in answers]
    with VectorStore(tmp_path / "store", embedder=None) as store:
        store.add(texts, ids=ids, embeddings=documents)
        train = {"queries": queries[:80], "relevance": relevance[:80], "embeddings": vectors[:80]}
        store.deep_memory.train(**train, wait=True)
        assert store.layer is not None
        assert store.layer.words is not None
        found = store.search(queries[100], 5, embedding=vectors[100])
        assert found[0].id == f"d{answers[100]:03d}"
        many = store.search_many(queries[80:], 10, embeddings=vectors[80:])
        hits = np.mean([any(h.id == f"d{a:03d}" for h in hits) for hits, a in zip(many, answers[80:], strict=True)])
        evaluation = store.deep_memory.evaluate(relevance[80:], queries[80:], embeddings=vectors[80:], verbose=False)
        assert evaluation["with model"]["recall@10"] == pytest.approx(hits)
        assert evaluation["with model"]["recall@10"] > evaluation["without model"]["recall@10"] + 0.2
        store.deep_memory.train(**train, words=False, wait=True)
        assert store.deep_memory.model_info("v2").report["settings"]["words"] == 0
