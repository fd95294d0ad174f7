"""A procedural dermatoscopic image of a skin lesion, whose counterfactuals are exact.

    reflectance := DERMIS exp(-(melanin MELANIN + blood BLOOD)) + scattering white          by colour, at each place
    melanin     := TONE[skin_tone] + what the lesion, freckles, ridges and shade add
    blood       := what all skin has, and vessels, and the lesion add

Light is absorbed as in a layer of melanin over one of blood, so that a lesion on dark skin is darker skin and not
another colour. A diagnosis has shape, colours and structures (`appearance.LESIONS`); site gives the skin its texture
and hairs, age furrows, freckles and fine vessels, sex a few hairs and a little blood. Numbers are assumptions of a toy
world, made to be findable; none is a claim about people. Coordinates run from -1 to 1 over the image.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..drawn import Array, DrawnWorld, Equations, Parents, grain_on, is_level, spline
from ..preset import Network
from ..preset_file import read_preset
from .appearance import BLOOD, DEEP, DERMIS, LESIONS, MELANIN, SITES, TONE, WHITE

__all__ = ["SKIN_PHANTOM", "SkinPhantom"]

SKIN_PHANTOM = read_preset(Path(__file__).parent / "preset.yaml").preset.model_copy(
    update={
        "name": "dermatology_phantom",
        "title": "Procedural skin lesions with exact counterfactuals (a test world, never a stand-in for real data)",
        "network": Network(channels=(64, 64, 64), width=64),
    }
)

PARTS = {
    "traits": (12,),
    "outline": (6, 2),
    "spots": (26, 4),
    "hairs": (16, 6),
    "vessels": (7, 4),
    "freckles": (12, 4),
    "fields": (5, 16, 16),
    "grain": (3, 96, 96),
}
"""Shapes of the noise that an image is drawn from."""

GRID = 128
"""Pixels of the side of the grid on which images are drawn, at least."""


def _old(parents: Parents) -> Any:
    return (parents["age"].astype(np.float64) - 50) / 20


_is = partial(is_level, SKIN_PHANTOM.covariates)


def _dark(parents: Parents) -> Any:
    """Skin tone from -1, type I, to 1, type VI."""
    return (parents["skin_tone"] - 2.5) / 2.5


class SkinPhantom(DrawnWorld):
    """The world: structural equations of the covariates of `dermatology_phantom`, and of the image."""

    preset = SKIN_PHANTOM
    version = 1
    structure = Equations(
        SKIN_PHANTOM,
        {"age": (5, 90, 0.1, 0.9)},
        {
            "sex": {"male": 0.1, "female": 0.0},
            "skin_tone": dict(zip(TONE, (-0.3, 0.4, 0.5, 0.1, -0.2, -0.5), strict=True)),
            "site": {
                "head_neck": lambda parents: -0.5 + 0.5 * _old(parents),
                "trunk": lambda parents: 0.9 + 0.2 * _is(parents, "sex", "male"),
                "upper_extremity": 0.0,
                "lower_extremity": lambda parents: 0.5 * _is(parents, "sex", "female"),
                "hands_feet": -1.0,
            },
            "diagnosis": {
                "nevus": lambda parents: 1.6 - 0.7 * _old(parents),
                "melanoma": lambda parents: 0.4 * _old(parents) - 0.6 * _dark(parents) + 0.6 * _acral(parents),
                "keratosis": lambda parents: 0.1 + 0.9 * _old(parents) - 1.5 * _acral(parents),
                "basal_cell_carcinoma": lambda parents: (
                    -0.5 + 0.8 * _old(parents) - 0.9 * _dark(parents) + 0.7 * _is(parents, "site", "head_neck")
                ),
                "actinic_keratosis": lambda parents: (
                    -0.6
                    + 0.9 * _old(parents)
                    - 0.9 * _dark(parents)
                    + 0.2 * _is(parents, "sex", "male")
                    + 0.7 * _is(parents, "site", "head_neck")
                ),
                "vascular": -0.6,
                "dermatofibroma": lambda parents: -0.7 + 0.8 * _is(parents, "site", "lower_extremity"),
            },
        },
    )
    parts = PARTS

    def draw(self, covariates: Mapping[str, Any], parts: Mapping[str, Array], resolution: int) -> Array:
        """One image `[3, resolution, resolution]`, drawn on a finer grid."""
        ratio = -(-GRID // resolution)
        skin = _Skin(covariates, parts, resolution * ratio)
        image = skin.image().reshape(3, resolution, ratio, resolution, ratio).mean(axis=(2, 4))
        return image + 0.012 * grain_on(parts["grain"], resolution) * (resolution / 64) ** 0.3


def _acral(parents: Parents) -> Any:
    return _is(parents, "site", "hands_feet")


class _Skin:
    """One image on a grid of pixels: maps of melanin, blood and scattering."""

    def __init__(self, covariates: Mapping[str, Any], parts: Mapping[str, Array], grid: int) -> None:
        self.parts, self.z, self.values = parts, parts["traits"], covariates
        splines = spline(grid, parts["fields"].shape[-1])
        self.fields = splines @ parts["fields"] @ splines.T
        axis = ((np.arange(grid) + 0.5) / grid * 2 - 1).astype(np.float32)
        self.x, self.y = axis[None, :] - 0.06 * self.z[0], axis[:, None] - 0.06 * self.z[1]
        self.old = float(np.clip((covariates["age"] - 20) / 60, 0, 1.25))

    def image(self) -> Array:
        """Reflectance `[3, grid, grid]`, lit from the middle."""
        melanin, blood, white, deep = self.lesion(*self.skin())
        density = melanin * MELANIN + blood * BLOOD
        # pigment far below the surface looks blue, as less red light is scattered back above it
        density = density + deep * DEEP
        image = DERMIS * np.exp(-density)
        image = image + white * (WHITE - image)
        image = self.hairs(image * self.relief())
        light = 1.02 - 0.16 * np.hypot(self.x, self.y) ** 2 + 0.02 * self.fields[4]
        return image * light * np.exp(0.03 * self.z[2])

    def skin(self) -> tuple[Array, Array]:
        """Melanin and blood without any lesion."""
        values, fields, site = self.values, self.fields, SITES[self.values["site"]]
        melanin = TONE[values["skin_tone"]] * site.melanin * np.exp(0.08 * self.z[3]) * (1 + 0.06 * fields[0])
        blood = 0.13 + 0.03 * fields[1] + 0.03 * self.z[4] + site.blood + 0.03 * (values["sex"] == "male")
        for across, along, size, onset in self.parts["freckles"]:
            shown = np.clip(3 * (self.old - 0.55 - 0.28 * onset), 0, 1)
            melanin = melanin + 0.26 * shown * self.blob(0.75 * across, 0.75 * along, 0.07 + 0.03 * abs(size))
        for _, start, bend, onset in self.parts["vessels"][:4]:
            shown = np.clip(2 * (self.old - 0.7 - 0.3 * onset), 0, 1) * (values["site"] == "head_neck")
            blood = blood + 0.35 * shown * self.line(start, bend, onset, 0.016)
        return melanin, blood

    def relief(self) -> Array:
        """Shade of the skin's surface: furrows that cross, deeper with age; pores of a face; ridges of palms, soles."""
        fields = self.fields
        lines = [
            np.abs(np.sin(k * (self.x * np.cos(a) + self.y * np.sin(a)) + 1.0 * fields[2] + phase))
            for k, a, phase in ((11, 0.5 + 0.2 * self.z[6], 0.3), (8, 2.0 + 0.2 * self.z[7], 1.7))
        ]
        shade = (0.008 + 0.10 * self.old**1.5) * sum(np.exp(-((line / 0.18) ** 2)) for line in lines)
        if self.values["site"] == "hands_feet":
            turned = self.x * np.cos(self.z[5]) + self.y * np.sin(self.z[5]) + 0.10 * fields[2]
            shade = shade + 0.05 * (1 - np.cos(30 * turned))
        elif self.values["site"] == "head_neck":
            pores = np.cos(24 * (self.x + 0.09 * fields[2])) * np.cos(24 * (self.y + 0.09 * fields[3]))
            shade = shade + 0.22 * (pores.clip(0.45) - 0.45)
        return 1 - shade

    def outline(self) -> Array:
        """From 1 inside to 0 outside the lesion."""
        lesion = LESIONS[self.values["diagnosis"]]
        angle, radius = np.arctan2(self.y, self.x), np.hypot(self.x, self.y)
        wave = sum(
            np.hypot(*pair) * np.cos(k * (angle - np.arctan2(*pair[::-1]))) / k**0.7
            for k, pair in enumerate(self.parts["outline"], start=1)
        )
        shape = np.exp(0.10 * self.z[8]) * lesion.size * (1 + lesion.asymmetry * (0.32 * wave + 0.30 * self.fields[3]))
        shape = shape * (1 + 0.10 * np.cos(2 * (angle - 3 * self.z[9])))
        distance = (shape - radius) / lesion.edge
        return 1 / (1 + np.exp(-(4 * distance).clip(-30, 30)))

    def lesion(self, melanin: Array, blood: Array) -> tuple[Array, Array, Array, Array]:
        """Melanin, blood, scattering white and deep pigment of the skin with its lesion."""
        lesion, inside = LESIONS[self.values["diagnosis"]], self.outline()
        white = deep = np.zeros_like(inside)
        fields, rim = self.fields, 4 * inside * (1 - inside)
        patches = 1 + lesion.variegation * (0.75 * fields[0] + 0.55 * fields[3])
        pigment = lesion.melanin * np.exp(0.12 * self.z[10]) * inside * patches.clip(0.12)
        cells = np.cos(42 * (self.x + 0.06 * fields[1])) + np.cos(42 * (self.y + 0.06 * fields[2]))
        pigment = pigment * (1 + lesion.network * cells)
        for place, (across, along, size, dark) in enumerate(self.parts["spots"]):
            radius = 0.036 + 0.016 * abs(size)
            spot = self.blob(0.24 * across, 0.24 * along, radius)
            if lesion.globules and place < 18:
                pigment = pigment + lesion.globules * 0.8 * inside * spot * (dark > -0.5)
            if lesion.keratin and place < 16:
                white = white + lesion.keratin * 0.75 * inside * spot * (dark > 0)
                pigment = pigment + lesion.keratin * 1.1 * inside * spot * (dark <= 0) * (lesion.melanin > 0.3)
            if lesion.lacunae and place < 14:
                lacuna = self.blob(0.20 * across, 0.20 * along, 2.6 * radius)
                blood = blood + lesion.lacunae * 0.85 * inside * lacuna
                deep = deep + lesion.lacunae * 0.30 * inside * lacuna * (dark > 0.3)
            if lesion.vessels and lesion.veil and place < 6:
                # ovoid nests of basal cell carcinoma
                deep = deep + 0.9 * inside * self.blob(0.24 * across, 0.24 * along, 2.2 * radius)
        if lesion.veil and not lesion.vessels:
            shift = self.blob(0.16 * self.z[11], 0.16 * self.z[9], 0.24) * (1 + 0.4 * fields[1])
            deep = deep + lesion.veil * 0.9 * inside * shift.clip(0)
            white = white + lesion.veil * 0.16 * inside * shift.clip(0)
        for turn, start, bend, onset in self.parts["vessels"]:
            if lesion.vessels:
                blood = blood + 0.95 * lesion.vessels * inside * self.line(turn + start, bend, onset, 0.017)
        white = white + lesion.keratin * 0.22 * inside * (fields[2] - 0.2).clip(0) * (lesion.melanin < 0.3)
        centre = np.exp(-((np.hypot(self.x, self.y) / (0.45 * lesion.size)) ** 2))
        white = white + lesion.scar * 0.75 * (centre if lesion.scar > 0.5 else 0.6 * inside)
        pigment = pigment * (1 - lesion.scar * centre)
        blood = blood + lesion.blood * inside * (1 + 0.25 * fields[1]) + 0.08 * rim
        return melanin + pigment, blood.clip(0.02), white.clip(0, 0.85), deep

    def blob(self, across: float, along: float, radius: float) -> Array:
        """A round spot."""
        return np.exp(-((((self.x - across) ** 2 + (self.y - along) ** 2) / radius**2) ** 2))

    def line(self, turn: float, bend: float, shift: float, width: float) -> Array:
        """A curved line through the image."""
        along = self.x * np.cos(1.3 * turn) + self.y * np.sin(1.3 * turn)
        across = self.y * np.cos(1.3 * turn) - self.x * np.sin(1.3 * turn)
        curve = across - 0.18 * shift - 0.5 * bend * along**2 - 0.06 * np.sin(7 * along + 3 * shift)
        return np.exp(-((curve / width) ** 2))

    def hairs(self, image: Array) -> Array:
        """The image under its hairs, which are darker and thicker in men."""
        male, site = self.values["sex"] == "male", SITES[self.values["site"]]
        colour = np.array([0.24, 0.17, 0.12])[:, None, None] + 0.35 * max(self.old - 0.7, 0)
        for turn, bend, shift, where, long, rank in self.parts["hairs"]:
            if rank > site.hairs + (0.15 if male else -0.15):
                continue
            along = self.x * np.cos(turn) + self.y * np.sin(turn) - 0.5 * where
            across = self.y * np.cos(turn) - self.x * np.sin(turn) - 0.45 * shift - 0.35 * bend * along**2
            taper = (1 - (along / (0.6 + 0.15 * abs(long))) ** 2).clip(0) ** 0.5
            hair = taper * np.exp(-((across / (0.013 if male else 0.010)) ** 2))
            image = image + 0.75 * hair * (colour - image)
        return image
