"""A map finds in the old vectors what the new model would find, is chosen fairly, and is the same bytes every time."""

import numpy as np
import pytest
import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmemory import ArtifactError, Cancelled, InputError, NewerFormatError
from deepmemory.migration import MIN_PAIRS, MigrationMap, decode_map, encode_map, fit_map


def first(scores: np.ndarray, k: int = 10) -> np.ndarray:
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def shared(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(one, other, strict=True)]))


def fit_rotation(new: np.ndarray, old: np.ndarray):
    """What aligns spaces elsewhere: orthogonal Procrustes about the means."""
    new_mean, old_mean = new.mean(axis=0), old.mean(axis=0)
    left, _, right = np.linalg.svd((new - new_mean).T @ (old - old_mean), full_matrices=False)
    return lambda vectors: spaces.unit((vectors - new_mean) @ left @ right + old_mean)


def planted(n: int, dimensions: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Old vectors, and the same turned by some rotation."""
    random = np.random.default_rng(seed)
    old = spaces.unit(random.normal(size=(n, dimensions)) + random.normal(size=dimensions))
    turn = np.linalg.qr(random.normal(size=(dimensions, dimensions)))[0].astype(np.float32)
    return old @ turn, old


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([8, 16, 24]))
def test_a_planted_rotation_is_recovered(seed, dimensions):
    new, old = planted(260, dimensions, seed)
    result = fit_map(new[:120], old[:120], seed=1)
    mapped = result.map.transform(new[120:])
    assert np.abs(np.linalg.norm(mapped, axis=1) - 1).max() < 1e-5
    assert np.abs(mapped - old[120:]).max() < 1e-4
    assert np.abs(result.map.transform_documents(new[120:]) - old[120:]).max() < 1e-3
    assert str(result.report.chosen) == "rotation"
    assert result.report.agreement > 0.999


@pytest.mark.parametrize("dimensions", [32, 96])
def test_a_linear_relation_between_spaces_of_other_dimensions_is_recovered(dimensions):
    """Neither is a rotation of the other, so where the old model would put a query is the wrong question."""
    new_model, old_model = spaces.model(dimensions, 1), spaces.model(48, 2)
    words = spaces.texts(500)
    new, old = spaces.unit(new_model(words)), spaces.unit(old_model(words))
    result = fit_map(new[:200], old[:200])
    assert (result.map.new_dimensions, result.map.old_dimensions) == (dimensions, 48)
    found = first(result.map.transform(new[400:]) @ old[:400].T)
    wanted = first(new[400:] @ new[:400].T)
    by_kind = {str(c.candidate): c.agreement for c in result.report.candidates}
    assert result.report.chosen.kind in ("scores", "ranking")
    by_rotation = first(fit_rotation(new[:200], old[:200])(new[400:]) @ old[:400].T)
    assert shared(found, wanted) > shared(by_rotation, wanted) + 0.05
    assert result.report.agreement > max(by_kind["rotation"], by_kind["affine 0.03"]) + 0.05
    low, high = result.report.interval
    assert low <= result.report.agreement <= high


def test_queries_need_no_old_vectors_and_judge_the_map():
    new_model, old_model = spaces.model(32, 1, bend=0.5), spaces.model(24, 2, noise=0.3)
    words, asked = spaces.texts(200), [text.split(": ")[1][:17] for text in spaces.texts(150, seed=9)]
    new, old, queries = (spaces.unit(m(w)) for m, w in ((new_model, words), (old_model, words), (new_model, asked)))
    result = fit_map(new, old, query_vectors=queries)
    assert result.report.n_queries == 150
    assert result.report.n_judged == 150
    assert {c.candidate.kind for c in result.report.candidates} == {"rotation", "affine", "scores", "ranking"}
    assert "150 held-out queries" in str(result.report)
    few = fit_map(new, old, query_vectors=queries[:3])
    assert few.report.n_judged == 200


def test_the_same_seed_gives_the_same_bytes_and_nothing_is_changed():
    new, old = (
        spaces.unit(spaces.model(28, 1, bend=1)(spaces.texts(120))),
        spaces.unit(spaces.model(24, 2)(spaces.texts(120))),
    )
    before = new.copy(), old.copy()
    data = [encode_map(fit_map(new, old, query_vectors=new[:60], seed=3).map, {}) for _ in range(2)]
    assert data[0] == data[1]
    assert np.array_equal(new, before[0])
    assert np.array_equal(old, before[1])


def test_the_order_of_the_answer_and_of_one_vector():
    new, old = planted(100, 8, 0)
    made = fit_map(new, old).map
    assert made.transform(new[0]).shape == (8,)
    assert np.array_equal(made.transform(new[:1])[0], made.transform(new[0]))
    with pytest.raises(InputError, match="should have 8 dimensions; it has 7"):
        made.transform(np.ones(7))


def test_a_store_that_compares_by_dot_keeps_the_lengths_of_its_vectors():
    random = np.random.default_rng(0)
    words = spaces.texts(400)
    new = spaces.unit(spaces.model(32, 1)(words))
    old = spaces.unit(spaces.model(48, 2)(words)) * random.uniform(0.5, 2, size=(400, 1)).astype(np.float32)
    by = {distance: fit_map(new[:300], old[:300], distance=distance).map for distance in ("dot", "cosine")}
    wanted = first(new[300:] @ new[:300].T)
    found = {name: shared(first(made.transform(new[300:]) @ old[:300].T), wanted) for name, made in by.items()}
    assert found["dot"] >= found["cosine"] - 0.02


def test_everything_that_is_wrong_is_said_at_once():
    new, old = planted(100, 8, 0)
    broken = new.copy()
    broken[3, 2], broken[7] = np.nan, 0
    with pytest.raises(InputError) as caught:
        fit_map(broken, old[:, :0], query_vectors=new[:, :5], distance="l2")
    said = " ".join(caught.value.problems)
    assert all(part in said for part in ("distance is", "new_vectors[3]", "new_vectors[7]", "old_vectors"))


def test_pairs_that_are_none():
    new, old = planted(100, 8, 0)
    with pytest.raises(InputError, match="there are 100 and 99"):
        fit_map(new, old[:99])
    with pytest.raises(
        InputError, match=f"at least {MIN_PAIRS} pairs of different texts, better 2,000, and there are 20"
    ):
        fit_map(new[:20], old[:20])
    with pytest.raises(InputError, match="there are 1;"):
        fit_map(np.repeat(new[:1], 80, axis=0), old[:80])
    with pytest.raises(InputError, match="the same: there is nothing to migrate"):
        fit_map(old, 3 * old)
    with pytest.raises(InputError, match="expected vectors of 8 dimensions, found 5"):
        fit_map(new, old, query_vectors=new[:, :5])


def test_it_can_be_cancelled():
    new, old = planted(100, 8, 0)

    def stop(done: int, total: int) -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        fit_map(new, old, progress=stop)


def test_a_saved_map_is_the_same_or_is_refused():
    new, old = planted(100, 8, 0)
    made = fit_map(new, old).map
    data = encode_map(made, {"old": "a", "new": "b"})
    again, about = decode_map(data, "the file")
    assert (about["old"], about["new"]) == ("a", "b")
    assert np.array_equal(again.transform(new), made.transform(new))
    flipped = bytearray(data)
    flipped[-3] ^= 1
    for damaged in (data[:-20], data[:5], b"", bytes(flipped), data.replace(b'"a', b'"z', 1)):
        with pytest.raises(ArtifactError, match="the file"):
            decode_map(bytes(damaged), "the file")
    with pytest.raises(NewerFormatError, match="pip install --upgrade"):
        decode_map(data.replace(rb"\"format\": 1", rb"\"format\": 9", 1), "the file")
    arrays = made.to_arrays()
    with pytest.raises(ArtifactError, match=r"lacks the array 'documents.offset'"):
        MigrationMap.from_arrays({name: array for name, array in arrays.items() if name != "documents.offset"})
    with pytest.raises(ArtifactError, match="matrices of one shape"):
        MigrationMap.from_arrays({**arrays, "queries.offset": arrays["queries.offset"][:3]})
