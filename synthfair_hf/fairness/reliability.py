"""Reliability curves: among rows of similar scores, the share with the finding, by group and with intervals.

    a bin of scores in a group:    score = mean score (expected),    value = share with the finding (observed)

Bins are those of the expected calibration error: a group's `ece` is the sum over its bins of n |value - score| by its
rows, and its `calibration_in_the_large` that of n (value - score). Intervals are percentiles of a bootstrap that
resamples whole subjects, as of `audit`. A bin without rows has no value.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas
from scipy import sparse

from ..errors import InputError
from ..measure.intervals import percentile_interval, resample
from ..records import row_generator
from .audit import EVERYONE
from .groups import Groups, attribute_groups, subject_numbers
from .rates import BINS, check_labels, check_scores, check_weights

__all__ = ["reliability"]

_BLOCK = 2**20  # weights held at once


def reliability(
    scores: Sequence[float],
    labels: Sequence[int],
    groups: Mapping[str, Sequence[str | None]],
    subjects: Sequence[Any] | None = None,
    intersections: Sequence[Sequence[str]] = (),
    seed: int = 0,
    n_bootstrap: int = 1000,
    level: float = 0.95,
    weights: Sequence[float] | None = None,
) -> pandas.DataFrame:
    """Reliability curves of all rows and of every group.

    Args:
        scores: probabilities `[n]` in [0, 1] that the finding is present.
        labels: `[n]`, 0 absent and 1 present.
        groups: by attribute, the name of each row's group `[n]`, None where unknown.
        subjects: identifiers `[n]`; rows of one subject are resampled together. Each row is one of its own by default.
        intersections: attributes to combine, such as [("sex", "age")].
        seed: of the bootstrap.
        n_bootstrap: number of bootstrap replicates, from 1.
        level: confidence level of the intervals, in (0, 1).
        weights: of the rows `[n]`, 0 or more; all count the same by default. They do not change n and positives.

    Returns:
        A line per group and bin, all rows first: attribute, group, from and to (scores of the bin), score, value, low,
        high, n (rows), positives, draws (bootstrap replicates in which it was defined).

    Raises:
        InputError: an argument is invalid.
    """
    score = check_scores(scores)
    label = check_labels(labels, len(score))
    if n_bootstrap < 1 or not 0 < level < 1:
        raise InputError(
            f"n_bootstrap, level: {n_bootstrap}, {level:g} out of range; allowed: n_bootstrap from 1, level in (0, 1)."
        )
    weight = np.ones(len(score)) if weights is None else check_weights(weights, len(score))
    everyone = Groups(np.zeros(len(score), dtype=np.int64), (EVERYONE,))
    attributes = {EVERYONE: everyone} | attribute_groups(groups, intersections, len(score))
    members = subject_numbers(subjects, len(score))
    edges = np.linspace(0, 1, BINS + 1)
    bins = np.searchsorted(edges[1:-1], score, side="right")

    # cells are (group, bin) of one attribute after the other; a row is in one cell of each attribute that it has
    titles: list[tuple[str, str]] = []
    rows, cells = [], []
    for attribute, (codes, names) in attributes.items():
        known = np.flatnonzero(codes >= 0)
        cells.append(len(titles) * BINS + codes[known] * BINS + bins[known])
        rows.append(known)
        titles += [(attribute, name) for name in names]
    row, cell = np.concatenate(rows), np.concatenate(cells)
    count = len(titles) * BINS

    def by_cell(values: np.ndarray) -> sparse.csr_array:
        """The sum of values `[n]` over the rows of a subject in a cell, `[cells, subjects]`."""
        return sparse.csr_array((values[row], (cell, members[row])), shape=(count, int(members.max()) + 1))

    total, present = by_cell(weight), by_cell(weight * label)

    def shares(drawn: np.ndarray) -> np.ndarray:
        whole: np.ndarray = total @ drawn.T
        return np.divide(present @ drawn.T, whole, out=np.full(whole.shape, np.nan), where=whole > 0).T

    rng, block = row_generator(seed, 0), max(1, _BLOCK // len(score))
    blocks = [
        resample(rng, min(block, n_bootstrap - first), total.shape[1], shares) for first in range(0, n_bootstrap, block)
    ]
    replicates = np.concatenate(blocks)
    defined = np.isfinite(replicates).sum(axis=0)
    low, high = np.full((2, count), np.nan)
    for place in np.flatnonzero(defined):
        drawn = replicates[:, place]
        low[place], high[place] = percentile_interval(drawn[np.isfinite(drawn)], (1 - level) / 2)
    mass = np.bincount(cell, weight[row], count)
    expected, observed = (
        np.divide(np.bincount(cell, (weight * one)[row], count), mass, out=np.full(count, np.nan), where=mass > 0)
        for one in (score, label)
    )
    return pandas.DataFrame(
        {
            "attribute": np.repeat([attribute for attribute, _ in titles], BINS),
            "group": np.repeat([name for _, name in titles], BINS),
            "from": np.tile(edges[:-1].round(3), len(titles)),
            "to": np.tile(edges[1:].round(3), len(titles)),
            "score": expected,
            "value": observed,
            "low": low,
            "high": high,
            "n": np.bincount(cell, minlength=count),
            "positives": np.bincount(cell, label[row], count).astype(np.int64),
            "draws": defined,
        }
    )
