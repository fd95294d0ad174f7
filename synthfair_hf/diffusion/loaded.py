"""A saved generator that stays in memory and answers one image at a time, as the explorer asks it.

image = read(file) or draw(covariates, seed),     counterfactual(image, covariates, do, seed)
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from ..domains.images import from_batch, to_batch
from ..domains.preset import Preset
from ..domains.source import read_image
from ..errors import InputError
from .generator import load_generator
from .inputs import may_be_unknown, parse_counterfactual
from .pipeline import CausalPipelineOutput
from .saved import SavedGenerator

__all__ = ["LoadedGenerator"]


class LoadedGenerator:
    """The generator and its pipeline.

    Args:
        saved: as `find_generator` finds it.

    Raises:
        InputError: for what is not a whole saved pipeline of this package.
    """

    def __init__(self, saved: SavedGenerator) -> None:
        self.preset: Preset = saved.preset
        self.may_lack = may_be_unknown(saved.preset)
        self._resolution = saved.resolution
        self._pipeline = load_generator(saved)

    def read(self, file: bytes) -> np.ndarray:
        """An uploaded radiograph as float32 `[r, r]` or `[3, r, r]` in [0, 1]; nothing of it is left on the disk.

        Args:
            file: the bytes of an image or DICOM file.

        Raises:
            InputError: as `domains.source.read_image`.
        """
        with TemporaryDirectory() as directory:
            path = Path(directory, "radiograph")
            path.write_bytes(file)
            try:
                return read_image(path, self._resolution, own_size=True, channels=self.preset.channels)
            except InputError as error:
                raise InputError(str(error).replace(str(path), "radiograph")) from None

    def drawn(
        self, covariates: Mapping[str, Any], do: Mapping[str, Any], seed: int
    ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """An image of these covariates, what it would have been, both as `read` gives one, and its covariates.

        The counterfactual is from the noise that the image was drawn from, so nothing is abducted.

        Args:
            covariates: by name; None for those that are unknown.
            do: interventions by name.
            seed: of the noise.

        Raises:
            InputError: a name or value that is not allowed.
        """
        known, changes, _ = parse_counterfactual(covariates, do, self.preset)
        table = {name: [value] for name, value in known.items()}
        sample = self._pipeline(covariates=table, generator=_seeded(seed), output_type="pt")
        return _pixels(sample), *self._changed(table, changes, seed, noise=sample.noise)

    def counterfactual(
        self, image: np.ndarray, covariates: Mapping[str, Any], do: Mapping[str, Any], seed: int
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """What an image would have been, as `read` gives one, and its covariates.

        Args:
            image: of `read`.
            covariates: of the image, by name; None for those that are unknown.
            do: interventions by name.
            seed: of what of the covariates' noise is drawn.

        Raises:
            InputError: a name or value that is not allowed.
        """
        known, changes, _ = parse_counterfactual(covariates, do, self.preset)
        table = {name: [value] for name, value in known.items()}
        return self._changed(table, changes, seed, image=torch.from_numpy(to_batch([image])))

    def _changed(
        self, table: Mapping[str, Any], do: Mapping[str, Any], seed: int, **observed: Any
    ) -> tuple[np.ndarray, dict[str, Any]]:
        output = self._pipeline(covariates=table, do=do, generator=_seeded(seed), output_type="pt", **observed)
        return _pixels(output), {name: column[0] for name, column in output.covariates.items()}


def _pixels(output: CausalPipelineOutput) -> np.ndarray:
    return from_batch(torch.as_tensor(output.images).numpy())[0]


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
