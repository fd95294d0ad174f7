"""Counterfactual rows beside the observed ones: the same subject had the attribute been another, all else held.

    augmentation    train+ = train and the rows of synthetic with the pair key of a row of train;  plain loss on train+
    consistency     the same, and the loss becomes  mean cross-entropy + weight mean over pairs (f(x_i) - f(x_j))^2

A pair key says subject and every factor but the attribute (`LabelledImages.pairs`), so partners differ by do(attribute)
alone and show one finding. Pairs lie side by side in an epoch, so that a batch holds both. Counterfactual data
augmentation: Kusner et al. 2017 for the aim; the squared difference of logits: logit pairing (Kannan et al. 2018;
Garg et al. 2019). Where no row has a partner both are plain risk minimisation.
"""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ...errors import unknown
from ..classifier import Batch, FittingSettings, ImageClassifier, LabelledImages, batch_errors
from .method import GroupSettings, Method

__all__ = ["CounterfactualAugmentation", "PairConsistency", "PairConsistencySettings", "with_partners"]


class PairConsistencySettings(GroupSettings):
    """`weight` of the squared difference between the logits of a pair."""

    weight: float = Field(0.1, gt=0)


def with_partners(train: LabelledImages, synthetic: LabelledImages, attribute: str) -> LabelledImages:
    """`train`, then the rows of `synthetic` that have a pair key of it and whose group it does not hold yet.

    A row's partners take its label: intervening on the attribute is no reason to call it otherwise, and the label that
    was observed may differ from the one the data set states.
    """
    for name, examples in (("train", train), ("synthetic", synthetic)):
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
    """Adds to every row its counterfactuals in one attribute."""

    Settings: ClassVar[type[FittingSettings]] = GroupSettings
    sees = ("training groups", "synthetic images")
    settings: GroupSettings

    def learn(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None
    ) -> ImageClassifier:
        """One stage over rows and partners."""
        assert synthetic is not None, "fit refuses a fit without"
        return self.optimise(with_partners(train, synthetic, self.settings.attribute), validation, seed)


class PairConsistency(CounterfactualAugmentation):
    """Pulls the logits of partners together."""

    Settings = PairConsistencySettings
    settings: PairConsistencySettings

    def rows(self, train: LabelledImages, generator: torch.Generator) -> Tensor:
        """Every row once; pairs in random order, the rows of a pair side by side."""
        numbers: dict[str, int] = {}
        pairs = torch.tensor([numbers.setdefault(key, len(numbers)) for key in train.pairs[self.settings.attribute]])
        turns = torch.randperm(len(numbers), generator=generator).argsort()
        return turns[pairs].argsort(stable=True)

    def loss(self, classifier: ImageClassifier, batch: Batch) -> Tensor:
        """Mean cross-entropy, and the mean squared difference of the batch's pairs."""
        logits = classifier(batch.images)
        keys = batch.examples.pairs[self.settings.attribute]
        first, second = (torch.from_numpy(one) for one in np.nonzero(np.triu(keys[:, None] == keys, k=1)))
        own = (batch.weights * batch_errors(logits, batch)).mean()
        if not len(first):
            return own
        return own + self.settings.weight * (logits[first] - logits[second]).square().mean()
