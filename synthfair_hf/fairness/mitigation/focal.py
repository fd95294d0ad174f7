"""Focal loss (Lin et al. 2017): rows that are classified well count less, with no group labels.

    loss = mean over rows of  (1 - p_i)^gamma (-log p_i),     p_i the probability of the row's label

With gamma = 0 this is empirical risk minimisation.
"""

from pydantic import Field
from torch import Tensor

from ..classifier import Batch, FittingSettings, batch_errors
from ..interface import TrainableClassifier
from .method import Method

__all__ = ["Focal", "FocalSettings"]


class FocalSettings(FittingSettings):
    """Settings.

    Attributes:
        gamma: how much less they count.
    """

    gamma: float = Field(2.0, ge=0)


class Focal(Method):
    """Minimises the focal loss."""

    Settings = FocalSettings
    settings: FocalSettings

    def loss(self, classifier: TrainableClassifier, batch: Batch) -> Tensor:
        """The mean focal loss."""
        errors = batch_errors(classifier(batch.images), batch)
        # 1 - p = 1 - e^-error
        return (batch.weights * (-(-errors).expm1()) ** self.settings.gamma * errors).mean()
