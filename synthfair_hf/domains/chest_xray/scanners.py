"""Scanners as known transforms of any radiograph, so that real images get a `scanner` whose counterfactual is exact.

    scanner := argmax_k  log p_k(view) + g_k,          g_k ~ Gumbel(0, 1)
    image   := marker( collimate( vignette( response( blur(x) ) ) + noise * e ) ),   e ~ N(0, 1) per pixel

x is the radiograph in standard exposure (`expose`), g and e are exogenous and kept, so do(scanner) re-renders the same
x with the same g and e: exact truth on real anatomy. Lengths are relative to the image, so a transform means the same
at any resolution. Everything is numpy, float32, in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from ...errors import InputError, unknown
from ...records import Access, fingerprint, row_generator
from ...schema import Schema
from ..preset import Preset
from ..source import Source, count_patients, unit_of
from .preset import CHEST_XRAY

__all__ = [
    "EQUATIONS_VERSION",
    "SCANNERS",
    "SCANNER_GIVEN_VIEW",
    "AcquisitionWorld",
    "Scanner",
    "acquire",
    "assign_scanner",
    "assign_scanners",
    "equations",
    "expose",
]

EQUATIONS_VERSION = 1
"""Version of the scanners: raise it by one whenever a change moves a pixel that `expose` or `acquire` returns, or gives
an image another scanner. Changed words, names and places of code are no reason to."""


def equations() -> str:
    """Identity of the scanners, by their declared version."""
    # Records made before versions were declared hold the sha256 that this file had then. It names version 1, so that
    # they stay equal to what is computed today.
    first = "c5c0b9c1301454c2dfad0db5c2f604c83b9142a95745bfdd34202dd61fa2c68e"
    return first if EQUATIONS_VERSION == 1 else f"acquisition equations {EQUATIONS_VERSION}"


@dataclass(frozen=True)
class Scanner:
    """One scanner as a chain of known transforms."""

    contrast: float
    """Slope of the sigmoid response curve; 0 is linear."""
    gamma: float
    """Exposure as a power: above 1 darkens the middle tones."""
    black: float
    """Output at zero signal."""
    white: float
    """Output at full signal."""
    blur: float
    """Standard deviation of the point spread, relative to the image width."""
    noise: float
    """Standard deviation of the noise at middle grey."""
    vignette: float
    """Loss of signal in the corners."""
    collimation: float
    """Width of the dark frame, relative to the image."""
    marker: tuple[str, ...]
    """Side marker as rows of a bitmap; a lead letter shows white."""
    marker_at: tuple[float, float]
    """(row, column) of the marker's top left corner, relative to the image."""


_LETTER_L = ("#....", "#....", "#....", "#....", "#####")
_ARROW = ("..#..", "..#..", "#.#.#", ".###.", "..#..")

SCANNERS: dict[str, Scanner] = {
    # A digital flat panel: crisp, steep response, nearly noise-free, small marker beside the shoulder.
    "flatpanel": Scanner(4.0, 1.15, 0.02, 0.95, 0.0, 0.004, 0.0, 0.0, _LETTER_L, (0.05, 0.87)),
    # Computed radiography plates: soft, flat response with a lifted black, fine grain, narrow collimation.
    "computed": Scanner(0.0, 0.90, 0.11, 0.90, 0.008, 0.006, 0.06, 0.020, _LETTER_L, (0.30, 0.90)),
    # A mobile unit at the bedside: overexposed, heel effect in the corners, grainy, upright arrow instead of a letter.
    "portable": Scanner(1.5, 0.78, 0.04, 1.0, 0.005, 0.014, 0.30, 0.0, _ARROW, (0.86, 0.06)),
}

SCANNER_GIVEN_VIEW: dict[str, dict[str, float]] = {
    "PA": {"flatpanel": 0.55, "computed": 0.35, "portable": 0.10},
    "AP": {"flatpanel": 0.15, "computed": 0.30, "portable": 0.55},
}
"""The structural equation of assignment: upright PA comes from fixed rooms, AP mostly from mobile units."""


EXPOSURE = {"black": 0.01, "white": 0.99, "median": 0.6}
"""The standard exposure: quantiles that become 0 and 1, and where the median comes to lie."""


