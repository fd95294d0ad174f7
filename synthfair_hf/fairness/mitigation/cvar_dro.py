"""Conditional value at risk (Levy et al. 2020): the mean loss of the worst rows, with no group labels.

    loss = sup over q of  sum_i q_i l_i,     0 <= q_i <= 1 / (alpha B),   sum_i q_i = 1      (of a batch of B rows)
         = (sum of the k largest l_i + (alpha B - k) times the next) / (alpha B),   k = floor(alpha B)

Rows of a small group that the classifier fails are among the worst, if no label is wrong. The supremum of a batch is a
biased estimate of that of all rows, by O(1 / (alpha B)). With alpha = 1 this is empirical risk minimisation.
"""

import math

import torch
from pydantic import Field
from torch import Tensor

from ..classifier import Batch, FittingSettings, batch_errors
from ..interface import TrainableClassifier
from .method import Method

__all__ = ["CVaRDRO", "CVaRDROSettings", "conditional_value_at_risk"]


class CVaRDROSettings(FittingSettings):
    """Settings.

    Attributes:
        alpha: share of the rows whose mean loss is minimised.
    """

    alpha: float = Field(0.2, gt=0, le=1)


def conditional_value_at_risk(losses: Tensor, alpha: float) -> Tensor:
    """The mean of the largest share alpha of losses `[n]`, a scalar; a row on the border counts in part."""
    count = max(alpha * len(losses), 1.0)
    ordered = losses.sort(descending=True).values
    weights = (count - torch.arange(len(losses), device=losses.device)).clamp(0, 1)
    return (weights * ordered)[: math.ceil(count)].sum() / count


class CVaRDRO(Method):
    """Minimises the mean loss of the worst rows of a batch."""

    Settings = CVaRDROSettings
    settings: CVaRDROSettings

    def loss(self, classifier: TrainableClassifier, batch: Batch) -> Tensor:
        """The conditional value at risk of the batch."""
        errors = batch.weights * batch_errors(classifier(batch.images), batch)
        return conditional_value_at_risk(errors, self.settings.alpha)
