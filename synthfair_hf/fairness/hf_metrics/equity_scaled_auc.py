"""AUC / (1 + sum over groups of |AUC of the group - AUC|) (Luo et al. 2024, FairCLIP, alpha 1)."""

import datasets
import evaluate

from synthfair_hf.fairness.hf_metrics import FEATURES, CheckedColumns, figure
from synthfair_hf.fairness.summaries import SUMMARIES

__all__ = ["EquityScaledAUC"]


class EquityScaledAUC(CheckedColumns, evaluate.Metric):
    """`compute(predictions=scores, references=labels, groups=names)` -> {"equity_scaled_auc": in [0, 1] or None}."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=str(__doc__),
            citation="",
            inputs_description=str(type(self).__doc__),
            features=datasets.Features(FEATURES),
        )

    def _compute(self, predictions, references, groups):
        summary = SUMMARIES["equity_scaled_auc"]
        return {"equity_scaled_auc": figure(summary, predictions, references, groups, threshold=0.5)}
