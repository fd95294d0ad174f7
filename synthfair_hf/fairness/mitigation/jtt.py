"""Just train twice (Liu et al. 2021): rows that a first, briefly trained classifier gets wrong are upweighted.

    E = {i in train : first classifier is wrong about i at score 1/2},     w_i = upweight if i in E else 1

Both start from the same weights; no group labels are used. If the first makes no mistake, the second is empirical risk
minimisation.
"""

import torch
from pydantic import Field
from torch import Tensor

from ..classifier import FittingSettings, LabelledImages
from ..interface import TrainableClassifier
from .method import Method

__all__ = ["JustTrainTwice", "JustTrainTwiceSettings"]


class JustTrainTwiceSettings(FittingSettings):
    """Settings.

    Attributes:
        first_steps: steps of the first classifier.
        upweight: weight of its mistakes in the second, at least 1.
    """

    first_steps: int = Field(150, ge=1)
    upweight: float = Field(5.0, ge=1)


class JustTrainTwice(Method):
    """Trains two classifiers; `mistakes`, bool `[n]`, are those of the first on the rows of train."""

    Settings = JustTrainTwiceSettings
    settings: JustTrainTwiceSettings

    def learn(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None
    ) -> TrainableClassifier:
        """The first classifier, its mistakes, the second classifier."""
        first = self.empirical_risk_minimisation(steps=self.settings.first_steps)
        logits = first.optimise(train, validation, seed).logits(train.images)
        self.mistakes = (logits > 0) != (train.labels == 1)
        return self.optimise(train, validation, seed)

    def sample_weights(self, train: LabelledImages) -> Tensor:
        """`upweight` for the mistakes, 1 for the rest."""
        return torch.where(self.mistakes, self.settings.upweight, 1.0)
