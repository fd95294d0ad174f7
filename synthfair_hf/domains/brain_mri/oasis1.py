"""OASIS-1: T1-weighted MRI of 416 subjects, 18 to 96 years, one scanner of 1.5 T.

Marcus et al., OASIS, Journal of Cognitive Neuroscience 19(9), 2007.
"""

import re
from collections.abc import Iterator

from ..readers import Reader, Row

__all__ = ["OASIS1"]

AXIAL = "PROCESSED/MPRAGE/T88_111/*_t88_gfc_tra_*.gif"
"""Of a session: the axial slice of its atlas-registered, gain-corrected image."""


class OASIS1(Reader):
    """Axial slices; the diagnosis is the clinical dementia rating, which the young do not have.

    Either the discs with oasis_cross-sectional.csv, or slices that were stored anew beside a metadata.csv with
    file_name, subject_id, plane, age, sex and cdr. Both sessions of a subject are of one patient.
    """

    name, title = "oasis1", "OASIS-1"
    covariates = ("age", "sex", "diagnosis")
    presets = ("brain_mri",)
    license, access = "OASIS Data Use Terms", "credentialed"
    download = "needs oasis_cross-sectional.csv and disc1/ to disc12/, or slices with a metadata.csv"
    request = "https://sites.wustl.edu/oasisbrains/"
    tables = ("oasis_cross-sectional.csv", "metadata.csv")

    def rows(self) -> Iterator[Row]:
        """As `Reader.rows`."""
        if self.file(*self.tables).name.startswith("metadata"):
            for line, row in self.read(*self.tables, needs=("file_name", "subject_id", "plane", "age", "sex", "cdr")):
                if row["plane"] != "axial":
                    self.left_out[f"{row['plane']} slice"] += 1
                    continue
                yield self._row(line, row["file_name"], row["subject_id"], row["age"], row["sex"], row["cdr"])
            return
        # found by the sessions' own names: a cell may be empty, or a pattern itself
        slices: dict[str, str] = {}
        for place in ("disc*/", ""):
            for one in sorted(self.root.glob(f"{place}*/{AXIAL}")):
                slices.setdefault(one.parents[3].name, one.relative_to(self.root).as_posix())
        for line, row in self.read(*self.tables, needs=("ID", "M/F", "Age", "CDR")):
            file = slices.get(row["ID"], row["ID"])
            yield self._row(line, file, row["ID"], row["Age"], row["M/F"], row["CDR"])

    def _row(self, line: int, file: str, session: str, age: str, sex: str, cdr: str) -> Row:
        subject = re.sub(r"_MR\d+$", "", session)
        return Row(line, file, subject, {"age": age, "sex": sex, "diagnosis": cdr})
