"""What a report shows of measurements beside a data set: a heat map of soundness, gaps against strengths, neighbours.

    cell(do, attribute) = share of the real gap    attribute == do: 1 is as far apart as real groups are
                          shift by a predictor     else: its change of AUC, or of MAE; 0 is no off-target effect

Colours are signed and saturate at `limit`; every number is written in its cell, with its interval and n.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..domains.preset import Preset
from ..errors import InputError
from ..records import Record
from ..views.view import get_view
from .measured import Measured

__all__ = ["Cell", "HeatMap", "Strengths", "heat_maps", "nearest_samples", "strength_plots"]

LIMITS = {"share_of_gap": 1.0, "delta_auc": 0.5}
"""Where colours saturate; of MAE at a tenth of the covariate's range."""

WORDS = {"share_of_gap": "share of the real gap", "delta_auc": "change of AUC", "delta_mae": "change of MAE"}

PLOT_WIDTH, PLOT_HEIGHT = 240, 120
"""Pixels of the area in which a gap is plotted against strengths."""


class Cell(NamedTuple):
    """One number of a heat map.

    Attributes:
        text: the number, "–" where it is undefined.
        told: metric, interval and n in words.
        interval: low and high in words; empty where undefined.
        intensity: signed, in [-1, 1]; 0 is no colour.
        own: whether it is the effect on what the intervention sets.
    """

    text: str
    told: str
    interval: str
    intensity: float
    own: bool


class HeatMap(NamedTuple):
    """Soundness in one world by one predictor: cells by intervention and attribute, None where nothing was measured."""

    world: str
    by: str
    images: int
    generator: str
    attributes: list[str]
    rows: list[tuple[str, list[Cell | None]]]


class Strengths(NamedTuple):
    """A figure of an unmitigated classifier on the views of one bias, by strength in [0, 1].

    Attributes:
        metric: in words.
        twin: the unbiased view, whose figure is a point of its own.
        attribute: whose groups are compared.
        points: place of each view in the plot `x`, `y`, `low`, `high`, and `text`.
        ticks: values of the axis with their place.
        seeds: number of fits of each point.
    """

    metric: str
    twin: str
    attribute: str
    points: list[dict[str, Any]]
    ticks: list[tuple[str, float]]
    seeds: int


def heat_maps(measured: Measured, preset: Preset) -> list[HeatMap]:
    """A heat map for each world and predictor in records of soundness.

    Args:
        measured: records beside the data set.
        preset: its domain, whose covariates are the columns.
    """
    return [one for record in measured.soundness.values() for one in _heat_maps(record, preset)]


def strength_plots(measured: Measured, preset: Preset) -> list[Strengths]:
    """Each figure of a benchmark of which several strengths of one bias were fitted, against the strength.

    Args:
        measured: records beside the data set.
        preset: its domain.
    """
    families: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for line in measured.fairness():
        families.setdefault((line["figure"]["twin"], line["attribute"], line["metric"]), []).append(line)
    plots = []
    for (twin, attribute, metric), lines in families.items():
        strengths = {line["view"]: _strength(line["view"], preset) for line in lines}
        told = [(strengths[line["view"]], line) for line in lines if line["figure"]["mean"] is not None]
        known = sorted(((at, line) for at, line in told if at is not None), key=lambda one: one[0])
        if len(known) > 1:
            plots.append(_plot(twin, attribute, metric, known))
    return plots


def nearest_samples(measured: Measured) -> list[dict[str, Any]]:
    """The samples nearest to training images, as records of realism list them; never an image.

    Args:
        measured: records beside the data set.
    """
    return [
        {"world": record.settings["world"], "generator": record.inputs["generator"], **_nearest(record)}
        for record in measured.realism.values()
    ]


