"""The shares that a view really has in a train of so many subjects, without a row being looked at.

    rows of a view in a cell and stratum = #{draw < high} - #{draw < low}     of the subjects who show the cell

is arithmetic of `draws` where every subject shows every cell. A share is met within half a subject: of m rows wanted in
a group, as many as there are differ by no more than half of what one subject can show in it; and a group that is to
have rows has some. (Those of one boundary subject in each stratum may be divided between two groups.)
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np

from ..domains.preset import Preset
from ..errors import InputError
from ..schema import SPLITS
from .draws import VERSIONS, Scheme, parities, places
from .grammar import Clause, groups_of
from .view import COMPARE, TRAIN, BiasedView, curated_views

__all__ = [
    "Realised",
    "Train",
    "allocated",
    "largest_remainder",
    "levels_of",
    "listed_views",
    "promised_shares",
    "realised_shares",
    "strata_of",
    "unmet_views",
]


def largest_remainder(total: int, fractions: Sequence[float]) -> list[int]:
    """Non-negative integers that sum to `total`, each less than one away from its share; ties go to the first.

    Args:
        total: 0 or more.
        fractions: not negative; their sum counts as the whole.
    """
    whole = math.fsum(fractions)
    quotas = [total * fraction / whole for fraction in fractions]
    counts = [math.floor(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda index: counts[index] - quotas[index])
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return counts


def allocated(
    num_subjects: int, fractions: Sequence[float], shares: Sequence[float], balanced: bool
) -> list[list[int]]:
    """Subjects by split and stratum.

    Args:
        num_subjects: in all.
        fractions: of the splits.
        shares: of the strata.
        balanced: give every stratum of a split as many subjects as the next, instead.
    """
    if balanced:
        return [[count] * len(shares) for count in largest_remainder(num_subjects // len(shares), fractions)]
    return [largest_remainder(size, shares) for size in largest_remainder(num_subjects, fractions)]


def strata_of(preset: Preset, factors: Sequence[str], target: Mapping[str, Any]) -> tuple[str, ...]:
    """Variables that divide subjects: the preset's that have no target, then those that have one, without factors."""
    balanced = (name for name in preset.strata if name not in target)
    targeted = (name for name in preset.covariates.names if name in target)
    return tuple(name for name in (*balanced, *targeted) if name not in factors)


def levels_of(
    name: str, preset: Preset, factors: Sequence[str], levels: Mapping[str, Sequence[float | str]]
) -> Sequence[float | str]:
    """What a variable is balanced or targeted over: a factor's crossed levels, another's contrast groups."""
    if name in factors:
        return levels.get(name, preset.covariates[name].levels)
    return preset.contrasts[name].first, preset.contrasts[name].second


class Realised(NamedTuple):
    """A promised share and what became of it: `rows` of the `base` rows of train it is of.

    `subject` is the number of rows that one subject can have among `rows`.
    """

    words: str
    share: float
    rows: int
    base: int
    subject: int

    @property
    def exact(self) -> bool:
        """Whether the share is the promised one, to the row."""
        return abs(self.rows - self.share * self.base) < 1e-6

    @property
    def met(self) -> bool:
        """Whether it is the promised one within half a subject, and nobody is left out who is not meant to be."""
        empty = 0 < self.share < 1 and self.rows in (0, self.base)
        return not empty and abs(self.rows - self.share * self.base) <= self.subject / 2 + 1e-6

    def __str__(self) -> str:
        found = f"{100 * self.rows / self.base:.3g} %" if self.base else "no share"
        return f"{self.words} {self.rows} of {self.base} rows, {found} instead of {100 * self.share:.0f} %"


