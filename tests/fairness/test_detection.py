"""Detection: no verdict without bias, the right one with it, whatever the names, the order and the finding."""

import importlib.util
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import mutual_info_score, roc_auc_score

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.audit import audit
from synthfair_hf.fairness.classifier import FittingSettings, new_classifier
from synthfair_hf.fairness.detection import Detection, Scores, against, detect, score
from synthfair_hf.fairness.detectors import DETECTORS, _mutual_information
from synthfair_hf.fairness.permutation import holm

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "detection.py"
FEW = {"permutations": 59}


@pytest.fixture(scope="module")
def benchmark():
    specification = importlib.util.spec_from_file_location("detection_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def simulated(benchmark):
    return benchmark.simulated


def with_group(examples, name, codes, count):
    """The same rows with one more attribute."""
    groups = {**examples.groups, name: torch.from_numpy(np.asarray(codes, dtype=np.int64))}
    return replace(examples, groups=groups, levels={**examples.levels, name: tuple(map(str, range(count)))})


def third_group(examples, seed=0):
    """An attribute of three levels that every family crosses."""
    codes = np.random.default_rng(seed).integers(0, 3, len(examples))
    return with_group(examples, "site", codes, 3)


# -- laws of the detectors


@pytest.mark.parametrize("detector", DETECTORS)
def test_without_bias_an_attribute_is_named_no_more_often_than_alpha(detector, simulated):
    worlds, alpha = 40, 0.1
    verdicts = []
    for seed in range(worlds):
        scores, examples = simulated("sex", 50, seed, families=20)
        verdicts.append(detect(scores, examples, ["sex", "age"], detector, seed, alpha, permutations=39).verdict)
    alarms = sum(verdict is not None for verdict in verdicts)
    assert alarms <= binom.ppf(0.999, worlds, alpha)


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_finding_is_no_evidence_against_what_comes_with_it(detector, simulated):
    """The score follows the finding alone, and so do the features; the attribute agrees with it in 85 % of rows."""
    worlds = 20
    alarms = 0
    for seed in range(worlds):
        scores, examples = simulated("sex", 50, seed, families=25)
        rng = np.random.default_rng([seed, 1])
        labels = examples.labels.numpy()
        codes = np.where(rng.random(len(labels)) < 0.85, labels, 1 - labels)
        examples = with_group(examples, "follower", codes, 2)
        examples.pairs["follower"] = examples.pairs["sex"]
        found = detect(scores, examples, ["follower"], detector, seed, permutations=39)
        assert np.isfinite(found.table["statistic"]).all()
        alarms += found.verdict is not None
    assert alarms <= binom.ppf(0.999, worlds, 0.05)


@pytest.mark.parametrize("planted", ["sex", "age"])
@pytest.mark.parametrize("detector", DETECTORS)
def test_what_is_planted_is_found(detector, planted, simulated):
    scores, examples = simulated(planted, 90, 0, families=40)
    found = detect(scores, examples, ["sex", "age", "scanner"], detector, **FEW)
    if detector == "counterfactual" and planted == "age":
        # no row has a twin of another age
        assert found.verdict is None
        return
    assert (found.top, found.verdict) == (planted, planted)
    line = found.table.set_index("attribute").loc[planted]
    assert line["rank"] == 1
    assert found.largest == line["statistic"]
    assert line["p"] == 1 / 60


@pytest.mark.parametrize("detector", DETECTORS)
def test_order_of_attributes_and_names_of_levels_do_not_matter(detector, simulated):
    scores, examples = simulated("scanner", 70, 0, families=20)
    examples = third_group(examples)
    examples.pairs["site"] = examples.pairs["sex"]
    there = detect(scores, examples, ["sex", "site", "scanner"], detector, **FEW)
    groups = {
        **examples.groups,
        "site": (examples.groups["site"] + 1) % 3,
        "sex": 1 - examples.groups["sex"],
    }
    renamed = replace(examples, groups=groups, levels={**examples.levels, "sex": ("x", "y"), "site": ("r", "s", "t")})
    back = detect(scores, renamed, ["scanner", "site", "sex"], detector, **FEW)
    assert back.verdict == there.verdict
    pandas.testing.assert_frame_equal(
        there.table.set_index("attribute").sort_index(), back.table.set_index("attribute").sort_index()
    )


@pytest.mark.parametrize("detector", DETECTORS)
def test_what_cannot_be_said_is_none_beside_its_n(detector, simulated):
    scores, examples = simulated("sex", 90, 0, families=20)
    examples = with_group(examples, "single", np.zeros(len(examples)), 2)
    examples = with_group(examples, "finding", examples.labels.numpy(), 2)
    found = detect(scores, examples, ["single", "finding", "sex"], detector, **FEW)
    table = found.table.set_index("attribute")
    assert table.loc[["single", "finding"], ["statistic", "p", "p_adjusted", "rank"]].isna().all(axis=None)
    assert table.loc[["single", "finding"], "n"].tolist() == [0, 0]
    assert table.loc["single", "reason"] == "fewer than two groups with rows of both labels"
    assert found.verdict == "sex"
    # undefined attributes are not corrected for
    assert table.loc["sex", "p_adjusted"] == table.loc["sex", "p"]
    undefined = detect(scores, examples, ["single"], detector, **FEW)
    assert (undefined.top, undefined.verdict) == (None, None)
    assert np.isnan(undefined.largest)


def test_without_pairs_the_counterfactual_detector_says_so(simulated):
    scores, examples = simulated("sex", 90, 0, families=10)
    table = detect(scores, replace(examples, pairs={}), ["sex", "age"], "counterfactual", **FEW).table
    assert table["reason"].tolist() == ["no counterfactual pairs"] * 2
    assert table["n"].tolist() == [0, 0]
    alone = {"sex": np.arange(len(examples)).astype(str)}
    table = detect(scores, replace(examples, pairs=alone), ["sex"], "counterfactual", **FEW).table
    assert table["reason"].tolist() == ["no counterfactual pairs of both labels"]


# -- each statistic another way


def test_gaps_are_those_of_an_audit(simulated):
    scores, examples = simulated("sex", 70, 3, families=20)
    examples = third_group(examples)
    found = detect(scores, examples, ["sex", "site"], "subgroup_gap", **FEW).table.set_index("attribute")
    probabilities, labels = 1 / (1 + np.exp(-scores.logits)), examples.labels.numpy()
    names = {name: examples.groups[name].numpy().astype(str) for name in ("sex", "site")}
    gaps = audit(probabilities, labels, names, n_bootstrap=1, permutations=0).gaps.set_index(["attribute", "metric"])[
        "value"
    ]
    for name in names:
        expected = [gaps[name, gap] for gap in ("auc_gap", "tpr_gap", "fpr_gap")]
        assert found.loc[name, ["auc_gap", "tpr_gap", "fpr_gap"]].tolist() == pytest.approx(expected)
        assert found.loc[name, "statistic"] == pytest.approx(max(expected))


def test_shifts_are_loops_over_pairs(simulated):
    scores, examples = simulated("sex", 70, 3, families=12)
    rng = np.random.default_rng(0)
    kept = rng.random(len(examples)) < 0.8
    examples, logits = examples.select(kept), scores.logits[kept]
    found = detect(Scores(logits, scores.features[kept]), examples, ["sex"], "counterfactual", **FEW).table.iloc[0]
    labels, sex, keys = examples.labels.numpy(), examples.groups["sex"].numpy(), examples.pairs["sex"]
    scale = np.sqrt(np.mean([logits[labels == label].var() for label in (0, 1)]))
    shifts = {0: [], 1: []}
    for one, other in itertools.product(range(len(keys)), repeat=2):
        if keys[one] == keys[other] and (sex[one], sex[other]) == (0, 1):
            shifts[labels[one]].append((logits[other] - logits[one]) / scale)
    means = [np.mean(shifts[label]) for label in (1, 0)]
    assert found["statistic"] == pytest.approx(abs(np.mean(means)))
    sign = np.sign(np.mean(means))
    assert found[["shift_present", "shift_absent"]].tolist() == pytest.approx([sign * mean for mean in means])
    assert found["mean_absolute_shift"] == pytest.approx(np.mean(np.abs(shifts[0] + shifts[1])))
    assert found["n"] == len(shifts[0]) + len(shifts[1])


def test_shifts_that_differ_by_label_are_in_the_parts(simulated):
    """A score separates one sex better, so rises with the finding and falls without: shifts cancel, parts differ."""
    scores, examples = simulated("sex", 50, 0, families=20)
    sign = 2 * examples.labels.numpy() - 1
    moved = scores._replace(logits=1.0 * sign * examples.groups["sex"].numpy())
    line = detect(moved, examples, ["sex"], "counterfactual", **FEW).table.iloc[0]
    assert line["statistic"] == pytest.approx(0)
    assert line["shift_present"] == pytest.approx(-line["shift_absent"])
    assert abs(line["shift_present"]) == pytest.approx(line["mean_absolute_shift"])
    assert line["mean_absolute_shift"] > 0


def test_scores_that_do_not_see_the_attribute_do_not_shift(simulated):
    _, examples = simulated("sex", 50, 0, families=10)
    constant = Scores(examples.labels.numpy().astype(float), np.zeros((len(examples), 2)))
    line = detect(constant, examples, ["sex"], "counterfactual", **FEW).table.iloc[0]
    assert (line["statistic"], line["p"]) == (0, 1)
    # constant features are one slice, and no probe learns from them
    for detector in ("slices", "shortcut"):
        assert detect(constant, examples, ["sex"], detector, **FEW).verdict is None


def test_a_shortcut_must_be_encoded_and_used(simulated):
    scores, examples = simulated("sex", 90, 0, families=40)
    both = detect(scores, examples, ["sex"], "shortcut", **FEW).table.iloc[0]
    labels, sex = examples.labels.numpy(), examples.groups["sex"].numpy()
    areas = [roc_auc_score(sex[labels == label], scores.logits[labels == label]) for label in (0, 1)]
    assert abs(2 * both["score_auc"] - 1) == pytest.approx(abs(2 * np.mean(areas) - 1))
    assert both["statistic"] == pytest.approx(2 * min(both["probe_auc"], both["score_auc"]) - 1)
    unused, _ = simulated("sex", 50, 0, families=40)
    encoded = detect(unused, examples, ["sex"], "shortcut", **FEW)
    assert encoded.table["probe_auc"].iloc[0] > 0.8
    assert encoded.verdict is None
    noise = np.random.default_rng(0).normal(size=scores.features.shape)
    used = detect(scores._replace(features=noise), examples, ["sex"], "shortcut", **FEW)
    assert used.table["score_auc"].iloc[0] > 0.8
    assert used.verdict is None


@given(st.integers(0, 10**6), st.integers(2, 4))
@settings(max_examples=15)
def test_mutual_information_is_sklearns(seed, groups):
    rng = np.random.default_rng(seed)
    codes, above = rng.integers(0, groups, (3, 40)), rng.integers(0, 2, 40)
    expected = [mutual_info_score(above, row) for row in codes]
    assert _mutual_information(codes, above, groups) == pytest.approx(expected, abs=1e-12)


# -- verdicts


@given(st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), min_size=1, max_size=6))
def test_holm_is_its_definition(values):
    p = np.array(values)
    adjusted = holm(p)
    known = [place for place in range(len(p)) if not np.isnan(p[place])]
    for place in range(len(p)):
        if place not in known:
            assert np.isnan(adjusted[place])
            continue
        # largest over hypotheses with p no larger of p times the number of those whose p is no smaller, by rank
        order = sorted(known, key=lambda one: (p[one], one))
        before = order[: order.index(place) + 1]
        expected = max(min(1, p[one] * (len(order) - order.index(one))) for one in before)
        assert adjusted[place] == pytest.approx(expected)


