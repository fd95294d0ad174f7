"""A biased view is a filter: rows of one data set, chosen by columns every row carries, so nothing is drawn anew.

    train(A_B) = { first group : draw < A/100 }  ∪  { second group : draw >= A/100 },     validation, test = everything

`draw` runs evenly through [0, 1) in each group and the conditions are complementary: the number of rows is the same at
every strength, shares are exact to the nearest subject, strengths are nested, and 50_50 is the unbiased twin.

    full                                        every row
    <attribute>_imbalanced_<A>_<B>              A % of train from the attribute's first group, B % from its second
    <finding>_<attribute>_correlated_<A>_<B>    that imbalance where the finding is present, its mirror where absent

A and B are whole numbers from 1 to 99 with A + B = 100; the groups are the contrasts of the preset. All of this holds
for what generation balances: the preset's factors, whose levels every subject shows, and its strata, which have equally
many subjects. A view of anything else can be named, but is not curated, and its sentence promises no shares.
"""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from .errors import InputError, unknown
from .layout import Known
from .presets import Preset
from .records import fingerprint

__all__ = ["BiasedView", "Clause", "curated_views", "get_view"]

Operator = Literal["==", "!=", "<", ">="]
Clause = tuple[str, Operator, int | float | str]
"""(column, operator, value); a categorical column holds level indices."""

COMPARE = {"==": np.equal, "!=": np.not_equal, "<": np.less, ">=": np.greater_equal}
TRAIN: Clause = ("split", "==", "train")
EVALUATION: Clause = ("split", "!=", "train")
GRAMMAR = "full, <attribute>_imbalanced_<A>_<B> or <finding>_<attribute>_correlated_<A>_<B> with A + B = 100"


