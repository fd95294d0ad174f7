"""MorphoMNIST with thickness and intensity, from train.npz and test.npz of one folder.

train.npz and test.npz    images uint8 [n, 28, 28], digit uint8 [n], thickness float32 [n], intensity float32 [n]
test.npz                  originals uint8 [n, 28, 28]: the digits its images were drawn from

Y. LeCun, C. Cortes, C. Burges (MNIST, CC BY-SA 3.0); Castro et al., JMLR 2019; Pawlowski et al., NeurIPS 2020.
"""

import zlib
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ...errors import InputError
from ...records import check_regular, file_sha256, fingerprint
from ..preset import Preset
from ..source import count_patients, patient_split

__all__ = ["MARGIN", "SIDE", "MorphoMNIST"]

SIDE, MARGIN = 28, 2
"""Height and width of the stored digits, and the empty pixels put around them: 32 halves five times."""


class MorphoMNIST:
    """The digits of a folder; every image is a patient of its own.

    Rows are those of train.npz, then those of test.npz. Train and validation are separated by the hash of the row in
    train.npz; all of test.npz is the test split. Its covariates are read at opening, its pixels only when a test row is
    needed, which training never does.

    Args:
        directory: holds train.npz and test.npz.
        preset: the domain.
        resolution: must be 32.

    Raises:
        InputError: another resolution, or files that are missing, damaged or hold something else.
    """

    name = "morphomnist"

    def __init__(self, directory: str | Path, preset: Preset, resolution: int) -> None:
        if resolution != SIDE + 2 * MARGIN:
            raise InputError(f"resolution: {resolution} is not that of {self.name}; allowed: {SIDE + 2 * MARGIN}.")
        self._files = {part: Path(directory) / f"{part}.npz" for part in ("train", "test")}
        self.covariates = preset.covariates
        self.table: dict[str, list[Any]] = {name: [] for name in self.covariates.names}
        sizes = {}
        for part, file in self._files.items():
            digit, thickness, intensity = _read(file, "digit", "thickness", "intensity")
            columns = {"digit": [str(level) for level in digit.tolist()]}
            columns |= {"thickness": thickness.tolist(), "intensity": intensity.tolist()}
            for name, column in columns.items():
                self.covariates[name].encode(column, f"{file}: {name}", known=True)
                self.table[name] += column
            sizes[part] = len(digit)
        self._images = self._pixels("train", "images", sizes["train"])
        self._test_size = sizes["test"]
        self.patient_ids = [f"{part}-{index:05d}" for part, size in sizes.items() for index in range(size)]
        self.splits = [_split(patient) for patient in self.patient_ids]
        self.counts: dict[str, Any] = count_patients(self.patient_ids, self.splits)
        self.fingerprint = fingerprint([self.name, *map(file_sha256, self._files.values())])

    def __len__(self) -> int:
        return len(self.patient_ids)

    def image(self, index: int, resolution: int) -> np.ndarray:
        """The digit with its margin `[32, 32]`, float32 in [0, 1]."""
        index = range(len(self))[index]
        trained = len(self._images)
        pixels = self._images[index] if index < trained else self._test_images[index - trained]
        image = np.zeros((resolution, resolution), np.float32)
        image[MARGIN:-MARGIN, MARGIN:-MARGIN] = pixels / np.float32(255)
        return image

    def draw(self, index: int, resolution: int, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
        """A training example: the digit as it is, for there are enough of them."""
        return self.image(index, resolution), {name: column[index] for name, column in self.table.items()}

    def original(self, index: int) -> np.ndarray:
        """The digit that a test row was drawn from, uint8 `[28, 28]`."""
        index = range(len(self))[index]
        if index < len(self._images):
            raise InputError(f"{self.name}: row {index} is not of test.npz; only its originals are kept.")
        return self._originals[index - len(self._images)]

    @cached_property
    def _test_images(self) -> np.ndarray:
        return self._pixels("test", "images", self._test_size)

    @cached_property
    def _originals(self) -> np.ndarray:
        return self._pixels("test", "originals", self._test_size)

    def _pixels(self, part: str, array: str, size: int) -> np.ndarray:
        (pixels,) = _read(self._files[part], array)
        if pixels.shape != (size, SIDE, SIDE) or pixels.dtype != np.uint8:
            raise InputError(
                f"{self._files[part]}: {array} is {pixels.dtype} {list(pixels.shape)}; needed: uint8 "
                f"{[size, SIDE, SIDE]}, one digit per label."
            )
        return pixels


def _split(patient: str) -> str:
    """Test for a row of test.npz; of train.npz those that `patient_split` gives to validation, the others train."""
    if patient.startswith("test"):
        return "test"
    return "validation" if patient_split(patient) == "validation" else "train"


def _read(file: Path, *names: str) -> tuple[np.ndarray, ...]:
    """Arrays of an npz file, all of one length; objects, which would need pickle, are an error."""
    check_regular(file, str(file), "give the folder that holds train.npz and test.npz")
    try:
        # numpy leaves a file that it opened itself open when it is damaged
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            found = tuple(arrays[name] for name in names)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; give the folder that holds train.npz and test.npz.") from None
    except KeyError as error:
        raise InputError(f"{file}: {error.args[0]}; needed: {', '.join(names)}.") from None
    # a header may claim an array that no memory holds
    except (OSError, ValueError, EOFError, TypeError, AttributeError, MemoryError, BadZipFile, zlib.error) as error:
        raise InputError(f"{file}: not a readable npz archive ({error}); give a whole file.") from None
    if len({len(array) for array in found if array.ndim}) != 1 or any(not array.ndim for array in found):
        raise InputError(f"{file}: {', '.join(names)} differ in length; give one value per image in each.")
    return found
