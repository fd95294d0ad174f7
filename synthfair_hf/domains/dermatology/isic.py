"""The ISIC challenges of 2019 (eight diagnoses) and 2020 (melanoma), by their tables.

Combalia et al., BCN20000, arXiv:1908.02288; Rotemberg et al., Scientific Data 8, 34 (2021).
"""

from collections.abc import Iterator

from ..readers import Reader, Row

__all__ = ["ISIC"]

KERATOSES = ("seborrheic keratosis", "lichenoid keratosis", "solar lentigo", "lentigo NOS")
"""Diagnoses of 2020 that the challenge of 2019, as HAM10000, calls BKL: benign keratosis."""


class ISIC(Reader):
    """Patients are those of 2020, lesions those of 2019; an image without either is its own patient."""

    name, title = "isic", "ISIC 2019 and 2020"
    covariates = ("age", "sex", "site", "diagnosis")
    presets = ("dermatology",)
    license, access = "CC BY-NC 4.0", "open"
    download = (
        "needs ISIC_2019_Training_Metadata.csv and ISIC_2019_Training_GroundTruth.csv, or train.csv (called "
        "ISIC_2020_Training_GroundTruth.csv too) of 2020, and the images, in any folder"
    )
    request = "https://challenge.isic-archive.com/data/"
    tables = ("ISIC_2019_Training_Metadata.csv", "train.csv", "ISIC_2020_Training_GroundTruth*.csv")
    people = "isic"

    def rows(self) -> Iterator[Row]:
        """As `Reader.rows`."""
        if self.find(self.tables[0]) is None:
            needs = ("image_name", "patient_id", "diagnosis", "age_approx", "sex", "anatom_site_general_challenge")
            for line, row in self.read(*self.tables, needs=needs):
                diagnosis = row["diagnosis"]
                cells = {"age": row["age_approx"], "sex": row["sex"], "site": row["anatom_site_general_challenge"]}
                cells["diagnosis"] = "BKL" if diagnosis in KERATOSES else diagnosis
                yield Row(line, self.image(row["image_name"]), row["patient_id"], cells)
            return
        self.unit = "lesion"
        truth = {
            row["image"]: next((name for name, cell in row.items() if cell in ("1", "1.0")), "")
            for _, row in self.read("ISIC_2019_Training_GroundTruth.csv", needs=("image", "MEL", "NV"))
        }
        columns = ("image", "age_approx", "lesion_id", "sex", "anatom_site_general")
        for line, row in self.read(*self.tables, needs=columns):
            cells = {"age": row["age_approx"], "sex": row["sex"], "site": row["anatom_site_general"]}
            # squamous cell carcinoma is none of HAM10000's
            cells["diagnosis"] = {"SCC": "Other"}.get(truth.get(row["image"], ""), truth.get(row["image"], ""))
            yield Row(line, self.image(row["image"]), row["lesion_id"], cells)
