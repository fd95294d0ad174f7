"""A procedural axial slice of a head through the lateral ventricles, whose counterfactuals are exact.

    tissue   := anatomy(age, sex, diagnosis, noise)                        which tissue, by depth below the brain's edge
    signal   := SIGNAL[sequence][tissue], blurred, shaded by the coil
    image    := | signal + s (n1 + i n2) |                                 s by the field strength: Rician noise

Age and dementia widen ventricles and sulci, and thin the cortex; age adds lesions of the white matter; women's heads
are smaller. Numbers are assumptions of a toy world, made to be findable; none is a claim about people. Coordinates are
in cm on a field of 20 cm: x grows to the right of the image, y to the back of the head.
"""

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..drawn import Array, DrawnWorld, Equations, Parents, grain_on, is_level, spline
from ..preset import Network
from ..preset_file import read_preset

__all__ = ["BRAIN_PHANTOM", "BrainPhantom"]

BRAIN_PHANTOM = read_preset(Path(__file__).parent / "preset.yaml").preset.model_copy(
    update={
        "name": "brain_mri_phantom",
        "title": "Procedural brain slices with exact counterfactuals (a test world, never a stand-in for real data)",
        "network": Network(channels=(64, 64, 64), width=64),
    }
)

FIELD = 20.0
"""Side of the image in cm."""

TISSUES = ("air", "scalp", "bone", "marrow", "csf", "gray", "deep", "white", "lesion")
SIGNAL = {
    "T1w": (0.02, 0.86, 0.06, 0.42, 0.12, 0.47, 0.54, 0.72, 0.50),
    "T2w": (0.02, 0.62, 0.04, 0.30, 0.97, 0.55, 0.47, 0.38, 0.78),
    "FLAIR": (0.02, 0.66, 0.05, 0.32, 0.08, 0.60, 0.53, 0.47, 0.95),
    "PDw": (0.02, 0.66, 0.06, 0.34, 0.46, 0.84, 0.76, 0.66, 0.92),
}
"""Signal of each of TISSUES by sequence, in [0, 1]."""

SCANNER = {"1.5T": (0.045, 0.075, 0.10), "3T": (0.018, 0.035, 0.30)}
"""By field strength: noise of each channel, blur in cm, and how much brighter the middle of the head is."""

SULCI = 26

PARTS = {"traits": (16,), "sulci": (SULCI, 3), "lesions": (14, 4), "warp": (4, 12, 12), "grain": (2, 96, 96)}
"""Shapes of the noise that an image is drawn from."""

GRID = 128
"""Pixels of the side of the grid on which tissues are drawn, at least."""


def _old(parents: Parents) -> Any:
    return (parents["age"].astype(np.float64) - 70) / 15


_is = partial(is_level, BRAIN_PHANTOM.covariates)


