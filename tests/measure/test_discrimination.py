"""A network that tells sets of images apart: by what differs and by nothing else, whatever patients it has seen."""

import numpy as np
import pytest
import torch

from synthfair_hf.errors import InputError
from synthfair_hf.measure.discrimination import FOLDS, _folds, discrimination, halves
from synthfair_hf.records import row_generator

SIDE = 16


def radiographs(patients, seed=0, grain=0.0):
    """Smooth images with a grain in grey levels, one of each patient."""
    generator = torch.Generator().manual_seed(seed)
    waves = torch.randn(patients, 1, 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(0.5 + 0.1 * waves, (SIDE, SIDE), mode="bicubic")
    return (images + grain / 255 * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def names(count, start=0):
    return [f"p{row}" for row in range(start, start + count)]


def test_what_has_one_distribution_cannot_be_told_apart():
    images = radiographs(48, grain=4)
    found = discrimination(images[:24], images[24:], names(24), names(24, 24))
    assert found["low"] < 0.5 < found["high"]
    assert (found["n"], found["groups"]) == (48, 48)


def test_identical_sets_score_a_half_exactly():
    """Each image and its copy get one score, and are of one fold: within a fold every pair has its mirror image."""
    images = radiographs(24, grain=4)
    assert discrimination(images, images, names(24), names(24))["mean"] == pytest.approx(0.5)


def test_more_noise_is_told_better():
    real = radiographs(32, seed=0, grain=3)
    weak, strong = (
        discrimination(real, radiographs(32, seed=1, grain=grain), names(32), names(32))["mean"] for grain in (5, 24)
    )
    assert weak < strong
    assert strong > 0.95


def test_a_patient_is_of_one_fold_and_folds_hold_equally_many():
    first, second = names(16) * 2, names(8, 8) + names(8, 16)
    folds = _folds(first, second, row_generator(0))
    assert len({(name, fold) for name, fold in zip([*first, *second], folds, strict=True)}) == 24
    assert np.bincount(folds[:16]).tolist() == [4] * FOLDS
    assert np.bincount(folds[-8:]).tolist() == [2] * FOLDS


def test_halves_share_no_patient():
    patients = names(11) * 3
    half = halves(patients, seed=3)
    first, second = ({name for name, one in zip(patients, half, strict=True) if one == side} for side in (True, False))
    assert not first & second
    assert (len(first), len(second)) == (5, 6)
    assert (halves(patients, seed=3) == half).all()
    assert (halves(patients, seed=4) != half).any()


def test_it_repeats_and_leaves_the_global_generator_alone():
    images, state = radiographs(16), torch.random.get_rng_state()
    found = [discrimination(images[:8], images[8:], names(8), names(8, 8), seed=2) for _ in range(2)]
    assert found[0] == found[1]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_too_few_patients_give_no_figure_and_other_shapes_are_refused():
    images = radiographs(14)
    assert discrimination(images[:7], images[7:], names(7), names(7, 7))["mean"] is None
    with pytest.raises(InputError, match=r"second: images of \[1, 8, 8\], first ones of \[1, 16, 16\]"):
        discrimination(images, images[..., :8, :8], names(14), names(14))
    with pytest.raises(InputError, match="second_groups: 13 names for 14 images"):
        discrimination(images, images, names(14), names(13))