class BiasedView(BaseModel):
    """A named selection of rows.

    `filters` is a disjunction of conjunctions of clauses; the empty disjunction of `full` keeps every row. `cells` says
    in words what each disjunct but the last keeps of train; the last keeps validation and test whole. `strength` is
    the share A/100 in (0, 1) and `twin` the name of the same selection without bias; both are None for `full`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    sentence: str
    strength: float | None = None
    twin: str | None = None
    cells: tuple[str, ...] = ()
    filters: tuple[tuple[Clause, ...], ...] = ()

    @property
    def fingerprint(self) -> str:
        """Identity of the recipe: the name and the rows it keeps."""
        return fingerprint({"name": self.name, "filters": self.filters})

    def mask(self, columns: Mapping[str, Any]) -> np.ndarray:
        """Which rows belong, as bool `[B]`, from encoded columns `[B]` by name (missing: -1 or NaN, never kept)."""
        if not self.filters:
            return np.ones(len(next(iter(columns.values()), ())), dtype=bool)
        return np.any([_conjunction(conjunction, columns) for conjunction in self.filters], axis=0)

    def keeps(self, known: Known) -> bool | None:
        """Whether all rows of a file belong, or none, by what its name tells; None where that is not enough."""
        if not self.filters:
            return True
        found = [_all(_tells(known, clause) for clause in conjunction) for conjunction in self.filters]
        return None if True not in found and None in found else True in found

    def counts(self, columns: Mapping[str, Any]) -> dict[str, int]:
        """Train rows per cell, in words, from encoded columns `[B]` by name."""
        return {
            cell: int(_conjunction(clauses, columns).sum())
            for cell, clauses in zip(self.cells, self.filters, strict=False)
        }

    def filters_for_parquet(self) -> list[list[Clause]] | None:
        """The filters as pyarrow and `datasets` take them; None keeps every row."""
        return [list(conjunction) for conjunction in self.filters] or None


def _conjunction(clauses: Iterable[Clause], columns: Mapping[str, Any]) -> np.ndarray:
    kept = []
    for column, operator, value in clauses:
        if column not in columns:
            raise unknown("columns", column, columns)
        kept.append(COMPARE[operator](np.asarray(columns[column]), value))
    return np.all(kept, axis=0)


def _all(answers: Iterable[bool | None]) -> bool | None:
    found = list(answers)
    return None if False not in found and None in found else False not in found


def _tells(known: Known, clause: Clause) -> bool | None:
    """Whether a clause holds for every row of a file, or for none; None where its name does not tell."""
    column, operator, value = clause
    told = known.get(column)
    if told is None:
        return None
    if not isinstance(told, tuple):
        return bool(COMPARE[operator](told, value))
    low, high = told
    below, above = high <= value, value <= low  # type: ignore[operator]
    if operator in ("<", ">="):
        return None if not (below or above) else below == (operator == "<")
    return None if low <= value < high else operator == "!="  # type: ignore[operator]


def get_view(name: str, preset: Preset, strength: float | None = None) -> BiasedView:
    """The view of that name over the preset's contrasts; `strength` in (0, 1) may stand for the _A_B of the name."""
    if name == "full":
        if strength is not None:
            raise InputError(f"strength: {strength!r} does not go with 'full'; name a view, such as 'sex_imbalanced'.")
        return BiasedView(name=name, sentence=_full(preset))
    match = re.fullmatch(r"(.+)_(imbalanced|correlated)(?:_(\d+)_(\d+))?", name)
    if match is None:
        nearest = get_close_matches(name, ("full", *preset.views), n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else "."
        raise InputError(f"name: {name!r} is no view; allowed: {GRAMMAR}{hint}")
    subject, kind, *written = match.groups()
    percent = _percent(name, written, strength)
    recipe = _imbalanced if kind == "imbalanced" else _correlated
    return BiasedView(
        name=f"{subject}_{kind}_{percent}_{100 - percent}",
        strength=percent / 100,
        twin=f"{subject}_{kind}_50_50",
        **recipe(subject, preset, percent),
    )


def curated_views(preset: Preset) -> tuple[BiasedView, ...]:
    """`full` and the views the data set card lists: the preset's, as far as generation balances what they trade."""
    balanced = [name for name in preset.contrasts if name in _balanced(preset)]
    stems = {f"{name}_imbalanced" for name in balanced}
    stems |= {f"{pair}_correlated" for pair in _pairs(preset, balanced)}
    names = [name for name in preset.views if name.rsplit("_", 2)[0] in stems]
    return tuple(get_view(name, preset) for name in ("full", *names))


def _percent(name: str, written: list[str | None], strength: float | None) -> int:
    if strength is None:
        first, second = (int(number or 0) for number in written)
        if first + second != 100 or written != [str(first), str(second)] or not 1 <= first <= 99:
            raise InputError(
                f"name: {name!r} must end in _<A>_<B>, whole numbers from 1 to 99 that sum to 100, such as _90_10."
            )
        return first
    if not isinstance(strength, int | float) or not 0.01 <= strength <= 0.99 or round(strength, 2) != strength:
        raise InputError(f"strength: {strength!r} is not allowed; give a whole percentage from 0.01 to 0.99.")
    percent = round(strength * 100)
    if written not in ([None, None], [str(percent), str(100 - percent)]):
        raise InputError(f"strength: {strength!r} contradicts the name {name!r}; give one of the two.")
    return percent


class _Group(NamedTuple):
    words: str
    clause: Clause


def _groups(name: str, preset: Preset) -> tuple[_Group, _Group]:
    """First and second group of a contrast."""
    contrast, variable = preset.contrasts[name], preset.covariates[name]
    if variable.categorical:
        first, second = (variable.levels.index(level) for level in (contrast.first, contrast.second))
        return _Group(contrast.first, (name, "==", first)), _Group(contrast.second, (name, "==", second))
    threshold = contrast.threshold
    assert threshold is not None, "a preset refuses a continuous contrast without a threshold"
    return _Group(contrast.first, (name, "<", threshold)), _Group(contrast.second, (name, ">=", threshold))


def _balanced(preset: Preset) -> tuple[str, ...]:
    """What generation balances in every split."""
    return (*preset.factors, *preset.strata)


def _pairs(preset: Preset, names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """(finding, attribute) of every correlation that the names allow."""
    names = tuple(names)
    return {
        f"{finding}_{attribute}": (finding, attribute)
        for finding in names
        for attribute in names
        if preset.covariates[finding].role == "finding" and attribute != finding
    }


def _full(preset: Preset) -> str:
    sentences = ["Every row."]
    if preset.factors:
        sentences.append(f"In every split each crossed level of {', '.join(preset.factors)} has equally many rows.")
    if preset.strata:
        sentences.append(f"In every split both groups of {', '.join(preset.strata)} have equally many subjects.")
    return " ".join(sentences)


def _promise(names: tuple[str, ...], preset: Preset, percent: int, shares: str) -> str:
    """What the filter makes of train: exact shares of what generation balances, and otherwise parts of each group."""
    if set(names) <= set(_balanced(preset)):
        return f"so {shares}, to the nearest subject"
    return f"about {percent} % of the former and {100 - percent} % of the latter"


def _caveats(names: tuple[str, ...], preset: Preset) -> str:
    """Levels the contrasts leave out, and groups that generation does not balance."""
    sentences = []
    for name in names:
        contrast = preset.contrasts[name]
        left_out = [level for level in preset.covariates[name].levels if level not in (contrast.first, contrast.second)]
        if left_out:
            sentences.append(f" Rows whose {name} is {' or '.join(left_out)} are left out of train.")
        if name not in _balanced(preset):
            sentences.append(f" Generation does not balance {name}, so the shares of train also follow its frequency.")
    return "".join(sentences)


def _imbalanced(attribute: str, preset: Preset, percent: int) -> dict[str, Any]:
    if attribute not in preset.contrasts:
        raise unknown("name: attribute", attribute, preset.contrasts)
    share = percent / 100
    first, second = _groups(attribute, preset)
    shares = f"{percent} % of train is {first.words} and {100 - percent} % {second.words}"
    return {
        "sentence": (
            f"Train keeps rows whose {attribute} is {first.words} with draw < {share:g} and rows whose {attribute} is "
            f"{second.words} with draw >= {share:g}, {_promise((attribute,), preset, percent, shares)}; validation and "
            f"test are whole.{_caveats((attribute,), preset)}"
        ),
        "cells": (first.words, second.words),
        "filters": (
            (TRAIN, first.clause, ("draw", "<", share)),
            (TRAIN, second.clause, ("draw", ">=", share)),
            (EVALUATION,),
        ),
    }


def _correlated(pair: str, preset: Preset, percent: int) -> dict[str, Any]:
    pairs = _pairs(preset, preset.contrasts)
    if pair not in pairs:
        raise unknown("name: finding and attribute", pair, pairs)
    share = percent / 100
    (present, absent), (first, second) = (_groups(name, preset) for name in pairs[pair])
    shares = (
        f"{percent} % of {present.words} and {100 - percent} % of {absent.words} is {first.words}, the rest "
        f"{second.words}"
    )
    return {
        "sentence": (
            f"Train keeps {present.words}/{first.words} and {absent.words}/{second.words} rows with draw < {share:g}, "
            f"and {present.words}/{second.words} and {absent.words}/{first.words} rows with draw >= {share:g}, "
            f"{_promise(pairs[pair], preset, percent, shares)}; validation and test are whole."
            f"{_caveats(pairs[pair], preset)}"
        ),
        "cells": tuple(f"{label.words}/{group.words}" for label in (present, absent) for group in (first, second)),
        "filters": (
            (TRAIN, present.clause, first.clause, ("draw", "<", share)),
            (TRAIN, present.clause, second.clause, ("draw", ">=", share)),
            (TRAIN, absent.clause, first.clause, ("draw", ">=", share)),
            (TRAIN, absent.clause, second.clause, ("draw", "<", share)),
            (EVALUATION,),
        ),
    }
