"""Selective fine-tuning (AIM-Fair, Zhao et al. 2025): tensors sensitive to the bias and not to the synthetic domain.

    1. the biased model: empirical risk minimisation on train
    2. G_S = sum over cells (y, g) of P_S(y, g) times the mean gradient of the cross-entropy over the cell's rows
         S = rb  train,  sb  synthetic rows under train's P(y, g),  sf  synthetic rows under P(y) / number of groups
       D1 = mean |G_rb - G_sb|,   D2 = mean |G_sb - G_sf|,   over the entries of each parameter tensor
       chosen = {the k tensors of smallest D1} and {the k of largest D2},   k = share of all tensors, rounded up
    3. the chosen tensors are trained on a balanced sample of synthetic rows, the others are frozen

The paper's biased synthetic set has the known bias by construction. Here groups of train are not used: P(y, g) is
estimated, by predicting the groups of train from the biased model's own features with a logistic regression fitted on
the balanced sample. Misclassified rows pull the estimate toward balance, and a model that does not encode the attribute
gives a balanced one. The paper samples sb and sf; cells weighted by P are their expectation without sampling noise, and
both have the prevalence of train, so that D2 is of the groups alone. With one group the result is the biased model.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional

from ..classifier import BATCH, LabelledImages, unit_range
from ..interface import TrainableClassifier
from .balanced_synthetic import balanced_sample, check_subjects
from .method import GroupSettings, Method, present_groups

__all__ = [
    "Differences",
    "Gradients",
    "SelectiveFinetuning",
    "SelectiveFinetuningSettings",
    "cell_shares",
    "cell_weights",
    "chosen_tensors",
    "gradient_differences",
    "gradients",
    "three_gradients",
]

Gradients = Mapping[str, Tensor]
"""By name of a parameter tensor, a tensor of its shape."""


class Differences(NamedTuple):
    """D1 and D2 by name of a parameter tensor, in the network's order."""

    domain: dict[str, float]
    bias: dict[str, float]


class SelectiveFinetuningSettings(GroupSettings):
    """Settings.

    Attributes:
        ratio: synthetic rows per row of train.
        share: share of all tensors on either list, above 1/2 so that the lists intersect. The paper's k is 55 of the 62
            tensors of its network.
        selection: by gradients, or one of the paper's baselines: all tensors, or as many as the gradients would choose,
            sampled at random.
    """

    ratio: float = Field(1.0, gt=0)
    share: float = Field(0.9, gt=0.5, le=1)
    selection: Literal["gradients", "all", "random"] = "gradients"


def gradients(classifier: TrainableClassifier, examples: LabelledImages, weights: Tensor) -> dict[str, Tensor]:
    """Gradient of the weighted cross-entropy by parameter tensor.

    Args:
        classifier: the network, which is not changed.
        examples: `n` rows.
        weights: `[n]`; the loss is the sum over rows of weight times cross-entropy in nats.

    Returns:
        A gradient for each named parameter.
    """
    parameters = dict(classifier.named_parameters())
    total = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}
    for places in torch.arange(len(examples)).split(BATCH):
        part = examples.select(places).to(classifier.device)
        logits, weight = classifier(unit_range(part.images)), weights[places].float().to(classifier.device)
        loss = functional.binary_cross_entropy_with_logits(logits, part.labels.float(), weight, reduction="sum")
        # a network of somebody else's may have parameters that its logit does not use
        found = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
        for name, one in zip(parameters, found, strict=True):
            total[name] += one
    return total


def three_gradients(
    classifier: TrainableClassifier, train: LabelledImages, synthetic: LabelledImages, attribute: str
) -> tuple[Gradients, Gradients, Gradients]:
    """The gradients G_rb, G_sb and G_sf of a biased model.

    Args:
        classifier: the biased model, which is not changed.
        train: the rows that it was fitted on; their groups are not used.
        synthetic: rows with equally many of every cell (label, group).
        attribute: the attribute of the groups.

    Returns:
        G_rb, G_sb and G_sf.
    """
    groups, count = present_groups(synthetic, attribute)
    biased = cell_shares(classifier, train, synthetic, attribute)
    balanced = (biased.sum(dim=1, keepdim=True) / count).expand(2, count)
    return (
        gradients(classifier, train, torch.full((len(train),), 1 / len(train))),
        gradients(classifier, synthetic, cell_weights(biased, synthetic.labels, groups)),
        gradients(classifier, synthetic, cell_weights(balanced, synthetic.labels, groups)),
    )


