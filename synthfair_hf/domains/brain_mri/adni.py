"""ADNI, the Alzheimer's Disease Neuroimaging Initiative: NIfTI as its archive gives it, with one of two tables.

    ADNI/002_S_0295/MP-RAGE/2006-04-18_08_20_30.0/I13722/ADNI_002_S_0295_MR_MP-RAGE__br_raw_..._I13722.nii
         subject            acquired              image

    ADNIMERGE.csv    a row per visit: age = AGE + Years_bl, diagnosis DX; the visit whose IMAGEUID is the image,
                     else the subject's nearest by date, at most NEAREST days away
    collection       the table that comes with a download: a row per image, with the age at it

Petersen et al., Neurology 74(3), 2010.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import date

from .. import values
from ..nifti import volumes
from ..readers import Reader, Row

__all__ = ["ADNI"]

SUBJECT, IMAGE = re.compile(r"\d{3}_S_\d{4,5}"), re.compile(r"_I(\d+)\.nii(?:\.gz)?$", re.IGNORECASE)
ACQUIRED = re.compile(r"(\d{4}-\d{2}-\d{2})_\d{2}_\d{2}_\d{2}")

NEAREST = 180
"""Days between an image and a visit that counts as its own."""

SEQUENCES = {"FLAIR": "FLAIR", "RAGE": "T1w", "SPGR": "T1w", "T2": "T2w", "PD": "PDw"}
"""By a part of the description in a file's name, the first that is there."""

VISIT = ("PTID", "EXAMDATE", "AGE", "Years_bl", "PTGENDER", "DX")
COLLECTION = ("Subject", "Image Data ID", "Group", "Sex", "Age")
"""Columns of the two tables, that of the subject first."""

Line = tuple[int, dict[str, str]]


class ADNI(Reader):
    """The axial slice in the middle of each volume (`nifti`).

    CN is without dementia, AD and Dementia with; mild cognitive impairment is read, and of neither level.
    """

    name, title = "adni", "ADNI"
    covariates = ("age", "sex", "race", "diagnosis", "field_strength", "sequence")
    presets = ("brain_mri",)
    license, access = "ADNI Data Use Agreement", "credentialed"
    download = "needs NIfTI volumes below their subjects, and ADNIMERGE.csv or the table of the collection"
    request = "https://adni.loni.usc.edu/data-samples/adni-data/"
    tables = ("ADNIMERGE*.csv", "*.csv")

    def rows(self) -> Iterator[Row]:
        """As `Reader.rows`."""
        merged = self.file(*self.tables).name.startswith("ADNIMERGE")
        needs, row_of = (VISIT, _visit) if merged else (COLLECTION, _listed)
        rows: dict[str, list[Line]] = defaultdict(list)
        for line, row in self.read(*self.tables, needs=needs, keep=(*needs, "PTRACCAT", "FLDSTRENG", "IMAGEUID")):
            rows[row[needs[0]].strip()].append((line, row))
        for file in volumes(self.root):
            subject, image = SUBJECT.search(file), IMAGE.search(file)
            if subject is None or image is None:
                self.left_out["not named as ADNI's volumes are"] += 1
                continue
            acquired = ACQUIRED.search(file)
            found = row_of(rows[subject[0]], image[1], acquired[1] if acquired else None)
            if found is None:
                self.left_out["image without a row of its own"] += 1
                continue
            line, cells = found
            described = file.rpartition("/")[2].upper()
            sequence = next((name for part, name in SEQUENCES.items() if part in described), "")
            yield Row(line, file, subject[0], {**cells, "sequence": sequence})


def _visit(visits: list[Line], image: str, acquired: str | None) -> Line | None:
    """The line and cells of an image by the subject's rows of ADNIMERGE.csv."""
    own = [one for one in visits if one[1].get("IMAGEUID", "").removesuffix(".0") == image]
    if not own and acquired is not None:
        dated = [(abs((day - date.fromisoformat(acquired)).days), one) for one in visits if (day := _day(one[1]))]
        own = [one for days, one in sorted(dated, key=lambda pair: pair[0]) if days <= NEAREST]
    if not own:
        return None
    line, row = own[0]
    return line, {
        "age": _sum(row["AGE"], row["Years_bl"]),
        "sex": row["PTGENDER"],
        "race": values.race(row.get("PTRACCAT", "")),
        "diagnosis": row["DX"],
        # 1.5 Tesla MRI
        "field_strength": re.sub(r"\s*Tesla.*", "T", row.get("FLDSTRENG", "")),
    }


def _listed(rows: list[Line], image: str, acquired: str | None) -> Line | None:
    """The line and cells of an image by the subject's rows of a collection, which are of images."""
    for line, row in rows:
        if row["Image Data ID"].strip().lstrip("I") == image:
            return line, {"age": row["Age"], "sex": row["Sex"], "diagnosis": row["Group"]}
    return None


def _day(row: dict[str, str]) -> date | None:
    try:
        return date.fromisoformat(row["EXAMDATE"].strip())
    except ValueError:
        return None


def _sum(age: str, since: str) -> str:
    """The age at a visit so many years after the first; what is no number stays for whoever counts it."""
    try:
        return f"{float(age) + float(since or 0):g}"
    except ValueError:
        return age
