"""What a generator can do: a ladder of protocols.

    Sampler              image = generator(covariates, noise, do)                    same-noise samples
    CausalGenerator      the same, and noise = abduction(image, covariates)          counterfactuals

A trained pipeline, or a world with the same interface, is a causal generator: `diffusion.pipeline` and
`domains.oracle`. A text-to-image pipeline (`diffusion.text_to_image`) is a sampler: it knows the noise of no
image but its own, and a prompt says what differs, not what is held. Generation imports none of them.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from ..domains.preset import Preset

__all__ = ["CausalGenerator", "CausalModel", "Sampler"]


class CausalModel(Protocol):
    """Structural equations of the covariates."""

    def sample_noise(self, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Exogenous noise of so many subjects by covariate, `[rows, ...]`."""

    def evaluate(self, noise: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encoded covariates `[rows]` of noise."""

    def sample(self, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Encoded covariates `[rows]` of so many subjects."""


class Sampler(Protocol):
    """Images of covariates, from noise that it draws itself."""

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


class CausalGenerator(Sampler, Protocol):
    """Images of subjects, and of the same subjects under interventions: what it is called with may be an image."""
