"""CheXpert Plus, of Stanford: the radiographs of CheXpert as DICOM and PNG, with demographics and reports.

    train/patient00001/study1/view1_frontal.jpg     in the table
    PNG/train/patient00001/study1/view1_frontal.png or DICOM/..., in the folder

Chambon et al., CheXpert Plus, arXiv:2405.19538.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError
from .. import values
from ..readers import Reader, Row
from ..rows import read_rows
from .chexpert import LABELS, PLUS_BYTES

__all__ = ["CheXpertPlus"]

FORMATS = (".png", ".jpg", ".dcm")
"""Of images, the first of which is read where an image is there in several."""

COLUMNS = ("path_to_image", "frontal_lateral", "ap_pa", "deid_patient_id", "age", "sex", "race")


class CheXpertPlus(Reader):
    """Demographics stand beside the images; labels are CheXbert's, of the impressions, else of whole reports.

    Reports themselves are not kept.
    """

    name, title = "chexpert_plus", "CheXpert Plus"
    covariates = ("age", "sex", "race", "view")
    presets = ("chest_xray", "chexpert")
    license, access = "Stanford University Dataset Research Use Agreement", "credentialed"
    download = (
        "needs df_chexpert_plus_240401.csv, impression_fixed.json (or report_fixed.json) of its CheXbert labels, and "
        "train/ (valid/ beside) below PNG/ or DICOM/"
    )
    request = "https://aimi.stanford.edu/datasets/chexpert-plus"
    tables = ("df_chexpert_plus_*.csv",)
    adults = True
    labels, beside_no_finding = LABELS, ("Support Devices",)

    def rows(self) -> Iterator[Row]:
        """As `Reader.rows`."""
        table = self.file(*self.tables)
        rows = read_rows(table, COLUMNS, PLUS_BYTES)
        for column in COLUMNS:
            if column not in rows[0][1]:
                raise InputError(f"{table}:1: no column {column!r}; this is not that table of {self.title}.")
        labels, files = self._numbers(), self._files()
        for line, row in rows:
            image = _key(row["path_to_image"])
            own = labels.get(image)
            found = {name: values.label(own[name], self.uncertain) if own else "" for name in LABELS}
            cells = {
                "view": row["ap_pa"] if row["frontal_lateral"] == "Frontal" else "lateral",
                "sex": row["sex"],
                "age": row["age"],
                "race": values.race(row["race"]),
            }
            yield Row(line, files.get(image, row["path_to_image"]), row["deid_patient_id"], cells, found)

    def _numbers(self) -> dict[str, dict[str, str]]:
        """By image, a label's number as text; one JSON object a line."""
        names = [f"{kind}_fixed.json" for kind in ("impression", "report")]
        path = self.file(*names, *(f"*/{name}" for name in names))
        labels = {}
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    one = json.loads(line)
                    text = {name: "" if one.get(name) is None else f"{one[name]:g}" for name in LABELS}
                    labels[_key(one["path_to_image"])] = text
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                    raise InputError(
                        f"{path}:{number}: not labels of an image by its path_to_image; give the file as it was "
                        "published."
                    ) from None
        return labels

    def _files(self) -> dict[str, str]:
        """By image, its file relative to the folder."""
        found: dict[str, tuple[int, str]] = {}
        for folder, _, names in os.walk(self.root):
            for name in names:
                suffix = os.path.splitext(name)[1].lower()
                if suffix in FORMATS:
                    file = (Path(folder) / name).relative_to(self.root).as_posix()
                    found[_key(file)] = min(found.get(_key(file), (9, "")), (FORMATS.index(suffix), file))
        return {key: file for key, (_, file) in found.items()}


def _key(file: str) -> str:
    """Part, patient, study and view of an image, whatever its format and the folders above."""
    return "/".join(os.path.splitext(file.replace("\\", "/"))[0].split("/")[-4:])
