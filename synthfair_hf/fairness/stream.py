"""A stream of predictions: rows with times, split into windows of as many rows, or of a calendar period each.

    window 500      every 500 rows in the order of time; rows after the last whole window wait for more
    window month    day, week (from Monday), month, quarter or year; a period without rows is a window of none

Times are ISO 8601. With offsets from UTC they are compared, and periods begin, in UTC; all of a table have one, or
none. A label may be missing, as it is where it takes months to be known.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas

from ..errors import InputError, counted, shown
from ..missing import identifier, is_missing
from .drift import UNKNOWN, Sample
from .groups import Groups, attribute_groups, subject_numbers
from .predictions import Predictions, Rows, complete_rows, grouped, label_codes, numbers_of
from .rates import check_scores

__all__ = ["MOST_WINDOWS", "PERIODS", "Stream", "Window", "check_window", "read_stream", "sample_of"]

MOST_WINDOWS = 1000
"""Windows of a stream at most: a table of more has other times than are meant, or needs longer periods."""


def _quarter(day: date) -> date:
    return day.replace(month=3 * ((day.month - 1) // 3) + 1, day=1)


PERIODS: dict[str, tuple[Callable[[date], date], int, Callable[[date], str]]] = {
    "day": (lambda day: day, 1, date.isoformat),
    "week": (lambda day: day - timedelta(day.weekday()), 7, lambda day: f"{day:%G-W%V}"),
    "month": (lambda day: day.replace(day=1), 31, lambda day: f"{day:%Y-%m}"),
    "quarter": (_quarter, 92, lambda day: f"{day.year}-Q{(day.month + 2) // 3}"),
    "year": (lambda day: day.replace(month=1, day=1), 366, lambda day: f"{day:%Y}"),
}
"""By name: the first day of a day's period, days after it that are in the next period, and how a period is called."""


class Window(NamedTuple):
    """Some rows of a stream.

    Attributes:
        name: such as 2026-01, or the number of a window of rows.
        start: its first time, in ISO 8601: of a period its first day, else of its first row.
        end: its last.
        rows: int64 `[k]`, places in the stream.
    """

    name: str
    start: str
    end: str
    rows: np.ndarray


class Stream(NamedTuple):
    """What was read of a table.

    Attributes:
        rows: in the order of time.
        windows: one or more, in the order of time.
        left_out: rows without a value of a column, by its name.
        waiting: rows after the last whole window.
    """

    rows: Sample
    windows: list[Window]
    left_out: dict[str, int]
    waiting: int


def check_window(window: str | int) -> str | int:
    """The number of rows, or the name of the period; InputError for what is neither."""
    text = str(window).strip()
    rows = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
    if text not in PERIODS and not rows:
        raise InputError(
            f"window: {shown(window)} is no number of rows and no period; give a number, such as 500, or one of "
            f"{', '.join(PERIODS)}."
        )
    return rows or text


def sample_of(read: Predictions, groups: Mapping[str, Groups]) -> Sample:
    """A table of predictions as a sample with these groups.

    Args:
        read: the table.
        groups: of its rows, by attribute.
    """
    return Sample(check_scores(read.scores), read.labels, groups, subject_numbers(read.subjects, len(read.scores)))


def read_stream(
    path: str | Path,
    reference: Predictions,
    window: str | int,
    time: str,
    label: str,
    score: str,
    groups: Sequence[str],
    subject: str | None = None,
    positive: str | None = None,
    bins: Mapping[str, Sequence[float]] | None = None,
    negative: str | None = None,
    intersections: Sequence[Sequence[str]] = (),
) -> tuple[Sample, Stream]:
    """Read a stream; columns and words are those of the reference, and so are the names of groups.

    Args:
        path: of the table.
        reference: the table that was read with the same columns.
        window: rows or period, as `check_window` returns it.
        time: its column of times.
        label: as of `predictions.read_predictions`; a row without it is kept.
        score: likewise, and all others.
        groups: columns of attributes.
        subject: column of patients.
        positive: the word of `label` for present.
        bins: by attribute, the numbers at which its groups begin.
        negative: the word for absent.
        intersections: attributes to combine.

    Returns:
        The reference and the stream, with the same groups.

    Raises:
        InputError: the table cannot be read, lacks a column, or a column has values that it cannot have.
    """
    named = {"label": label, "score": score, "subject": subject, "time": time}
    path, kept, left_out = complete_rows(path, named, groups, bins, may_be_missing="label")
    told = [(line, row) for line, row in kept if not is_missing(row.get(label))]
    words = [word for word in (positive, negative) if word is not None]
    codes = dict(zip([line for line, _ in told], _labels(path, told, label, positive, negative, words), strict=True))
    others = sum(code < 0 for code in codes.values())
    if others:
        left_out[f"{label} ({positive} or {negative})"] = others
        kept = [row for row in kept if codes.get(row[0], 0) >= 0]
    if not kept:
        raise InputError(f"{path}: no row has one of the two words of {label}; give a table of the same finding.")
    times = _times(path, kept, time)
    order = sorted(range(len(kept)), key=times.__getitem__)
    kept, times = [kept[place] for place in order], [times[place] for place in order]
    windows = list(_windows(times, window))
    if not windows:
        raise InputError(
            f"window: {window} rows, but {path.name} has {counted(len(kept), 'whole row')}; give fewer, or wait."
        )
    own = Predictions(
        numbers_of(path, kept, score),
        np.array([codes.get(line, UNKNOWN) for line, _ in kept], dtype=np.int64),
        grouped(path, kept, groups, bins),
        None if subject is None else [str(identifier(row[subject])) for _, row in kept],
        None,
        left_out,
    )
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for name, known in reference.groups.items():
        before[name], after[name] = _same_names(known, own.groups[name])
    samples = [
        sample_of(read, attribute_groups(columns, intersections, len(read.scores)))
        for read, columns in ((reference, before), (own, after))
    ]
    waiting = len(kept) - sum(len(one.rows) for one in windows)
    return samples[0], Stream(samples[1], windows, left_out, waiting)