def _heat_maps(record: Record, preset: Preset) -> Iterator[HeatMap]:
    rows = [
        row
        for row in record.measured.get("rows", ())
        if row["metric"] in WORDS and row["system"] not in ("identity", "oracle") and row["do"] in preset.covariates
    ]
    for by in dict.fromkeys(row["by"] for row in rows):
        cells: dict[tuple[str, str], Cell] = {}
        ours = [row for row in rows if row["by"] == by]
        # where it is known, the share of the gap says more of the intervened attribute than a change of AUC
        for row in sorted(ours, key=lambda row: row["metric"] == "share_of_gap"):
            if row["metric"] != "share_of_gap" or row["attribute"] == row["do"]:
                cells[row["do"], row["attribute"]] = _cell(row, preset)
        attributes = [name for name in preset.covariates.names if any(name == other for _, other in cells)]
        dos = [name for name in preset.covariates.names if any(name == do for do, _ in cells)]
        yield HeatMap(
            record.settings["world"],
            by,
            record.settings["images"],
            record.inputs["generator"],
            attributes,
            [(do, [cells.get((do, one)) for one in attributes]) for do in dos],
        )


def _cell(row: Mapping[str, Any], preset: Preset) -> Cell:
    own = row["attribute"] == row["do"]
    what = f"do({row['do']}): {WORDS[row['metric']]} of {row['attribute']}"
    if row["mean"] is None:
        return Cell("–", f"{what}: not defined at n = {row['n']}", "", 0.0, own)
    limit = LIMITS.get(row["metric"])
    if limit is None:
        low, high = preset.covariates[row["attribute"]].bounds
        limit = (high - low) / 10
    interval = f"{row['low']:.2g} to {row['high']:.2g}"
    told = f"{what} {row['mean']:.3g}, 95 % interval {interval}, n = {row['n']}"
    return Cell(f"{row['mean']:+.2f}", told, interval, max(-1.0, min(1.0, row["mean"] / limit)), own)


def _strength(view: str, preset: Preset) -> float | None:
    try:
        return get_view(view, preset).strength
    except InputError:
        # of another version's grammar
        return None


def _plot(twin: str, attribute: str, metric: str, lines: list[tuple[float, dict[str, Any]]]) -> Strengths:
    figures = [(f"{at:g}", line["view"], line["figure"]) for at, line in lines]
    own = lines[0][1]["twin"]
    if own is not None and own["mean"] is not None:
        figures.insert(0, ("twin", twin, own))
    values = [one[part] for _, _, one in figures for part in ("low", "mean", "high")]
    low, high = min(0.0, *values), max(values)
    span = (high - low) or 1.0
    low, high = (0.0 if low >= 0 else low - span / 10), high + span / 10

    def place(value: float) -> float:
        return round(PLOT_HEIGHT * (high - value) / (high - low), 1)

    points = [
        {
            "x": round(PLOT_WIDTH * (number + 0.5) / len(figures), 1),
            **{part: place(one["mean" if part == "y" else part]) for part in ("y", "low", "high")},
            "label": label,
            "text": f"{view}: {one['mean']:.3g}, 95 % interval {one['low']:.3g} to {one['high']:.3g}, {one['n']} seeds",
        }
        for number, (label, view, one) in enumerate(figures)
    ]
    ticks = [(f"{value:.2g}", place(value)) for value in (low, (low + high) / 2, high)]
    return Strengths(metric.replace("_", " "), twin, attribute, points, ticks, int(lines[0][1]["n"]))


def _nearest(record: Record) -> dict[str, Any]:
    found = record.measured["memorisation"]["pixels"]
    return {
        "samples": found["generated"]["n"],
        "held_out": found["held_out"]["n"],
        "near": found["near"],
        "quantiles": [
            (f"{float(share):.0%}", found["generated"]["quantiles"][share], found["held_out"]["quantiles"][share])
            for share in found["generated"]["quantiles"]
        ],
        "suspicious": [
            {name: one[name] for name in ("generated", "distance", "held_out_share")} for one in found["suspicious"]
        ],
    }
