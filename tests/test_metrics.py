"""Metrics against hand-worked figures, against ir-measures, and by their properties."""

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, P, R, Success, nDCG

from deepmemory.errors import InputError
from deepmemory.metrics import (
    METRICS,
    Judged,
    compute,
    hit_rate,
    judge,
    judge_rows,
    mrr,
    ndcg,
    parse_metric,
    precision,
    recall,
)

CUT_OFFS = (1, 3, 10, 100)

qrels_of_a_query = st.dictionaries(st.integers(0, 30), st.integers(0, 3), min_size=1, max_size=8).filter(
    lambda judged: any(judged.values())
)
runs_and_qrels = st.lists(
    st.tuples(st.lists(st.integers(0, 30), max_size=25), qrels_of_a_query), min_size=1, max_size=6
).map(lambda pairs: ([run for run, _ in pairs], [judged for _, judged in pairs]))


# --- figures worked by hand -------------------------------------------------------------------------------------------


@pytest.fixture
def two_of_five() -> Judged:
    """Hits b, a, c, d, e; a (grade 2) and d (grade 1) and z (grade 1) are relevant, b was judged not to be."""
    return judge([["b", "a", "c", "d", "e"]], [{"a": 2.0, "b": 0.0, "d": 1.0, "z": 1.0}])


def test_judging_aligns_grades_with_ranks_and_sorts_the_ideal(two_of_five: Judged) -> None:
    assert two_of_five.grades.tolist() == [[0, 2, 0, 1, 0]]
    assert two_of_five.ideal.tolist() == [[2, 1, 1, 0]]
    assert two_of_five.grades.dtype == two_of_five.ideal.dtype == np.float32


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (recall, {1: 0, 2: 1 / 3, 3: 1 / 3, 4: 2 / 3, 5: 2 / 3, 100: 2 / 3}),
        (precision, {1: 0, 2: 1 / 2, 3: 1 / 3, 4: 2 / 4, 5: 2 / 5, 100: 2 / 100}),
        (hit_rate, {1: 0, 2: 1, 100: 1}),
        (mrr, {1: 0, 2: 1 / 2, 100: 1 / 2}),
        # DCG@2 = 2/log2(3) = 1.261860; ideal@2 = 2 + 1/log2(3) = 2.630930
        # DCG@5 = 1.261860 + 1/log2(5) = 1.692536; ideal@5 = 2.630930 + 1/log2(4) = 3.130930
        (ndcg, {1: 0, 2: 0.4796249, 5: 0.5405858, 100: 0.5405858}),
    ],
)
def test_hand_worked(metric, expected, two_of_five: Judged) -> None:
    for k, value in expected.items():
        assert metric(two_of_five, k) == pytest.approx([value], abs=1e-6)


def test_recall_divides_by_all_relevant_documents_also_where_they_outnumber_k() -> None:
    judged = judge([["a", "b"]], [dict.fromkeys("abcd", 1.0)])
    assert recall(judged, 1).tolist() == [1 / 4]
    assert ndcg(judged, 2).tolist() == [1.0]


def test_fewer_hits_than_k_count_as_misses() -> None:
    judged = judge([["a"], []], [{"a": 1.0, "b": 1.0}, {"a": 1.0}])
    assert recall(judged, 10).tolist() == [0.5, 0.0]
    assert precision(judged, 10).tolist() == [0.1, 0.0]
    assert mrr(judged, 10).tolist() == [1.0, 0.0]
    assert hit_rate(judged, 10).tolist() == [1.0, 0.0]
    assert ndcg(judged, 10)[1] == 0.0


def test_a_run_without_any_hit_scores_zero_everywhere() -> None:
    judged = judge([[]], [{"a": 1.0}])
    assert all(metric(judged, 10).tolist() == [0.0] for metric in METRICS.values())


def test_a_repeated_hit_counts_once_and_keeps_its_rank() -> None:
    judged = judge([["a", "a", "b"]], [{"a": 1.0, "b": 1.0}])
    assert judged.grades.tolist() == [[1, 0, 1]]
    assert recall(judged, 2).tolist() == [0.5]
    assert precision(judged, 3).tolist() == [pytest.approx(2 / 3)]


def test_ndcg_gain_is_linear_in_the_grade() -> None:
    judged = judge([["a", "b"]], [{"a": 1.0, "b": 3.0}])
    linear = (1 + 3 / np.log2(3)) / (3 + 1 / np.log2(3))
    assert ndcg(judged, 2) == pytest.approx([linear])


def test_fractional_grades_are_kept() -> None:
    judged = judge([["b", "a"]], [{"a": 0.5, "b": 0.25}])
    assert judged.grades.tolist() == [[0.25, 0.5]]
    assert recall(judged, 1).tolist() == [0.5]


# --- bad input --------------------------------------------------------------------------------------------------------


def test_every_query_without_relevant_documents_is_named() -> None:
    with pytest.raises(InputError) as caught:
        judge([["a"], ["b"], ["c"]], [{}, {"b": 1.0}, {"c": 0.0, "d": -1.0}])
    assert len(caught.value.problems) == 2
    assert "Query 0" in caught.value.problems[0]
    assert "Query 2" in caught.value.problems[1]


