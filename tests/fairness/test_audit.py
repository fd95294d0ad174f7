"""The audit: every figure by masks and by fairlearn, coverage of intervals, and the level of tests."""

import json
import math

import numpy as np
import pandas
import pytest
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    demographic_parity_ratio,
    equal_opportunity_difference,
    equalized_odds_difference,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, roc_auc_score

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.audit import EVERYONE, audit
from synthfair_hf.fairness.rates import METRICS
from synthfair_hf.fairness.summaries import SUMMARIES


def sample(n=300, seed=0, levels=("a", "b", "c"), ties=False, effect=0.0):
    """Scores, labels, groups; scores are less accurate by `effect` in the first of `levels`."""
    rng = np.random.default_rng(seed)
    group, label = rng.choice(levels, n), rng.integers(0, 2, n)
    score = 1 / (1 + np.exp(-rng.normal(size=n) - label * (1 - effect * (group == levels[0]))))
    return (score.round(1) if ties else score), label, group


def quick(*args, **settings):
    return audit(*args, **{"n_bootstrap": 2, "permutations": 0} | settings)


def values(table, attribute="group"):
    """(metric of a group, figure over groups) by name."""
    groups = table.groups[table.groups["attribute"] == attribute].set_index(["group", "metric"])["value"]
    return groups, table.gaps[table.gaps["attribute"] == attribute].set_index("metric")["value"]


def by_pairs(score, label):
    return np.mean(score[label == 1][:, None] > score[label == 0][None])


def by_hand(score, label, threshold):
    """METRICS by masks and loops."""
    chosen, present = score >= threshold, label == 1
    pairs = np.sign(score[present][:, None] - score[~present][None]) / 2 + 0.5

    def share(event, among):
        return event[among].mean() if among.any() else np.nan

    bins = [((score >= k / 10) | (k == 0)) & ((score < (k + 1) / 10) | (k == 9)) for k in range(10)]
    calibration = sum(m.sum() * abs(label[m].mean() - score[m].mean()) for m in bins if m.any()) / max(1, len(score))
    everything = np.ones(len(score), dtype=bool)
    return {
        "auc": pairs.mean() if pairs.size else np.nan,
        "accuracy": share(chosen == present, everything),
        "tpr": share(chosen, present),
        "fpr": share(chosen, ~present),
        "ppv": share(present, chosen),
        "selection_rate": share(chosen, everything),
        "ece": calibration if len(score) else np.nan,
        "brier": share((score - label) ** 2, everything),
        "underdiagnosis_rate": share(~chosen, present),
        "calibration_in_the_large": label.mean() - score.mean() if len(score) else np.nan,
    }


@given(st.integers(0, 10**6), st.integers(1, 60), st.booleans(), st.sampled_from([0.05, 0.45, 0.5, 1]))
@settings(max_examples=30)
def test_metrics_of_groups_are_brute_force(seed, n, ties, threshold):
    score, label, group = sample(n, seed, ties=ties)
    # edges of bins as the module has them: 0.3 is not 3 * 0.1
    score = np.where(np.isclose(score * 10 % 1, 0) | np.isclose(score * 10 % 1, 1), (score + 1e-3).clip(0, 1), score)
    found, _ = values(quick(score, label, {"group": group}, threshold=threshold))
    for name in np.unique(group):
        expected = by_hand(score[group == name], label[group == name], threshold)
        assert found[name][list(METRICS)].to_dict() == pytest.approx(expected, nan_ok=True)
        assert list(expected) == list(METRICS)


@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([0.01, 0.1, 0.37, 1.0]))
@settings(max_examples=30)
def test_partial_auc_is_sklearns(seed, ties, max_fpr):
    score, label, group = sample(120, seed, ties=ties)
    times = np.random.default_rng((seed, 1)).integers(0, 3, 120)
    for weights in (None, times):
        found, gaps = values(quick(score, label, {"group": group}, max_fpr=max_fpr, weights=weights))
        for name in "abc":
            own = group == name
            mass = None if weights is None else weights[own]
            expected = roc_auc_score(label[own], score[own], max_fpr=max_fpr, sample_weight=mass)
            assert found[name, "partial_auc"] == pytest.approx(expected)
        assert gaps["partial_auc_gap"] == pytest.approx(np.ptp(found[:, "partial_auc"]))
    if max_fpr == 1:
        assert found["a", "partial_auc"] == pytest.approx(found["a", "auc"])


