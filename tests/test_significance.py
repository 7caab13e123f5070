"""Intervals and p-values: worked cases, properties, and their behaviour under the null."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deepmemory.errors import InputError
from deepmemory.significance import PairedLift, paired_interval, paired_lift, randomisation_p

differences = st.lists(st.floats(-1, 1, allow_nan=False, width=32), min_size=1, max_size=60).map(np.array)


# --- the interval -----------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(differences, st.sampled_from([0.05, 0.5, 0.95]))
def test_the_interval_contains_the_mean_and_stays_within_the_data(values, level: float) -> None:
    low, high = paired_interval(values, level=level, samples=300)
    assert low <= values.mean() <= high
    assert values.min() - 1e-9 <= low
    assert high <= values.max() + 1e-9


@pytest.mark.parametrize("n", [1, 7, 3000])
def test_where_nothing_differs_the_interval_is_zero_and_p_is_one(n: int) -> None:
    assert paired_interval(np.zeros(n)) == (0.0, 0.0)
    assert randomisation_p(np.zeros(n)) == 1.0


def test_the_interval_agrees_with_the_normal_approximation_where_that_holds() -> None:
    values = np.random.default_rng(3).normal(0.1, 0.3, size=2000)  # all distinct: queries are drawn
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert paired_interval(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.001)


def test_the_interval_of_few_distinct_values_agrees_with_the_normal_approximation() -> None:
    values = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], p=[0.1, 0.6, 0.3], size=2000)  # counts are drawn
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert paired_interval(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.002)


def test_coverage_is_near_the_level() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for trial in range(400):
        low, high = paired_interval(rng.exponential(1.0, size=80) - 1.0, seed=trial, samples=500)
        covered += low <= 0 <= high
    assert 0.90 <= covered / 400 <= 0.97


def test_a_lower_level_gives_a_narrower_interval() -> None:
    values = np.random.default_rng(0).normal(size=100)
    wide, narrow = paired_interval(values, level=0.95), paired_interval(values, level=0.5)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


# --- the p-value ------------------------------------------------------------------------------------------------------


def test_exact_p_worked_by_hand() -> None:
    # Of the eight sign patterns of 1, 2, 3 only +++ and --- reach a sum of 6.
    assert randomisation_p([1, 2, 3]) == 2 / 8
    # -1, 2, 3 has the sum 4: reached by +++, -++ and their mirrors.
    assert randomisation_p([-1, 2, 3]) == 4 / 8
    assert randomisation_p([0.4]) == 1.0
    assert randomisation_p([0.0, 0.5, 0.0, 0.5]) == 2 / 4


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_small_cases_agree_with_brute_force(values: list[int]) -> None:
    signs = itertools.product([-1, 1], repeat=len(values))
    sums = [abs(sum(s * v for s, v in zip(pattern, values, strict=True))) for pattern in signs]
    expected = np.mean([total >= abs(sum(values)) for total in sums])
    # A tenth is no binary fraction: ties must survive the rounding.
    assert randomisation_p(np.array(values) / 10) == pytest.approx(expected)


@pytest.mark.parametrize("distinct", [True, False], ids=["signs of queries drawn", "counts of values drawn"])
def test_drawn_p_agrees_with_an_independent_test(distinct: bool) -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(0.05, 0.5, 400) if distinct else rng.choice([-1.0, 0.0, 0.5, 1.0], 400, p=[0.2, 0.4, 0.2, 0.2])
    reference = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(1)
    )
    assert randomisation_p(values) == pytest.approx(reference.pvalue, abs=0.015)


@pytest.mark.parametrize("n", [8, 40, 200])
def test_p_is_near_uniform_under_the_null(n: int) -> None:
    rng = np.random.default_rng(n)
    p_values = np.array([randomisation_p(rng.normal(size=n), seed=trial, samples=999) for trial in range(400)])
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(p_values <= 0.05) <= 0.085  # four standard errors above the nominal rate


@pytest.mark.parametrize("n", [100, 100_000])
def test_p_of_a_certain_gain_is_the_smallest_that_the_samples_allow(n: int) -> None:
    assert randomisation_p(np.ones(n), samples=999) == 1 / 1000


@settings(max_examples=30, deadline=None)
@given(differences, st.integers(0, 3))
def test_p_is_symmetric_ignores_order_of_scale_and_lies_in_its_range(values, seed: int) -> None:
    p = randomisation_p(values, seed=seed, samples=200)
    assert 0 < p <= 1
    assert randomisation_p(-values, seed=seed, samples=200) == pytest.approx(p)
    assert randomisation_p(values * 4, seed=seed, samples=200) == pytest.approx(p)


# --- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [5, 50, 100_000])
def test_the_same_seed_gives_the_same_figures(n: int) -> None:
    values = np.random.default_rng(2).choice([-0.5, 0.0, 0.25, 1.0], size=n)
    assert paired_interval(values, seed=9) == paired_interval(values, seed=9)
    assert randomisation_p(values, seed=9) == randomisation_p(values, seed=9)


def test_a_hundred_thousand_distinct_differences_fit() -> None:
    values = np.random.default_rng(2).normal(0.01, 1.0, size=100_000)
    low, high = paired_interval(values, samples=200)
    assert 0.0 < low < high < 0.02
    assert randomisation_p(values, samples=200) < 0.05


@pytest.mark.parametrize("function", [paired_interval, randomisation_p])
@pytest.mark.parametrize("values", [[], [[0.1, 0.2]], 0.5])
def test_the_wrong_shape_is_refused(function, values) -> None:
    with pytest.raises(InputError, match="one difference for each"):
        function(values)


@pytest.mark.parametrize("function", [paired_interval, randomisation_p])
def test_every_value_that_is_not_finite_is_named(function) -> None:
    with pytest.raises(InputError) as caught:
        function([0.1, np.nan, 0.2, np.inf])
    assert len(caught.value.problems) == 2
    assert "query 1 is nan" in caught.value.problems[0]


def test_levels_and_samples_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="level"):
        paired_interval([0.1], level=95)
    for function in (paired_interval, randomisation_p):
        with pytest.raises(InputError, match="samples"):
            function([0.1], samples=0)


def test_paired_lift_gathers_what_a_report_must_say() -> None:
    lift = paired_lift([0.0, 0.5, 0.5, 0.0], [1.0, 0.5, 1.0, 0.5])
    assert isinstance(lift, PairedLift)
    assert (lift.n_queries, lift.baseline, lift.trained, lift.lift) == (4, 0.25, 0.75, 0.5)
    assert lift.p_value == 2 / 8  # three differ, all upwards
    assert lift.interval[0] <= 0.5 <= lift.interval[1]
    assert lift.as_dict()["interval"] == list(lift.interval)


def test_paired_lift_refuses_runs_that_do_not_pair() -> None:
    with pytest.raises(InputError, match=r"\(2,\) and \(3,\)"):
        paired_lift([0, 1], [0, 1, 1])
