"""The least accuracy over (finding present or absent, group), as in SubpopBench (Yang et al. 2023)."""

import datasets
import evaluate

from synthfair_hf.fairness.hf_metrics import FEATURES, CheckedColumns, figure
from synthfair_hf.fairness.summaries import SUMMARIES

__all__ = ["WorstGroupAccuracy"]


class WorstGroupAccuracy(CheckedColumns, evaluate.Metric):
    """`compute(predictions=scores, references=labels, groups=names)` -> {"worst_group_accuracy": ...}.

    Scores at or above `threshold` (0.5) are predicted present; the value is in [0, 1] or None.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=str(__doc__),
            citation="",
            inputs_description=str(type(self).__doc__),
            features=datasets.Features(FEATURES),
        )

    def _compute(self, predictions, references, groups, threshold=0.5):
        summary = SUMMARIES["worst_group_accuracy"]
        return {"worst_group_accuracy": figure(summary, predictions, references, groups, threshold)}
