"""Conditions on an audit, for a check that fails: a figure, how it compares, and a number.

    gap(tpr, sex) > 0.1             difference of the largest and smallest over the groups of an attribute
    ratio(selection_rate, sex) < 0.8
    worst(auc, age) < 0.75          the worst group
    auc(sex=female) < 0.8           of one group; auc(everyone) of all rows
    equalized_odds_max_difference(sex) > 0.1       any of `summaries.SUMMARIES`
    gap(tpr, sex, age) > 0.1        of an intersection that is audited
    effusion: gap(tpr, sex) > 0.1   of one of several findings; without a name it is asked of each
    gap(tpr, sex).low > 0           the lower end of its interval; .high the upper one, .p the p-value

A condition on a figure without a value holds: a check that cannot see does not pass.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas

from ..errors import InputError, unknown
from .audit import EVERYONE, AuditTable
from .rates import PARTIAL_AUC, metrics_of
from .summaries import summaries_of

__all__ = ["Condition", "Outcome", "parse_condition"]

SPREADS = ("gap", "ratio", "worst")
ENDS = {"low": "low", "high": "high", "p": "p"}
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}

_WRITTEN = re.compile(
    r"\s*(?:(?P<finding>[^():]+?)\s*:\s*)?(?P<name>\w+)\s*\((?P<of>[^()]*)\)\s*(?:\.\s*(?P<end>\w+)\s*)?(?P<comparison>[<>]=?)\s*(?P<number>[-+.\de]+)\s*"
)
_EXAMPLE = "write it as 'gap(tpr, sex) > 0.1'"


class Outcome(NamedTuple):
    """Whether a condition holds, and the figure it is about; NaN where that has no value."""

    condition: str
    holds: bool
    figure: float


class Condition(NamedTuple):
    """A condition that was parsed.

    Attributes:
        text: as it was written.
        metric: of `rates.metrics_of` where it is about one group, else of `summaries.summaries_of`.
        attribute: whose groups are compared, or EVERYONE.
        group: the one group that it is about, or None.
        column: of the table: value, low, high or p.
        comparison: of COMPARISONS.
        number: what the figure is compared with.
        finding: that it is about; None where there is one.
    """

    text: str
    metric: str
    attribute: str
    group: str | None
    column: str
    comparison: str
    number: float
    finding: str | None = None

    def of(self, findings: Sequence[str]) -> list["Condition"]:
        """This condition on the finding that it names, or on each of several.

        Args:
            findings: those that are audited.

        Raises:
            InputError: it names another.
        """
        if self.finding is not None and self.finding not in findings:
            raise unknown("fail_if: finding", self.finding, findings)
        if self.finding is not None or len(findings) < 2:
            return [self]
        return [self._replace(finding=one, text=f"{one}: {self.text}") for one in findings]

    def check(self, table: AuditTable) -> Outcome:
        """Whether the condition holds.

        Args:
            table: an audit of the attribute.

        Raises:
            InputError: the audit has no such attribute or group.
        """
        frame = table.gaps if self.group is None else table.groups
        own = _where(frame, "attribute", self.attribute, self.text)
        if self.group is not None:
            own = _where(own, "group", self.group, self.text)
        figure = float(own.loc[own["metric"] == self.metric, self.column].iloc[0])
        return Outcome(self.text, math.isnan(figure) or COMPARISONS[self.comparison](figure, self.number), figure)


def parse_condition(
    text: str, attributes: Mapping[str, Any] | tuple[str, ...] | list[str], max_fpr: float | None = None
) -> Condition:
    """Parse a condition.

    Args:
        text: as in this module.
        attributes: names of those that are audited; of an intersection "sex & age".
        max_fpr: the false positive rate that the partial AUC reaches to, where it is audited.

    Raises:
        InputError: the text is no condition, or names what there is not.
    """
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise InputError(f"fail_if: {text!r} is no condition; {_EXAMPLE}.")
    name, end = found["name"], found["end"]
    parts = [part.strip() for part in found["of"].split(",")]
    metrics, summaries = metrics_of(max_fpr), summaries_of(max_fpr)
    if max_fpr is None and PARTIAL_AUC in (*parts, name):
        raise InputError(f"fail_if: {text!r} is of {PARTIAL_AUC}; give max_fpr, the false positive rate it reaches to.")
    if end is not None and end not in ENDS:
        raise unknown("fail_if: end", end, ENDS)
    try:
        number = float(found["number"])
    except ValueError:
        raise InputError(f"fail_if: {found['number']!r} in {text!r} is no number; {_EXAMPLE}.") from None
    group: str | None = None
    if name in SPREADS:
        if len(parts) < 2:
            raise InputError(f"fail_if: {name} in {text!r} is of a metric and an attribute; {_EXAMPLE}.")
        # of an intersection either spelling: sex & age, or as it is asked for, sex,age
        metric, attribute = parts[0], " & ".join(parts[1:])
        own = {key.removesuffix(f"_{name}") for key in summaries if key.endswith(name)}
        if metric not in metrics or metric not in own:
            raise unknown(f"fail_if: metric of {name}", metric, [key for key in metrics if key in own])
        metric = f"{metric}_{name}"
    elif name in metrics:
        attribute, equals, group = (part.strip() for part in found["of"].partition("="))
        if attribute == EVERYONE and not equals:
            group = EVERYONE
        elif not equals or not group:
            raise InputError(
                f"fail_if: {name} in {text!r} is of one group; write it as '{name}({attribute or 'sex'}=GROUP) < 0.8' "
                f"or '{name}({EVERYONE}) < 0.8'."
            )
        if end == "p":
            raise InputError(f"fail_if: {text!r}: a group's {name} has no p-value; give low, high or neither.")
        metric = name
    elif name in summaries:
        metric, attribute = name, " & ".join(parts)
    else:
        raise unknown("fail_if: figure", name, [*SPREADS, *metrics, *summaries])
    if attribute != EVERYONE and attribute not in attributes:
        raise unknown("fail_if: attribute", attribute, list(attributes))
    return Condition(
        text.strip(),
        metric,
        attribute,
        group,
        ENDS.get(end or "", "value"),
        found["comparison"],
        number,
        found["finding"],
    )


def _where(frame: pandas.DataFrame, column: str, name: str, text: str) -> pandas.DataFrame:
    own = frame[frame[column] == name]
    if own.empty:
        raise unknown(f"fail_if: {column} of {text!r}", name, frame[column].unique())
    return own
