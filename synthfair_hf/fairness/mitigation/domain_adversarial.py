"""Domain-adversarial training (Ganin et al. 2016): features from which the group cannot be predicted.

    loss = cross-entropy(label) + cross-entropy(group | adversary(reverse(h))),     reverse(h) = h,  d reverse = -lambda
    lambda(p) = strength (2 / (1 + e^(-10 p)) - 1),     p = share of the steps that are done

The adversary learns to predict the group from the features, while the gradient that reaches the trunk is reversed. With
one group both the adversary's loss and its gradient are zero.

With strength 1, the paper's, it did not train on correlated views: the trunk enlarged its features faster than the
adversary learned, whose loss rose to several times that of a guess, and the classifier lost the finding.
"""

import math
from collections.abc import Iterable

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..classifier import Batch, LabelledImages, batch_errors
from ..interface import TrainableClassifier
from .method import GroupSettings, Method

__all__ = ["DomainAdversarial", "DomainAdversarialSettings", "reverse"]


class DomainAdversarialSettings(GroupSettings):
    """Settings.

    Attributes:
        strength: factor of the reversed gradient at the end of training.
        width: units of the adversary's hidden layer.
    """

    strength: float = Field(0.1, gt=0)
    width: int = Field(64, ge=1)


def reverse(features: Tensor, strength: float) -> Tensor:
    """Gradient reversal: the identity, whose gradient is multiplied by -strength."""
    return (1 + strength) * features.detach() - strength * features


class DomainAdversarial(Method):
    """Trains against an adversary that predicts the group of one attribute from the features."""

    Settings = DomainAdversarialSettings
    required_annotations = ("training groups",)
    required_hooks = ("features", "last layer")
    version = 2
    settings: DomainAdversarialSettings

    def learn(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None
    ) -> TrainableClassifier:
        """One stage, with an adversary initialised from `seed` that is discarded at the end."""
        classifier = self.initial(train, seed)
        self._levels = train.groups[self.settings.attribute].unique().to(classifier.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            width = self.settings.width
            self.adversary = nn.Sequential(
                nn.Linear(classifier.head.in_features, width), nn.ReLU(), nn.Linear(width, len(self._levels))
            ).to(classifier.device)
        return self.optimise(train, validation, seed, start=classifier)

    def loss(self, classifier: TrainableClassifier, batch: Batch) -> Tensor:
        """Both cross-entropies."""
        features = classifier.embed(batch.images)
        strength = self.settings.strength * (2 / (1 + math.exp(-10 * batch.progress)) - 1)
        groups = torch.searchsorted(self._levels, batch.examples.groups[self.settings.attribute])
        predicted = self.adversary(reverse(features, strength))
        own = (batch.weights * batch_errors(classifier.head(features)[:, 0], batch)).mean()
        return own + functional.cross_entropy(predicted, groups)

    def trainable_parameters(self, classifier: TrainableClassifier) -> Iterable[nn.Parameter]:
        """The classifier's and the adversary's."""
        return [*classifier.parameters(), *self.adversary.parameters()]
