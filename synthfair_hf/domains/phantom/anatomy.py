"""Anatomy: what the covariates of a person make of the lengths inside a chest.

    length := equation(age, sex, habitus, view) + its own standard normal noise          one line of `measure` each

The first half of the structural equation of the phantom's image; `thorax` draws the radiograph of such a body. Every
effect of a covariate is an assumption of this toy world, made to be findable, not a claim about people.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["ANATOMY", "BONE_DENSITY", "Array", "Body", "measure"]

Array = np.ndarray

BONE_DENSITY = {"white": 1.00, "black": 1.12, "asian": 0.94}
"""The only effect of race on the image: a factor on the attenuation of bone. An assumption of the toy world."""

ANATOMY = (
    *("size", "width", "depth", "inspiration", "shift_x", "shift_y", "lean", "rotation", "scoliosis", "exposure"),
    *("heart", "heart_axis", "knob", "unfolding", "calcium", "hilum", "tree", "tree_left", "vessels", "domes"),
    *("rib_phase", "rib_tilt", "clavicle", "scapula", "shoulder", "breast", "breast_y", "bubble", "bubble_x"),
    *("lesion_side", "lesion_x", "lesion_y", "lesion_size", "lesion_opacity"),
)
"""Names of the anatomical noise, each standard normal and independent of all else."""


@dataclass(frozen=True)
class Body:
    """Lengths of B thoraces in cm, and factors, each `[B, 1, 1]`."""

    size: Array
    centre_x: Array
    centre_y: Array
    lean: Array
    rotation: Array
    """Shift of the front of the chest against its back, from standing askew."""
    scoliosis: Array
    cage: Array
    """Half-width of the rib cage at its widest."""
    lung_depth: Array
    apex: Array
    dome: Array
    """Height of the right diaphragm; the left one is lower by `dome_step`."""
    dome_step: Array
    trunk_depth: Array
    wall: Array
    """Soft tissue lateral to the ribs."""
    belly: Array
    breast: Array
    breast_y: Array
    heart: Array
    """Half of the heart's long axis."""
    heart_angle: Array
    knob: Array
    unfolding: Array
    """How far the ageing aorta bulges out of the mediastinum."""
    calcium: Array
    """Calcified plaque of the aortic arch and the rib cartilage."""
    density: Array
    """Factor on the attenuation of bone."""
    rib_tilt: Array
    blade: Array
    """Medial edge of the scapula, as a share of the half-width of the cage."""
    bubble: Array
    supine: Array
    """1 for a patient imaged front to back, lying or half sitting; 0 for one standing."""
    exposure: Array
    scatter: Array


def measure(covariates: Mapping[str, Array], density: Array, noise: Mapping[str, Array]) -> Body:
    """Body measures from `age` in years, `female` and `ap` (0 or 1), `habitus` in kg/m2, bone `density`, and noise.

    Every array is `[B]`; the noise is standard normal under the names of `ANATOMY`.

    Args:
        covariates: `age`, `female`, `ap` and `habitus`, each `[B]`.
        density: factor on the attenuation of bone, `[B]`.
        noise: anatomical noise by name, each `[B]`.
    """

    def shaped(value: Array) -> Array:
        return np.asarray(value, np.float32)[:, None, None]

    age = (shaped(covariates["age"]) - 50) / 30
    female, ap = shaped(covariates["female"]), shaped(covariates["ap"])
    fat = (shaped(covariates["habitus"]) - 25) / 10
    z = {name: shaped(noise[name]) for name in ANATOMY}
    softplus = np.logaddexp

    size = (1.03 - 0.06 * female + 0.03 * z["size"]) * (1 + 0.03 * ap)
    kyphosis = softplus(0, 3 * (age - 0.5)) / 3
    ageing = softplus(0, 2 * age) / 2
    return Body(
        size=size,
        centre_x=0.35 * z["shift_x"] * (1 + ap),
        centre_y=0.5 * z["shift_y"] + 0.6 * ap,
        lean=0.012 * z["lean"] * (1 + 1.5 * ap),
        rotation=0.22 * z["rotation"] * (1 + ap),
        scoliosis=0.25 * z["scoliosis"] * (1 + 0.6 * kyphosis),
        cage=size * (12.9 + 0.35 * fat + 0.3 * kyphosis + 0.45 * z["width"]),
        lung_depth=size * (15.5 + 0.8 * kyphosis + 0.5 * z["depth"]),
        apex=size * (-14.6 + 0.9 * kyphosis + 0.2 * z["inspiration"]),
        dome=size * (6.6 + 0.8 * z["inspiration"] - 1.9 * ap - 0.7 * fat - 0.3 * kyphosis),
        dome_step=1.1 + 0.35 * z["domes"],
        trunk_depth=size * (20.5 + 1.9 * fat + 0.9 * kyphosis + 0.5 * z["depth"]),
        wall=2.1 * np.exp(0.45 * fat) + 0.3 * (1 - female),
        belly=1.0 + 2.2 * softplus(0, 2 * fat) / 2,
        breast=female * (3.0 + 1.1 * fat + 0.5 * z["breast"]).clip(0.8) + (1 - female) * 0.6 * softplus(0, 2 * fat - 1),
        breast_y=3.4 + 0.9 * ageing + 0.5 * z["breast_y"] - 1.0 * ap,
        heart=size * (6.9 + 0.3 * ageing + 0.25 * fat + 0.3 * z["heart"]) * (1 + 0.11 * ap),
        heart_angle=0.62 - 0.10 * fat - 0.07 * age - 0.10 * ap + 0.07 * z["heart_axis"],
        knob=1.55 + 0.28 * ageing + 0.12 * z["knob"],
        unfolding=0.9 * ageing * np.exp(0.25 * z["unfolding"]),
        calcium=softplus(0, 5 * (age - 0.45) + 0.8 * z["calcium"]) / 5,
        density=shaped(density) * (1.05 - 0.14 * ageing - 0.04 * female),
        rib_tilt=size * (4.6 + 0.5 * z["rib_tilt"] + 0.9 * kyphosis - 0.5 * ap),
        blade=1.02 - 0.27 * ap + 0.035 * z["scapula"],
        bubble=(1.35 + 0.35 * z["bubble"]).clip(0.5) * (1 - 0.45 * ap),
        supine=ap,
        exposure=np.exp(0.06 * z["exposure"]),
        scatter=0.029 * np.exp(0.15 * fat + 0.3 * ap),
    )
