"""Findings: which one is meant, which labels of a data set say that one is present, and which a schema does not have.

A preset has one finding with a level of its own for each disease, or several that are present or absent: an image
without any finding is one of which all are absent. There a label of a data set, such as Pleural Effusion, is another
name of the level `present`.

A cell that names one of OTHER_FINDINGS was read: the image is of no level of the schema, and its finding is missing.
Any other word may be a level in another spelling, and is counted as unreadable.

A table may have all findings of an image in one cell of the column FINDINGS, joined by |, by semicolons or by commas.
"""

from collections.abc import Collection, Iterable, Mapping

from ..errors import InputError, unknown
from ..schema import Variable, spelling
from .preset import Preset
from .values import ABSENT, NO_FINDING, PRESENT, is_no_finding

__all__ = [
    "FINDINGS",
    "LABELS",
    "OTHER_FINDINGS",
    "choose_finding",
    "findings_of",
    "is_label",
    "is_other_finding",
    "labels_in",
    "labels_of",
    "state_in",
    "state_of",
]

FINDINGS = "findings"
"""The column of a table that holds all findings of an image."""

SEPARATORS = "|;,"
"""What joins the labels of a cell, the first of them that it has."""

OTHER_FINDINGS = frozenset(
    map(
        spelling,
        (
            # ChestX-ray14
            *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
            *("Infiltration", "Mass", "Nodule", "Pleural Thickening", "Pneumothorax"),
            # CheXpert and MIMIC-CXR
            *("Enlarged Cardiomediastinum", "Fracture", "Lung Lesion", "Lung Opacity", "Pleural Effusion"),
            *("Pleural Other", "Support Devices"),
            # collections of radiographs of COVID-19
            *("COVID-19", "Other"),
            # ADNI: cognitive impairment that is mild, and complaints alone
            *("MCI", "EMCI", "LMCI", "SMC"),
        ),
    )
)
"""Their names, as `schema.spelling` compares them."""

LABELS = OTHER_FINDINGS | {spelling("Pneumonia")}
"""Names of findings that a label of several may be; pneumonia is one that a preset with a single finding has, too."""


def is_other_finding(variable: Variable, text: str) -> bool:
    """Whether a cell of a variable names a finding that is none of its levels, or says that a patient is of another.

    Args:
        variable: the covariate; only one that holds findings or demographics can have others.
        text: the cell.
    """
    # a race or a sex beside the schema's
    if variable.nature == "patient/demographic":
        return spelling(text) == "other"
    return variable.nature == "patient/pathology" and not is_label(variable) and spelling(text) in OTHER_FINDINGS


def findings_of(preset: Preset) -> list[str]:
    """The findings that a classifier can learn: covariates of that role whose contrast has two levels, in order."""
    return [
        variable.name
        for variable in preset.covariates.walk()
        if variable.role == "finding" and variable.categorical and variable.name in preset.contrasts
    ]


def choose_finding(preset: Preset, finding: str | None = None, crossed: Collection[str] = ()) -> str:
    """The finding of that name; without one the only finding, or of several the only one that families cross.

    Args:
        preset: the domain.
        finding: the name; None where it is to be found.
        crossed: the factors of a data set, where they are known.

    Raises:
        InputError: no such finding, or several and none named.
    """
    findings = findings_of(preset)
    if finding is not None:
        if finding not in findings:
            raise unknown("finding", finding, findings)
        return finding
    among = [name for name in findings if name in crossed]
    for only in (findings, among):
        if len(only) == 1:
            return only[0]
    if not findings:
        raise InputError(f"finding: {preset.name} has none with a contrast; give another data set.")
    several = f"families cross {' and '.join(among)}" if among else f"{preset.name} has several"
    raise InputError(f"finding: not given, and {several}; name one of {', '.join(among or findings)}.")


def is_label(variable: Variable) -> bool:
    """Whether a covariate is one label of several: present or absent."""
    return set(variable.levels) == {PRESENT, ABSENT}


def labels_of(variable: Variable, labels: Iterable[str]) -> tuple[str, ...]:
    """Those of a data set's labels that say of a covariate that it is present, as its aliases have them."""
    return tuple(name for name in labels if variable.parse(name)[0] == PRESENT)


def state_of(states: Mapping[str, str]) -> str:
    """PRESENT where one of the labels that name a finding is, ABSENT where all are, else a cell that is neither.

    Args:
        states: of these labels, PRESENT, ABSENT, or empty where missing.
    """
    found = set(states.values())
    if PRESENT in found:
        return PRESENT
    return found.pop() if len(found) == 1 else ""


def labels_in(cell: str) -> list[str]:
    """The labels that a cell of FINDINGS joins."""
    separator = next((one for one in SEPARATORS if one in cell), SEPARATORS[0])
    return [label.strip() for label in cell.split(separator) if label.strip()]


def state_in(variable: Variable, cell: str, others: Iterable[Variable] = ()) -> str:
    """What a cell of FINDINGS says of one of them.

    Args:
        variable: the finding, present or absent.
        cell: labels as `labels_in` takes them apart, in any case; `No Finding` or `none` alone; empty where nothing
            is known.
        others: the other findings of the schema, whose labels are known to be theirs.

    Returns:
        PRESENT where a label names it, ABSENT where each is known to name another or none; empty as the cell; else what
        can't be read: a label that may name it in another spelling, or one beside `No Finding`.
    """
    others = tuple(others)
    # a label may hold a comma itself
    alone = any(one.parse(cell)[0] == PRESENT for one in (variable, *others))
    labels = [cell] if alone else labels_in(cell)
    present = [label for label in labels if variable.parse(label)[0] == PRESENT]
    none = [label for label in labels if is_no_finding(label)]
    if present:
        return f"{present[0]} beside {NO_FINDING}" if none else PRESENT
    unread = [
        label
        for label in labels
        if label not in none
        and spelling(label) not in LABELS
        and all(other.parse(label)[0] != PRESENT for other in others)
    ]
    return unread[0] if unread else ABSENT if labels else ""
