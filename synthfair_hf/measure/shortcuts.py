"""Shortcuts of a data set: how well its covariates are predicted without the anatomy, from digitisation alone.

    histogram   gray level at 32 quantiles of the image
    border      mean and standard deviation of 32 pieces of its outermost strip, 1/16 of a side wide
    AUC         of a logistic regression on either, cross-validated over patients; .5 is chance

Two data sets that were scanned, cropped or stored in different ways are told apart by either, and so is every finding
whose images come from one of them: a generator learns that instead of disease, and a predictor reads it (Zech et al.
2018). Disease and view change the histogram themselves, so that its AUC says what could be a shortcut, not what is one;
the border shows no anatomy that a finding changes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..arguments import Count, checked
from ..domains.images import luminance
from ..domains.preset import Preset
from ..domains.source import Source, totals
from ..errors import InputError
from ..records import Record, library_versions, writable_directory
from .intervals import area_under_curve, bootstrap

__all__ = ["FEATURES", "measure_shortcuts", "shortcut_features"]

QUANTILES, PIECES, STRIP = 32, 8, 16
"""Quantiles of the histogram; pieces of each side of the border; its width as a share of a side, 1 / STRIP."""

FOLDS = 5
"""Of the cross-validation, each without patients of the others."""

FEATURES = ("histogram", "border", "both")
"""What is predicted from."""


def shortcut_features(image: np.ndarray) -> dict[str, np.ndarray]:
    """Histogram `[32]` and border `[64]` of an image `[r, r]` or `[3, r, r]` in [0, 1]; of colours their luminance."""
    gray = luminance(image)
    side = len(gray)
    wide = max(1, side // STRIP)
    strips = (gray[:wide], gray[-wide:], gray[:, :wide].T, gray[:, -wide:].T)
    pieces = [piece for strip in strips for piece in np.array_split(strip, PIECES, axis=1)]
    return {
        "histogram": np.quantile(gray, np.linspace(0, 1, QUANTILES)),
        "border": np.array([number for piece in pieces for number in (piece.mean(), piece.std())]),
    }


@checked
def measure_shortcuts(
    source: Source,
    preset: Preset,
    output_dir: str | Path,
    resolution: Count = 64,
    splits: Sequence[str] = ("train", "validation", "test"),
    n_bootstrap: Count = 1000,
) -> Record:
    """Cross-validate what a data set's histograms and borders tell of its covariates, and write `shortcuts.json`.

    Args:
        source: the images with their covariates.
        preset: the domain, by whose contrasts continuous covariates are divided in two.
        output_dir: where the record goes.
        resolution: height and width in pixels at which images are read, 16 or more.
        splits: whose images are used.
        n_bootstrap: number of bootstrap replicates of every interval, over patients.

    Returns:
        The record; `measured["rows"]` has an AUC with its interval for each covariate and each of FEATURES.

    Raises:
        InputError: for a resolution that has no border, and where there are fewer patients than folds.
    """
    if resolution < STRIP:
        raise InputError(f"resolution: {resolution} is not allowed; give {STRIP} or more pixels.")
    directory = writable_directory(Path(output_dir))
    rows = [row for row, split in enumerate(source.splits) if split in splits]
    patients = np.array([source.patient_ids[row] for row in rows])
    if len(set(patients)) < FOLDS:
        raise InputError(f"source: {len(set(patients))} patients are too few; give {FOLDS} or more.")
    found = [shortcut_features(source.image(row, resolution)) for row in rows]
    columns = {name: np.stack([one[name] for one in found]) for name in FEATURES[:2]}
    columns["both"] = np.concatenate([columns[name] for name in FEATURES[:2]], axis=1)
    measured = []
    for name in source.covariates.names:
        levels, labels = _labels(source, preset, name, rows)
        known = labels >= 0
        counts = np.bincount(labels[known], minlength=len(levels))
        for features in FEATURES:
            row: dict[str, Any] = {"attribute": name, "levels": levels, "features": features, "images": counts.tolist()}
            # a fold without a level could not be learned from
            if (counts > 0).sum() < 2 or counts[counts > 0].min() < FOLDS or len(set(patients[known])) < FOLDS:
                measured.append({**row, "mean": None, "low": None, "high": None})
                continue
            scores = _predicted(columns[features][known], labels[known], patients[known], len(levels))
            area = bootstrap(
                [area_under_curve(scores, labels[known])], [patients[known].tolist()], n_bootstrap=n_bootstrap
            )
            measured.append({**row, "mean": area.mean, "low": area.low, "high": area.high, "groups": area.groups})
    record = Record(
        stage="measure_shortcuts",
        inputs={"source": source.fingerprint},
        settings={"resolution": resolution, "splits": list(splits), "folds": FOLDS, "n_bootstrap": n_bootstrap},
        versions=library_versions(),
        counts={"source": totals(source.counts), "images": len(rows), "patients": len(set(patients))},
        measured={"rows": measured},
    )
    directory.mkdir(parents=True, exist_ok=True)
    record.write(directory / "shortcuts.json")
    return record


def _labels(source: Source, preset: Preset, name: str, rows: Sequence[int]) -> tuple[list[str], np.ndarray]:
    """The groups of a covariate and the index of each image's, -1 where it is missing."""
    variable = source.covariates[name]
    values = [source.table[name][row] for row in rows]
    if variable.categorical:
        places = {level: place for place, level in enumerate(variable.levels)}
        return list(variable.levels), np.array([-1 if value is None else places[value] for value in values])
    contrast = preset.contrasts.get(name)
    known = np.array([np.nan if value is None else float(value) for value in values])
    if contrast is None or contrast.threshold is None:
        threshold, groups = float(np.nanmedian(known)), ["below the median", "median or more"]
    else:
        threshold, groups = contrast.threshold, [contrast.first, contrast.second]
    return groups, np.where(np.isnan(known), -1, known >= threshold).astype(int)


def _predicted(features: np.ndarray, labels: np.ndarray, patients: np.ndarray, levels: int) -> np.ndarray:
    """Probabilities `[n, levels]` for images of patients that the regression has not seen."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    folds = GroupKFold(FOLDS, shuffle=True, random_state=0)
    found = cross_val_predict(model, features, labels, groups=patients, cv=folds, method="predict_proba")
    scores = np.zeros((len(labels), levels))
    scores[:, np.unique(labels)] = found
    return scores
