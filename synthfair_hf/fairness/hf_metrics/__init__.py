"""Fairness metrics for the library `evaluate`, loaded from files of this package without a network connection.

    evaluate.load(str(HF_METRICS / "worst_group_accuracy.py")).compute(predictions=, references=, groups=)

`predictions` are scores in [0, 1] of a finding, `references` 0 (absent) or 1 (present), `groups` names. A metric is
None if fewer than two groups have it. `fairness.audit` has the same figures with intervals.

- `worst_group_accuracy` — `WorstGroupAccuracy`: the least accuracy over (finding, group)
- `equalized_odds` — `EqualizedOdds`: three definitions of equalized odds
- `equity_scaled_auc` — `EquityScaledAUC`: AUC penalised by its differences between groups
"""

import math
from collections.abc import Sequence
from pathlib import Path

from datasets import Features, Value

from ..audit import group_codes
from ..rates import check_labels, check_scores, group_rates
from ..summaries import Summary, summarise

__all__ = ["FEATURES", "HF_METRICS", "figure"]

HF_METRICS = Path(__file__).parent
"""The folder of the files to load."""

FEATURES = Features({"predictions": Value("float64"), "references": Value("int64"), "groups": Value("string")})


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
    codes, names = group_codes("groups", groups, len(scores))
    point = group_rates(scores, check_labels(references, len(scores)), codes, len(names), threshold)
    value = float(summarise(summary, point, point)[0][0])
    return value if math.isfinite(value) else None
