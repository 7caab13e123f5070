"""`fit`: what it recovers, what it leaves alone, and that its mathematics is what its text says."""

import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from deepmemory.errors import Cancelled, InputError
from deepmemory.metrics import judge_rows, ndcg, recall
from deepmemory.training import fit
from deepmemory.training.descent import Reached, Shown
from deepmemory.training.device import Device
from deepmemory.training.folds import document_folds, query_folds
from deepmemory.training.labels import Labels
from deepmemory.training.objective import Problem
from deepmemory.training.pool import document_pool
from deepmemory.training.scoring import FoldScorer
from deepmemory.training.settings import Linear, Settings, candidates, linear_parts, path
from deepmemory.training.soft_labels import LIKENESS, SHARE
from deepmemory.training.standins import StandIns, training_problem
from deepmemory.training.trainer import Trainer, mean_of
from deepmemory.transform import Layer, QueryMemory, unit_rows

DIM = 24


def unit(rng, n, dim=DIM):
    return unit_rows(rng.standard_normal((n, dim)).astype(np.float32))


def planted(seed=0, n_queries=240, n_documents=400, turn=0.9, noise=0.35, dim=DIM):
    """Queries are noisy copies of their documents, turned by one and the same rotation."""
    rng = np.random.default_rng(seed)
    documents = unit(rng, n_documents, dim)
    generator = rng.standard_normal((dim, dim))
    rotation, _ = np.linalg.qr(np.eye(dim) + turn * (generator - generator.T) / np.sqrt(dim))
    answers = rng.integers(0, n_documents, n_queries)
    noisy = documents[answers] + noise * rng.standard_normal((n_queries, dim)) / np.sqrt(dim)
    return unit_rows((noisy @ rotation).astype(np.float32)), documents, [[(int(a), 1.0)] for a in answers]


def mean_ndcg(layer, queries, documents, relevance):
    rows, _ = layer.rank(queries, documents, k=10)
    return ndcg(judge_rows(rows, [dict(r) for r in relevance]), 10).mean()


def test_a_planted_rotation_is_undone_for_queries_that_took_no_part():
    queries, documents, relevance = planted(n_queries=400)
    result = fit(queries[:300], documents, relevance[:300])
    before = mean_ndcg(Layer.identity(DIM), queries[300:], documents, relevance[300:])
    after = mean_ndcg(result.layer, queries[300:], documents, relevance[300:])
    assert result.report.active
    assert before < 0.3
    assert after > before + 0.3


def test_the_cross_validated_lift_is_what_new_queries_get():
    queries, documents, relevance = planted(seed=3, n_queries=700)
    result = fit(queries[:300], documents, relevance[:300])
    gained = mean_ndcg(result.layer, queries[300:], documents, relevance[300:]) - mean_ndcg(
        Layer.identity(DIM), queries[300:], documents, relevance[300:]
    )
    low, high = result.report.interval
    assert low - 0.05 < gained < high + 0.1  # a little above is right: folds train on four fifths


def test_labels_that_say_nothing_teach_nothing():
    opened = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        documents = unit(rng, 300)
        answers = rng.integers(0, 300, 120)
        queries = unit_rows((documents[answers] + 0.8 * unit(rng, 120)).astype(np.float32))
        shuffled = [[(int(a), 1.0)] for a in rng.permutation(answers)]
        report = fit(queries, documents, shuffled, seed=seed).report
        opened += report.active
        assert report.active or "no candidate beat the plain search" in report.reason
    assert opened <= 2  # labels that say nothing pass about once in ten times


def test_where_the_search_is_perfect_already_the_layer_stays_off():
    rng = np.random.default_rng(0)
    documents = unit(rng, 200)
    answers = rng.integers(0, 200, 80)
    queries = unit_rows((documents[answers] + 0.01 * unit(rng, 80)).astype(np.float32))
    result = fit(queries, documents, [[(int(a), 1.0)] for a in answers])
    assert result.layer.is_identity
    assert not result.report.active
    assert "no headroom" in result.report.reason
    assert result.report.lift == 0