def expose(image: np.ndarray) -> np.ndarray:
    """An image `[H, W]` in standard EXPOSURE, by a linear window and a power.

    The grey levels of collected radiographs reveal who digitised them (in the collection that the shipped generators
    are trained on, those with pneumonia are 15 standard errors darker than normal ones of the same view). That is
    neither patient nor scanner; left in, do(finding) would learn it. An image of one grey level stays as it is.
    """
    low, median, high = np.quantile(image, [EXPOSURE["black"], 0.5, EXPOSURE["white"]])
    if high - low < 1 / 255:
        return image
    middle = np.clip((median - low) / (high - low), 0.1, 0.95)
    power = np.log(EXPOSURE["median"]) / np.log(middle)
    return (((image - low) / (high - low)).clip(0, 1) ** power).astype(np.float32)


def acquire(image: np.ndarray, scanner: str, noise: np.ndarray) -> np.ndarray:
    """Image(s) `[..., H, W]` in [0, 1] as the named scanner records them; `noise` is standard normal, same shape.

    Args:
        image: `[..., H, W]` in [0, 1], in standard exposure.
        scanner: a name in SCANNERS.
        noise: standard normal, of the same shape.

    Returns:
        float32 `[..., H, W]` in [0, 1].

    Raises:
        InputError: an unknown scanner.
    """
    if scanner not in SCANNERS:
        raise unknown("scanner", scanner, SCANNERS)
    device = SCANNERS[scanner]
    height, width = image.shape[-2:]
    signal = image.astype(np.float32)
    if device.blur:
        sigma = device.blur * width
        signal = gaussian_filter(signal, sigma=(0,) * (signal.ndim - 2) + (sigma, sigma), mode="nearest")
    signal = signal ** np.float32(device.gamma)
    if device.contrast:
        edge = 1 / (1 + np.exp(device.contrast / 2))
        signal = (1 / (1 + np.exp(-device.contrast * (signal - 0.5))) - edge) / (1 - 2 * edge)
    rows = ((np.arange(height, dtype=np.float32) + 0.5) / height * 2 - 1)[:, None]
    columns = (np.arange(width, dtype=np.float32) + 0.5) / width * 2 - 1
    signal = signal * (1 - device.vignette * ((rows**2 + columns**2) / 2) ** 1.5)
    recorded = device.black + (device.white - device.black) * signal + device.noise * noise
    if device.collimation:
        inside = np.minimum(1 - np.abs(rows), 1 - np.abs(columns)) / 2
        # The share of each pixel that the frame leaves open.
        recorded = recorded * np.clip((inside - device.collimation) * width + 0.5, 0, 1)
    recorded = np.maximum(recorded, _marker(device, height, width))
    return recorded.clip(0, 1).astype(np.float32)


@cache
def _marker(device: Scanner, height: int, width: int) -> np.ndarray:
    """The side marker on an empty image `[H, W]`, drawn with area coverage so that it keeps its size."""
    side = 0.065
    rows = (np.arange(height * 4) + 0.5) / (height * 4)
    columns = (np.arange(width * 4) + 0.5) / (width * 4)
    bitmap = np.array([[cell == "#" for cell in row] for row in device.marker], dtype=np.float32)
    row = np.floor((rows - device.marker_at[0]) / side * bitmap.shape[0]).astype(int)
    column = np.floor((columns - device.marker_at[1]) / side * bitmap.shape[1]).astype(int)
    inside = ((row >= 0) & (row < bitmap.shape[0]))[:, None] & ((column >= 0) & (column < bitmap.shape[1]))[None]
    drawn = np.where(inside, bitmap[row.clip(0, bitmap.shape[0] - 1)][:, column.clip(0, bitmap.shape[1] - 1)], 0)
    return drawn.reshape(height, 4, width, 4).mean(axis=(1, 3)).astype(np.float32)


def assign_scanner(view: str, gumbel: np.ndarray) -> str:
    """The scanner of a radiograph of this view, given standard Gumbel noise `[scanners]` in SCANNERS' order.

    Args:
        view: PA or AP.
        gumbel: standard Gumbel `[scanners]`, in SCANNERS' order.
    """
    shares = SCANNER_GIVEN_VIEW[view]
    return list(SCANNERS)[int(np.argmax([np.log(shares[name]) for name in SCANNERS] + gumbel))]


