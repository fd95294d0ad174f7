"""Guidance that acts only where a covariate has changed.

    v = v(target) + (g - 1) (v(target) - v(factual))

Factual and target tokens differ in the changed covariates alone, so their difference is the direction of the change
and of nothing else; g = 1 is the plain conditional velocity. A row whose covariates have not changed is never guided.
"""

import torch
from torch import Tensor

from .denoiser import Denoiser, predict_velocity
from .solver import Velocity

__all__ = ["conditional_velocity", "guided_velocity"]


def conditional_velocity(denoiser: Denoiser, tokens: Tensor) -> Velocity:
    """v(x, s | tokens)."""

    def velocity(latents: Tensor, level: float) -> Tensor:
        sigma = latents.new_full((len(latents),), level)
        return predict_velocity(denoiser, latents, sigma, tokens)

    return velocity


def guided_velocity(denoiser: Denoiser, target: Tensor, factual: Tensor, changed: Tensor, scale: float) -> Velocity:
    """The guided velocity for tokens `[B, V, D]`; rows where `changed` `[B]` is False cost one evaluation, not two."""
    plain = conditional_velocity(denoiser, target)
    rows = changed.nonzero()[:, 0]
    if scale == 1 or len(rows) == 0:
        return plain
    both = torch.cat([target, factual[rows]])

    def velocity(latents: Tensor, level: float) -> Tensor:
        states = torch.cat([latents, latents[rows]])
        sigma = states.new_full((len(states),), level)
        result = predict_velocity(denoiser, states, sigma, both)
        asked, as_was = result[: len(latents)], result[len(latents) :]
        direction = torch.zeros_like(asked).index_copy(0, rows, asked[rows] - as_was)
        return asked + (scale - 1) * direction

    return velocity
