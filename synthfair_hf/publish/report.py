"""One self-contained HTML page on a written data set: subject x do() picture grids, covariates, biases, measurements.

Everything on it is read from the files in `DIR/data` and `DIR/records/*.json`; it fetches nothing and runs no script.
Subjects are shown by a fixed rule (evenly spaced in the order of the strata), never chosen by eye.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..arguments import checked
from ..domains.findings import is_label
from ..domains.images import luminance, open_image
from ..records import write_atomically
from ..schema import MISSING_LEVEL, Variable
from ..views.shares import Train, listed_views
from .dataset_card import measured_beside
from .measured_page import heat_maps, nearest_samples, strength_plots
from .pages import render
from .pictures import DIFFERENCE_COLOURS, data_uri, difference_png
from .stored import NOT_RECORDED, StoredDataSet, value_text

__all__ = ["write_report"]

NUM_SUBJECTS = 6
HISTOGRAM_BINS = 10
GROUPED = ("protected", "other")
"""Roles by whose levels subjects are counted, the first that a covariate has."""
QUANTILES = {"minimum": 0, "lower quartile": 0.25, "median": 0.5, "upper quartile": 0.75, "maximum": 1}
SATURATED = 0.02
"""Share of pixels whose difference may lie beyond the ends of the colour scale."""


@checked
def write_report(directory: Path) -> Path:
    """Write `directory/report.html` on the data set in `directory` and return its path.

    Raises:
        InputError: no data set of this package, or one that its records contradict; records of measurements of another
            generator or data set.
    """
    store = StoredDataSet.read(Path(directory))
    measured = measured_beside(Path(directory), store.record)
    limit, subjects = _gallery(store)
    page = render(
        "report.html.jinja",
        facts=_facts(store),
        sampled=store.sampled,
        families=f"Subjects and their {'same-noise samples' if store.sampled else 'counterfactuals'}",
        preset=store.preset,
        shown=store.shown,
        labels={variable.name for variable in store.preset.covariates.walk() if is_label(variable)},
        splits=store.splits,
        subjects=subjects,
        limit=limit,
        colours=DIFFERENCE_COLOURS,
        covariates=[_distribution(store, variable) for variable in store.preset.covariates.walk()],
        histograms=_histograms(store),
        views=_views(store),
        heat_maps=heat_maps(measured, store.preset),
        strengths=strength_plots(measured, store.preset),
        neighbours=nearest_samples(measured),
    )
    path = Path(directory) / "report.html"
    write_atomically(path, page.encode())
    return path


def _facts(store: StoredDataSet) -> dict[str, Any]:
    """Counts of the whole data set, and where it comes from."""
    columns, first = store.columns, store.first
    return {
        "images": len(first),
        "subjects": int(first.sum()),
        "observations": int(store.observed.sum()),
        "synthetic": int(columns["synthetic"].sum()),
        "factors": store.factors,
        "splits": {
            split: (int(first[columns["split"] == split].sum()), int((columns["split"] == split).sum()))
            for split in store.splits
        },
        "provenance": {
            name: ", ".join(sorted(set(columns[name].tolist())))
            for name in ("source_dataset", "model_revision", "plan")
        }
        | store.record.counts,
        "versions": store.record.versions,
    }


class _Picture(NamedTuple):
    """One image of the gallery; `changed` is the factor that sets it apart from the first, "" for the first itself."""

    row_id: str
    changed: str
    before: str
    after: str
    covariates: list[tuple[str, str]]
    image: str
    difference: str
    mean_difference: float


def _gallery(store: StoredDataSet) -> tuple[float, list[dict[str, Any]]]:
    """(end of the shared colour scale, subjects with their pictures)."""
    columns, strata = store.columns, store.preset.strata
    firsts = np.flatnonzero(store.first)
    order = firsts[np.lexsort([columns[name][firsts] for name in ("id", *reversed(strata))])]
    places = (np.arange(NUM_SUBJECTS) + 0.5) / NUM_SUBJECTS * len(order)
    families = {row: _one_factor_changes(store, row) for row in order[np.unique(places.astype(int))].tolist()}
    drawn = [row for observation, changes in families.items() for row in (observation, *changes)]
    encoded = store.images(drawn)
    pixels = {row: _pixels(encoded[row]) for row in drawn}
    differences = {row: pixels[row] - pixels[first] for first, changes in families.items() for row in changes}
    magnitudes = np.concatenate([np.zeros(1), *(np.abs(difference).ravel() for difference in differences.values())])
    limit = max(0.05, math.ceil(20 * float(np.quantile(magnitudes, 1 - SATURATED))) / 20)

    def picture(row: int, observation: int, changed: str) -> _Picture:
        variables = store.preset.covariates
        before, after = (changed and value_text(variables[changed], columns[changed][at]) for at in (observation, row))
        return _Picture(
            row_id=str(columns["id"][row]),
            changed=changed,
            before=before,
            after=after,
            covariates=[
                (variable.name, value_text(variable, columns[variable.name][row]))
                for variable in variables.walk()
                if store.tells(variable, row)
            ],
            image=data_uri(encoded[row]),
            difference=data_uri(difference_png(differences[row], limit)) if changed else "",
            mean_difference=float(np.abs(differences[row]).mean()) if changed else 0.0,
        )

    return limit, [
        {
            "subject_id": str(columns["subject_id"][first]),
            "split": str(columns["split"][first]),
            "draw": float(columns["draw"][first]),
            "observed": bool(store.observed[first]),
            "pictures": [
                picture(first, first, ""),
                *(picture(row, first, changed) for row, changed in changes.items()),
            ],
        }
        for first, changes in families.items()
    ]


def _one_factor_changes(store: StoredDataSet, observation: int) -> dict[int, str]:
    """Rows of the observation's family that differ from it in exactly one factor, with that factor."""
    columns = store.columns
    family = np.flatnonzero(columns["subject_id"] == columns["subject_id"][observation])
    differs = np.array([columns[name][family] != columns[name][observation] for name in store.factors])
    differs = differs.reshape(len(store.factors), len(family))
    changed = {
        row: store.factors[int(np.argmax(differs[:, member]))]
        for member, row in enumerate(family.tolist())
        if differs[:, member].sum() == 1
    }
    order = sorted(changed, key=lambda row: (store.factors.index(changed[row]), columns[changed[row]][row]))
    return {row: changed[row] for row in order}


