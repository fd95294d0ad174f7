"""A fairness audit: every metric by group and intersection, fairness metrics over groups, intervals and tests.

    groups    value of a metric in a group, with n and the interval over subjects
    gaps      figures over the groups of an attribute (`summaries.SUMMARIES`), with interval and permutation test

Intervals are percentiles of a bootstrap that resamples whole subjects. A gap cannot be negative, so its interval lies
above 0 even without any disparity. The test of no disparity is `p`: the share of permutations of the groups that are at
least as unfair, the data counted as one. Figures of rows of one label (AUC, TPR, FPR and their summaries) are tested
given the label, under the null hypothesis that scores do not depend on the group among rows of a label. For the others
labels are permuted with the scores, under the null hypothesis that scores and labels do not depend on the group.
`permutation` defines which rows are exchangeable.

A group without the rows that a metric needs has no value; gaps leave it out and count it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas

from ..arguments import Fraction, PositiveFraction, Replicates, Seed, checked
from ..errors import InputError
from ..measure.intervals import percentile_interval, resample
from ..records import row_generator
from .groups import Groups, attribute_groups, subject_numbers
from .permutation import exchangeable, permute
from .rates import Rates, check_labels, check_scores, check_weights, metrics_of, rates
from .summaries import Summary, summaries_of, summarise

__all__ = ["EVERYONE", "AuditTable", "audit", "plain_rows"]

EVERYONE = "everyone"
"""Attribute and group of those lines of the table that hold the metrics of all rows."""

_BLOCK = 2**20  # weights held at once
_TIE = 1e-9  # sums of the same numbers in another order differ by rounding


@dataclass(frozen=True)
class AuditTable:
    """The result of an audit: two tidy tables. An undefined figure is NaN in them and None in the record.

    Attributes:
        groups: attribute, group, metric, value, low, high, n (rows), positives, subjects, draws (bootstrap replicates
            in which it was defined).
        gaps: attribute, metric, value, low, high, lowest, highest (the groups, or findings in groups, at either end),
            compared (number of groups, or findings in groups), left_out (of these, for lack of rows), n, unknown (rows
            without a known group), subjects, draws, p, permutations (in which it was defined).
        settings: threshold, seed, draws (`n_bootstrap`; the key that records have), permutations, level, and the
            numbers of rows, positives and subjects.
    """

    groups: pandas.DataFrame
    gaps: pandas.DataFrame
    settings: dict[str, Any]

    def to_record(self) -> dict[str, Any]:
        """Settings and both tables as plain values, for a record."""
        return {"settings": self.settings, "groups": plain_rows(self.groups), "gaps": plain_rows(self.gaps)}


def plain_rows(frame: pandas.DataFrame) -> list[dict[str, Any]]:
    """The lines of a table as plain values, None for NaN, as records have them."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


class _Rows(NamedTuple):
    """Scores, labels, numbers of subjects and weights, each `[n]`; no weights where all rows count the same.

    `max_fpr` is the false positive rate that a partial AUC reaches to, None where there is none.
    """

    scores: np.ndarray
    labels: np.ndarray
    subjects: np.ndarray
    weights: np.ndarray | None
    max_fpr: float | None

    def where(self, mask: np.ndarray) -> "_Rows":
        weights = None if self.weights is None else self.weights[mask]
        return _Rows(self.scores[mask], self.labels[mask], self.subjects[mask], weights, self.max_fpr)

    def rates(self, members: np.ndarray, threshold: float) -> Rates:
        """Metrics as a function of the weights of members, a number for each row."""
        return rates(self.scores, self.labels, members, threshold, self.weights, self.max_fpr)

    @property
    def size(self) -> dict[str, int]:
        return {
            "n": len(self.labels),
            "positives": int(self.labels.sum()),
            "subjects": int(np.count_nonzero(np.bincount(self.subjects))),
        }


