"""The phantom's covariates: those of a chest radiograph, and the habitus that its anatomy follows."""

from ...schema import Schema, Variable
from ..chest_xray.preset import AGE, CHEST_XRAY, FINDING_ALIASES, RACE, SCANNER, SEX, VIEW
from ..preset import Contrast, Network, Preset, strengths

__all__ = ["PHANTOM"]

PHANTOM = Preset(
    name="phantom",
    title="Procedural thorax with exact counterfactuals (a test world, never a stand-in for real data)",
    covariates=Schema(
        variables=(
            Variable(**AGE),
            Variable(**SEX),
            Variable(**{**RACE, "optional": False}),
            Variable(
                name="habitus",
                kind="continuous",
                role="protected",
                nature="patient/anatomy",
                unit="kg/m2",
                range=(15, 45),
            ),
            Variable(
                name="finding",
                kind="categorical",
                role="finding",
                nature="patient/pathology",
                levels=("no_finding", "pneumonia", "effusion"),
                aliases=FINDING_ALIASES,
            ),
            Variable(**VIEW),
            Variable(**SCANNER),
        )
    ),
    edges=(
        ("age", "habitus"),
        ("sex", "habitus"),
        ("age", "finding"),
        ("sex", "finding"),
        ("race", "finding"),
        ("age", "view"),
        ("finding", "view"),
        ("view", "scanner"),
    ),
    resolution=64,
    factors=("sex", "finding", "scanner"),
    strata=("age",),
    contrasts={
        **CHEST_XRAY.contrasts,
        "habitus": Contrast(first="under 28 kg/m2", second="28 kg/m2 and more", threshold=28),
    },
    # listed where a plan crosses the race or stratifies the habitus
    views=(
        *CHEST_XRAY.views,
        *strengths("race_imbalanced", (50, 90)),
        *strengths("finding_race_correlated", (50, 90)),
        *strengths("race_imbalanced_in_female", (50, 90)),
        *strengths("habitus_imbalanced", (50, 90)),
        "race_missing_black",
        "habitus_missing_28_kg_m2_and_more",
    ),
    network=Network(channels=(64, 64, 64), width=64),
)
