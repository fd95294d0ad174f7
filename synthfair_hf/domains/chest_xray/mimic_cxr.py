"""MIMIC-CXR-JPG 2: radiographs of one hospital, joined with MIMIC-IV for sex, age and race.

    age = anchor_age + (year of the study - anchor_year), at most 90: MIMIC-IV writes 91 for every age above 89

Johnson et al., MIMIC-CXR-JPG, arXiv:1901.07042.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator

from ...missing import is_missing
from .. import values
from ..readers import Reader, Row
from .chexpert import LABELS

__all__ = ["MimicCXR"]

OLDEST = 90
"""What every age above 89 counts as."""


class MimicCXR(Reader):
    """Views, labels and splits by MIMIC-CXR-JPG; a study's labels are those of all of its images.

    Race is what most of a patient's admissions say.
    """

    name, title = "mimic_cxr", "MIMIC-CXR-JPG 2"
    covariates = ("age", "sex", "race", "view")
    presets = ("chest_xray", "chexpert")
    license, access = "PhysioNet Credentialed Health Data License 1.5.0", "credentialed"
    download = (
        "needs files/p1*/ with mimic-cxr-2.0.0-metadata, -split and -chexpert (or -negbio) .csv.gz of MIMIC-CXR-JPG, "
        "and hosp/patients.csv.gz and hosp/admissions.csv.gz of MIMIC-IV"
    )
    request = "https://physionet.org/content/mimic-cxr-jpg/ and https://physionet.org/content/mimiciv/"
    tables = ("mimic-cxr-2.*-metadata.csv",)
    labels, beside_no_finding = LABELS, ("Support Devices",)

    def rows(self) -> Iterator[Row]:
        """As `Reader.rows`."""
        needs = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate")
        metadata = self.read(*self.tables, needs=needs, keep=needs)
        known = ("dicom_id", "split")
        drawn = self.read("mimic-cxr-2.*-split.csv", needs=known, keep=known)
        splits = {row["dicom_id"]: row["split"] for _, row in drawn}
        labelled = self.read("mimic-cxr-2.*-chexpert.csv", "mimic-cxr-2.*-negbio.csv", needs=("study_id", *LABELS))
        labels = {row["study_id"]: row for _, row in labelled}
        told = ("subject_id", "gender", "anchor_age", "anchor_year")
        people = self.read("hosp/patients.csv", "*/hosp/patients.csv", "patients.csv", needs=told, keep=told)
        patients = {row["subject_id"]: row for _, row in people}
        races = self._races()
        for line, row in metadata:
            subject, study, image = row["subject_id"], row["study_id"], row["dicom_id"]
            own, person = labels.get(study, {}), patients.get(subject, {})
            cells = {
                "view": row["ViewPosition"],
                "sex": person.get("gender", ""),
                "age": _age(person, row["StudyDate"]),
                "race": races.get(subject, ""),
            }
            found = {name: values.label(own[name], self.uncertain) if own else "" for name in LABELS}
            split = {"validate": "validation"}.get(splits.get(image, ""), splits.get(image))
            yield Row(line, f"files/p{subject[:2]}/p{subject}/s{study}/{image}.jpg", subject, cells, found, split)

    def _races(self) -> dict[str, str]:
        votes: dict[str, Counter[str]] = defaultdict(Counter)
        # called ethnicity before MIMIC-IV 2
        columns, files = ("subject_id", "race", "ethnicity"), ("hosp/admissions.csv", "*/hosp/admissions.csv")
        for _, row in self.read(*files, "admissions.csv", needs=columns[:1], keep=columns):
            votes[row["subject_id"]][values.race(row.get("race", row.get("ethnicity", "")))] += 1
        return {subject: max(found, key=lambda one: (one != "", found[one])) for subject, found in votes.items()}


def _age(person: dict[str, str], study_date: str) -> str:
    if not person or is_missing(study_date):
        return ""
    try:
        age = int(person["anchor_age"]) + int(study_date[:4]) - int(person["anchor_year"])
    except ValueError:
        return f"{person['anchor_age']} in {person['anchor_year']}"
    return str(OLDEST if int(person["anchor_age"]) > OLDEST else min(age, OLDEST))
