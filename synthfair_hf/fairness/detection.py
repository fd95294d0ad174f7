"""Which attribute does a classifier exploit? A table of attributes per detector, and a verdict: one of them, or None.

    detect      p of each attribute by permutation, adjusted over attributes by Holm's step-down (any dependence);
                verdict: of the attributes with adjusted p <= alpha the one with the largest statistic
    against     z = (statistic - mean) / deviation of an attribute, over this classifier and unbiased references;
                adjusted p = share of all of these classifiers whose largest z reaches it (single-step, largest of all)

The two answer different questions. A network fitted on unbiased data leans a little on everything, and with enough
rows the first says so, truly; the second asks whether it leans more than such networks do. It needs 1 / alpha - 1
references, each fitted as the classifier was, with another seed, on a view's twin, and asked about the same rows.

    score       top-1, verdicts that name the planted attribute, and area under the curve against twins, by strength;
                false alarms, verdicts that name anything, on twins
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas
from scipy.stats import binomtest

from ..errors import InputError, unknown
from ..measure.intervals import area_under_curve, bootstrap
from ..records import row_generator
from .classifier import ImageClassifier
from .detectors import DETECTORS, Dependence, Evidence
from .labelled import LabelledImages

__all__ = ["ALPHA", "TWIN", "Detection", "Scores", "against", "detect", "holm", "score"]

ALPHA = 0.05
"""Level of a verdict: how often, without any dependence, an attribute may be named."""

TWIN = 50
"""Strength, in percent, of a view without bias."""

_ROUNDING = 1e-9  # 3 / 60 may come out above 0.05


class Scores(NamedTuple):
    """What a classifier says of each row."""

    logits: np.ndarray
    """`[n]`, of the finding being present."""
    features: np.ndarray
    """`[n, d]`."""

    @classmethod
    def of(cls, classifier: ImageClassifier, examples: LabelledImages) -> "Scores":
        """Logits and features of every image."""
        return cls(classifier.logits(examples.images).numpy(), classifier.features(examples.images).numpy())


@dataclass(frozen=True)
class Detection:
    """What one detector says of one classifier.

    table: one line per attribute, as they were given: attribute, statistic, p, p_adjusted, rank (1 is the largest
    statistic), n (rows, or pairs), subjects, reason (why there is no value), and what the statistic is made of. What
    could not be said is NaN, with n 0. After `against` also z, p is NaN, and rank is by z.
    settings: seed, alpha, permutations, correction and, after `against`, the number of references.
    """

    detector: str
    table: pandas.DataFrame
    settings: Mapping[str, Any]

    @property
    def top(self) -> str | None:
        """The attribute ranked first; None where none has a value."""
        first = self.table.loc[self.table["rank"] == 1, "attribute"]
        return None if first.empty else str(first.iloc[0])

    @property
    def verdict(self) -> str | None:
        """The first in rank of the attributes whose adjusted p is at most alpha."""
        named = self.table[self.table["p_adjusted"] <= self.settings["alpha"] + _ROUNDING].sort_values("rank")
        return None if named.empty else str(named["attribute"].iloc[0])

    @property
    def largest(self) -> float:
        """Statistic (after `against`, z) of the attribute ranked first; NaN where none has a value."""
        column = self.table["z" if "z" in self.table else "statistic"]
        return float(column.max())

    def to_record(self) -> dict[str, Any]:
        """Settings, verdict and table as plain values, None for NaN, for a record."""
        rows = self.table.astype(object).where(self.table.notna(), None).to_dict("records")
        return {"detector": self.detector, "settings": dict(self.settings), "verdict": self.verdict, "table": rows}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Detection":
        """What `to_record` gave."""
        table = pandas.DataFrame(record["table"])
        figures = [name for name in table if name not in ("attribute", "n", "subjects", "reason")]
        return cls(record["detector"], table.astype(dict.fromkeys(figures, float)), record["settings"])


def detect(
    scores: ImageClassifier | Scores,
    examples: LabelledImages,
    attributes: Sequence[str],
    detector: str,
    seed: int = 0,
    alpha: float = ALPHA,
    permutations: int = 999,
) -> Detection:
    """What a detector of DETECTORS says of a classifier, or of what it said of `examples` in their order.

    examples: rows it was not fitted on, best of an unbiased split; with pairs, or `counterfactual` has no value.
    attributes: of the groups of `examples`. One without two groups that have rows of both labels has no value.
    permutations: a verdict at level alpha needs len(attributes) / alpha - 1 of them.

    Raises InputError.
    """
    if detector not in DETECTORS:
        raise unknown("detector", detector, DETECTORS)
    for number, attribute in enumerate(attributes):
        if attribute not in examples.groups:
            raise unknown("attributes", attribute, examples.groups)
        if attribute in attributes[:number]:
            raise InputError(f"attributes: {attribute!r} is there twice; give each once.")
    if not attributes:
        raise InputError(f"attributes: none; give one or more of {', '.join(examples.groups)}.")
    if not 0 < alpha < 1:
        raise InputError(f"alpha: {alpha:g} out of range; allowed: (0, 1).")
    least = math.ceil(len(attributes) / alpha - _ROUNDING) - 1
    if permutations < least:
        raise InputError(
            f"permutations: {permutations} for {len(attributes)} attributes never reach alpha {alpha:g}; give {least} "
            "or more."
        )
    told = scores if isinstance(scores, Scores) else Scores.of(scores, examples)
    logits, features = (np.asarray(column, dtype=np.float64) for column in told)
    for name, column, shape in (("logits", logits, "[n]"), ("features", features, "[n, d]")):
        if column.ndim != shape.count(",") + 1 or len(column) != len(examples) or not np.isfinite(column).all():
            raise InputError(
                f"scores: {name} of shape {column.shape} for {len(examples)} rows, {np.sum(~np.isfinite(column))} of "
                f"them not finite; give finite {name} {shape}."
            )
    found = []
    for attribute in attributes:
        one = _one(detector, logits, features, examples, attribute, seed, permutations)
        found.append({"attribute": attribute, **one._asdict(), **one.parts})
    table = pandas.DataFrame(found).drop(columns="parts")
    table.insert(3, "p_adjusted", holm(table["p"].to_numpy()))
    table.insert(4, "rank", _ranks(table, "statistic"))
    return Detection(
        detector, table, {"seed": seed, "alpha": alpha, "permutations": permutations, "correction": "Holm"}
    )


def _one(
    detector: str,
    logits: np.ndarray,
    features: np.ndarray,
    examples: LabelledImages,
    attribute: str,
    seed: int,
    permutations: int,
) -> Dependence:
    subjects, _ = pandas.factorize(np.asarray(examples.subjects, dtype=object))
    codes, _ = pandas.factorize(examples.groups[attribute].numpy())
    keys = examples.pairs.get(attribute)
    pairs = None if keys is None else pandas.factorize(np.asarray(keys, dtype=object))[0]
    every = Evidence(logits, features, examples.labels.numpy(), codes, subjects, pairs)
    evidence = every.comparable()
    if evidence.groups < 2:
        return Dependence(math.nan, math.nan, 0, 0, "fewer than two groups with rows of both labels")
    # all attributes see the same random numbers, so their order changes nothing
    return DETECTORS[detector](evidence, row_generator(seed), permutations)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p of p `[k]`; NaN stays NaN and is not counted."""
    order = np.argsort(p, kind="stable")  # NaN last
    known = int(np.isfinite(p).sum())
    steps = np.maximum.accumulate(p[order[:known]] * np.arange(known, 0, -1)).clip(max=1)
    adjusted = np.full(len(p), np.nan)
    adjusted[order[:known]] = steps
    return adjusted


