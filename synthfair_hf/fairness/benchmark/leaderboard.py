"""The leaderboard: what the cells of a benchmark say of each method on each view, with its twin beside it.

    figure(method)        mean over seeds;   interval over draws of test subjects and, in each, of seeds
    difference            figure(method) - figure(reference)
    planted               figure(reference on the view) - figure(reference on the twin)
    gap reduction in %    100 (gap(reference) - gap(method)) / gap(reference),    gaps being means over seeds

Method and reference are compared pair by pair: the same seeds, the same draws of subjects and of seeds, so what moves
both leaves the difference. A negative reduction is a gap that grew, and is printed as it is; where a draw leaves the
reference without a gap there is no reduction, and that draw is left out. A gap cannot be negative, so its interval lies
above 0 even where nothing is there: what to read a view's gap against is its twin's.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
"""The method that mitigates nothing."""

REDUCED = ("auc_gap", "equal_opportunity_difference")
"""Gaps whose reduction the page prints."""

OVERVIEW = "equal_opportunity_difference"
"""The gap by which the page compares all methods on all views in one table."""

DRAWN = ("worst_group_accuracy", *REDUCED)
"""Figures that the picture shows."""

PLANTED = ("worst_group_accuracy", *REDUCED, "flip_rate", "auc")
"""Figures by which the page says whether a view plants anything."""

LEVEL = 0.95
INK, GREY = "#1b4f72", "#888888"


def write_leaderboard(directory: str | Path) -> Path:
    """Print `benchmark.json` and its cells as README.md, table.csv, figures.csv and, with matplotlib, gaps.png.

    table.csv holds every cell's figures, figures.csv their means over seeds, from which the picture is drawn.
    """
    directory = Path(directory)
    record = Record.read(directory / "benchmark.json")
    cells = [Record.read(directory / "cells" / f"{key}.json") for key in record.counts["cells"]]
    write_atomically(directory / "table.csv", table(cells).to_csv(index=False).encode())
    boards = [_board(view, twin, attribute, record, cells) for view, twin, attribute in _asked(record, cells)]
    write_atomically(directory / "figures.csv", figures(boards).to_csv(index=False).encode())
    picture = draw_gaps(directory)
    page = render(
        "leaderboard.md.jinja",
        record=record,
        boards=boards,
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
    """A line per cell, set and figure, in the order of cells: value and interval over subjects; refused ones too."""
    rows = []
    for cell in cells:
        asked = {name: cell.settings[name] for name in ("view", "attribute", "method", "seed")}
        for name, found in cell.measured.items():
            if name == "refused":
                rows.append({**asked, "refused": found})
                continue
            for metric, one in found.items():
                value, low, high = _interval(*_arrays([one]))
                figures = {"metric": metric, "value": value, "low": low, "high": high}
                rows.append({**asked, "set": name, **figures, **cell.counts[name]})
    columns = ("view", "attribute", "method", "seed", "set", "metric", "value", "low", "high")
    return pandas.DataFrame(rows, columns=[*columns, "rows", "positives", "subjects", "refused"])


def summary(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """mean, low and high over seeds of one figure, from the `value` and `draws` of each seed's cell."""
    return _estimate(*_arrays(figures), len(figures))


