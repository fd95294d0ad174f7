"""Covariates as tokens: one vector per covariate, with a learned null token for each that is missing or dropped."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..access import restrict
from ..arguments import Size, checked
from ..errors import InputError
from ..schema import Schema, Variable

__all__ = ["CovariateEncoder"]

WIDEST = 65_536
"""Length of a token that can be meant."""


class CovariateEncoder(ModelMixin, ConfigMixin):
    """Encoded covariates `{name: [B]}` to tokens `[B, V, width]`, in the schema's order.

    A categorical value is an embedding, a continuous one Fourier features of its place in the range through a small
    network. A missing value (NaN, -1) or a dropped one becomes the variable's null token, so that sources without a
    covariate can be trained on, and guidance has an unconditional branch.

    Args:
        variables: the schema's variables as JSON.
        width: length of a token.
    """

    config_name = "config.json"
    frequencies = 4

    pipeline_settings: dict[str, Any] | None = None
    """Settings of the pipeline it was last part of, which `CausalDiffusionPipeline(**pipe.components)` leaves out; not
    saved."""

    @register_to_config
    @checked
    def __init__(self, variables: list[dict[str, Any]], width: Size = 128) -> None:
        super().__init__()
        if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= WIDEST:
            raise InputError(f"width: {width!r} is not allowed; give a whole number from 1 to {WIDEST}.")
        self.covariates = Schema(variables=tuple(Variable(**variable) for variable in variables))
        self.null = nn.Parameter(torch.randn(len(self.covariates), width) * 0.02)
        self.embedders = nn.ModuleDict(
            {
                variable.name: (
                    nn.Embedding(len(variable.levels), width)
                    if variable.categorical
                    else nn.Sequential(nn.Linear(2 * self.frequencies, width), nn.SiLU(), nn.Linear(width, width))
                )
                for variable in self.covariates.walk()
            }
        )
        restrict(self)

    def forward(self, covariates: Mapping[str, Tensor], keep: Tensor | None = None) -> Tensor:
        """Encode covariates.

        Args:
            covariates: encoded values `[B]` by name.
            keep: bool `[B, V]`, False where a covariate is hidden; all are kept by default.

        Returns:
            Tokens `[B, V, width]`.
        """
        tokens = []
        for index, variable in enumerate(self.covariates.walk()):
            value = covariates[variable.name]
            known = value >= 0 if variable.categorical else ~value.isnan()
            visible = known if keep is None else known & keep[:, index]
            embedder = self.embedders[variable.name]
            token = embedder(value.clamp(min=0) if variable.categorical else self._fourier(value, variable))
            tokens.append(torch.where(visible[:, None], token, self.null[index].to(token.dtype)))
        return torch.stack(tokens, dim=1)

    def _fourier(self, value: Tensor, variable: Variable) -> Tensor:
        low, high = variable.bounds
        share = (torch.nan_to_num(value, nan=low) - low) / (high - low)
        # Half a turn over the range at the lowest frequency, so that both ends stay apart.
        angles = share[:, None] * math.pi * 2.0 ** torch.arange(self.frequencies, device=value.device)
        return torch.cat([angles.sin(), angles.cos()], dim=1).to(self.null.dtype)
