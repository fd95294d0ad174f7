"""MorphoMNIST: written digits whose stroke is measured, the test world of causal image models."""

from ...schema import Schema, Variable
from ..preset import Contrast, Network, Preset

__all__ = ["MORPHOMNIST"]

MORPHOMNIST = Preset(
    name="morphomnist",
    title="Written digits with a ruler (the test world on which causal image models are compared)",
    # Stand-ins for a radiograph: the digit for the finding, the stroke for anatomy, its brightness for exposure.
    covariates=Schema(
        variables=(
            Variable(
                name="digit",
                kind="categorical",
                role="finding",
                nature="patient/pathology",
                levels=tuple("0123456789"),
            ),
            # The data's extremes are 0.88 and 6.26; the world's lower end is 0.5, and 1e-6 of it lies above 7.
            Variable(
                name="thickness",
                kind="continuous",
                role="protected",
                nature="patient/anatomy",
                unit="pixels",
                range=(0.5, 7),
            ),
            Variable(
                name="intensity",
                kind="continuous",
                role="acquisition",
                nature="external/protocol",
                unit="grey levels",
                range=(64, 255),
            ),
        )
    ),
    edges=(("thickness", "intensity"),),
    resolution=32,
    factors=("digit",),
    strata=("thickness",),
    contrasts={
        "thickness": Contrast(first="under 2.5 pixels", second="2.5 pixels and thicker", threshold=2.5),
        "intensity": Contrast(first="under 160 grey levels", second="160 grey levels and brighter", threshold=160),
    },
    views=(),
    network=Network(channels=(64, 64, 64), space_to_depth=2, width=64),
)