def _ranks(table: pandas.DataFrame, column: str) -> pandas.Series:
    """1 for the largest figure; equal ones in the order of names, whatever the order of attributes."""
    ordered = table[table[column].notna()].sort_values([column, "attribute"], ascending=[False, True])
    return pandas.Series(np.arange(1.0, len(ordered) + 1), ordered.index).reindex(table.index)


def against(detection: Detection, references: Sequence[Detection]) -> Detection:
    """The same detection judged by what unbiased classifiers show instead of by permutation.

    references: what the same detector says of them, by attribute; attributes may come in another order. With fewer than
    1 / alpha - 1 of them the verdict is always None. An attribute without a value in one of them has none here.

    Raises InputError where there are none, or of another detector or other attributes.
    """
    if not references:
        raise InputError("references: none; give what the detector says of classifiers fitted without bias.")
    columns = []
    for one in (detection, *references):
        if one.detector != detection.detector or set(one.table["attribute"]) != set(detection.table["attribute"]):
            raise InputError(
                f"references: {one.detector} of {', '.join(one.table['attribute'])}; give {detection.detector} of "
                f"{', '.join(detection.table['attribute'])}."
            )
        columns.append(one.table.set_index("attribute")["statistic"].reindex(detection.table["attribute"]))
    values = np.array(columns, dtype=np.float64)
    # the classifier is among those that set the scale, or it would not be one of them
    deviation = values.std(axis=0)
    z = (values - values.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    said = np.isfinite(z).all(axis=0)
    p = np.full(len(said), np.nan)
    if said.any():
        most = z[:, said].max(axis=1)
        p[said] = (most[:, None] >= z[0, said] - _ROUNDING).mean(axis=0)
    table = detection.table.assign(z=np.where(said, z[0], np.nan), p=np.nan, p_adjusted=p)
    table["rank"] = _ranks(table, "z")
    settings = {**detection.settings, "correction": "largest z of all", "references": len(references)}
    return replace(detection, table=table, settings=settings)


def score(rows: Sequence[Mapping[str, Any]], seed: int = 0, draws: int = 1000) -> pandas.DataFrame:
    """Detectors judged by views whose bias is known.

    rows: one per detector, rule and classifier, with `detector`, `rule` (how its verdict is made), `planted` (what the
    view, or the view whose twin this is, trades), `strength` in percent, 50 of a twin, `seed`, `top`, `verdict` and
    `largest`, as a Detection says them.

    One line per detector, rule, planted attribute ("any": all of them) and strength: detector, rule, planted, strength,
    metric, value, low, high, n (classifiers). top_1 and named are shares of planted views; on twins there is
    false_alarm. Their intervals are Clopper and Pearson's: classifiers are independent given the data set. auc is the
    area under the curve of `largest` for this strength against the twins, its interval a bootstrap over seeds.
    """
    frame = pandas.DataFrame(list(rows))
    needed = ["detector", "rule", "planted", "strength", "seed", "top", "verdict", "largest"]
    for name in needed:
        if name not in frame:
            raise InputError(f"rows: no {name!r}; give rows with {', '.join(needed)}.")
    found: list[dict[str, Any]] = []
    for (detector, rule), every in frame.groupby(["detector", "rule"], sort=False):
        for planted in (*every["planted"].unique(), "any"):
            own = every if planted == "any" else every[every["planted"] == planted]
            twins = own[own["strength"] == TWIN]
            for strength in sorted(own["strength"].unique().tolist()):
                some = own[own["strength"] == strength]
                title = {"detector": detector, "rule": rule, "planted": planted, "strength": strength}
                if strength == TWIN:
                    found.append(title | {"metric": "false_alarm"} | _proportion(some["verdict"].notna()))
                    continue
                for metric, column in (("top_1", "top"), ("named", "verdict")):
                    found.append(title | {"metric": metric} | _proportion(some[column] == some["planted"]))
                found.append(title | {"metric": "auc"} | _against_twins(some, twins, seed, draws))
    return pandas.DataFrame(found)


def _proportion(events: pandas.Series) -> dict[str, Any]:
    count, n = int(events.sum()), len(events)
    interval = binomtest(count, n).proportion_ci()
    return {"value": count / n, "low": float(interval.low), "high": float(interval.high), "n": n}


def _against_twins(planted: pandas.DataFrame, twins: pandas.DataFrame, seed: int, draws: int) -> dict[str, Any]:
    both = pandas.concat([planted, twins])
    # where no attribute has a value nothing is seen, which is less than any figure
    figures = both["largest"].astype(float).rank(na_option="top").to_numpy()
    labels = np.repeat([1, 0], [len(planted), len(twins)])
    curve = area_under_curve(np.stack([figures, figures], axis=1), labels)
    one = bootstrap([curve], [both["seed"].astype(str).tolist()], seed, draws)
    low, high = (math.nan if end is None else end for end in (one.low, one.high))
    return {"value": math.nan if one.mean is None else one.mean, "low": low, "high": high, "n": len(both)}
