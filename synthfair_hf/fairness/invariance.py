"""Counterfactual invariance: whether the scores of the same subjects have another distribution under do(attribute).

    energy_distance = 2 * integral of (F - G)^2    F, G: distribution functions of the scores at two levels of a pair
    p = (1 + permutations at least as far apart) / (1 + permutations)

Under invariance a subject's scores at two levels are exchangeable, so a permutation exchanges them for each subject or
not, all pairs of a subject together: an exact test for any number of pairs. It asks what Ma et al. (2025,
arXiv:2504.19621) ask of generated counterfactuals, by a distance that needs no bandwidth (Szekely and Rizzo 2013).
Several pairs of levels are several tests: `p_adjusted` is Holm's, the least of them that of the line over all pairs.

`flips.flip_rates` tells how many predictions change; this, whether that could be chance. A classifier whose scores
change for each subject but are distributed as before passes this test and not that one.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas

from ..arguments import Replicates, Seed, checked
from ..errors import InputError
from ..records import row_generator
from .flips import ANY, pairs_of
from .permutation import holm

__all__ = ["invariance_test"]

_BLOCK = 2**20  # numbers of permuted rows held at once
_TIE = 1e-12  # sums of the same numbers in another order differ by rounding


@checked
def invariance_test(
    scores: Sequence[float],
    subjects: Sequence[Any],
    factors: Mapping[str, Sequence[Any]],
    attribute: str,
    seed: Seed = 0,
    permutations: Replicates = 999,
) -> pandas.DataFrame:
    """Test whether do(attribute) changes the distribution of a classifier's scores.

    Args:
        scores: probabilities `[n]` in [0, 1] that the finding is present.
        subjects: identifiers `[n]`, text or numbers; all counterfactuals of one observation share theirs.
        factors: by name, the value of each row `[n]`: everything that families cross, `attribute` included, and nothing
            else.
        attribute: the factor that is intervened on.
        seed: of the permutations.
        permutations: their number, from 1.

    Returns:
        One line per pair of levels, in their order, and one over all pairs with the largest distance: attribute,
        from, to, energy_distance, p, p_adjusted, n (pairs), subjects. Without pairs a figure is NaN, with n 0.

    Raises:
        InputError: an argument is invalid, or a subject has two rows with the same factors.
    """
    if permutations < 1:
        raise InputError(f"permutations: {permutations} out of range; allowed: from 1.")
    found = []
    for pair in pairs_of(scores, subjects, factors, attribute):
        numbers, names = pandas.factorize(pair.subjects)
        distance = p = math.nan
        if len(numbers):
            distance, chance = _distances(pair.before, pair.after, numbers, permutations, seed)
            p = (1 + int((chance >= distance - _TIE).sum())) / (1 + permutations)
        levels = {"attribute": attribute, "from": pair.start, "to": pair.end}
        found.append(levels | {"energy_distance": distance, "p": p, "n": len(numbers), "subjects": len(names)})
    columns = ["attribute", "from", "to", "energy_distance", "p", "n", "subjects"]
    table = pandas.DataFrame(found, columns=columns).astype({"energy_distance": float, "p": float})
    table.insert(5, "p_adjusted", holm(table["p"].to_numpy()))
    least = table["p_adjusted"].min()
    levels = {"attribute": attribute, "from": ANY, "to": ANY, "energy_distance": table["energy_distance"].max()}
    sizes = {"n": table["n"].sum(), "subjects": table["subjects"].max() if found else 0}
    table.loc[len(table)] = levels | {"p": least, "p_adjusted": least} | sizes
    return table


def _distances(
    before: np.ndarray, after: np.ndarray, subjects: np.ndarray, permutations: int, seed: int
) -> tuple[float, np.ndarray]:
    """Energy distance of the pairs, and of each permutation `[permutations]`."""
    pooled, n = np.concatenate([before, after]), len(before)
    order = np.argsort(pooled, kind="stable")
    steps, side = np.diff(pooled[order]), np.repeat([1.0, -1.0], n)[order] / n
    owner = np.concatenate([subjects, subjects])[order]

    def distances(signs: np.ndarray) -> np.ndarray:
        apart = np.cumsum(signs[:, owner] * side, axis=1)[:, :-1]
        result: np.ndarray = 2 * (apart**2 @ steps)
        return result

    rng, people = row_generator(seed), int(subjects.max()) + 1
    block = max(1, _BLOCK // len(pooled))
    sizes = [min(block, permutations - first) for first in range(0, permutations, block)]
    chance = [distances(rng.choice([-1.0, 1.0], (size, people))) for size in sizes]
    return float(distances(np.ones((1, people)))[0]), np.concatenate(chance)