def test_of_very_many_queries_a_sample_takes_part(monkeypatch):
    queries, documents, relevance = planted()
    monkeypatch.setattr(sys.modules["deepmemory.training.fit"], "MOST_QUERIES", 120)
    result = fit(queries, documents, relevance)
    assert (result.report.n_queries, result.report.n_learned) == (240, 120)
    assert result.report.by_query["ndcg@10"].n_queries <= 120
    assert result.report.active
    again = fit(queries, documents, relevance)
    assert again.layer.matrix.tobytes() == result.layer.matrix.tobytes()
    monkeypatch.setattr(sys.modules["deepmemory.training.fit"], "MOST_QUERIES", 240)
    assert fit(queries, documents, relevance).report.n_learned == 240


def test_too_few_queries_are_said_to_be_too_few():
    queries, documents, relevance = planted(n_queries=9)
    report = fit(queries, documents, relevance).report
    assert not report.active
    assert report.reason == "too few different queries to learn from: 9, and at least 10 are needed"
    assert report.as_dict()["lift"] == 0


def test_the_same_query_asked_often_is_one_query():
    queries, documents, relevance = planted(n_queries=30)
    queries[:] = queries[0]
    report = fit(queries, documents, relevance).report
    assert not report.active
    assert "too few different queries to learn from: 1" in report.reason


def test_the_same_call_twice_gives_the_same_bytes_and_changes_no_input():
    queries, documents, relevance = planted()
    inputs = queries.copy(), documents.copy()
    first, second = (fit(queries, documents, relevance, seed=7) for _ in range(2))
    arrays, again = first.layer.to_arrays(), second.layer.to_arrays()
    assert arrays.keys() == again.keys()
    assert all(arrays[name].tobytes() == again[name].tobytes() for name in arrays)
    assert first.report.by_query == second.report.by_query
    np.testing.assert_array_equal(queries, inputs[0])
    np.testing.assert_array_equal(documents, inputs[1])


def test_the_order_of_the_corpus_does_not_matter():
    queries, documents, relevance = planted()
    order = np.random.default_rng(1).permutation(len(documents))
    place = np.argsort(order)
    moved = [[(int(place[d]), g) for d, g in r] for r in relevance]
    one, other = fit(queries, documents, relevance), fit(queries, documents[order], moved)
    assert mean_ndcg(one.layer, queries, documents, relevance) == pytest.approx(
        mean_ndcg(other.layer, queries, documents[order], moved), abs=0.03
    )


def test_vectors_of_any_length_and_type_are_taken_as_directions():
    queries, documents, relevance = planted()
    scaled = fit((queries * 3).astype(np.float64), documents * 0.5, relevance)
    plain = fit(queries, documents, relevance)
    assert mean_ndcg(scaled.layer, queries, documents, relevance) == pytest.approx(
        mean_ndcg(plain.layer, queries, documents, relevance), abs=0.03
    )


@pytest.mark.parametrize("common", [1.0, 3.0])
def test_a_part_that_all_vectors_share_takes_nothing_away(common):
    queries, documents, relevance = planted(n_queries=400)
    shared = common * unit(np.random.default_rng(1), 1)
    narrow, among = unit_rows(queries + shared), unit_rows(documents + shared)
    result = fit(narrow[:300], among, relevance[:300])
    gained = mean_ndcg(result.layer, narrow[300:], among, relevance[300:]) - mean_ndcg(
        Layer.identity(DIM), narrow[300:], among, relevance[300:]
    )
    assert result.report.spread < 0.15
    assert result.report.active
    assert gained > 0.3


@pytest.mark.parametrize("length", [0.01, 100.0])
def test_with_dot_product_the_length_of_all_documents_makes_no_difference(length):
    queries, documents, relevance = planted()
    plain = fit(queries, documents, relevance, distance="dot")
    other = fit(queries, documents * np.float32(length), relevance, distance="dot")
    assert other.report.spread == pytest.approx(length * plain.report.spread, rel=1e-4)
    assert other.layer.prior == pytest.approx(length * plain.layer.prior, rel=1e-4)
    assert mean_ndcg(other.layer, queries, documents * np.float32(length), relevance) == pytest.approx(
        mean_ndcg(plain.layer, queries, documents, relevance), abs=0.03
    )


