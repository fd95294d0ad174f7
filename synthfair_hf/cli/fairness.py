"""Verbs that audit classifiers, and that compare methods of mitigation."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from ..errors import InputError, counted
from .folders import ExternalSource
from .output import print_counts
from .settings import OutputDirectory, Seed, VerbSettings, like
from .words import LISTS, LISTS_OF_NAMES, METHODS

__all__ = ["Audit", "Benchmark", "Detect", "Monitor"]


class _ClassifierFlags(VerbSettings):
    """The flags of a saved classifier, and of the rows that it scores."""

    view: str | None = Field(None, description="view whose rows a classifier scores; full by default")
    split: str | None = Field(None, description="split whose rows a classifier scores; test by default")
    finding: str | None = Field(
        None,
        description="what a classifier predicts; the only finding, or the only one that families cross, by default",
    )


class Audit(_ClassifierFlags):
    """Audit predictions or a classifier by group: a page, tables, a record; exit status 1 where a condition holds."""

    verb = "audit"
    example = (
        "--predictions predictions.csv --label pneumonia --score probability --groups sex age --bins age=40,60 "
        "--output_dir audit"
    )
    library_names: ClassVar = {"scores": "score", "labels": "label", "subjects": "subject", "weights": "weight"}
    predictions: Path | None = Field(
        None, description="table of anybody's predictions, CSV or Parquet, a line per image"
    )
    classifier: Path | None = Field(
        None,
        description="instead of a table: directory or OWNER/NAME of an image classifier, of transformers or ours",
    )
    data_dir: Path | None = Field(None, description="data set of `synthfair generate` that a classifier scores")
    label: str | tuple[str, ...] | None = Field(
        None,
        description="the table's column of what is true: 0 and 1, or words of which --positive says one; of several "
        "findings one each; of a classifier with several labels, the one that is the finding",
    )
    score: str | tuple[str, ...] | None = Field(
        None,
        description="the table's column of the probability that the finding is present; of several findings one each, "
        "in the order of --label",
    )
    groups: tuple[str, ...] = Field(description="attributes to compare: columns of the table, or covariates")
    subject: str | None = Field(
        None, description="its column of patients, resampled as a whole; each row is one of its own by default"
    )
    weight: str | None = Field(None, description="its column of weights; all rows count the same by default")
    positive: str | None = Field(None, description="the word of the label column that means present")
    negative: str | None = Field(
        None, description="the word that means absent, where there are more than two; rows of the others are left out"
    )
    bins: Annotated[dict[str, tuple[float, ...]], LISTS] = Field(
        {}, description="numbers at which the groups of an attribute begin, such as age=40,60"
    )
    intersections: Annotated[tuple[tuple[str, ...], ...], LISTS_OF_NAMES] = Field(
        (), description="attributes whose intersections are groups too, such as sex,age"
    )
    fail_if: tuple[str, ...] = Field(
        (),
        description="conditions for exit status 1, such as 'gap(tpr, sex) > 0.1', 'ratio(selection_rate, sex) < 0.8', "
        "'worst(auc, age) < 0.75', 'auc(sex=female) < 0.8'; of several findings each is asked, or one by "
        "'edema: gap(tpr, sex) > 0.1'",
    )
    threshold: float = Field(0.5, description="scores at or above it are predicted present")
    max_fpr: float | None = Field(
        None, description="false positive rate to which a partial AUC is audited too, such as 0.1; none by default"
    )
    causal_model: Path | None = Field(
        None,
        description="directory of a generator, by whose causal model the share of a classifier's predictions that is "
        "owed to each covariate is told too",
    )
    seed: Seed = 0
    n_bootstrap: int = Field(1000, description="bootstrap replicates of every interval")
    permutations: int = Field(1000, description="permutations of every test; 0 leaves the tests out")
    output_dir: OutputDirectory

    def run(self) -> int:
        _check_what_is_audited(self)
        # a table needs no torch, whose import takes as long as the audit
        if self.classifier is None:
            from ..fairness.audit_page import audit_predictions

            record, outcomes = audit_predictions(**self.given())
        else:
            from ..fairness.evaluation import audit_classifier

            # a classifier has one finding, whose label is one
            label = {} if self.label is None else {"label": _only("label", self.label)}
            record, outcomes = audit_classifier(**{**self.given(), **label})
        for finding, counts in record.counts.get("findings", {None: record.counts}).items():
            for name, n in counts["left_out"].items():
                print(f"{f'{finding}: ' if finding else ''}left out: {counted(n, 'row')} without {name}")
        for row in record.measured["gaps"]:
            if row["metric"] in ("auc_gap", "equal_opportunity_difference", "demographic_parity_difference"):
                value = "no value" if row["value"] is None else _with_ends(row)
                p = "" if row["p"] is None else f", p = {row['p']:.3g}"
                unknown_rows = f", {row['unknown']} of unknown group" if row["unknown"] else ""
                finding = f"{row['finding']}, " if "finding" in row else ""
                print(f"{finding}{row['attribute']}: {row['metric']} {value}{p}, n = {row['n']}{unknown_rows}")
        for one in outcomes:
            told = "it has no value" if math.isnan(one.figure) else f"it is {one.figure:.3f}"
            print(f"{'holds' if one.holds else 'does not hold'}: {one.condition} ({told})")
        for rows in record.measured.get("flips", {}).values():
            for row in rows:
                if row["metric"] == "flip_rate" and row["from"] == "any" and row["value"] is not None:
                    group = f" within {row['within']} = {row['group']}" if "within" in row else ""
                    flips = f"flips {_with_ends(row)} of {counted(row['n'], 'pair')}"
                    print(f"do({row['attribute']}){group}: {flips}")
        for row in record.measured.get("influence", []):
            if row["value"] is not None:
                print(f"owed to {row['covariate']}: {_with_ends(row)} of the variance")
        others = "" if self.classifier is None else ", predictions.csv"
        print(f"wrote {self.output_dir}/audit.html, audit.json{others}, groups.csv, gaps.csv and reliability.csv")
        return 1 if any(one.holds for one in outcomes) else 0


def _with_ends(row: Mapping[str, Any]) -> str:
    """A figure, and the interval around it where there is one."""
    return f"{row['value']:.3f}" + ("" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]")


def _only(argument: str, given: str | tuple[str, ...]) -> str:
    """The one word that a classifier takes."""
    if isinstance(given, str):
        return given
    if len(given) != 1:
        raise InputError(
            f"{argument}: {', '.join(given)}; give one, as a classifier is audited for one finding at a time."
        )
    return given[0]


def _check_what_is_audited(settings: Audit) -> None:
    """Raise InputError unless it is either a table, with its columns, or a classifier, with its rows."""
    if (settings.predictions is None) == (settings.classifier is None):
        raise InputError("predictions, classifier: give one of them, a table or what predicts.")
    table, rows = ("label", "score"), ("data_dir",)
    of_table = ("score", "subject", "weight", "positive", "negative")
    of_rows = ("data_dir", "view", "split", "finding", "causal_model")
    needed, barred, what = (table, of_rows, "predictions") if settings.predictions else (rows, of_table, "classifier")
    for name in needed:
        if getattr(settings, name) is None:
            raise InputError(f"{name}: not given; {what} needs it.")
    for name in barred:
        if getattr(settings, name) is not None:
            raise InputError(f"{name}: is given, and says nothing of {what}; leave it out.")


class Monitor(VerbSettings):
    """Monitor a running classifier by group over time: drift, alarms, a page; exit status 1 where a condition holds."""

    verb = "monitor"
    example = (
        "--predictions stream.csv --reference predictions.csv --time time --window month --label pneumonia "
        "--score probability --groups sex age --bins age=40,60 --output_dir monitoring"
    )
    predictions: Path = Field(description="table of the running classifier's predictions, CSV or Parquet, with times")
    reference: Path = Field(description="table to compare with, of the same columns, such as that of its validation")
    time: str = Field(description="the column of times, in ISO 8601 such as 2026-01-31T08:30+01:00")
    window: str = Field("month", description="a number of rows, or day, week, month, quarter or year")
    label: str = Field(description="the column of what is true; in the stream it may be empty, or absent")
    score: str = Field(description="the column of the probability that the finding is present")
    groups: tuple[str, ...] = like(Audit, "groups")
    subject: str | None = like(Audit, "subject")
    positive: str | None = like(Audit, "positive")
    negative: str | None = like(Audit, "negative")
    bins: Annotated[dict[str, tuple[float, ...]], LISTS] = like(Audit, "bins")
    intersections: Annotated[tuple[tuple[str, ...], ...], LISTS_OF_NAMES] = like(Audit, "intersections")
    fail_if: tuple[str, ...] = Field(
        (),
        description="what makes the exit status 1: alarm, and conditions of `synthfair audit` on any window that has "
        "labels, such as 'gap(tpr, sex).low > 0.1'",
    )
    threshold: float = like(Audit, "threshold")
    alpha: float = Field(0.05, description="the chance of any false alarm in all windows, where nothing drifts")
    horizon: int | None = Field(
        None, description="how many windows the stream is to have; those that it has by default"
    )
    seed: Seed = 0
    n_bootstrap: int = like(Audit, "n_bootstrap")
    permutations: int = Field(1000, description="permutations of the tests of drift")
    output_dir: OutputDirectory

    def run(self) -> int:
        from ..fairness.monitoring import monitor_predictions

        record, outcomes = monitor_predictions(**self.given())
        counts, found = record.counts, record.measured
        for name in ("reference", "stream"):
            for column, n in counts[name]["left_out"].items():
                print(f"{name}: left out: {counted(n, 'row')} without {column}")
        if counts["stream"]["waiting"]:
            print(f"{counted(counts['stream']['waiting'], 'row')} after the last whole window")
        for row in found["windows"]:
            told = f"{counted(row['alarms'], 'alarm')}" if row["alarms"] else "no alarm"
            print(f"{row['window']}: {counted(row['n'], 'row')}, {row['labelled']} labelled, {told}")
        for row in found["drift"]:
            if row["alarm"]:
                of = row["attribute"] + (f"={row['group']}" if row["group"] not in ("", row["attribute"]) else "")
                figure = f"{row['kind']} of {of}, {row['metric']} {_with_ends(row)}"
                print(f"alarm: {row['window']}: {figure}, p = {row['p']:.2g}, n = {row['n']}")
        for one in outcomes:
            figure = f"{one.figure:.0f} of them" if one.window is None else f"it is {one.figure:.3f}"
            told = "it has no value" if math.isnan(one.figure) else figure
            window = "" if one.window is None else f"{one.window}: "
            print(f"{window}{'holds' if one.holds else 'does not hold'}: {one.condition} ({told})")
        print(f"wrote {self.output_dir}/monitoring.html, monitoring.json and its tables in CSV")
        return 1 if any(one.holds for one in outcomes) else 0


class Detect(_ClassifierFlags):
    """Test which attributes a classifier's scores depend on: a table, a verdict, and how often it is a false alarm."""

    verb = "detect"
    example = (
        "--classifier classifier --data_dir synthfair --attributes sex scanner age --detector counterfactual "
        "--output_file detection.json"
    )
    classifier: Path = Field(description="directory or OWNER/NAME of an image classifier, of transformers or ours")
    data_dir: Path = Field(description="data set of `synthfair generate` whose rows it scores")
    attributes: tuple[str, ...] = Field(description="covariates to test, such as sex scanner age")
    detector: str = Field(
        "counterfactual", description="counterfactual, subgroup_gap, shortcut or slices; the last two look at features"
    )
    label: str | None = Field(None, description="of a classifier with several labels, the one that is the finding")
    seed: Seed = 0
    alpha: float = Field(0.05, description="significance level of the verdict, over all attributes")
    permutations: int = Field(999, description="permutations of every test")
    output_file: Path | None = Field(None, description="where the record is written as JSON")

    def run(self) -> None:
        from ..fairness.detection import FALSE_ALARMS
        from ..fairness.evaluation import detect_classifier

        record, found = detect_classifier(**self.given())
        if record.counts["left_out"]:
            print(f"{counted(record.counts['left_out'], 'row')} without a value of an attribute, left out")
        for row in record.measured["table"]:
            if row["statistic"] is None:
                print(f"{row['attribute']}: no value, {row['reason']}")
            else:
                p, n = f"p = {row['p']:.3g}, adjusted {row['p_adjusted']:.3g}", counted(row["subjects"], "subject")
                print(f"{row['attribute']}: {row['statistic']:.3f}, {p}, rank {row['rank']:.0f}, {n}")
        verdict = found.verdict or "none of them"
        print(f"verdict: {verdict}, by {found.detector} at level {self.alpha:g}")
        named, of = FALSE_ALARMS[found.detector]
        print(
            f"known false alarms: on phantoms this rule named an attribute for {named} of {of} classifiers fitted "
            "without bias (docs/detection), as scores depend a little on every attribute; compare it with those fitted "
            "on a twin"
        )
        if self.output_file is not None:
            print(f"wrote {self.output_file}")