@checked
def audit(
    scores: Sequence[float],
    labels: Sequence[int],
    groups: Mapping[str, Sequence[str | None]],
    subjects: Sequence[Any] | None = None,
    threshold: Fraction = 0.5,
    intersections: Sequence[Sequence[str]] = (),
    seed: Seed = 0,
    n_bootstrap: Replicates = 1000,
    permutations: Replicates = 1000,
    level: float = 0.95,
    weights: Sequence[float] | None = None,
    max_fpr: PositiveFraction | None = None,
) -> AuditTable:
    """Audit the scores of a binary classifier by group.

    Args:
        scores: probabilities `[n]` in [0, 1] that the finding is present.
        labels: `[n]`, 0 absent and 1 present.
        groups: by attribute, the name of each row's group `[n]`, None (or nan, "n/a", ...) where unknown.
        subjects: identifiers `[n]`, text or numbers; rows of one subject are resampled and permuted together. By
            default each row is a subject of its own.
        threshold: scores at or above it are predicted present.
        intersections: attributes to combine into intersectional groups, such as [("sex", "age")].
        seed: seed of bootstrap and permutations.
        n_bootstrap: number of bootstrap replicates, from 1.
        permutations: number of permutations of the test; 0 leaves the test out.
        level: confidence level of the intervals, in (0, 1).
        weights: of the rows `[n]`, 0 or more, such as those of a survey; all count the same by default. The numbers of
            rows, positives and subjects do not depend on them.
        max_fpr: in (0, 1], adds the metric `partial_auc` and its gap: the area under the ROC curve to this false
            positive rate, standardised so that chance is .5 (McClish 1989), as in scikit-learn's `roc_auc_score`.

    Returns:
        Metrics by group, and fairness metrics over the groups of each attribute.

    Raises:
        InputError: an argument is invalid.
    """
    score = check_scores(scores, threshold)
    label = check_labels(labels, len(score))
    if n_bootstrap < 1 or permutations < 0 or not 0 < level < 1:
        raise InputError(
            f"n_bootstrap, permutations, level: {n_bootstrap}, {permutations}, {level:g} out of range; allowed: "
            "n_bootstrap from 1, permutations from 0, level in (0, 1)."
        )
    attributes = attribute_groups(groups, intersections, len(score))
    weight = None if weights is None else check_weights(weights, len(score))
    rows = _Rows(score, label, subject_numbers(subjects, len(score)), weight, max_fpr)
    masks = [np.ones(len(score), dtype=bool)]
    sections = {}
    for attribute, (codes, names) in attributes.items():
        sections[attribute] = slice(len(masks), len(masks) + 1 + len(names))
        masks += [codes >= 0, *(codes == code for code in range(len(names)))]
    point, drawn = _bootstrapped(rows, masks, threshold, n_bootstrap, seed)

    titles = [(EVERYONE, EVERYONE)]
    group_rows, gap_rows = _group_rows(titles, masks[:1], rows, point, drawn, level), []
    for attribute, own in sections.items():
        names = attributes[attribute].names
        titles = [(attribute, name) for name in names]
        within = slice(own.start + 1, own.stop)
        group_rows += _group_rows(titles, masks[within], rows, point[:, within], drawn[:, within], level)
        moved = _permuted(rows, attributes[attribute], point[0, own.start], threshold, permutations, seed)
        known = rows.where(masks[own.start]).size
        size = {"n": known["n"], "unknown": len(score) - known["n"], "subjects": known["subjects"]}
        for metric, summary in summaries_of(max_fpr).items():
            figures = _gap(summary, names, point[:, own], drawn[:, own], moved[summary.given_label], level)
            gap_rows.append({"attribute": attribute, "metric": metric} | figures | size)
    # records written so far have the key "draws"
    settings = {
        "threshold": threshold,
        "seed": seed,
        "draws": n_bootstrap,
        "permutations": permutations,
        "level": level,
    }
    if weight is not None:
        settings["weighted"] = True
    if max_fpr is not None:
        settings["max_fpr"] = max_fpr
    return AuditTable(pandas.DataFrame(group_rows), pandas.DataFrame(gap_rows), rows.size | settings)


