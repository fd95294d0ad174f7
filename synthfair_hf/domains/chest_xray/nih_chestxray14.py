"""The label table of NIH ChestX-ray14: 112,120 rows of real covariates, no images. It fits covariate mechanisms.

Wang et al., ChestX-ray8, CVPR 2017 (NIH Clinical Center).
"""

from collections import Counter
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...schema import Schema
from ..rows import read_rows

__all__ = ["read_table"]

_COLUMNS = {"age": "Patient Age", "sex": "Patient Gender", "view": "View Position", "finding": "Finding Labels"}


def read_table(path: str | Path, covariates: Schema) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Columns of decoded values (None = missing) for the covariates that the table has, and counts of what was missing.

    Policy, every case counted: an age outside the schema's range is missing (some releases of the file hold ages in the
    hundreds); a row with several findings has the first of the schema's finding levels among them; a row whose findings
    are all outside the schema has its finding missing. No row is dropped: each mechanism is fitted on the rows where it
    and its causes are known.

    Args:
        path: of the label file, plain or gzipped.
        covariates: age, sex, view and finding are read where they are among them.

    Returns:
        Columns `[rows]` by covariate, and the counts `rows` and `missing`.

    Raises:
        InputError: a damaged file, or another one; with file:line.
    """
    rows = [row for _, row in read_rows(Path(path))]
    absent = sorted(set(_COLUMNS.values()) - set(rows[0]))
    if absent:
        raise InputError(
            f"{path}:1: no column {absent[0]!r}; this is not the ChestX-ray14 label file, nih_chestxray14.csv.gz."
        )
    known = [variable for variable in covariates.walk() if variable.name in _COLUMNS]
    table: dict[str, list[Any]] = {variable.name: [] for variable in known}
    missing: dict[str, Counter[str]] = {variable.name: Counter() for variable in known}
    for row in rows:
        for variable in known:
            cell = row[_COLUMNS[variable.name]]
            if variable.name == "finding":
                parsed = [variable.parse(label)[0] for label in cell.split("|")]
                value = next((label for label in parsed if label is not None), None)
                reason = None if value is not None else "findings outside the schema"
            else:
                value, reason = variable.parse(cell)
            table[variable.name].append(value)
            if reason:
                missing[variable.name][reason] += 1
    return table, {"rows": len(rows), "missing": {name: dict(reasons) for name, reasons in missing.items() if reasons}}
