"""Sharpness-aware minimisation (Foret et al. 2021): the gradient is taken where the loss is worst nearby.

    theta <- AdamW(theta, gradient of loss at theta + rho g / |g|),     g the gradient at theta, of the same batch

Flat minima are meant to carry over to rows of rarer groups. Each step costs two gradients.
"""

from collections.abc import Callable

import torch
from pydantic import Field

from ..classifier import FittingSettings
from .method import Method

__all__ = ["SAM", "SAMSettings"]


class SAMSettings(FittingSettings):
    """Settings.

    Attributes:
        radius: rho, the distance that weights are moved by.
    """

    radius: float = Field(0.05, gt=0)


class SAM(Method):
    """Moves weights uphill before the gradient of every step, and back after it."""

    Settings = SAMSettings
    settings: SAMSettings

    def update(self, optimizer: torch.optim.Optimizer, gradients: Callable[[], None]) -> None:
        """The step of the optimiser with the gradient from uphill."""
        gradients()
        given = [one for group in optimizer.param_groups for one in group["params"] if one.grad is not None]
        kept = [one.detach().clone() for one in given]
        norm = torch.stack([one.grad.norm() for one in given]).norm().clamp(min=1e-12)
        with torch.no_grad():
            for one in given:
                one.add_(self.settings.radius / norm * one.grad)
        gradients()
        with torch.no_grad():
            for one, before in zip(given, kept, strict=True):
                one.copy_(before)
        optimizer.step()