def _labels(
    path: Path, rows: Rows, label: str, positive: str | None, negative: str | None, words: Sequence[str]
) -> np.ndarray:
    return label_codes(path, rows, label, positive, negative, words) if rows else np.zeros(0, dtype=np.int64)


def _same_names(reference: pandas.Categorical, stream: pandas.Categorical) -> tuple[pandas.Categorical, ...]:
    """Both columns with the groups of both: those of the reference, as it spells them, and then new ones."""
    spelt = {" ".join(name.split()).casefold(): name for name in reference.categories}
    names = {name: spelt.get(" ".join(name.split()).casefold(), name) for name in stream.categories}
    every = list(dict.fromkeys([*reference.categories, *names.values()]))
    renamed = [None if one is None or one != one else names[one] for one in stream.astype(object)]
    return reference.set_categories(every), pandas.Categorical(renamed, categories=every)


def _times(path: Path, rows: Rows, name: str) -> list[datetime]:
    """Times in UTC, or without an offset; InputError names the line of what is none."""
    found: list[datetime] = []
    aware = None
    for line, row in rows:
        try:
            one = datetime.fromisoformat(row[name].strip())
            one = one if one.tzinfo is None else one.astimezone(UTC)
        except (ValueError, OverflowError):
            raise InputError(
                f"{path}:{line}: {name} is {shown(row[name])}, no time in ISO 8601; write it as 2026-01-31, "
                "2026-01-31T08:30 or 2026-01-31T08:30+01:00."
            ) from None
        if aware not in (None, one.tzinfo is not None):
            other = "has none, and rows before it do" if aware else "has one, and rows before it have none"
            raise InputError(
                f"{path}:{line}: {name} is {shown(row[name])}: of an offset from UTC it {other}; write all with one, "
                "or all without."
            )
        aware = one.tzinfo is not None
        found.append(one)
    return found


def _windows(times: Sequence[datetime], window: str | int) -> Iterator[Window]:
    """The windows of times that do not fall."""
    if isinstance(window, int):
        _check_count(len(times) // window, window, times)
        for number in range(len(times) // window):
            own = np.arange(number * window, (number + 1) * window)
            yield Window(str(number + 1), times[own[0]].isoformat(), times[own[-1]].isoformat(), own)
        return
    first_day, length, called = PERIODS[window]
    day, last = first_day(times[0].date()), times[-1].date()
    _check_count((last - day).days // length, window, times)
    days, place, number = [one.date() for one in times], 0, 0
    while place < len(days):
        number += 1
        _check_count(number, window, times)
        try:
            following = first_day(day + timedelta(length))
        except OverflowError:  # no date is after this period
            following = None
        end = len(days) if following is None else bisect_left(days, following)
        final = date.max if following is None else following - timedelta(1)
        yield Window(called(day), day.isoformat(), final.isoformat(), np.arange(place, end))
        day, place = following or day, end


def _check_count(count: int, window: str | int, times: Sequence[datetime]) -> None:
    if count > MOST_WINDOWS:
        kind = f"{window} rows" if isinstance(window, int) else f"a {window}"
        raise InputError(
            f"window: {kind} each makes more than {MOST_WINDOWS} windows from {times[0].isoformat()} to "
            f"{times[-1].isoformat()}; give a longer one, or correct the times."
        )
