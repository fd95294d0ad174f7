"""VinDr-CXR, of two hospitals in Hanoi: DICOM, three radiologists per training image.

    a label is present  <=>  more than half of the radiologists who saw the image gave it

Nguyen et al., VinDr-CXR, Scientific Data 9, 429 (2022).
"""

from collections.abc import Iterator

from ..readers import NO_FINDING, Reader, Row
from ..values import ABSENT, PRESENT

__all__ = ["VinDrCXR"]

IDENTIFIERS = ("image_id", "rad_id")


class VinDrCXR(Reader):
    """Images are postero-anterior; sex and age stand in headers, where they were kept.

    No patients are told, so that each image is a patient; the test part is the authors'.
    """

    name, title = "vindr_cxr", "VinDr-CXR"
    covariates = ("age", "sex", "view")
    presets = ("chest_xray", "nih_chestxray14")
    license, access = "PhysioNet Credentialed Health Data License 1.5.0", "credentialed"
    download = "needs annotations/image_labels_train.csv and train/ (image_labels_test.csv and test/ beside)"
    request = "https://physionet.org/content/vindr-cxr/"
    tables = ("annotations/image_labels_train.csv",)
    adults, unit = True, "image"
    labels = (
        *("No Finding", "Pneumonia", "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Emphysema"),
        *("Infiltration", "Lung Opacity", "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax"),
        "Pulmonary fibrosis",
    )

    def rows(self) -> Iterator[Row]:
        """As `Reader.rows`."""
        for part in ("train", "test"):
            table = f"annotations/image_labels_{part}.csv"
            if part == "test" and self.find(table) is None:
                return
            by_image: dict[str, tuple[int, list[dict[str, str]]]] = {}
            for line, row in self.read(table, needs=("image_id", "No finding")):
                by_image.setdefault(row["image_id"], (line, []))[1].append(row)
            for image, (line, votes) in by_image.items():
                given = {name: sum(one[name] in ("1", "1.0") for one in votes) for name in votes[0]}
                labels = {
                    _name(name): PRESENT if 2 * given[name] > len(votes) else ABSENT
                    for name in given
                    if name not in IDENTIFIERS
                }
                file = f"{part}/{image}.dicom"
                header = self.header(file, ("PatientSex", "PatientAge"))
                cells = {"view": "PA", "sex": header["PatientSex"], "age": header["PatientAge"]}
                yield Row(line, file, "", cells, labels, self.split_of(image, part == "test"))


def _name(label: str) -> str:
    # both parts are to have the same columns
    return {"No finding": NO_FINDING, "Other disease": "Other diseases"}.get(label, label)
