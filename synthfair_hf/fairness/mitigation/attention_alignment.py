"""Attention alignment (in the manner of Aligner): a present finding should be read where it is.

    a(p) = |d logit / d x_p| / sum over pixels q of |d logit / d x_q|,     inside = sum over p in the region of a(p)
    loss = mean over rows of  weight cross-entropy + strength (1 - inside),   the latter for rows with a region only

Attention is the logit's gradient at the pixels (right for the right reasons, Ross et al. 2017; share instead of square,
so that the network's scale does not matter): pixels with no attention can be changed a little without any effect. A
class-activation map would be cheaper, but each of its places sees a large part of the image, so that evidence from
outside could be shown inside. Aligner is reported to align cross-attention by a Dice loss.

A region is the row's mask: an expert's box (`domains.chest_xray.nih_bounding_boxes.finding_masks`), a phantom's lesion
(`PhantomSource.lesion_mask`), or `changed_pixels` under do(finding). No group label is used; `sweep` shows what a
strength costs on validation, and `calibrated_strength` chooses one.
"""

from collections.abc import Sequence
from typing import Any

import pandas
import torch
from pydantic import Field
from torch import Tensor

from ...errors import InputError
from ..classifier import BATCH, Batch, FittingSettings, ImageClassifier, LabelledImages, mean_loss, unit_range
from .method import Method

__all__ = [
    "AttentionAlignment",
    "AttentionAlignmentSettings",
    "attention",
    "calibrated_strength",
    "changed_pixels",
    "share_inside",
    "shares_inside",
    "sweep",
]


class AttentionAlignmentSettings(FittingSettings):
    """`strength` in nats of cross-entropy: what attention all outside a region costs; at 0 nothing is aligned."""

    strength: float = Field(1.0, ge=0)


def attention(classifier: ImageClassifier, images: Tensor) -> Tensor:
    """A `[B, 1, r, r]` of images `[B, 1, r, r]` in [0, 1]: sums to 1 over pixels, or is 0 where no pixel has effect.

    Differentiable in the classifier's parameters, unless gradients are switched off.
    """
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        pixels = images.detach().requires_grad_()
        (slope,) = torch.autograd.grad(classifier(pixels).sum(), pixels, create_graph=keep)
    size = slope.abs()
    return size / size.sum(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(size.dtype).tiny)


def share_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """Share in [0, 1] of each attention map `[B, 1, r, r]` that lies in its mask, bool of that shape: `[B]`."""
    return (maps * masks).sum(dim=(1, 2, 3))


@torch.no_grad()
def shares_inside(classifier: ImageClassifier, examples: LabelledImages) -> Tensor:
    """Share inside of each of the m rows with a region, float32 `[m]`; InputError where there is none."""
    marked = examples.select(_marked(examples, "examples"))
    assert marked.masks is not None, "rows with a region have masks"
    parts = zip(marked.images.split(BATCH), marked.masks.split(BATCH), strict=True)
    return torch.cat([share_inside(attention(classifier, unit_range(images)), masks) for images, masks in parts])


def changed_pixels(images: Tensor, counterfactuals: Tensor, threshold: int = 8) -> Tensor:
    """Masks bool `[n, 1, r, r]`: where |x - x*| is at least so many of 255 grey levels; images uint8 of that shape.

    With x* = x under do(finding), all other covariates held where they were, this is where the finding is seen; were
    they not held, a view or scanner that follows the finding would be marked too. A fixed threshold, because a quantile
    would mark pixels of an image that the intervention leaves alone.
    """
    for name, one in (("images", images), ("counterfactuals", counterfactuals)):
        if one.dtype != torch.uint8 or one.ndim != 4 or one.shape != images.shape:
            raise InputError(
                f"{name}: {one.dtype} of shape {tuple(one.shape)}; give torch.uint8 [n, 1, r, r], a counterfactual "
                "for each image."
            )
    if not 1 <= threshold <= 255:
        raise InputError(f"threshold: {threshold} is out of range; allowed: 1 to 255 grey levels.")
    return (images.short() - counterfactuals.short()).abs() >= threshold


class AttentionAlignment(Method):
    """Draws attention into the regions of train's masks; a mask without a pixel is no region."""

    Settings = AttentionAlignmentSettings
    sees = ("training masks",)
    settings: AttentionAlignmentSettings

    def learn(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None
    ) -> ImageClassifier:
        """One stage; InputError where no row of train has a region."""
        _marked(train, "train")
        return self.optimise(train, validation, seed)

    def loss(self, classifier: ImageClassifier, batch: Batch) -> Tensor:
        """Mean cross-entropy, and what of the attention is outside."""
        own = mean_loss(classifier, batch)
        assert batch.masks is not None, "learn refuses a set without"
        marked = batch.masks.flatten(1).any(dim=1)
        if not marked.any():
            return own
        inside = share_inside(attention(classifier, batch.images[marked]), batch.masks[marked])
        return own + self.settings.strength * (1 - inside).sum() / len(marked)


def sweep(
    train: LabelledImages,
    validation: LabelledImages,
    strengths: Sequence[float],
    seeds: Sequence[int],
    **settings: Any,
) -> pandas.DataFrame:
    """One fit per strength and seed: `strength`, `seed`, `validation_auc`, mean `share_inside`, its number of `rows`.

    Both figures are of validation, whose rows with a region number `rows`; no group label is looked at. `settings` are
    the method's others. InputError before any fit where either set has no region or a setting is refused.
    """
    _marked(train, "train")
    _marked(validation, "validation")
    found = []
    for method in [AttentionAlignment(strength=strength, **settings) for strength in strengths]:
        for seed in seeds:
            shares = shares_inside(method.fit(train, validation, seed).classifier, validation)
            found.append((method.settings.strength, seed, max(method.curve), shares.mean().item(), len(shares)))
    return pandas.DataFrame(found, columns=["strength", "seed", "validation_auc", "share_inside", "rows"])


def calibrated_strength(table: pandas.DataFrame) -> float:
    """The largest strength of a `sweep` whose mean area under the curve is within a standard error of the best one's.

    The one-standard-error rule (Breiman et al. 1984): the most alignment that validation can't tell from the best.
    """
    if table["seed"].nunique() < 2:
        raise InputError("table: one seed only; a standard error needs two or more.")
    areas = table.groupby("strength")["validation_auc"]
    mean, error = areas.mean(), areas.sem()
    bound = (mean - error)[mean == mean.max()].min()
    return float(mean.index[mean >= bound].max())


def _marked(examples: LabelledImages, name: str) -> Tensor:
    """Which rows have a region, bool `[n]`."""
    if examples.masks is None or not examples.masks.any():
        raise InputError(f"{name}: no row has a mask with a pixel in it; give masks (LabelledImages.masks).")
    return examples.masks.flatten(1).any(dim=1)