class Benchmark(VerbSettings):
    """Fit mitigation methods on biased views and their twins, and print a leaderboard; finished cells are kept."""

    verb = "benchmark"
    continues = True
    example = (
        "--data_dir synthfair --views finding_sex_correlated_90_10 --methods reweighting jtt:steps=100 "
        "--output_dir leaderboard"
    )
    library_names: ClassVar = {"name": "views"}
    data_dir: Path = Field(description="data set that `synthfair generate` wrote")
    views: tuple[str, ...] = Field(description="biased views; their twins are added")
    methods: Annotated[tuple[tuple[str, dict[str, str]], ...], METHODS] = Field(
        (), description="of synthfair_hf.fairness.mitigation, alone or with settings of their own; erm is added"
    )
    finding: str | None = Field(
        None, description="what is classified; the only finding, or the only one that families cross, by default"
    )
    method_files: tuple[Path, ...] = Field(
        (),
        alias="method_file",
        description="Python files that are run, one subclass of Method each; the method has its file's name",
    )
    seeds: int = Field(5, description="how many fits of each method")
    train_subjects: int | None = Field(None, description="subjects of train that are used; half of them by default")
    steps: int | None = Field(None, description="of every fit; each method's own by default")
    classifier: Path | None = Field(
        None,
        description="what fits start from: directory or OWNER/NAME of an image classifier of transformers, or its "
        "config.json for random weights; a small network by default",
    )
    learning_rate: float | None = Field(None, description="of every fit; each method's own by default")
    external: ExternalSource = None
    num_proc: int = Field(1, description="processes that fit at a time")
    output_dir: OutputDirectory

    def run(self) -> None:
        from ..fairness.benchmark.board import benchmark

        record = benchmark(**dict(self))
        print(f"wrote {self.output_dir}/README.md and table.csv of {counted(len(record.counts['cells']), 'cell')}")
        print_counts(record.counts)
