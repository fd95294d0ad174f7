"""Metrics of groups for `evaluate`; each file beside this one is loaded by its path, without a network.

    evaluate.load(str(HF_METRICS / "worst_group_accuracy.py")).compute(predictions=, references=, groups=)

predictions are scores in [0, 1] of a finding, references 0 (absent) or 1 (present), groups names. What fewer than two
groups have is None. `fairness.audit` has the same figures with intervals.
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
    """The summary of one attribute's groups; None where it is undefined."""
    scores = check_scores(predictions, threshold)
    codes, names = group_codes("groups", groups, len(scores))
    point = group_rates(scores, check_labels(references, len(scores)), codes, len(names), threshold)
    value = float(summarise(summary, point, point)[0][0])
    return value if math.isfinite(value) else None
