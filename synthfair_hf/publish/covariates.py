"""Covariate statistics of a data set by split and by view, as tables of its card and as figures beside it.

    covariates.svg    each covariate in each split: shares of levels, or a histogram
    views.svg         for each view, the shares of its groups among the rows of train that it keeps

Both are counts of the rows that there are, drawn as text, so that the same rows give the same bytes everywhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..domains.preset import Preset
from ..schema import MISSING_LEVEL, Variable
from ..views.view import BiasedView
from .contents import Contents
from .pages import line, render
from .stored import NOT_RECORDED

__all__ = ["FIGURES", "View", "figures", "split_table", "view_header", "view_row"]

FIGURES = ("covariates.svg", "views.svg")

BINS = 20
"""Of a histogram, over the range of the covariate in the preset."""

WIDTH, LEFT, ROW, BAR = 480, 74, 18, 13
"""Pixels: of a figure, of the names beside its bars, from one bar to the next, and of a bar."""
PLOT, TALL = WIDTH - LEFT - 10, 42
"""Pixels: length of a bar of share 1, and height of a histogram."""

COLOURS = ("#2f6690", "#a85c1f", "#4d7a3f", "#7a5ea0", "#a8434e", "#3f7c7e", "#7d7040", "#5d6b7a")
"""Of levels, in their order, again from the first after the last."""
MISSING, INK, QUIET, PAPER = "#c9ced2", "#1c1f23", "#5b636c", "#ffffff"
CHARACTER = 5.9
"""Width of a character of the figures in pixels, nearly."""


class View(NamedTuple):
    """A view as a card lists it: itself, which rows it keeps of train `[rows]`, and rows of its groups by name."""

    view: BiasedView
    kept: np.ndarray
    counts: dict[str, int]

    @property
    def rows(self) -> int:
        """The number of rows of train that it keeps."""
        return int(self.kept.sum())


class _Bar(NamedTuple):
    """A filled rectangle, and what it says under a pointer."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    title: str


