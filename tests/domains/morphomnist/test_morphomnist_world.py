"""MorphoMNIST: the noise is abducted exactly, do() moves what the equations say, measuring meets what was drawn."""

import numpy as np
import pytest
import torch

from synthfair_hf.domains.morphomnist.world import (
    MEASURED_ATTRIBUTES,
    MorphoMNISTWorld,
    abduct,
    evaluate,
    intensity_of,
    render,
    sample_noise,
)
from synthfair_hf.errors import InputError


def drawn_originals(n: int) -> np.ndarray:
    """Rings and their left halves in the place of digits, uint8 `[n, 28, 28]`."""
    rows, columns = np.mgrid[-13.5:14, -13.5:14]
    images = np.zeros((n, 28, 28), np.uint8)
    for index in range(n):
        ring = (2 - np.abs(np.hypot(rows, columns) - 5 - index / 2)).clip(0, 1)
        images[index] = 255 * np.where((columns > 0) & (index % 2 == 1), 0, ring)
    return images


@pytest.fixture(scope="module")
def world() -> MorphoMNISTWorld:
    return MorphoMNISTWorld(drawn_originals(6), evaluate(sample_noise(6, np.random.default_rng(0))))


def test_abduction_finds_the_noise_that_evaluation_was_given():
    noise = sample_noise(1000, np.random.default_rng(3))
    for name, found in abduct(evaluate(noise))._asdict().items():
        assert found == pytest.approx(getattr(noise, name), abs=1e-6)


def test_an_intensity_rounded_to_an_end_has_finite_noise_and_every_other_its_own():
    table = {"digit": ["3"] * 4, "thickness": [2.5] * 4, "intensity": [64.0, 64.5, 254.5, 255.0]}
    noise = abduct(table)
    assert np.isfinite(noise.intensity).all()
    made = evaluate(noise)["intensity"]
    assert made == pytest.approx([64.5, 64.5, 254.5, 254.5]), "half a grey level inside"
    nearest = {name: column[:1] for name, column in table.items()} | {"intensity": [254.9]}
    assert evaluate(abduct(nearest))["intensity"] == pytest.approx([254.9]), "no other value is clipped"
    world = MorphoMNISTWorld(drawn_originals(4), table)
    assert world.counterfactual({})[1] == table
    assert all(64 < value < 255 for value in world.counterfactual({"thickness": [2.0] * 4})[1]["intensity"])


def test_a_drawing_is_remembered_and_a_bounded_number_of_them(world, monkeypatch):
    drawn = []

    def count(originals, thickness, intensity, own=None):
        drawn.append(thickness[0])
        return render(originals, thickness, intensity, own)

    monkeypatch.setattr("synthfair_hf.domains.morphomnist.world.render", count)
    monkeypatch.setattr("synthfair_hf.domains.morphomnist.world.DRAWINGS_KEPT", 2)
    small = MorphoMNISTWorld(world.originals, world.table)
    images, _ = small.counterfactual({"thickness": [2.0, 3.0]}, rows=[0, 1])
    images[:] = 0
    again, _ = small.counterfactual({"thickness": [2.0, 3.0]}, rows=[0, 1])
    assert drawn == [2.0, 3.0]
    assert again.any(), "what is remembered is not what was handed out"
    small.counterfactual({"thickness": [4.0]}, rows=[0])
    small.counterfactual({"thickness": [2.0]}, rows=[0])
    assert drawn == [2.0, 3.0, 4.0, 2.0]


def test_the_world_has_the_moments_of_its_equations():
    table = evaluate(sample_noise(20_000, np.random.default_rng(1)))
    thickness, intensity = np.array(table["thickness"]), np.array(table["intensity"])
    assert thickness.mean() == pytest.approx(2.5, abs=0.02)
    assert thickness.std() == pytest.approx(np.sqrt(10) / 5, abs=0.02)
    assert intensity_of(np.array([2.5]), np.zeros(1)) == pytest.approx(64 + 191 / 2)
    assert np.corrcoef(thickness, intensity)[0, 1] > 0.8
    assert set(table["digit"]) == set("0123456789")


