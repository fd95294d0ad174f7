"""Strokes: the medial axis keeps the pieces, the element is the published one, dilation equals brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_dilation, distance_transform_edt, label

from synthfair_hf.domains.morphomnist.stroke import binarise, element, mean_thickness, medial_axis, reduce, thicken

EIGHT = np.ones((3, 3))
blobs = arrays(bool, (2, 9, 11)).map(lambda strokes: strokes & (np.arange(9) > 0)[:, None])
"""Two strokes whose top row is background."""


def bar(width: int, side: int = 28) -> np.ndarray:
    image = np.zeros((side, side))
    image[4:-4, 10 : 10 + width] = 1
    return image


def peel(stroke: np.ndarray) -> np.ndarray:
    """The medial axis one pixel at a time, by counting pieces with and without each."""
    left = np.pad(stroke, 1)
    distance = distance_transform_edt(stroke)
    full = left.copy()
    key = {(i, j): (round(distance[i, j] ** 2), 9 - full[i : i + 3, j : j + 3].sum()) for i, j in np.argwhere(stroke)}
    for i, j in sorted(key, key=lambda place: (*key[place], *place)):
        around = left[i : i + 3, j : j + 3].copy()
        around[1, 1] = False
        if around.sum() >= 2 and label(around, EIGHT)[1] == 1:
            left[i + 1, j + 1] = False
    return left[1:-1, 1:-1]


@settings(max_examples=40, deadline=None)
@given(blobs)
def test_the_medial_axis_is_brute_force_of_each_image_and_keeps_its_pieces(strokes):
    axis, distance = medial_axis(strokes)
    for one, stroke, depth in zip(axis, strokes, distance, strict=True):
        assert np.array_equal(one, peel(stroke))
        assert not (one & ~stroke).any()
        assert label(one, EIGHT)[1] == label(stroke, EIGHT)[1]
        assert (depth[~stroke] == 0).all()


@pytest.mark.parametrize("width", [2, 3, 4, 6])
@pytest.mark.parametrize("scale", [4, 16])
def test_a_ring_is_as_thick_as_it_is_drawn(width, scale):
    rows, columns = np.mgrid[-13.5:14, -13.5:14]
    ring = (width / 2 + 0.5 - np.abs(np.hypot(rows, columns) - 8)).clip(0, 1)
    assert mean_thickness(ring[None], scale) == pytest.approx(width, abs=0.3)


def test_nothing_has_no_thickness_and_no_images_no_values():
    assert mean_thickness(np.stack([np.zeros((28, 28)), np.full((28, 28), 0.7)]), 4).tolist() == [0, 0]
    assert mean_thickness(np.zeros((0, 28, 28)), 4).shape == (0,)


def test_thickness_depends_neither_on_brightness_nor_on_the_batch():
    images = np.stack([bar(3), bar(5).T, 0.5 * bar(3)])
    together = mean_thickness(images, 4)
    assert together[0] == pytest.approx(together[2], abs=0.05)
    assert [mean_thickness(image[None], 4)[0] for image in images] == together.tolist()


def test_the_element_is_a_square_that_loses_corners_as_published():
    """Counted once in the support of scikit-image's pyramid_reduce(disk(16 r), 16, order=1)."""
    lost = {1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 4, 7: 4, 8: 12, 9: 12, 10: 24, 11: 40}
    for radius, corners in lost.items():
        shape = element(radius, 16)
        assert shape.shape == (2 * radius + 1, 2 * radius + 1)
        assert (~shape).sum() == corners
        assert np.array_equal(shape, shape.T)
        assert np.array_equal(shape, shape[::-1])
    assert element(0, 16).tolist() == [[True]]


@pytest.mark.parametrize("radius", [0, 3, 8, 13])
@pytest.mark.parametrize("seed", [0, 1])
def test_thickening_is_dilation_by_the_element_and_thinning_its_dual(radius, seed):
    stroke = np.random.default_rng(seed).random((70, 80)) < 0.02
    change = 2 * radius / 16
    assert np.array_equal(thicken(stroke, change, 16), binary_dilation(stroke, element(radius, 16)))
    assert np.array_equal(thicken(~stroke, -change, 16), ~thicken(stroke, change, 16))


def test_a_stroke_reduced_is_the_image_it_came_from():
    image = bar(6)
    back = reduce(binarise(image[None], 16), 16)[0] / 255
    assert np.abs(back - image).mean() < 0.03
    assert reduce(np.ones((1, 64, 64), bool), 16).min() >= 254
