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

    def draw(self, covariates: Mapping[str, Any], seed: int) -> np.ndarray:
        """An image of these covariates, as `read` gives one.

        Args:
            covariates: by name, None for those that are unknown.
            seed: of the noise it is drawn from.

        Raises:
            InputError: a name or value that is not allowed.
        """
        known, _, _ = parse_counterfactual(covariates, {}, self.preset)
        return self._answer(covariates=_rows(known), generator=_seeded(seed))[0]

    def counterfactual(
        self, image: np.ndarray, covariates: Mapping[str, Any], do: Mapping[str, Any], seed: int
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """What an image would have been, as `read` gives one, and its covariates.

        Args:
            image: of `read` or `draw`.
            covariates: of the image, by name; None for those that are unknown.
            do: interventions by name.
            seed: of what of the covariates' noise is drawn.

        Raises:
            InputError: a name or value that is not allowed.
        """
        known, changes, _ = parse_counterfactual(covariates, do, self.preset)
        given = torch.from_numpy(to_batch([image]))
        return self._answer(image=given, covariates=_rows(known), do=changes, generator=_seeded(seed))

    def _answer(self, **arguments: Any) -> tuple[np.ndarray, dict[str, Any]]:
        output = self._pipeline(**arguments, output_type="pt")
        image = from_batch(torch.as_tensor(output.images).numpy())[0]
        return image, {name: column[0] for name, column in output.covariates.items()}


def _rows(covariates: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [value] for name, value in covariates.items()}


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
