"""Mixup (Zhang et al. 2018): rows are mixed with others of their batch, images and losses alike.

    x = lambda x_i + (1 - lambda) x_j,     loss = lambda l(x, y_i) + (1 - lambda) l(x, y_j),     lambda ~ Beta(a, a)

Cross-entropy is linear in the label, so this is the loss of the mixed label. j is a random permutation of the batch,
and each batch has one lambda.
"""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from ..classifier import Batch, FittingSettings, LabelledImages
from ..interface import TrainableClassifier
from .method import Method

__all__ = ["Mixup", "MixupSettings", "mixed_loss"]


class MixupSettings(FittingSettings):
    """Settings.

    Attributes:
        concentration: a, of the Beta distribution of the share of a row.
    """

    concentration: float = Field(0.2, gt=0)


def mixed_loss(classifier: TrainableClassifier, batch: Batch, partners: Tensor, share: float) -> Tensor:
    """The mean loss of mixed rows.

    Args:
        classifier: the network.
        batch: `B` rows.
        partners: int64 `[B]`, the row of the batch that each is mixed with.
        share: lambda in [0, 1], the share of the row itself.

    Returns:
        A scalar.
    """
    images = share * batch.images + (1 - share) * batch.images[partners]
    labels = batch.examples.labels.float()
    labels = share * labels + (1 - share) * labels[partners]
    errors = functional.binary_cross_entropy_with_logits(classifier(images), labels, reduction="none")
    return (batch.weights * errors).mean()


class Mixup(Method):
    """Mixes every row with another of its batch."""

    Settings: ClassVar[type[FittingSettings]] = MixupSettings
    settings: MixupSettings

    def learn(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None
    ) -> TrainableClassifier:
        """One stage; partners and shares are drawn from `seed`."""
        self.rng = np.random.default_rng(seed)
        return self.optimise(train, validation, seed)

    def loss(self, classifier: TrainableClassifier, batch: Batch) -> Tensor:
        """The mean loss of mixed rows."""
        partners = torch.from_numpy(self.rng.permutation(len(batch.weights))).to(batch.images.device)
        share = self.rng.beta(self.settings.concentration, self.settings.concentration)
        return mixed_loss(classifier, batch, partners, share)