def detected(statistics, alpha=0.05):
    names = [f"attribute {number}" for number in range(len(statistics))]
    table = pandas.DataFrame({"attribute": names, "statistic": statistics, "p": 1.0, "p_adjusted": 1.0, "rank": 1.0})
    return Detection("slices", table, {"alpha": alpha})


@given(st.integers(0, 10**6), st.integers(3, 25), st.sampled_from([0.05, 0.1, 0.3]))
@settings(max_examples=12)
def test_of_classifiers_judged_by_each_other_a_share_of_alpha_is_named(seed, count, alpha):
    rng = np.random.default_rng(seed)
    every = [detected(row, alpha) for row in rng.exponential(size=(count, 3)) * [1, 5, 0.1]]
    judged = [against(one, every[:place] + every[place + 1 :]) for place, one in enumerate(every)]
    assert sum(one.verdict is not None for one in judged) == int(np.floor(alpha * count + 1e-9))


def test_references_take_away_what_unbiased_classifiers_show():
    """Every classifier leans on the first attribute; one leans on the second more than the others do."""
    rng = np.random.default_rng(0)
    references = [detected(row) for row in np.array([0.5, 0.05, np.nan]) + 0.01 * rng.random((30, 3))]
    dependent = detected([0.505, 0.2, 0.3])
    judged = against(dependent, references)
    assert judged.verdict == judged.top == "attribute 1"
    assert judged.table["z"].isna().tolist() == [False, False, True]
    # too few references for a verdict
    assert against(dependent, references[:10]).verdict is None
    other = replace(references[0], detector="shortcut")
    with pytest.raises(InputError, match="references: shortcut of attribute 0"):
        against(dependent, [other])
    with pytest.raises(InputError, match="references: none"):
        against(dependent, [])


