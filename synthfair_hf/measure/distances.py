"""Distances of pairs of images, or of their encodings: pure functions, one figure per pair."""

import numpy as np
import torch
from torch import Tensor

__all__ = ["divergence", "l1", "minimality", "ssim"]

ROWS = 256
"""Images that `minimality` compares with all others at once, so that memory grows with n and not with its square."""


def l1(images: Tensor, others: Tensor) -> np.ndarray:
    """Mean absolute difference of each pair of images.

    Args:
        images: `[n, C, H, W]` in [0, 1].
        others: of the same shape.

    Returns:
        The difference on the 0-255 scale, `[n]`.
    """
    return ((images - others).abs().flatten(1).mean(dim=1) * 255).double().cpu().numpy()


def ssim(images: Tensor, others: Tensor) -> np.ndarray:
    """Structural similarity of each pair of images (Wang et al. 2004; Gaussian window of 11).

    Args:
        images: `[n, C, H, W]` in [0, 1].
        others: of the same shape.

    Returns:
        The similarity, up to 1, `[n]`.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # slow to import

    parts = [
        torch.as_tensor(structural_similarity_index_measure(one, other, data_range=1.0, reduction="none")).reshape(-1)
        # in double precision, for variances are differences of squares; in parts, for it holds five maps per image
        for one, other in zip(images.double().split(256), others.double().split(256), strict=True)
    ]
    return torch.cat(parts).cpu().numpy()


def divergence(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """Kullback-Leibler divergences KL(p_i || q_j) of diagonal normal distributions.

    Args:
        first: means and log standard deviations of the p_i, `[n, d]` each.
        second: of the q_j, `[m, d]` each.

    Returns:
        `[n, m]`, in nats.
    """
    (mean, log_scale), (other, other_log_scale) = ((one.double(), two.double()) for one, two in (first, second))
    precision = (-2 * other_log_scale).exp()
    # (m - o)^2 p = m^2 p - 2 m o p + o^2 p, by matrix products
    squares = (mean**2 + (2 * log_scale).exp()) @ precision.T - 2 * mean @ (other * precision).T
    squares = squares + (other**2 * precision).sum(1)
    return 0.5 * (squares - mean.shape[1]) + other_log_scale.sum(1) - log_scale.sum(1)[:, None]


def minimality(
    observed: tuple[Tensor, Tensor], changed: tuple[Tensor, Tensor], own: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """Counterfactual latent divergence (Melistas et al. 2024, weights 0.8 and 0.2), from 0 to 1.

        log(0.8 exp P(S* <= u) + 0.2 exp P(S >= u)),    u = KL(x || x*)

    S*, S: divergences of x from real images with the target's bin and with its own. Lower is nearer to x than images of
    the target's bin are, yet farther than images of its own bin; the unchanged image scores log(0.8 + 0.2 e) = 0.295.

    The real images that x is compared with are the other observed ones.

    Args:
        observed: means and log standard deviations of the images' posteriors, `[n, d]` each.
        changed: of their counterfactuals', likewise.
        own: bins of the intervened covariate before, `[n]`.
        target: bins of the intervened covariate after, `[n]`.

    Returns:
        `[n]`; NaN where no other image has the bin.
    """
    numbers, figures = np.arange(len(own)), np.empty(len(own))
    for first in range(0, len(own), ROWS):
        rows = slice(first, first + ROWS)
        some, moved = ((mean[rows], log_scale[rows]) for mean, log_scale in (observed, changed))
        distance = divergence(some, moved).diagonal()[:, None].cpu().numpy()
        between = divergence(some, observed).cpu().numpy()
        others = numbers[rows, None] != numbers  # an image is not its own reference
        nearer = _share(between <= distance, others & (target[rows, None] == own))
        farther = _share(between >= distance, others & (own[rows, None] == own))
        figures[rows] = np.log(0.8 * np.exp(nearer) + 0.2 * np.exp(farther))
    return figures


def _share(event: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Share of each row's `among` that is `event`; NaN where there is none."""
    total = among.sum(axis=1)
    return np.divide((event & among).sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)
