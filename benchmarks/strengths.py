"""Fits of a method at several strengths and seeds: made once, summarised by strength, printed and plotted.

A fit is a record whose `settings` have the `seed` and the `method`'s strength, and whose `measured` has what is read
here: plain numbers, and figures with bootstrap replicates (`fairness.benchmark.cells.figures`). Strength 0 is what the
others are compared with, and the calibrated strength is the one of `calibrated_strength`.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from matplotlib.figure import Figure

from synthfair_hf.fairness.benchmark.board import unfinished
from synthfair_hf.fairness.benchmark.leaderboard import compare, summary
from synthfair_hf.fairness.mitigation.attention_alignment import calibrated_strength
from synthfair_hf.records import Record

INK, MARK = "#1b4f72", "#b03a2e"


def finished(planned: Sequence[Record], directory: Path, fit: Callable[[Record], Record]) -> list[Record]:
    """The fits of records without figures, each kept in a file of the directory and not fitted again."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{one.fingerprint}.json" for one in planned]
    for place in unfinished(paths):
        fit(planned[place]).write(paths[place])
        print(f"{place + 1}/{len(planned)}", flush=True)
    return [Record.read(path) for path in paths]


def strength_of(record: Record) -> float:
    """The strength of a fit."""
    return float(record.settings["method"]["strength"])


def rows_by_strength(
    fits: Sequence[Record], key: Mapping[str, Any], numbers: Sequence[str], figures: Sequence[str]
) -> list[dict[str, Any]]:
    """A line per strength: means and intervals, differences from strength 0, and whether it is the calibrated one.

    Args:
        fits: of several strengths, 0 among them, under the same seeds in the same order.
        key: what the lines begin with.
        numbers: of `measured`, whose intervals are over seeds.
        figures: of `measured`, whose intervals are over test subjects and seeds.
    """
    found = [(strength_of(one), one.settings["seed"], one.measured["validation_auc"]) for one in fits]
    calibrated = calibrated_strength(pandas.DataFrame(found, columns=["strength", "seed", "validation_auc"]))
    by_strength = {
        strength: [one.measured for one in fits if strength_of(one) == strength]
        for strength in sorted(set(map(strength_of, fits)))
    }
    rows = []
    for strength, own in by_strength.items():
        row = {**key, "strength": strength, "seeds": len(own), "calibrated": strength == calibrated}
        row |= {name: over_seeds([one[name] for one in own]) for name in numbers}
        for name in figures:
            row[name] = summary([one[name] for one in own])
            row[f"{name}_difference"] = compare([one[name] for one in by_strength[0]], [one[name] for one in own])[0]
        rows.append(row)
    return rows


def over_seeds(values: Sequence[float]) -> dict[str, float]:
    """Mean and normal interval over seeds; each fit has a validation of its own."""
    mean, spread = float(np.mean(values)), 1.96 * float(np.std(values, ddof=1)) / np.sqrt(len(values))
    return {"mean": mean, "low": mean - spread, "high": mean + spread}


def figure(one: Mapping[str, Any]) -> str:
    """Mean and interval in words."""
    if one["mean"] is None:
        return "-"
    return f"{one['mean']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


def strength_table(
    rows: pandas.DataFrame, columns: Mapping[str, str], first: Mapping[str, str] | None = None
) -> list[str]:
    """Lines of a Markdown table; the calibrated strength is bold.

    Args:
        rows: a line per strength.
        columns: headings of figures by their column.
        first: headings of plain columns before the strength.
    """
    first = first or {}
    lines = [
        f"| {' | '.join([*first.values(), 'strength', *columns.values()])} |",
        "|---" * (len(first) + 1 + len(columns)) + "|",
    ]
    for _, row in rows.iterrows():
        strength = f"**{row['strength']:g}**" if row["calibrated"] else f"{row['strength']:g}"
        cells = [*(str(row[name]) for name in first), strength, *(figure(row[name]) for name in columns)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def picture(
    table: pandas.DataFrame, panels: str, labels: Mapping[str, str], title: str, lines: str | None = None
) -> bytes:
    """PNG: a row of panels per value of a column, one per figure; strength 0 stands at the left edge.

    Args:
        table: a line per strength.
        panels: the column that rows of panels differ by.
        labels: titles of panels by figure.
        title: of the whole.
        lines: the column that lines in a panel differ by; one line if None.
    """
    groups = list(table.groupby(panels, sort=False))
    drawn = Figure(figsize=(13, 2.6 * len(groups)), dpi=110, layout="constrained")
    axes = drawn.subplots(len(groups), len(labels), squeeze=False)
    for line, (name, rows) in zip(axes, groups, strict=True):
        for axis, (one, label) in zip(line, labels.items(), strict=True):
            _draw(axis, rows, one, lines)
            axis.set_title(label, fontsize=8)
        line[0].set_ylabel(name, fontsize=7)
    if lines is not None:
        drawn.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    drawn.suptitle(title, fontsize=10)
    file = io.BytesIO()
    drawn.savefig(file, format="png")
    return file.getvalue()


def _draw(axis: Any, rows: pandas.DataFrame, name: str, lines: str | None) -> None:
    """One figure by strength in a panel."""
    groups = [("", rows)] if lines is None else list(rows.groupby(lines, sort=False))
    colours = (INK, "#7f8c8d", "#ca6f1e")
    for place, ((label, own), colour) in enumerate(zip(groups, colours, strict=False)):
        # intervals of several lines would hide each other
        places = np.arange(len(own)) + 0.12 * (place - (len(groups) - 1) / 2)
        means, lows, highs = (np.array([one[key] for one in own[name]], float) for key in ("mean", "low", "high"))
        if lines is None:
            axis.fill_between(places, lows, highs, color=colour, alpha=0.15, linewidth=0)
        else:
            axis.vlines(places, lows, highs, color=colour, alpha=0.5, linewidth=1)
        axis.plot(places, means, "o-", color=colour, markersize=4, label=label)
        chosen = own["calibrated"].to_numpy()
        axis.plot(places[chosen], means[chosen], "o", color=MARK, markersize=7)
    axis.set_xticks(np.arange(len(own)), [f"{one:g}" for one in own["strength"]])
    axis.tick_params(labelsize=8)
    axis.set_xlabel("strength", fontsize=8)
    axis.spines[["right", "top"]].set_visible(False)
