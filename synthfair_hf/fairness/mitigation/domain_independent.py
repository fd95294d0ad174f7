"""Domain-independent heads (Wang et al. 2020): a last layer for each group, and their mean at prediction.

    training      logit = w_g h + b_g      of a row of group g
    prediction    logit = mean over groups of w_g h + b_g = w h + b,     which needs no group

Written as w_g = w + u_g with sum over g of u_g = 0, so that the classifier's own last layer (w, b) is the mean in every
evaluation. All start equal; the paper sums over groups, which is the same decision. With one group u = 0, and this is
empirical risk minimisation.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..classifier import Batch, LabelledImages, batch_errors
from ..interface import TrainableClassifier
from .method import GroupSettings, Method

__all__ = ["DomainIndependent"]


class DomainIndependent(Method):
    """Trains a head per group of one attribute, of which the mean is kept."""

    Settings = GroupSettings
    required_annotations = ("training groups",)
    required_hooks = ("features", "last layer")
    settings: GroupSettings

    def learn(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None
    ) -> TrainableClassifier:
        """One stage; `offsets` `[G, d + 1]` are the heads' differences from their mean, bias last."""
        classifier = self.initial(train, seed)
        self._levels = train.groups[self.settings.attribute].unique().to(classifier.device)
        size = (len(self._levels), classifier.head.in_features + 1)
        self.offsets = nn.Parameter(torch.zeros(size, device=classifier.device))
        return self.optimise(train, validation, seed, start=classifier)

    def loss(self, classifier: TrainableClassifier, batch: Batch) -> Tensor:
        """The mean loss of every row under the head of its group."""
        features = classifier.embed(batch.images)
        groups = torch.searchsorted(self._levels, batch.examples.groups[self.settings.attribute])
        own = (self.offsets - self.offsets.mean(dim=0))[groups]
        logits = classifier.head(features)[:, 0] + (own[:, :-1] * features).sum(dim=1) + own[:, -1]
        return (batch.weights * batch_errors(logits, batch)).mean()

    def trainable_parameters(self, classifier: TrainableClassifier) -> Iterable[nn.Parameter]:
        """The classifier's, and the offsets."""
        return [*classifier.parameters(), self.offsets]
