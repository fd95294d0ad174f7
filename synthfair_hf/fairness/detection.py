"""Detection of the attribute that a classifier exploits: a table of attributes, and a verdict, one of them or None.

    detect      p of each attribute by permutation, adjusted over attributes by Holm's step-down (any dependence);
                verdict: of the attributes with adjusted p <= alpha the one with the largest statistic
    against     z = (statistic - mean) / deviation of an attribute, over this classifier and unbiased references;
                adjusted p = share of all of these classifiers whose largest z reaches it (single-step, largest of all)

The two test different hypotheses. Scores of a network fitted on unbiased data depend a little on every attribute, and
with enough rows the first test detects that, correctly; the second tests whether they depend on it more than those of
such networks do. It needs 1 / alpha - 1 references, each fitted as the classifier was, with another seed, on the
unbiased twin of a view, and evaluated on the same rows.

    score       top-1, verdicts that name the planted attribute, and AUC against unbiased twins, by strength;
                false alarms, verdicts that name any attribute, on unbiased twins
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas
from scipy.stats import binomtest

from ..arguments import Replicates, Seed, checked
from ..errors import InputError, unknown
from ..measure.intervals import area_under_curve, bootstrap
from ..records import row_generator
from .detectors import DETECTORS, OF_FEATURES, Dependence, Evidence
from .interface import Classifier
from .labelled import LabelledImages
from .permutation import holm

__all__ = [
    "ALPHA",
    "FALSE_ALARMS",
    "TWIN",
    "Detection",
    "Scores",
    "against",
    "check_detection",
    "detect",
    "score",
]

ALPHA = 0.05
"""Significance level of a verdict: the probability, without any dependence, that an attribute is named."""

TWIN = 50
"""Strength, in percent, of the unbiased twin of a view."""

FALSE_ALARMS = {
    "subgroup_gap": (4, 30),
    "counterfactual": (24, 30),
    "shortcut": (28, 30),
    "slices": (27, 30),
}
"""By detector, verdicts that named any of six attributes among unbiased classifiers (docs/detection, rule permutation).

The verdict is right of these scores, which depend a little on every attribute: it is no proof of a biased training set.
"""

_ROUNDING = 1e-9  # 3 / 60 may come out above 0.05


class Scores(NamedTuple):
    """The outputs of a classifier for each row.

    Attributes:
        logits: `[n]`, of the finding being present.
        features: `[n, d]`, the input of the last layer; None if no detector is to look at them.
    """

    logits: np.ndarray
    features: np.ndarray | None = None

    @classmethod
    def of(cls, classifier: Classifier, examples: LabelledImages, features: bool = True) -> "Scores":
        """Logits and, unless they are not needed, features of every image of `examples`, in their order."""
        logits = classifier.logits(examples.images).numpy()
        return cls(logits, classifier.features(examples.images).numpy() if features else None)


@dataclass(frozen=True)
class Detection:
    """The result of one detector for one classifier.

    Attributes:
        detector: its name in `detectors.DETECTORS`.
        table: one line per attribute, in the order given: attribute, statistic, p, p_adjusted, rank (1 is the largest
            statistic), n (rows, or pairs), subjects, reason (why there is no value), and the parts of the statistic. An
            undefined figure is NaN, with n 0. After `against` there is also z, p is NaN, and rank is by z.
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
        """The first in rank of the attributes with adjusted p at most alpha; None if there is none."""
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
        """The inverse of `to_record`."""
        table = pandas.DataFrame(record["table"])
        figures = [name for name in table if name not in ("attribute", "n", "subjects", "reason")]
        return cls(record["detector"], table.astype(dict.fromkeys(figures, float)), record["settings"])


@checked
def detect(
    scores: Classifier | Scores,
    examples: LabelledImages,
    attributes: Sequence[str],
    detector: str,
    seed: Seed = 0,
    alpha: float = ALPHA,
    permutations: Replicates = 999,
) -> Detection:
    """Test which attributes the scores of a classifier depend on.

    Args:
        scores: a classifier (`open_classifier`, or `AdaptedClassifier` of a network or function), or its outputs for
            `examples`, in their order.
        examples: rows that the classifier was not fitted on, best of an unbiased split; without `pairs` the detector
            `counterfactual` is undefined.
        attributes: names in the groups of `examples`. An attribute without two groups with rows of both labels has no
            value.
        detector: a name in `detectors.DETECTORS`.
        seed: seed of the permutations.
        alpha: significance level of the verdict, in (0, 1).
        permutations: number of permutations; a verdict at level alpha needs len(attributes) / alpha - 1 of them.

    Returns:
        A line for each attribute, and the verdict.

    Raises:
        InputError: an argument is invalid.
    """
    check_detection(attributes, detector, alpha, permutations)
    for attribute in attributes:
        if attribute not in examples.groups:
            raise unknown("attributes", attribute, examples.groups)
    outputs = scores if isinstance(scores, Scores) else Scores.of(scores, examples, detector in OF_FEATURES)
    if outputs.features is None and detector in OF_FEATURES:
        others = ", ".join(name for name in DETECTORS if name not in OF_FEATURES)
        raise InputError(f"detector: {detector} looks at features, and the scores have none; give one of {others}.")
    none = np.zeros((len(examples), 0))
    logits, features = (np.asarray(none if one is None else one, dtype=np.float64) for one in outputs)
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


