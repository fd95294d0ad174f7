"""Regions of equal size that differ in their place alone, training sets of exact shares, and figures by strength."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    rows = modules["box_alignment"].against(fits, ["PA"])
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
