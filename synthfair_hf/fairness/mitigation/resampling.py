"""Resampling: rows are drawn so that every group is as frequent among rows of one label as any other.

    rows of cell (y, g) in an epoch = n(y) / G(y), the rest by largest remainder,     n(y), G(y) as in `reweighting`

Each row of a cell is visited equally often, up to one visit, which is drawn anew in each epoch. Labels, and the length
of an epoch, stay as they were; with one group each row is visited once.
"""

from typing import ClassVar

import torch
from torch import Tensor

from ..classifier import FittingSettings, LabelledImages
from .method import GroupSettings, Method, present_groups

__all__ = ["Resampling", "balanced_rows"]


def balanced_rows(labels: Tensor, groups: Tensor, generator: torch.Generator) -> Tensor:
    """Places int64 `[n]` with n(y) / G(y) visits to each cell, in order of place."""
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
    """Rows drawn so that the groups of one attribute are balanced inside each label."""

    Settings: ClassVar[type[FittingSettings]] = GroupSettings
    sees = ("training groups",)
    settings: GroupSettings

    def rows(self, train: LabelledImages, generator: torch.Generator) -> Tensor:
        """As many rows as there are, balanced, in random order."""
        chosen = balanced_rows(train.labels, present_groups(train, self.settings.attribute)[0], generator)
        return chosen[torch.randperm(len(chosen), generator=generator)]
