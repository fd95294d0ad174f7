"""Metrics of a classifier's scores, for many bootstrap weightings of the rows at once.

    weights [replicates, subjects] -> metrics [replicates, metrics],    a row has the weight of its subject

Rows are sorted by score once. Then the area under the ROC curve is sum_i w_i (C[lo_i] + C[hi_i]) / 2 over positive
rows, C the cumulated weight of negative ones and lo, hi the places of score i among them; a bin of scores is a slice.

The area to a false positive rate m, A = integral_0^m TPR dFPR, is a sum over positive rows too: i is predicted present
from the rate a of negatives that score higher on, ties between a and b one after the other, so that it adds
w_i (r(a)^2 - r(b)^2) / (2 (b - a)), r(x) = max(m - x, 0), or w_i r(a) where a = b. Standardised by McClish (1989) it is
(1 + (A - m^2 / 2) / (m - m^2 / 2)) / 2: .5 by chance, 1 at best.

A score at or above the threshold is predicted positive. A metric whose denominator is 0 is NaN, never 0.
"""

from collections.abc import Callable, Mapping, Set
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from ..errors import InputError, shown
from ..measure.intervals import pairs_won

__all__ = [
    "BINS",
    "METRICS",
    "PARTIAL_AUC",
    "Metric",
    "Rates",
    "check_labels",
    "check_scores",
    "check_weights",
    "group_rates",
    "is_column",
    "metrics_of",
    "rates",
]

BINS = 10
"""Bins of equal width in [0, 1] of the expected calibration error; each includes its lower edge, the last both."""

Rates = Callable[[np.ndarray], np.ndarray]
"""Weights of subjects `[replicates, subjects]` -> `[replicates, metrics]` in the order of METRICS."""


class Metric(NamedTuple):
    """Which end of a metric is the worse, whether it is defined on rows of one label (AUC, TPR, FPR), and its sign."""

    worst: Literal["lowest", "highest"] | None
    given_label: bool
    signed: bool = False


METRICS: dict[str, Metric] = {
    "auc": Metric("lowest", True),
    "accuracy": Metric("lowest", False),
    "tpr": Metric("lowest", True),
    "fpr": Metric("highest", True),
    "ppv": Metric("lowest", False),
    "selection_rate": Metric(None, False),
    "ece": Metric("highest", False),
    "brier": Metric("highest", False),
    # false negatives among diseased: the false positive rate of "no finding" (Seyyed-Kalantari et al. 2021)
    "underdiagnosis_rate": Metric("highest", True),
    "calibration_in_the_large": Metric(None, False, signed=True),
}
"""Metrics of a group. `ece` is the sum over bins of |sum of label - score| by the number of rows.

`calibration_in_the_large` is the share with the finding less the mean score, observed minus expected: above 0 where
scores are too low (Van Calster et al. 2019).
"""

PARTIAL_AUC = "partial_auc"
"""The metric that there is only where it is asked how far it reaches."""


def metrics_of(max_fpr: float | None = None) -> dict[str, Metric]:
    """METRICS, and after them the partial AUC where it is asked for.

    Args:
        max_fpr: the false positive rate that it reaches to.
    """
    return METRICS if max_fpr is None else METRICS | {PARTIAL_AUC: METRICS["auc"]}


