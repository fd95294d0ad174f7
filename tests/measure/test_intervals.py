"""Intervals: coverage, the shared resampling of groups, and statistics against another way to compute them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from synthfair_hf.errors import InputError
from synthfair_hf.measure.intervals import (
    Estimate,
    area_under_curve,
    bootstrap,
    bootstrap_mean,
    mean_of,
    percentile_interval,
    statistic_of_rows,
)


def images(n):
    return [f"image{row}" for row in range(n)]


def ones(n):
    return np.ones((1, n))


def test_nothing_measured_is_none_with_n_0():
    nothing = Estimate(mean=None, low=None, high=None, n=0, groups=0, seeds=0, draws=0)
    assert bootstrap_mean([], []) == nothing
    assert bootstrap_mean([np.array([])], [[]]) == nothing


def test_a_constant_has_an_interval_of_no_width():
    found = bootstrap_mean([np.full(7, 2.5)] * 3, [images(7)] * 3)
    assert found == Estimate(2.5, 2.5, 2.5, n=7, groups=7, seeds=3, draws=1000)


def test_a_seed_without_rows_is_left_out():
    found = bootstrap_mean([np.array([]), np.full(4, 2.0)], [[], images(4)])
    assert (found.mean, found.n, found.seeds) == (2.0, 4, 1)


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation():
    values = np.random.default_rng(0).normal(size=400)
    found = bootstrap_mean([values], [images(400)], n_bootstrap=4000)
    half = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_ten_radiographs_of_a_patient_are_one_observation():
    values = np.random.default_rng(0).normal(size=40)
    radiographs = bootstrap_mean([np.repeat(values, 10)], [np.repeat(images(40), 10)])
    patients = bootstrap_mean([values], [images(40)])
    assert (radiographs.low, radiographs.high) == pytest.approx((patients.low, patients.high))
    assert (radiographs.n, radiographs.groups) == (400, 40)


def test_three_seeds_of_a_system_without_randomness_are_no_further_evidence():
    values = np.random.default_rng(0).normal(size=50)
    one, three = (bootstrap_mean([values] * seeds, [images(50)] * seeds, n_bootstrap=8000) for seeds in (1, 3))
    assert three.mean == pytest.approx(one.mean)
    assert three.high - three.low == pytest.approx(one.high - one.low, rel=0.05)


def test_seeds_that_differ_widen_the_interval():
    values = np.random.default_rng(0).normal(size=50)
    apart = bootstrap_mean([values, values + 5, values + 10], [images(50)] * 3)
    assert apart.mean == pytest.approx(values.mean() + 5)
    assert apart.high - apart.low > 5


def test_95_percent_of_intervals_hold_the_mean():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        found = bootstrap_mean([rng.exponential(size=100)], [images(100)], n_bootstrap=300)
        held += found.low <= 1 <= found.high
    assert held >= 180


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(2, 40))
def test_any_function_of_rows_agrees_with_the_vectorised_mean(seed, n):
    values = np.random.default_rng(seed).normal(size=n)
    by_rows = bootstrap([statistic_of_rows(lambda rows: values[rows].mean(), n)], [images(n)], seed, n_bootstrap=20)
    by_weights = bootstrap([mean_of(values)], [images(n)], seed, n_bootstrap=20)
    assert by_rows.low == pytest.approx(by_weights.low)
    assert by_rows.high == pytest.approx(by_weights.high)


def test_a_median_is_a_statistic_of_rows():
    values = np.arange(101.0)
    found = bootstrap([statistic_of_rows(lambda rows: float(np.median(values[rows])), 101)], [images(101)])
    assert found.mean == 50
    assert 30 < found.low < 50 < found.high < 70


def test_the_seed_decides_and_blocks_do_not(monkeypatch):
    values, groups = [np.random.default_rng(0).normal(size=30)], [images(30)]
    whole = bootstrap_mean(values, groups, seed=5)
    assert whole == bootstrap_mean(values, groups, seed=5)
    assert whole != bootstrap_mean(values, groups, seed=6)
    monkeypatch.setattr("synthfair_hf.measure.intervals._BLOCK", 100)
    parts = bootstrap_mean(values, groups, seed=5)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high))


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(2, 5))
def test_area_under_curve_is_scikit_learns(seed, levels):
    rng = np.random.default_rng(seed)
    scores = rng.integers(1, 6, (60, levels)).astype(float)  # with ties
    scores /= scores.sum(axis=1, keepdims=True)
    labels = np.concatenate([np.arange(levels), rng.integers(0, levels, 60 - levels)])
    weights = rng.integers(1, 4, (2, 60)).astype(float)
    for found, weight in zip(area_under_curve(scores, labels)(weights), weights, strict=True):
        areas = [roc_auc_score(labels == level, scores[:, level], sample_weight=weight) for level in range(levels)]
        assert found == pytest.approx(areas[1] if levels == 2 else np.mean(areas))


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_area_under_curve_of_scores_alone_is_scikit_learns(rows):
    scores, labels = (np.array(column) for column in zip(*rows, strict=True))
    if labels.all() or not labels.any():
        return
    assert area_under_curve(scores, labels)(ones(len(rows)))[0] == pytest.approx(roc_auc_score(labels, scores))


def test_area_under_curve_of_one_class_is_undefined_and_perfect_scores_are_1():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    assert np.isnan(area_under_curve(scores, np.array([1, 1, 1]))(ones(3))).all()
    assert area_under_curve(scores, np.array([0, 1, 1]))(ones(3)) == [1.0]
    undefined = bootstrap([area_under_curve(scores, np.array([1, 1, 1]))], [images(3)])
    assert (undefined.mean, undefined.n) == (None, 3)


@given(st.integers(0, 2**32), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]))
def test_a_percentile_interval_leaves_out_equal_tails(seed, level):
    """Bit for bit, since boards hold figures that were found by the second line."""
    drawn = np.random.default_rng(seed).normal(size=(200, 2))
    expected = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    assert np.array_equal(percentile_interval(drawn, (1 - level) / 2), expected)
    assert np.array_equal(percentile_interval(drawn), np.quantile(drawn, [0.025, 0.975], axis=0))


def test_draws_without_the_rare_level_are_left_out_and_counted():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.5, 0.5]])
    rare = area_under_curve(scores, np.array([0, 1, 0, 0]))
    found = bootstrap([rare], [images(4)], n_bootstrap=4000)
    assert (found.mean, found.low, found.high) == (1, 1, 1)
    vanished = 0.75**4 + 0.25**4
    assert found.draws / 4000 == pytest.approx(1 - vanished, abs=0.03)
    assert bootstrap([mean_of(scores[:, 0])], [images(4)], n_bootstrap=4000).draws == 4000
    assert bootstrap([area_under_curve(scores, np.zeros(4))], [images(4)]).draws == 0


@pytest.mark.parametrize(
    ("values", "groups", "message"),
    [
        ([np.zeros(3)], [images(2)], r"values\[0\]: shape \(3,\)"),
        ([np.array([0.0, np.nan])], [images(2)], "with 1 not finite, for 2 rows"),
        ([np.zeros(2)] * 2, [images(2)], "1 lists for 2 statistics"),
    ],
)
def test_bad_values_are_named(values, groups, message):
    with pytest.raises(InputError, match=message):
        bootstrap_mean(values, groups)


def test_bad_settings_are_named():
    with pytest.raises(InputError, match=r"n_bootstrap, level: 0, 0\.95 out of range"):
        bootstrap_mean([np.zeros(2)], [images(2)], n_bootstrap=0)
