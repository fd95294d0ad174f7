"""Reweighting: all groups have the same total weight among rows of one label, and labels keep theirs.

    w(y, g) = n(y) / (G(y) n(y, g)),     n(y) rows of label y, n(y, g) of them of group g, G(y) groups that occur in it

Under these weights group and label are independent, the mean of w is 1, and the prevalence of the finding is unchanged,
so scores stay calibrated to it. With one group every weight is 1. (Kamiran and Calders 2012 weigh by
P(y) P(g) / P(y, g), which keeps the groups' shares as well; here rare groups are upweighted, as in inverse-frequency
weighting.)
"""

import torch
from torch import Tensor

from ..classifier import LabelledImages
from .method import GroupSettings, Method, present_groups

__all__ = ["Reweighting", "balancing_weights"]


def balancing_weights(labels: Tensor, groups: Tensor) -> Tensor:
    """Weights w(y, g), float64 `[n]`, of rows with labels and groups, both int64 `[n]`."""
    weights = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        of_label = labels == label
        found = groups[of_label].unique()
        for group in found:
            cell = of_label & (groups == group)
            weights[cell] = of_label.sum() / (len(found) * cell.sum()).double()
    return weights


class Reweighting(Method):
    """Weighs rows so that the groups of one attribute are balanced within each label."""

    Settings = GroupSettings
    required_annotations = ("training groups",)
    settings: GroupSettings

    def sample_weights(self, train: LabelledImages) -> Tensor:
        """w(y, g)."""
        return balancing_weights(train.labels, present_groups(train, self.settings.attribute)[0])
