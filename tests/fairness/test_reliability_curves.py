"""Reliability curves: by masks, as a partition of the calibration error, and with intervals over subjects."""

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.audit import EVERYONE, audit
from synthfair_hf.fairness.reliability import reliability


def sample(n=400, seed=0):
    rng = np.random.default_rng(seed)
    score = rng.beta(1, 2, n)
    sex = rng.choice(["f", "m"], n)
    label = (rng.random(n) < np.where(sex == "f", score, score**2)).astype(int)
    return score, label, {"sex": sex, "age": [None if one < 0.1 else "<60" for one in rng.random(n)]}


@given(st.integers(0, 10**6), st.integers(2, 200))
@settings(max_examples=15)
def test_a_curve_is_sklearns_and_its_bins_add_up_to_ece_and_calibration_in_the_large(seed, n):
    score, label, groups = sample(n, seed)
    groups.pop("age")
    curves = reliability(score, label, groups, n_bootstrap=2)
    metrics = audit(score, label, groups, n_bootstrap=2, permutations=0).groups
    metrics = metrics.set_index(["attribute", "group", "metric"])["value"]
    for (attribute, group), own in curves.groupby(["attribute", "group"]):
        mask = np.ones(n, dtype=bool) if attribute == EVERYONE else groups["sex"] == group
        known = own[own["n"] > 0]
        share, mean = calibration_curve(label[mask], score[mask], n_bins=10)
        assert known["value"].to_numpy() == pytest.approx(share)
        assert known["score"].to_numpy() == pytest.approx(mean)
        assert known["positives"].sum() == label[mask].sum()
        assert own["n"].sum() == mask.sum()
        apart = known["n"] * (known["value"] - known["score"]) / mask.sum()
        assert apart.abs().sum() == pytest.approx(metrics[attribute, group, "ece"])
        assert apart.sum() == pytest.approx(metrics[attribute, group, "calibration_in_the_large"])


def test_a_bin_without_rows_has_no_value_and_an_unknown_group_no_curve():
    curves = reliability([0.0, 0.05, 1.0], [0, 1, 1], {"sex": ["f", "f", None]}, n_bootstrap=3)
    assert curves.groupby("group", sort=False)["n"].sum().to_dict() == {EVERYONE: 3, "f": 2}
    empty = curves[curves["n"] == 0]
    assert empty[["score", "value", "low", "high"]].isna().all(axis=None)
    assert (empty["draws"] == 0).all()
    assert curves.query("attribute == 'sex' and n > 0")[["from", "to", "value"]].to_numpy().tolist() == [[0, 0.1, 0.5]]


def test_intervals_are_over_subjects():
    """Ten images of a patient are one observation, and the interval of a share is that of its resampled rows."""
    score, label, groups = sample()
    names = [f"p{row}" for row in range(len(score))]
    once = reliability(score, label, groups, names)
    ten = reliability(
        np.repeat(score, 10),
        np.repeat(label, 10),
        {k: np.repeat(v, 10) for k, v in groups.items()},
        np.repeat(names, 10),
    )
    figures = ["score", "value", "low", "high"]
    np.testing.assert_allclose(once[figures], ten[figures], atol=0.03)
    rng, inside = np.random.default_rng(7), (score >= 0.3) & (score < 0.4)
    drawn = [label[rows][inside[rows]].mean() for rows in rng.integers(0, len(score), (1500, len(score)))]
    own = once[(once["group"] == EVERYONE) & (once["from"] == 0.3)].iloc[0]
    assert [own["low"], own["high"]] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)


def test_weights_of_whole_numbers_are_repeated_rows():
    score, label, groups = sample(80)
    times = np.random.default_rng(5).integers(0, 4, 80)
    rows = np.repeat(np.arange(80), times)
    weighted = reliability(score, label, {"sex": groups["sex"]}, n_bootstrap=2, weights=times)
    repeated = reliability(score[rows], label[rows], {"sex": groups["sex"][rows]}, n_bootstrap=2)
    pandas.testing.assert_frame_equal(weighted[["score", "value"]], repeated[["score", "value"]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [0.1, 2]}, "scores: 1 of 2 not in"),
        ({"groups": {}}, "groups: no attribute"),
        ({"n_bootstrap": 0}, "n_bootstrap, level: 0, 0.95 out of range"),
        ({"weights": [1]}, r"weights: shape \(1,\) for 2 scores"),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(InputError, match=message):
        reliability(**{"scores": [0.1, 0.9], "labels": [0, 1], "groups": {"sex": ["f", "m"]}} | change)