def test_partial_auc_is_where_it_is_asked_for_and_changes_no_other_figure():
    score, label, group = sample()
    few = {"n_bootstrap": 20, "permutations": 20}
    plain, asked = (audit(score, label, {"group": group}, max_fpr=one, **few) for one in (None, 0.2))
    for name in ("groups", "gaps"):
        frame = getattr(asked, name)
        others = frame[~frame["metric"].str.startswith("partial_auc")].reset_index(drop=True)
        pandas.testing.assert_frame_equal(others, getattr(plain, name))
    assert "max_fpr" not in plain.settings
    found = asked.gaps.set_index("metric").loc["partial_auc_gap"]
    assert found["low"] < found["high"]
    assert 0 < found["p"] <= 1
    one_label = quick(score[label == 1], label[label == 1], {"group": group[label == 1]}, max_fpr=0.2)
    assert one_label.groups.query("metric == 'partial_auc'")["value"].isna().all()


def test_the_interval_of_partial_auc_is_that_of_resampled_rows():
    score, label, group = sample(400, ties=True)
    table = audit(score, label, {"group": group}, max_fpr=0.3, n_bootstrap=800, permutations=0)
    rng = np.random.default_rng(5)
    drawn = [roc_auc_score(label[rows], score[rows], max_fpr=0.3) for rows in rng.integers(0, 400, (800, 400))]
    row = table.groups.set_index(["group", "metric"]).loc[(EVERYONE, "partial_auc")]
    assert [row["low"], row["high"]] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.01)


def test_bins_hold_their_lower_edge_and_the_last_both():
    score = np.array([0.0, 0.1, 0.1, 0.9, 1.0])
    found, _ = values(quick(score, np.array([1, 0, 1, 0, 1]), {"group": ["a"] * 5}))
    assert found["a", "ece"] == pytest.approx((1 + abs(1 - 0.2) + abs(1 - 1.9)) / 5)


@given(st.integers(0, 10**6), st.sampled_from([2, 4]), st.booleans())
@settings(max_examples=8)
def test_figures_are_fairlearns(seed, count, ties):
    score, label, group = sample(200, seed, levels=tuple("abcd"[:count]), ties=ties)
    _, found = values(quick(score, label, {"group": group}))
    chosen, named = (score >= 0.5).astype(int), {"sensitive_features": group}
    assert found["equalized_odds_max_difference"] == pytest.approx(equalized_odds_difference(label, chosen, **named))
    mean = equalized_odds_difference(label, chosen, **named, agg="mean")
    assert found["equalized_odds_mean_difference"] == pytest.approx(mean)
    assert found["equalized_odds_one_minus_mean"] == pytest.approx(1 - mean)
    for name, function in (
        ("equal_opportunity_difference", equal_opportunity_difference),
        ("demographic_parity_difference", demographic_parity_difference),
        ("demographic_parity_ratio", demographic_parity_ratio),
    ):
        assert found[name] == pytest.approx(function(label, chosen, **named))
    for name, metric, prediction in (("auc", roc_auc_score, score), ("accuracy", accuracy_score, chosen)):
        frame = MetricFrame(metrics=metric, y_true=label, y_pred=prediction, **named)
        assert found[f"{name}_gap"] == pytest.approx(frame.difference())
        assert found[f"{name}_ratio"] == pytest.approx(frame.ratio())
        assert found[f"{name}_worst"] == pytest.approx(frame.group_min())


@given(st.integers(0, 10**6))
@settings(max_examples=8)
def test_composites_are_their_formulas(seed):
    score, label, group = sample(150, seed)
    groups, found = values(quick(score, label, {"group": group}))
    right = (score >= 0.5) == label
    cells = [right[(group == name) & (label == side)].mean() for name in "abc" for side in (0, 1)]
    assert found["worst_group_accuracy"] == pytest.approx(min(cells))
    assert found["adjusted_accuracy"] == pytest.approx(np.mean(cells))
    overall = roc_auc_score(label, score)
    apart = sum(abs(groups[name, "auc"] - overall) for name in "abc")
    assert found["equity_scaled_auc"] == pytest.approx(overall / (1 + apart))
    assert found["underdiagnosis_rate_gap"] == pytest.approx(found["equal_opportunity_difference"])
    assert found["underdiagnosis_rate_worst"] == pytest.approx(1 - found["tpr_worst"])


def test_underdiagnosis_is_the_false_positive_rate_of_no_finding():
    score, label, group = sample()
    found, _ = values(quick(score, label, {"group": group}))
    # a score of exactly the threshold would change sides
    healthy, _ = values(quick(1 - score, 1 - label, {"group": group}))
    for name in "abc":
        assert found[name, "underdiagnosis_rate"] == pytest.approx(healthy[name, "fpr"])


