"""Latents of an super-resolved generator are its images: what the objective asks for, and what it is given up for."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from synthfair_hf.diffusion.super_resolution import (
    NOISE,
    SuperResolutionObjective,
    build_autoencoder,
    check_super_resolution,
)
from synthfair_hf.errors import InputError


class Known(torch.nn.Module):
    """An autoencoder by rule: latents are block means plus a shift, decoded by repeating every value."""

    def __init__(self, factor, shift=0.0):
        super().__init__()
        self.factor, self.shift = factor, shift

    def encode(self, images):
        posterior = type("Posterior", (), {"mean": avg_pool2d(images, self.factor) + self.shift})
        return type("Encoded", (), {"latent_dist": posterior})

    def decode(self, latents):
        return type("Decoded", (), {"sample": interpolate(latents, scale_factor=self.factor)})


def blocks(factor, seed):
    """Images that are constant in every block, so that nothing is lost by the mean of it."""
    small = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return {"image": interpolate(small, scale_factor=factor)}


@pytest.mark.parametrize("factor", [2, 4])
def test_an_ideal_autoencoder_is_left_with_the_decoders_noise(factor):
    loss, parts = SuperResolutionObjective(Known(factor))(blocks(factor, 0), torch.Generator().manual_seed(1))
    assert parts["encoding"] < 1e-4
    noise = (2 / torch.pi) ** 0.5 * NOISE
    assert parts["decoding"] / 127.5 == pytest.approx(noise, rel=0.2), "the mean of |e|"
    assert loss == pytest.approx(float(parts["encoding"] + parts["decoding"]) / 127.5, rel=1e-5)


def test_latents_beside_the_small_image_cost_their_distance_and_the_decoder_nothing():
    ideal, shifted = (SuperResolutionObjective(Known(2, shift)) for shift in (0.0, 0.5))
    (_, one), (_, other) = (each(blocks(2, 0), torch.Generator().manual_seed(1)) for each in (ideal, shifted))
    assert other["encoding"] == pytest.approx(127.5 * 0.5, rel=1e-4)
    assert other["decoding"] == one["decoding"], "it learns from the small image itself"


@pytest.mark.parametrize(("resolution", "own", "channels"), [(32, 16, 1), (64, 16, 3)])
def test_the_network_has_latents_of_the_generators_size(resolution, own, channels):
    autoencoder = build_autoencoder(resolution, own, channels)
    images = torch.zeros(2, channels, resolution, resolution)
    with torch.no_grad():
        latents = autoencoder.encode(images).latent_dist.mean
        decoded = autoencoder.decode(latents).sample
    assert latents.shape == (2, channels, own, own)
    assert decoded.shape == images.shape
    assert autoencoder.config.scaling_factor == 1


@pytest.mark.parametrize("resolution", [16, 24, 8, 128, 0, -32])
def test_other_resolutions_are_refused(resolution):
    with pytest.raises(InputError, match=rf"resolution: {resolution} is not allowed.*16 pixels.*32 or 64"):
        check_super_resolution(resolution, 16)
    check_super_resolution(32, 16)
    check_super_resolution(64, 16)
