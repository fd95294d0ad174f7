"""Findings that data sets of chest radiographs publish beside those of a schema.

A cell that names one of them was read: the image is of no level of the schema, and its finding is missing. Any other
word may be a level in another spelling, and is counted as unreadable.
"""

from ..schema import Variable, spelling

__all__ = ["OTHER_FINDINGS", "is_other_finding"]

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


def is_other_finding(variable: Variable, text: str) -> bool:
    """Whether a cell of a variable names a finding that is none of its levels, or says that a patient is of another.

    Args:
        variable: the covariate; only one that holds findings or demographics can have others.
        text: the cell.
    """
    # a race or a sex beside the schema's
    if variable.nature == "patient/demographic":
        return spelling(text) == "other"
    return variable.nature == "patient/pathology" and spelling(text) in OTHER_FINDINGS
