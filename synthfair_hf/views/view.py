"""A biased view is a filter: rows of one data set, chosen by columns every row carries, so nothing is drawn anew.

    train(A_B) = { first group : draw < A/100 }  ∪  { second group : draw >= A/100 },     validation, test = everything

`draw` runs evenly through [0, 1) in each group and the conditions are complementary: the number of rows is the same at
every strength, shares are exact to half a subject of the whole view, strengths are nested, and the twin, without bias,
has as many rows. (`shares` tells what they are in a data set, and which views it is too small for.) `full` keeps every
row; the other names are those of `grammar`.

    <name>+<name>     several biases, each within what those before it keep: [a, b) of [l, h) is l + (h - l) [a, b)

So they are independent of each other, within less than one subject of exact in each cell and stratum, and nested in the
strength of the one named last. They must decide different attributes; one that depends on another's is split after it.
A relabelling splits last, by the same rule: it keeps every row and says what an annotator wrote, in train alone.

All of this holds for what generation balances: the preset's factors, whose levels every subject shows, and its strata,
which have equally many subjects. A view of anything else can be named, but is not curated, and promises no shares. No
more than `MOST` are curated; those of a preset that come after them can be named all the same.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from ..arguments import checked
from ..domains.preset import Preset
from ..errors import Checked, InputError, unknown
from ..records import fingerprint
from .biases import Bias, Branch, get_bias
from .grammar import GRAMMAR, Clause
from .layout import Known

__all__ = ["BiasedView", "Clause", "LabelRule", "Promise", "curated_views", "get_view", "uncurated_views"]

COMPARE = {"==": np.equal, "!=": np.not_equal, "<": np.less, ">=": np.greater_equal}
OBSERVED = "observed_"
"""What the column of a finding's observed labels begins with."""

MOST = 100
"""Views in the card of a data set, `full` among them: its viewer would hardly be used with more configurations."""

TRAIN: Clause = ("split", "==", "train")
EVALUATION: Clause = ("split", "!=", "train")


class LabelRule(Checked, BaseModel):
    """What an annotator wrote: the true level of `variable`, but in each change's rows the level of that index.

    A change is (words, clauses that all hold, index); no row is in two. It stands in column `observed_<variable>`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    variable: str
    changes: tuple[tuple[str, tuple[Clause, ...], int], ...]

    @property
    def column(self) -> str:
        """Name of the column of observed labels."""
        return f"{OBSERVED}{self.variable}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns from which the observed label follows."""
        used = (column for _, clauses, _ in self.changes for column, _, _ in clauses)
        return tuple(dict.fromkeys((self.variable, *used)))

    def observed(self, columns: Mapping[str, Any]) -> np.ndarray:
        """Observed level indices `[B]` from encoded columns `[B]` by name."""
        written = np.array(columns[self.variable])
        for _, clauses, index in self.changes:
            written[_conjunction(clauses, columns)] = index
        return written

    def counts(self, columns: Mapping[str, Any]) -> dict[str, int]:
        """Rows per kind of change, in words, from encoded columns `[B]` by name."""
        counts = dict.fromkeys((words for words, _, _ in self.changes), 0)
        for words, clauses, _ in self.changes:
            counts[words] += int(_conjunction(clauses, columns).sum())
        return counts


class Promise(NamedTuple):
    """That of the rows of a view that are `given` this share is `chosen`; without that, relabelled as `words` say."""

    words: str
    share: float
    given: tuple[Clause, ...]
    chosen: tuple[Clause, ...] = ()


