"""A small image classifier with one logit, finding present against absent, and the loop that trains it.

    h = max over positions of silu(trunk(2 x - 1)),   logit = w h + b,     P(present | x) = 1 / (1 + e^-logit)
    step:  theta <- AdamW(theta, gradient of loss(batch)), cosine learning rate, batches from epochs of rows
    kept:  of ten evaluations on `validation`, evenly spaced, the weights with the highest area under the ROC curve

A finding is present if it is at any position, hence the maximum. A mean over positions dilutes small findings: with it,
a fit on phantoms spent most of its steps before it detected the lesion, and learned global attributes (sex) first.

`training.loop.train` is the package's loop for published models: it owns a directory, checkpoints and an average of the
weights. Cells of a benchmark are fitted by the hundred, in memory, within seconds, with rows sampled anew each
epoch and weights selected on validation, so they have this smaller loop, whose five hooks a mitigation method
overrides. A fit takes the same number of steps whatever the number of rows, so a method that adds rows has no larger
compute budget.
"""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from ..access import RECORD, recorded_access, restrict, sealed
from ..arguments import Size, Sizes, checked
from ..errors import InputError
from ..measure.intervals import area_under_curve
from ..records import Access, Record, fingerprint
from ..training.blocks import GROUPS, ImageNetwork, ResidualBlock
from .interface import Hook, TrainableClassifier, weights_hash
from .labelled import LabelledImages

__all__ = [
    "Batch",
    "FittingSettings",
    "ImageClassifier",
    "LabelledImages",
    "all_parameters",
    "all_rows",
    "batch_errors",
    "equal_weights",
    "fit_classifier",
    "load_classifier",
    "mean_loss",
    "new_classifier",
    "one_step",
    "save_classifier",
    "unit_range",
]

BATCH = 256
"""Images per batch when predicting."""

EVALUATIONS = 10
"""Number of evaluations on validation during a fit."""


class FittingSettings(BaseModel):
    """Settings of one fit; the defaults suit some 3,000 images at 64 x 64.

    Attributes:
        steps: optimizer steps, from 1.
        batch_size: rows per step, from 2.
        learning_rate: of AdamW, at the start of the cosine schedule.
        weight_decay: of AdamW.
        shift: images are shifted sideways by up to so many pixels, edges repeated. This is the only augmentation,
            because it changes neither a finding nor any covariate (flips would change the side of the heart, contrast
            the scanner).
        channels: of `ImageClassifier`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(400, ge=1)
    batch_size: int = Field(64, ge=2)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    shift: int = Field(2, ge=0)
    channels: tuple[int, int, int] = (16, 32, 64)


class ImageClassifier(ImageNetwork):
    """A residual network with one logit.

    Args:
        resolution: height and width of the images in pixels, a multiple of 16.
        channels: feature maps at 1/4, 1/8 and again 1/8 of the resolution, each a multiple of 8; the last are the
            features. The last map keeps 1/8 of the resolution so that it localises what the network responds to.
        image_channels: of the images, 1 or 3.

    Raises:
        InputError: `resolution` or `channels` is invalid.
    """

    @register_to_config
    @checked
    def __init__(
        self, resolution: Size = 64, channels: Sizes = (16, 32, 64), image_channels: Literal[1, 3] = 1
    ) -> None:
        super().__init__()
        if resolution < 16 or resolution % 16:
            raise InputError(f"resolution: {resolution} is not allowed; give a multiple of 16.")
        if len(channels) != 3 or any(number < 1 or number % GROUPS for number in channels):
            raise InputError(f"channels: {tuple(channels)} is not allowed; give three multiples of {GROUPS}.")
        first, second, third = channels
        self.trunk = nn.Sequential(
            # folding 4 x 4 pixels into channels keeps fine detail: noise and markers identify scanners
            nn.PixelUnshuffle(4),
            nn.Conv2d(16 * image_channels, first, 3, padding=1),
            ResidualBlock(first, first),
            nn.AvgPool2d(2),
            ResidualBlock(first, second),
            ResidualBlock(second, third),
            nn.GroupNorm(GROUPS, third),
        )
        self.head = nn.Linear(third, 1)
        self.access: Access = "unknown"
        restrict(self)

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """It has all of them."""
        return ("features", "last layer")

    @property
    def fingerprint(self) -> str:
        """Identity of the weights."""
        return fingerprint([type(self).__name__, weights_hash(self)])

    def initial(self, examples: LabelledImages, seed: int) -> "ImageClassifier":
        """A copy with these weights; InputError for examples of another resolution or colour."""
        self.features(examples.images[:1])
        return copy.deepcopy(self)

    def feature_map(self, images: Tensor) -> Tensor:
        """The last map `[B, d, r/8, r/8]` of images `[B, C, r, r]` in [0, 1], differentiably; its maximum: `embed`."""
        return functional.silu(self.trunk(2 * images - 1))

    def embed(self, images: Tensor) -> Tensor:
        """Features `[B, d]` of images `[B, C, r, r]` in [0, 1], differentiably."""
        return self.feature_map(images).amax(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[B]` of images `[B, C, r, r]` in [0, 1], differentiably."""
        return self.head(self.embed(images))[:, 0]

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features float32 `[n, d]` of images uint8 `[n, C, r, r]`, on the CPU; InputError for other images."""
        side = self.config["resolution"]
        if (
            images.dtype != torch.uint8
            or images.ndim != 4
            or tuple(images.shape[1:]) != (self.image_channels, side, side)
        ):
            raise InputError(
                f"images: {images.dtype} of shape {tuple(images.shape)}; give this classifier torch.uint8 of shape "
                f"[n, {self.image_channels}, {side}, {side}]."
            )
        if not len(images):
            return torch.zeros(0, self.head.in_features)
        return torch.cat([self.embed(unit_range(part.to(self.device))).float().cpu() for part in images.split(BATCH)])

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Logits float32 `[n]` of images uint8 `[n, C, r, r]`, on the CPU; InputError for other images."""
        return self.head(self.features(images).to(self.device))[:, 0].cpu()


