"""A drawn world as a generator: what generation needs of a trained pipeline, computed by the world itself.

    covariates = f(noise of the covariates, do)
    image      = members(covariates, key),      key -> everything else that the image is drawn from

so that every counterfactual of a data set is exact and costs no network. A subject's image noise is named by one
integer and drawn again from it wherever it is needed.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError, unknown
from ..records import Access, fingerprint
from .brain_mri.phantom import BrainPhantom
from .dermatology.phantom import SkinPhantom
from .drawn import RESOLUTIONS
from .images import to_batch
from .phantom.phantom import Phantom
from .preset import Preset

__all__ = ["ORACLES", "Oracle", "OracleConfig", "OracleOutput"]

ORACLES: dict[str, Any] = {one.preset.name: one for one in (Phantom, SkinPhantom, BrainPhantom)}
"""Worlds that generate: their counterfactuals need no observation."""

KEYS = 2**62


class OracleConfig(NamedTuple):
    """The part of a pipeline's configuration that generation reads."""

    resolution: int


class OracleOutput(NamedTuple):
    """Images float32 `[B, C, H, W]` in [0, 1], the keys `[B, 1]` and the covariates' noise behind them."""

    images: Tensor
    noise: Tensor
    covariate_noise: Mapping[str, Tensor] | None
    residual: None = None


class DrawnModel:
    """A world's structural equations of its covariates, in tensors."""

    def __init__(self, world: Any) -> None:
        self._world = world

    def sample_noise(self, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Noise by covariate: `[rows, 1]` standard normal, or `[rows, levels]` Gumbel."""
        noise = {}
        for variable in self._world.preset.covariates.walk():
            if variable.categorical:
                # above 0, so that both logarithms exist
                uniform = 1 - torch.rand(rows, len(variable.levels), generator=generator, dtype=torch.float64)
                noise[variable.name] = -(-uniform.log().clamp(max=-torch.finfo(torch.float64).tiny)).log()
            else:
                noise[variable.name] = torch.randn(rows, 1, generator=generator)
            noise[variable.name] = noise[variable.name].float()
        return noise

    def sample(self, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Encoded covariates `[rows]` of so many subjects."""
        return self.evaluate(self.sample_noise(rows, generator))

    def evaluate(self, noise: Mapping[str, Tensor], do: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
        """Encoded covariates `[rows]`, under do(...) of decoded values if given."""
        found = self._world.structure.covariates({name: one.numpy() for name, one in noise.items()}, do)
        return {name: torch.from_numpy(values) for name, values in found.items()}


class Oracle:
    """A world with the interface of a saved pipeline, for data sets that need no network.

    `revision` is the identity of its equations: another version of them is another world.

    Args:
        world: a name in ORACLES.
        resolution: height and width in pixels, 16 to 1024; the preset's by default.

    Raises:
        InputError: an unknown world, or a resolution out of range.
    """

    access: Access = "open"

    def __init__(self, world: str, resolution: int | None = None) -> None:
        if world not in ORACLES:
            raise unknown("world", world, ORACLES)
        self._world = ORACLES[world]()
        self.preset: Preset = self._world.preset
        self.resolution = self.preset.resolution if resolution is None else resolution
        low, high = RESOLUTIONS
        if not low <= self.resolution <= high:
            raise InputError(f"resolution: {resolution} is out of range; allowed: {low} to {high} pixels.")
        self.config, self.revision = OracleConfig(self.resolution), fingerprint([world, *self._world.equations()])
        self.scm = DrawnModel(self._world)

    def causal_model(self) -> DrawnModel:
        """Its structural equations."""
        return self.scm

    def sample_noise(self, generator: Sequence[torch.Generator]) -> Tensor:
        """The key of each subject's image noise, int64 `[B, 1]`."""
        return torch.stack([torch.randint(KEYS, (1,), generator=one) for one in generator])

    def __call__(
        self,
        covariates: Mapping[str, Sequence[Any]],
        noise: Tensor,
        covariate_noise: Mapping[str, Tensor],
        do: Mapping[str, Any] | None = None,
        **unused: None,
    ) -> OracleOutput:
        """The images of subjects with these covariates and noise, under do(...) if given.

        A world has no solver and no guidance: what else a pipeline takes may be given as None alone.
        """
        for name, value in unused.items():
            if value is not None and name != "output_type":
                raise InputError(f"{name}: {value!r} is for a trained generator; a world is exact, leave it out.")
        found = {name: values.numpy() for name, values in self.scm.evaluate(covariate_noise, do).items()}
        images = to_batch(self._world.members(found, noise[:, 0].tolist(), self.resolution))
        return OracleOutput(torch.from_numpy(images), noise, covariate_noise)