class BiasedView(Checked, BaseModel):
    """A named selection of rows, and what an annotator wrote on them where `label` says so.

    `filters` is a disjunction of conjunctions of clauses; the empty disjunction of `full` keeps every row. `cells` says
    in words what each disjunct but the last keeps of train; the last keeps validation and test whole. `strength` is
    A/100 or R/100 of a single bias, 1 for a missing group; `twin` the name of the same selection without bias;
    `attributes` are what the biases trade, and `promises` the shares that their names say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    sentence: str
    strength: float | None = None
    twin: str | None = None
    attributes: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    filters: tuple[tuple[Clause, ...], ...] = ()
    label: LabelRule | None = None
    promises: tuple[Promise, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Identity of the recipe: the name, the rows it keeps, and what is written on them."""
        recipe: dict[str, Any] = {"name": self.name, "filters": self.filters}
        return fingerprint(recipe if self.label is None else {**recipe, "label": self.label})

    def mask(self, columns: Mapping[str, Any]) -> np.ndarray:
        """Which rows belong, as bool `[B]`, from encoded columns `[B]` by name (missing: -1 or NaN, never kept)."""
        if not self.filters:
            return np.ones(len(next(iter(columns.values()), ())), dtype=bool)
        return np.any([_conjunction(conjunction, columns) for conjunction in self.filters], axis=0)

    def keeps(self, known: Known) -> bool | None:
        """Whether all rows of a file belong, or none, by what its name implies; None where that is not enough."""
        if not self.filters:
            return True
        found = [_all(_holds(known, clause) for clause in conjunction) for conjunction in self.filters]
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


def _holds(known: Known, clause: Clause) -> bool | None:
    """Whether a clause holds for every row of a file, or for none; None where its name does not say."""
    column, operator, value = clause
    held = known.get(column)
    if held is None:
        return None
    if not isinstance(held, tuple):
        return bool(COMPARE[operator](held, value))
    low, high = held
    below, above = high <= value, value <= low  # type: ignore[operator]
    if operator in ("<", ">="):
        return None if not (below or above) else below == (operator == "<")
    return None if low <= value < high else operator == "!="  # type: ignore[operator]


@checked
def get_view(name: str, preset: Preset, strength: float | Sequence[float] | None = None) -> BiasedView:
    """The view of that name over the preset's contrasts.

    Args:
        name: `full`, a name of the grammar, or several joined by +.
        preset: the domain, with the contrasts that names refer to.
        strength: for names without numbers, one whole percentage in [0, 1] for each such bias in turn.

    Raises:
        InputError: a name that is no view of the preset, or a strength that is missing, superfluous or not allowed.
    """
    if name == "full":
        if strength is not None:
            raise InputError(f"strength: {strength!r} does not go with 'full'; name a view, such as 'sex_imbalanced'.")
        return BiasedView(name=name, sentence=_full(preset))
    words = name.split("+")
    if "full" in words:
        raise InputError(f"name: {name!r} joins 'full', which keeps every row; join biases alone.")
    biases = [_bias(word, preset, one) for word, one in zip(words, _strengths(words, strength), strict=True)]
    branches = [Branch((), Fraction(0), Fraction(1))]
    for bias in _ordered(name, [bias for bias in biases if bias.decides is not None]):
        branches = [both for one in branches for other in bias.branches for both in _within(one, other)]
    selects = any(bias.decides for bias in biases)
    return BiasedView(
        name="+".join(bias.name for bias in biases),
        sentence=_sentence(biases, preset),
        strength=biases[0].strength if len(biases) == 1 else None,
        twin="+".join(bias.twin for bias in biases),
        attributes=tuple(dict.fromkeys(attribute for bias in biases for attribute in bias.attributes)),
        cells=tuple("/".join(group.phrase for group in branch.groups) for branch in branches) if selects else (),
        filters=(*(_clauses(branch) for branch in branches), (EVALUATION,)) if selects else (),
        label=_label(name, biases, branches),
        promises=tuple(promise for bias in biases for promise in _promises(bias)),
    )


@checked
def curated_views(preset: Preset) -> tuple[BiasedView, ...]:
    """`full` and the views the data set card lists: the preset's, as far as generation balances what they trade.

    They are 100 at most (`MOST`), in the order of the preset.

    Args:
        preset: the domain.
    """
    return (get_view("full", preset), *_curated(preset)[0])


@checked
def uncurated_views(preset: Preset) -> dict[str, str]:
    """The preset's views that `curated_views` leaves out, by name, each with the reason.

    Args:
        preset: the domain.
    """
    return dict(_curated(preset)[1])


