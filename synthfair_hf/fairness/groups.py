"""The groups of attributes: a code for every row, the intersections of several, and the subjects of rows as numbers."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas

from ..errors import InputError, shown, unknown, with_article
from ..missing import identifier, is_missing
from .rates import is_column

__all__ = ["Groups", "attribute_groups", "group_codes", "subject_numbers"]


class Groups(NamedTuple):
    """The groups of one attribute: a code `[n]` for every row, -1 where unknown, and the names that codes index."""

    codes: np.ndarray
    names: tuple[str, ...]


def group_codes(attribute: str, column: Sequence[str | None], n: int) -> Groups:
    """Encode a column of group names.

    Args:
        attribute: its name, for messages.
        column: group name of each row `[n]`; None, or another value that `missing.is_missing` names, where unknown. A
            pandas categorical keeps its categories, also empty ones; other columns are sorted by name.
        n: the number of rows.

    Returns:
        Codes `[n]` and the names of the groups.

    Raises:
        InputError: there is not one value per row, a value is not a string, or all are unknown.
    """
    if not is_column(column, n):
        listed = isinstance(column, Sequence) and not isinstance(column, str | bytes)
        given = f"{len(column)} values" if listed else shown(column)
        raise InputError(f"groups[{attribute!r}]: {given} for {n} scores; give a list of names, one per score.")
    values = pandas.Series(column)  # type: ignore[arg-type]
    if isinstance(values.dtype, pandas.CategoricalDtype):
        values = values.cat.set_categories([name for name in values.cat.categories if not is_missing(name)])
    else:
        known = [None if is_missing(value) else value for value in column]
        values = pandas.Series(known, dtype=object)
        stranger = next((value for value in known if value is not None and not isinstance(value, str)), None)
        if stranger is not None:
            raise InputError(
                f"groups[{attribute!r}]: {shown(stranger)} is no name; give one name per row (bins of a number: '<60', "
                "'60+'), None where it is unknown."
            )
    categories = pandas.Categorical(values)
    if not (categories.codes >= 0).any():
        raise InputError(f"groups[{attribute!r}]: no row has a value; leave the attribute out.")
    return Groups(categories.codes.astype(np.int64), tuple(map(str, categories.categories)))


def _intersection(parts: Sequence[Groups]) -> Groups:
    """Every combination of the parts' groups, whether a row has it or not."""
    codes, shape = np.stack([part.codes for part in parts]), [len(part.names) for part in parts]
    known = (codes >= 0).all(axis=0)
    joint = np.where(known, np.ravel_multi_index(tuple(codes * known), shape), -1)
    return Groups(joint, tuple(" & ".join(names) for names in product(*(part.names for part in parts))))


def attribute_groups(
    groups: Mapping[str, Sequence[str | None]], intersections: Sequence[Sequence[str]], n: int
) -> dict[str, Groups]:
    """The groups of attributes and of their intersections, these by names such as "sex & age".

    Args:
        groups: by attribute, a column of `group_codes`.
        intersections: attributes to combine.
        n: the number of rows.

    Raises:
        InputError: a column is invalid, or an intersection is none of two or more attributes.
    """
    if not isinstance(groups, Mapping):
        raise InputError(
            f"groups: is {with_article(type(groups).__name__)}, not a mapping; name the attribute: {{'sex': [...]}}."
        )
    attributes = {attribute: group_codes(attribute, column, n) for attribute, column in groups.items()}
    if not attributes:
        raise InputError("groups: no attribute; give the groups' names by attribute, such as {'sex': [...]}.")
    for names in intersections:
        stranger = next((name for name in names if name not in groups), None)
        if stranger is not None:
            raise unknown("intersections", stranger, groups)
        if isinstance(names, str) or len(names) < 2 or len(set(names)) < len(names):
            raise InputError(f"intersections: {names!r} is none; name two or more attributes, each once.")
        attributes[" & ".join(names)] = _intersection([attributes[name] for name in names])
    return attributes


def subject_numbers(subjects: Sequence[Any] | None, n: int) -> np.ndarray:
    """Number the subjects from 0 in the order in which they occur.

    Args:
        subjects: identifiers `[n]`, text or numbers; None where each row is a subject of its own.
        n: the number of rows.

    Returns:
        int64 `[n]`.

    Raises:
        InputError: there is not one identifier per row, or one is missing.
    """
    if subjects is None:
        return np.arange(n)
    if not is_column(subjects, n):
        raise InputError(f"subjects: {shown(subjects)} is not one identifier for each of {n} scores; give one each.")
    numbers, _ = pandas.factorize(np.array([identifier(subject) for subject in subjects], dtype=object))
    if (numbers < 0).any():
        raise InputError(f"subjects: {(numbers < 0).sum()} of {n} are missing; give every row its subject.")
    return numbers
