"""Agreement of two judges, over the pairs of images that both compared.

    share = equal preferences / n,      kappa = (share - chance) / (1 - chance)      (Cohen 1960)
    chance = p q + (1 - p) (1 - q),      p, q: how often each judge prefers the image whose digest sorts first

That order of the two images is arbitrary, so chance is near one half and kappa near 2 share - 1. Ties are left out: two
judges who both find no difference are not counted as agreeing.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from .pairs import Preferences

__all__ = ["Agreement", "agreement"]


class Agreement(NamedTuple):
    """Of two judges: pairs both compared, the share of equal preferences with its 95 % Wilson interval, and kappa.

    The interval takes pairs as independent. None where n is 0; kappa also where both always give one and the same.
    """

    n: int
    share: float | None
    low: float | None
    high: float | None
    kappa: float | None


def agreement(preferences: Preferences) -> dict[tuple[str, str], Agreement]:
    """Agreement by pair of judges, names sorted. A comparison that one judge made several times counts once."""
    given: dict[str, dict[str, bool]] = {judge: {} for judge in sorted(set(preferences.judges.tolist()))}
    for judge, (comparison, answer) in zip(preferences.judges.tolist(), preferences.answers(), strict=True):
        given[judge][comparison] = answer
    found = {}
    for one, other in combinations(given, 2):
        shared = sorted(set(given[one]) & set(given[other]))
        found[one, other] = _agreement(*(np.array([given[judge][key] for key in shared]) for judge in (one, other)))
    return found


def _agreement(one: np.ndarray, other: np.ndarray) -> Agreement:
    n = len(one)
    if not n:
        return Agreement(0, None, None, None, None)
    same = int((one == other).sum())
    interval = binomtest(same, n).proportion_ci(method="wilson")
    # both always give the one same answer: chance is 1, and kappa 0 / 0
    defined = len({*one.tolist(), *other.tolist()}) > 1
    kappa = float(cohen_kappa_score(one, other)) if defined else None
    return Agreement(n, same / n, float(interval.low), float(interval.high), kappa)
