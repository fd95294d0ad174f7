"""The causal diffusion pipeline; its arguments choose between samples and counterfactuals.

    pipe(covariates=c)                          a sample with these covariates
    pipe(image=x, covariates=c, do={...})       the counterfactual of an image under an intervention
    pipe(image=x, covariates=c, do={})          composition: abduction and prediction alone, which return x

Abduction: the exogenous noise of image and covariates.  Action: the intervened covariates are set, and their
descendants follow.  Prediction: the image of the same noise under the new covariates.

Exact, by algebra and with any weights: composition, do={} returns x up to rounding. Not exact: reversibility, do(a)
after do(a') returns x only as far as the solver's two states agree, and less under guidance; and the truth of a
counterfactual, which is learned, and measured by `synthfair measure soundness`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from diffusers import ConfigMixin
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.utils import BaseOutput
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..access import held_access, restrict
from ..causal.mechanisms import Generators, draw
from ..causal.scm import StructuralCausalModel
from ..domains.preset import Network, Preset
from ..errors import InputError, unknown, with_article
from ..progress import without_bars
from ..schema import Schema
from .adapters import AdapterLoader
from .autoencoders import Autoencoder, compression
from .conditioning import CovariateEncoder
from .configuration import DEFAULTS, check_configuration, check_fit, check_sizes
from .denoiser import TIME_SCALE, Denoiser, build_denoiser
from .guidance import classifier_free_velocity, conditional_velocity, guided_velocity
from .images import (
    NonFiniteOutput,
    finite_rows,
    prepare_images,
    separate_images,
    sound_rows,
    to_output,
    warn_of_clipping,
)
from .inputs import (
    Request,
    check_callback,
    check_covariate_noise,
    check_generator,
    check_sample_guidance,
    check_settings,
    check_tensor,
    encode_covariates,
    encode_interventions,
    may_be_unknown,
    row_count,
    strengths,
    with_unknown,
)
from .latents import to_images, to_latents
from .placement import PlacedPipeline, check_precision
from .release import push_pipeline
from .saved import component_files, download, read_index
from .solver import ReversibleFlowScheduler

__all__ = ["CausalDiffusionPipeline", "CausalPipelineOutput", "check_resolution"]

COMPONENTS: dict[str, tuple[type, ...]] = {
    "unet": get_args(Denoiser),
    "covariate_encoder": (CovariateEncoder,),
    "scm": (StructuralCausalModel,),
    "scheduler": (ReversibleFlowScheduler,),
    "vae": (*get_args(Autoencoder), type(None)),
}
"""What each component may be: another solver's steps, for one, could not be undone."""

Callback = Callable[[Any, int, float, dict[str, Tensor]], dict[str, Tensor] | None]


@dataclass
class CausalPipelineOutput(BaseOutput):
    """The pipeline's output.

    Args:
        images: PIL images; float32 in [0, 1], `[B, C, H, W]` for output_type="pt" and `[B, H, W, C]` of numpy for "np";
            or latents `[B, c, h, w]` for "latent".
        covariates: decoded values by name; those of the counterfactual where `do` was given.
        noise: exogenous noise of the image `[B, 2, c, h, w]`: the solver's pair of states.
        covariate_noise: exogenous noise of the covariates by name, `[B]` or `[B, K]`; None for samples.
        residual: difference of the input image and its reconstruction, `[B, C, H, W]`; None without an autoencoder.
    """

    images: list[Image.Image] | np.ndarray | Tensor
    covariates: dict[str, list[Any]]
    noise: Tensor
    covariate_noise: dict[str, Tensor] | None
    residual: Tensor | None


