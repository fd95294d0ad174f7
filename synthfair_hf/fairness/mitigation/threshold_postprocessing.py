"""Thresholds per group (Hardt et al. 2016): one true positive rate for all groups, with an unchanged network.

    t(g; r) : share r of the positives of group g in validation has score > t(g; r), to the nearest row
    r       : of all rates, the one at which predicting by t(g; r) is correct for most rows of validation
    predict_proba = 1 / (1 + e^-(logit(x) - logit(t(g; r))))

The shift moves a group's threshold to 1/2 and keeps the order within the group, so the result is still a score, and
predicting at 1/2 is predicting by the thresholds of the groups. A threshold of 1/2 that has the rate is kept; with one
group r is the rate at 1/2, and scores do not change. Thresholds are deterministic: Hardt's randomised ones reach a rate
exactly, and can equalise false positives as well: `equalized_odds_postprocessing`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError, unknown
from ..classifier import LabelledImages
from ..interface import TrainableClassifier
from .method import GroupSettings, Method, probabilities

__all__ = ["ThresholdPostprocessing", "equal_rate_thresholds", "threshold_for_rate"]


def threshold_for_rate(logits: np.ndarray, rate: float) -> float:
    """A threshold above which the share of logits is nearest to a rate.

    Args:
        logits: `[n]`, of the positives of one group.
        rate: share in [0, 1].

    Returns:
        0 if that is such a threshold, else the midpoint between the two adjacent logits.
    """
    above = int(np.rint(rate * len(logits)))
    ends = max(logits.max(), 0) + 1, min(logits.min(), 0) - 1
    ordered = np.array([ends[0], *np.sort(logits)[::-1], ends[1]], dtype=np.float64)
    high, low = ordered[above : above + 2]
    return 0.0 if low <= 0 < high else float((low + high) / 2)


def equal_rate_thresholds(logits: np.ndarray, present: np.ndarray, groups: np.ndarray) -> dict[int, float]:
    """Thresholds that equalise the true positive rate of all groups, at the rate r with the highest accuracy.

    Args:
        logits: `[n]`.
        present: bool `[n]`, whether the finding is present; every group has rows where it is.
        groups: int `[n]`.

    Returns:
        t(g; r) in logits by group.
    """
    positives = {int(group): np.sort(logits[present & (groups == group)]) for group in np.unique(groups)}
    own = float((logits[present] > 0).mean())
    rates = np.arange(present.sum() + 1) / present.sum() if len(positives) > 1 else np.array([own])
    # rates nearest to the classifier's own come first, so that ties keep them
    best, kept = -1, {group: 0.0 for group in positives}
    for rate in rates[np.argsort(np.abs(rates - own), kind="stable")]:
        found = {group: threshold_for_rate(scores, rate) for group, scores in positives.items()}
        shifts = np.array([found[int(group)] for group in groups])
        right = int(((logits > shifts) == present).sum())
        if right > best:
            best, kept = right, found
    return kept


class ThresholdPostprocessing(Method):
    """Fits by empirical risk minimisation, and chooses `thresholds`, by group of an attribute, in logits."""

    Settings = GroupSettings
    required_annotations = ("validation groups", "groups at prediction")
    settings: GroupSettings
    thresholds: Mapping[int, Any]
    sides: ClassVar[Mapping[bool, str]] = {True: "with the finding"}
    """Rows that every group of validation must have, by whether the finding is present."""

    def learn(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None
    ) -> TrainableClassifier:
        """Empirical risk minimisation, then the thresholds; InputError for a group of validation without such rows."""
        present, groups = validation.labels.numpy() == 1, validation.groups[self.settings.attribute].numpy()
        for side, told in self.sides.items():
            if missing := set(groups.tolist()) - set(groups[present == side].tolist()):
                raise InputError(
                    f"validation: no row {told} in groups {sorted(missing)} of {self.settings.attribute}; their "
                    f"true {'positive' if side else 'negative'} rate is unknown: give more rows."
                )
        classifier = self.optimise(train, validation, seed)
        self.choose(classifier.logits(validation.images).double().numpy(), present, groups)
        return classifier

    def choose(self, logits: np.ndarray, present: np.ndarray, groups: np.ndarray) -> None:
        """Choose the thresholds by the rows of validation, as `equal_rate_thresholds`."""
        self.thresholds = equal_rate_thresholds(logits, present, groups)

    def shifts(self, images: Tensor, codes: list[int]) -> list[float]:
        """The threshold of each row `[n]`, in logits."""
        return [self.thresholds[code] for code in codes]

    def predict_proba(self, images: Tensor, groups: Mapping[str, Tensor] | None = None) -> np.ndarray:
        """Scores whose threshold is 1/2 in every group, as in `Method`; InputError for a group not in validation."""
        logits, attribute = self.classifier.logits(images).double(), self.settings.attribute
        if groups is None or attribute not in groups:
            raise unknown("groups", attribute, groups or ())
        codes = groups[attribute].tolist()
        if len(codes) != len(logits):
            raise InputError(f"groups[{attribute!r}]: {len(codes)} values for {len(logits)} images; give one each.")
        if strange := set(codes) - set(self.thresholds):
            raise InputError(
                f"groups[{attribute!r}]: {sorted(strange)} not in validation; thresholds are known for "
                f"{sorted(self.thresholds)}."
            )
        return probabilities(logits - torch.tensor(self.shifts(images, codes), dtype=torch.float64))