@pytest.mark.parametrize("judging", [judge, judge_rows])
def test_lengths_that_differ_are_refused(judging) -> None:
    with pytest.raises(InputError, match="2 runs and 1 qrels"):
        judging(np.zeros((2, 1), dtype=np.int64), [{0: 1.0}])


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(2, 3\)"):
        Judged(grades=np.zeros((2, 3), dtype=np.float32), ideal=np.ones((1, 3), dtype=np.float32))


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_k_below_one_is_refused(metric, two_of_five: Judged) -> None:
    with pytest.raises(InputError, match="k must be 1 or more, but is 0"):
        metric(two_of_five, 0)


@pytest.mark.parametrize("name", ["recall", "recall@", "recall@0", "recall@-1", "recall@1.5", "recall@²", "map@10", ""])
def test_unknown_metric_names_are_refused_with_those_that_exist(name: str) -> None:
    with pytest.raises(InputError, match="expected one of recall, ndcg, mrr, precision, hit_rate"):
        parse_metric(name)


# --- names ------------------------------------------------------------------------------------------------------------


def test_compute_by_name(two_of_five: Judged) -> None:
    values = compute(two_of_five, ["recall@10", "hit_rate@3", "ndcg@2"])
    assert list(values) == ["recall@10", "hit_rate@3", "ndcg@2"]
    assert values["recall@10"].tolist() == recall(two_of_five, 10).tolist()
    assert values["ndcg@2"].tolist() == ndcg(two_of_five, 2).tolist()
    assert all(value.dtype == np.float64 and value.shape == (1,) for value in values.values())


# --- agreement --------------------------------------------------------------------------------------------------------


def test_agreement_with_ir_measures_on_random_graded_runs() -> None:
    rng = np.random.default_rng(7)
    n = 60
    runs = [rng.permutation(200)[: rng.integers(1, 150)].tolist() for _ in range(n)]
    qrels = [
        {int(document): int(rng.integers(0, 4)) for document in rng.permutation(200)[: rng.integers(1, 40)]}
        | {int(rng.integers(200)): 2}
        for _ in range(n)
    ]
    judged = judge(runs, qrels)
    theirs = {"recall": R, "precision": P, "mrr": RR, "hit_rate": Success, "ndcg": nDCG}
    trec_qrels = [
        ir_measures.Qrel(f"q{query}", f"d{document}", grade)
        for query, judgements in enumerate(qrels)
        for document, grade in judgements.items()
    ]
    trec_run = [
        ir_measures.ScoredDoc(f"q{query}", f"d{document}", float(-rank))
        for query, run in enumerate(runs)
        for rank, document in enumerate(run)
    ]
    measures = {measure @ k: (name, k) for name, measure in theirs.items() for k in CUT_OFFS}
    compared = 0
    for row in ir_measures.iter_calc(list(measures), trec_qrels, trec_run):
        name, k = measures[row.measure]
        assert METRICS[name](judged, k)[int(row.query_id[1:])] == pytest.approx(row.value, abs=1e-6), (name, k)
        compared += 1
    assert compared == n * len(measures)


@settings(deadline=None)
@given(runs_and_qrels)
def test_rows_are_judged_as_ids_are(data) -> None:
    runs, qrels = data
    depth = max(map(len, runs))
    rows = np.full((len(runs), depth), -1, dtype=np.int64)
    for row, run in zip(rows, runs, strict=True):
        row[: len(run)] = run
    by_row, by_id = judge_rows(rows, qrels), judge(runs, qrels)
    np.testing.assert_array_equal(by_row.grades, by_id.grades)
    np.testing.assert_array_equal(by_row.ideal, by_id.ideal)


# --- properties -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(runs_and_qrels, st.integers(1, 40))
def test_metrics_are_fractions(data, k: int) -> None:
    judged = judge(*data)
    for metric in METRICS.values():
        values = metric(judged, k)
        assert values.shape == (len(judged),)
        assert ((values >= 0) & (values <= 1)).all()


@settings(deadline=None)
@given(runs_and_qrels, st.integers(1, 40), st.integers(0, 40))
def test_recall_hit_rate_and_mrr_grow_with_k(data, k: int, more: int) -> None:
    judged = judge(*data)
    for metric in (recall, hit_rate, mrr):
        assert (metric(judged, k) <= metric(judged, k + more)).all()


@settings(deadline=None)
@given(runs_and_qrels, st.permutations(range(31)), st.integers(1, 40))
def test_other_names_for_the_documents_change_nothing(data, names: list[int], k: int) -> None:
    runs, qrels = data
    judged = judge(runs, qrels)
    renamed = judge(
        [[names[document] for document in run] for run in runs],
        [{names[document]: grade for document, grade in judgements.items()} for judgements in qrels],
    )
    for metric in METRICS.values():
        assert metric(judged, k).tolist() == metric(renamed, k).tolist()


@settings(deadline=None)
@given(qrels_of_a_query, st.integers(1, 40))
def test_the_ideal_ranking_has_ndcg_one(judgements: dict[int, int], k: int) -> None:
    ideal = sorted(judgements, key=lambda document: -judgements[document])
    assert ndcg(judge([ideal], [judgements]), k) == pytest.approx([1.0])


@settings(deadline=None)
@given(runs_and_qrels)
def test_inputs_are_never_changed(data) -> None:
    runs, qrels = data
    before = ([list(run) for run in runs], [dict(judgements) for judgements in qrels])
    compute(judge(runs, qrels), ["recall@10", "ndcg@10"])
    assert (runs, qrels) == before
