"""Shares become numbers of subjects, split by split and stratum by stratum.

balanced    n / strata subjects in each stratum, of them `largest_remainder` over the splits
targeted    `largest_remainder` over the splits, and in each of them over the shares of the strata
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import InputError, unknown
from ..schema import SPLITS
from ..views.layout import word
from ..views.shares import allocated

__all__ = ["Allocation", "checked_fractions", "checked_shares"]


def checked_fractions(fractions: Mapping[str, float]) -> tuple[float, ...]:
    """The fractions of all splits, in order; InputError for an unknown or negative one, and a sum that is not 1."""
    for split, fraction in fractions.items():
        if split not in SPLITS:
            raise unknown("split_fractions", split, SPLITS)
        if fraction < 0:
            raise InputError(f"split_fractions[{split!r}]: {fraction:g} is negative; allowed: 0 to 1.")
    if abs(math.fsum(fractions.values()) - 1) > 1e-6:
        raise InputError(f"split_fractions: they sum to {math.fsum(fractions.values()):g}; they must sum to 1.")
    return tuple(fractions.get(split, 0.0) for split in SPLITS)


def checked_shares(name: str, levels: Sequence[float | str], shares: Mapping[str, float]) -> dict[str, float]:
    """The shares of a variable's levels or contrast groups, in their order and by their full names.

    Args:
        name: of the variable.
        levels: its levels, numbers or groups.
        shares: by level, named in full or as in paths (`views.layout.word`), or by a decimal of the number.

    Raises:
        InputError: unless each level has one share, and the shares are positive and sum to 1 (within 1e-6).
    """
    argument, found = f"target[{name!r}]", dict[str, float]()
    for given, share in shares.items():
        level = next((str(level) for level in levels if _means(given, level)), None)
        if level is None:
            raise unknown(argument, given, levels)
        if level in found:
            raise InputError(f"{argument}: {level} is named twice; name each level once.")
        if not share > 0:
            raise InputError(f"{argument}: {share:g} of {level} is not allowed; give a share above 0 and up to 1.")
        found[level] = share
    absent = [str(level) for level in levels if str(level) not in found]
    if absent:
        raise InputError(f"{argument}: {', '.join(absent)} not named; give every level its share.")
    if abs(math.fsum(found.values()) - 1) > 1e-6:
        raise InputError(f"{argument}: the shares sum to {math.fsum(found.values()):g}; they must sum to 1.")
    return {str(level): found[str(level)] for level in levels}


def _means(given: str, level: float | str) -> bool:
    if isinstance(level, str):
        return word(given) == word(level)
    try:
        return np.float32(given) == np.float32(level)
    except ValueError:
        return False


class Allocation(NamedTuple):
    """How many subjects fall into each split and stratum.

    `fractions` of the splits and `shares` of the strata each sum to 1; a split of fraction 0 stays empty. `balanced`
    gives every stratum exactly as many subjects as the next, and takes no number that does not allow it.
    """

    num_subjects: int
    fractions: tuple[float, ...]
    shares: tuple[float, ...]
    balanced: bool = True

    @property
    def counts(self) -> list[list[int]]:
        """Subjects by split and stratum."""
        return allocated(self.num_subjects, self.fractions, self.shares, self.balanced)

    @property
    def fills(self) -> bool:
        """Whether each split that has a fraction has a subject in each stratum, and as many as the next if balanced."""
        if self.balanced and self.num_subjects % len(self.shares):
            return False
        return all(min(found) > 0 for found, fraction in zip(self.counts, self.fractions, strict=True) if fraction)

    def check(self) -> None:
        """Raise InputError, with a number of subjects that would do, when this one does not fill them."""
        if self.fills:
            return
        strata = f"{len(self.shares)} strata"
        if self.balanced:
            raise InputError(
                f"num_subjects: {self.num_subjects} cannot give every split equally many subjects, one or more, in "
                f"each of {strata}; the nearest possible number is {self.nearest}."
            )
        raise InputError(
            f"num_subjects: {self.num_subjects} cannot give every split a subject in each of {strata} by this target; "
            f"{self.nearest} can."
        )

    @property
    def nearest(self) -> int:
        """A number of subjects that fills every split and stratum; of those that balance them, the nearest."""
        smallest = min(fraction for fraction in self.fractions if fraction)
        if self.balanced:
            # from `ample` on every split gets a subject by its whole share alone
            step, ample = len(self.shares), math.ceil(1 / smallest)
            middle = self.num_subjects // step
            tried = range(middle if middle > ample else 1, max(middle, ample) + 2)
            possible = (count * step for count in tried if self._replace(num_subjects=count * step).fills)
            return min(possible, key=lambda number: abs(number - self.num_subjects))
        below, above = 0, math.ceil((1 / min(self.shares) + 2) / smallest)
        while above - below > 1:
            middle = (below + above) // 2
            below, above = (below, middle) if self._replace(num_subjects=middle).fills else (middle, above)
        return above

    def largest(self, available: Sequence[Sequence[int]]) -> int:
        """The largest number up to this one that so many candidates by split and stratum allow; 0 when none does."""
        shares = [
            (most, fraction * share)
            for row, fraction in zip(available, self.fractions, strict=True)
            for most, share in zip(row, self.shares, strict=True)
            if fraction
        ]
        # rounded twice, a count is less than two away from its part
        limit = min(self.num_subjects, *(math.floor((most + 2) / part) for most, part in shares))
        step = len(self.shares) if self.balanced else 1
        for number in range(limit // step * step, 0, -step):
            one = self._replace(num_subjects=number)
            served = (
                needed <= most
                for row in zip(one.counts, available, strict=True)
                for needed, most in zip(*row, strict=True)
            )
            if one.fills and all(served):
                return number
        return 0
