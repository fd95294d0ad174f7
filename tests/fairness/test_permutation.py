"""What a permutation of groups keeps, and that it moves everything else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthfair_hf.fairness.permutation import exchangeable, permute


@given(st.integers(0, 10**6), st.integers(1, 40), st.booleans())
def test_rows_are_partitioned_and_counts_by_label_stay(seed, n, given_label):
    rng = np.random.default_rng(seed)
    subjects, labels, groups = rng.integers(0, 10, n), rng.integers(0, 2, n), rng.integers(0, 3, n)
    blocks = exchangeable(subjects, labels if given_label else None)
    assert sorted(np.concatenate([block.rows.ravel() for block in blocks])) == list(range(n))
    for rows, negatives in blocks:
        assert (subjects[rows] == subjects[rows][:, :1]).all(), "a line is a subject"
        if given_label:
            assert (labels[rows] == (np.arange(rows.shape[1]) >= negatives)).all()
    moved = permute(groups, blocks, rng)
    assert np.array_equal(np.bincount(moved, minlength=3), np.bincount(groups, minlength=3))
    if given_label:
        pairs = [np.bincount(2 * one + labels, minlength=6) for one in (groups, moved)]
        assert np.array_equal(*pairs)


def test_a_group_shared_by_a_subjects_rows_goes_to_whole_subjects():
    subjects = np.repeat(np.arange(50), 4)
    groups = np.random.default_rng(0).integers(0, 2, 50)[subjects]
    moved = permute(groups, exchangeable(subjects), np.random.default_rng(1))
    assert (moved.reshape(50, 4) == moved.reshape(50, 4)[:, :1]).all()
    assert (moved != groups).any()


def test_crossed_groups_change_places_within_every_family():
    subjects, labels = np.repeat(np.arange(50), 4), np.tile([0, 0, 1, 1], 50)
    groups = np.tile([0, 1, 0, 1], 50)
    moved = permute(groups, exchangeable(subjects, labels), np.random.default_rng(1)).reshape(50, 2, 2)
    assert (moved.sum(axis=2) == 1).all(), "each family keeps one of each under each label"
    assert 0.3 < moved[:, :, 0].mean() < 0.7


def test_an_intersection_does_both():
    subjects = np.repeat(np.arange(200), 2)
    stratum, factor = np.random.default_rng(0).integers(0, 2, 200)[subjects], np.tile([0, 1], 200)
    moved = permute(2 * stratum + factor, exchangeable(subjects), np.random.default_rng(1)).reshape(200, 2)
    assert (moved // 2 == moved[:, :1] // 2).all()
    assert (moved % 2).sum(axis=1).tolist() == [1] * 200
    assert np.mean(moved[:, 0] // 2 != stratum[::2]) == pytest.approx(0.5, abs=0.15)
    assert np.mean(moved[:, 0] % 2) == pytest.approx(0.5, abs=0.15)


def test_all_arrangements_are_equally_likely():
    blocks = exchangeable(np.arange(3))
    rng, found = np.random.default_rng(0), {}
    for _ in range(3000):
        key = tuple(permute(np.array([0, 1, 2]), blocks, rng))
        found[key] = found.get(key, 0) + 1
    assert len(found) == 6
    assert min(found.values()) > 400