def unit_range(images: Tensor) -> Tensor:
    """Images uint8 as float32 in [0, 1]."""
    return images.float() / 255


@dataclass(frozen=True, eq=False)
class Batch:
    """The rows of one step, the argument of the hook `loss`; its tensors are on the device of the classifier.

    Attributes:
        images: float32 `[B, C, r, r]` in [0, 1], augmented.
        masks: bool `[B, 1, r, r]`, shifted as the images are, or None.
        examples: the same rows without augmentation: labels, groups, pairs.
        weights: float32 `[B]`, with mean 1 over all rows of train.
        progress: share of the steps before this one, in [0, 1).
    """

    images: Tensor
    masks: Tensor | None
    examples: LabelledImages
    weights: Tensor
    progress: float

    def to(self, device: torch.device) -> "Batch":
        """The same rows on a device."""
        masks = None if self.masks is None else self.masks.to(device)
        return Batch(self.images.to(device), masks, self.examples.to(device), self.weights.to(device), self.progress)


Rows = Callable[[LabelledImages, torch.Generator], Tensor]
SampleWeights = Callable[[LabelledImages], Tensor]
Loss = Callable[[TrainableClassifier, Batch], Tensor]
Parameters = Callable[[TrainableClassifier], Iterable[nn.Parameter]]
Update = Callable[[torch.optim.Optimizer, Callable[[], None]], None]


def all_rows(train: LabelledImages, generator: torch.Generator) -> Tensor:
    """Indices int64 `[n]` of every row once, in random order."""
    return torch.randperm(len(train), generator=generator)


def equal_weights(train: LabelledImages) -> Tensor:
    """Ones, float32 `[n]`."""
    return torch.ones(len(train))


def mean_loss(classifier: TrainableClassifier, batch: Batch) -> Tensor:
    """Mean over rows of weight times binary cross-entropy in nats."""
    return (batch.weights * batch_errors(classifier(batch.images), batch)).mean()


def batch_errors(logits: Tensor, batch: Batch) -> Tensor:
    """Binary cross-entropy in nats `[B]` of logits `[B]`."""
    return functional.binary_cross_entropy_with_logits(logits, batch.examples.labels.float(), reduction="none")


def all_parameters(classifier: TrainableClassifier) -> Iterable[nn.Parameter]:
    """Every parameter of the network."""
    return classifier.parameters()


def one_step(optimizer: torch.optim.Optimizer, gradients: Callable[[], None]) -> None:
    """The gradients of the batch, clipped to norm 1, and one step of the optimiser."""
    gradients()
    optimizer.step()


