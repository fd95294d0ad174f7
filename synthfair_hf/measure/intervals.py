"""A statistic with its bootstrap interval: groups (patients, or images) are resampled inside seeds, then the seeds.

    replicate   w ~ multinomial over groups, s* ~ seeds;  mean over s* of the statistic of seed s, rows weighted by w
    interval    quantiles of the replicates; 95 % by default

A group that occurs in several seeds is resampled for all of them at once: three seeds on one set of patients are not
three sets of patients, so a system without randomness gets the interval of a single seed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..records import row_generator

__all__ = [
    "Estimate",
    "Statistic",
    "area_under_curve",
    "bootstrap",
    "bootstrap_mean",
    "mean_of",
    "pairs_won",
    "percentile_interval",
    "resample",
    "statistic_of_rows",
]

Statistic = Callable[[np.ndarray], np.ndarray]
"""Row weights `[b, n]`, one row per bootstrap replicate -> its value by replicate `[b]`, NaN where undefined."""

_BLOCK = 2**22  # weights held at once


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval; None where the statistic is undefined."""

    mean: float | None
    """The statistic of all rows, averaged over seeds."""
    low: float | None
    """Lower end of the interval."""
    high: float | None
    """Upper end of the interval."""
    n: int
    """Rows of a seed; of the seed with the fewest where they differ."""
    groups: int
    """Distinct groups over all seeds."""
    seeds: int
    draws: int  # named as in the records
    """Bootstrap replicates in which the statistic was defined: the interval is of these alone."""


def mean_of(values: np.ndarray) -> Statistic:
    """The weighted mean of values `[n]` as a statistic."""

    def statistic(weights: np.ndarray) -> np.ndarray:
        total = weights.sum(axis=1, dtype=np.float64)
        return np.divide(weights @ values, total, out=np.full(len(weights), np.nan), where=total > 0)

    return statistic


def area_under_curve(probabilities: np.ndarray, labels: np.ndarray) -> Statistic:
    """Area under the ROC curve as a statistic, ties counted half.

    Args:
        probabilities: of the levels, `[n, levels]`; or scores of the second of two, `[n]`.
        labels: level indices `[n]`.

    Returns:
        The area of the second of two levels; of more, the mean over the levels in `labels` of one against the rest. NaN
        where a level, or its complement, has no weight.
    """
    if probabilities.ndim == 1:
        return _area_of_one(probabilities, labels == 1)
    levels = [1] if probabilities.shape[1] == 2 else np.unique(labels)
    curves = [_area_of_one(probabilities[:, level], labels == level) for level in levels]
    return lambda weights: np.mean([curve(weights) for curve in curves], axis=0)


def _area_of_one(scores: np.ndarray, positive: np.ndarray) -> Statistic:
    order = np.argsort(scores, kind="stable")
    negatives, positives = order[~positive[order]], order[positive[order]]
    low, high = (np.searchsorted(scores[negatives], scores[positives], end) for end in ("left", "right"))

    def statistic(weights: np.ndarray) -> np.ndarray:
        above, cumulated = weights[:, positives], np.zeros((len(weights), len(negatives) + 1))
        np.cumsum(weights[:, negatives], axis=1, out=cumulated[:, 1:])
        pairs = above.sum(axis=1) * cumulated[:, -1]
        return np.divide(
            pairs_won(cumulated, above, low, high), pairs, out=np.full(len(weights), np.nan), where=pairs > 0
        )

    return statistic


