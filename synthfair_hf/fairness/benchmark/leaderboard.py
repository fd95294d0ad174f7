"""The leaderboard: figures of each method on each view and on its unbiased twin, printed from the cells of a benchmark.

    figure(method)        mean over seeds;   interval: bootstrap over test subjects and, in each replicate, over seeds
    difference            figure(method) - figure(reference)
    planted               figure(reference on the view) - figure(reference on the twin)
    gap reduction in %    100 (gap(reference) - gap(method)) / gap(reference),    gaps being means over seeds

Method and reference are compared in pairs: the same seeds, the same bootstrap replicates of subjects and of seeds, so
variation common to both cancels. A negative reduction is a gap that grew, and is printed as it is. A replicate in which
the reference has no gap has no reduction, and is left out. A gap cannot be negative, so its interval lies above 0 even
without any disparity: compare the gap of a view with that of its twin.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas

from ...measure.intervals import percentile_interval
from ...publish.editions import edition
from ...publish.pages import render
from ...records import Record, row_generator, write_atomically
from .cells import FIGURES

__all__ = [
    "REDUCED",
    "REFERENCE",
    "MethodResult",
    "ViewResult",
    "compare",
    "draw_gaps",
    "figures",
    "gaps_figure",
    "read_figures",
    "summary",
    "table",
    "write_leaderboard",
]

REFERENCE = "erm"
"""Empirical risk minimisation, which all methods are compared with."""

REDUCED = ("auc_gap", "equal_opportunity_difference")
"""Gaps whose reduction the page prints."""

OVERVIEW = "equal_opportunity_difference"
"""The gap by which the page compares all methods on all views in one table."""

DRAWN = ("worst_group_accuracy", *REDUCED)
"""Figures that are plotted."""

PLANTED = ("worst_group_accuracy", *REDUCED, "flip_rate", "auc")
"""Figures of the reference by which the page compares a view with its twin."""

LEVEL = 0.95
INK, GREY = "#1b4f72", "#888888"


class MethodResult(NamedTuple):
    """The figures of one method on one set of rows.

    Attributes:
        method: its name in the leaderboard.
        seeds: number of seeds with figures.
        figures: by figure, its estimate over seeds (`summary`).
        differences: by figure, the estimate of its difference to the reference's; empty for the reference.
        reductions: by figure, the estimate of the reduction in %; empty for the reference.
    """

    method: str
    seeds: int
    figures: dict[str, dict[str, Any]]
    differences: dict[str, dict[str, Any]]
    reductions: dict[str, dict[str, Any]]


class ViewResult(NamedTuple):
    """All methods on one view and on its twin, for one planted attribute.

    Attributes:
        view: name of the biased view.
        twin: name of its unbiased twin.
        attribute: the attribute whose groups are compared.
        sizes: by set (`test`, `external`), its numbers of rows, positives and subjects.
        rows: numbers of train, validation and synthetic rows of the first cell on the view.
        sets: by set, (name, results of methods) of the view and then of the twin.
        planted: by set and figure, the reference's on the view less its own on the twin.
        unsupported: by (method, view), why the method cannot be fitted on the view.
    """

    view: str
    twin: str
    attribute: str
    sizes: dict[str, dict[str, int]]
    rows: dict[str, int]
    sets: dict[str, list[tuple[str, list[MethodResult]]]]
    planted: dict[str, dict[str, dict[str, Any]]]
    unsupported: dict[tuple[str, str], str]


def write_leaderboard(directory: str | Path) -> Path:
    """Print `benchmark.json` and its cells as README.md, table.csv, figures.csv and, with matplotlib, gaps.png.

    table.csv holds the figures of every cell, figures.csv their means over seeds, from which gaps.png is drawn.

    Args:
        directory: the `output_dir` of a benchmark.

    Returns:
        The path of the page.

    Raises:
        InputError: a record is missing or damaged.
    """
    directory = Path(directory)
    record = Record.read(directory / "benchmark.json")
    cells = [Record.read(directory / "cells" / f"{key}.json") for key in record.counts["cells"]]
    write_atomically(directory / "table.csv", table(cells).to_csv(index=False).encode())
    results = [_result(*planted, record, cells) for planted in _planted(record, cells)]
    write_atomically(directory / "figures.csv", figures(results).to_csv(index=False).encode())
    picture = draw_gaps(directory)
    page = render(
        "leaderboard.md.jinja",
        record=record,
        results=results,
        reference=REFERENCE,
        reduced=REDUCED,
        planted=PLANTED,
        overview=OVERVIEW,
        picture=picture,
        edition=edition,
        seconds=sum(cell.counts.get("seconds", 0) for cell in cells),
    )
    write_atomically(directory / "README.md", page.encode())
    return directory / "README.md"


def table(cells: Sequence[Record]) -> pandas.DataFrame:
    """A line per cell, set and figure, in the order of cells, with its value and interval over subjects.

    A cell whose method does not support the view has one line, with the reason in the column `refused`.
    """
    rows = []
    for cell in cells:
        key = {name: cell.settings[name] for name in ("view", "attribute", "method", "seed")}
        for name, found in cell.measured.items():
            if name == "refused":
                rows.append({**key, "refused": found})
                continue
            for metric, one in found.items():
                value, low, high = _interval(*_arrays([one]))
                figures = {"metric": metric, "value": value, "low": low, "high": high}
                rows.append({**key, "set": name, **figures, **cell.counts[name]})
    columns = ("view", "attribute", "method", "seed", "set", "metric", "value", "low", "high")
    return pandas.DataFrame(rows, columns=[*columns, "rows", "positives", "subjects", "refused"])


def summary(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Estimate of one figure over seeds.

    Args:
        figures: of each seed's cell, the `value` of the figure and its bootstrap replicates, `draws`.

    Returns:
        `mean`, `low` and `high`, None where undefined, and `n`, the number of seeds.
    """
    return _estimate(*_arrays(figures), len(figures))


