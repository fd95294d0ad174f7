"""HAM10000: dermatoscopic images of pigmented lesions, of Vienna and Queensland.

Tschandl et al., HAM10000, Scientific Data 5, 180161 (2018).
"""

from collections.abc import Iterator

from ..readers import Reader, Row

__all__ = ["HAM10000"]


class HAM10000(Reader):
    """No patients are told, so that a lesion is one: its images are in one split."""

    name, title = "ham10000", "HAM10000"
    covariates = ("age", "sex", "site", "diagnosis")
    presets = ("dermatology",)
    license, access = "CC BY-NC 4.0", "open"
    download = "needs HAM10000_metadata (or HAM10000_metadata.csv) and the images, in any folder"
    request = "https://doi.org/10.7910/DVN/DBW86T"
    tables = ("HAM10000_metadata*",)
    people, unit = "isic", "lesion"

    def rows(self) -> Iterator[Row]:
        """As `Reader.rows`."""
        needs = ("lesion_id", "image_id", "dx", "age", "sex", "localization")
        for line, row in self.read(*self.tables, needs=needs):
            cells = {"age": row["age"], "sex": row["sex"], "site": row["localization"], "diagnosis": row["dx"]}
            yield Row(line, self.image(row["image_id"]), row["lesion_id"], cells)
