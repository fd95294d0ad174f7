"""Data drift between a reference and a window of predictions, by subgroup: figures, intervals and tests.

    without labels   scores       everyone, each group   population stability index (PSI) over ten bins of equal count
                     mix          each attribute         PSI over its groups; rows of unknown group are one
    of labelled rows performance  everyone, each group   AUC, TPR and FPR of the window less those of the reference
                     gap          each attribute         their gaps of the window less those of the reference

    PSI = sum over bins of (q - p) ln(q / p);  p, q: shares of reference and window, half a row added to each bin

PSI is above 0 by chance too, the more the fewer rows there are (Yurdakul and Naranjo 2020), so `expected` has its mean
over permutations beside it. Permuted is which rows are of the window, among subjects of equally many rows, and of
labelled rows given the label (`permutation`). All figures of one kind of rows share their permutations: p is the share
of these in which the largest of all figures, each standardised by its own mean and deviation, is as large as this one
(maxT, Westfall and Young 1993). So without drift the chance that any p is at most a is at most a, and p needs no
adjustment for the number of groups. A subject that is in both periods counts as two: if its scores are alike, alarms
are rarer.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ..measure.intervals import percentile_interval, resample
from ..records import row_generator
from .audit import EVERYONE
from .groups import Groups
from .permutation import exchangeable, permute
from .rates import METRICS, rates

__all__ = ["KINDS", "UNKNOWN", "Drift", "Sample", "drift", "population_stability_index"]

UNKNOWN = -1
"""The label of a row that has none yet."""

COMPARED = ("auc", "tpr", "fpr")
"""Metrics whose change is tested: those of rows of one label, which a change of prevalence alone leaves as they are."""

KINDS = {"scores": False, "mix": False, "performance": True, "gap": True}
"""What can drift, and whether labels are needed to see it."""

BINS = 10
_BLOCK = 2**20  # weights held at once
_TIE = 1e-9  # sums of the same numbers in another order differ by rounding

Compare = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Weights of all rows as the reference's and as the window's, `[b, n]` each -> figures `[b, k]`."""


