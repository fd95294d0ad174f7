"""Fairness metrics for the library `evaluate`, loaded from files of this package without a network connection.

    load_metric("equal_opportunity_difference").compute(predictions=, references=, groups=)
    evaluate.combine([load_metric("equalized_odds"), load_metric("worst_group_accuracy")])

`predictions` are scores in [0, 1] of a finding, `references` 0 (absent) or 1 (present), `groups` names. A metric is
None if fewer than two groups have it. `fairness.audit` has the same figures with intervals.

- `group_fairness` — `GroupFairness`: any metric of an audit's gaps, by its name
- `equalized_odds` — `EqualizedOdds`: three definitions of equalized odds, by default fairlearn's
"""

import math
from collections.abc import Sequence
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from datasets import Features, Value

from ...arguments import checked
from ...errors import InputError, shown, unknown
from ...missing import is_missing
from ..groups import group_codes
from ..rates import check_labels, check_scores, group_rates, is_column
from ..summaries import SUMMARIES, Summary, summarise

__all__ = ["FEATURES", "HF_METRICS", "CheckedColumns", "figure", "load_metric"]

HF_METRICS = Path(__file__).parent
"""The folder of the files to load."""

FEATURES = Features({"predictions": Value("float64"), "references": Value("int64"), "groups": Value("string")})


ODDS = "equalized_odds"


@checked
def load_metric(name: str) -> Any:
    """A metric of the library `evaluate`, which is in the extra `evaluate`.

    Args:
        name: "equalized_odds", or one of `summaries.SUMMARIES`.

    Returns:
        An `evaluate.Metric`, for `compute`, `add_batch` and `evaluate.combine`.

    Raises:
        InputError: there is no metric of this name, or `evaluate` is not installed.
    """
    if name != ODDS and name not in SUMMARIES:
        raise unknown("name", name, (ODDS, *SUMMARIES))
    try:
        import evaluate
    except ImportError:
        raise InputError(
            "load_metric: evaluate is not installed; install it, or this package with the extra 'evaluate'."
        ) from None
    if name == ODDS:
        return evaluate.load(str(HF_METRICS / f"{ODDS}.py"))
    return evaluate.load(str(HF_METRICS / "group_fairness.py"), name)


class CheckedColumns:
    """Mixed in before `evaluate.Metric`: columns are checked before they become FEATURES, which would make 0.9 a 0."""

    def compute(self, **given: Any) -> Any:
        """As evaluate's; InputError for an argument that is missing, unknown or invalid."""
        settings = {
            name: one
            for name, one in signature(self._compute).parameters.items()  # type: ignore[attr-defined]
            if name not in FEATURES
        }
        for name in given:
            if name not in FEATURES and name not in settings:
                raise unknown(f"{self.name}.compute", name, (*FEATURES, *settings))  # type: ignore[attr-defined]
        for name, one in settings.items():
            if name not in given and one.default is Parameter.empty:
                raise InputError(f"{name}: not given; {type(self).__name__}.compute needs {name}.")
        columns = {name: given.get(name) for name in FEATURES}
        if all(column is None for column in columns.values()) and self.writer is None:  # type: ignore[attr-defined]
            raise InputError(f"{', '.join(FEATURES)}: not given; give one value per row of each, or add rows before.")
        return super().compute(**given)  # type: ignore[misc]

    def add_batch(self, **given: Any) -> None:
        """As evaluate's; InputError for columns that are missing, unknown, of other lengths or invalid."""
        super().add_batch(**_columns(given))  # type: ignore[misc]

    def add(self, *, prediction: Any = None, reference: Any = None, **given: Any) -> None:
        """As evaluate's, of one row; InputError as of `add_batch`."""
        row = {"predictions": prediction, "references": reference, **given}
        self.add_batch(**{name: [value] for name, value in row.items()})


def _columns(given: dict[str, Any]) -> dict[str, list[Any]]:
    """The columns of rows to be added, by the names in FEATURES."""
    for name in given:
        if name not in FEATURES:
            raise unknown("columns", name, FEATURES)
    for name in FEATURES:
        if given.get(name) is None:
            raise InputError(f"{name}: not given; give one value per row of each of {', '.join(FEATURES)}.")
    try:
        scores = check_scores(given["predictions"])
    except InputError as error:
        raise InputError(str(error).replace("scores:", "predictions:", 1)) from None
    try:
        labels = check_labels(given["references"], len(scores))
    except InputError as error:
        raise InputError(str(error).replace("labels:", "references:", 1)) from None
    return {
        "predictions": scores.tolist(),
        "references": labels.tolist(),
        "groups": _names(given["groups"], len(scores)),
    }


UNKNOWN = "\0"
"""A group that is not known, while evaluate holds the rows: it takes text alone, and would make NaN a name."""


def _names(groups: Any, n: int) -> list[str]:
    """Names of groups, UNKNOWN where they are missing in whichever way."""
    if not is_column(groups, n):
        raise InputError(f"groups: not one name for each of {n} predictions; give a list of names, None where unknown.")
    names = [None if is_missing(one) else one for one in groups]
    stranger = next((one for one in names if not isinstance(one, str | None)), None)
    if stranger is not None:
        raise InputError(f"groups: {shown(stranger)} is no name; give names, None where a group is unknown.")
    return [UNKNOWN if one is None else one for one in names]


def figure(
    summary: Summary,
    predictions: Sequence[float],
    references: Sequence[int],
    groups: Sequence[str | None],
    threshold: float,
) -> float | None:
    """One fairness metric over the groups of one attribute.

    Args:
        summary: one of `summaries.SUMMARIES`.
        predictions: scores `[n]` in [0, 1].
        references: `[n]`, 0 or 1.
        groups: names `[n]`, None where unknown.
        threshold: scores at or above it are predicted present.

    Returns:
        The metric; None if it is undefined.

    Raises:
        InputError: an argument is invalid.
    """
    scores = check_scores(predictions, threshold)
    codes, names = group_codes("groups", [None if one == UNKNOWN else one for one in groups], len(scores))
    point = group_rates(scores, check_labels(references, len(scores)), codes, len(names), threshold)
    value = float(summarise(summary, point, point)[0][0])
    return value if math.isfinite(value) else None
