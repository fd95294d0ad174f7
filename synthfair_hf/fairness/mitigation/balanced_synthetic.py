"""Balanced synthetic images: added to train, or used for pre-training.

    mixed       argmin of the loss over train and a sample of synthetic, `ratio` rows of it per row of train
    pretrained  argmin over the sample alone, then, from those weights, argmin over train; `steps` steps each

The sample has equally many rows of every cell (label, group). Both orders are in use: FairGen's and RoentGen-v2's
classifiers are pre-trained on synthetic images, earlier work mixes (Ktena et al. 2024). Groups of train are not used.
"""

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from ...errors import InputError
from ..classifier import LabelledImages
from ..interface import TrainableClassifier
from .method import GroupSettings, Method, present_groups

__all__ = ["BalancedSynthetic", "BalancedSyntheticSettings", "balanced_sample", "check_subjects"]


class BalancedSyntheticSettings(GroupSettings):
    """Settings.

    Attributes:
        ratio: synthetic rows per row of train.
        order: whether synthetic rows are mixed with train or used for pre-training.
    """

    ratio: float = Field(1.0, gt=0)
    order: Literal["mixed", "pretrained"] = "mixed"


def balanced_sample(synthetic: LabelledImages, attribute: str, count: int, seed: int) -> LabelledImages:
    """A random sample, without replacement, with equally many rows of every cell (label, group).

    Args:
        synthetic: the rows to sample from.
        attribute: the attribute whose groups are balanced.
        count: number of rows, rounded to a whole number per cell, at least one.
        seed: seed of the sample.

    Returns:
        The sample, cell by cell.

    Raises:
        InputError: a cell has too few rows.
    """
    groups, number = present_groups(synthetic, attribute)
    generator = torch.Generator().manual_seed(seed)
    size = max(1, round(count / (2 * number)))
    chosen = []
    for label in range(2):
        for group in range(number):
            cell = torch.nonzero((synthetic.labels == label) & (groups == group))[:, 0]
            if len(cell) < size:
                raise InputError(
                    f"synthetic: {len(cell)} rows of label {label} in group {group} of {attribute}; {size} are needed: "
                    "lower ratio, or generate more."
                )
            chosen.append(cell[torch.randperm(len(cell), generator=generator)[:size]])
    return synthetic.select(torch.cat(chosen))


def check_subjects(validation: LabelledImages, synthetic: LabelledImages) -> None:
    """Check that validation is independent of the synthetic rows.

    Raises:
        InputError: a synthetic row is of a subject of validation.
    """
    if shared := int(np.isin(synthetic.subjects, validation.subjects).sum()):
        raise InputError(f"synthetic: {shared} rows are of subjects of validation; leave those subjects out.")


class BalancedSynthetic(Method):
    """Adds a balanced sample of synthetic rows, whose subjects must not be in validation."""

    Settings = BalancedSyntheticSettings
    required_annotations = ("synthetic images",)
    settings: BalancedSyntheticSettings

    def learn(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None
    ) -> TrainableClassifier:
        """One stage over both, or one over each."""
        assert synthetic is not None, "fit checks that they are given"
        check_subjects(validation, synthetic)
        sample = balanced_sample(synthetic, self.settings.attribute, round(self.settings.ratio * len(train)), seed)
        if self.settings.order == "mixed":
            return self.optimise(train.concatenate(sample), validation, seed)
        return self.optimise(train, validation, seed, start=self.optimise(sample, validation, seed))
