"""BRAX, of Hospital Israelita Albert Einstein in Sao Paulo: PNG, labels by CheXpert's labeller on Portuguese reports.

Reis et al., BRAX, Scientific Data 9, 487 (2022).
"""

from collections.abc import Iterator

from .. import values
from ..readers import Reader, Row
from .chexpert import LABELS

__all__ = ["Brax"]


class Brax(Reader):
    """Ages are rounded to five years; "85 or more" is 85."""

    name, title = "brax", "BRAX"
    covariates = ("age", "sex", "view")
    presets = ("chest_xray", "chexpert")
    license, access = "PhysioNet Credentialed Health Data License 1.5.0", "credentialed"
    download = "needs master_spreadsheet_update.csv and images/"
    request = "https://physionet.org/content/brax/"
    tables = ("master_spreadsheet*.csv",)
    labels, beside_no_finding = LABELS, ("Support Devices",)

    def rows(self) -> Iterator[Row]:
        """As `Reader.rows`."""
        needs = ("PngPath", "PatientID", "PatientSex", "PatientAge", "ViewPosition", *LABELS)
        for line, row in self.read(*self.tables, needs=needs, keep=needs):
            cells = {"view": row["ViewPosition"], "sex": row["PatientSex"], "age": row["PatientAge"]}
            labels = {name: values.label(row[name], self.uncertain) for name in LABELS}
            yield Row(line, row["PngPath"].replace("\\", "/"), row["PatientID"], cells, labels)
