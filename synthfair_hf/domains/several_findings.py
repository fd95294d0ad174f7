"""Several findings of a table, as it is drafted: a column for each, or one whose cells join their labels.

Edema, Effusion = 1, 0                     two columns, each present or absent
findings = Edema|Effusion                  the same of one image, as `findings.state_in` reads it
"""

import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, unknown
from ..missing import is_missing
from ..schema import STATES, spelling
from .cells import match_columns
from .findings import FINDINGS, LABELS, labels_in
from .preset_file import why_no_name
from .presets import preset_with
from .readers import key_of
from .values import ABSENT, PRESENT, is_no_finding

__all__ = [
    "MAX_LEVELS",
    "labels_told",
    "present_or_absent",
    "remedy_of_several",
    "told_by_labels",
    "told_in_columns",
    "told_together",
]

MAX_LEVELS = 30
"""A column with more words is text, or names things."""

UNCERTAIN = ("-1", "-1.0")
"""Cells of a column that is one of several findings, in lower case."""


def told_together(cells: Sequence[str]) -> list[list[str]]:
    """The labels of each row, where the cells of a column join several; else none.

    Args:
        cells: the column.
    """
    labels = list(map(labels_in, cells))
    times = Counter(key_of(label) for own in labels for label in own)
    # a text that has commas is no list of labels
    joins = any(len(own) > 1 for own in labels) and 2 * len(times) <= times.total() and len(times) <= MAX_LEVELS
    return labels if joins else []


def told_by_labels(
    path: Path, header: Sequence[str], told: Sequence[Sequence[str]], labels: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The fields of each finding that the labels of rows name, by its name.

    Args:
        path: of the table.
        header: its columns.
        told: labels by row.
        labels: the fields of findings that have columns of their own; a label of one of these becomes its alias.

    Raises:
        InputError: a label that cannot name a finding.
    """
    # what is unknown says nothing of any
    told = [[label for label in own if is_no_finding(label) or not is_missing(label)] for own in told]
    spelt: dict[str, set[str]] = {}
    for label in (one for own in told for one in own if not is_no_finding(one)):
        spelt.setdefault(key_of(label), set()).add(label)
    columns = {key_of(column): column for column in header}
    found: dict[str, dict[str, Any]] = {}
    for name, spellings in sorted(spelt.items()):
        aliases = dict.fromkeys(sorted(spellings), PRESENT)
        if (column := columns.get(name)) in labels:
            labels[str(column)]["aliases"] |= aliases
            continue
        why = "is the name of a column, too" if column else why_no_name(name, list(header))
        if why is not None:
            raise InputError(f"{path}:1: {FINDINGS}: the label {min(spellings)!r} {why}; rename it.")
        states = [None if not own else PRESENT if name in map(key_of, own) else ABSENT for own in told]
        found[name] = _finding_fields(aliases, states)
    return found


def _finding_fields(aliases: Mapping[str, str], states: Sequence[str | None]) -> dict[str, Any]:
    """The fields of one of several findings, and what it is in each row."""
    counts = Counter({state: states.count(state) for state in (PRESENT, ABSENT)})
    fields = {"kind": "categorical", "levels": (ABSENT, PRESENT), "aliases": dict(aliases), "optional": True}
    return {**fields, "counts": counts, "states": states}


def _cells(rows: Sequence[Mapping[str, str]], column: str) -> tuple[list[str], list[str], bool]:
    """The different cells of a column, those of no known meaning, and whether it is present or absent."""
    cells = list(dict.fromkeys(row[column].strip().casefold() for row in rows))
    others = [cell for cell in cells if cell not in STATES and cell not in UNCERTAIN and not is_missing(cell)]
    return cells, others, not others and len({STATES[cell] for cell in cells if cell in STATES}) == 2


def present_or_absent(rows: Sequence[Mapping[str, str]], columns: Iterable[str]) -> list[str]:
    """Those of the columns of a table whose cells say that something is present or absent.

    Args:
        rows: of the table.
        columns: some of its.
    """
    return [column for column in columns if _cells(rows, column)[2]]


def labels_told(rows: Sequence[Mapping[str, str]], columns: Iterable[str]) -> tuple[Counter[str], str | None]:
    """Labels of data sets that a table has, with how often it has them, and the column that joins them, if one does.

    Args:
        rows: of the table.
        columns: those that may hold them, or be called so.
    """
    columns = list(columns)
    for column in columns:
        labels = Counter(label for own in told_together([row[column] for row in rows]) for label in own)
        if any(spelling(label) in LABELS for label in labels):
            return labels, column
    called = [column for column in columns if spelling(column) in LABELS]
    return Counter(present_or_absent(rows, called)), None


def remedy_of_several(path: Path, labels: Mapping[str, int], column: str | None, mapped: Mapping[str, str]) -> str:
    """What to do with a table of several findings that a preset with one does not read, as an error ends with it.

    Args:
        path: of the table; of one that `datasets` reads its folder or name.
        labels: that it has, as `labels_told` counts them.
        column: the one that joins them.
        mapped: the column that was said to be the one finding, by the finding's name; it is to be left out.
    """
    best = preset_with(labels, "nih_chestxray14")
    # one is drafted of a file alone
    drafted = f"the preset of draft_preset({str(path)!r})" if path.is_file() else "a preset file that has them"
    own = "" if best is None else f"preset={best!r} (with dataset_name='imagefolder' where none is given), or "
    remedy = f"give {own}{drafted}"
    if column is not None and match_columns(path, [column], [FINDINGS]) == {}:
        remedy = f"{remedy}, either with columns={ {FINDINGS: column} }"
    return f"leave columns={dict(mapped)} out, and {remedy}" if mapped else remedy


def told_in_columns(
    path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str], named: Sequence[str], least: int
) -> dict[str, dict[str, Any]]:
    """The fields of each column that is one of several findings, by its name in the table.

    Args:
        path: of the table.
        rows: of it.
        columns: those that may be.
        named: those that are said to be.
        least: how many columns that are called so are findings without being named.

    Raises:
        InputError: what is named is no column, is not present or absent, or cannot be a covariate's name.
    """
    found: dict[str, dict[str, Any]] = {}
    for column in named or columns:
        if column not in columns:
            raise unknown("finding", column, columns)
        cells, others, binary = _cells(rows, column)
        if named and not binary:
            what = f"holds {reprlib.repr(others[0])}" if others else "has one value"
            raise InputError(
                f"{path}:1: finding: column {column!r} {what}; give columns of 1 and 0, present and absent, yes and "
                "no, or true and false."
            )
        if named and (why := why_no_name(key_of(column), columns)):
            raise InputError(f"{path}:1: finding: column {column!r} {why}.")
        if not named and (not binary or spelling(column) not in LABELS):
            continue
        aliases = {cell: STATES[cell] for cell in sorted(cells) if cell in STATES and cell not in (ABSENT, PRESENT)}
        found[column] = _finding_fields(aliases, [STATES.get(row[column].strip().casefold()) for row in rows])
    return found if named or len(found) >= least else {}
