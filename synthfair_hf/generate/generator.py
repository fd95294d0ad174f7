"""The protocol of a generator: a trained pipeline, or a world with the same interface.

    covariates = scm.evaluate(covariate noise)      image = generator(covariates, noise, covariate noise, do)

Satisfied by `diffusion.pipeline.CausalDiffusionPipeline` and `domains.oracle.Oracle`; generation imports
neither.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from ..domains.preset import Preset

__all__ = ["CausalGenerator", "CausalModel"]


class CausalModel(Protocol):
    """Structural equations of the covariates."""

    def sample_noise(self, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Exogenous noise of so many subjects by covariate, `[rows, ...]`."""

    def evaluate(self, noise: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encoded covariates `[rows]` of noise."""

    def sample(self, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Encoded covariates `[rows]` of so many subjects."""


class CausalGenerator(Protocol):
    """Images of subjects, and of the same subjects under interventions."""

    @property
    def preset(self) -> Preset:
        """Its domain."""

    @property
    def config(self) -> Any:
        """Its configuration, which names its `resolution`."""

    @property
    def scm(self) -> Any:
        """Its CausalModel."""

    def sample_noise(self, generator: list[torch.Generator]) -> Tensor:
        """Exogenous image noise, one row per generator."""

    @property
    def __call__(self) -> Callable[..., Any]:
        """Images float32 `[B, C, H, W]` in [0, 1], `noise`, `covariate_noise` and `residual` of the requested rows."""
