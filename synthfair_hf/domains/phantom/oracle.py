"""The phantom as a generator: what generation needs of a trained pipeline, computed by the world itself.

    covariates = f(noise of the covariates, do)
    image      = radiograph(covariates, key),      key -> anatomy, texture, grain

so that every counterfactual of a data set is exact and costs no network. A subject's image noise is named by one
integer and drawn again from it wherever it is needed. Members of a family that differ in the scanner alone share one
exposure, which is most of the work.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError, unknown
from ...records import Access, fingerprint
from ..preset import Preset
from .phantom import RESOLUTIONS, Exogenous, Phantom, equations, sample_noise
from .preset import PHANTOM

__all__ = ["ORACLES", "Oracle", "OracleConfig", "OracleOutput"]

ORACLES = (PHANTOM.name,)
"""Worlds that generate: their counterfactuals need no observation."""

KEYS = 2**62


class OracleConfig(NamedTuple):
    """The part of a pipeline's configuration that generation reads."""

    resolution: int


class OracleOutput(NamedTuple):
    """Images float32 `[B, 1, H, W]` in [0, 1], the keys `[B, 1]` and the covariates' noise behind them."""

    images: Tensor
    noise: Tensor
    covariate_noise: Mapping[str, Tensor] | None
    residual: None = None


class PhantomModel:
    """The phantom's structural equations of its covariates, in tensors."""

    def __init__(self, world: Phantom) -> None:
        self._world = world

    def sample_noise(self, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Noise by covariate: `[rows, 1]` standard normal, or `[rows, levels]` Gumbel."""
        noise = {}
        for variable in self._world.schema.walk():
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
        found = self._world.covariates(_exogenous(noise), do)
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
        self.preset: Preset = PHANTOM
        self.resolution = PHANTOM.resolution if resolution is None else resolution
        low, high = RESOLUTIONS
        if not low <= self.resolution <= high:
            raise InputError(f"resolution: {resolution} is out of range; allowed: {low} to {high} pixels.")
        self.config, self.revision = OracleConfig(self.resolution), fingerprint([world, *equations()])
        self._world = Phantom()
        self.scm = PhantomModel(self._world)

    def causal_model(self) -> PhantomModel:
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
        """The radiographs of subjects with these covariates and noise, under do(...) if given.

        A world has no solver and no guidance: what else a pipeline takes may be given as None alone.
        """
        for name, value in unused.items():
            if value is not None and name != "output_type":
                raise InputError(f"{name}: {value!r} is for a trained generator; a world is exact, leave it out.")
        found = {name: values.numpy() for name, values in self.scm.evaluate(covariate_noise, do).items()}
        keys, first, place = np.unique(noise[:, 0].numpy(), return_index=True, return_inverse=True)
        subjects = _image_noise(covariate_noise, keys.tolist(), first)
        others = [values for name, values in found.items() if name != "scanner"]
        _, row, exposure = np.unique(np.stack([place, *others], axis=1), axis=0, return_index=True, return_inverse=True)
        exposed = self._world.expose(
            {name: values[row] for name, values in found.items()}, subjects[place[row]], self.resolution
        )
        images = self._world.acquire(exposed[exposure], found["scanner"], subjects[place])
        return OracleOutput(torch.from_numpy(images)[:, None], noise, covariate_noise)


def _exogenous(noise: Mapping[str, Tensor]) -> Exogenous:
    """Noise of covariates whose images are not wanted."""
    covariates = {name: values.numpy() for name, values in noise.items()}
    nothing = np.empty((len(next(iter(covariates.values()))), 0), np.float32)
    return Exogenous(covariates, nothing, nothing, nothing)


def _image_noise(covariate_noise: Mapping[str, Tensor], keys: Sequence[int], first: np.ndarray) -> Exogenous:
    """The exogenous noise of one subject per key, whose covariates' noise is that of row `first`."""
    drawn = [sample_noise(1, key) for key in keys]
    parts = {name: np.concatenate([getattr(one, name) for one in drawn]) for name in ("anatomy", "texture", "grain")}
    return Exogenous({name: values.numpy()[first] for name, values in covariate_noise.items()}, **parts)