def test_intersections_are_the_groups_of_joined_names_with_the_empty_ones_kept():
    score, label, sex = sample(levels=("f", "m"))
    age = np.where((sex == "f") | (score < 0.5), "old", "young")
    table = quick(score, label, {"sex": sex, "age": age}, intersections=[("sex", "age")])
    joined = np.char.add(np.char.add(sex, " & "), age)
    direct, _ = values(quick(score, label, {"group": joined}))
    found, _ = values(table, "sex & age")
    for name in np.unique(joined):
        pandas.testing.assert_series_equal(found[name], direct[name])
    empty = table.groups[table.groups["group"] == "f & young"]
    assert empty["value"].isna().all()
    assert empty["low"].isna().all()
    assert (empty["n"] == 0).all()
    gaps = table.gaps[table.gaps["attribute"] == "sex & age"].set_index("metric")
    assert gaps.loc["accuracy_gap", ["compared", "left_out"]].tolist() == [3, 1]


def test_a_group_without_positives_is_left_out_of_gaps_that_need_them_and_counted():
    score, label, group = sample()
    label = np.where(group == "c", 0, label)
    table = quick(score, label, {"group": group})
    two = quick(score[group != "c"], label[group != "c"], {"group": group[group != "c"]})
    gaps, expected = (one.gaps.set_index("metric") for one in (table, two))
    for metric in ("auc_gap", "equal_opportunity_difference", "equalized_odds_max_difference"):
        assert gaps.loc[metric, ["compared", "left_out"]].tolist() == [2, 1]
        assert gaps.loc[metric, "value"] == expected.loc[metric, "value"]
    assert gaps.loc["fpr_gap", "left_out"] == 0
    assert gaps.loc["worst_group_accuracy", ["compared", "left_out"]].tolist() == [5, 1]
    rows = table.groups.set_index(["group", "metric"])
    assert np.isnan(rows.loc[("c", "tpr"), "value"])
    assert rows.loc[("c", "tpr"), ["n", "positives"]].tolist() == [(group == "c").sum(), 0]


def test_gaps_of_one_group_have_no_value():
    score, label, _ = sample()
    table = audit(score, label, {"group": ["a"] * len(score)}, n_bootstrap=2, permutations=2)
    assert table.gaps.query("metric != 'worst_group_accuracy' and metric != 'adjusted_accuracy'")["value"].isna().all()
    assert table.gaps.set_index("metric").loc["auc_gap", ["compared", "permutations"]].tolist() == [1, 0]


def test_rows_of_unknown_group_are_counted_and_kept_out():
    score, label, group = sample()
    column = [None if name == "c" else str(name) for name in group]
    table = quick(score, label, {"group": column})
    known = group != "c"
    inside = quick(score[known], label[known], {"group": group[known]})
    assert (table.gaps["unknown"] == (~known).sum()).all()
    assert (table.gaps["n"] == known.sum()).all()
    pandas.testing.assert_series_equal(table.gaps["value"], inside.gaps["value"])
    everyone = table.groups[table.groups["attribute"] == EVERYONE]
    assert (everyone["n"] == len(score)).all()


def test_a_categorical_keeps_its_order_and_its_empty_groups():
    score, label, group = sample(levels=("a", "b"))
    column = pandas.Categorical(group, categories=["b", "z", "a"])
    table = quick(score, label, {"group": column})
    assert table.groups["group"].drop_duplicates().tolist() == [EVERYONE, "b", "z", "a"]


def test_ends_are_named():
    score, label, group = sample(effect=2.0)
    gaps = quick(score, label, {"group": group}).gaps.set_index("metric")
    assert gaps.loc["auc_gap", "lowest"] == "a"
    assert gaps.loc["underdiagnosis_rate_gap", "highest"] == "a"
    assert gaps.loc["worst_group_accuracy", "lowest"] == "present: a"
    assert pandas.isna(gaps.loc["equalized_odds_max_difference", "lowest"])


def test_the_interval_is_that_of_resampled_rows():
    """Against a bootstrap by hand, with other random numbers."""
    score, label, group = sample(400)
    table = audit(score, label, {"group": group}, n_bootstrap=1500, permutations=0)
    rng, found = np.random.default_rng(5), []
    for _ in range(1500):
        rows = rng.integers(0, 400, 400)
        areas = [by_pairs(score[own], label[own]) for own in (rows[group[rows] == name] for name in "abc")]
        found.append((areas[0], np.ptp(areas)))
    low, high = np.quantile(found, [0.025, 0.975], axis=0)
    area = table.groups.set_index(["group", "metric"]).loc[("a", "auc")]
    gap = table.gaps.set_index("metric").loc["auc_gap"]
    assert [area["low"], gap["low"]] == pytest.approx(low, abs=0.01)
    assert [area["high"], gap["high"]] == pytest.approx(high, abs=0.01)


