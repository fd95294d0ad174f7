"""PadChest, of San Juan Hospital in Alicante: 16-bit PNG, labels from Spanish reports.

    age = year of the study - year of birth

Bustos et al., PadChest, Medical Image Analysis 66 (2020).
"""

from collections.abc import Iterator

from ..readers import NO_FINDING, Reader, Row, patient_name
from ..values import ABSENT, PRESENT

__all__ = ["PadChest"]

LABELS = {
    **{"normal": NO_FINDING, "pneumonia": "Pneumonia", "atelectasis": "Atelectasis", "cardiomegaly": "Cardiomegaly"},
    **{"consolidation": "Consolidation", "pulmonary edema": "Edema", "emphysema": "Emphysema", "nodule": "Nodule"},
    **{"infiltrates": "Infiltration", "pleural effusion": "Pleural Effusion", "pneumothorax": "Pneumothorax"},
    **{"pleural thickening": "Pleural Thickening", "pulmonary fibrosis": "Fibrosis", "hiatal hernia": "Hernia"},
}
"""Of 193 labels those that other data sets have; the others are "Other"."""

NO_LABELS = ("", "unchanged", "suboptimal study", "nan")
"""What stands among labels and says nothing of the image."""


class PadChest(Reader):
    """The projection is PadChest's own, not DICOM's; images that its authors exclude are left out."""

    name, title = "padchest", "PadChest"
    covariates = ("age", "sex", "view")
    presets = ("chest_xray", "nih_chestxray14")
    license, access = "PadChest Dataset Research Use Agreement", "credentialed"
    download = "needs PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv and the folders 0 to 54 of images, or some"
    request = "https://bimcv.cipf.es/bimcv-projects/padchest/"
    tables = ("PADCHEST_chest_x_ray_images_labels_*.csv",)
    labels = tuple(LABELS.values())

    def rows(self) -> Iterator[Row]:
        """As `Reader.rows`."""
        needs = ("ImageID", "PatientID", "StudyDate_DICOM", "PatientBirth", "PatientSex_DICOM", "Projection", "Labels")
        for line, row in self.read(*self.tables, needs=needs, keep=needs):
            # ['pneumonia', 'pleural effusion'], some with spaces
            found = {one.strip(" '\"") for one in row["Labels"].strip("[]").split(",")}.difference(NO_LABELS)
            if "exclude" in found:
                self.left_out["excluded by its authors"] += 1
                continue
            labels = {name: PRESENT if label in found else ABSENT for label, name in LABELS.items()}
            labels["Other"] = PRESENT if found.difference(LABELS) else ABSENT
            cells = {
                "view": row["Projection"],
                "sex": row["PatientSex_DICOM"],
                "age": _years(row["StudyDate_DICOM"], row["PatientBirth"]),
            }
            yield Row(line, self.image(row["ImageID"]), patient_name(row["PatientID"]), cells, labels)


def _years(study: str, birth: str) -> str:
    # 1930.0, or a whole date
    years = patient_name(birth)[:4]
    return str(int(study[:4]) - int(years)) if study[:4].isdigit() and years.isdigit() else ""
