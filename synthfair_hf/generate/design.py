"""A factorial design: subjects in splits and strata with their draws, and the cells that each of them shows.

    rank  = place in a seeded permutation of the n subjects of the same split and stratum; `draw` follows from it
    shows = every cell where there is no target, otherwise those with  place < share / the largest share
    place = (k + 1/2) / n,  k another permutation of the same n, fixed by the rank

So of n subjects a cell has the whole number nearest to n x share / largest share; those who show it also show every
cell of no smaller share, so that families stay paired; and the largest cell is complete. `place` follows the rank by
steps of the golden ratio: each stretch of `draw` has nearly its own part of every cell, so that a view that trades
another variable by `draw` does not trade a targeted one along with it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from ..records import fingerprint, row_generator
from ..schema import SPLITS
from ..views.draws import Draws, Scheme, places
from .allocation import Allocation

__all__ = ["Design", "Support", "cell_words", "integer"]

Group = tuple[str, tuple[str, ...]]
"""A split and a stratum."""


def integer(*parts: object) -> int:
    """An integer in [0, 2^63) from the sha256 of the parts."""
    return int(fingerprint(parts, length=16), 16) >> 1


def cell_words(stratum: Sequence[str], cell: Mapping[str, Any]) -> str:
    """A cell in words: `group / level / ...`, strata before factors.

    Args:
        stratum: a group of each stratified variable.
        cell: a value of each factor.
    """
    words = (f"{value:g}" if isinstance(value, float) else str(value) for value in cell.values())
    return " / ".join((*stratum, *words))


class Support(BaseModel):
    """What was `observed`, in words, and how many such observations each cell `out_of_support` has, by its words.

    `training_images` is the number of the generator's training images where those were counted; then rows say whether
    their cell is out of support.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    observed: str
    out_of_support: dict[str, int]
    training_images: int | None = None

    @model_serializer(mode="wrap")
    def _as_stored(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the number where there is none: plans written before have no word of it."""
        found: dict[str, Any] = handler(self)
        return {name: value for name, value in found.items() if (name, value) != ("training_images", None)}


@dataclass(frozen=True)
class Design:
    """Who is in which split and stratum, with which draws, and shows which cells.

    `strata` names each stratum; `scheme` has the parity of each cell. `shares` holds the share of each level, factor by
    factor; None gives everybody all cells.
    """

    allocation: Allocation
    strata: Sequence[tuple[str, ...]]
    scheme: Scheme
    shares: Sequence[Sequence[float]] | None
    seed: int

    @cached_property
    def subjects(self) -> dict[str, range]:
        """Subjects of each split that has any."""
        ends = np.cumsum([0, *map(sum, self.allocation.counts)]).tolist()
        return {split: range(*ends) for split, ends in zip(SPLITS, pairwise(ends), strict=True) if ends[0] < ends[1]}

    @cached_property
    def groups(self) -> dict[Group, range]:
        """Subjects of each split and stratum: by turns where strata are equal, else one stratum after another."""
        groups, counts = {}, dict(zip(SPLITS, self.allocation.counts, strict=True))
        for split, subjects in self.subjects.items():
            ends = np.cumsum([0, *counts[split]]).tolist()
            for index, stratum in enumerate(self.strata):
                by_turns, in_a_row = subjects[index :: len(self.strata)], subjects[ends[index] : ends[index + 1]]
                groups[split, stratum] = by_turns if self.allocation.balanced else in_a_row
        return groups

    @cached_property
    def stratum_of(self) -> dict[str, np.ndarray]:
        """Each split's subjects' strata, in their order, as places in `strata`."""
        found = {split: np.empty(len(subjects), dtype=np.int32) for split, subjects in self.subjects.items()}
        for (split, stratum), subjects in self.groups.items():
            found[split][self.offsets(split, subjects)] = self.strata.index(stratum)
        return found

    @cached_property
    def ranks(self) -> dict[str, np.ndarray]:
        """Ranks of each split's subjects within their stratum, in their order."""
        found = {split: np.empty(len(subjects), dtype=np.int64) for split, subjects in self.subjects.items()}
        for (split, stratum), subjects in self.groups.items():
            random = row_generator(integer(self.seed, "draw", split, stratum))
            found[split][self.offsets(split, subjects)] = random.permutation(len(subjects))
        return found

    def draws(self, split: str, subjects: Sequence[int]) -> np.ndarray:
        """Draws of subjects of a split in cells of either parity, `[subjects, 2]`."""
        own = self.offsets(split, subjects)
        ranks, strata = self.ranks[split][own], self.stratum_of[split][own]
        found = np.empty((len(own), 2))
        for stratum in np.unique(strata).tolist():
            inside, size = strata == stratum, len(self.groups[split, self.strata[stratum]])
            for parity in (0, 1):
                found[inside, parity] = self.scheme.draws(size, stratum, parity).of(ranks[inside])
        return found

    @cached_property
    def places(self) -> dict[str, np.ndarray]:
        """Places of each split's subjects, in their order."""
        found = {split: np.empty(len(ranks)) for split, ranks in self.ranks.items()}
        for (split, _), subjects in self.groups.items():
            own = self.offsets(split, subjects)
            found[split][own] = places(self.ranks[split][own])
        return found

    @cached_property
    def cuts(self) -> np.ndarray | None:
        """The place below which a subject shows each cell, `[cells]` in (0, 1]; None where everybody shows all."""
        if self.shares is None:
            return None
        found = np.array(list(map(math.prod, product(*self.shares))))
        return found / found.max()

    def totals(self, split: str, stratum: tuple[str, ...]) -> np.ndarray:
        """How many subjects of a split and stratum show each cell, `[cells]`, without looking at one."""
        size = len(self.groups[split, stratum])
        if self.cuts is None:
            return np.full(len(self.scheme.parities), size)
        # places are the draws of an even grid, in another order
        return np.array([Draws(size, nudged=False).below(cut) for cut in self.cuts.tolist()])

    def recipes(self, split: str, subjects: Sequence[int], number: int) -> np.ndarray:
        """Which of so many recipes each subject of a split has, `[subjects]`: by rank, so that strata have equal parts.

        A subject of the next rank has the next recipe, from one on that the seed gives to the split.
        """
        shift = integer(self.seed, "recipe", split) % number
        return (self.ranks[split][self.offsets(split, subjects)] + shift) % number

    def offsets(self, split: str, subjects: Sequence[int] | np.ndarray) -> np.ndarray:
        """Places of subjects within their split, `[subjects]`."""
        return np.array(subjects, dtype=np.int64) - self.subjects[split].start

    def members(self, split: str, offset: int) -> Sequence[int]:
        """The cells that one subject of a split shows, in order."""
        if self.cuts is None:
            return range(len(self.scheme.parities))
        members: list[int] = np.flatnonzero(self.places[split][offset] < self.cuts).tolist()
        return members

    def rows(self, split: str, subjects: Sequence[int]) -> np.ndarray:
        """How many of these subjects of a split show each cell, `[cells]`."""
        if self.cuts is None:
            return np.full(len(self.scheme.parities), len(subjects))
        found = self.places[split][self.offsets(split, subjects)]
        return np.array([np.count_nonzero(found < cut) for cut in self.cuts])