class CausalDiffusionPipeline(AdapterLoader, PlacedPipeline):
    """A denoiser with one token per covariate, a structural causal model, and a reversible solver.

    Args:
        unet: predicts velocity, or the image (`denoiser.SampleUNet`); UNet2DConditionModel or SD3Transformer2DModel.
        covariate_encoder: covariates to tokens.
        scm: the causal model of the covariates.
        scheduler: noise levels and the reversible solver.
        vae: optional autoencoder, AutoencoderKL or AutoencoderTiny; without one the network works on pixels.
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
    _callback_tensor_inputs: ClassVar = ["latents"]

    saved_in: Path | None = None
    """The directory that `load` read it from."""

    def __init__(
        self,
        unet: Denoiser,
        covariate_encoder: CovariateEncoder,
        scm: StructuralCausalModel,
        scheduler: ReversibleFlowScheduler,
        vae: Autoencoder | None = None,
        preset: dict[str, Any] | None = None,
        resolution: int | None = None,
        space_to_depth: int | None = None,
        default_steps: int | None = None,
        default_guidance_scale: float | dict[str, float] | None = None,
        default_intervention_level: float | dict[str, float] | None = None,
        planted_scanner: bool | None = None,
        access: str | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, covariate_encoder=covariate_encoder, scm=scm, scheduler=scheduler, vae=vae)
        given = {
            "preset": preset,
            "resolution": resolution,
            "space_to_depth": space_to_depth,
            "default_steps": default_steps,
            "default_guidance_scale": default_guidance_scale,
            "default_intervention_level": default_intervention_level,
            "planted_scanner": planted_scanner,
        }
        remembered = (covariate_encoder.pipeline_settings or {}) if preset is None else {}
        # a component keeps the access to what it was made from, whatever pipeline it comes to
        access = held_access(
            access, *(one for one in (unet, covariate_encoder, scm, scheduler, vae) if one is not None)
        )
        settings = {**DEFAULTS, **remembered, **{name: one for name, one in given.items() if one is not None}}
        self.preset = check_configuration(settings, unet, covariate_encoder, scm, vae)
        self.register_to_config(**settings)
        if access is not None:
            # generators that were saved without one keep their revision
            self.register_to_config(access=access)
            self._restrict()

    def __setattr__(self, name: str, value: Any) -> None:
        # torch.compile wraps a module
        if name in COMPONENTS and not isinstance(getattr(value, "_orig_mod", value), COMPONENTS[name]):
            allowed = " or ".join(with_article(one.__name__) for one in COMPONENTS[name] if one is not type(None))
            reason = ", whose steps can be undone, which abduction needs" if name == "scheduler" else ""
            raise InputError(f"{name}: {with_article(type(value).__name__)} is not allowed; give {allowed}{reason}.")
        super().__setattr__(name, value)
        if name in COMPONENTS and value is not None:
            restrict(value)
            own = self.config.get("access")
            if "preset" in self.config and (access := held_access(own, value)) != own:
                self.register_to_config(access=access)
                self._restrict()

    def _restrict(self) -> None:
        """Let the components tell the access that the pipeline's configuration names."""
        for name in COMPONENTS:
            if (part := getattr(self, name)) is not None:
                restrict(part, access=self.config.access)

    @property
    def components(self) -> dict[str, Any]:
        """The components by name; `CausalDiffusionPipeline(**pipe.components)` is a pipeline of the same settings."""
        parts: dict[str, Any] = super().components
        parts["covariate_encoder"].pipeline_settings = {name: self.config[name] for name in ("preset", *DEFAULTS)}
        return parts

    def register_modules(self, **modules: Any) -> None:
        """As diffusers does; each module is published by itself only if the images behind it are open (`access`).

        Raises:
            InputError: for a module that is not allowed in its place.
        """
        for name, module in modules.items():
            # diffusers asks a module for its library before it places it
            if name in COMPONENTS and not isinstance(getattr(module, "_orig_mod", module), COMPONENTS[name]):
                setattr(self, name, module)
        super().register_modules(**modules)

    @classmethod
    def from_preset(
        cls,
        preset: Preset,
        scm: StructuralCausalModel,
        resolution: int,
        vae: Autoencoder | None = None,
        **network: Any,
    ) -> "CausalDiffusionPipeline":
        """A pipeline with an untrained network for images of this domain, of its channels, or for their latents.

        Args:
            preset: the domain.
            scm: the causal model of its covariates.
            resolution: height and width in pixels.
            vae: autoencoder in whose latents the network works; without one it works on pixels.
            **network: fields of the preset's network that are replaced.

        Raises:
            InputError: for a resolution that the network can't work at.
        """
        preset = preset.model_copy(update={"network": Network(**{**preset.network.model_dump(), **network})})
        shrunk = 1 if vae is None else compression(vae)
        check_resolution(resolution, preset.network, shrunk)
        space_to_depth, width = preset.network.space_to_depth, preset.network.width
        variables = preset.covariates.model_dump(mode="json")["variables"]
        return cls(
            unet=build_denoiser(
                preset.network,
                (preset.channels if vae is None else vae.config.latent_channels) * space_to_depth**2,
                resolution // (space_to_depth * shrunk),
            ),
            covariate_encoder=CovariateEncoder(variables, width),
            scm=scm,
            scheduler=ReversibleFlowScheduler(),
            vae=vae,
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
            InputError: for use_safetensors other than True, a precision that is none, and settings that are not
                allowed or do not fit the components.
        """
        for name in ("dtype", "torch_dtype"):
            check_precision(keywords.get(name), name)
        if keywords.setdefault("use_safetensors", True) is not True:
            raise InputError("use_safetensors: only True is allowed; pickle weights can run code.")
        if (index := Path(path) / "model_index.json").is_file():
            component_files(Path(path), read_index(index))
        if Path(path).is_dir():
            check_sizes(Path(path))
        return super().from_pretrained(path, **keywords)

    @classmethod
    def load(cls, directory: str | Path) -> "CausalDiffusionPipeline":
        """The pipeline saved in a local directory, checked to be whole, with one sentence on failure."""
        argument, directory = "pretrained_model_name_or_path", Path(directory)
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
            with without_bars(diffusers_logging):
                pipeline = cls.from_pretrained(directory)
            for name, component in pipeline.components.items():
                stored = {key for file in (directory / name).glob("*.safetensors") for key in _keys(file)}
                if isinstance(component, torch.nn.Module) and stored != set(component.state_dict()):
                    odd = sorted(stored ^ set(component.state_dict()))[0]
                    raise InputError(f"{argument}: {directory}/{name} lacks or adds weights ({odd}); save it anew.")
                if weight := _not_finite(component):
                    raise InputError(
                        f"{argument}: {directory}/{name} holds weights that are not finite ({weight}); train it anew, "
                        "or use another checkpoint."
                    )
            # The path it was loaded from is not part of a pipeline: copies are equal, and contain no local path.
            for part in (pipeline, *pipeline.components.values()):
                if isinstance(part, ConfigMixin):
                    part.register_to_config(_name_or_path="")
            pipeline.saved_in = directory
            for name, component in pipeline.components.items():
                if component is not None:
                    restrict(component, directory / name)
        # configurations of any kind end in errors of any kind
        except (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, SafetensorError,
                TypeError, ValueError) as error:  # fmt: skip
            if isinstance(error, InputError) and str(error).startswith(argument):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise InputError(f"{argument}: {directory} can't be loaded ({reason}).") from error
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

        Raises:
            InputError: with adapters in the network, which could not be loaded from there.
        """
        self.check_without_adapters("save_pretrained")
        self._check_parts()
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

    def to_json_string(self) -> str:
        """The configuration as diffusers saves it, of the class that `discovery` explains."""
        config = json.loads(super().to_json_string())
        return (
            json.dumps({**config, "_class_name": f"synthfair_hf.{type(self).__name__}"}, indent=2, sort_keys=True)
            + "\n"
        )

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

    def _check_parts(self) -> None:
        """Raise InputError where a component that was given since does not fit the others."""
        check_fit(self.config, self.preset, self.unet, self.covariate_encoder, self.scm, self.vae)

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
        return rows, self.preset.channels, self.config.resolution, self.config.resolution

    def check_inputs(
        self,
        image: Any,
        covariates: Any,
        do: Any,
        num_inference_steps: Any,
        guidance_scale: Any,
        intervention_level: Any,
        sample_guidance_scale: Any,
        generator: Any,
        noise: Any,
        covariate_noise: Any,
        residual: Any,
        output_type: Any,
        strict: bool = False,
        callback: Any = None,
        callback_inputs: Any = ("latents",),
    ) -> Request:
        """The arguments of a call, checked and encoded; the network does not run.

        Args:
            image: as of a call, and so for all others.
            covariates: as of a call.
            do: as of a call.
            num_inference_steps: as of a call.
            guidance_scale: as of a call.
            intervention_level: as of a call.
            sample_guidance_scale: as of a call.
            generator: as of a call.
            noise: as of a call.
            covariate_noise: as of a call.
            residual: as of a call.
            output_type: as of a call.
            strict: as of a call.
            callback: `callback_on_step_end` of a call.
            callback_inputs: `callback_on_step_end_tensor_inputs` of a call.

        Raises:
            InputError: for arguments that are not allowed or do not fit together.
        """
        self._check_parts()
        self.check_placement()
        # defaults saved with the checkpoint
        settings = self.config
        steps = check_settings(
            settings.default_steps if num_inference_steps is None else num_inference_steps, output_type
        )
        self.scheduler.mixing_of(steps)
        strength = strengths(
            settings.default_guidance_scale if guidance_scale is None else guidance_scale,
            settings.default_intervention_level if intervention_level is None else intervention_level,
            self.covariates,
        )
        sample_scale = check_sample_guidance(sample_guidance_scale, do)
        if isinstance(callback, PipelineCallback | MultiPipelineCallbacks):
            callback_inputs = callback.tensor_inputs
        check_callback(callback, callback_inputs, self._callback_tensor_inputs)
        images = None if image is None else separate_images(image, row_count(covariates))
        may_lack = may_be_unknown(self.preset)
        covariates = with_unknown(covariates, self.preset)
        factual = encode_covariates(covariates, self.covariates, None if images is None else len(images), may_lack)
        rows = len(next(iter(factual.values())))
        interventions = None if do is None else encode_interventions(do, self.covariates, rows)
        if image is not None and do is None:
            raise InputError("do: not given; with an image, give do={...}, or do={} for the image itself.")
        if do is not None:
            for name, values in factual.items():
                missing = values.isnan() if values.is_floating_point() else values < 0
                if name not in may_lack and bool((missing & ~self.scm.is_unobserved(name, factual)).any()):
                    raise InputError(
                        f"covariates[{name!r}]: is missing in some rows; give every one for a counterfactual."
                        if len(values) > 1
                        else f"covariates[{name!r}]: is missing; give it for a counterfactual."
                    )
        if image is not None and residual is not None:
            raise InputError("residual: given beside an image, whose own is computed; give it with `noise` only.")
        if image is not None and noise is not None:
            raise InputError("noise: given beside an image; give the image to abduct noise from, or the noise.")
        check_tensor("noise", noise, (rows, 2, *self.latent_shape()))
        check_tensor("residual", residual, self.image_shape(rows))
        check_covariate_noise(covariate_noise, self.covariates, rows)
        return Request(
            factual=factual,
            may_lack=may_lack,
            interventions=interventions,
            pixels=None if images is None else prepare_images(images, self.image_shape(rows), strict),
            noise=noise,
            covariate_noise=covariate_noise,
            residual=residual,
            generator=check_generator(generator, rows),
            steps=steps,
            strengths=strength,
            sample_scale=sample_scale,
            callback_inputs=callback_inputs,
        )

    @torch.no_grad()
    def __call__(
        self,
        image: Any = None,
        covariates: Mapping[str, Any] | None = None,
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
        return_dict: bool = True,
        strict: bool = False,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> CausalPipelineOutput:
        """Generate samples or counterfactuals.

        Args:
            image: observed images: one or a list of PIL images, arrays or tensors, of any mode and size. Those of the
                generator's size are taken as they are; others are cropped about their centre to a square and resized
                (`diffusion.images`).
            covariates: observed values by name, one per row, or one for all rows: level names, numbers in the
                variable's unit. None hides a covariate when sampling; counterfactuals need every one but the
                scanner, findings where the domain has several, and what is unobserved at the site. Their None is
                unknown: it is hidden from the network, and stays so unless it is intervened on, while the causal model
                draws such a finding from its posterior given what is known, for what follows from it. What may be
                None of all rows may be left out.
            do: interventions by name, one value or one per row. {} intervenes on nothing.
            num_inference_steps: solver steps, two calls of the network each, four with midpoint; None = the
                checkpoint's default.
            guidance_scale: strength on the covariates that changed, one number or by name; 1 is none, and holds for
                names left out; None = the checkpoint's default. Any other breaks reversibility: do() back is guided by
                another difference, and does not return the image, while do={} still does.
            intervention_level: noise level in (0, 1] at and below which a changed covariate acts, one number or by
                name; 1 is everywhere, and holds for names left out; None = the checkpoint's default. Below 1 breaks
                reversibility as well.
            sample_guidance_scale: strength on all covariates of samples, classifier-free; 1 is none, any other doubles
                the network's calls. Counterfactuals take guidance_scale.
            generator: one torch.Generator, or one per row, which makes row i independent of its batch.
            noise: of an earlier output, instead of an image from which it is abducted.
            covariate_noise: of an earlier output, likewise.
            residual: of an earlier output, likewise.
            output_type: "pil", "np", "pt" or "latent".
            return_dict: False gives a tuple of the output's fields, in their order.
            strict: refuse images of another mode or size instead of converting them.
            callback_on_step_end: called after each step of prediction, not of abduction, as diffusers does: with the
                pipeline, the step's number, its noise level times 1000 and a dict of tensors. A dict that it returns
                replaces them.
            callback_on_step_end_tensor_inputs: names of those tensors: "latents", the solver's pair of states
                `[B, 2, c, h, w]`.

        Raises:
            InputError: for arguments that are not allowed or do not fit together, before the network runs.
            NonFiniteOutput: for images that come out NaN, infinite, or outside of -3 to 4, where black is 0 and white
                1: farther than noise of seven standard deviations.
        """
        # 1. Check inputs
        request = self.check_inputs(
            image,
            covariates,
            do,
            num_inference_steps,
            guidance_scale,
            intervention_level,
            sample_guidance_scale,
            generator,
            noise,
            covariate_noise,
            residual,
            output_type,
            strict,
            callback_on_step_end,
            callback_on_step_end_tensor_inputs,
        )
        device, factual, residual = self._execution_device, request.factual, request.residual
        if request.pixels is None and noise is None:
            # Before the covariates' noise: a seed gives the same image whatever the intervention.
            noise = self.sample_noise(request.generator, request.rows)

        # 2. Abduct covariates  3. Act
        target, known = factual, request.covariate_noise
        if request.interventions is not None:
            known = self.scm.abduct(factual, request.generator, request.may_lack) if known is None else known
            target = self.scm.counterfactual(factual, request.interventions, known)

        # 4. Encode covariates  [B, V, D]
        tokens, target_tokens = self._tokens(factual, device), self._tokens(target, device)

        # 5. Abduct the image: integrate backward to noise, keep the decoder's residual  [B, 2, c, h, w]
        if request.pixels is not None:
            pixels = request.pixels.to(device)
            latents = to_latents(pixels, self.config.space_to_depth, self.vae)
            if self.vae is not None:
                residual = pixels - self._decoded(latents)
            pair = latents[:, None].repeat(1, 2, 1, 1, 1)
            pair = self.scheduler.abduct(conditional_velocity(self.unet, tokens), pair, request.steps)
        else:
            pair = noise.to(device, torch.float32)  # type: ignore[union-attr]

        # 6. Predict: integrate forward, guidance only on covariates that changed; of a sample, on all
        if request.interventions is None:
            hidden = self._tokens(factual, device, hidden=True)
            velocity = classifier_free_velocity(self.unet, tokens, hidden, request.sample_scale)
        else:
            changed = torch.stack([_differs(target[name], factual[name]) for name in self.covariates.names], dim=1)
            velocity = guided_velocity(self.unet, target_tokens, tokens, changed.to(device), request.strengths)
        watched = self._watched(callback_on_step_end, request.callback_inputs)
        states = self.scheduler.predict(velocity, pair, request.steps, **watched)

        # 7. Decode  [B, C, H, W] in [0, 1]
        latents = states.mean(dim=1)
        images = self._decoded(latents)
        images = (images if residual is None else images + residual.to(images)).float().cpu()
        pair = pair.cpu()
        self.maybe_free_model_hooks()
        finite = sound_rows(images) & finite_rows(pair)
        raw = images
        images = raw.clamp(0, 1).where(finite[:, None, None, None], torch.nan)

        # 8. Return
        output = CausalPipelineOutput(
            images=images,
            covariates=self.covariates.decode({name: value.numpy() for name, value in target.items()}),
            noise=pair,
            covariate_noise=None if known is None else dict(known),
            residual=None if residual is None else residual.cpu(),
        )
        if not finite.all():
            raise NonFiniteOutput(output, (~finite).nonzero()[:, 0].tolist())
        if request.guided:
            warn_of_clipping(raw, "sample_guidance_scale" if do is None else "guidance_scale")
        output.images = latents.float().cpu() if output_type == "latent" else to_output(images, output_type)
        if return_dict:
            return output
        return tuple(getattr(output, field.name) for field in fields(output))  # type: ignore[return-value]

    def _decoded(self, latents: Tensor) -> Tensor:
        """Images `[B, C, H, W]` of latents, not clipped."""
        return to_images(latents, self.config.space_to_depth, self.vae, self.preset.channels)

    def _tokens(self, covariates: Mapping[str, Tensor], device: torch.device, hidden: bool = False) -> Tensor:
        """Tokens of covariates `[B, V, D]`, or where `hidden` the null tokens of as many rows."""
        placed = {name: value.to(device) for name, value in covariates.items()}
        rows = len(next(iter(placed.values())))
        keep = torch.zeros(rows, len(placed), dtype=torch.bool, device=device) if hidden else None
        tokens: Tensor = self.covariate_encoder(placed, keep)
        return tokens

    def _watched(self, callback: Callback | None, names: Sequence[str]) -> dict[str, Any]:
        """The user's callback as the solver's argument, where there is one."""
        if callback is None:
            return {}

        def on_step(step: int, level: float, pair: Tensor) -> Tensor:
            returned = callback(self, step, level * TIME_SCALE, {name: pair for name in names})
            if returned is None:
                return pair
            if not isinstance(returned, Mapping):
                found = with_article(type(returned).__name__)
                raise InputError(f"callback_on_step_end: returned {found}; return a dict of tensors, or None.")
            for name in returned:
                if name not in self._callback_tensor_inputs:
                    raise unknown("callback_on_step_end: returned", name, self._callback_tensor_inputs)
            given = returned.get("latents", pair)
            check_tensor("callback_on_step_end: latents", given, tuple(pair.shape), finite=False, needed=True)
            return given.to(pair)

        return {"on_step": on_step}


def _not_finite(component: Any) -> str | None:
    """The name of the first of a network's weights that holds NaN or infinity."""
    weights = component.state_dict() if isinstance(component, torch.nn.Module) else {}
    return next((name for name, one in weights.items() if one.is_floating_point() and not one.isfinite().all()), None)


def check_resolution(resolution: int, network: Network, compression: int = 1) -> None:
    """Every level of the network halves its folded input, so the resolution must divide.

    Args:
        resolution: of images, in pixels.
        network: that works on them, or on latents.
        compression: pixels of a side for each latent.

    Raises:
        InputError: for a resolution that does not divide.
    """
    factor = network.factor * compression
    if resolution < factor or resolution % factor:
        with_vae = "" if compression == 1 else " and autoencoder"
        needs = "needs" if compression == 1 else "need"
        raise InputError(
            f"resolution: {resolution} is not a positive multiple of {factor}, as this network{with_vae} {needs}."
        )


def _differs(one: Tensor, other: Tensor) -> Tensor:
    """Whether values differ `[B]`; a missing value equals itself."""
    return (one != other) & ~(one.isnan() & other.isnan()) if one.is_floating_point() else one != other


def _keys(file: Path) -> list[str]:
    with safe_open(file, framework="pt") as weights:
        return list(weights.keys())