def test_ten_films_of_a_patient_are_one_observation():
    score, label, group = sample(60, levels=("a", "b"))
    names = [f"p{row}" for row in range(60)]
    settings = {"n_bootstrap": 300, "permutations": 300}
    once = audit(score, label, {"group": group}, names, **settings)
    ten = audit(
        *(np.repeat(column, 10) for column in (score, label)),
        {"group": np.repeat(group, 10)},
        np.repeat(names, 10),
        **settings,
    )
    for frame in ("groups", "gaps"):
        one, many = getattr(once, frame), getattr(ten, frame)
        bounds = ["value", "low", "high"]
        np.testing.assert_allclose(one[bounds], many[bounds], atol=1e-9)
        assert (many["n"] == 10 * one["n"]).all()
        assert (many["subjects"] == one["subjects"]).all()
    assert once.gaps["p"].to_numpy() == pytest.approx(ten.gaps["p"].to_numpy(), abs=0.12)
    separate = audit(np.repeat(score, 10), np.repeat(label, 10), {"group": np.repeat(group, 10)}, **settings)
    widths = [(one.gaps["high"] - one.gaps["low"]).mean() for one in (ten, separate)]
    assert widths[0] > 2 * widths[1]


def test_replicates_without_a_rare_group_are_left_out_and_counted():
    score, label, group = sample(50, levels=("a", "b"))
    group[:] = "a"
    group[0] = "b"
    gaps = audit(score, label, {"group": group}, n_bootstrap=2000, permutations=0).gaps.set_index("metric")
    assert gaps.loc["accuracy_gap", "draws"] / 2000 == pytest.approx(1 - (1 - 1 / 50) ** 50, abs=0.04)


def test_a_planted_gap_is_found_and_the_record_is_plain():
    score, label, group = sample(600, levels=("a", "b"), effect=1.5)
    table = audit(score, label, {"group": group}, n_bootstrap=200, permutations=200)
    gaps = table.gaps.set_index("metric")
    assert (gaps.loc[["auc_gap", "equalized_odds_max_difference", "equity_scaled_auc"], "p"] < 0.02).all()
    record = json.loads(json.dumps(table.to_record(), allow_nan=False))
    assert record["settings"]["n"] == 600
    assert len(record["gaps"]) == len(SUMMARIES)
    ends = next(row for row in record["gaps"] if row["metric"] == "equalized_odds_max_difference")
    assert ends["lowest"] is None


@pytest.mark.parametrize("clustered", [False, True])
def test_without_a_gap_five_percent_of_tests_reject(clustered):
    """Prevalence differs by group, which is no gap given the label; images of a patient share a part of the score."""
    rejected, trials = 0, 100
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        patient = np.repeat(np.arange(30), 4) if clustered else np.arange(120)
        group = np.array(["a", "b"])[rng.integers(0, 2, 120)[patient]]
        label = (rng.random(120)[patient] < np.where(group == "a", 0.3, 0.6)).astype(int)
        score = 1 / (1 + np.exp(-(2 * rng.normal(size=120)[patient] + rng.normal(size=120)) - label))
        table = audit(score, label, {"group": group}, patient, n_bootstrap=1, permutations=19, seed=trial)
        rejected += table.gaps.set_index("metric").loc["auc_gap", "p"] <= 0.05
    assert rejected / trials < 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)
    assert rejected > 0


