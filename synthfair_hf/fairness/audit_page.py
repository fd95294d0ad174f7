"""The audit of a table of predictions, written down: a page to look at, tables to compute with, and the record.

DIR/audit.html    conditions, fairness metrics by attribute, every metric by group with its interval; it fetches
                  nothing and runs no script
DIR/groups.csv, gaps.csv    the two tables of `audit.AuditTable`
DIR/reliability.csv    that of `reliability.reliability`: the share with the finding by group and bin of scores
DIR/flips.csv     that of `flips.flip_rates` by attribute, where the counterfactuals of the rows are known
DIR/audit.json    the record, with both tables in it
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas

from ..arguments import Fraction, PositiveFraction, Replicates, Seed, checked
from ..publish.pages import render
from ..records import Record, file_sha256, library_versions, writable_directory, write_together, written
from .audit import AuditTable, audit, plain_rows
from .conditions import Condition, Outcome, parse_condition
from .permutation import holm
from .predictions import Predictions, read_predictions
from .reliability import reliability

__all__ = ["Audited", "audit_predictions", "parse_conditions", "write_audit"]

HEADLINES = {
    "auc_gap": "difference in AUC",
    "partial_auc_gap": "difference in partial AUC",
    "equal_opportunity_difference": "equal opportunity difference (TPR)",
    "fpr_gap": "difference in FPR",
    "equalized_odds_max_difference": "equalized odds difference (the larger of TPR and FPR)",
    "demographic_parity_difference": "demographic parity difference (selection rate)",
    "ppv_gap": "difference in PPV",
    "ece_gap": "difference in calibration error (ECE)",
    "worst_group_accuracy": "worst-group accuracy, by finding and group",
    "equity_scaled_auc": "equity-scaled AUC",
}
"""The fairness metrics of the page; the others are in gaps.csv."""

PLOTTED = {
    "auc": "AUC",
    "partial_auc": "partial AUC",
    "tpr": "TPR (sensitivity)",
    "fpr": "FPR (1 - specificity)",
    "ppv": "PPV (precision)",
    "selection_rate": "selection rate",
    "accuracy": "accuracy",
    "ece": "calibration error (ECE)",
    "brier": "Brier score",
    "calibration_in_the_large": "calibration-in-the-large (share with the finding - mean score)",
}
"""The metrics that are drawn by group, in this order."""


@checked
def audit_predictions(
    predictions: str | Path,
    label: str,
    score: str,
    groups: Sequence[str],
    output_dir: str | Path,
    subject: str | None = None,
    weight: str | None = None,
    positive: str | None = None,
    negative: str | None = None,
    bins: Mapping[str, Sequence[float]] | None = None,
    intersections: Sequence[Sequence[str]] = (),
    fail_if: Sequence[str] = (),
    threshold: Fraction = 0.5,
    seed: Seed = 0,
    n_bootstrap: Replicates = 1000,
    permutations: Replicates = 1000,
    max_fpr: PositiveFraction | None = None,
) -> tuple[Record, list[Outcome]]:
    """Audit a table of predictions and write page, tables and record.

    Args:
        predictions: the table, CSV or Parquet, a line per image.
        label: column of what is true.
        score: column of the probability that the finding is present.
        groups: columns of attributes.
        output_dir: where the files are written.
        subject: column of patients, whose rows are resampled together; each row is one of its own by default.
        weight: column of weights; all rows count the same by default.
        positive: the word of `label` that means present, where labels are words.
        negative: the word that means absent, where there are more than two; rows of the others are left out.
        bins: by attribute, the numbers at which groups begin.
        intersections: attributes whose intersections are groups too.
        fail_if: conditions on the figures, of `conditions`.
        threshold: scores at or above it are predicted present.
        seed: of bootstrap and permutations.
        n_bootstrap: bootstrap replicates, from 1.
        permutations: of the tests; 0 leaves them out.
        max_fpr: the false positive rate, in (0, 1], to which a partial AUC is audited too; none by default.

    Returns:
        The record, as written, and each condition's outcome.

    Raises:
        InputError: an argument is invalid, before anything is written.
    """
    directory, path = writable_directory(output_dir), Path(predictions)
    conditions = parse_conditions(fail_if, groups, intersections, max_fpr)
    read = read_predictions(path, label, score, groups, subject, weight, positive, bins, negative)
    columns = {"label": label, "score": score, "groups": list(groups), "subject": subject, "weight": weight}
    given = {
        "positive": positive,
        "negative": negative,
        "bins": None if bins is None else {name: list(edges) for name, edges in bins.items()},
    }
    audited = Audited(
        path.name,
        read,
        {name: column for name, column in columns.items() if column is not None},
        {name: value for name, value in given.items() if value},
        {"predictions": file_sha256(path)[:16]},
    )
    return write_audit(
        directory, audited, conditions, threshold, intersections, seed, n_bootstrap, permutations, max_fpr
    )


class Audited(NamedTuple):
    """What is audited.

    Attributes:
        name: of the table or classifier, for the page.
        read: the predictions.
        columns: of the table, by what they are.
        settings: for the record, beside the columns and those of the audit.
        inputs: for the record.
        flips: by attribute, the table of `flips.flip_rates`, where counterfactuals are known.
        files: further files to write beside the page, by name.
    """

    name: str
    read: Predictions
    columns: Mapping[str, Any]
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    flips: Mapping[str, pandas.DataFrame] = {}
    files: Mapping[str, bytes] = {}


def parse_conditions(
    fail_if: Sequence[str], groups: Sequence[str], intersections: Sequence[Sequence[str]], max_fpr: float | None = None
) -> list[Condition]:
    """Conditions on the figures of these attributes and intersections."""
    audited = (*groups, *(" & ".join(names) for names in intersections))
    return [parse_condition(text, audited, max_fpr) for text in fail_if]


def write_audit(
    directory: Path,
    audited: Audited,
    conditions: Sequence[Condition],
    threshold: float,
    intersections: Sequence[Sequence[str]],
    seed: int,
    n_bootstrap: int,
    permutations: int,
    max_fpr: float | None = None,
) -> tuple[Record, list[Outcome]]:
    """Audit predictions and write page, tables and record; arguments and result are those of `audit_predictions`."""
    read = audited.read
    table = audit(
        read.scores,  # type: ignore[arg-type]
        read.labels,  # type: ignore[arg-type]
        read.groups,  # type: ignore[arg-type]
        read.subjects,
        threshold,
        intersections,
        seed,
        n_bootstrap,
        permutations,
        max_fpr=max_fpr,
        weights=read.weights,  # type: ignore[arg-type]
    )
    curves = reliability(
        read.scores,  # type: ignore[arg-type]
        read.labels,  # type: ignore[arg-type]
        read.groups,  # type: ignore[arg-type]
        read.subjects,
        intersections,
        seed,
        n_bootstrap,
        weights=read.weights,  # type: ignore[arg-type]
    )
    outcomes = [condition.check(table) for condition in conditions]
    plain = table.to_record()
    flips = {name: plain_rows(found) for name, found in audited.flips.items()}
    record = Record(
        stage="audit",
        inputs=dict(audited.inputs),
        settings={
            "columns": dict(audited.columns),
            **audited.settings,
            "fail_if": [condition.text for condition in conditions],
            **{name: value for name, value in plain["settings"].items() if name not in SIZES},
        },
        versions=library_versions(),
        counts={**{name: plain["settings"][name] for name in SIZES}, "left_out": read.left_out},
        measured={
            "conditions": [_plain(one) for one in outcomes],
            "groups": plain["groups"],
            "gaps": plain["gaps"],
            "reliability": plain_rows(curves),
            **({"flips": flips} if flips else {}),
        },
    )
    page = _page(audited, table, curves, outcomes, record)
    tables = {"groups.csv": table.groups, "gaps.csv": table.gaps, "reliability.csv": curves}
    if audited.flips:
        tables["flips.csv"] = pandas.concat(audited.flips.values())
    directory.mkdir(parents=True, exist_ok=True)
    write_together(
        {
            **{directory / name: data for name, data in audited.files.items()},
            **{directory / name: frame.to_csv(index=False).encode() for name, frame in tables.items()},
            directory / "audit.html": page.encode(),
            directory / "audit.json": written(record.model_dump(mode="json")),
        }
    )
    return record, outcomes


SIZES = ("n", "positives", "subjects")

SMALL = 10
"""Rows below which a group is named: it can be the end of a difference by chance alone."""


def _plain(outcome: Outcome) -> dict[str, Any]:
    figure = None if math.isnan(outcome.figure) else outcome.figure
    return {"condition": outcome.condition, "holds": outcome.holds, "figure": figure}


def _page(
    audited: Audited, table: AuditTable, curves: pandas.DataFrame, outcomes: Sequence[Outcome], record: Record
) -> str:
    gaps = table.gaps[table.gaps["metric"].isin(HEADLINES)].copy()
    gaps["adjusted"] = holm(gaps["p"].to_numpy(dtype=np.float64))
    lines = {
        attribute: [_line(row) for metric in HEADLINES for row in _rows(own[own["metric"] == metric])]
        for attribute, own in gaps.groupby("attribute", sort=False)
    }
    return render(
        "audit.html.jinja",
        name=audited.name,
        settings=table.settings,
        columns=record.settings["columns"],
        positive=record.settings.get("positive", 1),
        small=small_groups(table),
        chosen=record.settings,
        inputs=record.inputs,
        flips={name: list(_flip_lines(found)) for name, found in audited.flips.items()},
        left_out=audited.read.left_out,
        unknown={
            row["attribute"]: row["unknown"] for row in _rows(gaps.drop_duplicates("attribute")) if row["unknown"]
        },
        version=record.versions["synthfair-hf"],
        conditions=[_plain(one) for one in outcomes],
        tests=int(gaps["p"].notna().sum()),
        lines=lines,
        plots=list(_plots(table)),
        curves=_curves(curves),
    )


def small_groups(table: AuditTable) -> dict[str, int]:
    """Rows of the groups that have fewer than SMALL, but some, by attribute and name: their figures are hardly any."""
    rows = table.groups[table.groups["metric"] == "accuracy"]
    few = rows[(rows["n"] > 0) & (rows["n"] < SMALL)]
    return {f"{row['attribute']}={row['group']}": int(row["n"]) for row in few.to_dict("records")}


def _flip_lines(flips: pandas.DataFrame) -> Iterator[dict[str, Any]]:
    """A line for each pair of levels, and one for all: figures by metric as texts."""
    for (start, end), found in flips.groupby(["from", "to"], sort=False):
        texts = {row["metric"]: _figure(row) for row in _rows(found)}
        yield {"start": start, "end": end, "pairs": int(found["n"].iloc[0])} | {"figures": texts}


def _rows(frame: pandas.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(name): None if pandas.isna(value) else value for name, value in row.items()}
        for row in frame.to_dict("records")
    ]


def _line(row: dict[str, Any]) -> dict[str, Any]:
    tests = {name: "–" if row[name] is None else f"{row[name]:.3f}" for name in ("p", "adjusted")}
    return row | {"title": HEADLINES[row["metric"]], "figure": _figure(row)} | tests


def _figure(row: Mapping[str, Any]) -> str:
    """The text 0.81 [0.75, 0.87]; a dash where there is no value."""
    if row["value"] is None:
        return "–"
    ends = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{ends}"


class Plot(NamedTuple):
    """One metric of all groups, on an axis.

    Attributes:
        title: of the metric.
        ticks: on the axis, with their place in percent of its width.
        everyone: the figure of all rows, with its place.
        attributes: by name, the groups' figures with their places.
    """

    title: str
    ticks: list[tuple[str, float]]
    everyone: dict[str, Any]
    attributes: dict[str, list[dict[str, Any]]]


def _plots(table: AuditTable) -> Iterator[Plot]:
    for metric, title in PLOTTED.items():
        rows = _rows(table.groups[table.groups["metric"] == metric])
        ends = [row[end] for row in rows for end in ("low", "high", "value") if row[end] is not None]
        if not ends:
            continue
        low, high, step = _axis(min(ends), max(ends))

        def place(value: float, low: float = low, high: float = high) -> float:
            return round(100 * (value - low) / (high - low), 2)

        placed = []
        for row in rows:
            known = {end: place(row[end]) for end in ("low", "high", "value") if row[end] is not None}
            placed.append(row | {"figure": _figure(row), "place": known})
        ticks = [low + step * number for number in range(round((high - low) / step) + 1)]
        attributes: dict[str, list[dict[str, Any]]] = {}
        for row in placed[1:]:
            attributes.setdefault(row["attribute"], []).append(row)
        yield Plot(title, [(f"{tick:g}", place(tick)) for tick in np.round(ticks, 6).tolist()], placed[0], attributes)


def _curves(curves: pandas.DataFrame) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By attribute and group, the points of its reliability curve in percent; bins of fewer than SMALL rows are so."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in _rows(curves[curves["n"] > 0]):
        if row["value"] is None:
            # all weights are 0
            continue
        ends = ("score", "value", "low", "high")
        place = {end: round(100 * (row["value"] if row[end] is None else row[end]), 1) for end in ends}
        point = {"figure": _figure(row), "n": row["n"], "small": row["n"] < SMALL} | place
        found.setdefault(row["attribute"], {}).setdefault(row["group"], []).append(point)
    return found


def _axis(least: float, most: float) -> tuple[float, float, float]:
    """Ends and step of an axis that holds both numbers: about four steps of 1, 2 or 5 times a power of ten."""
    rough = max(most - least, 1e-3) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= rough)
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    return step * first, step * max(last, first + 1), step
