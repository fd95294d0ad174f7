"""MorphoMNIST with thickness and intensity: written digits whose counterfactuals are exact and can be measured.

    digit     exogenous
    thickness := 0.5 + g,                                     g ~ Gamma(shape 10, rate 5)       [pixels]
    intensity := 64 + 191 sigmoid(2 (thickness - 2.5) + u / 2),       u ~ N(0, 1)               [grey levels]
    image     := brighten( thicken( original, thickness - its own ), intensity )

The equations are those of Pawlowski, Castro and Glocker (NeurIPS 2020), the drawing that of Morpho-MNIST (`stroke`).
Both noises follow from the covariates alone, and the original digit is kept, so that do(thickness) and do(intensity)
have exact counterfactuals. do(digit) has none: the same hand's other digit is unknown. The covariates recorded are the
sampled ones, which measuring in an image meets with a small error.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, logit

from ...errors import InputError
from .preset import MORPHOMNIST
from .source import MARGIN
from .stroke import binarise, mean_thickness, reduce, thicken

__all__ = [
    "MEASURED_ATTRIBUTES",
    "Exogenous",
    "MorphoMNISTWorld",
    "abduct",
    "evaluate",
    "intensity_of",
    "measure_intensity",
    "measure_thickness",
    "render",
    "sample_noise",
]

DRAWING_SCALE, MEASURING_SCALE = 16, 4
"""How much finer than pixels the grid is on which strokes are drawn, and on which they are measured."""

DRAWINGS_KEPT = 100_000
"""Images that a world remembers, some 120 MB: several systems need the same, and drawing takes milliseconds."""

SCHEMA = MORPHOMNIST.covariates
LOW, SPAN = SCHEMA["intensity"].bounds[0], np.ptp(SCHEMA["intensity"].bounds)


class Exogenous(NamedTuple):
    """The noise of n images, each `[n]`: level indices of the digit, g of the thickness, u of the intensity."""

    digit: np.ndarray
    thickness: np.ndarray
    intensity: np.ndarray


def sample_noise(n: int, rng: np.random.Generator) -> Exogenous:
    """Noise of `n` images from its prior; the digits are equally frequent.

    Args:
        n: number of images.
        rng: decides the noise.
    """
    return Exogenous(rng.integers(10, size=n), rng.gamma(10, 1 / 5, size=n), rng.standard_normal(n))


def intensity_of(thickness: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The structural equation of intensity, in grey levels.

    Args:
        thickness: `[n]` in pixels.
        noise: standard normal `[n]`.
    """
    return LOW + SPAN * expit(2 * (thickness - 2.5) + noise / 2)


def evaluate(noise: Exogenous) -> dict[str, list[Any]]:
    """The covariates that this noise makes, decoded."""
    thickness = 0.5 + noise.thickness
    return {
        "digit": SCHEMA["digit"].decode(noise.digit),
        "thickness": thickness.tolist(),
        "intensity": intensity_of(thickness, noise.intensity).tolist(),
    }


def abduct(table: Mapping[str, Sequence[Any]]) -> Exogenous:
    """The only noise that makes these decoded covariates.

    No finite noise makes an intensity at an end of its range: there it was rounded, and is read as half a grey level
    inside.
    """
    known = {name: np.array([SCHEMA[name].encode_value(value) for value in table[name]]) for name in SCHEMA.names}
    share = (known["intensity"] - LOW) / SPAN
    share = np.where(share <= 0, 0.5 / SPAN, np.where(share >= 1, 1 - 0.5 / SPAN, share))
    return Exogenous(
        known["digit"].astype(np.int64), known["thickness"] - 0.5, 2 * (logit(share) - 2 * (known["thickness"] - 2.5))
    )


def render(
    originals: np.ndarray, thickness: Sequence[float], intensity: Sequence[float], own: np.ndarray | None = None
) -> np.ndarray:
    """Digits uint8 `[n, 28, 28]` drawn anew with these covariates `[n]`: uint8 `[n, 28, 28]`.

    `own` is the originals' thickness `[n]` on the drawing scale, measured where it is not given. A stroke too thin for
    the requested change vanishes; its image is black.

    Args:
        originals: uint8 `[n, 28, 28]`.
        thickness: `[n]` in pixels.
        intensity: `[n]` in grey levels.
        own: the originals' thickness `[n]` on the drawing scale; measured by default.
    """
    if own is None:
        own = mean_thickness(originals / np.float32(255), DRAWING_SCALE)
    drawn = np.empty(originals.shape, np.uint8)
    for index, original in enumerate(originals):
        stroke = binarise(original[None] / np.float32(255), DRAWING_SCALE)[0]
        stroke = thicken(stroke, thickness[index] - own[index], DRAWING_SCALE)
        grey = reduce(stroke[None], DRAWING_SCALE)
        level = _median_of_bright(grey)[0]
        drawn[index] = (grey[0] * (intensity[index] / level if level > 0 else 0)).clip(0, 255)
    return drawn


