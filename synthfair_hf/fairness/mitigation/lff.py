"""Learning from failure (Nam et al. 2020): rows that a biased classifier finds harder count more, with no group labels.

    f_B  minimises  GCE(p) = (1 - p^q) / q,     p = e^-l the probability of the label; its gradient is p^q that of l
    f_D  minimises  mean over rows of W_i l_i(f_D),     W_i = l_i(f_B) / (l_i(f_B) + l_i(f_D))

f_B amplifies what is easy, f_D is kept. Both are trained at once from different weights. The paper's equation; its code
also averages the losses of a row over epochs, and scales them within a label.
"""

from collections.abc import Iterable

import torch
from pydantic import Field
from torch import Tensor, nn

from ..classifier import Batch, FittingSettings, LabelledImages, batch_errors
from ..interface import TrainableClassifier
from .method import Method

__all__ = ["LearningFromFailure", "LearningFromFailureSettings", "relative_difficulty"]


class LearningFromFailureSettings(FittingSettings):
    """Settings.

    Attributes:
        amplification: q of the biased classifier's loss; towards 0 that is the cross-entropy.
    """

    amplification: float = Field(0.7, gt=0, le=1)


def relative_difficulty(biased: Tensor, debiased: Tensor) -> Tensor:
    """W `[n]` in [0, 1] of the losses of both classifiers, `[n]`, without a gradient."""
    biased, debiased = biased.detach(), debiased.detach()
    return biased / (biased + debiased).clamp(min=torch.finfo(biased.dtype).tiny)


class LearningFromFailure(Method):
    """Trains a biased classifier, `biased`, beside the one that is kept."""

    Settings = LearningFromFailureSettings
    settings: LearningFromFailureSettings

    def learn(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None
    ) -> TrainableClassifier:
        """One stage of both; the biased one is discarded at the end."""
        self.biased = self.initial(train, seed + 1).train()
        return self.optimise(train, validation, seed)

    def loss(self, classifier: TrainableClassifier, batch: Batch) -> Tensor:
        """The sum of both losses, which share no parameter."""
        biased = batch_errors(self.biased(batch.images), batch)
        own = batch_errors(classifier(batch.images), batch)
        power = self.settings.amplification
        easy = -(-power * biased).expm1() / power  # p = e^-l
        return (batch.weights * (easy + relative_difficulty(biased, own) * own)).mean()

    def trainable_parameters(self, classifier: TrainableClassifier) -> Iterable[nn.Parameter]:
        """Those of both classifiers."""
        return [*classifier.parameters(), *self.biased.parameters()]
