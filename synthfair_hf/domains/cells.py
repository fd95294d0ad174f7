"""Cells of a column that were not read, and levels that were lost with them: refused before an image is read."""

from collections import Counter
from pathlib import Path

from ..errors import InputError
from ..schema import EMPTY, UNKNOWN, Variable
from .findings import is_other_finding

__all__ = ["MAX_UNREADABLE", "absent_levels", "check_readable"]

MAX_UNREADABLE = 0.05
"""Share of the cells of a column, 0 to 1, that may be words or numbers that no rule can read."""


def check_readable(
    where: str | Path, variable: Variable, texts: list[str], cells: list[tuple[object, str | None]]
) -> None:
    """Raise InputError for a column of which more than MAX_UNREADABLE cells are words or numbers of no known meaning.

    Args:
        where: the table.
        variable: the covariate.
        texts: the column `[n]`.
        cells: what `Variable.parse` makes of it, `[n]`.
    """
    unreadable = _unreadable(variable, texts, cells)
    if unreadable.total() > MAX_UNREADABLE * len(texts):
        raise InputError(
            f"{where}: column {variable.name!r}: {unreadable.total()} of {len(texts)} cells "
            f"({unreadable.total() / len(texts):.1%}) can't be read, most often {_commonest(unreadable)}; allowed: "
            f"{_allowed(variable)}; at most {MAX_UNREADABLE:.0%} may be anything else: correct them, or leave them "
            f"empty where unknown{_or_none(variable)}."
        )


def absent_levels(
    where: str | Path, variable: Variable, texts: list[str], cells: list[tuple[object, str | None]]
) -> list[str]:
    """Levels that no row has.

    Args:
        where: the table.
        variable: the covariate.
        texts: the column `[n]`.
        cells: what `Variable.parse` makes of it, `[n]`.

    Raises:
        InputError: the levels may have been lost, for some cells have no value; or it is a column of findings, without
            one of which nothing can be learned of either.
    """
    found = Counter(value for value, _ in cells)
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
            f"{_allowed(variable)}; give images of every level{_or_none(variable)}."
        )
    return absent


def _unreadable(variable: Variable, texts: list[str], cells: list[tuple[object, str | None]]) -> Counter[str]:
    """How often each cell stands in a column that says neither a value, nor another finding, nor that it is unknown."""
    return Counter(
        text.strip()
        for text, (_, reason) in zip(texts, cells, strict=True)
        if reason not in (None, EMPTY, UNKNOWN) and not is_other_finding(variable, text)
    )


def _commonest(cells: Counter[str]) -> str:
    return ", ".join(f"{text[:40]!r} ({n})" for text, n in cells.most_common(5))


def _allowed(variable: Variable) -> str:
    if variable.categorical:
        return ", ".join(variable.levels)
    low, high = variable.bounds
    return f"{low:g} to {high:g} {variable.unit}" + (" (61, or 061Y as in DICOM)" if variable.unit == "years" else "")


def _or_none(variable: Variable) -> str:
    return ", or leave the column out" if variable.optional else ""
