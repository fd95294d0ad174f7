"""The grammar of the names of biases, and what the words in them mean over a preset.

    <attribute>_imbalanced_<A>_<B>               A % of train from the attribute's first group, B % from its second
    <attribute>_imbalanced_in_<group>_<A>_<B>    that within one group of another attribute, 50 % and 50 % in the other
    <attribute>_missing_<group>                  no row of train from that group
    <one>_<other>_correlated_<A>_<B>             A % of the one's first group is of the other's first, B % of its second
    <finding>_prevalence_by_<attribute>_<A>_<B>  the finding is present in A % of the first group and B % of the second
    <finding>_noise_in_<group>_<R>               in the group, R % of train is labelled the other way round
    <finding>_underdiagnosed_in_<group>_<R>      in the group, R % of the finding present is labelled absent

A and B are whole numbers from 1 to 99 that sum to 100, except that a prevalence needs only an even sum; R is one from 0
to 100. Groups are the contrasts of the preset, in letters and digits (`50_years_and_older`); where several attributes
have one of that name, as findings that are present or absent, its attribute comes first (`effusion_present`). Of two
correlated attributes a finding comes first, then what belongs to the acquisition, then a protected one; of two of one
role either, and the other is the one that is decided.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from ..domains.preset import Preset
from ..errors import InputError, unknown
from .layout import word

__all__ = ["GRAMMAR", "Clause", "Group", "Name", "groups_of", "pairs_of", "take_apart"]

Operator = Literal["==", "!=", "<", ">="]
Clause = tuple[str, Operator, int | float | str]
"""(column, operator, value); a categorical column holds level indices."""

AB = r"(?:_(?P<first>\d+)_(?P<second>\d+))?"
KINDS = {
    "imbalanced": rf"(?P<subject>.+)_imbalanced{AB}",
    "imbalanced_in": rf"(?P<subject>.+)_imbalanced_in_(?P<group>.+?){AB}",
    "missing": r"(?P<subject>.+)_missing_(?P<group>.+)",
    "correlated": rf"(?P<subject>.+)_correlated{AB}",
    "prevalence": rf"(?P<subject>.+)_prevalence_by_(?P<group>.+?){AB}",
    "noise": r"(?P<subject>.+)_noise_in_(?P<group>.+?)(?:_(?P<first>\d+))?",
    "underdiagnosed": r"(?P<subject>.+)_underdiagnosed_in_(?P<group>.+?)(?:_(?P<first>\d+))?",
}
GRAMMAR = (
    "full, <attribute>_imbalanced_<A>_<B>, <attribute>_imbalanced_in_<group>_<A>_<B>, <attribute>_missing_<group>, "
    "<finding>_<attribute>_correlated_<A>_<B>, <finding>_prevalence_by_<attribute>_<A>_<B>, "
    "<finding>_noise_in_<group>_<R>, <finding>_underdiagnosed_in_<group>_<R>, with A + B = 100, or several joined by +"
)
ROLES = ("finding", "acquisition", "other", "protected")


class Group(NamedTuple):
    """One side of a contrast: its name in words, the attribute, and the clause that selects its rows.

    `phrase` tells it apart from every other group of the preset: the words, after the attribute where others share
    them.
    """

    words: str
    attribute: str
    clause: Clause
    phrase: str


def groups_of(name: str, preset: Preset) -> tuple[Group, Group]:
    """First and second group of a contrast.

    Args:
        name: a variable with a contrast.
        preset: the domain.
    """
    contrast, variable = preset.contrasts[name], preset.covariates[name]
    others = {
        word(words) for other, one in preset.contrasts.items() if other != name for words in (one.first, one.second)
    }

    def group(words: str, operator: Operator, value: float) -> Group:
        return Group(words, name, (name, operator, value), f"{name} {words}" if word(words) in others else words)

    if variable.categorical:
        first, second = (variable.levels.index(level) for level in (contrast.first, contrast.second))
        return group(contrast.first, "==", first), group(contrast.second, "==", second)
    threshold = contrast.threshold
    assert threshold is not None, "a preset does not allow a continuous contrast without a threshold"
    return group(contrast.first, "<", threshold), group(contrast.second, ">=", threshold)


def pairs_of(preset: Preset) -> dict[str, tuple[str, str]]:
    """Every two attributes that can be correlated, in their one order."""
    ordered = sorted(preset.contrasts, key=lambda name: ROLES.index(preset.covariates[name].role))
    return {f"{one}_{other}": (one, other) for place, one in enumerate(ordered) for other in ordered[place + 1 :]}


def take_apart(name: str, preset: Preset, strength: float | None = None) -> "Name | None":
    """A name with its kind; None where it has the form of none.

    Args:
        name: of one bias.
        preset: the domain.
        strength: A/100 or R/100, a whole percentage, in place of the numbers of the name.
    """
    for kind, form in KINDS.items():
        if match := re.fullmatch(form, name):
            return Name(name, kind, match, preset, strength)
    return None


class Name(NamedTuple):
    """A name, taken apart; each part is checked when it is read."""

    text: str
    kind: str
    match: re.Match[str]
    preset: Preset
    strength: float | None

    @property
    def subject(self) -> str:
        """What is written before the kind."""
        return self.match["subject"]

    def attribute(self, what: str = "attribute", written: str | None = None) -> str:
        """The attribute that the bias is about, or another one as `written`."""
        name = written or self.subject
        if name not in self.preset.contrasts:
            raise unknown(f"name: {what}", name, self.preset.contrasts)
        return name

    def finding(self) -> str:
        """The finding that the bias is about."""
        findings = [name for name in self.preset.contrasts if self.preset.covariates[name].role == "finding"]
        if self.subject not in findings:
            raise unknown("name: finding", self.subject, findings)
        return self.subject

    def group(self, *without: str) -> Group:
        """The group as written, of any attribute but those; InputError where none has it, or several have."""
        groups = [
            group for name in self.preset.contrasts if name not in without for group in groups_of(name, self.preset)
        ]
        written = self.match["group"]
        found = [group for group in groups if written == word(group.phrase)]
        found = found or [group for group in groups if written == word(group.words)]
        if not found:
            raise unknown("name: group", written, [word(group.phrase) for group in groups])
        if len(found) > 1:
            raise InputError(
                f"name: {written!r} is a group of {' and of '.join(group.attribute for group in found)}; write "
                f"{' or '.join(word(group.phrase) for group in found[:2])}."
            )
        return found[0]

    def both(self, complementary: bool = True) -> tuple[int, int]:
        """A and B, in percent."""
        written = [self.match["first"], self.match["second"]]
        if self.strength is not None:
            first = self._percent(0.01, 0.99)
            self._agrees(written, [str(first), str(100 - first)])
            return first, 100 - first
        first, second = (int(number or 0) for number in written)
        whole = written == [str(first), str(second)] and 1 <= first <= 99 and 1 <= second <= 99
        if complementary and not (whole and first + second == 100):
            raise InputError(
                f"name: {self.text!r} must end in _<A>_<B>, whole numbers from 1 to 99 that sum to 100, such as _90_10."
            )
        if not whole or (first + second) % 2:
            raise InputError(
                f"name: {self.text!r} must end in _<A>_<B>, whole numbers from 1 to 99 with an even sum, half of which "
                "is the prevalence of the unbiased twin, such as _30_10."
            )
        return first, second

    def rate(self) -> int:
        """R, in percent."""
        written = [self.match["first"]]
        if self.strength is not None:
            percent = self._percent(0, 1)
            self._agrees(written, [str(percent)])
            return percent
        percent = int(written[0] or 0)
        if written != [str(percent)] or percent > 100:
            raise InputError(f"name: {self.text!r} must end in _<R>, a whole number from 0 to 100, such as _20.")
        return percent

    def _percent(self, low: float, high: float) -> int:
        number = self.strength
        if not isinstance(number, int | float) or not low <= number <= high or round(number, 2) != number:
            raise InputError(f"strength: {number!r} is not allowed; give a whole percentage from {low:g} to {high:g}.")
        return round(number * 100)

    def _agrees(self, written: Sequence[str | None], numbers: Sequence[str]) -> None:
        if any(written) and list(written) != list(numbers):
            raise InputError(f"strength: {self.strength!r} contradicts the name {self.text!r}; give one of the two.")