class MorphoMNISTWorld:
    """Originals uint8 `[n, 28, 28]`, the decoded covariates they were drawn with, and their counterfactuals.

    An original's own thickness is measured when it is first drawn (0.1 s), and remembered; so are the last
    DRAWINGS_KEPT drawings.

    Args:
        originals: uint8 `[n, 28, 28]`.
        table: decoded covariates `[n]` by name.
    """

    def __init__(self, originals: np.ndarray, table: Mapping[str, Sequence[Any]]) -> None:
        self.originals, self.table = originals, {name: list(table[name]) for name in SCHEMA.names}
        self._noise = abduct(self.table)
        self._own = np.full(len(originals), np.nan)
        self._drawn = lru_cache(DRAWINGS_KEPT)(self._draw)

    def counterfactual(
        self, do: Mapping[str, Sequence[Any]], rows: Sequence[int] | None = None
    ) -> tuple[np.ndarray, dict[str, list[Any]]]:
        """Images float32 `[n, 32, 32]` in [0, 1] and covariates, decoded, of all originals or of `rows` under do(...).

        An empty `do` draws the originals with the covariates they have. A covariate is evaluated anew only where a
        cause of it changed.

        Args:
            do: decoded values by name, one per row.
            rows: places among the originals; all by default.

        Raises:
            InputError: `do` changes a digit, or holds a value that is not allowed, or another number of them.
        """
        places = np.arange(len(self.originals)) if rows is None else np.asarray(rows, dtype=np.int64)
        covariates = self._act(do, places)
        unknown = places[np.isnan(self._own[places])]
        self._own[unknown] = mean_thickness(self.originals[unknown] / np.float32(255), DRAWING_SCALE)
        drawn = np.empty((len(places), *self.originals.shape[1:]), np.uint8)
        for index, place in enumerate(places.tolist()):
            drawn[index] = self._drawn(place, covariates["thickness"][index], covariates["intensity"][index])
        return np.pad(drawn / np.float32(255), ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN))), covariates

    def _draw(self, place: int, thickness: float, intensity: float) -> np.ndarray:
        """One original drawn anew, uint8 `[28, 28]`."""
        return render(self.originals[place, None], [thickness], [intensity], own=self._own[place, None])[0]

    def _act(self, do: Mapping[str, Sequence[Any]], places: np.ndarray) -> dict[str, list[Any]]:
        """The covariates of the rows under do(...)."""
        factual = {name: [column[place] for place in places] for name, column in self.table.items()}
        for name, values in do.items():
            if len(values) != len(places):
                raise InputError(f"do[{name!r}]: {len(values)} values for {len(places)} images; give one for each.")
            SCHEMA[name].encode(values, f"do[{name!r}]", known=True)
        if list(do.get("digit", factual["digit"])) != factual["digit"]:
            raise InputError("do['digit']: no image of another digit is known; intervene on thickness or intensity.")
        thickness = np.array(do.get("thickness", factual["thickness"]), dtype=np.float64)
        followed = intensity_of(thickness, self._noise.intensity[places])
        intensity = np.where(thickness == factual["thickness"], factual["intensity"], followed)
        return {
            **factual,
            "thickness": thickness.tolist(),
            "intensity": [float(value) for value in do.get("intensity", intensity)],
        }


def measure_thickness(images: Any) -> np.ndarray:
    """Thickness measured in images: pixels `[n]`, of images `[n, side, side]` or `[n, 1, side, side]` in [0, 1]."""
    return mean_thickness(_planes(images), MEASURING_SCALE)


def measure_intensity(images: Any) -> np.ndarray:
    """Intensity measured in images: grey levels `[n]`, the median of what is at least half bright."""
    return 255 * _median_of_bright(_planes(images))


MEASURED_ATTRIBUTES = {"thickness": measure_thickness, "intensity": measure_intensity}
"""What can be measured in an image without learning; arrays and CPU tensors alike."""


def _planes(images: Any) -> np.ndarray:
    array = np.asarray(images)
    return array[:, 0] if array.ndim == 4 else array


def _median_of_bright(images: np.ndarray) -> np.ndarray:
    """Median `[n]` of the pixels of each image in the upper half of its range."""
    pixels = images.reshape(len(images), -1).astype(np.float64)
    low, high = pixels.min(axis=1, keepdims=True), pixels.max(axis=1, keepdims=True)
    return np.nanmedian(np.where(pixels >= (low + high) / 2, pixels, np.nan), axis=1)
