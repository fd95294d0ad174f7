"""Texture of generated images against that of real ones: radial power spectrum and grain, in grey levels of 0 to 255.

    P(k)  = mean over channels and over the ring of frequencies of length k (rounded) of |F x|^2,  F unitary
            (Parseval: the sum over all frequencies is the sum of the squared pixels)
    grain = standard deviation of x - b * x,  b the 3 x 3 binomial filter, where it lies wholly inside the image

White noise of standard deviation s has P = s^2 at every k and a grain of 0.80 s. Features of an attribute predictor,
by which `realism` compares images, are blind to both: a predictor learns to look past noise.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..errors import InputError
from .intervals import area_under_curve, bootstrap

__all__ = ["check_images", "grain", "high_pass", "radial_power", "texture"]

ROUNDING = 1 / 12
"""Variance of rounding to grey levels: no image of 8 bits says less of a frequency."""

BINOMIAL = torch.tensor([1.0, 2.0, 1.0]) / 4
"""The filter, along each side."""


def check_images(images: Tensor, argument: str) -> None:
    """Raise InputError unless images are `[n, C, H, W]`, one or more, of 3 x 3 pixels or more, in [0, 1].

    Args:
        images: to be checked.
        argument: their name in messages.
    """
    if images.ndim != 4 or 0 in images.shape or min(images.shape[2:]) < 3:
        raise InputError(
            f"{argument}: unexpected shape {tuple(images.shape)}; expected [n, C, H, W] of 3 x 3 pixels or more."
        )
    if not torch.isfinite(images).all() or images.min() < 0 or images.max() > 1:
        raise InputError(f"{argument}: values span {images.min():g} to {images.max():g}; expected [0, 1].")


def high_pass(images: Tensor) -> Tensor:
    """Residual x - b * x of images `[n, C, H, W]`, where the filter lies wholly inside: `[n, C, H - 2, W - 2]`."""
    channels = images.shape[1]
    kernel = torch.outer(BINOMIAL, BINOMIAL).to(images).expand(channels, 1, 3, 3)
    return images[..., 1:-1, 1:-1] - functional.conv2d(images, kernel, groups=channels)


def grain(images: Tensor) -> np.ndarray:
    """Grain of images `[n, C, H, W]` in [0, 1], in grey levels `[n]`; InputError for other images."""
    check_images(images, "images")
    return high_pass(255 * images.double()).flatten(1).std(dim=1, correction=0).numpy()


def radial_power(images: Tensor) -> np.ndarray:
    """P of images `[n, C, H, H]` in [0, 1], in squared grey levels.

    Args:
        images: square.

    Returns:
        `[n, K]` for frequencies of 0, 1, ... K - 1 cycles per side; those above H / 2 occur along diagonals only.

    Raises:
        InputError: for images of another shape or range.
    """
    check_images(images, "images")
    side = images.shape[-1]
    if images.shape[-2] != side:
        raise InputError(f"images: {images.shape[-2]} x {side} pixels are not square; give square images.")
    along = torch.fft.fftfreq(side, 1 / side, dtype=torch.float64)
    ring = torch.hypot(along[:, None], along[None]).round().long().flatten()
    power = torch.fft.fft2(255 * images.double(), norm="ortho").abs().square().mean(dim=1).flatten(1)
    sums = power.new_zeros(len(images), int(ring.max()) + 1).index_add_(1, ring, power)
    return (sums / ring.bincount()).numpy()


def texture(
    real: Tensor, generated: Tensor, real_groups: Sequence[str], generated_groups: Sequence[str]
) -> dict[str, Any]:
    """Spectrum and grain of generated images against the interquartile band of real ones.

    Args:
        real: images `[n, C, H, H]` in [0, 1].
        generated: images `[m, C, H, H]`, likewise.
        real_groups: the group (patient) of each real image.
        generated_groups: the group of each generated image: that of the real image whose covariates it has.

    Returns:
        `spectrum`: `distance`, the mean over frequencies from 1 cycle per side to H / 2 of the absolute difference of
        median powers, in decibels; `outside`, the share of these frequencies at which the generated median lies
        outside of the real quartiles; and by frequency the `real` quartiles and the `generated` median, in decibels.
        `grain`: `real` quartiles and `generated` median in grey levels, whether it lies `within` them, and `auc`, by
        which grain alone tells generated from real (0.5 where it can't, above where the generated are grainier).

    Raises:
        InputError: for images of another shape or range, or another number of groups.
    """
    for argument, images, groups in (("real", real, real_groups), ("generated", generated, generated_groups)):
        check_images(images, argument)
        if len(groups) != len(images):
            raise InputError(f"{argument}_groups: {len(groups)} names for {len(images)} images; give one per image.")
    if real.shape[1:] != generated.shape[1:]:
        raise InputError(f"generated: images of {list(generated.shape[1:])}, real ones of {list(real.shape[1:])}.")
    frequencies = slice(1, real.shape[-1] // 2 + 1)
    decibels = [10 * np.log10(radial_power(images)[:, frequencies] + ROUNDING) for images in (real, generated)]
    (low, median, high), middle = np.quantile(decibels[0], (0.25, 0.5, 0.75), axis=0), np.median(decibels[1], axis=0)
    grains = [grain(images) for images in (real, generated)]
    band, drawn = np.quantile(grains[0], (0.25, 0.5, 0.75)), float(np.median(grains[1]))
    curve = area_under_curve(np.concatenate(grains), np.repeat([0, 1], [len(real), len(generated)]))
    return {
        "spectrum": {
            "distance": float(np.abs(middle - median).mean()),
            "outside": float(((middle < low) | (middle > high)).mean()),
            "real": np.stack([low, median, high]).round(3).tolist(),
            "generated": middle.round(3).tolist(),
        },
        "grain": {
            "real": band.tolist(),
            "generated": drawn,
            "within": bool(band[0] <= drawn <= band[2]),
            "auc": asdict(bootstrap([curve], [[*real_groups, *generated_groups]])),
        },
    }
