"""Detectors: statistics of how much a classifier's scores depend on an attribute, given the label.

Each is 0 where score and attribute are independent given the label, and comes with a permutation p-value.

    subgroup_gap    max of the gaps (max - min over groups) of AUC, TPR and FPR
    counterfactual  max over levels a, b of |mean over labels of mean (logit under do(b) - logit under do(a))| / s,
                    s the standard deviation of logits within a label
    shortcut        min(2 A - 1, |2 S - 1|): A the area under the ROC curve of a linear probe of the features for the
                    groups, S that of the score itself (Brown et al. 2023 require both: encoded, and unfair)
    slices          adjusted mutual information of the attribute with the sign of a slice's mean error: k-means slices
                    of (features, error) among rows of one label

All comparisons are among rows of one label, so an attribute correlated with the finding is not flagged for that, and
the label itself has no value here. A score raised in a group for both labels adds up, as it does where the group is a
shortcut for the finding; one that is only noisier in a group mostly cancels, except in `subgroup_gap`.

Subjects are the unit of permutation: groups are permuted by `permutation`, and the levels of a counterfactual pair by
subject. The probe is cross-validated by subject. Levels are numbered as they occur, so their names and order do not
matter.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas
from scipy.stats import rankdata
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .permutation import exchangeable, permute
from .rates import METRICS, rates

__all__ = ["DETECTORS", "OF_FEATURES", "Dependence", "Detector", "Evidence"]

FOLDS = 5
"""Folds of the cross-validated probe, by subject."""

SLICES, ROWS_PER_SLICE = 10, 10
"""Largest number of slices of a label, and the mean number of rows of a slice where there are fewer rows."""

_BLOCK = 2**20  # numbers of permuted rows held at once
_TIE = 1e-9  # sums of the same numbers in another order differ by rounding


@dataclass(frozen=True, eq=False)
class Evidence:
    """The input of a detector, for one attribute.

    Attributes:
        logits: float64 `[n]`, of the finding being present.
        features: float64 `[n, d]`, the input of the classifier's last layer.
        labels: `[n]`, 0 or 1.
        codes: `[n]`, the group of each row, numbered as they occur.
        subjects: `[n]`, the subject of each row, numbered.
        pairs: `[n]`, counterfactual pair keys, numbered, or None if the attribute has no pairs.
    """

    logits: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    codes: np.ndarray
    subjects: np.ndarray
    pairs: np.ndarray | None = None

    def comparable(self) -> "Evidence":
        """Rows of the groups that have rows of both labels."""
        kept = [code for code in np.unique(self.codes) if np.unique(self.labels[self.codes == code]).size == 2]
        rows = np.isin(self.codes, kept)
        columns = (self.codes, self.subjects, *(() if self.pairs is None else (self.pairs,)))
        numbered = (pandas.factorize(column[rows])[0] for column in columns)
        return Evidence(self.logits[rows], self.features[rows], self.labels[rows], *numbered)

    @property
    def groups(self) -> int:
        """Number of groups."""
        return int(self.codes.max(initial=-1)) + 1


class Dependence(NamedTuple):
    """The result of a detector for one attribute.

    Attributes:
        statistic: how much scores depend on the attribute; NaN if undefined.
        p: permutation p-value of no dependence; NaN if undefined.
        n: number of rows, or of pairs (`counterfactual`).
        subjects: number of subjects.
        reason: why the statistic is undefined, else empty.
        parts: the quantities that make up the statistic, by name.
    """

    statistic: float
    p: float
    n: int
    subjects: int
    reason: str = ""
    parts: Mapping[str, float] = {}


Detector = Callable[[Evidence, np.random.Generator, int], Dependence]
"""(evidence of comparable groups, generator, number of permutations) -> dependence."""


def subgroup_gap(evidence: Evidence, rng: np.random.Generator, permutations: int) -> Dependence:
    """The largest gap between groups of AUC, TPR and FPR, at threshold 0 of the logits; `parts` holds each gap."""
    scores = 1 / (1 + np.exp(-evidence.logits.clip(-500, 500)))
    metrics = rates(scores, evidence.labels, np.arange(len(scores)))
    places = [list(METRICS).index(name) for name in ("auc", "tpr", "fpr")]

    def gaps(codes: np.ndarray) -> np.ndarray:
        members = codes[:, None] == np.arange(evidence.groups)[:, None]
        values = metrics(members.reshape(-1, len(scores)).astype(np.float64))[:, places]
        return np.ptp(values.reshape(len(codes), evidence.groups, -1), axis=1)

    own = gaps(evidence.codes[None])[0]
    chance = _permuted(evidence, rng, permutations, lambda codes: gaps(codes).max(axis=1))
    parts = dict(zip(("auc_gap", "tpr_gap", "fpr_gap"), own.tolist(), strict=True))
    return _dependence(evidence, float(own.max()), _share(chance, own.max()), parts)


def counterfactual(evidence: Evidence, rng: np.random.Generator, permutations: int) -> Dependence:
    """Shifts of the logit between rows that differ by do(attribute) alone.

    `parts` are of the two levels that differ most, in units of s, the standard deviation of logits within a label:
    `mean_absolute_shift`, and `shift_present` and `shift_absent` of rows with and without the finding, signed so that
    their mean is positive; these two differ where the attribute interacts with the finding.
    """
    if evidence.pairs is None:
        return _undefined(evidence, "no counterfactual pairs")
    cells = pandas.DataFrame({"pair": evidence.pairs, "label": evidence.labels, "subject": evidence.subjects})
    cells["code"], cells["logit"] = evidence.codes, evidence.logits
    # the mean, should rows agree in all of these
    table = cells.pivot_table("logit", ["pair", "label", "subject"], "code").reindex(columns=range(evidence.groups))
    table = table[table.notna().sum(axis=1) >= 2]
    present = table.index.get_level_values("label").to_numpy() == 1
    if not present.any() or present.all():
        return _undefined(evidence, "no counterfactual pairs of both labels")
    subject, names = pandas.factorize(table.index.get_level_values("subject"))
    values, ends = table.to_numpy(), list(combinations(range(evidence.groups), 2))
    scale = _deviation(evidence)

    def shifts(moved: np.ndarray) -> np.ndarray:
        """Logits `[replicates, cells, levels]` -> mean shift `[replicates, label, ends]`; 0 without pairs."""
        difference = np.stack([moved[..., end] - moved[..., start] for start, end in ends], axis=-1)
        known = np.isfinite(difference)
        difference[~known] = 0
        sums = [
            difference[:, rows].sum(axis=1) / np.maximum(1, known[:, rows].sum(axis=1)) for rows in (present, ~present)
        ]
        return np.stack(sums, axis=1) / scale

    own = shifts(values[None])[0]
    means = np.abs(own.mean(axis=0))
    step = max(1, _BLOCK // values.size)
    chance = []
    for first in range(0, permutations, step):
        count = min(step, permutations - first)
        order = np.broadcast_to(np.arange(evidence.groups), (count, len(names), evidence.groups))
        order = rng.permuted(order, axis=2)[:, subject]
        moved = np.take_along_axis(np.broadcast_to(values, order.shape), order, axis=2)
        chance.append(np.abs(shifts(moved).mean(axis=1)).max(axis=1))
    most = int(means.argmax())
    start, end = ends[most]
    pairs = np.isfinite(values[:, end] - values[:, start])
    sign = 1 if own[:, most].mean() >= 0 else -1
    parts = {
        "mean_absolute_shift": float(np.abs(values[pairs, end] - values[pairs, start]).mean() / scale),
        "shift_present": float(sign * own[0, most]),
        "shift_absent": float(sign * own[1, most]),
    }
    p = _share(np.concatenate(chance), means[most])
    return Dependence(float(means[most]), p, int(pairs.sum()), len(names), "", parts)


def shortcut(evidence: Evidence, rng: np.random.Generator, permutations: int) -> Dependence:
    """The attribute is encoded in the features and changes the score: an intersection-union test, p the larger of two.

    `parts`: `probe_auc` A and `score_auc` S, the latter of the group in which it is farthest from 1/2. Both are one
    group against the rest, among rows of one label, averaged over labels; A is averaged over groups as well.
    """
    folds = min(FOLDS, *(_subjects_of(evidence, code, label) for code, label in _cells(evidence)))
    if folds < 2:
        return _undefined(evidence, "a group with rows of one subject")
    probe = _probe(evidence, folds, rng)
    sides = [evidence.labels == label for label in (0, 1)]
    encoded = [[rankdata(probe[side, group]) for group in range(evidence.groups)] for side in sides]
    scored = [rankdata(evidence.logits[side]) for side in sides]

    def areas(codes: np.ndarray) -> np.ndarray:
        """`[replicates, (encoded, scored)]`, both as 2 AUC - 1."""
        members = [[codes[:, side] == group for group in range(evidence.groups)] for side in sides]
        of_probe = np.mean(
            [
                _area(ranks, member)
                for own, theirs in zip(encoded, members, strict=True)
                for ranks, member in zip(own, theirs, strict=True)
            ],
            axis=0,
        )
        of_score = np.mean(
            [[_area(ranks, member) for member in theirs] for ranks, theirs in zip(scored, members, strict=True)], axis=0
        )
        farthest = np.take_along_axis(of_score, np.abs(of_score - 0.5).argmax(axis=0)[None], axis=0)[0]
        return np.stack([2 * of_probe - 1, np.abs(2 * farthest - 1)], axis=1)

    own = areas(evidence.codes[None])[0]
    chance = _permuted(evidence, rng, permutations, areas)
    p = max(_share(chance[:, test], own[test]) for test in (0, 1))
    parts = {"probe_auc": float((1 + own[0]) / 2), "score_auc": float((1 + own[1]) / 2)}
    return _dependence(evidence, float(own.min()), p, parts)


def slices(evidence: Evidence, rng: np.random.Generator, permutations: int) -> Dependence:
    """Mutual information with error slices that were found without the attribute; `parts` holds their number."""
    above, count = np.zeros(len(evidence.labels), dtype=np.int64), 0
    for label in (0, 1):
        rows = np.flatnonzero(evidence.labels == label)
        features, logits = evidence.features[rows], evidence.logits[rows]
        features = features - features.mean(axis=0)
        error = logits - logits.mean()
        # features together and the error alone count alike
        scaled = [part / (np.sqrt((part**2).sum() / len(part)) or 1) for part in (features, error[:, None])]
        points = np.concatenate(scaled, axis=1)
        number = min(SLICES, max(2, len(rows) // ROWS_PER_SLICE), len(np.unique(points, axis=0)))
        found = KMeans(number, n_init=2, random_state=int(rng.integers(2**31))).fit_predict(points)
        mean = np.bincount(found, error, number) / np.bincount(found, minlength=number)
        above[rows], count = mean[found] > 0, count + number
    shared = _permuted(evidence, rng, permutations, lambda codes: _mutual_information(codes, above, evidence.groups))
    own = _mutual_information(evidence.codes[None], above, evidence.groups)[0]
    # permutations keep both margins, so the adjusted information is the larger where this is
    adjusted = float(adjusted_mutual_info_score(evidence.codes, above))
    return _dependence(evidence, adjusted, _share(shared, own), {"slices": float(count)})


DETECTORS: dict[str, Detector] = {
    "subgroup_gap": subgroup_gap,
    "counterfactual": counterfactual,
    "shortcut": shortcut,
    "slices": slices,
}
OF_FEATURES = ("shortcut", "slices")
"""Detectors that look at features; the others look at logits alone."""


def _dependence(evidence: Evidence, statistic: float, p: float, parts: Mapping[str, float]) -> Dependence:
    return Dependence(statistic, p, len(evidence.labels), len(np.unique(evidence.subjects)), "", parts)


def _undefined(evidence: Evidence, reason: str) -> Dependence:
    return Dependence(np.nan, np.nan, 0, len(np.unique(evidence.subjects)), reason)


def _share(chance: np.ndarray, value: float) -> float:
    """p-value: the share of permutations that reach a value, the data counted as one."""
    return float((1 + np.sum(chance >= value - _TIE)) / (1 + len(chance)))


def _permuted(
    evidence: Evidence, rng: np.random.Generator, permutations: int, statistic: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """`statistic` of codes `[replicates, n]`, given the label, for all permutations."""
    blocks = exchangeable(evidence.subjects, evidence.labels)
    step = max(1, _BLOCK // (len(evidence.codes) * evidence.groups))
    found = []
    for first in range(0, permutations, step):
        count = min(step, permutations - first)
        found.append(statistic(np.stack([permute(evidence.codes, blocks, rng) for _ in range(count)])))
    return np.concatenate(found)


def _deviation(evidence: Evidence) -> float:
    """Standard deviation of logits within a label; 1 where they are constant, as all shifts are then 0."""
    return float(np.sqrt(np.mean([evidence.logits[evidence.labels == label].var() for label in (0, 1)]))) or 1.0


def _cells(evidence: Evidence) -> list[tuple[int, int]]:
    return [(code, label) for code in range(evidence.groups) for label in (0, 1)]


def _subjects_of(evidence: Evidence, code: int, label: int) -> int:
    return len(np.unique(evidence.subjects[(evidence.codes == code) & (evidence.labels == label)]))


def _probe(evidence: Evidence, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Probability of each group `[n, groups]` by logistic regression on other subjects' rows of the same label."""
    probability = np.zeros((len(evidence.codes), evidence.groups))
    parts = GroupKFold(folds, shuffle=True, random_state=int(rng.integers(2**31)))
    for train, test in parts.split(evidence.features, groups=evidence.subjects):
        for label in (0, 1):
            fitted, held_out = (rows[evidence.labels[rows] == label] for rows in (train, test))
            codes = evidence.codes[fitted]
            if not len(held_out) or np.unique(codes).size < 2:
                continue  # no rows to predict, or one group to learn from: every group is as likely
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
            model.fit(evidence.features[fitted], codes)
            probability[np.ix_(held_out, model.classes_)] = model.predict_proba(evidence.features[held_out])
    return probability


def _area(ranks: np.ndarray, members: np.ndarray) -> np.ndarray:
    """AUC `[replicates]` of ranks `[n]` (mean ranks of ties), members `[replicates, n]` against the rest."""
    inside = members.sum(axis=1)
    return (members @ ranks - inside * (inside + 1) / 2) / (inside * (len(ranks) - inside))


def _mutual_information(codes: np.ndarray, above: np.ndarray, groups: int) -> np.ndarray:
    """Mutual information `[replicates]` in nats of codes `[replicates, n]` with `above` `[n]`, 0 or 1."""
    sides = np.stack([above == 0, above == 1], axis=1).astype(np.float64)
    joint = np.stack([(codes == group) @ sides for group in range(groups)], axis=1) / len(above)
    expected = joint.sum(axis=2, keepdims=True) * joint.sum(axis=1, keepdims=True)
    ratio = np.divide(joint, expected, out=np.ones_like(joint), where=joint > 0)
    return (joint * np.log(ratio)).sum(axis=(1, 2))
