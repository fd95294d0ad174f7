"""One fairness metric over groups, by the name in `summaries.SUMMARIES` under which it is loaded."""

import datasets
import evaluate

from synthfair_hf.errors import unknown
from synthfair_hf.fairness.hf_metrics import FEATURES, CheckedColumns, figure
from synthfair_hf.fairness.summaries import SUMMARIES

__all__ = ["GroupFairness"]


class GroupFairness(CheckedColumns, evaluate.Metric):
    """`compute(predictions=scores, references=labels, groups=names)` -> {its name: value or None}.

    Scores at or above `threshold` (0.5) are predicted present.
    """

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in SUMMARIES:
            raise unknown("config_name", self.config_name, SUMMARIES)
        return evaluate.MetricInfo(
            description=str(__doc__),
            citation="",
            inputs_description=str(type(self).__doc__),
            features=datasets.Features(FEATURES),
        )

    def _compute(self, predictions, references, groups, threshold=0.5):
        name = self.config_name
        return {name: figure(SUMMARIES[name], predictions, references, groups, threshold)}