def _pixels(png: bytes) -> np.ndarray:
    """Luminance `[H, W]` in [0, 1]."""
    array = np.asarray(open_image(png))
    full = 255 if array.dtype == np.uint8 else 65535
    return luminance((np.moveaxis(array, -1, 0) if array.ndim == 3 else array) / full)


def _distribution(store: StoredDataSet, variable: Variable) -> dict[str, Any]:
    """A table of one covariate: lines (label, cells), two cells per split, for its subjects and for its images.

    A cell is (n, share) of a level, or (quantile, None) of a continuous variable.
    """
    columns = store.columns
    samples = []
    for split in store.splits:
        ours = columns["split"] == split
        samples += [store.own(variable)[ours & store.first], columns[variable.name][ours]]
    lines: list[tuple[str, list[tuple[Any, float | None]]]] = []
    if variable.categorical:
        for code, level in enumerate(variable.levels):
            counts = [int((sample == code).sum()) for sample in samples]
            lines.append((level, [(n, n / max(1, len(sample))) for n, sample in zip(counts, samples, strict=True)]))
        missing = [sample == MISSING_LEVEL for sample in samples]
    else:
        missing = [np.isnan(sample) for sample in samples]
        known = [sample[~absent] for sample, absent in zip(samples, missing, strict=True)]
        for label, share in QUANTILES.items():
            lines.append(
                (label, [(f"{np.quantile(sample, share):.1f}" if len(sample) else "", None) for sample in known])
            )
    if any(absent.any() for absent in missing):
        lines.append((NOT_RECORDED, [(int(absent.sum()), float(absent.mean())) for absent in missing]))
    return {"variable": variable, "lines": lines}


def _histograms(store: StoredDataSet) -> list[dict[str, Any]]:
    """Counts of subjects by bin of every continuous covariate, by level of the first categorical one of GROUPED."""
    columns, variables = store.columns, store.preset.covariates
    groups = next((one for role in GROUPED for one in variables.walk() if one.categorical and one.role == role), None)
    if groups is None:
        return []
    return [
        {
            "variable": variable,
            "groups": groups,
            "split": split,
            "counts": [
                np.histogram(
                    store.own(variable)[store.first & (columns["split"] == split) & (store.own(groups) == code)],
                    bins=HISTOGRAM_BINS,
                    range=variable.bounds,
                )[0].tolist()
                for code in range(len(groups.levels))
            ],
        }
        for variable in variables.walk()
        if not variable.categorical
        for split in store.splits
    ]


def _views(store: StoredDataSet) -> list[list[dict[str, Any]]]:
    """Views with their rows of train, in all, per cell and by covariate; grouped by what is traded, strongest first."""
    train = store.columns["split"] == "train"
    families: dict[str | None, list[dict[str, Any]]] = {}
    for view in listed_views(store.preset, Train.of(store.preset, store.record.settings)):
        kept = view.mask(store.columns) & train
        covariates = [cell for one in store.shown for cell in _composition(one, store.columns[one.name][kept])]
        families.setdefault(view.twin, []).append(
            {"view": view, "rows": int(kept.sum()), "counts": view.counts(store.columns), "covariates": covariates}
        )
    return [sorted(family, key=lambda member: -(member["view"].strength or 0)) for family in families.values()]


def _composition(variable: Variable, values: np.ndarray) -> list[str]:
    """Share of each level among encoded values `[B]`, or the mean of those that are known."""
    if variable.categorical:
        return [f"{(values == code).sum() / max(1, len(values)):.1%}" for code in range(len(variable.levels))]
    known = values[~np.isnan(values)]
    return [f"{known.mean(dtype=np.float64):.1f}" if len(known) else ""]
