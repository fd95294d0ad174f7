"""The page of a monitored stream, from its record alone: alarms, and every figure by window as a small chart."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ..publish.pages import render
from ..records import Record
from .audit import EVERYONE
from .audit_figures import axis_of, figure_text
from .audit_page import HEADLINES
from .drift import COMPARED

__all__ = ["Chart", "monitoring_page"]

GAPS = {
    "auc_gap": "auc",
    "equal_opportunity_difference": "tpr",
    "fpr_gap": "fpr",
    "demographic_parity_difference": "",
    "ece_gap": "",
}
"""Fairness metrics that are drawn by window, and the metric whose gap is tested, where it is."""

TITLES = {"auc": "AUC", "tpr": "TPR (sensitivity)", "fpr": "FPR (1 - specificity)", "psi": "PSI"}

WIDTH, HEIGHT, EDGE = 250, 100, 8
"""Of the plotted area of a chart, and what is left free on either side of it."""


class Chart(NamedTuple):
    """A figure by window.

    Attributes:
        title: of it.
        ticks: texts and heights.
        points: x, y, low, high, text, alarm, of windows that have it.
        lines: runs of neighbouring windows, as points of a polyline.
        band: low, high and y of the reference, where it has the figure.
        ends: names of the first and last window.
    """

    title: str
    ticks: list[tuple[str, float]]
    points: list[dict[str, Any]]
    lines: list[str]
    band: dict[str, float]
    ends: tuple[str, str]


def monitoring_page(record: Record, predictions: str, reference: str) -> str:
    """The page of a record.

    Args:
        record: of `monitoring.monitor_predictions`.
        predictions: the name of the stream's table.
        reference: that of the reference.
    """
    found = record.measured
    windows = [one["window"] for one in found["windows"]]
    attributes = list(dict.fromkeys(row["attribute"] for row in found["drift"] if row["attribute"] != EVERYONE))
    return render(
        "monitoring.html.jinja",
        predictions=predictions,
        reference=reference,
        settings=record.settings,
        columns=record.settings["columns"],
        counts=record.counts,
        inputs=record.inputs,
        version=record.versions["synthfair-hf"],
        conditions=found["conditions"],
        windows=found["windows"],
        alarms=[row | {"figure": figure_text(row), "what": _what(row)} for row in found["drift"] if row["alarm"]],
        sections={name: list(_charts(record, windows, name)) for name in (EVERYONE, *attributes)},
    )


def _what(row: dict[str, Any]) -> str:
    """What is drifting, in words."""
    metric, group = TITLES[row["metric"]], row["group"]
    of = "all rows" if row["attribute"] == EVERYONE else f"{row['attribute']} = {group}"
    return {
        "scores": f"distribution of scores of {of}, {metric}",
        "mix": f"mix of the groups of {row['attribute']}, {metric}",
        "performance": f"{metric} of {of}, change",
        "gap": f"gap in {metric} between the groups of {row['attribute']}, change",
    }[row["kind"]]


def _charts(record: Record, windows: Sequence[str], attribute: str) -> Iterator[Chart]:
    """The charts of an attribute: gaps, mix, and of each group its scores and performance."""
    found = record.measured
    own = {name: [row for row in found[name] if row["attribute"] == attribute] for name in ("drift", "gaps", "groups")}
    alarmed = {(row["kind"], row["group"], row["metric"], row["window"]) for row in own["drift"] if row["alarm"]}
    base = {
        name: {
            (row.get("group", ""), row["metric"]): row
            for row in found["reference"][name]
            if row["attribute"] == attribute
        }
        for name in ("gaps", "groups")
    }
    for gap, tested in GAPS.items():
        rows = [
            row | {"alarm": ("gap", "", tested, row["window"]) in alarmed}
            for row in own["gaps"]
            if row["metric"] == gap
        ]
        yield from _chart(HEADLINES[gap], rows, windows, base["gaps"].get(("", gap)))
    mix = [row for row in own["drift"] if row["kind"] == "mix"]
    yield from _chart("mix of the groups (PSI)", mix, windows)
    for group in dict.fromkeys(row["group"] for row in own["drift"] if row["group"]):
        name = "" if attribute == EVERYONE else f"{group}: "
        scores = [row for row in own["drift"] if row["kind"] == "scores" and row["group"] == group]
        yield from _chart(f"{name}scores (PSI)", scores, windows)
        for metric in COMPARED:
            rows = [
                row | {"alarm": ("performance", group, metric, row["window"]) in alarmed}
                for row in own["groups"]
                if (row["group"], row["metric"]) == (group, metric)
            ]
            yield from _chart(f"{name}{TITLES[metric]}", rows, windows, base["groups"].get((group, metric)))


def _chart(
    title: str, rows: Sequence[dict[str, Any]], windows: Sequence[str], reference: dict[str, Any] | None = None
) -> Iterator[Chart]:
    """A chart of rows with a value by window; none where no window has one."""
    known = [row for row in rows if row["value"] is not None]
    if not known:
        return
    ends = [
        row[end] for row in (*known, reference or {}) for end in ("low", "high", "value") if row.get(end) is not None
    ]
    least, most, step = axis_of(min(ends), max(ends))

    def height(value: float) -> float:
        return round(HEIGHT * (most - value) / (most - least), 1)

    place = {name: number for number, name in enumerate(windows)}
    points: list[dict[str, Any]] = []
    runs: list[tuple[int, str]] = []
    for row in known:
        number = place[row["window"]]
        x = round(EDGE + (WIDTH - 2 * EDGE) * (number + 0.5) / len(windows), 1)
        points.append(
            {
                **{end: height(row["value"] if row[end] is None else row[end]) for end in ("low", "high")},
                **{"x": x, "y": height(row["value"]), "alarm": row["alarm"]},
                "text": f"{row['window']}: {figure_text(row)}, n = {row['n']}",
            }
        )
        if not runs or runs[-1][0] != number - 1:
            runs.append((number, ""))
        runs[-1] = (number, f"{runs[-1][1]}{x},{points[-1]['y']} ")
    ticks = [least + step * number for number in range(round((most - least) / step) + 1)]
    band = {end: height(reference[end]) for end in ("low", "high") if reference and reference[end] is not None}
    if reference and reference["value"] is not None:
        band["y"] = height(reference["value"])
    yield Chart(
        title,
        [(f"{round(tick, 6):g}", height(tick)) for tick in ticks],
        points,
        [run[1].strip() for run in runs],
        band,
        (windows[0], windows[-1]),
    )
