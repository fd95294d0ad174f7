"""The causal diffusion pipeline; its arguments choose between samples and counterfactuals.

    pipe(covariates=c)                          a sample with these covariates
    pipe(image=x, covariates=c, do={...})       the counterfactual of an image under an intervention
    pipe(image=x, covariates=c, do={})          composition: abduction and prediction alone, which return x

Abduction: the exogenous noise of image and covariates.  Action: the intervened covariates are set, and their
descendants follow.  Prediction: the image of the same noise under the new covariates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ConfigMixin, DiffusionPipeline
from diffusers.utils import BaseOutput
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..access import restrict
from ..causal.mechanisms import Generators, draw
from ..causal.scm import StructuralCausalModel
from ..domains.preset import Network, Preset
from ..errors import InputError
from ..schema import Schema
from .adapters import AdapterLoader
from .conditioning import CovariateEncoder
from .denoiser import Denoiser, build_unet
from .guidance import classifier_free_velocity, conditional_velocity, guided_velocity
from .inputs import (
    check_sample_guidance,
    check_settings,
    encode_covariates,
    encode_interventions,
    may_be_unknown,
    prepare_image,
    strengths,
)
from .latents import to_images, to_latents, to_pil
from .release import push_pipeline
from .saved import component_files, download, read_index
from .solver import ReversibleFlowScheduler

__all__ = ["CausalDiffusionPipeline", "CausalPipelineOutput", "check_resolution"]


@dataclass
class CausalPipelineOutput(BaseOutput):
    """The pipeline's output.

    Args:
        images: PIL images, or float32 `[B, C, H, W]` in [0, 1] for output_type="pt".
        covariates: decoded values by name; those of the counterfactual where `do` was given.
        noise: exogenous noise of the image `[B, 2, c, h, w]`: the solver's pair of states.
        covariate_noise: exogenous noise of the covariates by name, `[B]` or `[B, K]`; None for samples.
        residual: difference of the input image and its reconstruction, `[B, C, H, W]`; None without an autoencoder.
    """

    images: list[Image.Image] | Tensor
    covariates: dict[str, list[Any]]
    noise: Tensor
    covariate_noise: dict[str, Tensor] | None
    residual: Tensor | None


class CausalDiffusionPipeline(AdapterLoader, DiffusionPipeline):
    """A denoiser with one token per covariate, a structural causal model, and a reversible solver.

    Args:
        unet: predicts velocity; UNet2DConditionModel or SD3Transformer2DModel.
        covariate_encoder: covariates to tokens.
        scm: the causal model of the covariates.
        scheduler: noise levels and the reversible solver.
        vae: optional autoencoder; without one the network works on pixels.
        preset: the domain as JSON: variables, edges, plan defaults, views.
        resolution: height and width of images in pixels.
        space_to_depth: factor by which pixels, or the autoencoder's latents, are folded into channels.
        default_steps: solver steps of calls that give none.
        default_guidance_scale: strength on changed covariates of calls that give none.
        default_intervention_level: noise level of changes of calls that give none.
        planted_scanner: whether the scanners of its training images were planted by `domains.chest_xray.scanners`.
        access: to its training images, where it is recorded; part of the generator's revision.
    """

    _optional_components = ["vae"]  # noqa: RUF012 (diffusers reads a list here)

    saved_in: Path | None = None
    """The directory that `load` read it from."""

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
        default_guidance_scale: float | dict[str, float] = 1.0,
        default_intervention_level: float | dict[str, float] = 1.0,
        planted_scanner: bool = True,
        access: str | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, covariate_encoder=covariate_encoder, scm=scm, scheduler=scheduler, vae=vae)
        self.register_to_config(
            preset=preset,
            resolution=resolution,
            space_to_depth=space_to_depth,
            default_steps=default_steps,
            default_guidance_scale=default_guidance_scale,
            default_intervention_level=default_intervention_level,
            planted_scanner=planted_scanner,
        )
        if access is not None:
            # generators that were saved without one keep their revision
            self.register_to_config(access=access)
        self.preset = Preset.model_validate(preset)

    def register_modules(self, **modules: Any) -> None:
        """As diffusers does; each module is published by itself only if the images behind it are open (`access`)."""
        super().register_modules(**modules)
        for module in modules.values():
            if module is not None:
                restrict(module)

    @classmethod
    def from_preset(
        cls,
        preset: Preset,
        scm: StructuralCausalModel,
        resolution: int,
        **network: Any,
    ) -> "CausalDiffusionPipeline":
        """A pipeline with an untrained pixel-space UNet for one-channel images of this domain.

        Args:
            preset: the domain.
            scm: the causal model of its covariates.
            resolution: height and width in pixels.
            **network: fields of the preset's network that are replaced.

        Raises:
            InputError: for a resolution that the network can't work at.
        """
        preset = preset.model_copy(update={"network": Network(**{**preset.network.model_dump(), **network})})
        check_resolution(resolution, preset.network)
        space_to_depth, width = preset.network.space_to_depth, preset.network.width
        variables = preset.covariates.model_dump(mode="json")["variables"]
        return cls(
            unet=build_unet(preset.network.channels, space_to_depth**2, resolution // space_to_depth, width),
            covariate_encoder=CovariateEncoder(variables, width),
            scm=scm,
            scheduler=ReversibleFlowScheduler(),
            preset=preset.model_dump(mode="json"),
            resolution=resolution,
            space_to_depth=space_to_depth,
        )

    @classmethod
    def from_pretrained(cls, path: str | Path, **keywords: Any) -> "CausalDiffusionPipeline":
        """As diffusers does, but safetensors only: pickle weights can run code.

        Args:
            path: a directory or the name of a Hub repository.
            **keywords: diffusers'.

        Raises:
            InputError: for use_safetensors other than True.
        """
        if keywords.setdefault("use_safetensors", True) is not True:
            raise InputError("use_safetensors: only True is allowed; pickle weights can run code.")
        if (index := Path(path) / "model_index.json").is_file():
            component_files(Path(path), read_index(index))
        return super().from_pretrained(path, **keywords)

    @classmethod
    def load(cls, directory: Path) -> "CausalDiffusionPipeline":
        """The pipeline saved in a local directory, checked to be whole, with one sentence on failure."""
        argument = "pretrained_model_name_or_path"
        if not (directory / "model_index.json").is_file():
            raise InputError(
                f"{argument}: {directory} is not a saved pipeline (no model_index.json); "
                "give the output directory of a finished `synthfair train`."
            )
        pickles = [
            path.name for path in directory.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")
        ]
        if pickles:
            raise InputError(
                f"{argument}: {directory} holds pickle weights ({pickles[0]}), which can run code; "
                "only safetensors are loaded."
            )
        try:
            pipeline = cls.from_pretrained(directory)
            for name, component in pipeline.components.items():
                stored = {key for file in (directory / name).glob("*.safetensors") for key in _keys(file)}
                if isinstance(component, torch.nn.Module) and stored != set(component.state_dict()):
                    odd = sorted(stored ^ set(component.state_dict()))[0]
                    raise InputError(f"{argument}: {directory}/{name} lacks or adds weights ({odd}); save it anew.")
            # The path it was loaded from is not part of a pipeline: copies are equal, and contain no local path.
            for part in (pipeline, *pipeline.components.values()):
                if isinstance(part, ConfigMixin):
                    part.register_to_config(_name_or_path="")
            pipeline.saved_in = directory
            for name, component in pipeline.components.items():
                if component is not None:
                    restrict(component, directory / name)
        except (OSError, ValueError, SafetensorError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{argument}: {directory} can't be loaded ({str(error).splitlines()[0]}).") from error
        return pipeline

    @classmethod
    def download(cls, repository: str, **settings: Any) -> str:
        """The local copy of a Hub repository's configuration, safetensors and records, downloaded where needed.

        diffusers' own raises for components of unknown libraries, and does not download the records.
        """
        return download(repository, **settings)

    def save_pretrained(
        self, save_directory: str | Path, push_to_hub: bool = False, repo_id: str | None = None, **settings: Any
    ) -> None:
        """As diffusers does, and on request `push_to_hub`.

        Args:
            save_directory: where the pipeline is saved.
            push_to_hub: whether it is published as well.
            repo_id: OWNER/NAME of the repository; the directory's name by default.
            **settings: diffusers', or with `push_to_hub` those of that method.
        """
        super().save_pretrained(save_directory, **({} if push_to_hub else settings))
        if push_to_hub:
            self.push_to_hub(repo_id or Path(save_directory).name, **settings)

    def save_config(self, save_directory: str | Path, push_to_hub: bool = False, **settings: Any) -> None:
        """As diffusers does, but a configuration without its generator is not published.

        Args:
            save_directory: where it is saved.
            push_to_hub: must be False.
            **settings: diffusers'.

        Raises:
            InputError: for push_to_hub.
        """
        if push_to_hub:
            raise InputError("push_to_hub: a configuration alone is not published; call the pipeline's push_to_hub.")
        super().save_config(save_directory, **settings)

    def push_to_hub(self, repo_id: str, **settings: Any) -> str:
        """Save the pipeline and publish it with its card, by the rules of `synthfair push`.

        Args:
            repo_id: OWNER/NAME of the repository.
            **settings: those of `release.push_directory`.

        Returns:
            The repository's address.

        Raises:
            InputError: for a pipeline that may not be published so.
        """
        return push_pipeline(self, repo_id, **settings)

    @property
    def covariates(self) -> Schema:
        """The generator's covariates."""
        return self.preset.covariates

    def latent_shape(self) -> tuple[int, int, int]:
        """`(c, h, w)` of the space the network works in."""
        size = self.unet.config.sample_size
        return self.unet.config.in_channels, size, size

    def sample_noise(self, generator: Generators, rows: int | None = None) -> Tensor:
        """Sample exogenous image noise; both states of the solver start equal.

        Args:
            generator: one for all rows, or a list of one per row.
            rows: number of rows; by default that of the list, or 1.

        Returns:
            Noise `[B, 2, c, h, w]`.
        """
        if rows is None:
            rows = len(generator) if isinstance(generator, list) else 1
        return draw("randn", (rows, *self.latent_shape()), generator)[:, None].repeat(1, 2, 1, 1, 1)

    def image_shape(self, rows: int) -> tuple[int, int, int, int]:
        """`(rows, C, H, W)` of the images this pipeline takes and gives."""
        folded = self.unet.config.in_channels // self.config.space_to_depth**2
        channels = folded if self.vae is None else self.vae.config.in_channels
        return rows, channels, self.config.resolution, self.config.resolution

    def check_noise(self, noise: Tensor | None, covariate_noise: Mapping[str, Tensor] | None, rows: int) -> None:
        """Raise InputError unless given noise has the shape of this pipeline's.

        Args:
            noise: of the image, `[rows, 2, c, h, w]`, or None.
            covariate_noise: by covariate, one value per row, or None.
            rows: number of rows.
        """
        expected = (rows, 2, *self.latent_shape())
        if noise is not None and (not isinstance(noise, Tensor) or tuple(noise.shape) != expected):
            shape = tuple(noise.shape) if isinstance(noise, Tensor) else type(noise).__name__
            raise InputError(f"noise: unexpected shape {shape}; expected {expected}, that of an output's `.noise`.")
        if noise is not None and not torch.isfinite(noise).all():
            raise InputError("noise: some values are not finite; give an earlier output's `.noise`.")
        if covariate_noise is not None and set(covariate_noise) != set(self.covariates.names):
            given = ", ".join(covariate_noise) or "(none)"
            raise InputError(f"covariate_noise: names {given}; expected {', '.join(self.covariates.names)}.")
        for name, values in (covariate_noise or {}).items():
            if len(values) != rows:
                raise InputError(f"covariate_noise[{name!r}]: {len(values)} values for {rows} rows; give one per row.")

    @torch.no_grad()
    def __call__(
        self,
        image: Tensor | Image.Image | list[Image.Image] | None = None,
        covariates: Mapping[str, Sequence[Any]] | None = None,
        do: Mapping[str, Any] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | Mapping[str, float] | None = None,
        intervention_level: float | Mapping[str, float] | None = None,
        sample_guidance_scale: float = 1.0,
        generator: Generators = None,
        noise: Tensor | None = None,
        covariate_noise: Mapping[str, Tensor] | None = None,
        residual: Tensor | None = None,
        output_type: str = "pil",
    ) -> CausalPipelineOutput:
        """Generate samples or counterfactuals.

        Args:
            image: observed images, PIL mode L or float `[B, C, H, W]` in [0, 1].
            covariates: observed values by name, one per row: level names, numbers in the variable's unit. None hides
                a covariate when sampling; counterfactuals need every one but the scanner, whose None is unknown: it is
                hidden from the network, and stays unknown unless it is intervened on.
            do: interventions by name, one value or one per row. {} intervenes on nothing.
            num_inference_steps: solver steps, two calls of the network each, four with midpoint; None = the
                checkpoint's default.
            guidance_scale: strength on the covariates that changed, one number or by name; 1 is none, and holds for
                names left out; None = the checkpoint's default.
            intervention_level: noise level in (0, 1] at and below which a changed covariate acts, one number or by
                name; 1 is everywhere, and holds for names left out; None = the checkpoint's default.
            sample_guidance_scale: strength on all covariates of samples, classifier-free; 1 is none, any other doubles
                the network's calls. Counterfactuals take guidance_scale.
            generator: one torch.Generator, or one per row, which makes row i independent of its batch.
            noise: of an earlier output, instead of an image from which it is abducted.
            covariate_noise: of an earlier output, likewise.
            residual: of an earlier output, likewise.
            output_type: "pil" or "pt".

        Raises:
            InputError: for arguments that are not allowed or do not fit together, before the network runs.
        """
        # 0. Defaults saved with the checkpoint
        steps = self.config.default_steps if num_inference_steps is None else num_inference_steps
        scale = self.config.default_guidance_scale if guidance_scale is None else guidance_scale
        level = self.config.default_intervention_level if intervention_level is None else intervention_level

        # 1. Check inputs
        check_settings(steps, output_type)
        strength = strengths(scale, level, self.covariates)
        check_sample_guidance(sample_guidance_scale, do)
        factual = encode_covariates(covariates, self.covariates)
        rows = len(next(iter(factual.values())))
        interventions = encode_interventions(do, self.covariates, rows)
        if image is not None and do is None:
            raise InputError("do: not given; with an image, give do={...}, or do={} for the image itself.")
        unknown = {name: factual[name] < 0 for name in may_be_unknown(self.preset) if (factual[name] < 0).any()}
        if do is not None:
            for name, values in factual.items():
                missing = bool((values.isnan() if values.is_floating_point() else values < 0).any())
                if missing and name not in unknown:
                    raise InputError(f"covariates[{name!r}]: some values are missing; counterfactuals need every one.")
        if image is not None and residual is not None:
            raise InputError("residual: given beside an image, whose own is computed; give it with `noise` only.")
        if residual is not None and tuple(residual.shape) != self.image_shape(rows):
            raise InputError(f"residual: unexpected shape {tuple(residual.shape)}; expected {self.image_shape(rows)}.")
        if image is not None and noise is not None:
            raise InputError("noise: given beside an image; give the image to abduct noise from, or the noise.")
        if isinstance(generator, list) and len(generator) != rows:
            raise InputError(f"generator: {len(generator)} generators for {rows} rows; give one, or one per row.")
        self.check_noise(noise, covariate_noise, rows)
        pixels = None if image is None else prepare_image(image, self.image_shape(rows)).to(self.device)
        if image is None and noise is None:
            # Before the covariates' noise: a seed gives the same image whatever the intervention.
            noise = self.sample_noise(generator, rows)

        # 2. Abduct covariates  3. Act
        target, known = factual, covariate_noise
        if do is not None:
            # the noise of an unknown one is that of its first level: it causes nothing, and is not asked
            filled = {name: values.clamp(min=0) if name in unknown else values for name, values in factual.items()}
            known = self.scm.abduct(filled, generator) if covariate_noise is None else covariate_noise
            target = self.scm.counterfactual(filled, interventions, known)
            for name in unknown.keys() - interventions.keys():
                target[name] = torch.where(unknown[name], factual[name], target[name])

        # 4. Encode covariates  [B, V, D]
        tokens = self.covariate_encoder({name: value.to(self.device) for name, value in factual.items()})
        target_tokens = self.covariate_encoder({name: value.to(self.device) for name, value in target.items()})

        # 5. Abduct the image: integrate backward to noise, keep the decoder's residual  [B, 2, c, h, w]
        if pixels is not None:
            latents = to_latents(pixels, self.config.space_to_depth, self.vae)
            if self.vae is not None:
                residual = pixels - to_images(latents, self.config.space_to_depth, self.vae)
            pair = latents[:, None].repeat(1, 2, 1, 1, 1)
            pair = self.scheduler.abduct(conditional_velocity(self.unet, tokens), pair, steps)
        else:
            pair = noise.to(self.device)  # type: ignore[union-attr]

        # 6. Predict: integrate forward, guidance only on covariates that changed; of a sample, on all
        if do is None:
            hidden = self.covariate_encoder.null.expand_as(tokens)
            velocity = classifier_free_velocity(self.unet, tokens, hidden, sample_guidance_scale)
        else:
            changed = torch.stack([_differs(target[name], factual[name]) for name in self.covariates.names], dim=1)
            velocity = guided_velocity(self.unet, target_tokens, tokens, changed.to(self.device), strength)
        states = self.scheduler.predict(velocity, pair, steps)

        # 7. Decode  [B, C, H, W] in [0, 1]
        images = to_images(states.mean(dim=1), self.config.space_to_depth, self.vae)
        images = (images if residual is None else images + residual.to(images)).clamp(0, 1).float().cpu()

        # 8. Return
        return CausalPipelineOutput(
            images=images if output_type == "pt" else to_pil(images),
            covariates=self.covariates.decode({name: value.numpy() for name, value in target.items()}),
            noise=pair.cpu(),
            covariate_noise=None if known is None else dict(known),
            residual=None if residual is None else residual.cpu(),
        )


def check_resolution(resolution: int, network: Network) -> None:
    """Every level of the network halves its folded input, so the resolution must divide."""
    factor = network.space_to_depth * 2 ** (len(network.channels) - 1)
    if resolution < factor or resolution % factor:
        raise InputError(f"resolution: {resolution} is not a positive multiple of {factor}, as this network needs.")


def _differs(one: Tensor, other: Tensor) -> Tensor:
    """Whether values differ `[B]`; a missing value equals itself."""
    return (one != other) & ~(one.isnan() & other.isnan()) if one.is_floating_point() else one != other


def _keys(file: Path) -> list[str]:
    with safe_open(file, framework="pt") as weights:
        return list(weights.keys())
