"""Frontal chest radiographs: the covariates that data sets publish, the causal graph, the curated views."""

from typing import Any

from ...schema import Schema, Variable
from ..preset import Contrast, Preset, strengths

__all__ = ["AGE", "CHEST_XRAY", "FINDING_ALIASES", "RACE", "SCANNER", "SEX", "VIEW"]

AGE: dict[str, Any] = {
    "name": "age",
    "kind": "continuous",
    "role": "protected",
    "nature": "patient/demographic",
    "unit": "years",
    "range": (0, 100),
}
SEX: dict[str, Any] = {
    "name": "sex",
    "kind": "categorical",
    "role": "protected",
    "nature": "patient/demographic",
    "levels": ("male", "female"),
    "aliases": {"M": "male", "F": "female", "Male": "male", "Female": "female"},
}
RACE: dict[str, Any] = {
    "name": "race",
    "kind": "categorical",
    "role": "protected",
    "nature": "patient/demographic",
    "levels": ("white", "black", "asian"),
    "aliases": {"White": "white", "Black": "black", "Asian": "asian"},
    "optional": True,
}
VIEW: dict[str, Any] = {
    "name": "view",
    "kind": "categorical",
    "role": "acquisition",
    "nature": "external/protocol",
    "levels": ("PA", "AP"),
}
SCANNER: dict[str, Any] = {
    "name": "scanner",
    "kind": "categorical",
    "role": "acquisition",
    "nature": "external/device",
    "levels": ("flatpanel", "computed", "portable"),
}
FINDING_ALIASES = {"No Finding": "no_finding", "Pneumonia": "pneumonia", "Effusion": "effusion"}

CHEST_XRAY = Preset(
    name="chest_xray",
    title="Frontal chest radiographs",
    covariates=Schema(
        variables=(
            Variable(**AGE),
            Variable(**SEX),
            Variable(**RACE),
            Variable(
                name="finding",
                kind="categorical",
                role="finding",
                nature="patient/pathology",
                levels=("no_finding", "pneumonia"),
                aliases=FINDING_ALIASES,
            ),
            Variable(**VIEW),
            Variable(**SCANNER),
        )
    ),
    edges=(
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
        "sex": Contrast(first="male", second="female"),
        "age": Contrast(first="under 50 years", second="50 years and older", threshold=50),
        "race": Contrast(first="white", second="black"),
        "finding": Contrast(first="pneumonia", second="no_finding"),
        "view": Contrast(first="PA", second="AP"),
        "scanner": Contrast(first="portable", second="flatpanel"),
    },
    views=(
        *strengths("sex_imbalanced"),
        *strengths("age_imbalanced"),
        *strengths("finding_sex_correlated"),
        *strengths("finding_scanner_correlated"),
        *strengths("finding_age_correlated", (50, 90)),
        *strengths("scanner_sex_correlated", (50, 90)),
        *strengths("sex_imbalanced_in_50_years_and_older", (50, 90)),
        *strengths("finding_prevalence_by_sex", (50, 80)),
        "finding_prevalence_by_age_60_20",
        "finding_prevalence_by_age_40_40",
        "sex_missing_male",
        "sex_missing_female",
        "age_missing_under_50_years",
        "age_missing_50_years_and_older",
        "finding_scanner_correlated_50_50+sex_imbalanced_50_50",
        "finding_scanner_correlated_90_10+sex_imbalanced_90_10",
        *(f"finding_noise_in_female_{rate}" for rate in (0, 10, 20)),
        *(f"finding_underdiagnosed_in_female_{rate}" for rate in (0, 15, 30)),
        "finding_scanner_correlated_50_50+finding_underdiagnosed_in_female_0",
        "finding_scanner_correlated_90_10+finding_underdiagnosed_in_female_30",
    ),
)
