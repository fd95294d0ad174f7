"""Frontal chest radiographs with several findings, each present or absent: the labels of CheXpert and of ChestX-ray14.

    no finding  <=>  all findings absent        so "No Finding", a label of both sets, is no covariate

Support devices are none of the findings: they may be in an image without any. The edges among findings are a beginning,
from what is known to follow from what; every finding depends on age and sex (and race), and decides the view.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from ...schema import STATES, Schema, Variable
from ..preset import Contrast, Network, Preset, strengths
from ..readers import NO_FINDING, key_of
from ..values import ABSENT, PRESENT
from . import chexpert, nih_chestxray14
from .preset import AGE, CHEST_XRAY, RACE, SCANNER, SEX, VIEW

__all__ = ["CHEST_XRAY_FINDINGS", "CHEXPERT", "NIH_CHESTXRAY14"]

CALLED = {"Pleural Effusion": "effusion"}
"""What a label is called as a covariate, where that is not its own name in lower case."""

ALSO = {
    **{"effusion": ("Effusion", "Pleural Effusion"), "fibrosis": ("Fibrosis", "Pulmonary Fibrosis")},
    "lung_lesion": ("Lung Lesion", "Nodule/Mass"),
}
"""Names that other data sets have for a finding; case and separators do not matter."""

CAUSES = {
    **{"edema": ("cardiomegaly",), "effusion": ("cardiomegaly", "edema", "pneumonia")},
    **{"consolidation": ("pneumonia",), "infiltration": ("edema", "pneumonia")},
    **{"pneumothorax": ("emphysema", "fracture"), "atelectasis": ("effusion", "pneumothorax")},
    **{"lung_opacity": ("atelectasis", "consolidation", "edema", "lung_lesion")},
    **{"enlarged_cardiomediastinum": ("cardiomegaly",), "pleural_thickening": ("effusion",)},
    "support_devices": ("edema", "effusion", "pneumothorax"),
}
"""What a finding, or that a device is placed, follows from, where a preset has both."""

DEVICES = "support_devices"


def _label(label: str) -> Variable:
    name = CALLED.get(label, key_of(label))
    # every variable of these levels reads them; identities made from these presets hold them
    numbers = {cell: state for cell, state in STATES.items() if cell[0].isdigit()}
    kind: dict[str, Any] = {"role": "finding", "nature": "patient/pathology"}
    if name == DEVICES:
        kind = {"role": "acquisition", "nature": "external/artefact"}
    return Variable(
        name=name,
        kind="categorical",
        levels=(ABSENT, PRESENT),
        aliases={**dict.fromkeys(ALSO.get(name, (label,)), PRESENT), **numbers},
        optional=True,
        **kind,
    )


def _views(findings: Sequence[str], acquisition: str) -> Iterator[str]:
    """Of every finding; those are listed that a data set balances, whose families cross how images are acquired."""
    for finding in findings:
        for bias in ("imbalanced", "sex_correlated", f"{acquisition}_correlated"):
            yield from strengths(f"{finding}_{bias}", (50, 90))
        yield from (f"{finding}_prevalence_by_sex_{shares}" for shares in ("40_40", "60_20"))
        yield from (f"{finding}_underdiagnosed_in_female_{rate}" for rate in (0, 30))


def _preset(
    name: str,
    title: str,
    labels: Sequence[str],
    *people: dict[str, Any],
    scanner: dict[str, Any] | None = None,
    **others: Any,
) -> Preset:
    """A domain of these labels, of what is known of people, and of a scanner, if any, that the view decides."""
    acquired = [Variable(**one) for one in (VIEW, scanner) if one is not None]
    crossed = acquired[-1].name
    variables = [_label(label) for label in labels if label != NO_FINDING]
    findings = [variable.name for variable in variables if variable.role == "finding"]
    known = [str(one["name"]) for one in people]
    names = [variable.name for variable in variables]
    return Preset(
        name=name,
        title=title,
        covariates=Schema(variables=(*(Variable(**one) for one in people), *variables, *acquired)),
        edges=(
            *((person, finding) for finding in findings for person in known),
            *((cause, one) for one, causes in CAUSES.items() for cause in causes if {cause, one} <= set(names)),
            ("age", "view"),
            *((finding, "view") for finding in findings),
            *(("view", one.name) for one in acquired[1:]),
        ),
        **{"resolution": 64, **others},
        factors=("sex", "effusion", crossed),
        strata=("age",),
        contrasts={
            **{one: CHEST_XRAY.contrasts[one] for one in known},
            **{one: Contrast(first=PRESENT, second=ABSENT) for one in names},
            **{one.name: CHEST_XRAY.contrasts[one.name] for one in acquired},
        },
        views=(
            *(view for one in known for view in strengths(f"{one}_imbalanced", (50, 70, 90))),
            *strengths(f"{crossed}_imbalanced", (50, 90)),
            *strengths(f"{crossed}_sex_correlated", (50, 90)),
            *("sex_missing_male", "sex_missing_female", "age_missing_under_50_years", "age_missing_50_years_and_older"),
            *_views(findings, crossed),
            # drains are in images of pneumothorax that was treated (Oakden-Rayner et al. 2020)
            *(strengths(f"pneumothorax_{DEVICES}_correlated", (50, 90)) if DEVICES in names else ()),
        ),
    )


CHEXPERT = _preset(
    "chexpert",
    "Frontal chest radiographs with the labels of CheXpert",
    chexpert.LABELS,
    *(AGE, SEX, RACE),
)
NIH_CHESTXRAY14 = _preset(
    "nih_chestxray14",
    "Frontal chest radiographs with the labels of ChestX-ray14",
    nih_chestxray14.LABELS,
    *(AGE, SEX),
)
READABLE = ("Effusion", "Cardiomegaly", "Edema", "Pneumothorax", "Atelectasis", "Infiltration", "Pneumonia")
"""Labels of ChestX-ray14 that have enough images to learn from; effusion, cardiomegaly and edema are read best."""

CHEST_XRAY_FINDINGS = _preset(
    "chest_xray_findings",
    "Frontal chest radiographs with seven findings",
    READABLE,
    *(AGE, SEX),
    scanner=SCANNER,
    resolution=128,
    network=Network(space_to_depth=8, prediction_type="sample_and_variance"),
)