def test_with_dot_product_the_lengths_of_documents_count():
    queries, documents, relevance = planted()
    lengths = np.random.default_rng(0).uniform(0.5, 1.5, (len(documents), 1)).astype(np.float32)
    result = fit(queries, documents * lengths, relevance, distance="dot")
    rows, scores = result.layer.rank(queries, documents * lengths, k=3)
    assert result.layer.distance == "dot"
    plain = result.layer.transform(queries) @ (documents * lengths).T
    if not result.layer.has_bonus:
        np.testing.assert_allclose(scores, np.take_along_axis(plain, rows, axis=1), atol=1e-5)
    before = mean_ndcg(Layer.identity(DIM, distance="dot"), queries, documents * lengths, relevance)
    assert mean_ndcg(result.layer, queries, documents * lengths, relevance) > before


def test_fewer_queries_than_dimensions():
    queries, documents, relevance = planted(n_queries=60, dim=96, n_documents=150, noise=0.2)
    result = fit(queries, documents, relevance)
    assert result.report.active
    assert result.layer.matrix.shape == (96, 96)
    labels = Labels.from_relevance(relevance, n_queries=60, n_documents=150)
    problem = training_problem(queries, documents, labels, np.ones(60, dtype=np.float32))
    z = problem.solve(10.0, problem.start, tolerance=1e-3, max_iterations=5, on_step=lambda: None).unknowns
    assert z.shape == (60, 96)
    assert np.linalg.matrix_rank(problem.matrix(z)) <= 60


def test_graded_relevance_prefers_the_better_answer():
    rng = np.random.default_rng(0)
    documents = unit(rng, 60)
    best, second = rng.integers(0, 30, 300), rng.integers(30, 60, 300)
    queries = unit_rows((documents[best] + documents[second] + 0.6 * unit(rng, 300)).astype(np.float32))
    relevance = [[(int(b), 1.0), (int(s), 0.1)] for b, s in zip(best, second, strict=True)]
    layer = fit(queries[:200], documents, relevance[:200]).layer
    rows, _ = layer.rank(queries[200:], documents, k=1)
    wanted = [{int(b): 1.0} for b in best[200:]]
    plain, _ = Layer.identity(DIM).rank(queries[200:], documents, k=1)
    assert recall(judge_rows(rows, wanted), 1).mean() > recall(judge_rows(plain, wanted), 1).mean()


def test_all_queries_about_one_document():
    rng = np.random.default_rng(0)
    documents = unit(rng, 50)
    queries = unit_rows((documents[:1] + unit(rng, 20)).astype(np.float32))
    report = fit(queries, documents, [[(0, 1.0)]] * 20).report
    assert report.by_document == {}  # no document can be held out
    assert report.n_labelled == 1


def asked_and_made(seed=0, n_asked=200, n_made=600):
    """Asked queries that are turned from their documents, and made ones that are close copies of theirs."""
    queries, documents, relevance = planted(seed=seed, n_queries=n_asked)
    rng = np.random.default_rng(seed + 1000)
    answers = rng.integers(0, len(documents), n_made)
    copies = unit_rows(documents[answers] + 0.3 * unit(rng, n_made))
    every = np.concatenate([queries, copies]).astype(np.float32)
    is_made = np.arange(n_asked + n_made) >= n_asked
    return every, documents, [*relevance, *([(int(a), 1.0)] for a in answers)], is_made


def test_made_queries_do_not_outvote_those_that_were_asked():
    queries, documents, relevance, made = asked_and_made()
    new_queries, _, new_relevance = planted(seed=0, n_queries=400)
    new_queries, new_relevance = new_queries[200:], new_relevance[200:]
    told = fit(queries, documents, relevance, made=made)
    untold = fit(queries, documents, relevance)
    alone = fit(queries[~made], documents, relevance[:200])
    by_told, by_untold, by_alone = (
        mean_ndcg(one.layer, new_queries, documents, new_relevance) for one in (told, untold, alone)
    )
    assert by_told > by_untold + 0.05
    assert by_told > by_alone - 0.02
    assert told.report.n_made == 600
    assert told.report.by_query["ndcg@10"].n_queries == 200


def test_made_queries_judge_each_other_where_too_few_were_asked():
    queries, documents, relevance = planted(n_queries=200)
    made = np.arange(200) >= 5
    result = fit(queries, documents, relevance, made=made)
    assert result.report.n_made == 0
    assert result.report.by_query["ndcg@10"].n_queries == 200


def test_what_only_made_queries_want_is_not_taken_for_asked_before():
    queries, documents, relevance, made = asked_and_made(seed=5)
    layer = fit(queries, documents, relevance, made=made).layer
    asked_for = {row for pairs, is_made in zip(relevance, made, strict=True) if not is_made for row, _ in pairs}
    assert set(layer.document_ids) <= asked_for