@lru_cache(maxsize=16)
def _curated(preset: Preset) -> tuple[list[BiasedView], dict[str, str]]:
    """The preset's first views whose attributes generation balances, each with its twin, and why the others are none.

    Kept, as every card, record and loaded view of a data set asks for them.
    """
    balanced = {name: contrast for name, contrast in preset.contrasts.items() if name in _balanced(preset)}
    known = preset.model_copy(update={"contrasts": balanced})
    views: list[BiasedView] = []
    others: dict[str, str] = {}
    for name in preset.views:
        try:
            views.append(get_view(name, known))
        except InputError as error:
            others[name] = _why_uncurated(name, preset) or str(error).removeprefix("name: ").rstrip(".")
    first = views[: MOST - 1]
    # a biased view is nothing to compare with without its twin
    lost = {view.name for view in views} - {view.name for view in first}
    kept = [view for view in first if view.twin not in lost]
    for name in [view.name for view in views if view not in kept]:
        others[name] = f"no more than {MOST} are curated, and it or its twin comes after them; it loads by its name"
    return kept, others


def _why_uncurated(name: str, preset: Preset) -> str | None:
    """That generation does not balance what a view trades; None where that is not the reason."""
    try:
        attributes = get_view(name, preset).attributes
    except InputError:
        return None
    free = [one for one in attributes if one not in _balanced(preset)]
    which = f"{' and '.join(free)} {'is' if len(free) == 1 else 'are'} none of them"
    return f"generation balances factors and strata alone, and {which}" if free else None


