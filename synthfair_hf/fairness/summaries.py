"""Fairness metrics over groups: gaps, ratios, worst groups and the composite metrics of the literature, by name.

    metrics [replicates, 1 + groups, metrics], all rows first  ->  one figure per replicate

A figure is over the groups that have the metric. With two groups a gap is the absolute difference. Different names are
different definitions: three definitions of equalized odds are in use, and give three numbers for one classifier.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from .rates import METRICS, PARTIAL_AUC, Metric, metrics_of

__all__ = ["EQUALIZED_ODDS", "SUMMARIES", "Summary", "summaries_of", "summarise"]

_PLACE = {name: place for place, name in enumerate((*METRICS, PARTIAL_AUC))}


class Summary(NamedTuple):
    """A fairness metric over groups.

    Attributes:
        unfair: which end of the figure is unfair.
        given_label: whether only rows of one label are compared.
        cells: selects what is compared, `[replicates, cells, k]`, from metrics `[replicates, 1 + groups, metrics]`.
        reduce: reduces cells to one figure per replicate, `[replicates]`.
    """

    unfair: Literal["low", "high"]
    given_label: bool
    cells: Callable[[np.ndarray], np.ndarray]
    reduce: Callable[[np.ndarray], np.ndarray]


def _of(*metrics: str) -> Callable[[np.ndarray], np.ndarray]:
    """A group is a cell with k metrics."""
    return lambda values: values[:, 1:, [_PLACE[metric] for metric in metrics]]


def _of_finding_and_group(values: np.ndarray) -> np.ndarray:
    """Accuracy in every (finding, group): TPR where present, 1 - FPR where absent."""
    return np.concatenate([_of("tpr")(values), 1 - _of("fpr")(values)], axis=1)


def _of_auc_and_overall(values: np.ndarray) -> np.ndarray:
    auc = _of("auc")(values)
    return np.concatenate([auc, np.broadcast_to(values[:, :1, _PLACE["auc"], None], auc.shape)], axis=2)


def _gap(cells: np.ndarray) -> np.ndarray:
    return np.ptp(cells, axis=1).max(axis=1)


def _mean_gap(cells: np.ndarray) -> np.ndarray:
    return np.ptp(cells, axis=1).mean(axis=1)


def _least(cells: np.ndarray) -> np.ndarray:
    return cells.min(axis=(1, 2))


def _most(cells: np.ndarray) -> np.ndarray:
    return cells.max(axis=(1, 2))


def _min_by_max(cells: np.ndarray) -> np.ndarray:
    least, most = _least(cells), _most(cells)
    return np.divide(least, most, out=np.full(len(cells), np.nan), where=most > 0)


def _equity_scaled(cells: np.ndarray) -> np.ndarray:
    overall = cells[:, 0, 1]
    return overall / (1 + np.abs(cells[:, :, 0] - overall[:, None]).sum(axis=1))


_ODDS = _of("tpr", "fpr")

EQUALIZED_ODDS: dict[str, Summary] = {
    "equalized_odds_max_difference": Summary("high", True, _ODDS, _gap),
    "equalized_odds_mean_difference": Summary("high", True, _ODDS, _mean_gap),
    "equalized_odds_one_minus_mean": Summary("low", True, _ODDS, lambda cells: 1 - _mean_gap(cells)),
}
"""Of the gaps of TPR and FPR: the larger (fairlearn), their mean (AIM-Fair), 1 - their mean (MEDFAIR)."""


def _spread(name: str, metric: Metric) -> dict[str, Summary]:
    """Gap (max - min), of what has no sign ratio (min / max), and, where one end is bad, the worst group."""
    found = {f"{name}_gap": Summary("high", metric.given_label, _of(name), _gap)}
    if not metric.signed:
        found[f"{name}_ratio"] = Summary("low", metric.given_label, _of(name), _min_by_max)
    if metric.worst == "lowest":
        found[f"{name}_worst"] = Summary("low", metric.given_label, _of(name), _least)
    if metric.worst == "highest":
        found[f"{name}_worst"] = Summary("high", metric.given_label, _of(name), _most)
    return found


SUMMARIES: dict[str, Summary] = {
    **{key: summary for name, metric in METRICS.items() for key, summary in _spread(name, metric).items()},
    **EQUALIZED_ODDS,
    "equal_opportunity_difference": Summary("high", True, _of("tpr"), _gap),
    "demographic_parity_difference": Summary("high", False, _of("selection_rate"), _gap),
    "demographic_parity_ratio": Summary("low", False, _of("selection_rate"), _min_by_max),
    "worst_group_accuracy": Summary("low", True, _of_finding_and_group, _least),
    "adjusted_accuracy": Summary("low", True, _of_finding_and_group, lambda cells: cells.mean(axis=(1, 2))),
    "equity_scaled_auc": Summary("low", True, _of_auc_and_overall, _equity_scaled),
}
"""Figures over groups by name.

`worst_group_accuracy` and `adjusted_accuracy` (Yang et al. 2023) are the least and the mean accuracy over (finding,
group); `equity_scaled_auc` is AUC / (1 + sum_a |AUC_a - AUC|) (Luo et al. 2024, alpha 1), AUC that of all rows.
"""


def summaries_of(max_fpr: float | None = None) -> dict[str, Summary]:
    """SUMMARIES, and after them those of the partial AUC where it is asked for.

    Args:
        max_fpr: the false positive rate that it reaches to.
    """
    return SUMMARIES if max_fpr is None else SUMMARIES | _spread(PARTIAL_AUC, metrics_of(max_fpr)[PARTIAL_AUC])


def summarise(summary: Summary, values: np.ndarray, point: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Evaluate a summary on every bootstrap replicate.

    Args:
        summary: one of SUMMARIES.
        values: metrics `[replicates, 1 + groups, metrics]`, all rows first.
        point: metrics `[1, 1 + groups, metrics]` of the rows themselves; cells that are undefined in it are left out.

    Returns:
        (figure of each replicate `[replicates]`, cells compared, cells left out). A figure is NaN where a compared cell
        is undefined in the replicate, and everywhere if fewer than two cells are compared.
    """
    kept = np.isfinite(summary.cells(point)[0]).all(axis=1)
    compared = int(kept.sum())
    if compared < 2:
        return np.full(len(values), np.nan), compared, len(kept) - compared
    return summary.reduce(summary.cells(values)[:, kept]), compared, len(kept) - compared
