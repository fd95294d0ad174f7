"""Equalized odds by one of three definitions.

They are made of the gaps of TPR and FPR over groups, and give three numbers for one classifier:

max_difference     the larger (fairlearn); lower is fairer
mean_difference    their mean (AIM-Fair); lower is fairer
one_minus_mean     1 - their mean (MEDFAIR); higher is fairer
"""

import datasets
import evaluate

from synthfair_hf.errors import unknown
from synthfair_hf.fairness.hf_metrics import FEATURES, CheckedColumns, figure
from synthfair_hf.fairness.summaries import EQUALIZED_ODDS

__all__ = ["EqualizedOdds"]

_DEFINITIONS = {name.removeprefix("equalized_odds_"): name for name in EQUALIZED_ODDS}


class EqualizedOdds(CheckedColumns, evaluate.Metric):
    """`compute(predictions=scores, references=labels, groups=names, definition=name)` -> {the definition in full: ...}.

    `definition` is max_difference, fairlearn's, by default; or mean_difference or one_minus_mean. Scores at or above
    `threshold` (0.5) are predicted present; the value is in [0, 1] or None.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=str(__doc__),
            citation="",
            inputs_description=str(type(self).__doc__),
            features=datasets.Features(FEATURES),
        )

    def _compute(self, predictions, references, groups, definition="max_difference", threshold=0.5):
        if not isinstance(definition, str) or definition not in _DEFINITIONS:
            raise unknown("definition", definition, _DEFINITIONS)
        name = _DEFINITIONS[definition]
        return {name: figure(EQUALIZED_ODDS[name], predictions, references, groups, threshold)}
