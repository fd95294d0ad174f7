"""A table of predictions of anybody's classifier: a score and a label for every row, and the groups to audit.

    CSV (also gzipped, with semicolons or tabs) or Parquet, a line per image:  score, label, groups [, subject, weight]

Names of groups that differ in case and spaces alone are one group.

A row whose score, label, subject or weight is missing is left out, and counted; one whose group is missing is kept, and
counted by the audit. A number of many values is a group only by bins: what is compared is then the user's choice.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet

from ..domains.rows import read_rows
from ..errors import InputError, counted, shown, unknown
from ..missing import identifier, is_missing
from ..records import check_regular

__all__ = [
    "MOST_GROUPS",
    "MOST_NUMBERS",
    "Predictions",
    "Rows",
    "complete_rows",
    "grouped",
    "label_codes",
    "numbers_of",
    "read_predictions",
]

MOST_GROUPS = 100
"""Names of one attribute at most: a column with more is an identifier."""

MOST_NUMBERS = 12
"""Different numbers of one attribute at most that are groups without bins."""

LABELS = {"0": 0, "1": 1, "false": 0, "true": 1}
"""What says absent and present in a label column; other words need `positive`."""


Rows = list[tuple[int, dict[str, str]]]
"""The line of a row in its file, and its cells by column."""


class Predictions(NamedTuple):
    """The columns of an audit, and what was left out of them.

    Attributes:
        scores: `[n]`, as they are written: the audit checks that they are probabilities.
        labels: `[n]`, 0 absent and 1 present.
        groups: by attribute, a categorical `[n]`, missing where unknown.
        subjects: `[n]`, or None where each row is a subject of its own.
        weights: `[n]`, or None where all rows count the same.
        left_out: rows without a value of a column, by its name.
    """

    scores: np.ndarray
    labels: np.ndarray
    groups: dict[str, pandas.Categorical]
    subjects: list[str] | None
    weights: np.ndarray | None
    left_out: dict[str, int]


def read_predictions(
    path: str | Path,
    label: str,
    score: str,
    groups: Sequence[str],
    subject: str | None = None,
    weight: str | None = None,
    positive: str | None = None,
    bins: Mapping[str, Sequence[float]] | None = None,
    negative: str | None = None,
) -> Predictions:
    """Read a table of predictions.

    Args:
        path: of the table.
        label: its column of what is true: 0 and 1, true and false, or, with `positive`, any words.
        score: its column of the probabilities that the finding is present.
        groups: columns of attributes.
        subject: column of patients, whose rows belong together.
        weight: column of weights.
        positive: the word of `label` for present; the other one is absent then.
        bins: by attribute, the numbers at which its groups begin: [40, 60] makes <40, 40-60 and >=60.
        negative: the word of `label` for absent, where there are more than two; rows of the others are left out.

    Raises:
        InputError: the table cannot be read, lacks a column, or a column has values that it cannot have.
    """
    named = {"label": label, "score": score, "subject": subject, "weight": weight}
    path, kept, left_out = complete_rows(path, named, groups, bins)
    if negative is not None and positive is None:
        raise InputError("negative: given without positive; give both words, or neither.")
    labels = label_codes(path, kept, label, positive, negative)
    if (labels < 0).any():
        left_out[f"{label} ({positive} or {negative})"] = int((labels < 0).sum())
        kept = [row for row, code in zip(kept, labels, strict=True) if code >= 0]
    return Predictions(
        numbers_of(path, kept, score),
        labels[labels >= 0],
        grouped(path, kept, groups, bins),
        None if subject is None else [str(identifier(row[subject])) for _, row in kept],
        None if weight is None else numbers_of(path, kept, weight),
        left_out,
    )


def complete_rows(
    path: str | Path,
    named: Mapping[str, str | None],
    groups: Sequence[str],
    bins: Mapping[str, Sequence[float]] | None,
    may_be_missing: str | None = None,
) -> tuple[Path, Rows, dict[str, int]]:
    """The rows of a table that lack none of its columns, but that of a group, and how many lack which.

    Args:
        path: of the table.
        named: by argument, the column that it names, or None.
        groups: columns of attributes.
        bins: by attribute, the numbers at which its groups begin.
        may_be_missing: the argument whose column may be missing, in a row or in all.

    Raises:
        InputError: an argument is invalid, the table cannot be read, lacks a column, or has no whole row.
    """
    path, bins = Path(path), dict(bins or {})
    if not groups:
        raise InputError("groups: none; name one or more columns of the table to compare, such as sex.")
    stranger = next((name for name in bins if name not in groups), None)
    if stranger is not None:
        raise unknown("bins", stranger, groups)
    for name, edges in bins.items():
        if not _rise(edges):
            raise InputError(f"bins[{name!r}]: {shown(edges)} do not rise; give the numbers at which groups begin.")
    wanted = {argument: name for argument, name in named.items() if name is not None}
    alone = [name for argument, name in wanted.items() if argument in ("label", "score", "time")]
    repeated = [name for name, times in Counter([*groups, *alone]).items() if times > 1]
    if repeated:
        listed = "groups, label, score, time" if "time" in wanted else "groups, label, score"
        raise InputError(f"{listed}: {repeated[0]!r} is named twice; name each column once.")
    rows = _rows(path, {*wanted.values(), *groups})
    for argument, name in [*wanted.items(), *(("groups", name) for name in groups)]:
        if name not in rows[0][1] and argument != may_be_missing:
            raise unknown(f"{argument}: column of {path.name}", name, _columns(path))

    needed = dict.fromkeys(name for argument, name in wanted.items() if argument != may_be_missing)
    missing = {name: [is_missing(row[name]) for _, row in rows] for name in needed}
    left_out = {name: sum(found) for name, found in missing.items() if any(found)}
    kept = [row for row, *gone in zip(rows, *missing.values(), strict=True) if not any(gone)]
    if not kept:
        lacking = ", ".join(f"{name} of {counted(times, 'row')}" for name, times in left_out.items())
        raise InputError(
            f"{path}: no row is complete (missing: {lacking}); give a table that knows {' and '.join(needed)}."
        )
    return path, kept, left_out


def grouped(
    path: Path, rows: Rows, groups: Sequence[str], bins: Mapping[str, Sequence[float]] | None
) -> dict[str, pandas.Categorical]:
    """The columns of groups, by attribute.

    Args:
        path: of the table.
        rows: of it.
        groups: columns of attributes.
        bins: by attribute, the numbers at which its groups begin.
    """
    return {name: _grouped(path, rows, name, (bins or {}).get(name)) for name in groups}


def _rise(edges: Any) -> bool:
    """Whether these are numbers, one or more, each above the one before."""
    try:
        found = np.asarray(edges)
    except ValueError:
        return False
    numbers = found.ndim == 1 and len(found) > 0 and found.dtype.kind in "iuf"
    return numbers and bool(np.isfinite(found).all() and (np.diff(found) > 0).all())


def _rows(path: Path, columns: set[str]) -> Rows:
    """The cells of these columns, where the table has them."""
    if path.suffix != ".parquet":
        return read_rows(path, columns)
    check_regular(path, str(path), "give a table with one row per image")
    try:
        names = [name for name in pyarrow.parquet.read_schema(path).names if name in columns]
        table = pyarrow.parquet.read_table(path, columns=names, partitioning=None)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: not a readable table ({str(error).splitlines()[0]}); give a whole file.") from None
    if not table.num_rows:
        raise InputError(f"{path}: no rows; give a table with one row per image.")
    found = [["" if value is None else str(value) for value in table[name].to_pylist()] for name in names]
    cells = zip(*found, strict=True) if found else ((),) * table.num_rows
    return [(line, dict(zip(names, row, strict=True))) for line, row in enumerate(cells, 1)]


def _columns(path: Path) -> list[str]:
    return pyarrow.parquet.read_schema(path).names if path.suffix == ".parquet" else list(read_rows(path)[0][1])


def numbers_of(path: Path, rows: Rows, name: str) -> np.ndarray:
    """A column of numbers `[n]`; InputError names the line of what is none.

    Args:
        path: of the table.
        rows: of it.
        name: of the column.
    """
    values = np.empty(len(rows))
    for place, (line, row) in enumerate(rows):
        try:
            values[place] = float(row[name])
        except ValueError:
            raise InputError(f"{path}:{line}: {name} is {row[name]!r}, no number; write it as 0.5.") from None
    return values


def label_codes(
    path: Path, rows: Rows, name: str, positive: str | None, negative: str | None, known: Sequence[str] = ()
) -> np.ndarray:
    """A column of labels `[n]`: 0, 1, or -1 for a word that is neither `positive` nor `negative`.

    Args:
        path: of the table.
        rows: of it.
        name: of the column.
        positive: the word for present.
        negative: the word for absent.
        known: words that need not be in the column.

    Raises:
        InputError: a label is not 0 or 1, or not one of the words.
    """
    words = [str(identifier(row[name])) for _, row in rows]
    counts = Counter(words)
    if positive is None:
        strange = next((word for word in counts if word.lower() not in LABELS), None)
        if strange is not None:
            line = rows[words.index(strange)][0]
            listed = ", ".join(map(shown, sorted(counts)[:10]))
            raise InputError(
                f"{path}:{line}: {name} is {strange!r}, neither 0 nor 1; say by positive which of its words means that "
                f"the finding is present: {listed}."
            )
        return np.array([LABELS[word.lower()] for word in words], dtype=np.int64)
    present, absent = identifier(positive), None if negative is None else identifier(negative)
    for argument, word in (("positive", present), ("negative", absent)):
        if word is not None and word not in counts and word not in map(identifier, known):
            raise unknown(f"{argument}: value of {name}", word, sorted(counts)[:10])
    others = sorted(word for word in counts if word not in (present, absent))
    if len(others) > 1 and negative is None:
        raise InputError(
            f"{path}: {name} has {', '.join(map(shown, others[:10]))} beside {present!r}; say by negative which means "
            "absent, and the rows of the others are left out."
        )
    if present == absent:
        raise InputError(f"negative: {absent!r} is positive's word; give another.")
    return np.array([1 if word == present else 0 if word == (absent or word) else -1 for word in words], dtype=np.int64)


def _grouped(path: Path, rows: Rows, name: str, edges: Sequence[float] | None) -> pandas.Categorical:
    """A column of groups: in the order of their names, of numbers and bins in the order of these."""
    words = _one_spelling([identifier(row[name]) for _, row in rows])
    known = sorted({word for word in words if word is not None})
    if not known:
        raise InputError(f"groups: no row of {path.name} has a value of {name!r}; leave the attribute out.")
    numbers = _numbers(known)
    if edges is not None:
        if numbers is None:
            strange = next(word for word in known if _numbers([word]) is None)
            line = next(line for (line, _), word in zip(rows, words, strict=True) if word == strange)
            raise InputError(f"{path}:{line}: {name} is {strange!r}, no number; bins are of numbers alone.")
        names = [f"<{edges[0]:g}", *(f"{low:g}-{high:g}" for low, high in pairwise(edges))]
        names.append(f">={edges[-1]:g}")
        binned = {word: names[bisect_right(edges, number)] for word, number in numbers.items()}
        return pandas.Categorical([None if word is None else binned[word] for word in words], categories=names)
    if numbers is not None and len(known) > MOST_NUMBERS:
        middle = float(np.median(list(numbers.values())))
        raise InputError(
            f"groups: {name} has {len(known)} different numbers; say where its groups begin by bins, such as "
            f"{name}={middle:g}."
        )
    if len(known) > MOST_GROUPS:
        raise InputError(
            f"groups: {name} has {len(known)} different values, such as {known[0]!r}, more than {MOST_GROUPS}; name a "
            "column of groups, not of identifiers."
        )
    ordered = known if numbers is None else sorted(known, key=lambda word: numbers[word])
    return pandas.Categorical(words, categories=ordered)


def _one_spelling(words: Sequence[str | None]) -> list[str | None]:
    """Names that differ in case and spaces alone are one, as it is written most often: F and f are no two groups."""
    counts = Counter(word for word in words if word is not None)
    spelt: dict[str, str] = {}
    for word, _ in counts.most_common():
        spelt.setdefault(" ".join(word.split()).casefold(), word)
    return [None if word is None else spelt[" ".join(word.split()).casefold()] for word in words]


def _numbers(words: Sequence[str]) -> dict[str, float] | None:
    """The number of each word; None where one has none."""
    try:
        found = {word: float(word) for word in words}
    except ValueError:
        return None
    return found if np.isfinite(list(found.values())).all() else None
