"""Balanced synthetic images beside the real ones, in one fit, or before them, in a fit of their own.

    mixed       argmin of the loss over train and a draw of synthetic, `ratio` rows of it per row of train
    pretrained  argmin over the draw alone, then, from those weights, argmin over train; `steps` steps each

The draw has equally many rows of every cell (label, group). Both orders are in use: FairGen's and RoentGen-v2's
classifiers are pre-trained on synthetic images, earlier work mixes (Ktena et al. 2024). No group of a real row is used.
"""

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from ...errors import InputError
from ..classifier import ImageClassifier, LabelledImages
from .method import GroupSettings, Method, present_groups

__all__ = ["BalancedSynthetic", "BalancedSyntheticSettings", "balanced_draw", "refuse_subjects_of"]


class BalancedSyntheticSettings(GroupSettings):
    """`ratio` of synthetic to real rows; `order`, whether they are mixed in or come first."""

    ratio: float = Field(1.0, gt=0)
    order: Literal["mixed", "pretrained"] = "mixed"


def balanced_draw(synthetic: LabelledImages, attribute: str, count: int, seed: int) -> LabelledImages:
    """About `count` rows (a whole number per cell), without repeats; InputError where a cell has too few."""
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


def refuse_subjects_of(validation: LabelledImages, synthetic: LabelledImages) -> None:
    """InputError where a row of synthetic is of a subject of validation, which then could not choose the epoch."""
    if seen := int(np.isin(synthetic.subjects, validation.subjects).sum()):
        raise InputError(f"synthetic: {seen} rows are of subjects of validation; leave those subjects out.")


class BalancedSynthetic(Method):
    """Adds a balanced draw of synthetic rows, whose subjects must not be in validation."""

    Settings = BalancedSyntheticSettings
    sees = ("synthetic images",)
    settings: BalancedSyntheticSettings

    def learn(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None
    ) -> ImageClassifier:
        """One stage over both, or one over each."""
        assert synthetic is not None, "fit refuses a fit without"
        refuse_subjects_of(validation, synthetic)
        draw = balanced_draw(synthetic, self.settings.attribute, round(self.settings.ratio * len(train)), seed)
        if self.settings.order == "mixed":
            return self.optimise(train.concatenate(draw), validation, seed)
        return self.optimise(train, validation, seed, start=self.optimise(draw, validation, seed))
