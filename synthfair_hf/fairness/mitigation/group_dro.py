"""Group distributionally robust optimisation (Sagawa et al. 2020): the worse a group's loss, the more it counts.

    q(g | y) <- q(g | y) e^(eta L(y, g)), then scaled to sum 1 over g;     rows sampled as in `resampling`
    loss = sum over y of P(y) sum over g of q(g | y) L(y, g),     L(y, g) the batch's mean cross-entropy in the cell

Sagawa's groups are the cells (y, g) on one simplex. Here each label has a simplex of its own and counts by its share of
the batch: labels do not compete, so with one group this is empirical risk minimisation. q starts uniform. A cell that
is not in a batch keeps its q, and those in the batch share the label's loss.
"""

import torch
from pydantic import Field
from torch import Tensor

from ..classifier import Batch, LabelledImages, batch_errors
from ..interface import TrainableClassifier
from .method import GroupSettings, present_groups
from .resampling import Resampling

__all__ = ["GroupDRO", "GroupDROSettings", "ascend"]


class GroupDROSettings(GroupSettings):
    """Settings.

    Attributes:
        step_size: eta, the step size of the ascent of q.
    """

    step_size: float = Field(0.01, gt=0)


def ascend(q: Tensor, losses: Tensor, step_size: float) -> Tensor:
    """One step of exponentiated gradient ascent.

    Args:
        q: weights `[G]` of the groups.
        losses: `[G]`, the loss of each group.
        step_size: eta.

    Returns:
        New weights `[G]`, with the same sum.
    """
    return q.sum() * torch.softmax(q.log() + step_size * losses, dim=0)


class GroupDRO(Resampling):
    """Weighs the loss of each cell by `q` `[2, G]`, whose rows, one per label, lie on a simplex."""

    Settings = GroupDROSettings
    settings: GroupDROSettings

    def learn(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None
    ) -> TrainableClassifier:
        """One stage; q starts uniform over the groups that occur in a label."""
        codes, count = present_groups(train, self.settings.attribute)
        occurs = torch.zeros(2, count, dtype=torch.float64)
        occurs[train.labels, codes] = 1
        classifier = self.initial(train, seed)
        self.q = (occurs / occurs.sum(dim=1, keepdim=True)).to(classifier.device)
        self._levels = train.groups[self.settings.attribute].unique().to(classifier.device)
        return self.optimise(train, validation, seed, start=classifier)

    def loss(self, classifier: TrainableClassifier, batch: Batch) -> Tensor:
        """The robust loss of a batch, after one ascent of q."""
        errors = batch_errors(classifier(batch.images), batch)
        labels = batch.examples.labels
        groups = torch.searchsorted(self._levels, batch.examples.groups[self.settings.attribute])
        total = errors.new_zeros(())
        for label in labels.unique():
            of_label = labels == label
            found = groups[of_label].unique()
            losses = torch.stack([errors[of_label & (groups == group)].mean() for group in found])
            self.q[label, found] = q = ascend(self.q[label, found], losses.detach().double(), self.settings.step_size)
            shares = (q / q.sum()).to(losses.dtype)
            total = total + of_label.float().mean() * (shares * losses).sum()
        return total
