"""Guidance that acts only where a covariate has changed, for each changed covariate by itself.

    c(s) = target where a covariate may act at noise level s, factual elsewhere: covariate k acts at s <= level_k
    v    = v(x, s | c(s)) + sum over changed, acting k of (scale_k - 1) (v(x, s | c(s)) - v(x, s | c(s) with k factual))

Each difference is the direction of one change, everything else held: an unchanged covariate is never amplified, and
scale_k = 1 for all k is the conditional velocity. Position and exposure of an image are determined at high noise, so a
covariate that should not affect them acts below it only (level_k < 1; compare the guidance interval of Kynkaanniemi et
al. 2024). Whatever the scales and levels, no change at all means the factual velocity: do={} returns the input.

Guidance breaks reversibility. The image under do(a') was made by an extrapolated velocity, but is abducted under the
conditional one, so do(a) does not lead back to x, the less the farther scale_k is from 1; nor does it where level_k is
below 1. Composition can't show this, `reversibility_l1` of `measure.soundness` does.

A sample has no factual side; its guidance is classifier-free (Ho and Salimans 2022), against all covariates hidden:

    v = v(x, s | hidden) + scale (v(x, s | c) - v(x, s | hidden))
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .denoiser import Denoiser, predict_velocity
from .solver import Velocity

__all__ = ["Strength", "classifier_free_velocity", "conditional_velocity", "guided_velocity"]


ROUNDING = 1e-9
"""Noise levels come from arithmetic: 0.6 of 35 steps is 0.6000000000000001."""


@dataclass(frozen=True)
class Strength:
    """How strongly a change of one covariate acts.

    Args:
        scale: guidance scale, 0 or more; 1 is no guidance.
        level: noise level at and below which the change acts, in (0, 1].
    """

    scale: float = 1.0
    level: float = 1.0

    def acts(self, level: float) -> bool:
        """Whether the change acts at this noise level."""
        return level <= self.level + ROUNDING


def conditional_velocity(denoiser: Denoiser, tokens: Tensor) -> Velocity:
    """v(x, s | tokens)."""

    def velocity(latents: Tensor, level: float) -> Tensor:
        sigma = latents.new_full((len(latents),), level)
        return predict_velocity(denoiser, latents, sigma, tokens)

    return velocity


def classifier_free_velocity(denoiser: Denoiser, tokens: Tensor, hidden: Tensor, scale: float) -> Velocity:
    """The velocity of samples under classifier-free guidance.

    Scale 1 is the conditional velocity; any other costs one more evaluation.

    Args:
        denoiser: the network.
        tokens: of the covariates, `[B, V, D]`.
        hidden: null tokens of the same shape.
        scale: guidance scale, 0 or more.
    """
    if scale == 1:
        return conditional_velocity(denoiser, tokens)

    def velocity(latents: Tensor, level: float) -> Tensor:
        sigma = latents.new_full((2 * len(latents),), level)
        both = predict_velocity(denoiser, latents.repeat(2, 1, 1, 1), sigma, torch.cat([hidden, tokens]))
        without, plain = both.chunk(2)
        return torch.lerp(without, plain, scale)

    return velocity


def guided_velocity(
    denoiser: Denoiser, target: Tensor, factual: Tensor, changed: Tensor, strengths: Mapping[int, Strength]
) -> Velocity:
    """The velocity of counterfactuals, guided on each changed covariate by itself.

    Scale 1 costs nothing; any other costs one more evaluation for the rows in which the covariate changed.

    Args:
        denoiser: the network.
        target: tokens of the counterfactual's covariates, `[B, V, D]`.
        factual: tokens of the observed covariates, `[B, V, D]`.
        changed: which covariates differ, bool `[B, V]`.
        strengths: by the covariate's place in the schema; those left out act fully, without guidance.
    """
    strengths = {place: one for place, one in strengths.items() if changed[:, place].any()}
    rows = {place: changed[:, place].nonzero()[:, 0] for place in strengths}

    def velocity(latents: Tensor, level: float) -> Tensor:
        active = target.clone()
        for place, strength in strengths.items():
            if not strength.acts(level):
                active[:, place] = factual[:, place]
        guided = [place for place, one in strengths.items() if one.scale != 1 and one.acts(level)]
        states, tokens = [latents], [active]
        for place in guided:
            reverted_tokens = active[rows[place]]
            reverted_tokens[:, place] = factual[rows[place], place]
            states.append(latents[rows[place]])
            tokens.append(reverted_tokens)
        batch = torch.cat(states)
        sigma = batch.new_full((len(batch),), level)
        full, *reverted = predict_velocity(denoiser, batch, sigma, torch.cat(tokens)).split([*map(len, states)])
        result = full.clone()
        for place, factual_velocity in zip(guided, reverted, strict=True):
            direction = full[rows[place]] - factual_velocity
            result.index_add_(0, rows[place], direction, alpha=strengths[place].scale - 1)
        return result

    return velocity
