"""NIH ChestX-ray14: 112,120 radiographs, and their label table alone, which fits covariate mechanisms.

Wang et al., ChestX-ray8, CVPR 2017 (NIH Clinical Center).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from ...errors import InputError, shown
from ...schema import Schema, Variable
from ..cells import absent_levels, check_readable
from ..findings import is_label, labels_of
from ..readers import NO_FINDING, Reader, Row
from ..rows import read_rows
from ..values import ABSENT, PRESENT

__all__ = ["LABELS", "NIHChestXray14", "read_table"]

LABELS = (
    *(NO_FINDING, "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia"),
    *("Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia"),
)
"""What was mined from reports."""

_COLUMNS = {"age": "Patient Age", "sex": "Patient Gender", "view": "View Position", "finding": "Finding Labels"}
_STORED_ANEW = {"age": "age", "sex": "sex", "view": "view", "finding": "findings"}
"""Columns of the label file, and of the metadata.csv of images that were stored anew."""


class NIHChestXray14(Reader):
    """Images by the name in the table, in any folder and format; test_list.txt, where it is there, is the test part.

    Either the label file with the images, or images that were stored anew beside a metadata.csv with file_name,
    patient_id, age, sex, view and findings, which are the labels joined by |.
    """

    name, title = "nih_chestxray14", "NIH ChestX-ray14"
    covariates = ("age", "sex", "view")
    presets = ("chest_xray", "nih_chestxray14")
    license, access = "free to use with acknowledgement (NIH Clinical Center)", "open"
    download = (
        "needs Data_Entry_2017.csv (or Data_Entry_2017_v2020.csv) and images_*/images/ or some of them, or images with "
        "a metadata.csv"
    )
    request = "https://nihcc.app.box.com/v/ChestXray-NIHCC"
    tables = ("Data_Entry_2017*.csv", "metadata.csv")
    people, labels = "nih_chestxray14", LABELS

    def rows(self) -> Iterator[Row]:
        """As `Reader.rows`."""
        listed = self.find("test_list.txt")
        tests = None if listed is None else frozenset(listed.read_text(encoding="utf-8").split())
        anew = self.file(*self.tables).name.startswith("metadata")
        columns = _STORED_ANEW if anew else _COLUMNS
        image, person = ("file_name", "patient_id") if anew else ("Image Index", "Patient ID")
        for line, row in self.read(*self.tables, needs=(image, person, *columns.values())):
            name, patient = row[image], row[person]
            cells = {name: row[column] for name, column in columns.items() if name != "finding"}
            found = frozenset(row[columns["finding"]].split("|"))
            labels = {label: PRESENT if label in found else ABSENT for label in LABELS}
            if unknown := found - set(LABELS):
                self.left_out[f"unknown label {shown(min(unknown))}"] += 1
                continue
            split = None if tests is None else self.split_of(patient, Path(name).name in tests)
            yield Row(line, name if anew else self.image(name), patient, cells, labels, split)


def read_table(path: str | Path, covariates: Schema) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Columns of decoded values (None = missing) for the covariates that the table has, and counts of what was missing.

    Policy, every case counted: an age outside the schema's range is missing (some releases of the file hold ages in the
    hundreds). Of a preset with one finding, a row with several has the first of the schema's finding levels among them;
    a row whose findings are all outside the schema has its finding missing. Findings that are present or absent are
    what the row says of each; one beside No Finding is missing. No row is dropped: each mechanism is fitted on the rows
    where it and its causes are known.

    Args:
        path: of the label file, plain or gzipped.
        covariates: age, sex, view and findings are read where they are among them.

    Returns:
        Columns `[rows]` by covariate, and the counts `rows` and `missing`.

    Raises:
        InputError: a damaged file, or another one, with file:line; a column of sex or view that can't be read; or a
            level that no row has.
    """
    rows = [row for _, row in read_rows(Path(path))]
    absent = sorted(set(_COLUMNS.values()) - set(rows[0]))
    if absent:
        raise InputError(
            f"{path}:1: no column {absent[0]!r}; this is not the ChestX-ray14 label file, nih_chestxray14.csv.gz."
        )
    table: dict[str, list[Any]] = {}
    missing: dict[str, dict[str, int]] = {}
    for variable in covariates.walk():
        own = labels_of(variable, LABELS) if is_label(variable) else ()
        if variable.name not in _COLUMNS and not own:
            continue
        texts = [row[_COLUMNS["finding" if own else variable.name]] for row in rows]
        read = partial(_state, own) if own else partial(_finding, variable) if variable.name == "finding" else None
        # a million cells say a thousand different things
        cells = list(map(cache(read or variable.parse), texts))
        # the policy above is on ages and findings
        if variable.name in ("sex", "view"):
            check_readable(path, variable, texts, cells)
        absent_levels(path, variable, texts, cells)
        table[variable.name] = [value for value, _ in cells]
        missing[variable.name] = dict(Counter(reason for _, reason in cells if reason))
    return table, {"rows": len(rows), "missing": {name: reasons for name, reasons in missing.items() if reasons}}


def _finding(variable: Variable, text: str) -> tuple[object, str | None]:
    """The first of the schema's findings among those of a row, or the reason that there is none."""
    found = (variable.parse(label)[0] for label in text.split("|"))
    value = next((label for label in found if label is not None), None)
    return value, None if value is not None else "findings outside the schema"


def _state(own: Sequence[str], text: str) -> tuple[object, str | None]:
    """Whether one of these labels is among those of a row, or the reason that this is not known."""
    labels = text.split("|")
    present = any(label in own for label in labels)
    if present and NO_FINDING in labels:
        return None, f"beside {NO_FINDING}"
    return PRESENT if present else ABSENT, None
