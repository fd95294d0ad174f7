"""One self-contained HTML page of counts on a view of a written data set, beside those of its twin.

    phi = (ad - bc) / sqrt((a + b)(c + d)(a + c)(b + d)),     odds ratio = ad / bc

for rows in the first (a, b) or second (c, d) group of one contrast and the first (a, c) or second (b, d) of another;
rows in neither group of one are left out of that figure. All figures are counts of the rows there are, not estimates.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from ..arguments import checked
from ..domains.findings import findings_of
from ..domains.preset import Preset
from ..errors import InputError
from ..records import Record, write_atomically
from ..schema import SPLITS
from ..views.builder import encoded, read_record
from ..views.grammar import Group, groups_of
from ..views.layout import find_files
from ..views.manifest import check_files, check_footers
from ..views.shares import Train, realised_shares
from ..views.view import COMPARE, BiasedView, get_view
from .pages import render

__all__ = ["odds_ratio", "phi", "write_statistics"]

BINS = 10
Columns = Mapping[str, np.ndarray]


class _Sample(NamedTuple):
    """Rows that the page counts side by side: columns `[B]` by name, observed labels among them where there are any."""

    name: str
    columns: Columns

    def inside(self, *groups: Group) -> np.ndarray:
        """Which rows are in all of these groups, bool `[B]`."""
        inside = np.ones(len(self.columns["split"]), dtype=bool)
        for group in groups:
            column, operator, value = group.clause
            inside &= COMPARE[operator](self.columns[column], value)
        return inside

    def count(self, *groups: Group) -> int:
        """How many rows are in all of these groups."""
        return int(self.inside(*groups).sum())


def phi(a: int, b: int, c: int, d: int) -> float | None:
    """Correlation in [-1, 1] of two binary attributes; None where one of them has a single value.

    Args:
        a: rows where both are first.
        b: rows where the first is first, the second second.
        c: rows where the first is second, the second first.
        d: rows where both are second.
    """
    scale = math.sqrt((a + b) * (c + d) * (a + c) * (b + d))
    return (a * d - b * c) / scale if scale else None


def odds_ratio(a: int, b: int, c: int, d: int) -> float | None:
    """Odds of one attribute where the other is first, over those where it is second; None where that is x/0.

    Args:
        a: rows where both are first.
        b: rows where the first is first, the second second.
        c: rows where the first is second, the second first.
        d: rows where both are second.
    """
    return a * d / (b * c) if b * c else None


@checked
def write_statistics(data_dir: str | Path, name: str, output_dir: str | Path) -> Path:
    """Write `output_dir/<view>.html` on a view of a data set.

    Args:
        data_dir: the data set.
        name: of the view, curated or not.
        output_dir: created where it does not exist.

    Returns:
        The path of the page.

    Raises:
        InputError: no finished data set, or an unknown view.
    """
    record, preset = read_record(str(data_dir))
    view = get_view(name, preset)
    columns = _columns(Path(data_dir), record, preset)
    twin = None if view.twin is None or view.twin == view.name else get_view(view.twin, preset)
    samples = [_train("train", view, columns)]
    if twin is not None:
        samples.append(_train("train of the twin", twin, columns))
    samples += [_Sample(split, _rows(columns, columns["split"] == split)) for split in list(SPLITS)[1:]]
    if view.label is not None:
        true = view.label.variable
        samples = [one._replace(columns={view.label.column: one.columns[true], **one.columns}) for one in samples]
    shown = _shown(preset, view)
    page = render(
        "statistics.html.jinja",
        view=view,
        twin=twin,
        shares=realised_shares(view, Train.of(preset, record.settings)),
        title=preset.title,
        store=record.counts.get("store"),
        samples=[(one.name, len(one.columns["split"])) for one in samples],
        cells=list(_cells(view, samples, preset)),
        prevalences=list(_prevalences(samples, preset, shown)),
        associations=list(_associations(view, samples[: 1 if twin is None else 2], preset, shown)),
        histograms=list(_histograms(view, samples[: 1 if twin is None else 2], preset)),
    )
    path = Path(output_dir) / f"{view.name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode())
    return path


def _columns(directory: Path, record: Record, preset: Preset) -> dict[str, np.ndarray]:
    """Encoded columns `[B]` of every row."""
    names = ["split", "draw", *preset.covariates.names]
    paths = {name: directory / name for split in SPLITS for name in find_files(directory, split)}
    if not paths:
        raise InputError(f"data_dir: {directory} holds no shards; give a directory `synthfair generate` finished.")
    check_files(str(directory), record)
    check_footers(str(directory), {name: str(path) for name, path in paths.items()}, record, preset)
    table = pa.concat_tables(
        pyarrow.parquet.read_table(path, columns=names, partitioning=None, page_checksum_verification=True)
        for path in paths.values()
    )
    return {name: encoded(table[name], preset, name) for name in names}


def _rows(columns: Columns, kept: np.ndarray) -> Columns:
    return {name: values[kept] for name, values in columns.items()}


def _train(name: str, view: BiasedView, columns: Columns) -> _Sample:
    """The rows of train that a view keeps, with what an annotator wrote on them."""
    rows = _rows(columns, view.mask(columns) & (columns["split"] == "train"))
    return _Sample(name, rows if view.label is None else {**rows, view.label.column: view.label.observed(rows)})


def _shown(preset: Preset, view: BiasedView) -> list[str]:
    """The contrasts that are counted: of several findings those that the view trades or families cross, if any.

    Fourteen findings have hundreds of figures that are about none of these.
    """
    findings = findings_of(preset)
    kept = [name for name in findings if name in view.attributes or name in preset.factors] or findings
    return [name for name in preset.contrasts if name in kept or name not in findings]


def _pairs(samples: list[_Sample], preset: Preset, shown: list[str]) -> dict[str, tuple[Group, Group]]:
    """Both groups of every contrast that is shown, and of an observed label beside its true one."""
    pairs = {}
    for name in shown:
        pairs[name] = groups_of(name, preset)
        if (written := f"observed_{name}") in samples[0].columns:
            first, second = (
                Group(words := f"labelled {group.phrase}", written, (written, *group.clause[1:]), words)
                for group in pairs[name]
            )
            pairs[written] = first, second
    return pairs


def _cells(view: BiasedView, samples: list[_Sample], preset: Preset) -> Iterator[tuple[str, list[int]]]:
    """Rows of each sample in every combination of the groups that the view trades, and in none of them."""
    left_over = [len(one.columns["split"]) for one in samples]
    for groups in product(*(groups_of(name, preset) for name in view.attributes)):
        counts = [one.count(*groups) for one in samples]
        left_over = [rest - count for rest, count in zip(left_over, counts, strict=True)]
        yield " / ".join(group.phrase for group in groups) or "all", counts
    if any(left_over):
        yield "in neither group of one", left_over


def _prevalences(
    samples: list[_Sample], preset: Preset, shown: list[str]
) -> Iterator[tuple[str, str, list[tuple[int, int]]]]:
    """(label, group, (rows with it, rows with it or its contrast) per sample)."""
    pairs = _pairs(samples, preset, shown)
    findings = [name for name in shown if preset.covariates[name].role == "finding"]
    for finding, attribute in product(findings, shown):
        if attribute in findings:
            continue
        for group in pairs[attribute]:
            for present, absent in (pairs[name] for name in (finding, f"observed_{finding}") if name in pairs):
                counts = [(one.count(group, present), one.count(group, absent)) for one in samples]
                shares = [(ill, ill + well) for ill, well in counts]
                yield present.phrase, f"{attribute}: {group.words}", shares


def _associations(
    view: BiasedView, samples: list[_Sample], preset: Preset, shown: list[str]
) -> Iterator[tuple[str, bool, list[tuple[float | None, float | None, int]]]]:
    """(two attributes, whether the view trades both, (phi, odds ratio, rows) per sample)."""
    for (one, ones), (other, others) in combinations(_pairs(samples, preset, shown).items(), 2):
        figures = []
        for sample in samples:
            table = [sample.count(*groups) for groups in product(ones, others)]
            figures.append((phi(*table), odds_ratio(*table), sum(table)))
        traded = {name.removeprefix("observed_") for name in (one, other)} <= {*view.attributes}
        yield f"{one} by {other}", traded, figures


def _histograms(view: BiasedView, samples: list[_Sample], preset: Preset) -> Iterator[dict[str, Any]]:
    """Rows by bin of every continuous covariate, in both groups of each other attribute that the view trades."""
    continuous = [variable for variable in preset.covariates.walk() if not variable.categorical]
    for variable, attribute in product(continuous, view.attributes or tuple(preset.contrasts)[:1]):
        if variable.name == attribute:
            continue
        groups = groups_of(attribute, preset)
        for one in samples:
            values = one.columns[variable.name]
            yield {
                "variable": variable,
                "attribute": attribute,
                "sample": one.name,
                "groups": [group.phrase for group in groups],
                "counts": [
                    np.histogram(values[one.inside(group)], bins=BINS, range=variable.bounds)[0].tolist()
                    for group in groups
                ],
            }
