"""The audit of a table of predictions, written down: a page to look at, tables to compute with, and the record.

DIR/audit.html    conditions, fairness metrics by attribute, every metric by group with its interval, a
                  section for each finding; it fetches nothing and runs no script
DIR/groups.csv, gaps.csv    the two tables of `audit.AuditTable`; of several findings with a column `finding`
DIR/reliability.csv    that of `reliability.reliability`: the share with the finding by group and bin of scores
DIR/flips.csv     that of `flips.flip_rates` by attribute, where the counterfactuals of the rows are known
DIR/influence.csv    that of `influence.causal_influence`, where a causal model of the covariates is known
DIR/audit.json    the record, with both tables in it
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas

from ..arguments import Fraction, PositiveFraction, Replicates, Seed, checked
from ..errors import InputError, counted
from ..publish.pages import render
from ..records import Record, file_sha256, library_versions, writable_directory, write_together, written
from .audit import AuditTable, audit, plain_rows
from .audit_figures import SMALL, curves_of, figure_text, plots_of, rows_of
from .conditions import Condition, Outcome, parse_condition
from .permutation import holm
from .predictions import Predictions, read_predictions
from .reliability import reliability

__all__ = ["Audited", "audit_predictions", "parse_conditions", "write_audit"]

HEADLINES = {
    "auc_gap": "difference in AUC",
    "partial_auc_gap": "difference in partial AUC",
    "equal_opportunity_difference": "equal opportunity difference (TPR)",
    "fpr_gap": "difference in FPR",
    "equalized_odds_max_difference": "equalized odds difference (the larger of TPR and FPR)",
    "demographic_parity_difference": "demographic parity difference (selection rate)",
    "ppv_gap": "difference in PPV",
    "ece_gap": "difference in calibration error (ECE)",
    "worst_group_accuracy": "worst-group accuracy, by finding and group",
    "equity_scaled_auc": "equity-scaled AUC",
}
"""The fairness metrics of the page; the others are in gaps.csv."""


@checked
def audit_predictions(
    predictions: str | Path,
    label: str | Sequence[str],
    score: str | Sequence[str],
    groups: Sequence[str],
    output_dir: str | Path,
    subject: str | None = None,
    weight: str | None = None,
    positive: str | None = None,
    negative: str | None = None,
    bins: Mapping[str, Sequence[float]] | None = None,
    intersections: Sequence[Sequence[str]] = (),
    fail_if: Sequence[str] = (),
    threshold: Fraction = 0.5,
    seed: Seed = 0,
    n_bootstrap: Replicates = 1000,
    permutations: Replicates = 1000,
    max_fpr: PositiveFraction | None = None,
) -> tuple[Record, list[Outcome]]:
    """Audit a table of predictions and write page, tables and record.

    Args:
        predictions: the table, CSV or Parquet, a line per image.
        label: column of what is true; of several findings one each.
        score: column of the probability that the finding is present; of several findings one each, in their order.
        groups: columns of attributes.
        output_dir: where the files are written.
        subject: column of patients, whose rows are resampled together; each row is one of its own by default.
        weight: column of weights; all rows count the same by default.
        positive: the word of `label` that means present, where labels are words; of every finding.
        negative: the word that means absent, where there are more than two; rows of the others are left out.
        bins: by attribute, the numbers at which groups begin.
        intersections: attributes whose intersections are groups too.
        fail_if: conditions on the figures, of `conditions`; of several findings each is asked of every one that it
            does not exclude by naming another.
        threshold: scores at or above it are predicted present.
        seed: of bootstrap and permutations.
        n_bootstrap: bootstrap replicates, from 1.
        permutations: of the tests; 0 leaves them out.
        max_fpr: the false positive rate, in (0, 1], to which a partial AUC is audited too; none by default.

    Returns:
        The record, as written, and each condition's outcome.

    Raises:
        InputError: an argument is invalid, before anything is written.
    """
    labels, scores = ([one] if isinstance(one, str) else list(one) for one in (label, score))
    if not labels or len(labels) != len(scores):
        raise InputError(
            f"label, score: {counted(len(labels), 'label')} and {counted(len(scores), 'score')}; give a column of each "
            "for every finding, in the same order."
        )
    repeated = next((name for name, times in Counter([*labels, *scores]).items() if times > 1), None)
    if repeated is not None:
        raise InputError(f"label, score: {repeated!r} is named twice; name each column once.")
    directory, path = writable_directory(output_dir), Path(predictions)
    conditions = parse_conditions(fail_if, groups, intersections, max_fpr, labels)
    findings = {
        finding: read_predictions(path, finding, own, groups, subject, weight, positive, bins, negative)
        for finding, own in zip(labels, scores, strict=True)
    }
    # one finding is written as its name
    named = {"label": labels, "score": scores} if len(labels) > 1 else {"label": labels[0], "score": scores[0]}
    columns = {**named, "groups": list(groups), "subject": subject, "weight": weight}
    given = {
        "positive": positive,
        "negative": negative,
        "bins": None if bins is None else {name: list(edges) for name, edges in bins.items()},
    }
    audited = Audited(
        path.name,
        findings,
        {name: column for name, column in columns.items() if column is not None},
        {name: value for name, value in given.items() if value},
        {"predictions": file_sha256(path)[:16]},
    )
    return write_audit(
        directory, audited, conditions, threshold, intersections, seed, n_bootstrap, permutations, max_fpr
    )


class Audited(NamedTuple):
    """What is audited.

    Attributes:
        name: of the table or classifier, for the page.
        findings: the predictions of each finding, by the column of its label.
        columns: of the table, by what they are.
        settings: for the record, beside the columns and those of the audit.
        inputs: for the record.
        flips: by name, tables of `flips.flip_rates`, where counterfactuals are known.
        files: further files to write beside the page, by name.
        influence: the table of `influence.causal_influence`, where a causal model is known.
    """

    name: str
    findings: Mapping[str, Predictions]
    columns: Mapping[str, Any]
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    flips: Mapping[str, pandas.DataFrame] = {}
    files: Mapping[str, bytes] = {}
    influence: pandas.DataFrame | None = None


def parse_conditions(
    fail_if: Sequence[str],
    groups: Sequence[str],
    intersections: Sequence[Sequence[str]],
    max_fpr: float | None = None,
    findings: Sequence[str] = (),
) -> list[Condition]:
    """Conditions on the figures of these attributes and intersections, of several findings one for each."""
    audited = (*groups, *(" & ".join(names) for names in intersections))
    return [one for text in fail_if for one in parse_condition(text, audited, max_fpr).of(findings)]


def write_audit(
    directory: Path,
    audited: Audited,
    conditions: Sequence[Condition],
    threshold: float,
    intersections: Sequence[Sequence[str]],
    seed: int,
    n_bootstrap: int,
    permutations: int,
    max_fpr: float | None = None,
) -> tuple[Record, list[Outcome]]:
    """Audit predictions and write page, tables and record; arguments and result are those of `audit_predictions`."""
    found: dict[str, _Found] = {}
    for finding, read in audited.findings.items():
        drawn: dict[str, Any] = {"intersections": intersections, "seed": seed, "n_bootstrap": n_bootstrap}
        columns = {name: column for name, column in read._asdict().items() if name != "left_out"}
        given = columns | drawn
        table = audit(**given, threshold=threshold, permutations=permutations, max_fpr=max_fpr)
        found[finding] = _Found(read, table, reliability(**given))
    first = next(iter(audited.findings))
    outcomes = [condition.check(found[condition.finding or first].table) for condition in conditions]
    tables = {
        "groups": _joined({finding: one.table.groups for finding, one in found.items()}),
        "gaps": _joined({finding: one.table.gaps for finding, one in found.items()}),
        "reliability": _joined({finding: one.curves for finding, one in found.items()}),
    }
    flips = {name: plain_rows(own) for name, own in audited.flips.items()}
    counts = {finding: one.counts for finding, one in found.items()}
    record = Record(
        stage="audit",
        inputs=dict(audited.inputs),
        settings={
            "columns": dict(audited.columns),
            **audited.settings,
            "fail_if": [one.condition for one in outcomes],
            **{name: value for name, value in found[first].table.settings.items() if name not in SIZES},
        },
        versions=library_versions(),
        counts=counts[first] if len(found) == 1 else {"findings": counts},
        measured={
            "conditions": [_plain(one) for one in outcomes],
            **{name: plain_rows(frame) for name, frame in tables.items()},
            **({"flips": flips} if flips else {}),
            **({} if audited.influence is None else {"influence": plain_rows(audited.influence)}),
        },
    )
    page = _page(audited, found, outcomes, record)
    if audited.flips:
        tables["flips"] = pandas.concat(audited.flips.values())
    if audited.influence is not None:
        tables["influence"] = audited.influence
    directory.mkdir(parents=True, exist_ok=True)
    write_together(
        {
            **{directory / name: data for name, data in audited.files.items()},
            **{directory / f"{name}.csv": frame.to_csv(index=False).encode() for name, frame in tables.items()},
            directory / "audit.html": page.encode(),
            directory / "audit.json": written(record.model_dump(mode="json")),
        }
    )
    return record, outcomes


SIZES = ("n", "positives", "subjects")


class _Found(NamedTuple):
    """What was found of one finding: `curves` are those of `reliability.reliability`."""

    read: Predictions
    table: AuditTable
    curves: pandas.DataFrame

    @property
    def counts(self) -> dict[str, Any]:
        return {**{name: self.table.settings[name] for name in SIZES}, "left_out": self.read.left_out}


def _joined(frames: Mapping[str, pandas.DataFrame]) -> pandas.DataFrame:
    """One table, of several findings with their names as its first column."""
    if len(frames) == 1:
        return next(iter(frames.values()))
    return pandas.concat(frames, names=["finding"]).reset_index("finding")


def _plain(outcome: Outcome) -> dict[str, Any]:
    figure = None if math.isnan(outcome.figure) else outcome.figure
    return {"condition": outcome.condition, "holds": outcome.holds, "figure": figure}


def _page(audited: Audited, found: Mapping[str, _Found], outcomes: Sequence[Outcome], record: Record) -> str:
    gaps = pandas.concat({finding: one.table.gaps for finding, one in found.items()}, names=["finding"])
    gaps = gaps[gaps["metric"].isin(HEADLINES)].copy()
    # over all findings, as all are looked at together
    gaps["adjusted"] = holm(gaps["p"].to_numpy(dtype=np.float64))
    columns = record.settings["columns"]
    scores = [columns["score"]] if isinstance(columns["score"], str) else columns["score"]
    return render(
        "audit.html.jinja",
        name=audited.name,
        settings=record.settings,
        columns=columns,
        positive=record.settings.get("positive", 1),
        inputs=record.inputs,
        flips={_intervention(own.iloc[0]): list(_flip_lines(own)) for own in audited.flips.values()},
        influence=[] if audited.influence is None else _influence_lines(audited.influence),
        version=record.versions["synthfair-hf"],
        conditions=[_plain(one) for one in outcomes],
        tests=int(gaps["p"].notna().sum()),
        least=float(gaps["p"].notna().sum() / (1 + record.settings["permutations"])),
        findings=[
            {"label": finding, "score": score, **_section(one, gaps[gaps.index.get_level_values("finding") == finding])}
            for score, (finding, one) in zip(scores, found.items(), strict=True)
        ],
    )


def _section(found: _Found, gaps: pandas.DataFrame) -> dict[str, Any]:
    """What the page says of one finding; `gaps` are its fairness metrics with adjusted p-values."""
    return {
        "counts": found.counts,
        "small": small_groups(found.table),
        "unknown": {
            row["attribute"]: row["unknown"] for row in rows_of(gaps.drop_duplicates("attribute")) if row["unknown"]
        },
        "lines": {
            attribute: [_line(row) for metric in HEADLINES for row in rows_of(own[own["metric"] == metric])]
            for attribute, own in gaps.groupby("attribute", sort=False)
        },
        "plots": list(plots_of(found.table)),
        "curves": curves_of(found.curves),
    }


def small_groups(table: AuditTable) -> dict[str, int]:
    """Rows of the groups that have fewer than SMALL, but some, by attribute and name: their figures are hardly any."""
    rows = table.groups[table.groups["metric"] == "accuracy"]
    few = rows[(rows["n"] > 0) & (rows["n"] < SMALL)]
    return {f"{row['attribute']}={row['group']}": int(row["n"]) for row in few.to_dict("records")}


def _influence_lines(shares: pandas.DataFrame) -> list[dict[str, Any]]:
    """A line for each covariate, with its share as a text, and as a width in percent."""
    return [
        row | {"figure": figure_text(row), "width": round(100 * min(max(row["value"] or 0, 0), 1), 1)}
        for row in rows_of(shares)
    ]


def _intervention(row: Mapping[str, Any] | pandas.Series) -> str:
    """The text do(sex), or do(sex) within age, of a line of flips."""
    return f"do({row['attribute']})" + (f" within {row['within']}" if "within" in row else "")


def _flip_lines(flips: pandas.DataFrame) -> Iterator[dict[str, Any]]:
    """A line for each pair of levels, and one for all, of each group: figures by metric as texts."""
    named = flips.assign(group=flips.get("group", ""))
    for (group, start, end), found in named.groupby(["group", "from", "to"], sort=False):
        texts = {row["metric"]: figure_text(row) for row in rows_of(found)}
        yield {"group": group, "start": start, "end": end, "pairs": int(found["n"].iloc[0])} | {"figures": texts}


def _line(row: dict[str, Any]) -> dict[str, Any]:
    tests = {name: "–" if row[name] is None else f"{row[name]:.3f}" for name in ("p", "adjusted")}
    return row | {"title": HEADLINES[row["metric"]], "figure": figure_text(row)} | tests