def assign_scanners(views: Sequence[str | None], rng: np.random.Generator) -> list[str | None]:
    """The scanners of radiographs of these views; where the view is unknown (None), so is the scanner.

    Args:
        views: PA, AP or None, of n images.
        rng: gives the Gumbel noise `[n, scanners]`.
    """
    gumbel = rng.gumbel(size=(len(views), len(SCANNERS)))
    return [None if view is None else assign_scanner(view, noise) for view, noise in zip(views, gumbel, strict=True)]


class AcquisitionWorld:
    """The radiographs of a source as taken by simulated scanners; itself a source.

    `table["scanner"]` follows the structural equation with noise from (seed, index in the source). A radiograph of
    unknown view has no scanner to be taken with: it is left out and counted in `counts["unknown view"]`.

    Args:
        source: radiographs with the covariate `view`.
        seed: of the scanners' noise, 0 or more.
        preset: the domain; its covariates have `scanner`.

    Raises:
        InputError: the source has no view, or no radiograph a known one.
    """

    def __init__(self, source: Source, seed: int, preset: Preset = CHEST_XRAY) -> None:
        if "view" not in source.table:
            raise InputError(f"{source.name}: no column 'view' in metadata.csv; scanners are assigned by view; add it.")
        levels = preset.covariates["scanner"].levels, preset.covariates["view"].levels
        if levels != (tuple(SCANNERS), tuple(SCANNER_GIVEN_VIEW)):
            raise InputError(
                f"{source.name}: no column 'scanner' in metadata.csv; add it (scanners are planted only where scanner "
                f"has the levels {', '.join(SCANNERS)}, and view {', '.join(SCANNER_GIVEN_VIEW)})."
            )
        self._source, self._seed = source, seed
        self._kept = [index for index, view in enumerate(source.table["view"]) if view is not None]
        if not self._kept:
            raise InputError(
                f"{source.name}: no radiograph of a known view; scanners are assigned by view; fill in `view`."
            )
        self.name = source.name
        self.access: Access = getattr(source, "access", "open")
        self.recorded_access: Access | None = getattr(source, "recorded_access", None)
        self.unit = unit_of(source)
        self.covariates: Schema = preset.covariates.subset((*source.covariates.names, "scanner"))
        self.patient_ids = [source.patient_ids[index] for index in self._kept]
        self.splits = [source.splits[index] for index in self._kept]
        self.table: dict[str, list[Any]] = {
            name: [column[index] for index in self._kept] for name, column in source.table.items()
        }
        names = getattr(source, "file_names", ())
        self.file_names = [names[index] for index in self._kept] if names else []
        self.table["scanner"] = [
            assign_scanner(view, self._rng(index).gumbel(size=len(SCANNERS)))
            for index, view in enumerate(self.table["view"])
        ]
        self.counts = {
            **source.counts,
            **count_patients(self.patient_ids, self.splits, self.unit),
            "unknown view": len(source) - len(self),
            "scanner": "planted by simulators.acquisition",
        }
        self.fingerprint = fingerprint([source.fingerprint, seed, equations()])

    def __len__(self) -> int:
        return len(self._kept)

    def _rng(self, index: int) -> np.random.Generator:
        return row_generator(self._seed, self._kept[index])

    def image(self, index: int, resolution: int) -> np.ndarray:
        """The radiograph as its own scanner recorded it, `[resolution, resolution]`."""
        return self.counterfactual(index, self.table["scanner"][index], resolution)

    def counterfactual(self, index: int, scanner: str, resolution: int) -> np.ndarray:
        """The radiograph of the same patient and moment under do(scanner), exactly.

        Args:
            index: of the image in this source.
            scanner: a name in SCANNERS.
            resolution: height and width in pixels.

        Returns:
            float32 `[resolution, resolution]` in [0, 1].

        Raises:
            InputError: an unknown scanner.
        """
        rng = self._rng(index)
        rng.gumbel(size=len(SCANNERS))
        noise = rng.standard_normal((resolution, resolution), dtype=np.float32)
        return acquire(expose(self._source.image(self._kept[index], resolution)), scanner, noise)

    def draw(self, index: int, resolution: int, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
        """A training example: the jittered radiograph on a scanner drawn afresh by the structural equation.

        The same anatomy is thus trained on with several scanners, which separates the two.
        """
        image, covariates = self._source.draw(self._kept[index], resolution, rng)
        scanner = assign_scanner(covariates["view"], rng.gumbel(size=len(SCANNERS)))
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        return acquire(expose(image), scanner, noise), {**covariates, "scanner": scanner}
