"""Selective mixup, LISA (Yao et al. 2022): mixed are groups within a label, or labels within a group.

    x = lambda x_i + (1 - lambda) x_j,     y and loss as in `mixup`,     lambda ~ Beta(a, a)
    with probability p      y_j = y_i and g_j != g_i      (intra-label)      what the label does not depend on varies
    else                    y_j != y_i and g_j = g_i      (intra-domain)     what the label does depend on varies

j is a random row of the batch with that property; a row without any stays as it is. One lambda and one of the two
per batch. With one group intra-label batches are those of empirical risk minimisation.
"""

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ..classifier import Batch
from ..interface import TrainableClassifier
from .method import GroupSettings
from .mixup import Mixup, MixupSettings, mixed_loss

__all__ = ["LISA", "LISASettings", "partners_of"]


class LISASettings(GroupSettings, MixupSettings):
    """Settings.

    Attributes:
        concentration: a, of the Beta distribution of the share of a row.
        intra_label: p, the probability that a batch is mixed across groups.
    """

    concentration: float = Field(2.0, gt=0)
    intra_label: float = Field(0.5, ge=0, le=1)


def partners_of(same: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """A random row that is equal in one and differs in the other.

    Args:
        same: int64 `[B]`, what partners have in common.
        other: int64 `[B]`, what they differ in.
        rng: that rows are drawn from.

    Returns:
        Partners int64 `[B]`; a row without any is its own.
    """
    allowed = (same[:, None] == same) & (other[:, None] != other)
    drawn = torch.from_numpy(rng.random(allowed.shape)).to(same.device)
    own = torch.arange(len(same), device=same.device)
    return torch.where(allowed.any(dim=1), (drawn * allowed).argmax(dim=1), own)


class LISA(Mixup):
    """Mixes rows of one label and different groups, or of one group and different labels."""

    Settings = LISASettings
    required_annotations = ("training groups",)
    settings: LISASettings

    def loss(self, classifier: TrainableClassifier, batch: Batch) -> Tensor:
        """The mean loss of mixed rows."""
        labels, groups = batch.examples.labels, batch.examples.groups[self.settings.attribute]
        within_label = self.rng.random() < self.settings.intra_label
        partners = partners_of(*((labels, groups) if within_label else (groups, labels)), self.rng)
        share = self.rng.beta(self.settings.concentration, self.settings.concentration)
        return mixed_loss(classifier, batch, partners, share)