def pairs_won(cumulated: np.ndarray, above: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Weight of the pairs of a negative and a positive in which the positive scores higher, ties counted half.

    Args:
        cumulated: weight of the first 0, 1, ... negatives in the order of their scores, `[b, negatives + 1]`.
        above: weights of the positives, `[b, positives]`.
        low: how many negatives score less than each positive, `[positives]`.
        high: how many negatives score no more than each positive, `[positives]`.

    Returns:
        The weight by bootstrap replicate, `[b]`.
    """
    places = np.take(cumulated, low, axis=1)
    # without ties both are the same
    places += places if np.array_equal(low, high) else np.take(cumulated, high, axis=1)
    won: np.ndarray = np.einsum("ij,ij->i", above, places) / 2
    return won


def percentile_interval(drawn: np.ndarray, tail: float = 0.025) -> np.ndarray:
    """The percentile interval of bootstrap replicates.

    Args:
        drawn: the replicates, `[b, ...]`.
        tail: share of them outside the interval on either side, in (0, 0.5).

    Returns:
        Its two ends, `[2, ...]`.
    """
    return np.quantile(drawn, [tail, 1 - tail], axis=0)


def statistic_of_rows(function: Callable[[np.ndarray], float], n: int) -> Statistic:
    """Any function of row numbers as a statistic; slower than one of weights.

    Args:
        function: takes an array of row numbers out of 0 ... n - 1, each as often as it was resampled.
        n: number of rows.
    """
    rows = np.arange(n)
    return lambda weights: np.array([function(np.repeat(rows, times.astype(np.int64))) for times in weights], float)


def bootstrap(
    statistics: Sequence[Statistic],
    groups: Sequence[Sequence[str]],
    seed: int = 0,
    n_bootstrap: int = 1000,
    level: float = 0.95,
) -> Estimate:
    """Estimate the mean over seeds of one statistic per seed.

    Seeds without rows are left out. Replicates in which the statistic is undefined (an area under the curve where a
    rare level was not resampled) do not enter the interval, and the estimate says how many did.

    Args:
        statistics: one per seed.
        groups: by seed, the group (patient) of each row.
        seed: of the resampling.
        n_bootstrap: number of bootstrap replicates, 1 or more.
        level: confidence level of the interval, in (0, 1).

    Raises:
        InputError: for another number of lists than of statistics, or an argument out of range.
    """
    if len(statistics) != len(groups):
        raise InputError(f"groups: {len(groups)} lists for {len(statistics)} statistics; give one list per seed.")
    if n_bootstrap < 1 or not 0 < level < 1:
        raise InputError(
            f"n_bootstrap, level: {n_bootstrap}, {level:g} out of range; allowed: n_bootstrap from 1, level in (0, 1)."
        )
    seeds = [(statistic, rows) for statistic, rows in zip(statistics, groups, strict=True) if len(rows)]
    if not seeds:
        return Estimate(None, None, None, 0, 0, 0, 0)
    names, flat = np.unique(np.concatenate([np.asarray(rows, dtype=str) for _, rows in seeds]), return_inverse=True)
    members = np.split(flat, np.cumsum([len(rows) for _, rows in seeds])[:-1])

    def evaluate(weights: np.ndarray) -> np.ndarray:
        """Weights of groups `[b, groups]` -> the statistic by seed `[b, seeds]`."""
        return np.stack(
            [statistic(weights[:, member]) for (statistic, _), member in zip(seeds, members, strict=True)], axis=1
        )

    rng = row_generator(seed)
    picked = rng.integers(0, len(seeds), (n_bootstrap, len(seeds)))
    block = max(1, _BLOCK // len(flat))
    sizes = [min(block, n_bootstrap - first) for first in range(0, n_bootstrap, block)]
    parts = [resample(rng, size, len(names), evaluate) for size in sizes]
    drawn = np.take_along_axis(np.concatenate(parts), picked, axis=1).mean(axis=1)
    drawn = drawn[np.isfinite(drawn)]
    mean = float(evaluate(np.ones((1, len(names)))).mean())
    size = min(len(rows) for _, rows in seeds)
    if not math.isfinite(mean) or not len(drawn):
        return Estimate(None, None, None, size, len(names), len(seeds), len(drawn))
    low, high = percentile_interval(drawn, (1 - level) / 2)
    return Estimate(mean, float(low), float(high), size, len(names), len(seeds), len(drawn))


def resample(rng: np.random.Generator, n_bootstrap: int, groups: int, evaluate: Statistic) -> np.ndarray:
    """A statistic of groups that are resampled with replacement, as many as there are.

    Args:
        rng: draws the groups.
        n_bootstrap: number of bootstrap replicates.
        groups: number of groups.
        evaluate: the statistic of how often each group was resampled, `[n_bootstrap, groups]`.

    Returns:
        What `evaluate` gives, by replicate.
    """
    chosen = rng.integers(0, groups, (n_bootstrap, groups)) + np.arange(n_bootstrap)[:, None] * groups
    counts = np.bincount(chosen.ravel(), minlength=n_bootstrap * groups)
    return evaluate(counts.reshape(n_bootstrap, groups).astype(np.float64))


def bootstrap_mean(
    values: Sequence[np.ndarray],
    groups: Sequence[Sequence[str]],
    seed: int = 0,
    n_bootstrap: int = 1000,
    level: float = 0.95,
) -> Estimate:
    """Estimate a mean.

    Args:
        values: by seed, one finite value per row, `[n]`.
        groups: by seed, the group (patient) of each row.
        seed: of the resampling.
        n_bootstrap: number of bootstrap replicates, 1 or more.
        level: confidence level of the interval, in (0, 1).

    Raises:
        InputError: where lengths differ or a value is not finite; dropping it would be a choice, so it is the caller's.
    """
    arrays = [np.asarray(one, dtype=np.float64) for one in values]
    for number, (array, rows) in enumerate(zip(arrays, groups, strict=False)):
        if array.shape != (len(rows),) or not np.isfinite(array).all():
            raise InputError(
                f"values[{number}]: shape {array.shape} with {np.sum(~np.isfinite(array))} not finite, for {len(rows)} "
                "rows of groups; give one finite number per row."
            )
    return bootstrap([mean_of(array) for array in arrays], groups, seed, n_bootstrap, level)
