"""Guidance that acts only where a covariate has changed, for each changed covariate by itself.

    c(s) = target where a covariate may act at noise level s, factual elsewhere: covariate k acts at s <= level_k
    v    = v(x, s | c(s)) + sum over changed, acting k of (scale_k - 1) (v(x, s | c(s)) - v(x, s | c(s) with k factual))

Each difference is the direction of one change, everything else held: what has not changed is never amplified, and
scale_k = 1 for all k is the plain conditional velocity. Position and exposure of a film are decided at high noise, so a
covariate that should leave them alone acts below it only (level_k < 1; compare the guidance interval of Kynkaanniemi et
al. 2024). Whatever the scales and levels, no change at all means the factual velocity: do={} returns the input.

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
    """How strongly a change of one covariate acts (1: as trained), and the noise level from which downward it does."""

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
    """The velocity of samples for tokens `[B, V, D]`, guided away from those of hidden covariates.

    Scale 1 is the plain conditional velocity and costs nothing; any other costs one more evaluation.
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
    """The guided velocity for tokens `[B, V, D]` that differ where `changed` `[B, V]`; strengths by covariate's place.

    A covariate with scale 1 costs nothing; any other costs one more evaluation for the rows in which it changed.
    """
    strengths = {place: one for place, one in strengths.items() if changed[:, place].any()}
    rows = {place: changed[:, place].nonzero()[:, 0] for place in strengths}

    def velocity(latents: Tensor, level: float) -> Tensor:
        asked = target.clone()
        for place, strength in strengths.items():
            if not strength.acts(level):
                asked[:, place] = factual[:, place]
        guided = [place for place, one in strengths.items() if one.scale != 1 and one.acts(level)]
        states, tokens = [latents], [asked]
        for place in guided:
            without = asked[rows[place]]
            without[:, place] = factual[rows[place], place]
            states.append(latents[rows[place]])
            tokens.append(without)
        batch = torch.cat(states)
        sigma = batch.new_full((len(batch),), level)
        plain, *reverted = predict_velocity(denoiser, batch, sigma, torch.cat(tokens)).split([*map(len, states)])
        result = plain.clone()
        for place, as_was in zip(guided, reverted, strict=True):
            direction = plain[rows[place]] - as_was
            result.index_add_(0, rows[place], direction, alpha=strengths[place].scale - 1)
        return result

    return velocity
