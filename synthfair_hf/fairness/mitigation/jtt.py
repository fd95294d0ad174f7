"""Just train twice (Liu et al. 2021): what a first, briefly trained classifier gets wrong counts more in the second.

    E = {i in train : first classifier is wrong about i at score 1/2},     w_i = upweight if i in E else 1

Both start from the same weights; no group label is used. Where the first makes no mistake, the second is plain risk
minimisation.
"""

import torch
from pydantic import Field
from torch import Tensor

from ..classifier import FittingSettings, ImageClassifier, LabelledImages
from .method import Method

__all__ = ["JustTrainTwice", "JustTrainTwiceSettings"]


class JustTrainTwiceSettings(FittingSettings):
    """`first_steps` of the first classifier, and the `upweight` of its mistakes in the second."""

    first_steps: int = Field(150, ge=1)
    upweight: float = Field(5.0, ge=1)


class JustTrainTwice(Method):
    """Two classifiers; `mistakes` bool `[n]` are the first one's."""

    Settings = JustTrainTwiceSettings
    settings: JustTrainTwiceSettings

    def learn(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None
    ) -> ImageClassifier:
        """The first classifier, its mistakes, the second classifier."""
        first = self.empirical_risk_minimisation(steps=self.settings.first_steps)
        logits = first.optimise(train, validation, seed).logits(train.images)
        self.mistakes = (logits > 0) != (train.labels == 1)
        return self.optimise(train, validation, seed)

    def sample_weights(self, train: LabelledImages) -> Tensor:
        """`upweight` for the mistakes, 1 for the rest."""
        return torch.where(self.mistakes, self.settings.upweight, 1.0)
