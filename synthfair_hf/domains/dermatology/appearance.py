"""What the phantom's skin and lesions look like: amounts of pigment, blood and structures, as tables.

Chosen after textbooks' descriptions of dermatoscopy so that each diagnosis can be told from the others; not measured.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["BLOOD", "DEEP", "DERMIS", "LESIONS", "MELANIN", "SITES", "TONE", "WHITE", "Lesion", "Site"]

DERMIS, MELANIN, BLOOD, WHITE, DEEP = (
    np.array(colour)[:, None, None]
    for colour in (
        (0.97, 0.86, 0.79),
        (0.68, 1.0, 1.36),
        (0.16, 0.95, 0.85),
        (0.95, 0.93, 0.90),
        (1.25, 0.85, 0.42),
    )
)
"""Reflectance of red, green and blue by skin without pigment; absorption by melanin and blood; scattering keratin;
pigment far below the surface, which looks blue."""

TONE = {"I": 0.04, "II": 0.15, "III": 0.31, "IV": 0.54, "V": 0.88, "VI": 1.35}
"""Optical density of the epidermis's melanin, in green."""


class Site(NamedTuple):
    """What skin is like somewhere: a hair whose own normal number is below `hairs` grows."""

    hairs: float
    melanin: float
    """Factor on the skin's own."""
    blood: float


SITES = {
    "head_neck": Site(-1.1, 1.08, 0.09),
    "trunk": Site(-0.8, 0.94, 0.0),
    "upper_extremity": Site(-0.5, 1.12, 0.015),
    "lower_extremity": Site(-0.1, 1.0, 0.035),
    "hands_feet": Site(-9.0, 0.62, 0.055),
}


class Lesion(NamedTuple):
    """What a diagnosis looks like: amounts of pigment and blood, 0 for a structure that it lacks."""

    size: float
    edge: float
    """Width over which it fades out."""
    asymmetry: float
    melanin: float
    blood: float
    variegation: float = 0.0
    """How much its brown differs from place to place."""
    network: float = 0.0
    globules: float = 0.0
    veil: float = 0.0
    """Blue and white: pigment deep in the skin."""
    keratin: float = 0.0
    """White and yellow cysts or scale."""
    scar: float = 0.0
    vessels: float = 0.0
    lacunae: float = 0.0


LESIONS = {
    "nevus": Lesion(0.44, 0.10, 0.06, 0.75, 0.05, variegation=0.12, network=0.20, globules=0.10),
    "melanoma": Lesion(0.58, 0.05, 0.34, 1.10, 0.20, variegation=0.85, network=0.20, globules=0.7, veil=0.85),
    "keratosis": Lesion(0.50, 0.025, 0.14, 0.62, 0.08, variegation=0.25, keratin=0.85),
    "basal_cell_carcinoma": Lesion(0.48, 0.08, 0.16, 0.08, 0.30, veil=0.45, scar=0.15, vessels=0.9),
    "actinic_keratosis": Lesion(0.56, 0.22, 0.20, 0.12, 0.55, variegation=0.2, keratin=0.45, scar=0.1, vessels=0.2),
    "vascular": Lesion(0.38, 0.03, 0.08, 0.05, 0.85, lacunae=1.0),
    "dermatofibroma": Lesion(0.42, 0.16, 0.06, 0.42, 0.15, network=0.20, scar=0.75),
}