def test_figures_of_an_attribute_depend_on_the_seed_and_not_on_other_attributes():
    score, label, group = sample()
    few = {"n_bootstrap": 20, "permutations": 20}
    alone = audit(score, label, {"group": group}, **few)
    beside = audit(score, label, {"other": group[::-1], "group": group}, **few)
    own = beside.gaps[beside.gaps["attribute"] == "group"].reset_index(drop=True)
    pandas.testing.assert_frame_equal(alone.gaps, own)
    assert not alone.gaps.equals(audit(score, label, {"group": group}, seed=1, **few).gaps)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"scores": np.full((4, 3), 1 / 3)},
            r"scores: shape \(4, 3\) is invalid, for multi-class scores are not supported",
        ),
        ({"scores": [0.1, 0.2, 0.3, 1.5]}, r"scores: 1 of 4 not in \[0, 1\], such as 1\.5"),
        ({"scores": [0.1, 0.2, 0.3, np.nan]}, "scores: 1 of 4 not in"),
        ({"scores": []}, "scores: 0 of 0 not in .*give one or more"),
        ({"scores": ["high"] * 4}, "scores: not all are numbers"),
        ({"labels": [0, 1, 2, 1]}, "labels: 1 of 4 neither 0 nor 1, such as 2"),
        ({"labels": [0, 1]}, r"labels: shape \(2,\) for 4 scores"),
        ({"groups": {}}, "groups: no attribute"),
        ({"groups": {"sex": ["f"]}}, r"groups\['sex'\]: 1 values for 4 scores"),
        ({"groups": {"age": [30, 40, 50, 60]}}, r"groups\['age'\]: 30 is no name"),
        ({"groups": {"sex": [None] * 4}}, r"groups\['sex'\]: no row has a value"),
        ({"subjects": ["p"]}, r"subjects: \['p'\] is not one identifier for each of 4 scores"),
        ({"subjects": ["p", None, "q", "r"]}, "subjects: 1 of 4 are missing"),
        ({"intersections": [("sex", "race")]}, "intersections: 'race' is unknown; allowed: sex"),
        ({"intersections": [("sex",)]}, "name two or more attributes"),
        ({"threshold": 2}, "threshold: 2 is invalid; give a finite number from 0 to 1"),
        ({"max_fpr": 0}, "max_fpr: 0 is invalid"),
        ({"max_fpr": 1.5}, "max_fpr: 1.5 is invalid"),
        ({"n_bootstrap": 0}, "n_bootstrap, permutations, level: 0, 1000, 0.95 out of range"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {"scores": [0.1, 0.4, 0.6, 0.9], "labels": [0, 1, 0, 1], "groups": {"sex": ["f", "m", "f", "m"]}}
    with pytest.raises(InputError, match=message):
        audit(**given | change)


def test_groups_without_their_attribute_are_one_sentence():
    with pytest.raises(InputError, match=r"groups: \['a', 'b'\] is invalid; give a mapping"):
        audit([0.1, 0.9], [0, 1], ["a", "b"])


def test_weights_of_whole_numbers_are_repeated_rows():
    rng = np.random.default_rng(5)
    labels, scores = rng.integers(0, 2, 60), rng.integers(0, 11, 60) / 10
    sex, times = rng.choice(["f", "m"], 60), rng.integers(0, 4, 60)
    weighted = audit(scores, labels, {"sex": sex.tolist()}, n_bootstrap=5, permutations=0, weights=times.tolist())
    rows = np.repeat(np.arange(60), times)
    repeated = audit(scores[rows], labels[rows], {"sex": sex[rows].tolist()}, n_bootstrap=5, permutations=0)
    for name in ("groups", "gaps"):
        found, expected = (getattr(table, name)["value"].to_numpy() for table in (weighted, repeated))
        assert found == pytest.approx(expected, nan_ok=True)
    assert weighted.settings["weighted"]
    assert "weighted" not in repeated.settings


def test_equal_weights_change_no_figure():
    rng = np.random.default_rng(6)
    labels, scores = rng.integers(0, 2, 40), rng.random(40)
    given = (scores, labels, {"sex": rng.choice(["f", "m"], 40).tolist()}, rng.integers(0, 20, 40).tolist())
    plain, weighted = (audit(*given, n_bootstrap=20, permutations=20, weights=one) for one in (None, [0.5] * 40))
    for name in ("groups", "gaps"):
        pandas.testing.assert_frame_equal(getattr(plain, name), getattr(weighted, name))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"weights: shape \(1,\) for 2 scores"),
        ([1, -1], "weights: 1 of 2 negative or not finite, such as -1"),
        ([1, math.nan], "weights: 1 of 2 negative or not finite"),
        ([0, 0], "weights: all 2 are 0; give some row a weight, or leave the weights out"),
        (["a", 1], "weights: not all are numbers"),
    ],
)
def test_bad_weights_are_named(weights, message):
    with pytest.raises(InputError, match=message):
        audit([0.1, 0.9], [0, 1], {"sex": ["f", "m"]}, weights=weights)


def test_a_group_of_one_subject_has_no_interval():
    found = audit([0.9, 0.2, 0.8, 0.3], [1, 0, 1, 0], {"sex": ["f", "f", "m", "f"]}, n_bootstrap=20, permutations=0)
    alone = found.groups[found.groups["group"] == "m"].set_index("metric").loc["accuracy"]
    assert (alone["value"], alone["n"]) == (1, 1)
    assert np.isnan(alone[["low", "high"]].astype(float)).all()
