"""Fairness metrics while a model of `transformers` is trained: what its Trainer takes as `compute_metrics`.

    Trainer(model, arguments, eval_dataset=rows, compute_metrics=audit_metrics({"sex": sex_of_rows}))

logs eval_auc, eval_accuracy, eval_sex_auc_gap ... at every evaluation, and may select the best checkpoint by one.
They are the figures of `audit`, without intervals and tests.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..arguments import Fraction, checked
from ..errors import InputError, unknown
from .adapter import Column, log_odds
from .audit import EVERYONE, audit
from .summaries import SUMMARIES

__all__ = ["audit_metrics"]

OVERALL = ("auc", "accuracy")
"""Metrics of all rows."""


@checked
def audit_metrics(
    groups: Mapping[str, Sequence[str | None]],
    metrics: Sequence[str] = (
        "worst_group_accuracy",
        "auc_gap",
        "equal_opportunity_difference",
        "equalized_odds_max_difference",
    ),
    label: Column | None = None,
    threshold: Fraction = 0.5,
) -> Callable[[Any], dict[str, float]]:
    """Make the `compute_metrics` of a `transformers.Trainer`.

    Args:
        groups: by attribute, the name of the group of each row of the evaluation set, in its order, None where unknown.
        metrics: names in `summaries.SUMMARIES`.
        label: the label of the finding; by default the second of two, or the only one.
        threshold: scores at or above it are predicted present.

    Returns:
        A function of an `EvalPrediction`, logits `[n]` or `[n, k]` and labels `[n]`: auc and accuracy of all rows, and
        ATTRIBUTE_METRIC for each; NaN where undefined.

    Raises:
        InputError: a metric is unknown; of the function, where groups and predictions do not fit.
    """
    for name in metrics:
        if name not in SUMMARIES:
            raise unknown("metrics", name, SUMMARIES)

    def compute(evaluated: Any) -> dict[str, float]:
        outputs = evaluated.predictions
        # models that output more give a tuple, logits first
        logits = torch.as_tensor(np.asarray(outputs[0] if isinstance(outputs, tuple) else outputs), dtype=torch.float64)
        labels = np.asarray(evaluated.label_ids).reshape(-1)
        if logits.ndim not in (1, 2) or len(logits) != len(labels):
            raise InputError(
                f"predictions: of shape {list(logits.shape)} for {len(labels)} labels; give a model that classifies "
                "images."
            )
        several = logits.ndim == 2 and logits.shape[1] > 1
        present = labels == (1 if label is None or not several else label)
        scores = log_odds(logits, label=label).sigmoid().numpy()
        found = audit(scores, present.astype(int), groups, None, threshold, n_bootstrap=1, permutations=0)  # type: ignore[arg-type]
        everyone = found.groups[found.groups["attribute"] == EVERYONE].set_index("metric")["value"]
        gaps = found.gaps[found.gaps["metric"].isin(metrics)]
        return {
            **{name: float(everyone[name]) for name in OVERALL},
            **{
                f"{attribute}_{metric}": float(value)
                for attribute, metric, value in zip(gaps["attribute"], gaps["metric"], gaps["value"], strict=True)
            },
        }

    return compute
