"""Regions of equal size that differ in their place alone, training sets of exact shares, and figures by strength."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthfair_hf.domains.presets import get_preset
from synthfair_hf.fairness.labelled import LabelledImages
from synthfair_hf.records import Record

BENCHMARKS = str(Path(__file__).parents[3] / "benchmarks")


@pytest.fixture(scope="module")
def modules():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return {name: importlib.import_module(name) for name in ("box_alignment", "radiographs", "strengths")}


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=40, max_size=200), st.integers(0, 1000))
def test_a_correlated_set_has_its_shares_and_no_row_that_could_be_added(modules, cells, seed):
    labels, inside = np.array(cells, dtype=int).T
    kept = modules["box_alignment"].correlated(labels, inside.astype(bool), np.random.default_rng(seed))
    assert len(set(kept.tolist())) == len(kept)
    assert (np.diff(kept) > 0).all()
    for label, share in ((1, 0.9), (0, 0.1)):
        own = inside[kept][labels[kept] == label]
        assert abs(own.sum() - share * len(own)) <= 1
        available = [int(((labels == label) & (inside == side)).sum()) for side in (1, 0)]
        left = [available[0] - own.sum(), available[1] - (len(own) - own.sum())]
        # of one of the two cells every row is there
        assert min(left) == 0


@given(st.integers(1, 30), st.integers(1, 30))
def test_a_balanced_set_has_every_row_and_as_many_of_either_label(modules, present, absent):
    labels = np.repeat([1, 0], [present, absent])
    rows = modules["box_alignment"].balanced(labels)
    assert set(rows.tolist()) == set(range(len(labels)))
    assert labels[rows].sum() * 2 == len(rows) == 2 * max(present, absent)
    counts = np.bincount(rows)
    for label in (0, 1):
        assert np.ptp(counts[labels == label]) <= 1


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 1000))
def test_a_moved_box_keeps_its_size_and_has_its_centre_in_the_lungs(modules, height, width, seed):
    lungs = np.zeros((32, 32), bool)
    lungs[8:24, 4:28] = True
    rows, columns = modules["radiographs"].moved(
        (slice(0, height), slice(0, width)), lungs, np.random.default_rng(seed)
    )
    assert (rows.stop - rows.start, columns.stop - columns.start) == (height, width)
    assert min(rows.start, columns.start) >= 0
    assert max(rows.stop, columns.stop) <= 32
    assert lungs[rows.start + height // 2, columns.start + width // 2]


def test_moved_boxes_reach_every_place_and_a_box_without_one_stays(modules):
    lungs = np.ones((6, 6), bool)
    own, rng = (slice(1, 4), slice(2, 4)), np.random.default_rng(0)
    places = {tuple(one.start for one in modules["radiographs"].moved(own, lungs, rng)) for _ in range(400)}
    assert places == {(row, column) for row in range(4) for column in range(5)}
    assert modules["radiographs"].moved(own, np.zeros((6, 6), bool), rng) == own


@given(st.integers(0, 1000), st.integers(1, 1024), st.sampled_from([0.25, 2.0, 64.0]))
def test_the_largest_changes_are_as_many_as_asked_for_whatever_their_size(modules, seed, count, factor):
    change = np.random.default_rng(seed).random((32, 32))
    mask = modules["radiographs"].largest(change, count)
    assert mask.sum() == count
    np.testing.assert_array_equal(modules["radiographs"].largest(change * factor, count), mask)


def test_the_largest_changes_lie_where_one_was_planted(modules):
    change = np.random.default_rng(0).random((64, 64)) * 0.1
    change[10:20, 30:50] += 1
    mask = modules["radiographs"].largest(change, 200)
    assert mask[10:20, 30:50].mean() > 0.9


def fit(strength, seed, region, auc):
    draws = [auc + 0.01 * number for number in range(5)]
    measured = {"validation_auc": 0.8 - 0.01 * strength + 0.02 * seed, "auc": {"value": auc, "draws": draws}}
    settings = {"seed": seed, "region": region, "training_set": "PA", "method": {"strength": strength}}
    return Record(stage="box_alignment", settings=settings, measured=measured)


def test_lines_by_strength_are_means_and_differences_from_strength_0(modules):
    fits = [fit(strength, seed, None, 0.6 + 0.1 * strength + 0.01 * seed) for strength in (0, 1, 9) for seed in (0, 1)]
    rows = modules["strengths"].rows_by_strength(fits, {"region": "boxes"}, ("validation_auc",), ("auc",))
    assert [row["strength"] for row in rows] == [0, 1, 9]
    # one standard error of the best is .01
    assert [row["calibrated"] for row in rows] == [False, True, False]
    for row in rows:
        assert row["auc"]["mean"] == pytest.approx(0.605 + 0.1 * row["strength"])
        for end in ("mean", "low", "high"):
            assert row["auc_difference"][end] == pytest.approx(0.1 * row["strength"])
        assert row["validation_auc"]["mean"] == pytest.approx(0.81 - 0.01 * row["strength"])


def test_boxes_are_compared_with_the_others_over_strengths(modules, monkeypatch):
    monkeypatch.setattr(modules["box_alignment"], "FIGURES", ("auc",))
    values = {None: (0.5,), "boxes": (0.6, 0.8), "moved_boxes": (0.5, 0.6), "changes": (0.8, 0.9)}
    fits = [
        fit(strength, seed, region, auc + 0.02 * seed)
        for region, found in values.items()
        for strength, auc in enumerate(found)
        for seed in (0, 1)
    ]
    rows = modules["box_alignment"].against(fits, ["PA"], modules["radiographs"].REGIONS)
    assert [row["region"] for row in rows] == ["none", "moved_boxes", "changes"]
    np.testing.assert_allclose([row["auc"]["mean"] for row in rows], [0.2, 0.15, -0.15])
    np.testing.assert_allclose([row["auc"]["low"] for row in rows], [0.2, 0.15, -0.15])


@pytest.mark.parametrize(
    ("interval", "sign", "verdict"),
    [
        ((0.1, 0.2), 1, "yes"),
        ((0.1, 0.2), -1, "reverse"),
        ((-0.1, 0.2), 1, "not shown"),
        ((None, None), 1, "not shown"),
    ],
)
def test_a_claim_is_shown_by_the_whole_interval_alone(modules, interval, sign, verdict):
    low, high = interval
    found = {"mean": low, "low": low, "high": high}
    assert importlib.import_module("box_alignment_page")._verdict(found, sign) == verdict


@pytest.fixture
def trial(modules, monkeypatch):
    """300 radiographs of 150 patients; of those with the finding every second learned one has a region."""
    rng, n = np.random.default_rng(0), 300
    subjects = np.array([f"p{row // 2}" for row in range(n)])
    labels, sex, view = (torch.from_numpy(rng.integers(0, 2, n)) for _ in range(3))
    pixels = torch.from_numpy(rng.integers(0, 200, (n, 1, 16, 16), dtype=np.uint8))
    pixels[:, :, 2:6, 2:6] += 50 * labels[:, None, None, None].to(torch.uint8)
    preset = get_preset("chest_xray_findings")
    levels = {name: preset.covariates[name].levels for name in ("sex", "view")}
    examples = LabelledImages(pixels, labels, {"sex": sex, "view": view}, levels, subjects)
    splits = np.array([("train", "train", "train", "validation", "test")[row // 2 % 5] for row in range(n)])
    images = SimpleNamespace(
        examples=examples, splits=splits, preset=preset, scanned=lambda rows, scanner: examples.select(rows)
    )
    mask = torch.zeros(n, 1, 16, 16, dtype=torch.bool)
    mask[((labels == 1) & (torch.arange(n) % 2 == 0) & torch.from_numpy(splits == "train")).numpy(), :, 2:6, 2:6] = True
    monkeypatch.setattr(modules["box_alignment"], "FITTING", {"steps": 4, "batch_size": 8, "channels": (8, 8, 8)})
    return modules["box_alignment"].Trial(images, dict.fromkeys(modules["radiographs"].REGIONS, mask))


@pytest.mark.parametrize("training_set", ["PA", "view_90_10", "sex_90_10"])
def test_patients_of_train_validation_and_test_differ_and_each_is_validation_once(trial, training_set):
    examples, held = trial.images.examples, []
    for seed in range(5):
        train, validation = trial.parts(training_set, seed)
        of = [set(examples.subjects[rows]) for rows in (train, validation, trial.test)]
        assert not of[0] & of[1]
        assert not (of[0] | of[1]) & of[2]
        held.append(set(examples.subjects[validation]))
        for rows in (train, validation):
            view, sex, label = (
                one[rows].numpy() for one in (examples.groups["view"], examples.groups["sex"], examples.labels)
            )
            if training_set == "PA":
                assert (view == 0).all()
            else:
                agree = (view == 1 if training_set.startswith("view") else sex == 0) == label
                assert agree.mean() > 0.8
    assert sum(map(len, held)) == len(set.union(*held))


def test_a_fit_is_evaluated_on_test_rows_and_strength_0_has_no_region(modules, trial):
    records = modules["box_alignment"].planned(
        {}, {"finding": "effusion"}, ["PA", "sex_90_10"], modules["radiographs"].REGIONS, [2.0], 2
    )
    assert len({one.fingerprint for one in records}) == len(records) == 2 * (1 + 3) * 2
    assert [one.settings["region"] for one in records if one.settings["method"]["strength"] == 0] == [None] * 4
    of_pa, of_sex = trial.fitted(records[0]), trial.fitted(records[8])
    page = importlib.import_module("box_alignment_page")
    for one in (of_pa, of_sex):
        assert set(one.measured) == {*page.FIGURES, *page.NUMBERS}
        assert one.counts["groups"]["rows"] == len(trial.test)
        assert 0 < one.counts["train_with_region"] < one.counts["train_present"] < one.counts["train"]
    assert of_pa.counts["test"]["rows"] + of_pa.counts["out_of_domain"]["rows"] == len(trial.test)
    assert of_sex.measured["auc"] == of_sex.measured["out_of_domain_auc"], "the scanner of this test changes nothing"
    assert trial.fitted(records[0]).measured == of_pa.measured
