"""The label table of NIH ChestX-ray14: 112,120 rows of real covariates, no images. It fits covariate mechanisms.

Wang et al., ChestX-ray8, CVPR 2017 (NIH Clinical Center).
"""

from collections import Counter
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...schema import Schema, Variable
from ..cells import absent_levels, check_readable
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
        InputError: a damaged file, or another one, with file:line; a column of sex or view that can't be read; or a
            level that no row has.
    """
    rows = [row for _, row in read_rows(Path(path))]
    absent = sorted(set(_COLUMNS.values()) - set(rows[0]))
    if absent:
        raise InputError(
            f"{path}:1: no column {absent[0]!r}; this is not the ChestX-ray14 label file, nih_chestxray14.csv.gz."
        )
    known = [variable for variable in covariates.walk() if variable.name in _COLUMNS]
    table: dict[str, list[Any]] = {}
    missing: dict[str, dict[str, int]] = {}
    for variable in known:
        texts = [row[_COLUMNS[variable.name]] for row in rows]
        cells = [_finding(variable, text) if variable.name == "finding" else variable.parse(text) for text in texts]
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
