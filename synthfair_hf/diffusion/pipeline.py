"""One pipeline, one way to run; the arguments choose the question.

    pipe(covariates=c)                          an image of a person with these covariates
    pipe(image=x, covariates=c, do={...})       the same anatomy, had the covariates been otherwise
    pipe(image=x, covariates=c, do={})          composition: abduction and prediction alone, which return x

Abduction: what noise made this image and these covariates?  Action: set the intervened covariates, let their
descendants follow.  Prediction: the image that the same noise makes under the new covariates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from ..causal.mechanisms import Covariates, Generators, draw
from ..causal.scm import StructuralCausalModel
from ..errors import InputError, unknown
from ..presets import Preset
from ..schema import Schema
from .conditioning import CovariateEncoder
from .denoiser import Denoiser, build_unet
from .guidance import conditional_velocity, guided_velocity
from .latents import to_images, to_latents
from .solver import ReversibleFlowScheduler

__all__ = ["CausalDiffusionPipeline", "CausalPipelineOutput"]


@dataclass
class CausalPipelineOutput(BaseOutput):
    """What the pipeline answers.

    images: PIL images, or float32 `[B, C, H, W]` in [0, 1] for output_type="pt".
    covariates: decoded values by name; those of the counterfactual where `do` was given.
    noise: exogenous noise of the image `[B, 2, c, h, w]`: the solver's pair of states.
    covariate_noise: exogenous noise of the covariates by name, `[B]` or `[B, K]`; None when nothing needed it.
    residual: what a lossy decoder loses of the input image, `[B, C, H, W]`; None where nothing is lost.
    """

    images: list[Image.Image] | Tensor
    covariates: dict[str, list[Any]]
    noise: Tensor
    covariate_noise: dict[str, Tensor] | None
    residual: Tensor | None


class CausalDiffusionPipeline(DiffusionPipeline):
    """A denoiser with one token per covariate, a structural causal model, and a reversible solver.

    Parameters:
        unet: predicts velocity; UNet2DConditionModel or SD3Transformer2DModel.
        covariate_encoder: covariates to tokens.
        scm: the causal model of the covariates.
        scheduler: noise levels and the reversible solver.
        vae: optional autoencoder; without one the network works on (folded) pixels.
        preset: the domain as JSON: variables, edges, plan defaults, views.
        resolution: height and width of images in pixels.
        space_to_depth: factor by which pixels are folded into channels.
        default_steps, default_guidance_scale: used where a call names none.
    """

    model_cpu_offload_seq = "covariate_encoder->unet->vae"
    _optional_components = ["vae"]  # noqa: RUF012 (diffusers reads a list here)

    def __init__(
        self,
        unet: Denoiser,
        covariate_encoder: CovariateEncoder,
        scm: StructuralCausalModel,
        scheduler: ReversibleFlowScheduler,
        vae: AutoencoderKL | None = None,
        preset: dict[str, Any] | None = None,
        resolution: int = 64,
        space_to_depth: int = 4,
        default_steps: int = 10,
        default_guidance_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, covariate_encoder=covariate_encoder, scm=scm, scheduler=scheduler, vae=vae)
        self.register_to_config(
            preset=preset,
            resolution=resolution,
            space_to_depth=space_to_depth,
            default_steps=default_steps,
            default_guidance_scale=default_guidance_scale,
        )
        self.preset = Preset.model_validate(preset)

    @classmethod
    def from_preset(
        cls,
        preset: Preset,
        scm: StructuralCausalModel,
        resolution: int,
        channels: tuple[int, ...] = (96, 128, 160),
        space_to_depth: int = 4,
        width: int = 128,
    ) -> "CausalDiffusionPipeline":
        """A pipeline with an untrained pixel-space UNet for one-channel images of this domain."""
        if resolution % (space_to_depth * 2 ** (len(channels) - 1)):
            factor = space_to_depth * 2 ** (len(channels) - 1)
            raise InputError(f"--resolution: {resolution} is not a multiple of {factor}, which this network needs.")
        variables = preset.covariates.model_dump(mode="json")["variables"]
        return cls(
            unet=build_unet(channels, space_to_depth**2, resolution // space_to_depth, width),
            covariate_encoder=CovariateEncoder(variables, width),
            scm=scm,
            scheduler=ReversibleFlowScheduler(),
            preset=preset.model_dump(mode="json"),
            resolution=resolution,
            space_to_depth=space_to_depth,
        )

    @classmethod
    def load(cls, path: str | Path, **keywords: Any) -> "CausalDiffusionPipeline":
        """`from_pretrained` of a local directory or Hub repository, safetensors only, with one sentence on failure."""
        directory = Path(path)
        if directory.exists():
            if not (directory / "model_index.json").is_file():
                raise InputError(
                    f"--pretrained_model_name_or_path: {path} is not a saved pipeline (no model_index.json); "
                    "give the --output_dir of a finished `synthfair train`."
                )
            pickles = [
                file.name for file in directory.rglob("*") if file.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")
            ]
            if pickles:
                raise InputError(
                    f"--pretrained_model_name_or_path: {path} holds pickle weights ({pickles[0]}), which can run code; "
                    "only safetensors are loaded."
                )
        try:
            return cls.from_pretrained(str(path), use_safetensors=True, **keywords)
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            reason = str(error).splitlines()[0]
            raise InputError(f"--pretrained_model_name_or_path: {path} can't be loaded ({reason}).") from error

    @classmethod
    def fetch(cls, repository: str) -> Path:
        """The local copy of a Hub repository's safetensors and configuration, downloaded where needed."""
        try:
            return Path(cls.download(repository, use_safetensors=True))
        except (OSError, ValueError) as error:
            raise InputError(
                f"--pretrained_model_name_or_path: {repository!r} is neither a directory nor a Hub repository that can "
                f"be read ({str(error).splitlines()[0]})."
            ) from error

    @property
    def covariates(self) -> Schema:
        """The covariates this generator knows."""
        return self.preset.covariates

    def latent_shape(self) -> tuple[int, int, int]:
        """`(c, h, w)` of the space the network works in."""
        size = self.unet.config.sample_size
        return self.unet.config.in_channels, size, size

    def sample_noise(self, generator: Generators, rows: int | None = None) -> Tensor:
        """Exogenous image noise `[B, 2, c, h, w]`: both states of the solver start equal. A list is one row each."""
        if rows is None:
            rows = len(generator) if isinstance(generator, list) else 1
        return draw("randn", (rows, *self.latent_shape()), generator)[:, None].repeat(1, 2, 1, 1, 1)

    def encode_covariates(self, covariates: Mapping[str, Sequence[Any]], argument: str = "covariates") -> Covariates:
        """Decoded columns to tensors `[B]`, checked against the schema."""
        encoded = self.covariates.encode(covariates, argument)
        return {name: torch.from_numpy(column) for name, column in encoded.items()}

    def encode_interventions(self, do: Mapping[str, Any], rows: int) -> Covariates:
        """`do` values, one for all rows or a sequence of one per row, to tensors `[B]`."""
        encoded = {}
        for name, value in do.items():
            if name not in self.covariates:
                raise unknown("do", name, self.covariates.names)
            column = list(value) if isinstance(value, list | tuple | np.ndarray | Tensor) else [value] * rows
            if len(column) != rows:
                raise InputError(f"do[{name!r}]: {len(column)} values for {rows} rows; give one value, or one per row.")
            if any(one is None for one in column):
                raise InputError(f"do[{name!r}]: None is not a value; leave {name} out of `do` to let it be.")
            encoded[name] = torch.from_numpy(self.covariates[name].encode(column, f"do[{name!r}]"))
        return encoded

    def check_inputs(
        self,
        image: Any,
        covariates: Mapping[str, Sequence[Any]] | None,
        do: Mapping[str, Any] | None,
        noise: Tensor | None,
        num_inference_steps: int,
        guidance_scale: float,
        output_type: str,
    ) -> None:
        """One condition, one sentence."""
        if covariates is None or not covariates:
            raise InputError(
                f"covariates: not given; needed: {', '.join(self.covariates.names)}, a list of values each."
            )
        for name, column in covariates.items():
            if isinstance(column, str) or not isinstance(column, Sequence | np.ndarray):
                raise InputError(
                    f"covariates[{name!r}]: {column!r} is not a list; give one value per row, as [{column!r}]."
                )
        if image is not None and do is None:
            raise InputError(
                "do: not given; with an image, say do={...} for a counterfactual or do={} for the image itself."
            )
        if image is not None and noise is not None:
            raise InputError("noise: given beside an image; give the image to abduct noise from, or the noise.")
        if num_inference_steps < 1:
            raise InputError(f"num_inference_steps: {num_inference_steps} is out of range; allowed: 1 or more.")
        if not np.isfinite(guidance_scale) or guidance_scale < 0:
            raise InputError(
                f"guidance_scale: {guidance_scale} is out of range; allowed: 0 or more (1 is no guidance)."
            )
        if output_type not in ("pil", "pt"):
            raise unknown("output_type", output_type, ("pil", "pt"))

    def prepare_image(self, image: Any, rows: int) -> Tensor:
        """A tensor `[B, C, H, W]` in [0, 1], or PIL images, as float32 of the pipeline's size."""
        if isinstance(image, Image.Image):
            image = [image]
        if isinstance(image, list):
            for one in image:
                if not isinstance(one, Image.Image) or one.mode != "L":
                    kind = f"mode {one.mode}" if isinstance(one, Image.Image) else type(one).__name__
                    raise InputError(
                        f"image: {kind} is not supported; give 8-bit grayscale PIL images (mode L) or a tensor."
                    )
            image = torch.stack([torch.from_numpy(np.asarray(one, dtype=np.float32) / 255)[None] for one in image])
        channels = (
            self.unet.config.in_channels // self.config.space_to_depth**2
            if self.vae is None
            else self.vae.config.in_channels
        )
        expected = (rows, channels, self.config.resolution, self.config.resolution)
        if not isinstance(image, Tensor) or tuple(image.shape) != expected:
            shape = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise InputError(
                f"image: unexpected shape {shape}; expected {expected}: one image per row of `covariates`."
            )
        if not torch.isfinite(image).all() or image.min() < 0 or image.max() > 1:
            raise InputError(f"image: values span {image.min():g} to {image.max():g}; expected [0, 1].")
        return image.float()

    @torch.no_grad()
    def __call__(
        self,
        image: Tensor | Image.Image | list[Image.Image] | None = None,
        covariates: Mapping[str, Sequence[Any]] | None = None,
        do: Mapping[str, Any] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: Generators = None,
        noise: Tensor | None = None,
        covariate_noise: Mapping[str, Tensor] | None = None,
        output_type: str = "pil",
    ) -> CausalPipelineOutput:
        """Sample, or answer a counterfactual.

        Parameters:
            image: observed images, PIL mode L or float `[B, C, H, W]` in [0, 1].
            covariates: observed values by name, one per row: level names, numbers in the variable's unit. None hides
                a covariate when sampling; counterfactuals need every one.
            do: interventions by name, one value or one per row. {} intervenes on nothing.
            num_inference_steps: solver steps, two network calls each; None = the checkpoint's default.
            guidance_scale: strength on the covariates that changed; 1 is none; None = the checkpoint's default.
            generator: one torch.Generator, or one per row, which makes row i independent of its batch.
            noise, covariate_noise: known exogenous noise, as an earlier output gives it, instead of abduction.
            output_type: "pil" or "pt".

        Raises InputError, before the network runs, for anything it can't answer.
        """
        # 0. Defaults saved with the checkpoint
        steps = self.config.default_steps if num_inference_steps is None else num_inference_steps
        scale = self.config.default_guidance_scale if guidance_scale is None else guidance_scale

        # 1. Check inputs
        self.check_inputs(image, covariates, do, noise, steps, scale, output_type)
        factual = self.encode_covariates(covariates)  # type: ignore[arg-type]
        rows = len(next(iter(factual.values())))
        interventions = self.encode_interventions(do or {}, rows)
        if isinstance(generator, list) and len(generator) != rows:
            raise InputError(f"generator: {len(generator)} generators for {rows} rows; give one, or one per row.")
        pixels = None if image is None else self.prepare_image(image, rows).to(self.device)

        # 2. Abduct covariates  3. Act
        target, known = factual, covariate_noise
        if do is not None:
            known = self.scm.abduct(factual, generator) if covariate_noise is None else covariate_noise
            target = self.scm.counterfactual(factual, interventions, known)

        # 4. Encode covariates  [B, V, D]
        tokens = self.covariate_encoder({name: value.to(self.device) for name, value in factual.items()})
        target_tokens = self.covariate_encoder({name: value.to(self.device) for name, value in target.items()})

        # 5. Abduct the image: integrate backward to noise, keep the decoder's residual  [B, 2, c, h, w]
        residual = None
        if pixels is not None:
            latents = to_latents(pixels, self.config.space_to_depth, self.vae)
            if self.vae is not None:
                residual = pixels - to_images(latents, self.config.space_to_depth, self.vae)
            pair = latents[:, None].repeat(1, 2, 1, 1, 1)
            pair = self.scheduler.abduct(conditional_velocity(self.unet, tokens), pair, steps)
        elif noise is not None:
            pair = noise.to(self.device)
        else:
            pair = self.sample_noise(generator, rows).to(self.device)

        # 6. Predict: integrate forward, guidance only on covariates that changed
        changed = torch.stack([_differs(target[name], factual[name]) for name in target]).any(dim=0)
        velocity = guided_velocity(self.unet, target_tokens, tokens, changed.to(self.device), scale)
        states = self.scheduler.predict(velocity, pair, steps)

        # 7. Decode  [B, C, H, W] in [0, 1]
        images = to_images(states.mean(dim=1), self.config.space_to_depth, self.vae)
        images = (images if residual is None else images + residual).clamp(0, 1).float().cpu()

        # 8. Return
        return CausalPipelineOutput(
            images=images if output_type == "pt" else _to_pil(images),
            covariates=self.covariates.decode({name: value.numpy() for name, value in target.items()}),
            noise=pair.cpu(),
            covariate_noise=None if known is None else dict(known),
            residual=residual,
        )


def _differs(one: Tensor, other: Tensor) -> Tensor:
    """Whether values differ `[B]`; a missing value equals itself."""
    return (one != other) & ~(one.isnan() & other.isnan()) if one.is_floating_point() else one != other


def _to_pil(images: Tensor) -> list[Image.Image]:
    arrays = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array) for array in arrays]
