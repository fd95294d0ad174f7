"""Spectrum and grain by their laws: Parseval, a sinusoid, white noise, and nothing between equal sets."""

import numpy as np
import pytest
import torch

from synthfair_hf.errors import InputError
from synthfair_hf.measure.texture import grain, high_pass, radial_power, texture

SIDE = 32
PATIENTS = [f"p{row}" for row in range(12)]


def smooth(rows=12, seed=0, side=SIDE, channels=1):
    """Images of low frequencies, mid gray on average."""
    waves = torch.randn(rows, channels, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(0.5 + 0.05 * waves, (side, side), mode="bicubic").clamp(0.2, 0.8)


def noisy(images, levels, seed=1):
    return images + levels / 255 * torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("side", "channels"), [(16, 1), (15, 3)])
def test_power_over_all_frequencies_is_that_of_the_pixels(side, channels):
    images = torch.rand(3, channels, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    along = np.fft.fftfreq(side, 1 / side)
    number = np.bincount(np.rint(np.hypot(along[:, None], along[None])).astype(int).ravel())
    found = (radial_power(images) * number).sum(axis=1) * channels
    assert found == pytest.approx((255 * images).square().sum(dim=(1, 2, 3)).numpy())


@pytest.mark.parametrize(("across", "down", "ring"), [(5, 0, 5), (0, 11, 11), (3, 4, 5), (6, 8, 10)])
def test_a_sinusoid_has_its_power_at_its_frequency(across, down, ring):
    place = torch.arange(SIDE, dtype=torch.float64) / SIDE
    image = 0.5 + 0.2 * torch.cos(2 * torch.pi * (across * place[None] + down * place[:, None]))
    power = radial_power(image[None, None])[0, 1:]
    assert power.argmax() + 1 == ring
    assert np.delete(power, ring - 1).max() < 1e-20 * power.max()


def test_white_noise_is_flat_and_its_grain_in_proportion():
    flat = torch.full((8, 1, 64, 64), 0.5)
    for levels in (1.0, 4.0):
        images = noisy(flat, levels)
        assert radial_power(images)[:, 1:33].mean(axis=0) == pytest.approx(levels**2, rel=0.35)
        kept = (1 - 1 / 4) ** 2 + (6 / 16) ** 2 - (1 / 4) ** 2
        assert grain(images) == pytest.approx(levels * kept**0.5, rel=0.05)
    assert kept**0.5 == pytest.approx(0.8004, abs=1e-4)


def test_what_is_smooth_has_no_grain():
    ramp = torch.linspace(0, 1, SIDE).expand(2, 3, SIDE, SIDE)
    assert grain(ramp) == pytest.approx(0, abs=1e-4)
    assert high_pass(ramp).shape == (2, 3, SIDE - 2, SIDE - 2)


def test_equal_sets_have_equal_textures():
    images = noisy(smooth(), 2)
    found = texture(images, images.flip(0), PATIENTS, PATIENTS[::-1])
    assert found["spectrum"]["distance"] == found["spectrum"]["outside"] == 0
    assert found["spectrum"]["generated"] == found["spectrum"]["real"][1]
    assert found["grain"]["within"]
    assert found["grain"]["auc"]["mean"] == 0.5


def test_the_grainier_the_farther():
    real, others = (noisy(smooth(seed=seed), 2, seed + 10) for seed in (0, 1))
    found = [texture(real, noisy(others, levels), PATIENTS, PATIENTS) for levels in (0, 1, 2, 4)]
    for figure in (
        [one["spectrum"]["distance"] for one in found],
        [one["grain"]["generated"] for one in found],
        [one["grain"]["auc"]["mean"] for one in found],
    ):
        assert figure == sorted(figure), figure
    assert found[-1]["grain"]["generated"] == pytest.approx(0.8 * 20**0.5, rel=0.05), "variances add"
    assert not found[-1]["grain"]["within"]
    assert found[-1]["grain"]["auc"]["mean"] == 1
    assert found[-1]["spectrum"]["outside"] > 0.5


@pytest.mark.parametrize(
    ("real", "generated", "groups", "message"),
    [
        (torch.zeros(2, 8, 8), torch.zeros(2, 1, 8, 8), 2, r"real: unexpected shape \(2, 8, 8\)"),
        (torch.zeros(2, 1, 8, 8), torch.full((2, 1, 8, 8), 1.5), 2, "generated: values span 1.5 to 1.5"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2, 3, 8, 8), 2, r"generated: images of \[3, 8, 8\], real ones of"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8), 3, "real_groups: 3 names for 2 images"),
        (torch.zeros(2, 1, 8, 9), torch.zeros(2, 1, 8, 9), 2, "images: 8 x 9 pixels are not square"),
    ],
)
def test_what_has_no_texture_is_one_sentence(real, generated, groups, message):
    with pytest.raises(InputError, match=message):
        texture(real, generated, PATIENTS[:groups], PATIENTS[:2])
