"""Counterfactual augmentation: rows of the same subject under another level of the attribute, all else held fixed.

    augmentation    train+ = train and the rows of synthetic with the pair key of a row of train;  plain loss on train+
    consistency     the same, and the loss becomes  mean cross-entropy + weight mean over pairs (f(x_i) - f(x_j))^2

A pair key is the subject and every factor but the attribute (`LabelledImages.pairs`), so partners differ by
do(attribute) alone and have the same finding. Rows of a pair are adjacent in an epoch, so that a batch holds both.
Counterfactual fairness is the aim of Kusner et al. 2017; the squared difference of logits is logit pairing (Kannan et
al. 2018; Garg et al. 2019). If no row has a partner both are empirical risk minimisation.
"""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ...errors import InputError, unknown
from ..classifier import Batch, FittingSettings, LabelledImages, batch_errors
from ..interface import TrainableClassifier
from .method import GroupSettings, Method

__all__ = ["CounterfactualAugmentation", "PairConsistency", "PairConsistencySettings", "with_partners"]


class PairConsistencySettings(GroupSettings):
    """Settings.

    Attributes:
        weight: weight of the squared difference between the logits of a pair.
    """

    weight: float = Field(0.1, gt=0)


def with_partners(train: LabelledImages, synthetic: LabelledImages, attribute: str) -> LabelledImages:
    """Add to `train` the counterfactuals of its rows in one attribute.

    Partners take the label of their row: an intervention on the attribute does not change it, and the label that was
    observed may differ from the true one.

    Args:
        train: rows to learn from.
        synthetic: rows to take counterfactuals from.
        attribute: the attribute that is intervened on.

    Returns:
        `train`, then the rows of `synthetic` with a pair key of `train` and a group that `train` lacks for that key.

    Raises:
        InputError: a set has no pairs for the attribute.
    """
    for name, examples in (("train", train), ("synthetic", synthetic)):
        if not examples.pairs:
            raise InputError(
                f"attribute (pairs of {name}): there are none, because no row is a counterfactual of another; "
                "same-noise samples of a text-to-image pipeline are not, so give a data set of a causal generator."
            )
        if attribute not in examples.pairs:
            raise unknown(f"attribute (pairs of {name})", attribute, examples.pairs)
    labels = dict(zip(train.pairs[attribute].tolist(), train.labels.tolist(), strict=True))
    held = set(zip(train.pairs[attribute].tolist(), train.groups[attribute].tolist(), strict=True))
    wanted = [
        place
        for place, row in enumerate(
            zip(synthetic.pairs[attribute].tolist(), synthetic.groups[attribute].tolist(), strict=True)
        )
        if row[0] in labels and row not in held
    ]
    partners = synthetic.select(np.array(wanted, dtype=np.int64))
    taken = torch.tensor([labels[key] for key in partners.pairs[attribute].tolist()], dtype=torch.int64)
    return train.concatenate(replace(partners, labels=taken))


class CounterfactualAugmentation(Method):
    """Adds the counterfactuals of every row in one attribute."""

    Settings: ClassVar[type[FittingSettings]] = GroupSettings
    required_annotations = ("training groups", "synthetic images")
    settings: GroupSettings

    def learn(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None
    ) -> TrainableClassifier:
        """One stage over rows and partners."""
        assert synthetic is not None, "fit checks that they are given"
        return self.optimise(with_partners(train, synthetic, self.settings.attribute), validation, seed)


class PairConsistency(CounterfactualAugmentation):
    """Adds counterfactuals, and penalises differences between the logits of partners."""

    Settings = PairConsistencySettings
    settings: PairConsistencySettings

    def rows(self, train: LabelledImages, generator: torch.Generator) -> Tensor:
        """Every row once; pairs in random order, the rows of a pair adjacent."""
        numbers: dict[str, int] = {}
        pairs = torch.tensor([numbers.setdefault(key, len(numbers)) for key in train.pairs[self.settings.attribute]])
        turns = torch.randperm(len(numbers), generator=generator).argsort()
        return turns[pairs].argsort(stable=True)

    def loss(self, classifier: TrainableClassifier, batch: Batch) -> Tensor:
        """Mean cross-entropy, and the mean squared difference of the batch's pairs."""
        logits = classifier(batch.images)
        keys = batch.examples.pairs[self.settings.attribute]
        first, second = (
            torch.from_numpy(one).to(logits.device) for one in np.nonzero(np.triu(keys[:, None] == keys, k=1))
        )
        own = (batch.weights * batch_errors(logits, batch)).mean()
        if not len(first):
            return own
        return own + self.settings.weight * (logits[first] - logits[second]).square().mean()
