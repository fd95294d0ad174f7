"""A planted copy is found, and a generator that copies nothing is not accused."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from synthfair_hf.errors import InputError
from synthfair_hf.measure.memorisation import memorisation, nearest, standard_pixels, suspicious_png


def normal(rows, columns=6, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def radiographs(count, seed=0, side=16):
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(seed))


def names(count):
    return [f"p{index}" for index in range(count)]


def test_nearest_is_brute_force():
    queries, training = normal(300), normal(40, seed=1)
    distances = np.linalg.norm(queries.numpy()[:, None] - training.numpy()[None], axis=2)
    found = nearest(queries, training)
    assert np.allclose(found.distance, distances.min(axis=1))
    assert np.array_equal(found.row, distances.argmin(axis=1))


def test_a_training_image_is_its_own_nearest_at_no_distance():
    training = normal(30)
    found = nearest(training, training)
    assert (found.distance == 0).all()
    assert np.array_equal(found.row, np.arange(30))


@given(st.floats(0.2, 1), st.floats(0, 0.1))
@settings(max_examples=20)
def test_standard_pixels_ignore_exposure(contrast, brightness):
    images = radiographs(3)
    changed = standard_pixels(images * contrast * 0.9 + brightness)
    assert torch.allclose(changed, standard_pixels(images), atol=1e-5)


def test_distance_of_standard_pixels_is_a_root_mean_square():
    one, other = standard_pixels(radiographs(2))
    small = torch.nn.functional.avg_pool2d(radiographs(2).double(), 2)[:, 0].numpy()
    small = [(radiograph - radiograph.mean()) / radiograph.std() for radiograph in small]
    assert (one - other).norm().item() == pytest.approx(np.sqrt(((small[0] - small[1]) ** 2).mean()))
    assert not standard_pixels(torch.full((1, 1, 4, 4), 0.5)).any(), "an image of one grey level has no pattern"


def test_a_planted_copy_is_found_through_another_exposure():
    training, held_out, generated = radiographs(60), radiographs(50, seed=1), radiographs(40, seed=2)
    generated[17] = (training[23] * 0.8 + 0.05) + 0.01 * radiographs(1, seed=3)[0]
    found = memorisation(*map(standard_pixels, (generated, held_out, training)), names(50))
    worst, second = found["suspicious"][:2]
    assert (worst["generated"], worst["training"], worst["held_out_share"]) == (17, 23, 0)
    assert worst["distance"] < second["distance"] / 5
    assert found["near"]["value"] >= 1 / 40
    assert len(found["suspicious"]) == 10


def test_a_generator_that_copies_everything_is_accused():
    training, held_out = normal(80), normal(100, seed=1)
    copies = training[:50] + 1e-3 * normal(50, seed=2)
    found = memorisation(copies, held_out, training, names(100))
    assert found["near"]["value"] == found["near"]["low"] == 1
    assert found["nearer"]["value"] == found["nearer"]["low"] == 1


@pytest.mark.parametrize("held", [40, 250])
def test_without_memorisation_shares_are_as_expected(held):
    """Generated and held-out images of one distribution, many times: means and coverage of the interval."""
    worlds = [
        memorisation(
            normal(60, 3, 3 * seed),
            normal(held, 3, 3 * seed + 1),
            normal(50, 3, 3 * seed + 2),
            names(held),
            n_bootstrap=100,
        )
        for seed in range(80)
    ]
    near = np.array([world["near"]["value"] for world in worlds])
    assert worlds[0]["near"]["expected"] == pytest.approx(max(0.01, 1 / (held + 1)))
    assert abs(near.mean() - worlds[0]["near"]["expected"]) < 3 * near.std() / 80**0.5
    nearer = np.array([world["nearer"]["value"] for world in worlds])
    assert abs(nearer.mean() - 0.5) < 3 * nearer.std() / 80**0.5
    covered = np.mean([world["nearer"]["low"] <= 0.5 <= world["nearer"]["high"] for world in worlds])
    assert covered >= 0.8


def test_the_probability_of_being_nearer_counts_pairs_with_ties_half():
    training = torch.zeros(1, 1)
    generated, held_out = torch.tensor([[1.0], [2.0], [5.0]]), torch.tensor([[2.0], [3.0]])
    found = memorisation(generated, held_out, training, names(2))
    assert found["nearer"]["value"] == pytest.approx((2 + 1.5 + 0) / 6)
    assert found["generated"]["quantiles"]["0.5"] == 2


def test_radiographs_of_one_patient_are_drawn_together():
    """Ten copies of every held-out radiograph change no figure and no interval."""
    training, held_out, generated = normal(40), normal(30, seed=1), normal(50, seed=2)
    once = memorisation(generated, held_out, training, names(30))
    tenfold = memorisation(generated, held_out.repeat(10, 1), training, names(30) * 10)
    assert tenfold["nearer"] == pytest.approx(once["nearer"])
    assert (tenfold["held_out"]["n"], tenfold["held_out"]["groups"]) == (300, 30)
    apart = memorisation(generated, held_out.repeat(10, 1), training, names(300))
    assert apart["nearer"]["high"] - apart["nearer"]["low"] < once["nearer"]["high"] - once["nearer"]["low"]


def test_results_repeat_by_seed():
    sets = normal(40), normal(30, seed=1), normal(50, seed=2)
    assert memorisation(*sets, names(30), seed=1) == memorisation(*sets, names(30), seed=1)
    first, second = (memorisation(*sets, names(30), seed=seed)["nearer"] for seed in (1, 2))
    assert first["value"] == second["value"]
    assert first["low"] != second["low"]


def test_bad_input_is_refused_by_name():
    one = normal(5)
    with pytest.raises(InputError, match="generated: no images; give one or more"):
        memorisation(one[:0], one, one, names(5))
    with pytest.raises(InputError, match="held_out_groups: 4 names for 5 held-out images"):
        memorisation(one, one, one, names(4))
    with pytest.raises(InputError, match="training: no images; give those the generator was trained on"):
        nearest(one, one[:0])
    with pytest.raises(InputError, match="queries: vectors of length 6, but training ones of 3; use one encoder"):
        nearest(one, one[:, :3])
    with pytest.raises(InputError, match="training: some values are not finite"):
        nearest(one, one / 0)
    with pytest.raises(InputError, match=r"images: unexpected shape \(5, 6\); expected \[n, 1 or 3, r, r\]"):
        standard_pixels(one)


def picture(generated, training, originals, pairs):
    return np.asarray(Image.open(io.BytesIO(suspicious_png(generated, training, originals, pairs))))


def pair(sample, radiograph):
    return {"generated": sample, "training": radiograph, "distance": 0.25, "held_out_share": 0.1}


def test_suspicious_pairs_are_shown_as_sample_training_image_and_difference():
    generated, training = radiographs(6), radiographs(9, seed=1)
    sheet = picture(generated, training, 3, [pair(4, 2), pair(0, 7)])
    assert sheet.shape[0] < 2 * (128 + 26)
    for row, (sample, radiograph) in enumerate([(4, 2), (0, 7)]):
        one, other = generated[sample, 0].numpy(), training[radiograph, 0].numpy()
        exposed = one.mean() + one.std() * (other - other.mean()) / other.std()
        shown = (one, other, (2 * np.abs(one - exposed)).clip(0, 1))
        for column, pixels in enumerate(shown):
            top, left = 26 + row * 136, 8 + column * 136
            tile = sheet[top : top + 128, left : left + 128].astype(float)
            np.testing.assert_allclose(tile[4::8, 4::8, 0], 255 * pixels, atol=0.51)
            assert (tile[:8, :8] == tile[0, 0]).all(), "pixels are enlarged as they are"
        caption = sheet[26 + row * 136 : 154 + row * 136, 8 + 3 * 136 :]
        assert (caption < 128).any()
        assert (caption[:, -4:] == 255).all(), "the words end before the edge"


@pytest.mark.parametrize(("contrast", "brightness"), [(1, 0), (0.6, 0.4), (0.5, 0), (0.02, 0.9)])
def test_the_difference_of_a_copy_is_black_at_any_brightness_and_contrast(contrast, brightness):
    training = radiographs(4)
    copies = contrast * training + brightness
    sheet = picture(copies, training, 4, [pair(row, row) for row in range(4)])
    for row in range(4):
        tiles = [sheet[26 + row * 136 : 154 + row * 136, 8 + column * 136 :][:, :128] for column in range(3)]
        assert not tiles[2].any()
        assert (tiles[0] == tiles[1]).all() == (contrast == 1), "both are shown as they are"


def test_an_image_of_one_grey_level_is_compared_as_one():
    blank, radiograph = torch.full((1, 1, 16, 16), 0.25), radiographs(1)
    for sample, other in ((radiograph, blank), (blank, radiograph)):
        tile = picture(sample, other, 1, [pair(0, 0)])[26:154, 8 + 2 * 136 :][:, :128].astype(float)
        expected = (2 * (sample - sample.mean()).abs()).clip(0, 1)[0, 0].numpy()
        np.testing.assert_allclose(tile[4::8, 4::8, 0], 255 * expected, atol=0.51)


def test_an_augmented_example_is_told_from_its_original():
    """The same pixels as radiograph 2 and as its second augmented example differ in the caption alone."""
    generated, training = radiographs(3), radiographs(3, seed=1).repeat(3, 1, 1, 1)
    plain, augmented, same = (picture(generated, training, 3, [pair(1, radiograph)]) for radiograph in (2, 8, 2))
    assert (plain == same).all()
    assert (plain[:, : 3 * 136] == augmented[:, : 3 * 136]).all()
    assert (plain != augmented).any()
