"""Resampling: rows are sampled so that all groups are equally frequent among rows of one label.

    rows of cell (y, g) in an epoch = n(y) / G(y), the rest by largest remainder,     n(y), G(y) as in `reweighting`

Rows of a cell are visited equally often up to one visit; which rows have the extra visit is sampled anew in each epoch.
The prevalence of the finding and the length of an epoch do not change; with one group each row is visited once.
"""

from typing import ClassVar

import torch
from torch import Tensor

from ..classifier import FittingSettings, LabelledImages
from .method import GroupSettings, Method, present_groups

__all__ = ["Resampling", "balanced_rows"]


def balanced_rows(labels: Tensor, groups: Tensor, generator: torch.Generator) -> Tensor:
    """Sample row indices with n(y) / G(y) visits to each cell.

    Args:
        labels: int64 `[n]`.
        groups: int64 `[n]`.
        generator: decides which rows of a cell have an extra visit.

    Returns:
        Indices int64 `[n]`, sorted.
    """
    visits = torch.zeros(len(labels), dtype=torch.int64)
    for label in labels.unique():
        of_label = labels == label
        found = groups[of_label].unique()
        shares = torch.full((len(found),), int(of_label.sum()) // len(found))
        shares[: int(of_label.sum()) % len(found)] += 1
        for group, share in zip(found, shares.tolist(), strict=True):
            cell = torch.nonzero(of_label & (groups == group))[:, 0]
            visits[cell] = share // len(cell)
            if remainder := share % len(cell):
                visits[cell[torch.randperm(len(cell), generator=generator)[:remainder]]] += 1
    return torch.repeat_interleave(torch.arange(len(labels)), visits)


class Resampling(Method):
    """Samples rows so that the groups of one attribute are balanced within each label."""

    Settings: ClassVar[type[FittingSettings]] = GroupSettings
    required_annotations = ("training groups",)
    settings: GroupSettings

    def rows(self, train: LabelledImages, generator: torch.Generator) -> Tensor:
        """As many rows as there are, balanced, in random order."""
        chosen = balanced_rows(train.labels, present_groups(train, self.settings.attribute)[0], generator)
        return chosen[torch.randperm(len(chosen), generator=generator)]
