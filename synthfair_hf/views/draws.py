"""The draw of a row, which views filter on: where it stands among the rows of its cell, between 0 and 1.

    draw = (rank + (j + 1/2) / M) / n,    j = s XOR (M - 1) p

in row of a subject that is `rank`-th of the n in stratum s of M, where p is the sum of the places of the row's levels,
modulo 2. So the N = M n subjects of a split have the draws (k + 1/2) / N in every cell, and a share of all of them is
exact to half a subject; and with the cells of both parities each stratum has the same draws, so that a share of strata
is as exact and no strength changes the number of rows. Where one parity has more cells, or a target takes rows away,
j = (M - 1) / 2 everywhere and shares are exact in each stratum alone.

No draw is equal to a share: each is moved away from 1/2 by NUDGE, so that a view and its mirror, with 95 % for 5 %,
have equally many rows in each other's groups. Version 1, of data sets written before, had j = (M - 1) / 2 throughout,
and moved nothing.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["VERSIONS", "Draws", "Scheme", "parities", "places"]

GOLDEN = (math.sqrt(5) - 1) / 2

VERSIONS = (1, 2)
"""How draws have been laid out; new data sets have the last."""

NUDGE = 2.0**-44
"""Less than the distance of a draw and a share of whole percents that differ, far more than a rounding error."""


def parities(levels: Sequence[int]) -> tuple[int, ...]:
    """By cell of the full crossing, the sum modulo 2 of its levels' places.

    Args:
        levels: the number of levels of each factor.
    """
    return tuple((np.indices(tuple(levels)).sum(axis=0).reshape(-1) % 2).tolist()) if levels else (0,)


def places(ranks: np.ndarray) -> np.ndarray:
    """The place in (0, 1) of each of n subjects by its rank: `ranks` `[n]` is a permutation of 0 to n - 1.

    Of the m lowest ranks, those with place < t are within 5 of m x t, as tried for n up to a million.
    """
    n = len(ranks)
    by_rank = np.empty(n)
    by_rank[np.argsort(np.arange(n) * GOLDEN % 1, kind="stable")] = (np.arange(n) + 0.5) / n
    return by_rank[ranks]


class Draws(NamedTuple):
    """The draws that the `size` subjects of a stratum have in a cell: every `parts`-th of a grid, from `part` on."""

    size: int
    parts: int = 1
    part: int = 0
    nudged: bool = True

    def of(self, ranks: np.ndarray) -> np.ndarray:
        """Draws `[n]` in (0, 1) of subjects by their ranks `[n]`, from 0 to size - 1; no rank has a higher one's."""
        draws = (ranks * self.parts + self.part + 0.5) / (self.size * self.parts)
        return draws + NUDGE * np.sign(draws - 0.5) if self.nudged else draws

    def below(self, edge: float) -> int:
        """How many subjects have a draw below `edge`, from 0 to 1: the same as of comparing every one."""
        near = math.floor(edge * self.size)
        ranks = np.arange(max(near - 2, 0), min(near + 3, self.size))
        return max(near - 2, 0) + int(np.count_nonzero(self.of(ranks) < edge))


class Scheme(NamedTuple):
    """How a data set's draws are laid out: the version, the number of strata, and each cell's parity.

    `complete` says that every subject shows every cell, and every stratum has as many subjects as the next.
    """

    version: int
    strata: int
    parities: tuple[int, ...]
    complete: bool

    @property
    def interleaved(self) -> bool:
        """Whether strata and parities have draws of their own."""
        return self.version > 1 and self.complete and 2 * sum(self.parities) == len(self.parities)

    def draws(self, size: int, stratum: int, parity: int) -> Draws:
        """The draws of a stratum of that size in the cells of a parity."""
        if not self.interleaved:
            return Draws(size, nudged=self.version > 1)
        return Draws(size, self.strata, stratum ^ (self.strata - 1) * parity)