@dataclass(frozen=True)
class Train:
    """The subjects of train by stratum, and the cells that they show.

    `names` are the variables of strata, `strata` the group of each of them by stratum, `sizes` the subjects of each.
    `cells` holds encoded values of the factors; a subject shows those with place < `cuts`.
    """

    preset: Preset
    names: tuple[str, ...]
    strata: tuple[tuple[str, ...], ...]
    sizes: tuple[int, ...]
    cells: tuple[dict[str, float], ...]
    cuts: tuple[float, ...]
    scheme: Scheme

    @classmethod
    def of(cls, preset: Preset, settings: Mapping[str, Any]) -> "Train | None":
        """Train of a data set by the settings of its plan, as its record holds them; None where these lack some.

        Args:
            preset: the plan's, which says what it balances.
            settings: those of a plan.

        Raises:
            InputError: settings that are none of a plan's.
        """
        if not {"num_subjects", "split_fractions", "factors"} <= settings.keys():
            return None
        try:
            return cls._of(preset, settings)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise InputError(f"settings: not those of a plan of {preset.name} ({error}); generate it again.") from None

    @classmethod
    def _of(cls, preset: Preset, settings: Mapping[str, Any]) -> "Train":
        factors, target = settings["factors"], settings.get("target") or {}

        def levels(name: str) -> Sequence[float | str]:
            return levels_of(name, preset, factors, settings.get("levels") or {})

        def shares(names: Sequence[str]) -> list[list[float]]:
            equal = {name: dict.fromkeys(levels(name), 1 / len(levels(name))) for name in names}
            return [list(target.get(name, equal[name]).values()) for name in names]

        names = strata_of(preset, factors, target)
        fractions = [settings["split_fractions"].get(split, 0.0) for split in SPLITS]
        of_strata, balanced = list(map(math.prod, product(*shares(names)))), not set(names) & set(target)
        sizes = allocated(settings["num_subjects"], fractions, of_strata, balanced)[list(SPLITS).index("train")]
        crossed = [preset.covariates[name].encode(levels(name)).tolist() for name in factors]
        of_cells = np.array(list(map(math.prod, product(*shares(factors)))))
        complete = balanced and all(len(set(one)) == 1 for one in shares(factors))
        strata = tuple(product(*(map(str, levels(name)) for name in names)))
        version = VERSIONS[VERSIONS.index(settings.get("draws_version", 1))]
        scheme = Scheme(version, len(strata), parities([len(one) for one in crossed]), complete)
        cells = tuple(dict(zip(factors, cell, strict=True)) for cell in product(*crossed))
        return cls(preset, names, strata, tuple(sizes), cells, tuple(of_cells / of_cells.max()), scheme)

    def realised(self, view: BiasedView) -> list[Realised]:
        """What becomes of a view's promises; of attributes that generation divides nobody by, nothing is known."""
        kept = [one for one in view.filters if TRAIN in one] or [()]
        known = {*self.names, *self.cells[0], "split", "draw"}
        found = []
        for one in view.promises:
            base = [(*clauses, *one.given) for clauses in kept]
            rows = [(*clauses, *one.chosen) for clauses in base]
            if view.label is not None and not one.chosen:
                rows = [clauses for words, clauses, _ in view.label.changes if words == one.words]
            if known >= {column for clauses in (*base, *rows) for column, _, _ in clauses}:
                found.append(Realised(one.words, one.share, self._rows(rows), self._rows(base), self._subject(rows)))
        return found

    def meets(self, view: BiasedView) -> bool:
        """Whether each share that a view promises is met, as far as it is known."""
        return all(one.met for one in self.realised(view))

    def _rows(self, conjunctions: Sequence[Sequence[Clause]]) -> int:
        """Rows that fulfil one of these conjunctions, of which no two share a row."""
        return sum(self._count(*piece) for clauses in conjunctions for piece in self._pieces(clauses))

    def _subject(self, conjunctions: Sequence[Sequence[Clause]]) -> int:
        """The most rows that one subject whose draws lie between the same ends has among them."""
        pieces = [piece for clauses in conjunctions for piece in self._pieces(clauses)]
        ends = sorted({end for _, low, high, _ in pieces for end in (low, high)})
        return max(
            (
                sum(len(cells) for own, low, high, cells in pieces if own == stratum and low <= start and stop <= high)
                for stratum in range(len(self.strata))
                for start, stop in pairwise(ends)
            ),
            default=0,
        )

    def _pieces(self, clauses: Sequence[Clause]) -> list[tuple[int, float, float, list[int]]]:
        """A conjunction as (stratum, lowest draw, end of draws, cells)."""
        low, high = 0.0, 1.0
        strata, cells = frozenset(range(len(self.strata))), frozenset(range(len(self.cells)))
        for clause in clauses:
            column, operator, value = clause
            if column == "draw":
                low, high = (max(low, float(value)), high) if operator == ">=" else (low, min(high, float(value)))
            elif column in self.names:
                strata &= self._fulfilling(clause)
            elif column != "split":
                cells &= self._fulfilling(clause)
        return [(stratum, low, high, sorted(cells)) for stratum in sorted(strata) if low < high and cells]

    @cached_property
    def _fulfilling(self) -> Callable[[Clause], frozenset[int]]:
        """The strata that a clause about one of `names` is true of; of another clause, the cells."""

        @cache
        def fulfilling(clause: Clause) -> frozenset[int]:
            column, operator, value = clause
            if column not in self.names:
                return frozenset(i for i, cell in enumerate(self.cells) if COMPARE[operator](cell[column], value))
            words = next(group.words for group in groups_of(column, self.preset) if group.clause == clause)
            place = self.names.index(column)
            return frozenset(i for i, stratum in enumerate(self.strata) if stratum[place] == words)

        return fulfilling

    def _count(self, stratum: int, low: float, high: float, cells: Sequence[int]) -> int:
        return sum(
            self._below(stratum, self.scheme.parities[cell], self.cuts[cell], high)
            - self._below(stratum, self.scheme.parities[cell], self.cuts[cell], low)
            for cell in cells
        )

    @cached_property
    def _below(self) -> Any:
        """Subjects of a stratum who show a cell of a parity and cut, with a draw below an edge."""

        @cache
        def shown(size: int, cut: float) -> np.ndarray:
            return np.concatenate([[0], np.cumsum(places(np.arange(size)) < cut)])

        @cache
        def below(stratum: int, parity: int, cut: float, edge: float) -> int:
            size = self.sizes[stratum]
            ranks = self.scheme.draws(size, stratum, parity).below(edge)
            return ranks if cut >= 1 else int(shown(size, cut)[ranks])

        return below


