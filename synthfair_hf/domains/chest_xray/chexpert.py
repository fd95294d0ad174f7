"""CheXpert, of Stanford; race from the table of CheXpert Plus, or from CheXpert's demographics.

Irvin et al., CheXpert, AAAI 2019; Chambon et al., CheXpert Plus, arXiv:2405.19538.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError, shown
from .. import values
from ..readers import Reader, Row
from ..rows import read_rows

__all__ = ["LABELS", "CheXpert"]

LABELS = (
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema"),
    *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture"),
    "Support Devices",
)
"""What CheXpert's labeller finds in reports; MIMIC-CXR and BRAX have the same."""

PLUS_BYTES = 2**31
"""Of the table of CheXpert Plus, which holds the reports too."""


class CheXpert(Reader):
    """train.csv, and valid.csv where it is there; ages of 90 are 90 and above."""

    name, title = "chexpert", "CheXpert"
    covariates = ("age", "sex", "race", "view")
    presets = ("chest_xray", "chexpert")
    license, access = "Stanford University Dataset Research Use Agreement", "credentialed"
    download = (
        "needs train.csv and train/ (valid.csv and valid/ beside), and for race df_chexpert_plus_240401.csv of "
        "CheXpert Plus, or CHEXPERT DEMO.csv, which is the demographics' spreadsheet saved as CSV"
    )
    request = "https://aimi.stanford.edu/datasets/chexpert-chest-x-rays"
    tables = ("train.csv",)
    adults = True
    labels, beside_no_finding = LABELS, ("Support Devices",)

    def rows(self) -> Iterator[Row]:
        """As `Reader.rows`."""
        races = self._races()
        needs = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS)
        names = ["train.csv", *(["valid.csv"] if self.find("valid.csv") else [])]
        tables = {name: self.read(name, needs=needs) for name in names}
        for table, line, row in ((name, *one) for name, rows in tables.items() for one in rows):
            # the first folder is called CheXpert-v1.0, or CheXpert-v1.0-small
            file = re.sub(r"^.*?(?=(?:train|valid)/)", "", row["Path"].replace("\\", "/"))
            patient = re.search(r"patient\d+", file)
            if patient is None:
                raise InputError(
                    f"{self.file(table)}:{line}: Path {shown(row['Path'])} names no patient; restore the table, whose "
                    "paths are as train/patient00001/study1/view1_frontal.jpg."
                )
            cells = {
                "view": row["AP/PA"] if row["Frontal/Lateral"] == "Frontal" else "lateral",
                "sex": row["Sex"],
                "age": row["Age"],
                **({} if races is None else {"race": races.get(patient[0], "")}),
            }
            labels = {name: values.label(row[name], self.uncertain) for name in LABELS}
            yield Row(line, file, patient[0], cells, labels)

    def _races(self) -> dict[str, str] | None:
        """By patient; None where no table tells."""
        for name, patient, race in (
            ("df_chexpert_plus_*.csv", "deid_patient_id", "race"),
            ("CHEXPERT*DEMO.csv", "PATIENT", "PRIMARY_RACE"),
        ):
            path = self.find(name)
            if path is not None:
                return _column(path, patient, race)
        return None


def _column(path: Path, patient: str, race: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line, row in read_rows(path, (patient, race), PLUS_BYTES):
        if len(row) < 2:
            raise InputError(f"{path}:{line}: no columns {patient!r} and {race!r}; give the table as it was published.")
        one, before = values.race(row[race]), found.get(row[patient], "")
        # two races of one patient are a cell that cannot be read, and counted as one
        found[row[patient]] = before if one in ("", before) else one if not before else f"{before} or {one}"
    return found