class Sample(NamedTuple):
    """Rows of predictions.

    Attributes:
        scores: `[n]` in [0, 1].
        labels: int64 `[n]`, 0, 1 or UNKNOWN.
        groups: by attribute, of the same names in every sample that is compared.
        subjects: int64 `[n]`.
    """

    scores: np.ndarray
    labels: np.ndarray
    groups: Mapping[str, Groups]
    subjects: np.ndarray

    def where(self, kept: np.ndarray) -> "Sample":
        """The rows of a mask, or of places.

        Args:
            kept: bool `[n]` or int64.
        """
        groups = {name: Groups(own.codes[kept], own.names) for name, own in self.groups.items()}
        return Sample(self.scores[kept], self.labels[kept], groups, self.subjects[kept])

    def subgroups(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """(attribute, group, mask `[n]`) of all rows and of each group."""
        yield EVERYONE, EVERYONE, np.ones(len(self.scores), dtype=bool)
        for attribute, (codes, names) in self.groups.items():
            yield from ((attribute, name, codes == code) for code, name in enumerate(names))


class Drift(NamedTuple):
    """One figure of a window against the reference; NaN where there is none.

    Attributes:
        kind: of KINDS.
        attribute: whose groups, or EVERYONE.
        group: the group; empty for a figure over all groups of the attribute.
        metric: psi, or one of COMPARED.
        value: the PSI, or the difference.
        low: lower end of its interval, by a bootstrap over subjects of both periods.
        high: upper end.
        expected: the mean of its size over permutations.
        n: rows of the window that it is of.
        n_reference: those of the reference.
        p: adjusted for all figures of KINDS that need labels, or of those that need none, of this window.
    """

    kind: str
    attribute: str
    group: str
    metric: str
    value: float
    low: float
    high: float
    expected: float
    n: int
    n_reference: int
    p: float


def drift(
    reference: Sample,
    current: Sample,
    threshold: float,
    seed: tuple[int, ...],
    n_bootstrap: int,
    permutations: int,
    level: float = 0.95,
) -> list[Drift]:
    """Every figure of a window against the reference.

    Args:
        reference: rows of the period to compare with.
        current: rows of the window, none or more.
        threshold: scores at or above it are predicted present.
        seed: of bootstrap and permutations, 0 or more each.
        n_bootstrap: replicates of every interval.
        permutations: of the tests.
        level: confidence level of the intervals.
    """
    both = Sample(
        np.concatenate([reference.scores, current.scores]),
        np.concatenate([reference.labels, current.labels]),
        {
            name: Groups(np.concatenate([own.codes, current.groups[name].codes]), own.names)
            for name, own in reference.groups.items()
        },
        # a subject counts anew in the window
        np.concatenate([reference.subjects, reference.subjects.max() + 1 + current.subjects]),
    )
    later = np.arange(len(both.scores)) >= len(reference.scores)
    known = both.labels != UNKNOWN
    return [
        *_compared(both, later, None, *_unlabelled(both), (*seed, 0), n_bootstrap, permutations, level),
        *_compared(
            both.where(known),
            later[known],
            both.labels[known],
            *_labelled(both.where(known), threshold),
            (*seed, 1),
            n_bootstrap,
            permutations,
            level,
        ),
    ]


def population_stability_index(reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    """PSI of counts, NaN where either has no rows.

    Args:
        reference: rows by bin, `[..., k]`.
        current: those of the window, `[..., k]`.
    """
    known = (reference.sum(-1) > 0) & (current.sum(-1) > 0)
    p, q = ((counts + 0.5) / (counts + 0.5).sum(-1, keepdims=True) for counts in (reference, current))
    return np.where(known, ((q - p) * np.log(q / p)).sum(-1), np.nan)


Title = tuple[str, str, str, str, np.ndarray]
"""kind, attribute, group, metric, mask of the rows."""


def _unlabelled(both: Sample) -> tuple[list[Title], Compare]:
    titles: list[Title] = []
    bins: list[np.ndarray] = []
    for attribute, group, mask in both.subgroups():
        titles.append(("scores", attribute, group, "psi", mask))
        bins.append(_one_hot(_by_count(both.scores[mask])))
    for attribute, (codes, names) in both.groups.items():
        everyone = np.ones(len(codes), dtype=bool)
        titles.append(("mix", attribute, "", "psi", everyone))
        bins.append(_one_hot(np.where(codes < 0, len(names), codes)))

    def compare(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        pairs = zip(titles, bins, strict=True)
        found = [population_stability_index(before[:, own[4]] @ hot, after[:, own[4]] @ hot) for own, hot in pairs]
        return np.stack(found, axis=1)

    return titles, compare


def _labelled(both: Sample, threshold: float) -> tuple[list[Title], Compare]:
    subgroups = list(both.subgroups())
    titles: list[Title] = [
        ("performance", attribute, group, metric, mask) for attribute, group, mask in subgroups for metric in COMPARED
    ]
    titles += [
        ("gap", attribute, "", metric, codes >= 0)
        for attribute, (codes, _) in both.groups.items()
        for metric in COMPARED
    ]
    parts = [rates(both.scores[own], both.labels[own], np.arange(own.sum()), threshold) for _, _, own in subgroups]
    places = [list(METRICS).index(metric) for metric in COMPARED]
    of = {name: [place for place, own in enumerate(subgroups) if own[0] == name] for name in both.groups}

    def compare(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        # periods, replicates, subgroups, metrics
        values = np.stack(
            [
                np.stack([part(weights[:, own[2]])[:, places] for part, own in zip(parts, subgroups, strict=True)], 1)
                for weights in (before, after)
            ]
        )
        change = values[1] - values[0]
        # gaps are over the groups that have the metric in both periods
        seen = np.isfinite(change)
        found = [change.reshape(len(change), -1)]
        for own in of.values():
            shown = seen[:, own]
            most = np.where(shown, values[:, :, own], -np.inf).max(axis=2)
            least = np.where(shown, values[:, :, own], np.inf).min(axis=2)
            gap = np.where(shown.sum(axis=1) > 1, most - least, np.nan)
            found.append(gap[1] - gap[0])
        return np.concatenate(found, axis=1)

    return titles, compare


def _compared(
    both: Sample,
    later: np.ndarray,
    labels: np.ndarray | None,
    titles: list[Title],
    compare: Compare,
    seed: tuple[int, ...],
    n_bootstrap: int,
    permutations: int,
    level: float,
) -> Iterator[Drift]:
    """The figures of rows of which `later` says which are of the window; `labels` are given to the test, or not."""
    n, drawn, sizes = len(later), np.empty((0, len(titles))), np.full((1, len(titles)), np.nan)
    point = np.full(len(titles), np.nan)
    if later.any() and not later.all():
        point = compare(*_split(later[None]))[0]
        step = max(1, _BLOCK // n)
        rng = row_generator(*seed, 0)
        blocks = exchangeable(both.subjects, labels)
        sizes = np.concatenate(
            [np.abs(point)[None]]
            + [
                np.abs(compare(*_split(np.stack([permute(later, blocks, rng) for _ in range(some)]))))
                for some in _steps(permutations, step)
            ]
        )
        _, subjects = np.unique(both.subjects, return_inverse=True)
        rng, count = row_generator(*seed, 1), subjects[~later].max() + 1
        drawn = np.concatenate(
            [_resampled(rng, some, subjects, later, count, compare) for some in _steps(n_bootstrap, step)]
        )
    p, expected = _max_t(sizes)
    for place, (kind, attribute, group, metric, mask) in enumerate(titles):
        own, value = drawn[:, place][np.isfinite(drawn[:, place])], point[place]
        people = [len(np.unique(both.subjects[mask & side])) for side in (later, ~later)]
        # every replicate of one subject is this subject again
        told = np.isfinite(value) and len(own) > 0 and min(people) > 1
        low, high = percentile_interval(own, (1 - level) / 2) if told else (np.nan, np.nan)
        n_window, n_reference = (int((mask & side).sum()) for side in (later, ~later))
        figures = {"value": value, "low": low, "high": high, "expected": expected[place], "p": p[place]}
        yield Drift(
            kind,
            attribute,
            group,
            metric,
            n=n_window,
            n_reference=n_reference,
            **{name: float(one) for name, one in figures.items()},
        )


def _split(later: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weights of rows as the reference's and as the window's."""
    return (~later).astype(np.float64), later.astype(np.float64)


def _resampled(
    rng: np.random.Generator, some: int, subjects: np.ndarray, later: np.ndarray, count: int, compare: Compare
) -> np.ndarray:
    """Figures of replicates, in which subjects of either period are drawn; `count` subjects are the reference's."""

    def given(weights: np.ndarray) -> np.ndarray:
        return weights

    numbers = (count, int(subjects.max()) + 1 - count)
    weights = np.concatenate([resample(rng, some, number, given) for number in numbers], axis=1)[:, subjects]
    return compare(weights * ~later, weights * later)


def _max_t(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P and mean of each figure `[k]`, of sizes `[1 + permutations, k]` whose first row is the data."""
    seen = np.isfinite(sizes)
    times = seen.sum(axis=0)
    held = np.where(seen, sizes, 0)
    mean = np.divide(held.sum(axis=0), times, out=np.full(sizes.shape[1], np.nan), where=times > 0)
    squares = (np.where(seen, sizes - mean, 0) ** 2).sum(axis=0)
    deviation = np.sqrt(np.divide(squares, times, out=np.zeros(sizes.shape[1]), where=times > 0))
    varies = seen & (deviation > _TIE)
    standard = np.divide(sizes - mean, deviation, out=np.full(sizes.shape, -np.inf), where=varies)
    largest = standard.max(axis=1)
    reached = (largest[:, None] >= standard[0] - _TIE).mean(axis=0)
    return np.where(varies[0], reached, np.nan), mean


def _steps(count: int, step: int) -> Iterator[int]:
    yield from (min(step, count - first) for first in range(0, count, step))


def _by_count(scores: np.ndarray) -> np.ndarray:
    """The bin of each score: BINS bins of equal count, fewer where scores are alike; bins do not know the period."""
    if not len(scores):
        return np.zeros(0, dtype=np.int64)
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, BINS + 1)[1:-1], method="inverted_cdf"))
    return np.searchsorted(edges, scores)


def _one_hot(codes: np.ndarray) -> np.ndarray:
    """`[n, k]`, of n codes."""
    return np.eye(int(codes.max(initial=0)) + 1)[codes]
