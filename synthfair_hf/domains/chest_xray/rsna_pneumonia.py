"""RSNA Pneumonia Detection Challenge 2018: DICOM of NIH ChestX-ray14, read anew by radiologists.

    Normal -> No Finding      Lung Opacity -> Pneumonia      No Lung Opacity / Not Normal -> Other

Shih et al., Radiology: Artificial Intelligence 1(1), 2019.
"""

import json
from collections.abc import Iterator

from ...errors import InputError, shown
from ..readers import NO_FINDING, Reader, Row
from ..values import ABSENT, PRESENT

__all__ = ["RSNAPneumonia"]

CLASSES = {"Normal": NO_FINDING, "Lung Opacity": "Pneumonia", "No Lung Opacity / Not Normal": "Other"}
"""What a class of the challenge is called elsewhere."""

ORIGINS = "pneumonia-challenge-dataset-mappings_2018.json"
"""The image of ChestX-ray14 that each one was: RSNA publishes it beside the challenge."""


class RSNAPneumonia(Reader):
    """Age, sex and view stand in headers. Its `patientId` names an image.

    Which images share a patient is told by ORIGINS alone, where it is in the folder.
    """

    name, title = "rsna_pneumonia", "RSNA Pneumonia Detection Challenge"
    covariates = ("age", "sex", "view")
    presets = ("chest_xray",)
    license, access = "use with attribution (RSNA), rules of the challenge; images of NIH ChestX-ray14", "unknown"
    download = f"needs stage_2_detailed_class_info.csv and stage_2_train_images/; {ORIGINS} tells patients"
    request = "https://www.rsna.org/rsnai/ai-image-challenge/rsna-pneumonia-detection-challenge-2018"
    tables = ("stage_2_detailed_class_info.csv",)
    people, labels = "nih_chestxray14", tuple(CLASSES.values())

    def rows(self) -> Iterator[Row]:
        """As `Reader.rows`."""
        table = self.file(*self.tables)
        patients = self._patients()
        self.names_patients = bool(patients)
        self.unit = "patient" if patients else "image"
        classes: dict[str, tuple[int, str]] = {}
        # a row per box
        for line, row in self.read(*self.tables, needs=("patientId", "class")):
            first, known = classes.setdefault(row["patientId"], (line, row["class"]))
            if row["class"] != known or known not in CLASSES:
                raise InputError(
                    f"{table}:{line}: class of {shown(row['patientId'])} is {shown(row['class'])}, but {shown(known)} "
                    f"in line {first}; allowed: one of {', '.join(CLASSES)}."
                )
        for image, (line, found) in classes.items():
            file = f"stage_2_train_images/{image}.dcm"
            header = self.header(file, ("PatientSex", "PatientAge", "ViewPosition"))
            cells = {"view": header["ViewPosition"], "sex": header["PatientSex"], "age": header["PatientAge"]}
            labels = {name: PRESENT if name == CLASSES[found] else ABSENT for name in CLASSES.values()}
            yield Row(line, file, patients.get(image, ""), cells, labels)

    def _patients(self) -> dict[str, str]:
        """The patient of each image as ChestX-ray14 calls them; empty without ORIGINS."""
        path = self.find(ORIGINS)
        if path is None:
            return {}
        try:
            listed = json.loads(path.read_bytes())
            # 00000001_000.png is of patient 1
            return {one["subset_img_id"]: str(int(one["img_id"].partition("_")[0])) for one in listed}
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            raise InputError(
                f"{path}: not a list of images with img_id and subset_img_id; give the file as RSNA publishes it, or "
                "remove it."
            ) from None
