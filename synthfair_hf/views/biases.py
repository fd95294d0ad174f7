"""What a bias plants: which rows of a subject are kept in which group, as parts of `draw`; or observed labels.

    branch = (groups, [low, high)):  rows in all of these groups are kept while low <= draw < high

A bias decides one attribute, given others: whatever its `draw`, a subject has rows in exactly one of that attribute's
two groups for each combination of everything else. So no strength changes the number of rows. A relabelling decides
nothing and keeps every row. Names are those of `grammar`.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations, permutations
from typing import NamedTuple

from ..domains.preset import Preset
from ..errors import InputError, unknown
from .grammar import Group, Name, groups_of, pairs_of, take_apart
from .layout import word

__all__ = ["Bias", "Branch", "Relabelling", "get_bias"]

HALF = Fraction(1, 2)


class Branch(NamedTuple):
    """Rows in all of these groups are kept while the draw lies in [low, high), parts of 1."""

    groups: tuple[Group, ...]
    low: Fraction
    high: Fraction


class Relabelling(NamedTuple):
    """In rows of each source group within `group`, a share `rate` of the draws is labelled `target` instead."""

    group: Group
    changes: tuple[tuple[Group, Group], ...]
    rate: Fraction


class Bias(NamedTuple):
    """One planted bias: it decides an attribute by `branches`, or relabels a finding; `attributes` names all it trades.

    `strength` is A/100 or R/100, 1 for a missing group; `twin` the name of the same without bias. `rows` says in words
    what is kept, "" for a relabelling, `shares` what that makes of train where generation balances the attributes, and
    `about` what it makes of it elsewhere, where short words say it.
    """

    name: str
    twin: str
    strength: float
    attributes: tuple[str, ...]
    rows: str
    shares: str
    branches: tuple[Branch, ...] = ()
    decides: str | None = None
    relabelling: Relabelling | None = None
    about: str = ""

    def promise(self, balanced: bool) -> str:
        """What becomes of train, where generation balances the attributes or does not."""
        if self.decides is not None and self.strength == 1:
            return f"so {self.shares}"
        if balanced:
            return f"so {self.shares}, to the nearest subject"
        return self.about or f"which with equally many of each would mean that {self.shares}"


def get_bias(name: str, preset: Preset, strength: float | None = None) -> Bias | None:
    """The bias of that name over the preset's contrasts.

    Args:
        name: a name of the grammar, with its numbers or without.
        preset: the domain.
        strength: A/100 or R/100, a whole percentage, in place of the numbers of the name.

    Returns:
        The bias; None for a name that has the form of no kind.

    Raises:
        InputError: an unknown attribute or group, or numbers that are missing or not allowed.
    """
    taken = take_apart(name, preset, strength)
    return None if taken is None else BUILDERS[taken.kind](taken)


def _imbalanced(name: Name) -> Bias:
    attribute = name.attribute()
    percent, rest = name.both()
    first, second = groups_of(attribute, name.preset)
    share = Fraction(percent, 100)
    return Bias(
        name=f"{attribute}_imbalanced_{percent}_{rest}",
        twin=f"{attribute}_imbalanced_50_50",
        strength=percent / 100,
        attributes=(attribute,),
        decides=attribute,
        rows=(
            f"rows whose {attribute} is {first.words} with draw < {float(share):g} and rows whose {attribute} is "
            f"{second.words} with draw >= {float(share):g}"
        ),
        shares=f"{percent} % of train is {first.phrase} and {rest} % {second.phrase}",
        about=f"about {percent} % of the former and {rest} % of the latter",
        branches=(Branch((first,), Fraction(0), share), Branch((second,), share, Fraction(1))),
    )


def _missing(name: Name) -> Bias:
    attribute = name.attribute()
    first, second = groups_of(attribute, name.preset)
    named = {word(group.words): group for group in (first, second)}
    if name.match["group"] not in named:
        raise unknown(f"name: group of {attribute}", name.match["group"], named)
    if name.strength is not None:
        raise InputError(f"strength: {name.strength!r} does not go with {name.text!r}; a missing group has none.")
    missing = named[name.match["group"]]
    kept, share = (second, Fraction(0)) if missing == first else (first, Fraction(1))
    return Bias(
        name=name.text,
        twin=f"{attribute}_imbalanced_50_50",
        strength=1.0,
        attributes=(attribute,),
        decides=attribute,
        rows=f"rows whose {attribute} is {kept.words}",
        shares=f"no row of train is {missing.phrase}",
        branches=(Branch((first,), Fraction(0), share), Branch((second,), share, Fraction(1))),
    )


def _imbalanced_in(name: Name) -> Bias:
    attribute, within = name.attribute(), name.group(name.subject)
    percent, rest = name.both()
    first, second = groups_of(attribute, name.preset)
    stem = f"{attribute}_imbalanced_in_{name.match['group']}"
    branches = tuple(
        branch
        for outer in groups_of(within.attribute, name.preset)
        for share in [Fraction(percent, 100) if outer == within else HALF]
        for branch in (Branch((outer, first), Fraction(0), share), Branch((outer, second), share, Fraction(1)))
    )
    (other,) = (group for group in groups_of(within.attribute, name.preset) if group != within)
    return Bias(
        name=f"{stem}_{percent}_{rest}",
        twin=f"{stem}_50_50",
        strength=percent / 100,
        attributes=(within.attribute, attribute),
        decides=attribute,
        rows=_rows(branches),
        shares=(
            f"{percent} % of {within.phrase} in train is {first.phrase} and {rest} % {second.phrase}, "
            f"and of {other.phrase} 50 % and 50 %"
        ),
        branches=branches,
    )


def _correlated(name: Name) -> Bias:
    pairs = pairs_of(name.preset)
    turned = {f"{other}_{one}": (other, one) for one, other in pairs.values()}
    if name.subject not in {**pairs, **turned}:
        raise unknown("name: finding and attribute", name.subject, pairs)
    meant = [
        pair for pair in combinations(name.preset.contrasts, 2) if name.subject in map("_".join, permutations(pair))
    ]
    if len(meant) > 1:
        raise InputError(
            f"name: {name.subject!r} is of {' and of '.join(' with '.join(pair) for pair in meant)}; give these "
            "covariates names of which no two make the same."
        )
    one, other = pairs.get(name.subject) or turned[name.subject]
    if name.subject not in pairs and name.preset.covariates[one].role != name.preset.covariates[other].role:
        raise InputError(f"name: {name.text!r} names its attributes in another order; write {other}_{one}_correlated.")
    percent, rest = name.both()
    share = Fraction(percent, 100)
    (present, absent), (first, second) = (groups_of(each, name.preset) for each in (one, other))
    return Bias(
        name=f"{name.subject}_correlated_{percent}_{rest}",
        twin=f"{name.subject}_correlated_50_50",
        strength=percent / 100,
        attributes=(one, other),
        decides=other,
        rows=(
            f"{present.phrase}/{first.phrase} and {absent.phrase}/{second.phrase} rows with draw < {float(share):g}, "
            f"and {present.phrase}/{second.phrase} and {absent.phrase}/{first.phrase} rows with draw >= "
            f"{float(share):g}"
        ),
        shares=(
            f"{percent} % of {present.phrase} and {rest} % of {absent.phrase} is {first.phrase}, the rest "
            f"{second.phrase}"
        ),
        about=f"about {percent} % of the former and {rest} % of the latter",
        branches=(
            Branch((present, first), Fraction(0), share),
            Branch((present, second), share, Fraction(1)),
            Branch((absent, first), share, Fraction(1)),
            Branch((absent, second), Fraction(0), share),
        ),
    )


def _prevalence(name: Name) -> Bias:
    finding, attribute = name.finding(), name.attribute(written=name.match["group"])
    if attribute == finding:
        raise InputError(f"name: {name.text!r} compares {finding} with itself; name another attribute after `by`.")
    percents = name.both(complementary=False)
    present, absent = groups_of(finding, name.preset)
    groups = groups_of(attribute, name.preset)
    branches = tuple(
        branch
        for group, percent in zip(groups, percents, strict=True)
        for share in [Fraction(percent, 100)]
        for branch in (Branch((group, present), Fraction(0), share), Branch((group, absent), share, Fraction(1)))
    )
    stem, mean = f"{finding}_prevalence_by_{attribute}", sum(percents) // 2
    return Bias(
        name=f"{stem}_{percents[0]}_{percents[1]}",
        twin=f"{stem}_{mean}_{mean}",
        strength=percents[0] / 100,
        attributes=(attribute, finding),
        decides=finding,
        rows=_rows(branches),
        shares=(
            f"{percents[0]} % of {groups[0].phrase} and {percents[1]} % of {groups[1].phrase} in train is "
            f"{present.phrase}"
        ),
        branches=branches,
    )


def _noise(name: Name) -> Bias:
    present, absent = groups_of(name.finding(), name.preset)
    return _relabelled(name, "noise", ((present, absent), (absent, present)))


def _underdiagnosed(name: Name) -> Bias:
    present, absent = groups_of(name.finding(), name.preset)
    return _relabelled(name, "underdiagnosed", ((present, absent),))


def _relabelled(name: Name, kind: str, changes: tuple[tuple[Group, Group], ...]) -> Bias:
    finding = name.finding()
    if not name.preset.covariates[finding].categorical:
        raise InputError(f"name: {name.text!r} relabels {finding}, which is continuous; only levels can be relabelled.")
    group, rate = name.group(finding), name.rate()
    stem = f"{finding}_{kind}_in_{name.match['group']}"
    what = "; ".join(f"{rate} % of {source.phrase} is labelled {target.phrase}" for source, target in changes)
    return Bias(
        name=f"{stem}_{rate}",
        twin=f"{stem}_0",
        strength=rate / 100,
        attributes=(group.attribute, finding),
        rows="",
        shares=f"in {group.phrase} rows of train {what}",
        relabelling=Relabelling(group, changes, Fraction(rate, 100)),
    )


BUILDERS: dict[str, Callable[[Name], Bias]] = {
    "imbalanced": _imbalanced,
    "imbalanced_in": _imbalanced_in,
    "missing": _missing,
    "correlated": _correlated,
    "prevalence": _prevalence,
    "noise": _noise,
    "underdiagnosed": _underdiagnosed,
}


def _rows(branches: Sequence[Branch]) -> str:
    return ", ".join(
        f"{'/'.join(group.phrase for group in groups)} rows with draw "
        + (f"< {float(high):g}" if low == 0 else f">= {float(low):g}")
        for groups, low, high in branches
    )