def test_saying_that_nothing_was_made_changes_no_byte():
    queries, documents, relevance = planted(n_queries=120)
    plain = fit(queries, documents, relevance).layer
    told = fit(queries, documents, relevance, made=np.zeros(120, dtype=bool)).layer
    assert plain.matrix is not None
    assert plain.matrix.tobytes() == told.matrix.tobytes()


@pytest.mark.parametrize("made", [[True] * 7, [0.5] * 60, [[True]] * 60])
def test_made_is_one_boolean_for_each_query(made):
    queries, documents, relevance = planted(n_queries=60)
    with pytest.raises(InputError, match="60 booleans"):
        fit(queries, documents, relevance, made=made)


def test_another_device_computes_the_same_loss_and_gradient():
    queries, documents, relevance = planted(n_queries=200)
    labels = Labels.from_relevance(relevance, n_queries=200, n_documents=len(documents))
    here = training_problem(queries, documents, labels, np.ones(200, dtype=np.float32))
    there = here.on(Device.named("cpu"))
    z = 0.1 * np.random.default_rng(0).standard_normal(here.start.shape).astype(np.float32)
    (loss, gradient), (other_loss, other_gradient) = (p.loss_and_gradient(z, 3.0) for p in (here, there))
    assert other_loss == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(other_gradient, gradient, atol=1e-5)


def test_another_device_learns_the_same():
    queries, documents, relevance = planted(n_queries=300)
    words = csr_array(np.maximum(0, queries[:200] @ documents.T - 0.2))
    here = fit(queries[:200], documents, relevance[:200], lexical_scores=words)
    there = fit(queries[:200], documents, relevance[:200], lexical_scores=words, device="cpu")
    assert there.report.settings == here.report.settings
    # the descent stops within a tolerance, at a step that rounding decides
    assert there.report.lift == pytest.approx(here.report.lift, abs=0.01)
    gained = (mean_ndcg(one.layer, queries[200:], documents, relevance[200:]) for one in (here, there))
    assert next(gained) == pytest.approx(next(gained), abs=0.02)


def test_a_device_that_is_not_there_is_named():
    queries, documents, relevance = planted(n_queries=60)
    with pytest.raises(InputError, match="'abacus' is not"):
        fit(queries, documents, relevance, device="abacus")


def test_progress_runs_to_its_total_on_the_caller_s_thread():
    queries, documents, relevance = planted()
    calls = []
    fit(queries, documents, relevance, progress=lambda done, total: calls.append((done, total, threading.get_ident())))
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert calls[-1][0] == calls[-1][1]
    assert {call[2] for call in calls} == {threading.get_ident()}


def test_raising_in_progress_stops_the_training():
    queries, documents, relevance = planted()

    def stop(done, total):
        if done >= 1:
            raise Cancelled("enough")

    threads = threading.active_count()
    with pytest.raises(Cancelled, match="enough"):
        fit(queries, documents, relevance, progress=stop)
    assert threading.active_count() == threads


