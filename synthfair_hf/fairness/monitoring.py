"""A running classifier, monitored: the audit of every window of a stream, its drift from a reference, and alarms.

    window w of N    gaps and groups    the audit of its labelled rows, as of any table (`audit`)
                     drift              against the reference, by subgroup (`drift`)
                     alarm              p <= alpha / (2 N)

In each window p holds for all figures without labels together, and for all of labelled rows together. So, by
Bonferroni's inequality, the chance of any alarm in N windows is at most alpha where nothing drifts, whatever the
windows have in common, as the reference. N (`horizon`) is how many windows there are to be: a stream that goes on is
monitored with the same N each time, once a window is over.

DIR/monitoring.html   alarms, conditions, figures by window with intervals; it fetches nothing and runs no script
DIR/windows.csv, groups.csv, gaps.csv, drift.csv    its tables
DIR/monitoring.json   the record, with the tables in it
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas

from ..arguments import Count, Fraction, Replicates, Seed, checked
from ..errors import InputError, counted
from ..records import Record, file_sha256, library_versions, writable_directory, write_together, written
from .audit import EVERYONE, AuditTable, audit, plain_rows
from .audit_page import parse_conditions
from .conditions import Condition, Outcome
from .drift import UNKNOWN, Drift, Sample, drift
from .groups import Groups
from .monitoring_page import monitoring_page
from .predictions import read_predictions
from .stream import Window, check_window, read_stream

__all__ = ["ALARM", "WindowOutcome", "monitor_predictions", "watch"]

ALARM = "alarm"
"""The condition that there is an alarm in any window."""

CHANNELS = 2
"""Kinds of rows that have a level of their own: all, and those with labels."""


class WindowOutcome(NamedTuple):
    """What became of a condition: in which window, None for ALARM, whether it holds, and the figure it is about."""

    window: str | None
    condition: str
    holds: bool
    figure: float


class Watched(NamedTuple):
    """What was found.

    Attributes:
        reference: the audit of the reference.
        audits: of each window; None where no row has a label.
        drift: the figures of each window.
        level: p at or below which there is an alarm.
    """

    reference: AuditTable
    audits: list[AuditTable | None]
    drift: list[list[Drift]]
    level: float


@checked
def monitor_predictions(
    predictions: str | Path,
    reference: str | Path,
    time: str,
    label: str,
    score: str,
    groups: Sequence[str],
    output_dir: str | Path,
    window: str = "month",
    subject: str | None = None,
    positive: str | None = None,
    negative: str | None = None,
    bins: Mapping[str, Sequence[float]] | None = None,
    intersections: Sequence[Sequence[str]] = (),
    fail_if: Sequence[str] = (),
    threshold: Fraction = 0.5,
    alpha: Fraction = 0.05,
    horizon: Count | None = None,
    seed: Seed = 0,
    n_bootstrap: Replicates = 1000,
    permutations: Replicates = 1000,
) -> tuple[Record, list[WindowOutcome]]:
    """Monitor a stream of predictions against a reference, and write page, tables and record.

    Args:
        predictions: the stream, a table in CSV or Parquet, a line per image, with a column of times.
        reference: a table of the same columns, such as that on which the classifier was validated, with labels.
        time: the stream's column of times, in ISO 8601.
        label: column of what is true; of the stream it may be missing, in a row or altogether.
        score: column of the probability that the finding is present.
        groups: columns of attributes.
        output_dir: where the files are written.
        window: a number of rows, or day, week, month, quarter or year.
        subject: column of patients, whose rows are resampled and permuted together.
        positive: the word of `label` that means present, where labels are words.
        negative: the word that means absent, where there are more than two.
        bins: by attribute, the numbers at which groups begin.
        intersections: attributes whose intersections are groups too.
        fail_if: `alarm`, and conditions on figures as of `conditions`, asked of every window with labels.
        threshold: scores at or above it are predicted present.
        alpha: the chance of any false alarm in all windows, in (0, 1).
        horizon: how many windows the stream is to have; those that it has by default.
        seed: of bootstrap and permutations.
        n_bootstrap: bootstrap replicates, from 1.
        permutations: of the tests of drift.

    Returns:
        The record, as written, and the outcomes of `fail_if`.

    Raises:
        InputError: an argument is invalid, before anything is written.
    """
    directory, path, base = writable_directory(output_dir), Path(predictions), Path(reference)
    size = check_window(window)
    if not 0 < alpha < 1 or n_bootstrap < 1:
        raise InputError(f"alpha, n_bootstrap: {alpha:g}, {n_bootstrap} out of range; allowed: in (0, 1), from 1.")
    conditions = _conditions(fail_if, groups, intersections)
    columns: dict[str, Any] = {"label": label, "score": score, "groups": groups, "subject": subject}
    given: dict[str, Any] = {"positive": positive, "negative": negative, "bins": bins}
    before = read_predictions(base, **columns, **given)
    known, stream = read_stream(path, before, size, time, **columns, **given, intersections=intersections)
    planned = len(stream.windows) if horizon is None else horizon
    if planned < len(stream.windows):
        raise InputError(
            f"horizon: {planned}, but the stream has {counted(len(stream.windows), 'window')} already; give "
            f"{len(stream.windows)} or more."
        )
    needed = math.ceil(CHANNELS * planned / alpha) - 1
    if permutations < needed:
        raise InputError(
            f"permutations: {permutations} are too few for an alarm at alpha {alpha:g} in "
            f"{counted(planned, 'window')}; give {needed} or more, or fewer windows."
        )
    found = watch(known, stream.rows, stream.windows, threshold, alpha, planned, seed, n_bootstrap, permutations)
    outcomes = _outcomes(ALARM in map(str.strip, fail_if), conditions, stream.windows, found)
    tables = _tables(stream.rows, stream.windows, found)
    record = Record(
        stage="monitor",
        inputs={"reference": file_sha256(base)[:16], "predictions": file_sha256(path)[:16]},
        settings={
            "columns": {"time": time}
            | {name: one for name, one in (columns | {"groups": list(groups)}).items() if one},
            **{name: value for name, value in given.items() if value},
            "intersections": [list(names) for names in intersections],
            "fail_if": list(fail_if),
            "window": window,
            "threshold": threshold,
            "alpha": alpha,
            "horizon": planned,
            "alarm_level": found.level,
            "seed": seed,
            "draws": n_bootstrap,
            "permutations": permutations,
            "level": found.reference.settings["level"],
        },
        versions=library_versions(),
        counts={
            "reference": {
                **{name: found.reference.settings[name] for name in ("n", "positives", "subjects")},
                "left_out": before.left_out,
            },
            "stream": {
                "n": len(stream.rows.scores),
                "labelled": int((stream.rows.labels != UNKNOWN).sum()),
                "waiting": stream.waiting,
                "left_out": stream.left_out,
            },
            "windows": len(stream.windows),
            "alarms": int(tables["drift"]["alarm"].sum()),
        },
        measured={
            "conditions": [
                one._asdict() | {"figure": None if math.isnan(one.figure) else one.figure} for one in outcomes
            ],
            "reference": {"groups": plain_rows(found.reference.groups), "gaps": plain_rows(found.reference.gaps)},
            **{name: plain_rows(frame) for name, frame in tables.items()},
        },
    )
    page = monitoring_page(record, path.name, base.name)
    directory.mkdir(parents=True, exist_ok=True)
    write_together(
        {
            **{directory / f"{name}.csv": frame.to_csv(index=False).encode() for name, frame in tables.items()},
            directory / "monitoring.html": page.encode(),
            directory / "monitoring.json": written(record.model_dump(mode="json")),
        }
    )
    return record, outcomes


def watch(
    reference: Sample,
    stream: Sample,
    windows: Sequence[Window],
    threshold: float,
    alpha: float,
    horizon: int,
    seed: int,
    n_bootstrap: int,
    permutations: int,
) -> Watched:
    """Audit every window and compare it with the reference.

    Args:
        reference: rows with labels.
        stream: rows, of which some may have none.
        windows: of the stream.
        threshold: scores at or above it are predicted present.
        alpha: the chance of any false alarm in `horizon` windows.
        horizon: windows that there are to be.
        seed: of bootstrap and permutations.
        n_bootstrap: bootstrap replicates.
        permutations: of the tests of drift.
    """
    parts = [stream.where(window.rows) for window in windows]
    audited = _audited(reference, threshold, seed, n_bootstrap)
    if audited is None:
        raise InputError("reference: no row has a label and a group; give a table of predictions that were checked.")
    return Watched(
        audited,
        [_audited(part, threshold, seed, n_bootstrap) for part in parts],
        [
            drift(reference, part, threshold, (seed, 2, number), n_bootstrap, permutations)
            for number, part in enumerate(parts)
        ],
        alpha / (CHANNELS * horizon),
    )


def _audited(rows: Sample, threshold: float, seed: int, n_bootstrap: int) -> AuditTable | None:
    """The audit of the labelled rows; None without any. Attributes that no such row has are not in it."""
    known = rows.where(rows.labels != UNKNOWN)
    groups: dict[str, Any] = {name: _named(own) for name, own in known.groups.items() if (own.codes >= 0).any()}
    if not groups:
        return None
    columns: dict[str, Any] = {"scores": known.scores, "labels": known.labels, "subjects": known.subjects}
    return audit(groups=groups, **columns, threshold=threshold, seed=seed, n_bootstrap=n_bootstrap, permutations=0)


def _named(groups: Groups) -> pandas.Categorical:
    """Groups as a column that keeps those without rows."""
    names = [None if code < 0 else groups.names[code] for code in groups.codes]
    return pandas.Categorical(names, categories=list(groups.names))


def _conditions(
    fail_if: Sequence[str], groups: Sequence[str], intersections: Sequence[Sequence[str]]
) -> list[Condition]:
    found = parse_conditions([one for one in fail_if if one.strip() != ALARM], groups, intersections)
    for one in found:
        if one.column == "p":
            raise InputError(
                f"fail_if: {one.text!r} is of a p-value, which the audit of a window has none of; write {ALARM!r} for "
                "what is tested."
            )
        if one.finding is not None:
            raise InputError(f"fail_if: {one.text!r} names a finding, and one alone is monitored; leave its name out.")
    return found


def _outcomes(
    alarm: bool, conditions: Sequence[Condition], windows: Sequence[Window], found: Watched
) -> list[WindowOutcome]:
    raised = sum(one.p <= found.level for figures in found.drift for one in figures)
    outcomes = [WindowOutcome(None, ALARM, raised > 0, raised)] if alarm else []
    for condition in conditions:
        for window, table in zip(windows, found.audits, strict=True):
            if table is not None:
                outcomes.append(WindowOutcome(window.name, *_check(condition, table)))
    return outcomes


def _check(condition: Condition, table: AuditTable) -> Outcome:
    """As of an audit; of an attribute that no row of the window has, the figure has no value."""
    if condition.attribute not in (EVERYONE, *table.gaps["attribute"]):
        return Outcome(condition.text, True, math.nan)
    return condition.check(table)


def _tables(rows: Sample, windows: Sequence[Window], found: Watched) -> dict[str, pandas.DataFrame]:
    """Every figure by window."""
    lines = []
    for window, figures in zip(windows, found.drift, strict=True):
        labels = rows.labels[window.rows]
        lines.append(
            {
                "window": window.name,
                "start": window.start,
                "end": window.end,
                "n": len(labels),
                "labelled": int((labels != UNKNOWN).sum()),
                "positives": int((labels == 1).sum()),
                "subjects": len(np.unique(rows.subjects[window.rows])),
                "alarms": sum(one.p <= found.level for one in figures),
            }
        )
    drifts = pandas.DataFrame(
        [
            {"window": window.name, **one._asdict(), "alarm": bool(one.p <= found.level)}
            for window, figures in zip(windows, found.drift, strict=True)
            for one in figures
        ]
    )
    audits = [(window.name, one) for window, one in zip(windows, found.audits, strict=True) if one is not None]
    return {
        "windows": pandas.DataFrame(lines),
        "groups": _by_window(found.reference.groups, {name: one.groups for name, one in audits}),
        "gaps": _by_window(found.reference.gaps, {name: one.gaps for name, one in audits}),
        "drift": drifts,
    }


def _by_window(like: pandas.DataFrame, frames: Mapping[str, pandas.DataFrame]) -> pandas.DataFrame:
    """One table with the column `window`; of no windows it has the columns alone."""
    if not frames:
        return like.iloc[:0].assign(window="")[["window", *like.columns]]
    return pandas.concat([frame.assign(window=name)[["window", *frame.columns]] for name, frame in frames.items()])