def listed_views(preset: Preset, train: Train | None) -> tuple[BiasedView, ...]:
    """The curated views whose shares this train meets; all of them where it is not known.

    Args:
        preset: the data set's.
        train: its training subjects.
    """
    views = curated_views(preset)
    return views if train is None else tuple(filter(train.meets, views))


def unmet_views(preset: Preset, train: Train | None) -> dict[str, str]:
    """The curated views that are not listed, by name, each with the shares that it really has."""
    if train is None:
        return {}
    return {view.name: realised_shares(view, train) for view in curated_views(preset) if not train.meets(view)}


def promised_shares(view: BiasedView) -> str:
    """The shares that a view's name says, in a few words.

    Args:
        view: of any data set.
    """
    return ", ".join(f"{one.words} {100 * one.share:.3g} %" for one in view.promises) or "every row"


def realised_shares(view: BiasedView, train: Train | None) -> str:
    """The shares of a view that are not to the row what its name says, in a sentence; empty where there is none.

    Args:
        view: of the data set.
        train: its training subjects.
    """
    found = [] if train is None else [one for one in train.realised(view) if not one.exact]
    if train is None or not found:
        return ""
    counts = f"{sum(train.sizes)} subjects of train"
    if all(one.met for one in found):
        return f"To the nearest of the {counts}: {'; '.join(map(str, found))}."
    return f"The {counts} cannot give these shares: {'; '.join(map(str, found))}."