def _bias(name: str, preset: Preset, strength: float | None) -> Bias:
    bias = get_bias(name, preset, strength)
    if bias is None:
        nearest = get_close_matches(name, ("full", *preset.views), n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else "."
        raise InputError(f"name: {name!r} is no view; allowed: {GRAMMAR}{hint}")
    return bias


def _strengths(names: Sequence[str], strength: float | Sequence[float] | None) -> list[float | None]:
    """The strength given for each name: for a single one whatever it says, of several for those without numbers."""
    if strength is None:
        return [None] * len(names)
    given: list[Any] = list(strength) if isinstance(strength, list | tuple) else [strength]
    unnumbered = [name for name in names if len(names) == 1 or not re.search(r"_\d+$|_missing_", name)]
    if len(given) != len(unnumbered):
        raise InputError(
            f"strength: {strength!r} has {len(given)} numbers for {len(unnumbered)} names without them "
            f"({', '.join(unnumbered) or 'none'}); give one for each."
        )
    numbers = iter(given)
    return [next(numbers) if name in unnumbered else None for name in names]


def _ordered(name: str, biases: Sequence[Bias]) -> list[Bias]:
    """Biases in the order of their names, but after what they are given; each decides an attribute of its own."""
    for place, bias in enumerate(biases):
        for other in biases[:place]:
            if other.decides == bias.decides:
                raise InputError(
                    f"name: {other.name!r} and {bias.name!r} both decide {bias.decides}; join biases of different ones."
                )
    ordered, waiting = [], list(biases)
    while waiting:
        undecided = {bias.decides for bias in waiting}
        ready = next((bias for bias in waiting if undecided & {*bias.attributes} == {bias.decides}), None)
        if ready is None:
            raise InputError(f"name: {name!r} ties its attributes in a circle; leave one of its biases out.")
        ordered.append(ready)
        waiting.remove(ready)
    return ordered


def _within(one: Branch, other: Branch) -> list[Branch]:
    """The rows of the first that are in the groups of the other, at its part of the draws; none if no row can be."""
    groups = tuple(dict.fromkeys((*one.groups, *other.groups)))
    if len({group.attribute for group in groups}) < len(groups):
        return []
    width = one.high - one.low
    return [Branch(groups, one.low + other.low * width, one.low + other.high * width)]


def _clauses(branch: Branch) -> tuple[Clause, ...]:
    clauses = [TRAIN, *(group.clause for group in branch.groups)]
    if branch.low > 0:
        clauses.append(("draw", ">=", float(branch.low)))
    if branch.high < 1:
        clauses.append(("draw", "<", float(branch.high)))
    return tuple(clauses)


def _promises(bias: Bias) -> Iterator[Promise]:
    """The share of the first group of what a bias decides, in each combination of the others; or of relabelled rows."""
    seen = set()
    for branch in bias.branches:
        given = tuple(group for group in branch.groups if group.attribute != bias.decides)
        if given not in seen:
            seen.add(given)
            (chosen,) = (group for group in branch.groups if group.attribute == bias.decides)
            words = " in ".join((chosen.phrase, *(group.phrase for group in given)))
            share = float(branch.high - branch.low)
            yield Promise(words, share, tuple(group.clause for group in given), (chosen.clause,))
    if bias.relabelling is not None:
        group, changes, rate = bias.relabelling
        for source, target in changes:
            words = f"{group.words}: {source.words} labelled {target.words}"
            yield Promise(words, float(rate), (group.clause, source.clause))


def _label(name: str, biases: Sequence[Bias], branches: Sequence[Branch]) -> LabelRule | None:
    """The rule of the one relabelling among the biases, within each branch of the rows they keep."""
    rules = [bias.relabelling for bias in biases if bias.relabelling is not None]
    if not rules:
        return None
    if len(rules) > 1:
        raise InputError(f"name: {name!r} relabels twice; a row has one observed label, so name one relabelling.")
    ((group, changes, rate),) = rules
    return LabelRule(
        variable=changes[0][0].attribute,
        changes=tuple(
            (f"{group.words}: {source.words} labelled {target.words}", _clauses(both), int(target.clause[2]))
            for branch in branches
            for source, target in changes
            for both in _within(branch, Branch((group, source), Fraction(0), rate))
        ),
    )


def _balanced(preset: Preset) -> tuple[str, ...]:
    """Variables that generation balances in every split."""
    return (*preset.factors, *preset.strata)


def _full(preset: Preset) -> str:
    sentences = ["Every row."]
    if preset.factors:
        sentences.append(f"In every split each crossed level of {', '.join(preset.factors)} has equally many rows.")
    if preset.strata:
        sentences.append(f"In every split both groups of {', '.join(preset.strata)} have equally many subjects.")
    return " ".join(sentences)


def _sentence(biases: Sequence[Bias], preset: Preset) -> str:
    """What was planted: which rows are kept, the shares in train, and what else these depend on."""
    attributes = dict.fromkeys(attribute for bias in biases for attribute in bias.attributes)
    balanced = attributes.keys() <= set(_balanced(preset))
    selecting = [bias for bias in biases if bias.decides is not None]
    if len(selecting) == 1:
        planted = f"Train keeps {selecting[0].rows}, {selecting[0].promise(balanced)}"
    elif selecting:
        nearest = ", to the nearest subject" if balanced else ", as far as train has equally many of each"
        planted = f"Train keeps rows so that, independently, {'; '.join(bias.shares for bias in selecting)}{nearest}"
    else:
        planted = "Train keeps every row"
    for bias in biases:
        if rule := bias.relabelling:
            column = f"observed_{rule.changes[0][0].attribute}"
            planted += f"; column {column} is true but for a share: {bias.shares}, to the nearest subject"
    whole = "whole" if len(selecting) == len(biases) else "whole and true"
    traded = dict.fromkeys(attribute for bias in selecting for attribute in bias.attributes)
    caveats = "".join(_caveats(name, preset) for name in traded)
    return f"{planted}; validation and test are {whole}.{caveats}"


def _caveats(name: str, preset: Preset) -> str:
    """Levels the contrast leaves out, and that generation does not balance its groups."""
    contrast = preset.contrasts[name]
    left_out = [level for level in preset.covariates[name].levels if level not in (contrast.first, contrast.second)]
    sentences = f" Rows whose {name} is {' or '.join(left_out)} are left out of train." if left_out else ""
    if name not in _balanced(preset):
        sentences += f" Generation does not balance {name}, so the shares of train also follow its frequency."
    return sentences
