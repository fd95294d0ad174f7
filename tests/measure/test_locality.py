"""Locality: a change in the box is far above chance, one everywhere is chance, and how strong it is does not matter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthfair_hf.measure.locality import locality

SIDE = 32
LUNGS = np.zeros((SIDE, SIDE), bool)
LUNGS[6:26, 4:28] = True
BOX = (slice(8, 13), slice(10, 17))


def figures(images, changed, boxes, lungs=LUNGS):
    rows, statistics = locality(images, changed, boxes, lungs)
    return rows, {name: statistic(np.ones((1, len(rows))))[0] for name, statistic in statistics.items()}


def blank(n):
    return np.full((n, 1, SIDE, SIDE), 0.5, np.float32)


def test_a_change_inside_the_box_alone_is_local():
    changed = blank(3)
    changed[:, :, *BOX] += 0.2
    _, found = figures(blank(3), changed, [[BOX]] * 3)
    assert found["box_energy_ratio"] > 5
    assert found["pointing_game"] == 1
    assert found["change_in_lungs"] == 1
    assert found["pointing_game_of_moved_boxes"] < 0.2


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 20), st.integers(0, 20))
def test_a_uniform_change_is_chance(height, width, top, left):
    box = (slice(top, top + height), slice(left, left + width))
    _, found = figures(blank(2), blank(2) + 0.1, [[box], [box, BOX]])
    assert found["box_energy_ratio"] == pytest.approx(1)
    assert found["change_in_lungs"] == pytest.approx(LUNGS.mean())


@given(st.floats(0.01, 100), st.integers(0, 9))
def test_the_strength_of_a_change_does_not_count(scale, seed):
    change = np.random.default_rng(seed).normal(size=(3, 1, SIDE, SIDE)).astype(np.float32)
    images, boxes = np.zeros_like(change), [[BOX]] * 3
    assert figures(images, scale * change, boxes)[1] == pytest.approx(figures(images, change, boxes)[1], rel=1e-4)


def test_moved_boxes_are_those_whose_centre_is_in_the_lungs_by_brute_force():
    change = np.random.default_rng(0).normal(size=(1, 1, SIDE, SIDE)).astype(np.float32)
    boxes = [BOX, (slice(20, 31), slice(0, 4))]
    energy = change[0, 0].astype(float) ** 2 / (change.astype(float) ** 2).sum()
    inside, moved = 0.0, 0.0
    for rows, columns in boxes:
        height, width = rows.stop - rows.start, columns.stop - columns.start
        places = [
            energy[top : top + height, left : left + width].sum()
            for top in range(SIDE - height + 1)
            for left in range(SIDE - width + 1)
            if LUNGS[top + height // 2, left + width // 2]
        ]
        inside, moved = inside + energy[rows, columns].sum(), moved + np.mean(places)
    _, found = figures(np.zeros_like(change), change, [boxes])
    assert found["box_energy_ratio"] == pytest.approx(inside / moved)


def test_an_image_that_did_not_change_is_left_out():
    changed = blank(3)
    changed[1] += 0.1
    assert figures(blank(3), changed, [[BOX]] * 3)[0] == [1]
    rows, found = figures(blank(3), blank(3), [[BOX]] * 3)
    assert rows == []
    assert np.isnan(list(found.values())).all()


def test_a_box_that_cannot_move_is_chance():
    whole = (slice(0, SIDE), slice(0, SIDE))
    _, found = figures(blank(1), blank(1) + 0.1, [[whole]], np.eye(SIDE, dtype=bool) & False)
    assert found["box_energy_ratio"] == 1
    assert found["pointing_game"] == found["pointing_game_of_moved_boxes"] == 1