def test_a_record_gives_the_detection_back(simulated):
    scores, examples = simulated("sex", 80, 0, families=10)
    for detector in DETECTORS:
        found = detect(scores, examples, ["sex", "age"], detector, **FEW)
        back = Detection.from_record(json.loads(json.dumps(found.to_record(), allow_nan=False)))
        pandas.testing.assert_frame_equal(back.table, found.table, check_dtype=False)
        assert (back.verdict, back.top, back.settings) == (found.verdict, found.top, found.settings)


def test_a_classifier_is_asked_for_its_scores(simulated):
    _, examples = simulated("sex", 50, 0, families=3)
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, tuple(examples.images.shape), dtype=np.uint8))
    examples = replace(examples, images=images)
    classifier = new_classifier(examples, FittingSettings(channels=(8, 8, 8)), 0)
    outputs = Scores(classifier.logits(images).numpy(), classifier.features(images).numpy())
    for detector in DETECTORS:
        one, other = (detect(source, examples, ["sex"], detector, **FEW) for source in (classifier, outputs))
        pandas.testing.assert_frame_equal(one.table, other.table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"detector": "slice"}, "detector: 'slice' is unknown; .* did you mean 'slices'"),
        ({"attributes": ["race"]}, "attributes: 'race' is unknown; allowed: "),
        ({"attributes": ["sex", "sex"]}, "attributes: 'sex' is given twice"),
        ({"attributes": []}, "attributes: none; give one or more of"),
        ({"alpha": 1.0}, r"alpha: 1 out of range; allowed: \(0, 1\)"),
        ({"permutations": 38, "attributes": ["sex", "age"]}, "permutations: 38 for 2 attributes .* give 39 or more"),
        ({"scores": Scores(np.zeros(3), np.zeros((3, 2)))}, r"scores: logits of shape \(3,\) for 16 rows"),
        ({"scores": Scores(np.full(16, np.inf), np.zeros((16, 2)))}, "16 of them not finite; give finite logits"),
        ({"scores": Scores(np.zeros(16), np.zeros(16))}, r"features of shape \(16,\) for 16 rows"),
    ],
)
def test_bad_input_is_named(change, message, simulated):
    scores, examples = simulated("sex", 50, 0, families=2)
    with pytest.raises(InputError, match=message):
        detect(**{"scores": scores, "examples": examples, "attributes": ["sex"], "detector": "slices", **FEW} | change)