def _bootstrapped(
    rows: _Rows, masks: Sequence[np.ndarray], threshold: float, n_bootstrap: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Metrics of the rows in each mask: `[1, masks, metrics]`, and of each replicate `[n_bootstrap, masks, metrics]`.

    The first mask holds all rows.
    """
    everyone = rows.rates(rows.subjects, threshold)
    kept = [None if mask.all() else rows.where(mask) for mask in masks]
    parts = [everyone if own is None else own.rates(own.subjects, threshold) for own in kept]
    subjects = int(rows.subjects.max()) + 1

    def evaluate(weights: np.ndarray) -> np.ndarray:
        overall = everyone(weights)
        return np.stack([overall if part is everyone else part(weights) for part in parts], axis=1)

    rng = row_generator(seed, 0)
    block = max(1, _BLOCK // len(rows.scores))
    blocks = [
        resample(rng, min(block, n_bootstrap - first), subjects, evaluate) for first in range(0, n_bootstrap, block)
    ]
    return evaluate(np.ones((1, subjects))), np.concatenate(blocks)


def _permuted(
    rows: _Rows, groups: Groups, overall: np.ndarray, threshold: float, permutations: int, seed: int
) -> dict[bool, np.ndarray]:
    """Metrics `[permutations, 1 + groups, metrics]` of permuted groups, by whether the permutation was given the label.

    `overall` are those of all rows, which do not change. All attributes of an audit use the same random numbers.
    """
    known, count = rows.where(groups.codes >= 0), len(groups.names)
    codes, n = groups.codes[groups.codes >= 0], len(known.scores)
    # as the metrics sort them, by label and score, so that they need not copy the groups in that order
    order = np.lexsort((known.scores, known.labels))
    part = known.where(order).rates(np.arange(n), threshold)
    step = max(1, _BLOCK // (n * count))
    found = {}
    for given_label in (False, True):
        rng = row_generator(seed, 1, given_label)
        blocks = exchangeable(known.subjects, known.labels if given_label else None)
        values = np.empty((permutations, 1 + count, overall.shape[-1]))
        values[:, 0] = overall
        for first in range(0, permutations, step):
            own = values[first : first + step, 1:]
            moved = np.stack([permute(codes, blocks, rng)[order] for _ in own])
            members = (moved[:, None] == np.arange(count)[:, None]).reshape(-1, n)
            own[:] = part(members.astype(np.float64)).reshape(own.shape)
        found[given_label] = values
    return found


def _group_rows(
    titles: Sequence[tuple[str, str]],
    masks: Sequence[np.ndarray],
    rows: _Rows,
    point: np.ndarray,
    drawn: np.ndarray,
    level: float,
) -> list[dict[str, Any]]:
    found = []
    for place, ((attribute, name), mask) in enumerate(zip(titles, masks, strict=True)):
        size = rows.where(mask).size
        for number, metric in enumerate(metrics_of(rows.max_fpr)):
            value, low, high, defined = _interval(point[0, place, number], drawn[:, place, number], level)
            if size["subjects"] == 1:
                # every replicate is this subject again, which says nothing of others
                low = high = np.nan
            figures = {"value": value, "low": low, "high": high}
            found.append(
                {"attribute": attribute, "group": name, "metric": metric} | figures | size | {"draws": defined}
            )
    return found


def _gap(
    summary: Summary, names: Sequence[str], point: np.ndarray, drawn: np.ndarray, moved: np.ndarray, level: float
) -> dict[str, Any]:
    """One summary of metrics `[1, 1 + groups, metrics]`, of the replicates and of the permutations."""
    figure, compared, left_out = summarise(summary, point, point)
    value, low, high, defined = _interval(figure[0], summarise(summary, drawn, point)[0], level)
    lowest, highest = _ends(summary.cells(point)[0], names)
    chance = summarise(summary, moved, point)[0]
    chance = chance[np.isfinite(chance)]
    unfair = chance >= value - _TIE if summary.unfair == "high" else chance <= value + _TIE
    return {
        "value": value,
        "low": low,
        "high": high,
        "lowest": lowest,
        "highest": highest,
        "compared": compared,
        "left_out": left_out,
        "draws": defined,
        "p": (1 + unfair.sum()) / (1 + len(chance)) if len(chance) and np.isfinite(value) else np.nan,
        "permutations": len(chance),
    }


def _interval(value: float, drawn: np.ndarray, level: float) -> tuple[float, float, float, int]:
    """(value, low, high, replicates in which it was defined); no interval without a value."""
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not len(drawn):
        return float(value), np.nan, np.nan, len(drawn)
    low, high = percentile_interval(drawn, (1 - level) / 2)
    return float(value), float(low), float(high), len(drawn)


def _ends(cells: np.ndarray, names: Sequence[str]) -> tuple[str | None, str | None]:
    """Names of the cells `[cells, k]` with the lowest and highest value; None where a cell has more than one."""
    if cells.shape[1] != 1 or not np.isfinite(cells).any():
        return None, None
    if len(cells) > len(names):
        names = [f"{finding}: {name}" for finding in ("present", "absent") for name in names]
    return names[int(np.nanargmin(cells))], names[int(np.nanargmax(cells))]