class _Label(NamedTuple):
    """A word in a figure; `y` is its base line."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    colour: str = INK
    bold: bool = False


def split_table(contents: Contents, preset: Preset) -> list[tuple[str, str, list[str]]]:
    """Lines of a table: covariate, what is counted, and a cell for each split.

    Shares and moments are of the images whose value is recorded; those without have a line of their own.

    Args:
        contents: of the data set's files.
        preset: its domain.
    """
    lines: list[tuple[str, str, list[str]]] = []
    for variable in preset.covariates.walk():
        samples = [_split(contents, variable, split) for split in contents.files]
        known = [_known(variable, sample) for sample in samples]
        for what, cells in _lines(variable, known):
            lines.append((_named(variable), what, cells))
        absent = [len(sample) - len(kept) for sample, kept in zip(samples, known, strict=True)]
        if any(absent):
            lines.append((_named(variable), NOT_RECORDED, [f"{number:,}" for number in absent]))
    return lines


def view_header(preset: Preset) -> list[str]:
    """Headings of the columns of `view_row`.

    Args:
        preset: the data set's domain.
    """
    return [
        f"{variable.name}: {' / '.join(variable.levels)}, %"
        if variable.categorical
        else f"{variable.name}: mean, {variable.unit}"
        for variable in preset.covariates.walk()
    ]


def view_row(contents: Contents, preset: Preset, kept: np.ndarray) -> list[str]:
    """Shares of levels, or means, of each covariate among some rows.

    Args:
        contents: of the data set's files.
        preset: its domain.
        kept: which rows, bool `[rows]`.
    """
    cells = []
    for variable in preset.covariates.walk():
        known = _known(variable, contents.columns[variable.name][kept])
        if not len(known):
            cells.append("–")
        elif variable.categorical:
            cells.append(" / ".join(f"{100 * count / len(known):.1f}" for count in _counts(variable, known)))
        else:
            cells.append(f"{known.mean():.1f}")
    return cells


def figures(contents: Contents, preset: Preset, views: Sequence[View]) -> dict[str, bytes]:
    """The bytes of both figures by name.

    Args:
        contents: of the data set's files.
        preset: its domain.
        views: those that the card lists.
    """
    bars: list[_Bar] = []
    labels: list[_Label] = []
    y = 0.0
    for variable in preset.covariates.walk():
        y = _draw_covariate(bars, labels, y + 16, contents, variable)
    ours = _svg(f"Covariates by split: {preset.title}", y + 8, bars, labels)
    return {FIGURES[0]: ours, FIGURES[1]: _views(preset, views)}


def _split(contents: Contents, variable: Variable, split: str) -> np.ndarray:
    sample: np.ndarray = contents.columns[variable.name][contents.columns["split"] == split]
    return sample


def _known(variable: Variable, sample: np.ndarray) -> np.ndarray:
    """The values that are recorded; numbers in double precision."""
    if variable.categorical:
        return sample[sample != MISSING_LEVEL]
    return sample[~np.isnan(sample)].astype(np.float64)


def _counts(variable: Variable, known: np.ndarray) -> list[int]:
    counts: list[int] = np.bincount(known.astype(np.int64), minlength=len(variable.levels)).tolist()
    return counts


def _named(variable: Variable) -> str:
    return f"{variable.name} ({variable.unit})" if variable.unit else variable.name


def _lines(variable: Variable, samples: Sequence[np.ndarray]) -> Iterator[tuple[str, list[str]]]:
    if variable.categorical:
        counts = [_counts(variable, sample) for sample in samples]
        for code, level in enumerate(variable.levels):
            yield level, [f"{one[code]:,} ({one[code] / max(1, sum(one)):.1%})" for one in counts]
        return
    moments = [f"{one.mean():.1f} ({one.std():.1f})" if len(one) else "–" for one in samples]
    yield "mean (standard deviation)", moments
    for what, shares in (("quartiles", (0.25, 0.5, 0.75)), ("range", (0.0, 1.0))):
        found = [[f"{value:.1f}" for value in np.quantile(one, shares)] if len(one) else ["–"] for one in samples]
        yield what, [(" to " if what == "range" else ", ").join(one) for one in found]


def _draw_covariate(bars: list[_Bar], labels: list[_Label], y: float, contents: Contents, variable: Variable) -> float:
    """Add a covariate below `y`, a row for each split; where the next begins."""
    labels.append(_Label(4, y, _named(variable), bold=True))
    if variable.categorical:
        y = _legend(bars, labels, y + 16, dict(zip(variable.levels, _colours(len(variable.levels)), strict=True)))
    for split in contents.files:
        sample = _split(contents, variable, split)
        known = _known(variable, sample)
        if variable.categorical:
            counts = dict(zip(variable.levels, _counts(variable, known), strict=True))
            missing = {NOT_RECORDED: len(sample) - len(known)}
            labels.append(_Label(LEFT - 6, y + 10, split, "end", QUIET))
            _stack(bars, labels, y, counts | {name: n for name, n in missing.items() if n}, len(sample))
            y += ROW
        else:
            y = _histogram(bars, labels, y + 8, variable, split, known)
    return y + 6


def _histogram(
    bars: list[_Bar], labels: list[_Label], y: float, variable: Variable, split: str, known: np.ndarray
) -> float:
    low, high = variable.bounds
    counts = np.histogram(np.clip(known, low, high), bins=BINS, range=(low, high))[0].tolist()
    most, width = max(1, *counts), PLOT / BINS
    labels.append(_Label(LEFT - 6, y + TALL, split, "end", QUIET))
    for place, count in enumerate(counts):
        start, end = (low + (high - low) * at / BINS for at in (place, place + 1))
        tall = TALL * count / most
        title = f"{split}, {variable.name} {start:g} to {end:g}: {count:,} of {len(known):,}"
        bars.append(_Bar(LEFT + place * width, y + TALL - tall, width - 1, tall, COLOURS[0], title))
    bars.append(_Bar(LEFT, y + TALL, PLOT, 1, MISSING, f"{split}: n = {len(known):,}"))
    for at, value, anchor in ((LEFT, low, "start"), (LEFT + PLOT, high, "end")):
        labels.append(_Label(at, y + TALL + 12, f"{value:g}", anchor, QUIET))
    return y + TALL + 16


def _stack(bars: list[_Bar], labels: list[_Label], y: float, counts: Mapping[str, int], total: int) -> None:
    """A bar of shares, each written on it where it fits."""
    x, colours = float(LEFT), _colours(len(counts))
    for (name, count), colour in zip(counts.items(), colours, strict=True):
        width = PLOT * count / max(1, total)
        colour, share = (MISSING if name == NOT_RECORDED else colour), count / max(1, total)
        bars.append(_Bar(x, y, width, BAR, colour, f"{name}: {count:,} of {total:,} ({share:.1%})"))
        text = f"{share:.1%}"
        if width > CHARACTER * (len(text) + 1):
            labels.append(_Label(x + width / 2, y + 10, text, "middle", INK if colour == MISSING else PAPER))
        x += width


def _legend(bars: list[_Bar], labels: list[_Label], y: float, colours: Mapping[str, str]) -> float:
    """Names beside their colours, in as many lines as they need; where what follows begins."""
    x = float(LEFT)
    for name, colour in colours.items():
        width = 16 + CHARACTER * (len(name) + 2)
        if x > LEFT and x + width > WIDTH:
            x, y = float(LEFT), y + 14
        bars.append(_Bar(x, y - 9, 10, 10, colour, name))
        labels.append(_Label(x + 14, y, name, colour=QUIET))
        x += width
    return y + 8


def _views(preset: Preset, views: Sequence[View]) -> bytes:
    bars: list[_Bar] = []
    labels: list[_Label] = []
    y, before = 6.0, None
    for one in views:
        if not one.counts or one.view.label is not None:
            # all rows, or those that are relabelled alone
            continue
        groups = tuple(one.counts)
        if groups != before:
            y = _legend(bars, labels, y + 16, dict(zip(groups, _colours(len(groups)), strict=True)))
            before = groups
        labels.append(_Label(LEFT, y + 10, f"{one.view.name}, {one.rows:,} rows"))
        _stack(bars, labels, y + 14, one.counts, sum(one.counts.values()))
        y += ROW + 16
    return _svg(f"Groups of train by view: {preset.title}", y + 8, bars, labels)


def _colours(number: int) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(number)]


def _svg(title: str, height: float, bars: Sequence[_Bar], labels: Sequence[_Label]) -> bytes:
    # of what a preset names, nothing but printable characters goes into XML
    told: dict[str, Any] = {
        "bars": [one._replace(title=_plain(one.title)) for one in bars],
        "labels": [one._replace(text=_plain(one.text)) for one in labels],
    }
    return render("figure.svg.jinja", width=WIDTH, height=round(height), title=_plain(title), **told).encode()


def _plain(text: str) -> str:
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in line(text))