def test_every_bad_row_is_named_at_once():
    queries, documents, relevance = planted(n_queries=20, n_documents=30)
    relevance[1] = []
    relevance[3] = [(99, 1.0)]
    relevance[4] = [(1, -1.0), (2, float("nan"))]
    relevance[5] = [("a", 1.0)]
    relevance[6] = [(1, "high")]
    relevance[7] = "12"
    relevance[8] = [(1,)]
    relevance[9] = [(1, 0.0)]
    with pytest.raises(InputError) as error:
        fit(queries, documents, relevance)
    named = [problem.split(" ")[0] for problem in error.value.problems]
    assert named == [f"relevance[{row}]" for row in (1, 3, 4, 4, 5, 6, 7, 8, 9)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, d, r: (q[:, :3], d, r), "query_vectors should have 24 dimensions; it has 3"),
        (lambda q, d, r: (q, d, r[:-1]), "one list for each of the 240 queries; it has 239"),
        (lambda q, d, r: (q * np.nan, d, r), "NaN or infinity"),
        (lambda q, d, r: (q, d * 0, r), "all zeros"),
        (lambda q, d, r: (q, np.zeros((2, 3, 4)), r), "should have the shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        fit(*change(*planted()))


# -- the mathematics ------------------------------------------------------------------------------------------------


def a_problem(seed, n):
    rng = np.random.default_rng(seed)
    targets = rng.random((n, 9)) * (rng.random((n, 9)) < 0.3) + np.eye(n, 9) * 0.1
    targets[:, 0] += 0.01
    targets = csr_array((targets / targets.sum(axis=1, keepdims=True)).astype(np.float32))
    weights = rng.uniform(0.5, 2, n).astype(np.float32)
    return Problem.build(unit(rng, n), unit(rng, 9), targets, weights=weights, n_counted=n // 2), rng


@given(st.integers(0, 2**32 - 1), st.sampled_from([6, 40]))
@settings(deadline=None, max_examples=10)
def test_the_gradient_agrees_with_finite_differences(seed, n):
    problem, rng = a_problem(seed, n)
    z = (0.05 * rng.standard_normal(problem.start.shape)).astype(np.float32)
    direction = rng.standard_normal(z.shape).astype(np.float32)
    direction /= np.linalg.norm(direction)
    _, gradient = problem.loss_and_gradient(z, 3.0)
    step = 1e-2
    above, below = (problem.loss_and_gradient(z + s * direction, 3.0)[0] for s in (step, -step))
    assert np.vdot(gradient, direction) == pytest.approx((above - below) / (2 * step), rel=0.02, abs=2e-3)


@given(st.integers(0, 2**32 - 1), st.sampled_from([6, 40]), st.sampled_from([0.0, 1.0, 10.0]))
@settings(deadline=None, max_examples=10)
def test_the_matrix_moves_queries_as_the_loss_saw_them_moved(seed, n, common):
    rng = np.random.default_rng(seed)
    queries = unit_rows(unit(rng, n) + common * unit(rng, 1))
    problem = Problem.build(queries, unit(rng, 9), csr_array(np.full((n, 9), 1 / 9, dtype=np.float32)))
    z = rng.standard_normal(problem.start.shape).astype(np.float32)
    seen = (problem.queries + problem.coordinates @ z) @ problem.document_basis.T
    np.testing.assert_allclose(queries + queries @ problem.matrix(z), seen, atol=1e-3)
    np.testing.assert_allclose(problem.solution(problem.matrix(z)), z, atol=1e-3)
    shares = np.linalg.norm(problem.mean.shortened(queries).mean(axis=0)) / np.linalg.norm(queries.mean(axis=0))
    assert shares == pytest.approx(problem.mean.share, rel=1e-3)
    assert problem.mean.share < 0.2 if common == 10 else problem.mean.share > 0.2


@given(st.integers(0, 2**32 - 1), st.sampled_from([6, 40]))
@settings(deadline=None, max_examples=10)
def test_the_descent_ends_where_the_gradient_vanishes(seed, n):
    problem, _ = a_problem(seed, n)
    z = problem.solve(3.0, problem.start, tolerance=1e-9, max_iterations=200, on_step=lambda: None).unknowns
    _, at_start = problem.loss_and_gradient(problem.start, 3.0)
    _, at_end = problem.loss_and_gradient(z, 3.0)
    assert np.linalg.norm(at_end) < 0.02 * np.linalg.norm(at_start)
    np.testing.assert_allclose(problem.solution(problem.matrix(z)), z, atol=1e-5)


def test_where_one_penalty_ended_is_known_for_another_without_an_evaluation():
    problem, rng = a_problem(3, 40)
    z = (0.05 * rng.standard_normal(problem.start.shape)).astype(np.float32)
    step = (0.01 * rng.standard_normal(z.shape)).astype(np.float32)
    reached = {}
    for penalty in (30.0, 3.0):
        _, before = problem.loss_and_gradient(z - step, penalty)
        loss, after = problem.loss_and_gradient(z, penalty)
        reached[penalty] = Reached(z, loss, after, Shown(step, after - before))
    found = problem.repenalised(reached[30.0], 30.0, 3.0)
    assert found.loss == pytest.approx(reached[3.0].loss, rel=1e-5)
    np.testing.assert_allclose(found.gradient, reached[3.0].gradient, atol=1e-5)
    np.testing.assert_allclose(found.shown.change, reached[3.0].shown.change, atol=1e-5)
    flat = Reached(z, 1.0, z, Shown(step, 1e-6 * step))
    assert problem.repenalised(flat, 30.0, 3.0).shown is None  # less that penalty, it would bend down


@pytest.mark.parametrize("seed", [0, 18, 29])
def test_a_step_that_brings_little_does_not_end_a_descent_from_which_much_is_to_be_had(seed):
    queries, documents, relevance = planted(seed=seed, n_queries=40, turn=0.5)
    labels = Labels.from_relevance(relevance, n_queries=40, n_documents=400)
    hard = training_problem(queries, documents, labels, np.ones(40, dtype=np.float32))
    start = hard.solve(100.0, hard.start, tolerance=2e-3, max_iterations=15, on_step=lambda: None).unknowns
    stopped, converged = (
        hard.softened().solve(10.0, start, tolerance=tolerance, max_iterations=most, on_step=lambda: None).loss
        for tolerance, most in ((2e-3, 15), (1e-7, 200))
    )
    assert stopped < 1.03 * converged


def test_the_path_of_penalties_needs_fewer_evaluations_than_each_penalty_by_itself():
    problem, _ = a_problem(1, 40)
    counted = []

    def solved(penalty, start):
        return problem.solve(penalty, start, tolerance=1e-6, max_iterations=50, on_step=lambda: counted.append(penalty))

    along = solved(3.0, problem.repenalised(solved(30.0, problem.start), 30.0, 3.0))
    n_along = counted.count(3.0)
    alone = solved(3.0, problem.start)
    assert n_along < counted.count(3.0) - n_along
    assert along.loss == pytest.approx(alone.loss, rel=1e-4)
    assert along.loss == pytest.approx(problem.loss_and_gradient(along.unknowns, 3.0)[0], rel=1e-5)


def test_the_bases_of_a_problem_do_for_one_like_it():
    rng = np.random.default_rng(0)
    queries, documents = unit(rng, 40), unit(rng, 9)
    targets = csr_array(np.eye(9, dtype=np.float32)[rng.integers(0, 9, 40)])
    others = unit(rng, 30)
    bases = Problem.build(queries, documents, targets).bases
    assert bases.are_complete
    solved = []
    for taken in (None, bases):
        problem = Problem.build(others, documents, targets[:30], bases=taken)
        z = problem.solve(3.0, problem.start, tolerance=1e-9, max_iterations=200, on_step=lambda: None).unknowns
        solved.append(problem.matrix(z))
    np.testing.assert_allclose(solved[1], solved[0], atol=5e-3)
    few = Problem.build(queries[:3], documents, targets[:3]).bases
    assert not few.are_complete
    assert Problem.build(others, documents, targets[:30], bases=few).bases.are_complete


def test_the_bases_of_few_documents_are_those_of_their_covariance():
    rng = np.random.default_rng(0)
    queries, documents = unit(rng, 40), unit(rng, 5)
    targets = csr_array(np.eye(5, dtype=np.float32)[rng.integers(0, 5, 40)])
    problem = Problem.build(queries, documents, targets)
    basis = problem.document_basis
    np.testing.assert_allclose(basis.T @ basis, np.eye(DIM), atol=1e-5)
    np.testing.assert_allclose(basis @ basis.T @ documents[0], documents[0], atol=1e-5)
    assert (problem.curvature > 1e-4).any(axis=0).sum() <= 5
    many = Problem.build(queries, unit(rng, 30), csr_array(np.full((40, 30), 1 / 30, dtype=np.float32)))
    assert (many.curvature > 1e-4).any(axis=0).sum() > 5


def test_where_every_document_is_labelled_the_layer_that_won_is_the_one_that_is_trained():
    """There are no documents for stand-ins to ask for in the end, though every fold has held some out."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        documents, step = unit(rng, 60), unit(rng, 1)
        noise = 0.15 * rng.standard_normal((120, DIM)).astype(np.float32)
        queries = unit_rows(np.repeat(documents, 2, axis=0) + 1.2 * step + noise)
        result = fit(queries, documents, [[(row // 2, 1.0)] for row in range(120)], seed=seed)
        assert result.report.active
        assert result.layer.matrix is not None
        found = {
            arm: (layer.rank(queries, documents, k=1)[0][:, 0] == np.arange(120) // 2).mean()
            for arm, layer in (("without", Layer.identity(DIM)), ("with", result.layer))
        }
        assert found["with"] > found["without"]


def test_candidates_have_single_layers_and_means_of_layers():
    both = path(with_standins=True) + path(with_standins=True, has_made=True)
    parts = linear_parts(both)
    assert max(len(part) for part in parts) > 1
    assert {layer for part in parts for layer in part} == set(both)
    assert all(len({layer.has_made for layer in part}) == 1 for part in parts)
    without = linear_parts(path(with_standins=False))
    assert without
    assert not any(layer.has_standins for part in without for layer in part)
    assert len(set(without)) == len(without)
    matrices = [np.full((2, 2), value, dtype=np.float32) for value in (1, 2, 6)]
    np.testing.assert_array_equal(mean_of(matrices), np.full((2, 2), 3))
    assert mean_of(matrices[:1]) is matrices[0]
    assert mean_of([]) is None


def test_standins_ask_for_documents_without_labels_as_far_off_as_queries_are():
    rng = np.random.default_rng(0)
    documents, step = unit(rng, 90), unit(rng, 1)
    labels = Labels.from_relevance([[(d, 1.0)] for d in range(30)], n_queries=30, n_documents=90)
    queries = unit_rows(documents[:30] + 0.5 * step)
    standins = StandIns.drawn(queries, documents, labels, rng)
    assert len(standins.document) == 30
    assert len(np.unique(standins.document)) == 30
    assert standins.document.min() >= 30
    np.testing.assert_allclose(np.linalg.norm(standins.queries, axis=1), 1, atol=1e-5)
    true = unit_rows(documents[standins.document] + 0.5 * step)
    assert (np.einsum("ij,ij->i", standins.queries, true) > 0.9).mean() > 0.9


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 9, 40]))
@settings(deadline=None, max_examples=10)
def test_soft_labels_are_targets_shared_by_likeness(seed, n_documents):
    rng = np.random.default_rng(seed)
    queries, documents = (
        unit(rng, 30),
        unit(rng, n_documents) * rng.uniform(0.5, 2, (n_documents, 1)).astype(np.float32),
    )
    hard = np.zeros((30, n_documents), dtype=np.float32)
    hard[np.arange(30), rng.integers(0, n_documents, 30)] = 1
    likeness = np.exp(unit_rows(documents) @ documents.T / LIKENESS)
    shared = (1 - SHARE) * hard + SHARE * hard @ (likeness / likeness.sum(axis=1, keepdims=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deepmemory.training.soft_labels._BLOCK", 3 * n_documents)
        soft = Problem.build(queries, documents, csr_array(hard)).softened()
    told = Problem.build(queries, documents, csr_array(shared))
    z = (0.05 * rng.standard_normal(told.start.shape)).astype(np.float32)
    (loss, gradient), (other_loss, other_gradient) = (p.loss_and_gradient(z, 1.0) for p in (told, soft))
    assert other_loss == pytest.approx(loss, rel=1e-4)
    np.testing.assert_allclose(other_gradient, gradient, atol=1e-4)


def test_a_soft_label_says_nothing_against_a_copy_of_the_answer():
    """Every document has a copy, and the labels name one of the two: the layer is not to tell them apart."""
    queries, documents, relevance = planted(n_queries=200, n_documents=120)
    rng = np.random.default_rng(1)
    copies = unit_rows(documents + 0.02 * unit(rng, 120))
    both = np.concatenate([documents, copies])
    named = [[(row + 120 * int(rng.integers(2)), 1.0)] for ((row, _),) in relevance]
    labels = Labels.from_relevance(named, n_queries=200, n_documents=240)
    trainer = Trainer(queries, both, labels, seed=0)
    moved = {
        is_soft: unit_rows(queries + queries @ trainer.advance(Linear(3.0, is_soft=is_soft), on_step=lambda: None))
        for is_soft in (False, True)
    }
    apart = {
        is_soft: np.mean([x @ (both[row] - both[(row + 120) % 240]) for x, ((row, _),) in zip(at, named, strict=True)])
        for is_soft, at in moved.items()
    }
    assert apart[True] < 0.7 * apart[False]


def test_blocks_of_queries_add_up_to_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    problem = Problem.build(unit(rng, 50), unit(rng, 9), csr_array(np.full((50, 9), 1 / 9, dtype=np.float32)))
    z = (0.05 * rng.standard_normal(problem.start.shape)).astype(np.float32)
    loss, gradient = problem.loss_and_gradient(z, 1.0)
    monkeypatch.setattr("deepmemory.training.objective._BLOCK_ROWS", 7)
    in_blocks = problem.loss_and_gradient(z, 1.0)
    assert in_blocks[0] == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(in_blocks[1], gradient, atol=1e-5)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=15)
def test_a_candidate_s_ranks_are_those_of_the_layer_it_stands_for(seed):
    rng = np.random.default_rng(seed)
    documents, train, held_out = unit(rng, 60), unit(rng, 20), unit(rng, 12)
    train_labels = Labels.from_relevance(
        [[(int(d), 1.0)] for d in rng.integers(0, 25, 20)], n_queries=20, n_documents=60
    )
    relevance = [[(int(d), float(rng.integers(1, 3))) for d in rng.choice(60, 3, replace=False)] for _ in range(12)]
    labels = Labels.from_relevance(relevance, n_queries=12, n_documents=60)
    matrix = (0.2 * rng.standard_normal((DIM, DIM))).astype(np.float32)
    linear = Settings((Linear(10.0, has_standins=True),))
    scorer = FoldScorer(held_out, labels, documents, train_queries=train, train_labels=train_labels)
    ranks = scorer.ranks(matrix, candidates(linear.linear, with_words=False))
    labelled = train_labels.labelled
    for candidate in (linear, replace(linear, prior=-0.02), replace(linear, prior=0.02, threshold=0.5, gain=0.8)):
        layer = Layer(
            dimensions=DIM,
            matrix=matrix,
            document_ids=tuple(labelled.tolist()),
            document_vectors=documents[labelled],
            prior=candidate.prior,
            memory=QueryMemory.build(
                unit_rows(train + train @ matrix),
                train_labels.query,
                np.searchsorted(labelled, train_labels.document),
                train_labels.grade,
                threshold=candidate.threshold,
                gain=candidate.gain,
                is_transformed=True,
            ),
        )
        rows, _ = layer.rank(held_out, documents, k=10)
        judged = judge_rows(rows, [dict(r) for r in relevance])
        np.testing.assert_allclose(ranks[candidate].ndcg(), ndcg(judged, 10), atol=1e-6)
        np.testing.assert_allclose(ranks[candidate].recall(5), recall(judged, 5), atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(10, 60))
@settings(deadline=None, max_examples=25)
def test_folds_keep_apart_what_they_hold_out(seed, n):
    rng = np.random.default_rng(seed)
    queries = unit(rng, n)
    queries[n // 2] = queries[0]  # asked twice
    labels = Labels.from_relevance(
        [[(int(d), 1.0) for d in set(rng.integers(0, 12, 2).tolist())] for _ in range(n)], n_queries=n, n_documents=12
    )
    by_query = query_folds(queries, 5, rng)
    assert sorted(np.concatenate([f.held_out for f in by_query]).tolist()) == list(range(n))
    for fold in by_query:
        assert set(fold.train) | set(fold.held_out) == set(range(n))
        assert (0 in fold.train) == (n // 2 in fold.train)
    for fold in document_folds(labels, 5, rng):
        assert not set(labels.subset(fold.train).labelled) & set(labels.subset(fold.held_out).labelled)


def test_the_pool_holds_the_labelled_documents_and_the_nearest(monkeypatch):
    monkeypatch.setattr("deepmemory.training.pool.POOL_SIZE", 500)
    monkeypatch.setattr("deepmemory.training.pool._BLOCK", 128)
    rng = np.random.default_rng(0)
    queries, documents, labelled = unit(rng, 40), unit(rng, 3000), np.array([5, 2999])
    pool = document_pool(queries, documents, labelled, rng)
    nearest = np.argsort(-(queries @ documents.T), axis=1)[:, :10]
    assert set(labelled) | set(nearest.ravel()) <= set(pool)
    assert len(pool) < 1500
    assert np.all(np.diff(pool) > 0)


def test_a_large_corpus_is_learnt_from_its_pool_alone(monkeypatch):
    queries, documents, relevance = planted(n_queries=200, n_documents=3000)
    whole = fit(queries, documents, relevance)
    monkeypatch.setattr("deepmemory.training.pool.POOL_SIZE", 1000)
    pooled = fit(queries, documents, relevance)
    assert pooled.report.n_documents == 3000
    assert pooled.report.lift == pytest.approx(whole.report.lift, abs=0.05)
