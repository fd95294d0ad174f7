"""IXI: MRI of nearly 600 healthy subjects at three hospitals of London, as NIfTI.

    IXI002-Guys-0828-T1.nii.gz       subject, hospital, its own number, sequence

IXI, Information eXtraction from Images, EPSRC GR/S21533/02.
"""

import re
from collections.abc import Iterator

from ..nifti import volumes
from ..readers import Reader, Row

__all__ = ["IXI"]

FILE = re.compile(r"IXI(\d{3})-(Guys|HH|IOP)-\d+-(T1|T2|PD|MRA|DTI-\d+)\.nii(?:\.gz)?", re.IGNORECASE)

FIELD_STRENGTHS = {"guys": "1.5T", "hh": "3T", "iop": "1.5T"}
"""Of the one scanner of a hospital: Philips at Guy's and at Hammersmith Hospital, GE at the Institute of Psychiatry."""

SEXES = {"1": "male", "2": "female", "0": ""}


class IXI(Reader):
    """The axial slice in the middle of each volume (`nifti`); angiograms and diffusion images are left out.

    The table is published as a spreadsheet, in which 0 stands for what is not known, and some subjects have two rows.
    """

    name, title = "ixi", "IXI"
    covariates = ("age", "sex", "field_strength", "sequence", "site")
    license, access = "CC BY-SA 3.0", "open"
    download = "needs IXI.csv, which is IXI.xls saved as CSV, and the unpacked IXI-T1.tar (or -T2, -PD)"
    request = "https://brain-development.org/ixi-dataset/"
    tables = ("IXI.csv",)

    def rows(self) -> Iterator[Row]:
        """As `Reader.rows`."""
        people = self._people()
        for file in volumes(self.root):
            found = FILE.fullmatch(file.rpartition("/")[2])
            if found is None:
                self.left_out["not named as IXI's volumes are"] += 1
                continue
            number, site, sequence = found[1], found[2], found[3].upper()
            if sequence not in ("T1", "T2", "PD"):
                self.left_out[f"{sequence.partition('-')[0]} volume"] += 1
                continue
            line, person = people.get(int(number), (1, {"age": "", "sex": ""}))
            acquired = {"field_strength": FIELD_STRENGTHS[site.lower()], "sequence": f"{sequence}w", "site": site}
            yield Row(line, file, f"IXI{number}", {**person, **acquired})

    def _people(self) -> dict[int, tuple[int, dict[str, str]]]:
        """By number, the line and what is known; two values of one subject are a cell that cannot be read."""
        people: dict[int, tuple[int, dict[str, str]]] = {}
        for line, row in self.read(*self.tables, needs=("IXI_ID", "AGE")):
            # the name of its column says what its numbers mean
            sex = next((cell for column, cell in row.items() if column.upper().startswith("SEX")), "").strip()
            age = row["AGE"].strip()
            known = {"age": "" if age.strip("0.") == "" else age, "sex": SEXES.get(sex.removesuffix(".0"), sex)}
            if row["IXI_ID"].strip().isdecimal():
                before = people.setdefault(int(row["IXI_ID"]), (line, known))[1]
                for name, cell in known.items():
                    if cell and cell != before[name]:
                        before[name] = f"{before[name]} or {cell}" if before[name] else cell
        return people