def new_classifier(examples: LabelledImages, settings: FittingSettings, seed: int) -> ImageClassifier:
    """A network with weights initialised from a seed.

    Args:
        examples: images of the resolution of the network.
        settings: `channels` of the network.
        seed: of the weights; the global generator of torch is not changed.

    Returns:
        The network, in training mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ImageClassifier(examples.images.shape[-1], settings.channels, examples.images.shape[1])


def fit_classifier(
    classifier: TrainableClassifier,
    train: LabelledImages,
    validation: LabelledImages,
    settings: FittingSettings,
    seed: int,
    *,
    rows: Rows = all_rows,
    sample_weights: SampleWeights = equal_weights,
    loss: Loss = mean_loss,
    trainable_parameters: Parameters = all_parameters,
    update: Update = one_step,
) -> list[float]:
    """Fit a classifier in place, by empirical risk minimisation unless a hook is given.

    The classifier keeps the weights of the evaluation with the highest AUC on `validation`, the last of ties.

    Args:
        classifier: the network.
        train: rows to learn from.
        validation: rows to select the weights on, of the distribution of `train`; never the test split. Their groups
            are not used.
        settings: steps, batch size, learning rate, weight decay and shift.
        seed: decides the order of rows and their shifts.
        rows: hook for the indices of the rows of one epoch, in order, drawn from a generator.
        sample_weights: hook for one positive weight per row of `train`; they are scaled to mean 1.
        loss: hook for the scalar that is minimised.
        trainable_parameters: hook for the parameters that the optimiser updates; the others do not change.
        update: hook for how a step moves them, given the optimiser and what sets the gradients of the batch.

    Returns:
        The AUC of every evaluation.

    Raises:
        InputError: a set has rows of one class only, weights are not positive numbers, or the loss is not finite.
    """
    for name, examples in (("train", train), ("validation", validation)):
        if examples.labels.unique().numel() != 2:
            raise InputError(f"{name}: rows of one class only; give rows with and without the finding.")
    weights = sample_weights(train).float()
    if weights.shape != (len(train),) or not torch.isfinite(weights).all() or weights.min() <= 0:
        raise InputError(f"sample_weights: shape {tuple(weights.shape)}; give {len(train)} positive numbers.")
    weights = weights / weights.mean()
    generator = torch.Generator().manual_seed(seed)
    parameters = list(trainable_parameters(classifier))
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    evaluated = {settings.steps * number // EVALUATIONS for number in range(1, EVALUATIONS + 1)}
    curve: list[float] = []
    kept: dict[str, Tensor] = {}
    batches: list[Tensor] = []
    for step in range(settings.steps):
        batches = batches or _batches(rows(train, generator), settings.batch_size)
        classifier.train()
        progress = step / settings.steps
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * (1 + math.cos(math.pi * progress)) / 2
        batch = _batch(train, batches.pop(0), weights, settings.shift, progress, generator).to(classifier.device)

        def gradients(step: int = step, batch: Batch = batch) -> None:
            value = loss(classifier, batch)
            if not torch.isfinite(value):
                raise InputError(f"step {step}: the loss is {value.item()}; lower learning_rate.")
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)

        update(optimizer, gradients)
        if step + 1 in evaluated:
            curve.append(_validation_auc(classifier, validation))
            if curve[-1] >= max(curve):
                kept = {name: tensor.detach().clone() for name, tensor in classifier.state_dict().items()}
    classifier.load_state_dict(kept)
    return curve


def _validation_auc(classifier: TrainableClassifier, validation: LabelledImages) -> float:
    classifier.eval()
    scores, labels = (one.double().numpy() for one in (classifier.logits(validation.images), validation.labels))
    return float(area_under_curve(scores, labels)(np.ones((1, len(labels))))[0])


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """Consecutive indices, `size` at a time; a last batch of one row is merged with the one before it."""
    batches = list(order.split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _batch(
    train: LabelledImages, places: Tensor, weights: Tensor, shift: int, progress: float, generator: torch.Generator
) -> Batch:
    examples, masks = train.select(places), None
    images = unit_range(examples.images)
    offsets = torch.randint(-shift, shift + 1, (len(places),), generator=generator)
    if shift:
        images = _shifted(images, offsets)
    if examples.masks is not None:
        masks = _shifted(examples.masks, offsets)
    return Batch(images, masks, examples, weights[places], progress)


def _shifted(images: Tensor, offsets: Tensor) -> Tensor:
    """Images `[B, C, H, W]` shifted sideways by offsets `[B]` in pixels, edges repeated."""
    columns = (torch.arange(images.shape[-1]) - offsets[:, None]).clamp(0, images.shape[-1] - 1)
    return images.gather(3, columns[:, None, None].expand_as(images))


def save_classifier(classifier: TrainableClassifier, directory: str | Path, record: Record) -> None:
    """Write config.json, safetensors and, last of all, record.json into a directory."""
    classifier.save_pretrained(directory, safe_serialization=True)
    sealed(record, Path(directory)).write(Path(directory) / RECORD)


def load_classifier(directory: str | Path) -> ImageClassifier:
    """The classifier saved in a directory, in evaluation mode; InputError for missing or damaged files, or pickle."""
    Record.read(Path(directory) / RECORD)
    try:
        loaded = ImageClassifier.from_pretrained(directory, use_safetensors=True, low_cpu_mem_usage=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{directory}: not a classifier that can be loaded ({str(error).splitlines()[0]}).") from None
    loaded.access = recorded_access(Path(directory))
    return loaded.eval()
