"""Columns by their names, cells that were not read, and levels that were lost with them or with their images.

All but the last is refused before an image is read.
"""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from ..errors import InputError
from ..schema import EMPTY, SPLITS, UNKNOWN, Variable
from .findings import FINDINGS, is_other_finding

__all__ = [
    "FEWEST",
    "IDENTIFIED",
    "INDEX",
    "MAX_UNREADABLE",
    "TRAIN",
    "absent_levels",
    "allowed_cells",
    "bare_name",
    "check_identifiers",
    "check_images",
    "check_readable",
    "match_columns",
    "near_column",
    "unread_columns",
    "unreadable_cells",
    "untaught_levels",
]

TRAIN = next(iter(SPLITS))

IDENTIFIERS = (
    ("file_name", "names the image", "file|image|path"),
    ("patient_id", "keeps a patient in one split", "patient|subject|person|case|lesion|animal|specimen|_id$|^id$"),
)
"""Columns that every table has, what for, and what others like them are called."""

KEPT = ("filename", "patientid", "split", "sha256")
"""Letters of the columns that a table has beside covariates."""

INDEX = re.compile(r"(?:Unnamed: \d+)?")
"""Columns that pandas adds on saving a table, and that hold nothing of an image."""

IDENTIFIED = tuple(column for column, _, _ in IDENTIFIERS)

FEWEST = 5
"""Images of a level, or of a combination of levels, from which on something can be said of it."""

MAX_UNREADABLE = 0.05
"""Share of the cells of a column, 0 to 1, that may be words or numbers that no rule can read."""


def match_columns(where: str | Path, header: Sequence[str], names: Iterable[str]) -> dict[str, str]:
    """The column of each name, which may be spelt in another case and with other spaces and separators.

    Args:
        where: the table.
        header: names of its columns.
        names: those that are looked for.

    Returns:
        Columns by name; a name without a column is not in it.

    Raises:
        InputError: two columns are spellings of one name.
    """
    found: dict[str, list[str]] = {}
    for column in header:
        found.setdefault(bare_name(column), []).append(column)
    matched = {name: found[bare_name(name)] for name in names if bare_name(name) in found}
    for name, columns in matched.items():
        if len(columns) > 1:
            raise InputError(
                f"{where}:1: columns {' and '.join(map(repr, columns))} are both spellings of {name!r}; keep one, and "
                "give the others names that differ in more than case and separators."
            )
    return {name: columns[0] for name, columns in matched.items()}


def check_identifiers(where: str | Path, header: Sequence[str]) -> None:
    """Raise InputError for a table without the columns that every one has, of which it names all that are missing.

    Args:
        where: the table.
        header: names of its columns.
    """
    missing = [one for one in IDENTIFIERS if one[0] not in header]
    if not missing:
        return
    similar = {}
    for column, _, like in missing:
        near = near_column(header, column)
        similar[column] = [near] if near else [one for one in header if re.search(like, one.casefold())][:3]
    mapped = {column: next(iter(similar[column]), "COLUMN") for column in similar}
    if len(missing) == 1:
        ((column, purpose, _),) = missing
        names = " or ".join(map(repr, similar[column]))
        remedy = f"give that name to {names}" if names else "add it"
        raise InputError(f"{where}:1: no column {column!r}; {remedy}, or columns={mapped} (it {purpose}).")
    told = ", ".join(f"no column {column!r} (it {purpose})" for column, purpose, _ in missing)
    raise InputError(f"{where}:1: {told}; add them, or columns={mapped}.")


def unread_columns(header: Iterable[str], read: Collection[str]) -> list[str]:
    """The columns of a table that nobody reads, without those that only keep the table.

    Args:
        header: names of its columns.
        read: those of them that are read.
    """
    return [name for name in header if name not in read and bare_name(name) not in KEPT and not INDEX.fullmatch(name)]


def near_column(header: Iterable[str], name: str) -> str | None:
    """The column of a table that is likely to be meant by a name that it lacks.

    Args:
        header: names of its columns.
        name: the one that is looked for.
    """
    spelt = {bare_name(column): column for column in header}
    near = difflib.get_close_matches(bare_name(name), spelt, 1, cutoff=0.8)
    return spelt[near[0]] if near else None


def bare_name(name: str) -> str:
    """What two spellings of a column's name have in common: letters and digits; the name itself where it has none.

    Args:
        name: of the column.
    """
    plain = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\W_]", "", plain) or plain


def check_readable(
    where: str | Path,
    variable: Variable,
    texts: list[str],
    cells: list[tuple[object, str | None]],
    remedy: str | None = None,
    labels: Sequence[str] = (),
) -> None:
    """Raise InputError for a column of which more than MAX_UNREADABLE cells are words or numbers of no known meaning.

    Args:
        where: the table.
        variable: the covariate.
        texts: the column `[n]`.
        cells: what `Variable.parse` makes of it, `[n]`.
        remedy: what is to be done, where that is more than to correct cells.
        labels: those that cells of FINDINGS may have, where the covariate is one of theirs.
    """
    unreadable = unreadable_cells(variable, texts, cells)
    if unreadable.total() > MAX_UNREADABLE * len(texts):
        told = (
            f"{where}: column {(FINDINGS if labels else variable.name)!r}: {unreadable.total()} of {len(texts)} cells "
            f"({unreadable.total() / len(texts):.1%}) can't be read, most often {_commonest(unreadable)}"
        )
        if remedy is not None:
            raise InputError(f"{told}; {remedy}.")
        raise InputError(
            f"{told}; allowed: {allowed_cells(variable, labels)}; at most {MAX_UNREADABLE:.0%} may be anything else: "
            f"correct them, or leave them empty where unknown{_or_none(variable)}."
        )