def compare(
    reference: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Difference and reduction in % of one figure against the reference's.

    Args:
        reference: of each seed's cell, `value` and `draws` of the reference.
        own: the same of the method, for the same seeds in the same order.

    Returns:
        Estimates of difference and reduction, as `summary` gives them.
    """
    (plain, plain_draws), (value, draws) = _arrays(reference), _arrays(own)
    difference = _estimate(value - plain, draws - plain_draws, len(own))
    return difference, _estimate(_reduction(plain, value), _reduction(plain_draws, draws), len(own))


def _reduction(plain: np.ndarray, own: np.ndarray) -> np.ndarray:
    """100 (plain - own) / plain, NaN where the reference has no gap."""
    return 100 * np.divide(plain - own, plain, out=np.full(np.shape(plain), np.nan), where=plain > 0)


def _arrays(figures: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """(mean over seeds `[]`, mean of resampled seeds in every replicate `[n_bootstrap]`)."""
    values = np.array([one["value"] for one in figures], dtype=float)
    replicates = np.array([one["draws"] for one in figures], dtype=float)
    seeds, count = replicates.shape
    picked = row_generator(0).integers(0, seeds, (count, seeds))
    return values.mean(), np.take_along_axis(replicates.T, picked, axis=1).mean(axis=1)


def _interval(value: np.ndarray, replicates: np.ndarray) -> tuple[float | None, float | None, float | None]:
    replicates = replicates[np.isfinite(replicates)]
    if not np.isfinite(value) or not len(replicates):
        return None, None, None
    low, high = percentile_interval(replicates, (1 - LEVEL) / 2)
    return float(value), float(low), float(high)


def _estimate(value: np.ndarray, replicates: np.ndarray, seeds: int) -> dict[str, Any]:
    mean, low, high = _interval(value, replicates)
    return {"mean": mean, "low": low, "high": high, "n": seeds}


def _planted(record: Record, cells: Sequence[Record]) -> Iterator[tuple[str, str, str]]:
    """(view, twin, attribute) in the order of the request."""
    for view, twin in record.settings["views"].items():
        attributes = dict.fromkeys(cell.settings["attribute"] for cell in cells if cell.settings["view"] == view)
        yield from ((view, twin, attribute) for attribute in attributes)


def _result(view: str, twin: str, attribute: str, record: Record, cells: Sequence[Record]) -> ViewResult:
    """All methods on one view and on its twin."""
    own = [cell for cell in cells if cell.settings["attribute"] == attribute]
    on = {name: [cell for cell in own if cell.settings["view"] == name] for name in (view, twin)}
    sets = dict.fromkeys(name for cell in own for name in cell.measured if name != "refused")
    methods = list(record.settings["methods"])
    return ViewResult(
        view,
        twin,
        attribute,
        sizes={name: next((cell.counts[name] for cell in own if name in cell.counts), {}) for name in sets},
        rows=next((cell.counts["rows"] for cell in on[view] if "rows" in cell.counts), {}),
        sets={name: [(one, _method_results(on[one], methods, name)) for one in (view, twin)] for name in sets},
        planted={name: _against(on[twin], on[view], name) for name in sets},
        unsupported={
            (cell.settings["method"], cell.settings["view"]): cell.measured["refused"]
            for cell in own
            if "refused" in cell.measured
        },
    )


def _against(twins: Sequence[Record], views: Sequence[Record], name: str) -> dict[str, dict[str, Any]]:
    """By figure, the reference's on the view less its own on the twin, over the seeds that both have."""
    on_twin, on_view = (_by_seed(cells, REFERENCE, name) for cells in (twins, views))
    shared = [seed for seed in on_view if seed in on_twin]
    return {
        metric: compare([on_twin[seed][metric] for seed in shared], [on_view[seed][metric] for seed in shared])[0]
        for metric in (FIGURES if shared else ())
    }


def _by_seed(cells: Sequence[Record], method: str, name: str) -> dict[int, Any]:
    """A method's figures on one set by seed, where it could be fitted."""
    return {
        cell.settings["seed"]: cell.measured[name]
        for cell in cells
        if cell.settings["method"] == method and name in cell.measured
    }


def _method_results(cells: Sequence[Record], methods: Sequence[str], name: str) -> list[MethodResult]:
    """Results of the methods that have figures for at least one seed, compared with the reference of the same seeds."""
    by_seed = {method: _by_seed(cells, method, name) for method in methods}
    results = []
    for method, found in by_seed.items():
        if not found:
            continue
        shared = [seed for seed in found if seed in by_seed[REFERENCE]]
        plain, own = ([by_seed[one][seed] for seed in shared] for one in (REFERENCE, method))
        against = {
            metric: compare([one[metric] for one in plain], [one[metric] for one in own])
            for metric in (FIGURES if method != REFERENCE and shared else ())
        }
        results.append(
            MethodResult(
                method,
                len(found),
                {metric: summary([one[metric] for one in found.values()]) for metric in FIGURES},
                {metric: difference for metric, (difference, _) in against.items()},
                {metric: reduction for metric, (_, reduction) in against.items()},
            )
        )
    return results


def figures(results: Sequence[ViewResult]) -> pandas.DataFrame:
    """A line per view, set, side (`fitted_on` view or twin), method and figure: mean over seeds and interval."""
    rows = [
        {
            **{"view": result.view, "twin": result.twin, "attribute": result.attribute},
            **{"set": name, "fitted_on": side, "method": one.method, "metric": metric},
            **one.figures[metric],
        }
        for result in results
        for name, sides in result.sets.items()
        for side, (_, methods) in zip(("view", "twin"), sides, strict=True)
        for one in methods
        for metric in FIGURES
    ]
    columns = ("view", "twin", "attribute", "set", "fitted_on", "method", "metric", "mean", "low", "high", "n")
    return pandas.DataFrame(rows, columns=columns)


def read_figures(directory: str | Path) -> pandas.DataFrame:
    """The figures.csv of a benchmark, as `figures` made it."""
    return pandas.read_csv(Path(directory) / "figures.csv")


def draw_gaps(directory: str | Path) -> bool:
    """Plot figures.csv as gaps.png.

    Returns:
        Whether gaps.png was written: not without matplotlib, or without figures of the test split.
    """
    found = read_figures(directory)
    found = found[(found["set"] == "test") & found["metric"].isin(DRAWN)]
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    if found.empty:
        return False
    file = io.BytesIO()
    gaps_figure(found).savefig(file, format="png", metadata={"Software": None})
    write_atomically(Path(directory) / "gaps.png", file.getvalue())
    return True


def gaps_figure(found: pandas.DataFrame) -> Any:
    """Plot the figures of one set: a row of axes per view, a column per metric of DRAWN.

    Args:
        found: lines of `figures` of one set.

    Returns:
        A matplotlib Figure. The axes of a column share one scale, from 0 to its greatest interval.
    """
    from matplotlib.figure import Figure

    views = list(found.groupby(["view", "attribute"], sort=False))
    methods = [list(dict.fromkeys(own.loc[own["fitted_on"] == "view", "method"])) for _, own in views]
    heights = [2 + len(names) for names in methods]
    figure = Figure(figsize=(12, 0.8 + 0.32 * sum(heights)), dpi=120, layout="constrained")
    axes = figure.subplots(len(views), len(DRAWN), squeeze=False, sharex="col", height_ratios=heights)
    for row, names, ((view, attribute), own) in zip(axes, methods, views, strict=True):
        places = {name: place for place, name in enumerate(names)}
        for axis, metric in zip(row, DRAWN, strict=True):
            lines = own[(own["metric"] == metric) & own["mean"].notna() & own["method"].isin(names)]
            for line in lines.itertuples():
                on_view = line.fitted_on == "view"
                height, colour = places[line.method] + (-0.12 if on_view else 0.16), INK if on_view else GREY
                axis.plot([line.low, line.high], [height, height], color=colour, linewidth=1.8)
                axis.plot(line.mean, height, "o", color=colour, markersize=4.5)
                if line.method == REFERENCE and on_view:
                    axis.axvline(line.mean, color=INK, linewidth=0.8, linestyle=":", zorder=0)
            axis.set_ylim(len(names) - 0.5, -0.6)
            axis.tick_params(labelbottom=True, labelsize=8)
            axis.set_yticks(list(places.values()), list(places) if metric == DRAWN[0] else [""] * len(places))
            axis.spines[["right", "top"]].set_visible(False)
            axis.set_xlabel(metric, fontsize=8)
        row[0].set_title(f"{view}: {attribute}", fontsize=9, loc="left")
    for axis, metric in zip(axes[0], DRAWN, strict=True):
        # axes of a column share their limits, so these are set once, when everything is plotted
        greatest = found.loc[found["metric"] == metric, "high"].max()
        axis.set_xlim(0, 1.04 * greatest if greatest > 0 else 1)
    figure.suptitle(
        f"Fitted on the view (dark) and on its twin (grey), {LEVEL:.0%} intervals; dotted: {REFERENCE} on the view",
        fontsize=9,
    )
    return figure
