"""Images paired with noise by a trained generator, on which straighter paths are learned (reflow: Liu et al. 2023).

Three pairs of every image, all under the covariates they belong to:

    image              and the noise abducted from it
    counterfactual     and the same noise, one covariate being another image's
    sample             and noise drawn anew

From the image alone, a network could learn to ignore a covariate, which its noise determines already. The
counterfactual keeps the covariate's effect, and pairs image and counterfactual with one noise, which reversibility
requires. The sample keeps images realistic where noise is not abducted. All are clipped to the range of images before
they are paired.
"""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import InputError
from ..progress import progress_bar
from ..training.examples import StepSampler, TrainingExamples
from .guidance import conditional_velocity
from .images import finite_rows
from .latents import to_images, to_latents
from .objective import NOISE, intervene
from .pipeline import CausalDiffusionPipeline
from .solver import integrate

__all__ = ["KINDS", "PairedExamples"]

KINDS = ("image", "counterfactual", "sample")
"""Kinds of pairs, in their order for each image."""

BATCH = 64
"""Images integrated at once."""


class PairedExamples(Dataset[dict[str, Tensor]]):
    """The first `images` examples of training, and their pairs with `noise` by a generator.

    A key is (row, place) like that of TrainingExamples; the place is not used. All pairs are made with midpoint steps
    when the first is needed, so that a run that fails its checks or is finished costs nothing.

    Args:
        examples: of training.
        pipeline: the generator.
        images: number of examples, 1 or more.
        num_inference_steps: midpoint steps that make a pair, 1 or more.
    """

    def __init__(
        self, examples: TrainingExamples, pipeline: CausalDiffusionPipeline, images: int, num_inference_steps: int
    ) -> None:
        self.examples, self.pipeline = examples, pipeline
        self.images, self.num_inference_steps = images, num_inference_steps
        self._pairs: list[dict[str, Tensor]] = []

    def __len__(self) -> int:
        return len(KINDS) * self.images

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        if not self._pairs:
            self._pairs = self._paired()
            # its memory is needed for training
            del self.pipeline
        return self._pairs[key[0]]

    @torch.no_grad()
    def _paired(self) -> list[dict[str, Tensor]]:
        pipeline, generator = self.pipeline, torch.Generator().manual_seed(self.examples.seed)
        keys = next(iter(StepSampler(len(self.examples), self.images, self.examples.seed, 0, 1, 0, 1)))
        chosen = [self.examples[key] for key in keys]
        factual = {name: torch.stack([one[name] for one in chosen]) for name in chosen[0]}
        target, _ = intervene(factual, pipeline.covariates, generator)
        drawn = torch.randn(len(chosen), *pipeline.latent_shape(), generator=generator)
        pairs = []
        for first in progress_bar(range(0, len(chosen), BATCH), desc="pairing"):
            rows = slice(first, first + BATCH)
            own, other = ({name: column[rows] for name, column in table.items()} for table in (factual, target))
            image, fresh = own.pop("image"), drawn[rows]
            latents = to_latents(image.to(pipeline.device), pipeline.config.space_to_depth, pipeline.vae)
            abducted = self._follow(latents, own, up=True)
            made = (
                {**own, "image": image, NOISE: abducted.cpu()},
                {**other, "image": self._draw(abducted, other), NOISE: abducted.cpu()},
                {**own, "image": self._draw(fresh.to(pipeline.device), own), NOISE: fresh},
            )
            for row in range(len(image)):
                pairs += [{name: column[row] for name, column in one.items()} for one in made]
        return pairs

    def _draw(self, noise: Tensor, covariates: dict[str, Tensor]) -> Tensor:
        latents = self._follow(noise, covariates, up=False)
        pipeline = self.pipeline
        images = to_images(latents, pipeline.config.space_to_depth, pipeline.vae, pipeline.preset.channels)
        return images.clamp(0, 1).cpu()

    def _follow(self, states: Tensor, covariates: dict[str, Tensor], up: bool) -> Tensor:
        """From image to noise where `up`, the other way otherwise; on the pipeline's device."""
        pipeline = self.pipeline
        tokens = pipeline.covariate_encoder({name: column.to(pipeline.device) for name, column in covariates.items()})
        levels = pipeline.scheduler.levels(self.num_inference_steps)
        velocity = conditional_velocity(pipeline.unet, tokens)
        found = integrate("midpoint", velocity, states, levels[::-1] if up else levels)
        if not finite_rows(found).all():
            raise InputError(
                "pretrained_model_name_or_path: some of the generator's images or noise are not finite; check its "
                "weights, or give more num_inference_steps."
            )
        return found
