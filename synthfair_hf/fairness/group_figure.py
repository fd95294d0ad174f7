"""A figure of one metric by group: a point with its interval and n, beside the value of all rows.

It needs matplotlib, which is in the extra `report`.
"""

import io
from collections.abc import Iterator

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
            axes.annotate(
                text,
                (0, place),
                (-6, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                va="center",
                weight="bold",
            )
            continue
        size = f"n = {row['n']:,}, {row['positives']:,} present"
        if pandas.notna(row["value"]):
            axes.plot([row["low"], row["high"]], [place, place], color=INK, linewidth=2, solid_capstyle="butt")
            axes.plot(row["value"], place, "o", color=INK, markersize=5)
        else:
            size += ": no value"
        for side, words, offset, align in ((0, text, -6, "right"), (1, size, 6, "left")):
            axes.annotate(
                words,
                (side, place),
                (offset, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha=align,
                va="center",
                color=GREY if side else "black",
            )
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


def _lines(rows: pandas.DataFrame) -> Iterator[tuple[str, pandas.Series | None]]:
    """From top to bottom: (attribute, None), then (group, its row)."""
    for attribute, own in rows.groupby("attribute", sort=False):
        yield str(attribute), None
        for _, row in own.iterrows():
            yield str(row["group"]), row
