"""A figure of one metric by group: a point with its interval and n, beside the value of all rows.

It needs matplotlib, which is in the extra `report`.
"""

import io
from collections.abc import Iterator
from typing import Any

import pandas

from ..errors import InputError, unknown
from .audit import EVERYONE, AuditTable

__all__ = ["group_figure"]

ROW_INCHES, WIDTH_INCHES = 0.27, 6.4
INK, GREY, BAND = "#1b4f72", "#666666", "#e8edf1"


def group_figure(table: AuditTable, metric: str) -> bytes:
    """A figure of one metric of an audit, groups sorted by attribute. Groups without a value are listed as such.

    Args:
        table: the result of `audit`.
        metric: one of `rates.METRICS`.

    Returns:
        The bytes of a PNG file.

    Raises:
        InputError: matplotlib is not installed, or the metric is unknown.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "group_figure: matplotlib is not installed; install it, or this package with the extra 'report'."
        ) from None
    rows = table.groups[table.groups["metric"] == metric]
    if rows.empty:
        raise unknown("metric", metric, table.groups["metric"].unique())
    everyone = rows[rows["attribute"] == EVERYONE].iloc[0]
    lines = list(_lines(rows[rows["attribute"] != EVERYONE]))
    figure = Figure(figsize=(WIDTH_INCHES, ROW_INCHES * (len(lines) + 4)), dpi=150, layout="constrained")
    axes = figure.subplots()
    if pandas.notna(everyone["value"]):
        axes.axvspan(everyone["low"], everyone["high"], color=BAND, zorder=0)
        axes.axvline(everyone["value"], color=GREY, linewidth=1, zorder=1)
    for place, (text, row) in enumerate(lines):
        if row is None:
            _label(axes, text, 0, place, -6, ha="right", weight="bold")
            continue
        size = f"n = {row['n']:,}, {row['positives']:,} present"
        if pandas.notna(row["value"]):
            axes.plot([row["low"], row["high"]], [place, place], color=INK, linewidth=2, solid_capstyle="butt")
            axes.plot(row["value"], place, "o", color=INK, markersize=5)
        else:
            size += ": no value"
        _label(axes, text, 0, place, -6, ha="right", color="black")
        _label(axes, size, 1, place, 6, ha="left", color=GREY)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_yticks([])
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.set_xlabel(metric)
    axes.set_title(
        f"{metric} with {table.settings['level']:.0%} intervals over {table.settings['subjects']:,} subjects\n"
        f"grey: everyone, {everyone['value']:.3f} [{everyone['low']:.3f}, {everyone['high']:.3f}]",
        fontsize=9,
        loc="left",
    )
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _label(axes: Any, text: str, side: int, place: int, offset: int, **style: Any) -> None:
    """Write a text beside the axes, left (side 0) or right (1), at a line, `offset` points away."""
    coordinates = ("axes fraction", "data")
    axes.annotate(text, (side, place), (offset, 0), coordinates, textcoords="offset points", va="center", **style)


def _lines(rows: pandas.DataFrame) -> Iterator[tuple[str, pandas.Series | None]]:
    """From top to bottom: (attribute, None), then (group, its row)."""
    for attribute, own in rows.groupby("attribute", sort=False):
        yield str(attribute), None
        for _, row in own.iterrows():
            yield str(row["group"]), row
