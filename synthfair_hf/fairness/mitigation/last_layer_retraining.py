"""Last-layer retraining, or deep feature reweighting (Kirichenko et al. 2023): a new head on a frozen trunk.

    1. empirical risk minimisation on train
    2. (w, b) = argmin of  |w|^2 / 2 + C sum over validation of w(y, g) cross-entropy(w z + b),   z = (h - mean) / sd

w(y, g) balances groups within labels as in `reweighting`; the paper averages over balanced subsets instead, with an
absolute (L1) penalty. With one group the head of the first stage is kept.
"""

import torch
from pydantic import Field
from sklearn.linear_model import LogisticRegression

from ..classifier import LabelledImages
from ..interface import TrainableClassifier
from .method import GroupSettings, Method, present_groups
from .reweighting import balancing_weights

__all__ = ["LastLayerRetraining", "LastLayerRetrainingSettings"]


class LastLayerRetrainingSettings(GroupSettings):
    """Settings.

    Attributes:
        inverse_penalty: C, the inverse strength of the penalty.
    """

    inverse_penalty: float = Field(0.1, gt=0)


class LastLayerRetraining(Method):
    """Fits by empirical risk minimisation, then refits the head on validation with balanced groups."""

    Settings = LastLayerRetrainingSettings
    required_annotations = ("validation groups",)
    required_hooks = ("features", "last layer")
    settings: LastLayerRetrainingSettings

    def learn(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None
    ) -> TrainableClassifier:
        """The first stage as usual, then the head alone."""
        classifier = self.optimise(train, validation, seed)
        groups, count = present_groups(validation, self.settings.attribute)
        if count == 1:
            return classifier
        features = classifier.features(validation.images).double()
        location, scale = features.mean(dim=0), features.std(dim=0).clamp(min=1e-6)
        regression = LogisticRegression(C=self.settings.inverse_penalty, max_iter=1000)
        regression.fit(
            ((features - location) / scale).numpy(),
            validation.labels.numpy(),
            sample_weight=balancing_weights(validation.labels, groups).numpy(),
        )
        weight = torch.from_numpy(regression.coef_) / scale
        with torch.no_grad():
            classifier.head.weight.copy_(weight)
            classifier.head.bias.copy_(torch.from_numpy(regression.intercept_) - weight @ location)
        return classifier