def compare(
    reference: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Difference and reduction in % of one figure against the reference's, of the same seeds in the same order."""
    (plain, plain_draws), (value, draws) = _arrays(reference), _arrays(own)
    difference = _estimate(value - plain, draws - plain_draws, len(own))
    return difference, _estimate(_reduction(plain, value), _reduction(plain_draws, draws), len(own))


def _reduction(plain: np.ndarray, own: np.ndarray) -> np.ndarray:
    """100 (plain - own) / plain, NaN where there was nothing to reduce."""
    return 100 * np.divide(plain - own, plain, out=np.full(np.shape(plain), np.nan), where=plain > 0)


def _arrays(figures: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """(mean over seeds `[]`, that mean in every draw `[D]`), in each draw of as many seeds drawn with replacement."""
    values = np.array([one["value"] for one in figures], dtype=float)
    draws = np.array([one["draws"] for one in figures], dtype=float)
    seeds, count = draws.shape
    picked = row_generator(0).integers(0, seeds, (count, seeds))
    return values.mean(), np.take_along_axis(draws.T, picked, axis=1).mean(axis=1)


def _interval(value: np.ndarray, draws: np.ndarray) -> tuple[float | None, float | None, float | None]:
    draws = draws[np.isfinite(draws)]
    if not np.isfinite(value) or not len(draws):
        return None, None, None
    low, high = percentile_interval(draws, (1 - LEVEL) / 2)
    return float(value), float(low), float(high)


def _estimate(value: np.ndarray, draws: np.ndarray, seeds: int) -> dict[str, Any]:
    mean, low, high = _interval(value, draws)
    return {"mean": mean, "low": low, "high": high, "n": seeds}


def _asked(record: Record, cells: Sequence[Record]) -> Iterator[tuple[str, str, str]]:
    """(view, twin, attribute) in the order asked."""
    for view, twin in record.settings["views"].items():
        attributes = dict.fromkeys(cell.settings["attribute"] for cell in cells if cell.settings["view"] == view)
        yield from ((view, twin, attribute) for attribute in attributes)


def _board(view: str, twin: str, attribute: str, record: Record, cells: Sequence[Record]) -> dict[str, Any]:
    """What the page prints of one view: by set, lines of methods on the view and on its twin."""
    own = [cell for cell in cells if cell.settings["attribute"] == attribute]
    on = {name: [cell for cell in own if cell.settings["view"] == name] for name in (view, twin)}
    sets = dict.fromkeys(name for cell in own for name in cell.measured if name != "refused")
    methods = list(record.settings["methods"])
    return {
        "view": view,
        "twin": twin,
        "attribute": attribute,
        "sizes": {name: next((cell.counts[name] for cell in own if name in cell.counts), {}) for name in sets},
        "rows": next((cell.counts["rows"] for cell in on[view] if "rows" in cell.counts), {}),
        "sets": {name: [(one, _lines(on[one], methods, name)) for one in (view, twin)] for name in sets},
        "planted": {name: _against(on[twin], on[view], name) for name in sets},
        "refused": {
            (cell.settings["method"], cell.settings["view"]): cell.measured["refused"]
            for cell in own
            if "refused" in cell.measured
        },
    }


def _against(twins: Sequence[Record], views: Sequence[Record], name: str) -> dict[str, dict[str, Any]]:
    """By figure, the reference's on the view less its own on the twin, over the seeds that both have."""
    on_twin, on_view = (_by_seed(cells, REFERENCE, name) for cells in (twins, views))
    shared = [seed for seed in on_view if seed in on_twin]
    return {
        metric: compare([on_twin[seed][metric] for seed in shared], [on_view[seed][metric] for seed in shared])[0]
        for metric in (FIGURES if shared else ())
    }


def _by_seed(cells: Sequence[Record], method: str, name: str) -> dict[int, Any]:
    """A method's figures on one set by seed, where it was not refused."""
    return {
        cell.settings["seed"]: cell.measured[name]
        for cell in cells
        if cell.settings["method"] == method and name in cell.measured
    }


def _lines(cells: Sequence[Record], methods: Sequence[str], name: str) -> list[dict[str, Any]]:
    """A line per method that was not refused by every seed: its figures, and against the reference's same seeds."""
    by_seed = {method: _by_seed(cells, method, name) for method in methods}
    lines = []
    for method, found in by_seed.items():
        if not found:
            continue
        shared = [seed for seed in found if seed in by_seed[REFERENCE]]
        plain, own = ([by_seed[one][seed] for seed in shared] for one in (REFERENCE, method))
        against = {
            metric: compare([one[metric] for one in plain], [one[metric] for one in own])
            for metric in (FIGURES if method != REFERENCE and shared else ())
        }
        lines.append(
            {
                "method": method,
                "seeds": len(found),
                "figures": {metric: summary([one[metric] for one in found.values()]) for metric in FIGURES},
                "differences": {metric: difference for metric, (difference, _) in against.items()},
                "reductions": {metric: reduction for metric, (_, reduction) in against.items()},
            }
        )
    return lines


def figures(boards: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """What the page prints of every method, a line per figure: mean over seeds and interval, on views and twins."""
    rows = [
        {
            **{name: board[name] for name in ("view", "twin", "attribute")},
            **{"set": name, "fitted_on": side, "method": line["method"], "metric": metric},
            **line["figures"][metric],
        }
        for board in boards
        for name, sides in board["sets"].items()
        for side, (_, lines) in zip(("view", "twin"), sides, strict=True)
        for line in lines
        for metric in FIGURES
    ]
    columns = ("view", "twin", "attribute", "set", "fitted_on", "method", "metric", "mean", "low", "high", "n")
    return pandas.DataFrame(rows, columns=columns)


def read_figures(directory: str | Path) -> pandas.DataFrame:
    """figures.csv of a board, as `figures` made it."""
    return pandas.read_csv(Path(directory) / "figures.csv")


def draw_gaps(directory: str | Path) -> bool:
    """Draw figures.csv as gaps.png; False, and no picture, without matplotlib or figures of the test."""
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
    """Lines of `figures` on one set as a matplotlib figure: a row per view, a column per metric of DRAWN.

    A column has one scale, from 0 to its greatest interval, so that views can be compared.
    """
    from matplotlib.figure import Figure

    boards = list(found.groupby(["view", "attribute"], sort=False))
    methods = [list(dict.fromkeys(board.loc[board["fitted_on"] == "view", "method"])) for _, board in boards]
    heights = [2 + len(names) for names in methods]
    figure = Figure(figsize=(12, 0.8 + 0.32 * sum(heights)), dpi=120, layout="constrained")
    axes = figure.subplots(len(boards), len(DRAWN), squeeze=False, sharex="col", height_ratios=heights)
    for row, names, ((view, attribute), board) in zip(axes, methods, boards, strict=True):
        places = {name: place for place, name in enumerate(names)}
        for axis, metric in zip(row, DRAWN, strict=True):
            lines = board[(board["metric"] == metric) & board["mean"].notna() & board["method"].isin(names)]
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
        # axes of a column share their limits, so these are set once, when everything is drawn
        greatest = found.loc[found["metric"] == metric, "high"].max()
        axis.set_xlim(0, 1.04 * greatest if greatest > 0 else 1)
    figure.suptitle(
        f"Fitted on the view (dark) and on its twin (grey), {LEVEL:.0%} intervals; dotted: {REFERENCE} on the view",
        fontsize=9,
    )
    return figure