def rates(
    scores: np.ndarray,
    labels: np.ndarray,
    members: np.ndarray,
    threshold: float = 0.5,
    row_weights: np.ndarray | None = None,
    max_fpr: float | None = None,
) -> Rates:
    """Metrics as a function of the weights of subjects.

    Args:
        scores: `[n]` in [0, 1].
        labels: `[n]`, 0 or 1.
        members: int64 `[n]`, each row's subject as a column of the weights.
        threshold: scores at or above it are predicted positive.
        row_weights: `[n]`, 0 or more, by which the weight of a row's subject is multiplied; 1 by default.
        max_fpr: in (0, 1], for the partial AUC to this false positive rate; without it there is none.

    Returns:
        A function from weights `[replicates, subjects]` to `[replicates, metrics]`, in the order of `metrics_of`.
    """
    order = np.argsort(scores, kind="stable")
    negative, positive = (order[labels[order] == label] for label in (0, 1))
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    cuts, passed = [], []
    for side in (negative, positive):
        passed.append(int(np.searchsorted(scores[side], threshold)))
        cuts.append(list(pairwise([0, *np.searchsorted(scores[side], edges).tolist(), len(side)])))
    low, high = (np.searchsorted(scores[negative], scores[positive], end) for end in ("left", "right"))
    residuals = -scores[negative], 1 - scores[positive]
    subjects = _columns(members[negative]), _columns(members[positive])
    own = None if row_weights is None else (row_weights[negative], row_weights[positive])

    def statistic(weights: np.ndarray) -> np.ndarray:
        below, above = (weights[:, side] for side in subjects)
        if own is not None:
            below, above = below * own[0], above * own[1]
        cumulated = np.zeros((len(weights), len(negative) + 1))
        np.cumsum(below, axis=1, out=cumulated[:, 1:])
        negatives, positives = cumulated[:, -1], above.sum(axis=1)
        n = negatives + positives
        true_positives = above[:, passed[1] :].sum(axis=1)
        false_positives = negatives - cumulated[:, passed[0]]
        chosen = true_positives + false_positives
        won = pairs_won(cumulated, above, low, high)
        sides = ((below, cuts[0], residuals[0]), (above, cuts[1], residuals[1]))
        per_bin = np.sum([[w[:, a:b] @ r[a:b] for a, b in bins] for w, bins, r in sides], axis=0)
        squares = np.sum([w @ r**2 for w, _, r in sides], axis=0)
        found = {
            "auc": _ratio(won, negatives * positives),
            "accuracy": _ratio(true_positives + negatives - false_positives, n),
            "tpr": _ratio(true_positives, positives),
            "fpr": _ratio(false_positives, negatives),
            "ppv": _ratio(true_positives, chosen),
            "selection_rate": _ratio(chosen, n),
            "ece": _ratio(np.abs(per_bin).sum(axis=0), n),
            "brier": _ratio(squares, n),
            "underdiagnosis_rate": _ratio(positives - true_positives, positives),
            "calibration_in_the_large": _ratio(per_bin.sum(axis=0), n),
        }
        if max_fpr is not None:
            found[PARTIAL_AUC] = _partial_auc(cumulated, above, positives, low, high, max_fpr)
        return np.stack([found[name] for name in metrics_of(max_fpr)], axis=1)

    return statistic


def _partial_auc(
    cumulated: np.ndarray, above: np.ndarray, positives: np.ndarray, low: np.ndarray, high: np.ndarray, max_fpr: float
) -> np.ndarray:
    """The standardised area to a false positive rate `[b]`; arguments as of `intervals.pairs_won`."""
    # r(a) and r(b) of each positive, times the weight of the negatives
    reach = np.clip(cumulated - (1 - max_fpr) * cumulated[:, -1:], 0, None)
    own = np.take(reach, high, axis=1)
    if not np.array_equal(low, high):
        ties = np.take(cumulated, high, axis=1) - np.take(cumulated, low, axis=1)
        own = np.divide(own**2 - np.take(reach, low, axis=1) ** 2, 2 * ties, out=own.copy(), where=ties > 0)
    area = _ratio(np.einsum("ij,ij->i", above, own), positives * cumulated[:, -1])
    least = max_fpr**2 / 2
    standardised: np.ndarray = (1 + (area - least) / (max_fpr - least)) / 2
    return standardised


def _columns(members: np.ndarray) -> np.ndarray | slice:
    """Columns of the weights: a slice, which copies nothing, where they follow each other."""
    first = int(members[0]) if len(members) else 0
    return slice(first, first + len(members)) if np.array_equal(members, first + np.arange(len(members))) else members


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)


def is_column(values: Any, n: int) -> bool:
    """Whether values are one per row of n, as a list, an array or a column of a table.

    Args:
        values: anything.
        n: number of rows.
    """
    try:
        return (
            not isinstance(values, str | bytes | Mapping | Set) and getattr(values, "ndim", 1) == 1 and len(values) == n
        )
    except TypeError:
        return False