def check_detection(attributes: Sequence[str], detector: str, alpha: float, permutations: int) -> None:
    """Raise InputError for arguments that `detect` takes of no examples."""
    if detector not in DETECTORS:
        raise unknown("detector", detector, DETECTORS)
    repeated = next((name for number, name in enumerate(attributes) if name in attributes[:number]), None)
    if repeated is not None:
        raise InputError(f"attributes: {repeated!r} is given twice; give each once.")
    if not attributes:
        raise InputError("attributes: none; give one or more of the groups.")
    if not 0 < alpha < 1:
        raise InputError(f"alpha: {alpha:g} out of range; allowed: (0, 1).")
    least = math.ceil(len(attributes) / alpha - _ROUNDING) - 1
    if permutations < least:
        raise InputError(
            f"permutations: {permutations} for {len(attributes)} attributes never reach alpha {alpha:g}; give {least} "
            "or more."
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
    # all attributes use the same random numbers, so their order does not matter
    return DETECTORS[detector](evidence, row_generator(seed), permutations)


def _ranks(table: pandas.DataFrame, column: str) -> pandas.Series:
    """1 for the largest figure; ties are in the order of names, whatever the order of attributes."""
    ordered = table[table[column].notna()].sort_values([column, "attribute"], ascending=[False, True])
    return pandas.Series(np.arange(1.0, len(ordered) + 1), ordered.index).reindex(table.index)


def against(detection: Detection, references: Sequence[Detection]) -> Detection:
    """Test a detection against those of unbiased classifiers instead of by permutation.

    Args:
        detection: the result for the classifier in question.
        references: results of the same detector for unbiased classifiers, of the same attributes in any order. With
            fewer than 1 / alpha - 1 of them the verdict is always None. An attribute that is undefined in one of them
            is undefined in the result.

    Returns:
        The detection with z, p and rank among the references.

    Raises:
        InputError: there are no references, or they are of another detector or of other attributes.
    """
    if not references:
        raise InputError("references: none; give results of the same detector for classifiers fitted without bias.")
    columns = []
    for one in (detection, *references):
        if one.detector != detection.detector or set(one.table["attribute"]) != set(detection.table["attribute"]):
            raise InputError(
                f"references: {one.detector} of {', '.join(one.table['attribute'])}; give {detection.detector} of "
                f"{', '.join(detection.table['attribute'])}."
            )
        columns.append(one.table.set_index("attribute")["statistic"].reindex(detection.table["attribute"]))
    values = np.array(columns, dtype=np.float64)
    # under the null hypothesis the classifier is exchangeable with the references, so it counts in mean and deviation
    deviation = values.std(axis=0)
    z = (values - values.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    defined = np.isfinite(z).all(axis=0)
    p = np.full(len(defined), np.nan)
    if defined.any():
        most = z[:, defined].max(axis=1)
        p[defined] = (most[:, None] >= z[0, defined] - _ROUNDING).mean(axis=0)
    table = detection.table.assign(z=np.where(defined, z[0], np.nan), p=np.nan, p_adjusted=p)
    table["rank"] = _ranks(table, "z")
    settings = {**detection.settings, "correction": "largest z of all", "references": len(references)}
    return replace(detection, table=table, settings=settings)


def score(rows: Sequence[Mapping[str, Any]], seed: int = 0, n_bootstrap: int = 1000) -> pandas.DataFrame:
    """Evaluate detectors on views whose bias is known.

    Args:
        rows: one per detector, rule and classifier, with `detector`, `rule` (how the verdict is made), `planted` (the
            attribute that the view, or the view whose twin this is, trades), `strength` in percent, 50 of a twin,
            `seed`, and `top`, `verdict` and `largest` of the Detection.
        seed: seed of the bootstrap.
        n_bootstrap: number of bootstrap replicates, from 1.

    Returns:
        One line per detector, rule, planted attribute ("any": all of them), strength and metric: detector, rule,
        planted, strength, metric, value, low, high, n (classifiers). `top_1` and `named` are shares of planted views,
        and `false_alarm` of twins; their intervals are Clopper and Pearson's, as classifiers are independent given the
        data set. `auc` is the area under the ROC curve of `largest` for this strength against the twins, its interval a
        bootstrap over seeds.

    Raises:
        InputError: a row lacks a key.
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
                found.append(title | {"metric": "auc"} | _against_twins(some, twins, seed, n_bootstrap))
    return pandas.DataFrame(found)


def _proportion(events: pandas.Series) -> dict[str, Any]:
    count, n = int(events.sum()), len(events)
    interval = binomtest(count, n).proportion_ci()
    return {"value": count / n, "low": float(interval.low), "high": float(interval.high), "n": n}


def _against_twins(planted: pandas.DataFrame, twins: pandas.DataFrame, seed: int, n_bootstrap: int) -> dict[str, Any]:
    both = pandas.concat([planted, twins])
    # a classifier without any value ranks below all others
    figures = both["largest"].astype(float).rank(na_option="top").to_numpy()
    labels = np.repeat([1, 0], [len(planted), len(twins)])
    curve = area_under_curve(np.stack([figures, figures], axis=1), labels)
    one = bootstrap([curve], [both["seed"].astype(str).tolist()], seed, n_bootstrap)
    low, high = (math.nan if end is None else end for end in (one.low, one.high))
    return {"value": math.nan if one.mean is None else one.mean, "low": low, "high": high, "n": len(both)}
