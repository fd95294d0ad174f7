"""Equalized odds by randomised thresholds (Hardt et al. 2016): both error rates equal, with an unchanged network.

    minimise    P(y = 0) f - P(y = 1) t     over f, t and a >= 0
    subject to  sum_k a_gk = 1,   sum_k a_gk FPR_g(k) = f,   sum_k a_gk TPR_g(k) = t     for every group g

k are all thresholds between the scores of group g in validation, a_gk the probability of using that one: a linear
programme, whose (f, t) is the point of least error that the convex hulls of the groups' ROC curves share. The draw is a
function of the image, so an image always has the same threshold. As in `threshold_postprocessing`, a row's logit is
shifted by its threshold; here, rows of a group may change their order. With one group the threshold is 1/2.
"""

import hashlib

import numpy as np
from scipy.optimize import linprog
from torch import Tensor

from .threshold_postprocessing import ThresholdPostprocessing

__all__ = ["EqualizedOddsPostprocessing", "equalized_odds_mixtures", "uniform_of"]

Mixture = tuple[np.ndarray, np.ndarray]
"""Thresholds in logits `[k]`, and the probability of each `[k]`."""


def equalized_odds_mixtures(logits: np.ndarray, present: np.ndarray, groups: np.ndarray) -> dict[int, Mixture]:
    """Solve the linear programme.

    Args:
        logits: `[n]`.
        present: bool `[n]`, whether the finding is present; every group has rows with and without it.
        groups: int `[n]`.

    Returns:
        By group, the thresholds that are used and their probabilities.
    """
    codes = np.unique(groups)
    if len(codes) == 1:
        return {int(codes[0]): (np.zeros(1), np.ones(1))}
    thresholds, rows = [], []
    for code in codes:
        own, label = logits[groups == code], present[groups == code]
        ordered = np.unique(own)
        thresholds.append(np.array([ordered[0] - 1, *(ordered[:-1] + ordered[1:]) / 2, ordered[-1] + 1]))
        above = own[:, None] > thresholds[-1]
        rows.append(np.stack([np.ones(above.shape[1]), above[~label].mean(axis=0), above[label].mean(axis=0)]))
    ends = np.cumsum([0, *(len(one) for one in thresholds)])
    equations = np.zeros((3 * len(codes), ends[-1] + 2))
    for place, one in enumerate(rows):
        block = equations[3 * place : 3 * place + 3]
        block[:, ends[place] : ends[place + 1]] = one
        block[1, -2] = block[2, -1] = -1
    cost = np.array([*np.zeros(ends[-1]), 1 - present.mean(), -present.mean()])
    found = linprog(cost, A_eq=equations, b_eq=np.tile([1, 0, 0], len(codes)), bounds=(0, 1), method="highs").x
    mixtures = {}
    for place, code in enumerate(codes):
        share = found[ends[place] : ends[place + 1]].clip(0)
        used = share > 1e-9
        mixtures[int(code)] = thresholds[place][used], share[used] / share[used].sum()
    return mixtures


def uniform_of(image: Tensor) -> float:
    """A number in [0, 1) that is a function of an image's bytes, uniform over images."""
    return int.from_bytes(hashlib.sha256(image.contiguous().numpy().tobytes()).digest()[:6], "big") / 2**48


class EqualizedOddsPostprocessing(ThresholdPostprocessing):
    """Chooses, for each group of an attribute, thresholds and how often each is used."""

    sides = {True: "with the finding", False: "without the finding"}  # noqa: RUF012 - as its base declares it

    def choose(self, logits: np.ndarray, present: np.ndarray, groups: np.ndarray) -> None:
        """Choose the mixtures by the rows of validation."""
        self.thresholds = equalized_odds_mixtures(logits, present, groups)

    def shifts(self, images: Tensor, codes: list[int]) -> list[float]:
        """The threshold of each row `[n]`, drawn by its image."""
        found = []
        for image, code in zip(images, codes, strict=True):
            thresholds, shares = self.thresholds[code]
            place = np.searchsorted(shares.cumsum()[:-1], uniform_of(image), side="right")
            found.append(float(thresholds[place]))
        return found