def check_scores(scores: object, threshold: float = 0.5) -> np.ndarray:
    """Check scores and threshold.

    Args:
        scores: `[n]` numbers.
        threshold: of the scores.

    Returns:
        Scores as float64 `[n]`.

    Raises:
        InputError: a score or the threshold is not in [0, 1], or there are no scores.
    """
    score = _numbers("scores", scores)
    if score.ndim != 1:
        raise InputError(
            f"scores: shape {score.shape} is invalid, for multi-class scores are not supported; give the "
            "probability [n] of one finding being present, or of each class against the rest in turn."
        )
    inside = (score >= 0) & (score <= 1)
    if not len(score) or not inside.all():
        example = f", such as {score[~inside][0]:g}" if len(score) else ""
        raise InputError(
            f"scores: {np.sum(~inside)} of {len(score)} not in [0, 1]{example}; give one or more probabilities (of a "
            "logit its sigmoid)."
        )
    if isinstance(threshold, bool) or not isinstance(threshold, int | float | np.number) or not 0 <= threshold <= 1:
        raise InputError(f"threshold: {shown(threshold)} is invalid or out of range; allowed: [0, 1].")
    return score


def check_labels(labels: object, n: int) -> np.ndarray:
    """Check labels.

    Args:
        labels: `[n]` numbers.
        n: the number of scores.

    Returns:
        Labels as int64 `[n]`.

    Raises:
        InputError: there is not one label per score, or one is neither 0 nor 1.
    """
    label = _numbers("labels", labels)
    if label.shape != (n,):
        raise InputError(f"labels: shape {label.shape} for {n} scores; give one per score.")
    wrong = label[~np.isin(label, (0, 1))]
    if len(wrong):
        raise InputError(
            f"labels: {len(wrong)} of {n} neither 0 nor 1, such as {wrong[0]:g}; code a finding absent 0, present 1 "
            "(multi-class labels are not supported)."
        )
    return label.astype(np.int64)


def check_weights(weights: object, n: int) -> np.ndarray:
    """Check weights of rows.

    Args:
        weights: `[n]` numbers.
        n: the number of scores.

    Returns:
        Weights as float64 `[n]`.

    Raises:
        InputError: there is not one weight per score, one is negative or not finite, or all are 0.
    """
    weight = _numbers("weights", weights)
    if weight.shape != (n,):
        raise InputError(f"weights: shape {weight.shape} for {n} scores; give one per score.")
    wrong = weight[~(np.isfinite(weight) & (weight >= 0))]
    if len(wrong):
        raise InputError(f"weights: {len(wrong)} of {n} negative or not finite, such as {wrong[0]:g}; give 0 or more.")
    if not weight.any():
        raise InputError(f"weights: all {n} are 0; give some row a weight, or leave the weights out.")
    return weight


def _numbers(argument: str, values: object) -> np.ndarray:
    try:
        found: Any = np.asarray(values)
        if isinstance(values, np.ma.MaskedArray):
            # a masked value is a missing one
            found = np.where(np.ma.getmaskarray(values), np.nan, found)
        if found.dtype.kind == "O" and any(isinstance(one, str | bytes) for one in found.flat):
            raise TypeError
        # numpy reads text as the number it spells, and a date as the nanoseconds since 1970
        if found.dtype.kind not in "biufO":
            raise TypeError
        return found.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise InputError(f"{argument}: not all are numbers; give one number per row.") from None


def group_rates(scores: np.ndarray, labels: np.ndarray, codes: np.ndarray, groups: int, threshold: float) -> np.ndarray:
    """METRICS of all rows with a known group and of each group, without resampling.

    Args:
        scores: `[n]` in [0, 1].
        labels: `[n]`, 0 or 1.
        codes: int64 `[n]`, the group of each row, -1 where unknown.
        groups: the number of groups; their codes are 0 ... groups - 1.
        threshold: scores at or above it are predicted positive.

    Returns:
        `[1, 1 + groups, metrics]`, all rows first.
    """
    known = codes >= 0
    masks = [known, *(codes == group for group in range(groups))]
    parts = [rates(scores[mask], labels[mask], np.zeros(mask.sum(), dtype=np.int64), threshold) for mask in masks]
    return np.stack([part(np.ones((1, 1))) for part in parts], axis=1)