# -- the benchmark


def test_scores_are_counts():
    base = {"detector": "slices", "rule": "permutation", "planted": "sex"}
    rows = [
        {**base, "strength": 50, "seed": seed, "top": "age", "verdict": verdict, "largest": largest}
        for seed, (verdict, largest) in enumerate([(None, 0.1), ("age", 0.5), (None, None), (None, 0.2)])
    ] + [
        {**base, "strength": 90, "seed": seed, "top": top, "verdict": verdict, "largest": largest}
        for seed, (top, verdict, largest) in enumerate([("sex", "sex", 0.6), ("sex", None, 0.3), ("age", "age", 0.2)])
    ]
    table = score(rows, n_bootstrap=200)
    lines = table[table["planted"] == "sex"].set_index(["strength", "metric"])
    value = lines["value"]
    assert (value[50, "false_alarm"], value[90, "top_1"], value[90, "named"]) == (1 / 4, 2 / 3, 1 / 3)
    twins = [0.1, 0.5, -1, 0.2]
    pairs = [(one > other) + (one == other) / 2 for one in (0.6, 0.3, 0.2) for other in twins]
    assert value[90, "auc"] == pytest.approx(np.mean(pairs))
    assert lines["n"].tolist() == [4, 3, 3, 7]
    # the smallest rate under which one alarm or more of four has a chance of 2.5 %
    assert 1 - (1 - lines.loc[(50, "false_alarm"), "low"]) ** 4 == pytest.approx(0.025)
    pandas.testing.assert_frame_equal(
        table[table["planted"] == "any"].drop(columns="planted").reset_index(drop=True),
        table[table["planted"] == "sex"].drop(columns="planted").reset_index(drop=True),
    )
    with pytest.raises(InputError, match="rows: no 'largest'"):
        score([{"detector": "slices"} | dict.fromkeys(("rule", "planted", "strength", "seed", "top", "verdict"))])


def test_the_benchmark_goes_on_where_it_was_cut_off(benchmark, tmp_path, capsys):
    arguments = ["--quick", "--output_dir", str(tmp_path), "--strengths", "50", "80", "--planted", "sex"]
    arguments += ["--seeds", "2", "--permutations", "59"]
    benchmark.main(arguments)
    cells, page = tmp_path / "cells.jsonl", (tmp_path / "README.md").read_bytes()
    whole = cells.read_bytes()
    assert len(whole.splitlines()) == 4
    cells.write_bytes(whole[:-100])
    capsys.readouterr()
    benchmark.main(arguments)
    assert "4/4 sex 80 seed 1" in (printed := capsys.readouterr().out)
    assert "3/4" not in printed
    assert cells.read_bytes() == whole
    assert (tmp_path / "README.md").read_bytes() == page
    record = json.loads((tmp_path / "detection.json").read_bytes())
    assert record["counts"] == {"cells": 4, "test_rows": 800}
