"""Covariates without a cause: each uniform over its levels or its range, and independent of the others.

    value = level floor(u K), or low + u (high - low)        u uniform in [0, 1), the variable's noise

The model of covariates for a generator of which nothing is known of whom it was trained on.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..schema import Schema

__all__ = ["UniformModel"]


class UniformModel:
    """Draws every combination of the covariates equally often.

    Args:
        covariates: the variables.
    """

    def __init__(self, covariates: Schema) -> None:
        self.covariates = covariates

    def sample_noise(self, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Noise by name, uniform in [0, 1), `[rows]`.

        Args:
            rows: number of rows.
            generator: of the draws.
        """
        return {name: torch.rand(rows, generator=generator) for name in self.covariates.names}

    def evaluate(self, noise: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encoded covariates `[rows]` by name.

        Args:
            noise: as `sample_noise` gives it.
        """
        found = {}
        for variable in self.covariates.walk():
            uniform = noise[variable.name]
            if variable.categorical:
                found[variable.name] = (uniform * len(variable.levels)).long().clamp(max=len(variable.levels) - 1)
            else:
                low, high = variable.bounds
                found[variable.name] = (low + uniform * (high - low)).clamp(low, high)
        return found

    def sample(self, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Encoded covariates `[rows]` of so many subjects.

        Args:
            rows: number of rows.
            generator: of the draws.
        """
        return self.evaluate(self.sample_noise(rows, generator))
