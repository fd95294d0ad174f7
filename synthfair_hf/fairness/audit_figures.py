"""What the page of an audit draws: figures as texts, and the places of their dots and lines on an axis, in percent."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas

from .audit import AuditTable

__all__ = ["PLOTTED", "SMALL", "Plot", "axis_of", "curves_of", "figure_text", "plots_of", "rows_of"]

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

SMALL = 10
"""Rows below which a group is named: it can be the end of a difference by chance alone."""


def rows_of(frame: pandas.DataFrame) -> list[dict[str, Any]]:
    """The lines of a table, None for what is missing."""
    return [
        {str(name): None if pandas.isna(value) else value for name, value in row.items()}
        for row in frame.to_dict("records")
    ]


def figure_text(row: Mapping[str, Any]) -> str:
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


def plots_of(table: AuditTable) -> Iterator[Plot]:
    """A plot of each metric that some group has."""
    for metric, title in PLOTTED.items():
        rows = rows_of(table.groups[table.groups["metric"] == metric])
        ends = [row[end] for row in rows for end in ("low", "high", "value") if row[end] is not None]
        if not ends:
            continue
        low, high, step = axis_of(min(ends), max(ends))

        def place(value: float, low: float = low, high: float = high) -> float:
            return round(100 * (value - low) / (high - low), 2)

        placed = []
        for row in rows:
            known = {end: place(row[end]) for end in ("low", "high", "value") if row[end] is not None}
            placed.append(row | {"figure": figure_text(row), "place": known})
        ticks = [low + step * number for number in range(round((high - low) / step) + 1)]
        attributes: dict[str, list[dict[str, Any]]] = {}
        for row in placed[1:]:
            attributes.setdefault(row["attribute"], []).append(row)
        yield Plot(title, [(f"{tick:g}", place(tick)) for tick in np.round(ticks, 6).tolist()], placed[0], attributes)


def curves_of(table: pandas.DataFrame) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By attribute and group, the points of its reliability curve in percent; bins of fewer than SMALL rows are so."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows_of(table[table["n"] > 0]):
        if row["value"] is None:
            # all weights are 0
            continue
        ends = ("score", "value", "low", "high")
        place = {end: round(100 * (row["value"] if row[end] is None else row[end]), 1) for end in ends}
        point = {"figure": figure_text(row), "n": row["n"], "small": row["n"] < SMALL} | place
        found.setdefault(row["attribute"], {}).setdefault(row["group"], []).append(point)
    return found


def axis_of(least: float, most: float) -> tuple[float, float, float]:
    """Ends and step of an axis that holds both numbers: about four steps of 1, 2 or 5 times a power of ten."""
    rough = max(most - least, 1e-3) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= rough)
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    return step * first, step * max(last, first + 1), step
