"""Attention alignment (similar to Aligner): the classifier should attend to the region of a present finding.

    a(p) = |d logit / d x_p| / sum over pixels q of |d logit / d x_q|,     inside = sum over p in the region of a(p)
    loss = mean over rows of  weight cross-entropy + strength (1 - inside),   the latter for rows with a region only

Attention is the logit's gradient at the pixels (right for the right reasons, Ross et al. 2017; share instead of square,
so that the network's scale does not matter): small changes of pixels without attention have no effect. A
class-activation map would be cheaper, but its cells have a large receptive field, so that evidence from outside the
region could appear inside. Aligner (Luo et al. 2025) aligns cross-attention by a Dice loss.

A region is the row's mask: an expert's box (`domains.chest_xray.nih_bounding_boxes.finding_masks`), a phantom's lesion
(`PhantomSource.lesion_mask`), or `changed_pixels` under do(finding). No group labels are used; `sweep` measures the
effect of a strength on validation, and `calibrated_strength` chooses one.
"""

from collections.abc import Sequence
from typing import Any

import pandas
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...errors import InputError
from ..classifier import BATCH, Batch, FittingSettings, LabelledImages, mean_loss, unit_range
from ..interface import TrainableClassifier
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
    """Settings.

    Attributes:
        strength: the penalty, in nats of cross-entropy, of attention entirely outside a region; 0 is empirical risk
            minimisation.
    """

    strength: float = Field(1.0, ge=0)


def attention(classifier: TrainableClassifier, images: Tensor) -> Tensor:
    """Attention maps, differentiable in the classifier's parameters unless gradients are disabled.

    Args:
        classifier: the network.
        images: `[B, C, r, r]` in [0, 1].

    Returns:
        a `[B, 1, r, r]`, summed over colours, which sums to 1 over pixels, or is 0 if no pixel has an effect.
    """
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        pixels = images.detach().requires_grad_()
        # torch's faster attention of transformers has no second derivative
        with sdpa_kernel(SDPBackend.MATH):
            logits = classifier(pixels)
        (slope,) = torch.autograd.grad(logits.sum(), pixels, create_graph=keep)
    size = slope.abs().sum(dim=1, keepdim=True)
    return size / size.sum(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(size.dtype).tiny)


def share_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """The share of attention inside the region.

    Args:
        maps: attention maps `[B, 1, r, r]`.
        masks: bool `[B, 1, r, r]`.

    Returns:
        Shares `[B]` in [0, 1].
    """
    return (maps * masks).sum(dim=(1, 2, 3))


@torch.no_grad()
def shares_inside(classifier: TrainableClassifier, examples: LabelledImages) -> Tensor:
    """The share of attention inside the region, for the rows with a region.

    Args:
        classifier: the network.
        examples: rows with masks; m of these have a pixel.

    Returns:
        Shares float32 `[m]` in [0, 1].

    Raises:
        InputError: no row has a region.
    """
    marked = examples.select(_marked(examples, "examples"))
    assert marked.masks is not None, "rows with a region have masks"
    parts, device = zip(marked.images.split(BATCH), marked.masks.split(BATCH), strict=True), classifier.device
    return torch.cat(
        [
            share_inside(attention(classifier, unit_range(images.to(device))), masks.to(device)).cpu()
            for images, masks in parts
        ]
    )


def changed_pixels(images: Tensor, counterfactuals: Tensor, threshold: int = 8) -> Tensor:
    """Masks of the pixels that an intervention changes: |x - x*| >= threshold.

    With x* = x under do(finding), all other covariates held fixed, this is the region of the finding; were they not
    held fixed, effects of a view or scanner that depends on the finding would be marked too. The threshold is fixed,
    because a quantile would mark pixels of an image that the intervention does not change.

    Args:
        images: x, uint8 `[n, C, r, r]`.
        counterfactuals: x*, uint8 `[n, C, r, r]`.
        threshold: in levels of gray, or of any of the colours, 1 to 255.

    Returns:
        Masks bool `[n, 1, r, r]`.

    Raises:
        InputError: types or shapes are invalid, or the threshold is out of range.
    """
    for name, one in (("images", images), ("counterfactuals", counterfactuals)):
        if one.dtype != torch.uint8 or one.ndim != 4 or one.shape != images.shape:
            raise InputError(
                f"{name}: {one.dtype} of shape {tuple(one.shape)}; give torch.uint8 [n, C, r, r], a counterfactual "
                "for each image."
            )
    if not 1 <= threshold <= 255:
        raise InputError(f"threshold: {threshold} is out of range; allowed: 1 to 255 grey levels.")
    return ((images.short() - counterfactuals.short()).abs() >= threshold).any(dim=1, keepdim=True)


class AttentionAlignment(Method):
    """Penalises attention outside the regions of train's masks; a mask without a pixel is no region."""

    Settings = AttentionAlignmentSettings
    required_annotations = ("training masks",)
    settings: AttentionAlignmentSettings

    def learn(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None
    ) -> TrainableClassifier:
        """One stage; InputError where no row of train has a region."""
        _marked(train, "train")
        return self.optimise(train, validation, seed)

    def loss(self, classifier: TrainableClassifier, batch: Batch) -> Tensor:
        """Mean cross-entropy, and the penalty of attention outside the regions."""
        own = mean_loss(classifier, batch)
        assert batch.masks is not None, "learn checks that there are masks"
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
    """Fit one classifier per strength and seed, and evaluate it on validation.

    Args:
        train: rows with masks.
        validation: rows with masks, of other subjects.
        strengths: values of the setting `strength`.
        seeds: seeds of the fits.
        **settings: the other settings of the method.

    Returns:
        One line per fit: `strength`, `seed`, `validation_auc`, mean `share_inside`, and `rows`, the number of rows of
        validation with a region. No group labels are used.

    Raises:
        InputError: before any fit, if either set has no region or a setting is invalid.
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
    """The largest strength of a `sweep` whose mean AUC is within one standard error of the best strength's.

    This is the one-standard-error rule (Breiman et al. 1984).

    Raises:
        InputError: the sweep has a single seed.
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