class BrainPhantom(DrawnWorld):
    """The world: structural equations of the covariates of `brain_mri_phantom`, and of the slice."""

    preset = BRAIN_PHANTOM
    version = 1
    structure = Equations(
        BRAIN_PHANTOM,
        {"age": (18, 78, 0.5, 1.0)},
        {
            "sex": {"male": 0.0, "female": 0.1},
            "field_strength": {"1.5T": 0.0, "3T": 0.2},
            "sequence": {
                "T1w": 0.9,
                "T2w": 0.3,
                "FLAIR": lambda parents: 0.5 * _is(parents, "field_strength", "3T"),
                "PDw": lambda parents: -0.3 - 0.6 * _is(parents, "field_strength", "3T"),
            },
            "diagnosis": {
                "no_dementia": 1.0,
                "dementia": lambda parents: 1.2 * _old(parents) + 0.2 * _is(parents, "sex", "female"),
            },
        },
    )
    parts = PARTS

    def draw(self, covariates: Mapping[str, Any], parts: Mapping[str, Array], resolution: int) -> Array:
        """One slice `[resolution, resolution]`, drawn on a finer grid."""
        # every help of the command line would wait for this import
        from scipy.ndimage import gaussian_filter

        ratio = -(-GRID // resolution)
        head = _Head(covariates, parts, resolution * ratio)
        signal = np.array(SIGNAL[covariates["sequence"]])[head.tissue()]
        noise, blur, shade = SCANNER[covariates["field_strength"]]
        signal = gaussian_filter(signal, blur / FIELD * head.grid)
        bias = 1 + shade * (0.45 - np.hypot(head.x / 9, head.y / 11) ** 2) + 0.03 * head.warp[3]
        signal = (signal * bias).reshape(resolution, ratio, resolution, ratio).mean(axis=(1, 3))
        grain = grain_on(parts["grain"], resolution) * noise * (resolution / 64) ** 0.3
        return np.hypot(0.92 * signal + grain[0], grain[1])


class _Head:
    """One head on a grid of pixels: distances in cm, and the tissue that they make."""

    def __init__(self, covariates: Mapping[str, Any], parts: Mapping[str, Array], grid: int) -> None:
        self.grid, self.parts = grid, parts
        z = self.z = parts["traits"]
        splines = spline(grid, parts["warp"].shape[-1])
        self.warp = splines @ parts["warp"] @ splines.T
        female, demented = covariates["sex"] == "female", covariates["diagnosis"] == "dementia"
        decades = (covariates["age"] - 20) / 10
        # atrophy in units of what dementia adds
        late = max(decades - 3, 0)
        self.atrophy = 0.05 * decades + 0.035 * late**1.5 + 0.95 * demented + 0.18 * z[0]
        self.decades = decades
        self.size = (1.0 - 0.065 * female) * (1 + 0.02 * z[1])
        axis = ((np.arange(grid) + 0.5) / grid - 0.5).astype(np.float32) * np.float32(FIELD)
        turn = 0.03 * z[2]
        x, y = axis[None] - 0.12 * z[3], axis[:, None] - 0.12 * z[4]
        self.x, self.y = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        # coordinates of tissue, in which every brain is as large
        self.u = self.x / self.size + 0.10 * self.warp[0]
        self.v = self.y / self.size + 0.10 * self.warp[1]
        self.side = np.where(self.u > 0, 1.0, -1.0)

    def inside(self, width: float, length: float) -> Array:
        """About the depth in cm below an egg of these half axes, wider behind."""
        u, v = self.x / self.size, self.y / self.size
        half = (width + 0.15 * self.z[5]) * (1 + 0.055 * (v / length).clip(-1, 1) - 0.03 * (v / length) ** 2)
        radius = (np.abs(u / half) ** 2.2 + np.abs(v / (length + 0.15 * self.z[6])) ** 2.2) ** (1 / 2.2)
        return (1 - radius) * np.hypot(u, v) / radius.clip(0.05)

    def path(self, points: list[tuple[float, float]], widths: list[float]) -> Array:
        """Distance beyond a tapered tube through points `(|x|, y)`, on both sides of the head; below 0 inside it."""
        u, found = np.abs(self.u), np.full(self.u.shape, np.inf)
        for (start, end), (first, last) in zip(pairwise(points), pairwise(widths), strict=True):
            along = np.array(end) - start
            share = (((u - start[0]) * along[0] + (self.v - start[1]) * along[1]) / (along @ along)).clip(0, 1)
            distance = np.hypot(u - start[0] - share * along[0], self.v - start[1] - share * along[1])
            found = np.minimum(found, distance - first - share * (last - first))
        return found

    def ellipse(self, u: float, v: float, width: float, length: float, tilt: float = 0.0) -> Array:
        """Where an ellipse is, on both sides."""
        du, dv = np.abs(self.u) - u, self.v - v
        across, along = du * np.cos(tilt) - dv * np.sin(tilt), dv * np.cos(tilt) + du * np.sin(tilt)
        return (across / width) ** 2 + (along / length) ** 2 < 1

    def clefts(self, depth: Array) -> Array:
        """Distance to the nearest sulcus or fissure, less its half-width: below 0 in its fluid."""
        shrunk = 0.035 * np.exp(0.75 * self.atrophy)
        angle = np.arctan2(self.u, -self.v) + 0.11 * self.warp[2] + 0.05 * self.warp[0] * depth
        radius = np.hypot(self.u, self.v)
        shift, deep, wide = self.parts["sulci"].T
        places = np.arange(SULCI)
        # the Sylvian fissures: deep, a little before the middle of either side
        sylvian = np.isin(places, (SULCI // 4 + 1, SULCI - SULCI // 4 - 2))
        centres = (places + 0.5 + 0.22 * shift.clip(-2, 2)) * 2 * np.pi / SULCI - np.pi
        ends = np.where(sylvian, 2.3, 1.25 + 0.38 * deep)
        widths = shrunk * np.where(sylvian, 2.2, np.exp(0.25 * wide))
        nearest = np.floor((angle + np.pi) / (2 * np.pi) * SULCI).astype(int)
        found = np.full(depth.shape, np.inf)
        for neighbour in (-1, 0, 1):
            place = (nearest + neighbour) % SULCI
            apart = np.abs((angle - centres[place] + np.pi) % (2 * np.pi) - np.pi) * radius
            found = np.minimum(found, np.hypot(apart, (depth - ends[place]).clip(0)) - widths[place])
        # between the hemispheres, before and behind the corpus callosum
        callosum = np.maximum(-4.5 - self.v, 0) + np.maximum(self.v - 3.9, 0) > 0
        fissure = np.abs(self.u + 0.06 * self.warp[1]) - 0.05 - 0.5 * shrunk
        return np.where(callosum, np.minimum(found, fissure), found)

    def tissue(self) -> Array:
        """Places in TISSUES, `[grid, grid]`."""
        code = TISSUES.index
        scalp, skull = self.inside(7.75, 9.55), self.inside(7.2, 9.0)
        brain = self.inside(6.55, 8.35) - 0.06 - 0.07 * np.exp(0.6 * self.atrophy)
        found = np.where(scalp > 0, code("scalp"), code("air"))
        found[skull > 0] = code("bone")
        found[(skull > 0.2) & (skull < 0.44 + 0.04 * self.warp[3])] = code("marrow")
        found[skull > 0.62] = code("csf")
        cleft = self.clefts(brain)
        cortex = 0.40 - 0.035 * self.atrophy
        mantle = np.minimum(brain, cleft)
        found[brain > 0] = code("white")
        found[(brain > 0) & (mantle < cortex + 0.05 * self.warp[0])] = code("gray")
        swollen = np.exp(0.52 * self.atrophy + 0.14 * self.z[7])
        horn = self.path([(1.05, -3.1), (0.55, -1.6), (0.62, 0.2), (1.55, 2.5), (1.95, 4.2)], self.widths(swollen))
        third = np.maximum(np.abs(self.u) - 0.10 * swollen, np.abs(self.v - 0.75) - 1.0)
        self.nuclei(found, swollen)
        self.lesions(found, horn)
        found[(brain > 0) & (cleft < 0)] = code("csf")
        fluid = (np.minimum(horn, third) < 0) & (np.abs(self.u) > np.where(self.v < 0.4, 0.10, 0.0))
        found[fluid] = code("csf")
        # the choroid plexus in the atria
        found[(self.path([(1.35, 2.4), (1.65, 3.1)], [0.12, 0.16]) < 0) & fluid] = code("gray")
        return found

    def widths(self, swollen: float) -> list[float]:
        """Half-widths of a lateral ventricle along its path."""
        return [0.20 * swollen, 0.30 * swollen, 0.26 * swollen, 0.34 * swollen, 0.16 * swollen]

    def nuclei(self, found: Array, swollen: float) -> None:
        """Caudate, putamen with pallidum, and thalamus, moved aside by the ventricles; the insula beyond."""
        aside = 0.30 * (swollen - 1)
        deep, white = TISSUES.index("deep"), found == TISSUES.index("white")
        found[white & self.ellipse(1.35 + aside, -2.1, 0.42, 0.95, 0.35)] = deep
        found[white & self.ellipse(2.75 + 0.5 * aside, -0.45, 0.62, 1.55, 0.22)] = deep
        found[white & self.ellipse(0.95 + 0.6 * aside, 1.05, 0.72, 1.15, -0.35)] = deep

    def lesions(self, found: Array, horn: Array) -> None:
        """Lesions of the white matter: each appears at an age of its own; caps of the horns grow with age."""
        white = found == TISSUES.index("white")
        lesion = TISSUES.index("lesion")
        cap = 0.055 * max(self.decades - 3.5 + 0.8 * self.z[8], 0)
        found[white & (horn < cap * (1 + 0.6 * self.warp[2]))] = lesion
        for across, along, size, onset in self.parts["lesions"]:
            grown = 0.12 * max(self.decades - 4.2 - 0.9 * onset, 0) ** 0.5
            u, v = 2.9 + 0.7 * across, 1.0 + 2.4 * along
            where = np.hypot(self.u - u * np.sign(size), (self.v - v) * 0.8)
            found[white & (where < grown * (1 + 0.3 * abs(size)))] = lesion
