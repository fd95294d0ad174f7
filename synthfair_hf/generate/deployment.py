"""What audits and monitoring of classifiers say in the governance of a data set."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError, counted
from ..publish.governance import Figure
from .evidence import RecordFile, Said, interval, missing

__all__ = ["said_of_audits", "said_of_monitoring"]

AUDITED = (
    *("auc_gap", "equal_opportunity_difference", "fpr_gap", "demographic_parity_difference", "ece_gap"),
    "worst_group_accuracy",
)
"""Fairness metrics of an audit that are told; its record holds all."""


def said_of_audits(run: RecordFile, given: Sequence[RecordFile]) -> Said:
    """The audits.

    Args:
        run: the record of the data set.
        given: the records of audits.

    Raises:
        InputError: an audit is of another data set, or lacks a field.
    """
    if not given:
        yield missing("An audit of a classifier.", "Run `synthfair audit`, and give its directory.")
    for one in given:
        data_set = one.record.inputs.get("data_set")
        if data_set is not None and data_set != run("counts", "store"):
            raise InputError(
                f"audit: {one.path} is of the data set {data_set}, and this is {run('counts', 'store')}; give an audit "
                "of this version, or its own data set."
            )
        if data_set is None:
            yield missing(
                f"How {one.name} relates to this data set: its table {one('inputs', 'predictions')} names none.",
                "The reviewer knows on which images the predictions were made.",
            )
        else:
            yield one.says(f"The classifier {one('inputs', 'classifier')} was audited on this data set.")
        for row in one("measured", "gaps"):
            metric = row["metric"]
            if metric in AUDITED:
                finding = f"{row['finding']}, " if "finding" in row else ""
                yield one.says(
                    f"{finding}{metric} over the groups of {row['attribute']}"
                    + ("" if row["p"] is None else f", p = {row['p']:.3g} unadjusted")
                    + ".",
                    interval(metric, row, row["n"]),
                )
        for outcome in one("measured", "conditions"):
            yield one.says(_told(outcome), Figure(name="figure", value=outcome["figure"]))


def said_of_monitoring(given: Sequence[RecordFile], audited: Sequence[RecordFile]) -> Said:
    """The monitoring.

    Args:
        given: the records of monitoring.
        audited: those of audits, one of which is to be of the reference.

    Raises:
        InputError: a record lacks a field.
    """
    if not given:
        yield missing("Monitoring of the running classifier.", "Run `synthfair monitor`, and give its directory.")
    known = {one.record.inputs.get("predictions") for one in audited}
    for one in given:
        reference, windows = one("inputs", "reference"), one("measured", "windows")
        if reference not in known:
            yield missing(
                f"The audit of the table {reference}, with which {one.name} compares.",
                "Run `synthfair audit` on that table, and give its directory.",
            )
        silent = [row["window"] for row in windows if not row["labelled"]]
        yield one.says(
            f"{counted(len(windows), 'window')} by {one('settings', 'window')}, {windows[0]['start']} to "
            f"{windows[-1]['end']}; without drift the chance of any alarm in {one('settings', 'horizon')} windows "
            f"is at most {one('settings', 'alpha'):g}.",
            Figure(name="alarms", value=one("counts", "alarms"), n=len(windows)),
        )
        if silent:
            yield missing(
                f"Labels of the windows {', '.join(silent)} of {one.name}.", "Monitor again once they are known."
            )
        for row in one("measured", "drift"):
            if row["alarm"]:
                group = row["group"] if row["group"] != row["attribute"] else ""
                of = f"{row['attribute']}={group}" if group else row["attribute"]
                yield one.says(
                    f"Alarm in {row['window']}: {row['kind']} of {of}, p = {row['p']:.2g}.",
                    interval(row["metric"], row, row["n"]),
                )
        for outcome in one("measured", "conditions"):
            yield one.says(_told(outcome), Figure(name="figure", value=outcome["figure"]))


def _told(outcome: Mapping[str, Any]) -> str:
    window = f"{outcome['window']}: " if outcome.get("window") else ""
    return f"{window}condition {outcome['condition']} {'holds' if outcome['holds'] else 'does not hold'}."