def absent_levels(
    where: str | Path, variable: Variable, texts: list[str], cells: list[tuple[object, str | None]]
) -> list[str]:
    """Levels that no row has; none of a number, of which some row must have a value.

    Args:
        where: the table.
        variable: the covariate.
        texts: the column `[n]`.
        cells: what `Variable.parse` makes of it, `[n]`.

    Raises:
        InputError: no cell has a value; the levels may have been lost, for some cells have none; or it is a column of
            findings, without one of which nothing can be learned of either.
    """
    found = Counter(value for value, _ in cells)
    if not variable.categorical and set(found) == {None}:
        raise InputError(
            f"{where}: column {variable.name!r}: none of {len(texts)} cells has a value"
            f"{_most(Counter(map(str.strip, texts)))}; allowed: {allowed_cells(variable)}; give values"
            f"{_or_none(variable)}."
        )
    absent = [level for level in variable.levels if level not in found]
    if absent and (variable.role == "finding" or None in found):
        others = Counter(
            text.strip()
            for text, (value, reason) in zip(texts, cells, strict=True)
            if value is None and reason != EMPTY
        )
        raise InputError(
            f"{where}: column {variable.name!r}: no image of level {', '.join(map(repr, absent))} (read: "
            f"{', '.join(f'{level} {n}' for level, n in found.items() if level is not None) or 'none'}; without a "
            f"value: {found[None]}{', most often ' + _commonest(others) if others else ''}); allowed: "
            f"{allowed_cells(variable)}; give images of every level{_or_none(variable)}."
        )
    return absent


def untaught_levels(
    levels: Sequence[str], values: Iterable[object], splits: Iterable[str], split: str = TRAIN
) -> list[str]:
    """Levels that no row of a split has, so that nothing can be learned of them there.

    Args:
        levels: of a covariate.
        values: decoded ones `[n]`, None where missing.
        splits: of the same rows, `[n]`.
        split: the one that is learned from.
    """
    found = {value for value, one in zip(values, splits, strict=True) if one == split}
    return [level for level in levels if level not in found]


def check_images(
    where: str | Path, variable: Variable, cells: list[tuple[object, str | None]], reasons: Sequence[str]
) -> None:
    """Raise InputError where a level, or every value of a number, had rows and has no image left.

    Args:
        where: the table.
        variable: the covariate.
        cells: what `Variable.parse` makes of its column, `[n]`.
        reasons: why the image of each row is left out, `[n]`; empty where it is kept.
    """
    values = [value if variable.categorical or value is None else "value" for value, _ in cells]
    kept = {value for value, reason in zip(values, reasons, strict=True) if not reason}
    for level in dict.fromkeys(values):
        if level is None or level in kept:
            continue
        lost = Counter(reason for value, reason in zip(values, reasons, strict=True) if value == level)
        reason, times = lost.most_common(1)[0]
        of = f"no image of level {level!r}" if variable.categorical else "no image with a value"
        raise InputError(
            f"{where}: column {variable.name!r}: {of} is left, for all {lost.total()} are left out, most often for "
            f"{reason!r} ({times}); repair these images or give others{_or_none(variable)}."
        )


def unreadable_cells(variable: Variable, texts: list[str], cells: list[tuple[object, str | None]]) -> Counter[str]:
    """How often each cell stands in a column that says neither a value, nor another finding, nor that it is unknown.

    Args:
        variable: the covariate.
        texts: the column `[n]`.
        cells: what `Variable.parse` makes of it, `[n]`.
    """
    return Counter(
        text.strip()
        for text, (_, reason) in zip(texts, cells, strict=True)
        if reason not in (None, EMPTY, UNKNOWN) and not is_other_finding(variable, text)
    )


def _most(cells: Counter[str]) -> str:
    return f", most often {_commonest(cells)}" if any(cells) else ""


def _commonest(cells: Counter[str]) -> str:
    return ", ".join(f"{text[:40]!r} ({n})" for text, n in cells.most_common(5))


def allowed_cells(variable: Variable, labels: Sequence[str] = ()) -> str:
    """What the cells of a covariate's column may be, in words.

    Args:
        variable: the covariate.
        labels: as in `check_readable`.
    """
    if labels:
        return ", ".join(labels)
    if variable.categorical:
        return ", ".join(variable.levels)
    low, high = variable.bounds
    return f"{low:g} to {high:g} {variable.unit}" + (" (61, or 061Y as in DICOM)" if variable.unit == "years" else "")


def _or_none(variable: Variable) -> str:
    return ", or leave the column out" if variable.optional else ""