def test_doing_nothing_changes_no_covariate(world):
    assert world.counterfactual({})[1] == world.table
    assert world.counterfactual({"thickness": world.table["thickness"]})[1] == world.table
    assert world.counterfactual({"digit": world.table["digit"]})[1] == world.table


def test_intensity_follows_thickness_and_not_the_other_way(world):
    wanted = [3.5] * 6
    _, moved = world.counterfactual({"thickness": wanted})
    noise = abduct(world.table).intensity
    assert moved["thickness"] == wanted
    assert moved["intensity"] == pytest.approx(intensity_of(np.array(wanted), noise))
    _, dimmed = world.counterfactual({"intensity": [100.0] * 6})
    assert dimmed == {**world.table, "intensity": [100.0] * 6}
    _, both = world.counterfactual({"thickness": wanted, "intensity": [100.0] * 6})
    assert both == {**world.table, "thickness": wanted, "intensity": [100.0] * 6}


def test_measuring_meets_what_was_drawn(world):
    for thickness, intensity in ((2.0, 90.0), (3.0, 160.0), (4.5, 240.0)):
        images, _ = world.counterfactual({"thickness": [thickness] * 6, "intensity": [intensity] * 6})
        assert images.shape == (6, 32, 32)
        assert images.dtype == np.float32
        assert images.max() <= 1
        assert MEASURED_ATTRIBUTES["thickness"](images) == pytest.approx(thickness, abs=0.5)
        assert MEASURED_ATTRIBUTES["intensity"](images) == pytest.approx(intensity, abs=1.5)


def test_measuring_takes_tensors_with_a_channel(world):
    images, _ = world.counterfactual({})
    for measure in MEASURED_ATTRIBUTES.values():
        assert measure(torch.from_numpy(images)[:, None]).tolist() == measure(images).tolist()
    assert MEASURED_ATTRIBUTES["intensity"](np.full((1, 32, 32), 0.5)).tolist() == [127.5]


def test_rows_know_nothing_of_their_batch_and_one_row_is_the_truth_of_one(world):
    do = {"thickness": [1.5, 2.5, 3.5, 4.5, 3.0, 2.0]}
    images, covariates = world.counterfactual(do)
    some, of_them = world.counterfactual({"thickness": [4.5, 2.5]}, rows=[3, 1])
    assert np.array_equal(some, images[[3, 1]])
    assert of_them == {name: [column[3], column[1]] for name, column in covariates.items()}
    alone = MorphoMNISTWorld(world.originals[3:4], {name: [column[3]] for name, column in world.table.items()})
    image, one = alone.counterfactual({"thickness": [4.5]})
    assert np.array_equal(image[0], images[3])
    assert one == {name: [column[3]] for name, column in covariates.items()}


def test_a_stroke_thinned_away_is_black():
    assert not render(drawn_originals(1), [0.5], [200.0], own=np.array([6.0])).any()


def test_measuring_separates_the_true_renderer_from_doing_nothing(world):
    observed, _ = world.counterfactual({})
    rng = np.random.default_rng(5)
    for cause, effects in (("thickness", ("thickness", "intensity")), ("intensity", ("intensity",))):
        drawn, target = world.counterfactual({cause: rng.permutation(world.table[cause]).tolist()})
        for name in effects:
            oracle, identity = (
                np.abs(MEASURED_ATTRIBUTES[name](images) - target[name]).mean() for images in (drawn, observed)
            )
            assert oracle < identity, f"{name} under do({cause})"


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ({"digit": ["x"] * 6}, "'x' is unknown"),
        ({"slant": [1.0] * 6}, "'slant' is unknown"),
        ({"thickness": [2.0]}, "1 values for 6 images"),
        ({"thickness": [None] * 6}, r"thickness.\]: is missing; give pixels"),
        ({"thickness": [9.0] * 6}, "out of range; allowed: 0.5 to 7 pixels"),
    ],
)
def test_what_cannot_be_done_is_named(world, do, message):
    with pytest.raises(InputError, match=message):
        world.counterfactual(do)


def test_no_image_of_another_digit_is_known(world):
    others = [str((int(digit) + 1) % 10) for digit in world.table["digit"]]
    with pytest.raises(InputError, match=r"do\['digit'\]: no image of another digit is known"):
        world.counterfactual({"digit": others})
