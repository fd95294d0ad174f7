"""Reversible integration of dx/ds = v(x, s) between the image (s = 0) and its exogenous noise (s = 1).

A pair of states (y, z) is carried, and each is moved by the velocity at the other, with h = s' - s:

    y' = m y + (1 - m) z + h v(z, s)          z' = z + h v(y', s')

Given (y', z') both lines can be undone exactly, z first, then y, whatever v is (McCallum and Foster 2024, with Euler as
the base method). So abduction followed by prediction under the same v is the identity up to rounding at any step count,
at two network calls a step. With m = 1 the two states err to opposite sides and their mean is of second order; m < 1
pulls them together, which leaves first order and multiplies rounding by 1/m per undo, but is nearer at the few steps
one can afford: 16 steps of the shipped generator, L1 on the 0-255 scale to a fine solution: 2.6 for m = 1, 1.9 for 0.9.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from diffusers import ConfigMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

__all__ = ["ReversibleFlowScheduler", "Velocity"]

Velocity = Callable[[Tensor, float], Tensor]
"""v(x, s): the velocity `[B, C, H, W]` at states x and noise level s in [0, 1]."""


class ReversibleFlowScheduler(SchedulerMixin, ConfigMixin):
    """Noise levels and the reversible solver, saved with the checkpoint.

    Parameters:
        shift: above 1 spends more steps at high noise: s -> shift s / (1 + (shift - 1) s).
        mixing: m above, in (0, 1].
    """

    config_name = "scheduler_config.json"
    order = 1

    @register_to_config
    def __init__(self, shift: float = 1.0, mixing: float = 0.9) -> None:
        if not 0 < mixing <= 1:
            raise ValueError(f"mixing: {mixing} is out of range; allowed: above 0, up to 1.")
        if shift <= 0:
            raise ValueError(f"shift: {shift} is out of range; it must be positive.")
        self.shift, self.mixing = shift, mixing

    def levels(self, num_inference_steps: int) -> list[float]:
        """`num_inference_steps + 1` noise levels from 1 down to 0."""
        even = np.linspace(1, 0, num_inference_steps + 1)
        return [float(level) for level in self.shift * even / (1 + (self.shift - 1) * even)]

    def predict(self, velocity: Velocity, pair: Tensor, num_inference_steps: int, stop: int | None = None) -> Tensor:
        """From noise to image: pair `[B, 2, C, H, W]` at s = 1 to the pair at s = 0, or after `stop` steps."""
        y, z = pair.unbind(dim=1)
        levels = self.levels(num_inference_steps)[: None if stop is None else stop + 1]
        for now, after in pairwise(levels):
            step = after - now
            y = self.mixing * y + (1 - self.mixing) * z + step * velocity(z, now)
            z = z + step * velocity(y, after)
        return torch.stack([y, z], dim=1)

    def abduct(self, velocity: Velocity, pair: Tensor, num_inference_steps: int) -> Tensor:
        """From image to noise: the exact inverse of `predict` under the same velocity."""
        y, z = pair.unbind(dim=1)
        levels = self.levels(num_inference_steps)
        for now, after in reversed(list(pairwise(levels))):
            step = after - now
            z = z - step * velocity(y, after)
            y = (y - (1 - self.mixing) * z - step * velocity(z, now)) / self.mixing
        return torch.stack([y, z], dim=1)