def gradient_differences(real: Gradients, biased: Gradients, balanced: Gradients) -> Differences:
    """D1 = mean |G_rb - G_sb| and D2 = mean |G_sb - G_sf|, over the entries of each tensor.

    Args:
        real: G_rb.
        biased: G_sb.
        balanced: G_sf.
    """
    return Differences(
        {name: (real[name] - biased[name]).abs().mean().item() for name in real},
        {name: (biased[name] - balanced[name]).abs().mean().item() for name in real},
    )


def chosen_tensors(real: Gradients, biased: Gradients, balanced: Gradients, share: float) -> list[str]:
    """The intersection of the k tensors of smallest D1 and the k of largest D2.

    Args:
        real: G_rb.
        biased: G_sb.
        balanced: G_sf.
        share: k as a share of all tensors, rounded up.

    Returns:
        Names in the network's order; of ties the first is chosen.
    """
    domain, bias = gradient_differences(real, biased, balanced)
    count = math.ceil(share * len(real))
    insensitive = sorted(domain, key=domain.__getitem__)[:count]
    sensitive = sorted(bias, key=bias.__getitem__, reverse=True)[:count]
    return [name for name in real if name in insensitive and name in sensitive]


def cell_shares(
    classifier: TrainableClassifier, train: LabelledImages, synthetic: LabelledImages, attribute: str
) -> Tensor:
    """Estimate P(y, g) of train without its groups.

    Args:
        classifier: the network whose features groups are predicted from.
        train: the rows whose shares are estimated; their labels are used, their groups are not.
        synthetic: rows that the group predictor is fitted on; balanced, or predictions favour the larger group.
        attribute: the attribute of the groups.

    Returns:
        Shares float64 `[2, G]` over the groups that occur in `synthetic`.
    """
    groups, count = present_groups(synthetic, attribute)
    features = classifier.features(synthetic.images).double()
    location, scale = features.mean(dim=0), features.std(dim=0).clamp(min=1e-6)
    predictor = LogisticRegression(max_iter=1000).fit(((features - location) / scale).numpy(), groups.numpy())
    predicted = predictor.predict(((classifier.features(train.images).double() - location) / scale).numpy())
    cells = torch.bincount(train.labels * count + torch.from_numpy(predicted), minlength=2 * count)
    return cells.reshape(2, count).double() / len(train)


def cell_weights(shares: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
    """Weights under which each cell has a given share, equal within a cell.

    Args:
        shares: `[2, G]`, of each cell (label, group).
        labels: int64 `[n]`.
        groups: int64 `[n]`.

    Returns:
        Weights float64 `[n]`.
    """
    cell = labels * shares.shape[1] + groups
    sizes = torch.bincount(cell, minlength=shares.numel())
    return (shares.flatten() / sizes)[cell]


class SelectiveFinetuning(Method):
    """Fits by empirical risk minimisation, then fine-tunes the tensors in `trained` on balanced synthetic rows."""

    Settings = SelectiveFinetuningSettings
    required_annotations = ("synthetic images",)
    required_hooks = ("features",)
    settings: SelectiveFinetuningSettings

    def learn(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None
    ) -> TrainableClassifier:
        """The biased model, the choice of tensors, the fine-tuning."""
        assert synthetic is not None, "fit checks that they are given"
        check_subjects(validation, synthetic)
        sample = balanced_sample(synthetic, self.settings.attribute, round(self.settings.ratio * len(train)), seed)
        first = self.empirical_risk_minimisation()
        classifier, self.curve = first.optimise(train, validation, seed), first.curve
        if present_groups(sample, self.settings.attribute)[1] == 1:
            self.trained: list[str] = []
            return classifier
        self.trained = self._chosen(classifier, train, sample, seed)
        return self.optimise(sample, validation, seed, start=classifier)

    def trainable_parameters(self, classifier: TrainableClassifier) -> Iterable[nn.Parameter]:
        """The chosen tensors."""
        return [tensor for name, tensor in classifier.named_parameters() if name in self.trained]

    def _chosen(
        self, classifier: TrainableClassifier, train: LabelledImages, sample: LabelledImages, seed: int
    ) -> list[str]:
        names = [name for name, _ in classifier.named_parameters()]
        if self.settings.selection == "all":
            return names
        chosen = chosen_tensors(
            *three_gradients(classifier, train, sample, self.settings.attribute), self.settings.share
        )
        if self.settings.selection == "gradients":
            return chosen
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
        return [names[place] for place in sorted(order[: len(chosen)].tolist())]
