"""Attribute predictors: small networks, trained on the training patients alone, that predict covariates of an image.

    h = mean over places of CNN(x),     level ~ softmax(W h + b)   or   value = location + scale (w h + b)
    loss = mean over covariates of cross-entropy (levels) or smooth L1 in standard deviations (numbers), where known

They are used for every attribute that can't be measured without learning, and h is the domain encoder of `realism`. A
record beside the weights names the splits it was trained on; a predictor of others than `train` is not allowed, because
its figures on images that it was trained on would be too good.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional

from ..access import recorded_access, restrict
from ..arguments import Size, Sizes, checked
from ..domains.drawn import DrawnSource
from ..domains.images import to_batch
from ..domains.source import Source, access_to, channels_of
from ..errors import InputError
from ..records import Access, Record
from ..schema import Schema, Variable
from ..training.blocks import GROUPS, ImageNetwork, ResidualBlock
from ..training.checkpoints import check_output_dir
from ..training.config import TrainingConfig, architecture
from ..training.examples import TrainingExamples
from ..training.loop import train
from ..training.origins import Origin, origins_in
from .intervals import area_under_curve
from .weights import load_weights, weights_fingerprint

__all__ = [
    "BATCH",
    "AttributePredictor",
    "PredictionObjective",
    "SavedPredictor",
    "agreement",
    "load_predictor",
    "predict_images",
    "train_predictor",
]

BATCH = 64
"""Batch size of predictions."""

REDUCTION = 16
"""Pixels of the image behind one place of the last feature map, along each side."""


class AttributePredictor(ImageNetwork):
    """A residual network with one linear head per covariate.

    Args:
        variables: the schema's variables as JSON.
        resolution: height and width of the images in pixels, a multiple of 16.
        channels: feature maps at 1/2, 1/4, 1/8 and 1/16 of the resolution, each a multiple of 8.
        width: length of the features that all heads share.
        image_channels: of the images, 1 or 3.
    """

    @register_to_config
    @checked
    def __init__(
        self,
        variables: list[dict[str, Any]],
        resolution: Size = 64,
        channels: Sizes = (16, 32, 64, 128),
        width: Size = 64,
        image_channels: Literal[1, 3] = 1,
    ) -> None:
        super().__init__()
        check_resolution(resolution)
        if any(number % GROUPS for number in channels):
            raise InputError(f"channels: {tuple(channels)} is not allowed; give multiples of {GROUPS}.")
        self.covariates = Schema(variables=tuple(Variable(**variable) for variable in variables))
        # The first halving folds 2 x 2 pixels into channels, which keeps the fine detail by which scanners differ.
        layers: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(4 * image_channels, channels[0], 3, padding=1)]
        for index, outputs in enumerate(channels):
            layers += [nn.AvgPool2d(2)] if index else []
            layers += [ResidualBlock(channels[max(index - 1, 0)], outputs)]
        self.trunk = nn.Sequential(*layers, nn.GroupNorm(GROUPS, channels[-1]), nn.Conv2d(channels[-1], width, 1))
        self.heads = nn.ModuleDict(
            {
                variable.name: nn.Linear(width, len(variable.levels) if variable.categorical else 1)
                for variable in self.covariates.walk()
            }
        )
        # Mean and standard deviation of every continuous covariate in training: saved with the weights, not learned.
        continuous = [variable for variable in self.covariates.walk() if not variable.categorical]
        self.standards = nn.ParameterDict(
            {
                variable.name: nn.Parameter(torch.tensor([sum(variable.bounds) / 2, 1.0]), requires_grad=False)
                for variable in continuous
            }
        )
        restrict(self)

    def embed(self, images: Tensor) -> Tensor:
        """Features `[B, width]` of images `[B, C, r, r]` in [0, 1], differentiably."""
        return functional.silu(self.trunk(2 * images - 1)).mean(dim=(2, 3))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Outputs of the heads for features `[B, width]`: logits `[B, levels]`, or deviations from the mean `[B]`."""
        outputs = {name: head(features) for name, head in self.heads.items()}
        return {name: answer if self.covariates[name].categorical else answer[:, 0] for name, answer in outputs.items()}

    def disagreement(
        self,
        images: Tensor,
        covariates: Mapping[str, Tensor],
        observed_images: Tensor,
        observed_covariates: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """How far predictions on counterfactuals are from the requested covariates.

        Cross-entropy in nats, or smooth L1 in standard deviations between the predicted change and the change of the
        value, so that the prediction error on the observation does not count. Differentiable in `images`.

        Args:
            images: counterfactuals `[B, C, r, r]` in [0, 1].
            covariates: theirs, encoded, `[B]` each; those not given are left out.
            observed_images: observations, likewise.
            observed_covariates: theirs.

        Returns:
            By covariate `[B]`; zero where the requested value is missing. Where only the observed one is, the
            prediction itself is compared.
        """
        answers = {name: answer for name, answer in self(self.embed(images)).items() if name in covariates}
        with torch.no_grad():
            before = self(self.embed(observed_images))
        for name in answers:
            if not self.covariates[name].categorical:
                location, scale = self.standards[name]
                misread = before[name] - (observed_covariates[name] - location) / scale
                answers[name] = answers[name] - torch.nan_to_num(misread)
        return self.errors(answers, covariates)

    def errors(
        self, answers: Mapping[str, Tensor], covariates: Mapping[str, Tensor], label_smoothing: float = 0.0
    ) -> dict[str, Tensor]:
        """Loss of the heads' outputs, by covariate.

        Args:
            answers: outputs of the heads.
            covariates: encoded, `[B]` each.
            label_smoothing: of the cross-entropy, in [0, 1).

        Returns:
            `[B]` each; zero where the value is missing.
        """
        errors = {}
        for name, answer in answers.items():
            value, answer = covariates[name], answer.float()
            if self.covariates[name].categorical:
                known, levels = value >= 0, value.clamp(min=0)
                error = functional.cross_entropy(answer, levels, reduction="none", label_smoothing=label_smoothing)
            else:
                known, (location, scale) = ~value.isnan(), self.standards[name]
                standardised = (torch.nan_to_num(value) - location) / scale
                error = functional.smooth_l1_loss(answer, standardised, reduction="none", beta=0.1)
            errors[name] = torch.where(known, error, 0)
        return errors

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features float32 `[n, width]` of images `[n, C, r, r]` in [0, 1], on the CPU."""
        side = self.config["resolution"]
        if images.ndim != 4 or tuple(images.shape[1:]) != (self.image_channels, side, side):
            raise InputError(
                f"images: unexpected shape {tuple(images.shape)}; this predictor takes "
                f"[n, {self.image_channels}, {side}, {side}]."
            )
        if not len(images):
            return torch.zeros(0, self.config["width"])
        if not torch.isfinite(images).all() or images.min() < 0 or images.max() > 1:
            raise InputError(f"images: values span {images.min():g} to {images.max():g}; expected [0, 1].")
        return torch.cat([self.embed(part.to(self.device, self.dtype)).float().cpu() for part in images.split(BATCH)])

    @torch.no_grad()
    def predict(self, images: Tensor) -> dict[str, np.ndarray]:
        """Probabilities `[n, levels]` of each categorical covariate; each continuous one `[n]` in its unit."""
        answers = self(self.features(images).to(self.device, self.dtype))
        predicted = {}
        for name, answer in answers.items():
            if self.covariates[name].categorical:
                answer = answer.double().softmax(dim=1)
            else:
                location, scale = self.standards[name].double()
                answer = location + scale * answer.double()
            predicted[name] = answer.cpu().numpy()
        return predicted


def check_resolution(resolution: int) -> None:
    """Raise InputError unless the resolution is a multiple of 16."""
    if resolution < REDUCTION or resolution % REDUCTION:
        raise InputError(f"resolution: {resolution} is not allowed; give a multiple of {REDUCTION}.")


class PredictionObjective(nn.Module):
    """objective(batch, generator) -> (loss, {covariate: its part}), for the one training loop.

    Args:
        predictor: the network, trained.
        dropout: probability with which a feature is dropped.
        label_smoothing: of the cross-entropy, in [0, 1).
    """

    def __init__(self, predictor: AttributePredictor, dropout: float = 0.2, label_smoothing: float = 0.05) -> None:
        super().__init__()
        self.predictor, self.dropout, self.label_smoothing = predictor, dropout, label_smoothing

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean over covariates of their mean error over the rows where they are known."""
        features = self.predictor.embed(batch["image"])
        kept = torch.rand(features.shape, generator=generator, device=features.device) >= self.dropout
        answers = self.predictor(features * kept / (1 - self.dropout))
        parts, means = {}, []
        for name, error in self.predictor.errors(answers, batch, self.label_smoothing).items():
            value = batch[name]
            known = value >= 0 if self.predictor.covariates[name].categorical else ~value.isnan()
            means.append(error.sum() / known.sum().clamp(min=1))
            if known.any():
                parts[name] = means[-1].detach()
        return torch.stack(means).mean(), parts


@checked
def train_predictor(
    source: Source, config: TrainingConfig, resolution: Size, access: Access | None = None, **size: Any
) -> Record:
    """Train a predictor of all covariates of a source on its training patients and save it in `config.output_dir`.

    Args:
        source: the images and covariates.
        config: settings of the training run.
        resolution: height and width of the images in pixels, a multiple of 16.
        access: to the source, recorded because it limits what may be published of whatever is made by the predictor.
        **size: `channels` and `width` of AttributePredictor.

    Returns:
        The record, with the splits trained on.

    Raises:
        InputError: for a resolution or settings that are not allowed, before any image is read.
    """
    check_resolution(resolution)
    check_output_dir(config)
    access = "open" if isinstance(source, DrawnSource) else access_to(source, access)
    examples = TrainingExamples(source, "train", resolution, config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        variables = source.covariates.model_dump(mode="json")["variables"]
        predictor = AttributePredictor(variables, resolution, **size, image_channels=channels_of(source))
    encoded = source.covariates.encode({name: source.table[name] for name in source.covariates.names})
    for name, standard in predictor.standards.items():
        values = encoded[name][examples.rows].astype(np.float64)
        known = values[~np.isnan(values)]
        if len(known) > 1 and known.std() > 0:
            standard.data = torch.tensor([known.mean(), known.std()], dtype=torch.float32)
    patients = {source.patient_ids[row] for row in examples.rows}
    counts = {"source": source.counts, "seen": {"train": {"images": len(examples), "patients": len(patients)}}}
    inputs = {"source": source.fingerprint, "access": access, "architecture": architecture(predictor.config)}

    def save(directory: Path) -> None:
        predictor.save_pretrained(directory, safe_serialization=True)

    return train(PredictionObjective(predictor), examples, config, save, inputs, counts)


@dataclass(frozen=True)
class SavedPredictor:
    """A predictor in a directory, identified by its weights and loaded by the process that needs it."""

    directory: Path

    def __post_init__(self) -> None:
        # another process may run elsewhere
        object.__setattr__(self, "directory", Path(self.directory).absolute())

    @property
    def revision(self) -> str:
        """Identity of its weights; raises InputError where there are none."""
        return weights_fingerprint(self.directory)

    @property
    def access(self) -> Access:
        """Access to the images it was trained on; "open" where its record was written before it named one.

        Raises:
            InputError: record and weights contradict each other.
        """
        return recorded_access(self.directory, silent="open")

    @property
    def origins(self) -> list[Origin]:
        """The images it was trained on."""
        return origins_in(self.directory)

    def load(self, schema: Schema) -> AttributePredictor:
        """The predictor, by `load_predictor`."""
        return load_predictor(self.directory, schema)


@checked
def load_predictor(directory: str | Path, schema: Schema) -> AttributePredictor:
    """The predictor saved in a directory, if it was trained on training patients alone.

    Args:
        directory: written by `train_predictor`.
        schema: covariates that it must predict.

    Raises:
        InputError: for missing or damaged files, pickle weights, covariates that are absent or differ from those of
            `schema`, and any split but `train` in its record.
    """
    predictor = load_weights(directory, AttributePredictor, "predictor")
    for variable in schema.walk():
        if variable.name not in predictor.covariates or predictor.covariates[variable.name] != variable:
            raise InputError(
                f"{directory}: this predictor does not predict {variable.name!r} as the schema has it; it predicts "
                f"{', '.join(predictor.covariates.names)}; train one on this schema."
            )
    return predictor


def predict_images(
    directory: str | Path, schema: Schema, resolution: int
) -> Callable[[Sequence[np.ndarray]], dict[str, np.ndarray]]:
    """What a saved predictor says of images `[r, r]` or `[3, r, r]` in [0, 1], as `AttributePredictor.predict`.

    Args:
        directory: written by `train_predictor`.
        schema: covariates that it must predict.
        resolution: of the images, r.

    Raises:
        InputError: as `load_predictor`; a predictor of images of another resolution.
    """
    predictor = load_predictor(directory, schema)
    side = predictor.config["resolution"]
    if side != resolution:
        raise InputError(
            f"predictor: {directory} takes images of {side} pixels, not {resolution}; give one trained on those."
        )
    return lambda images: predictor.predict(torch.from_numpy(to_batch(images)))


def agreement(variable: Variable, predicted: np.ndarray, values: Sequence[Any]) -> dict[str, float | int | None]:
    """How well predictions agree with values.

    Args:
        variable: the covariate.
        predicted: probabilities `[n, levels]`, or values `[n]` in the unit.
        values: decoded; rows of None are left out.

    Returns:
        `n`, the number of rows that remain, and of a categorical variable `auc` (`intervals.area_under_curve`) and
        `accuracy`, of a continuous one `mae` in the unit and `mae_of_mean`, that of predicting the mean; None where
        they are undefined.
    """
    encoded = variable.encode(values)
    known = encoded >= 0 if variable.categorical else ~np.isnan(encoded)
    truth, kept, n = encoded[known], predicted[known], int(known.sum())
    if not variable.categorical:
        error = float(np.abs(kept - truth).mean()) if n else None
        return {"mae": error, "mae_of_mean": float(np.abs(truth - truth.mean()).mean()) if n else None, "n": n}
    if not n:
        return {"auc": None, "accuracy": None, "n": 0}
    area = float(area_under_curve(kept, truth)(np.ones((1, n)))[0])
    accuracy = float((kept.argmax(axis=1) == truth).mean())
    return {"auc": None if np.isnan(area) else area, "accuracy": accuracy, "n": n}
