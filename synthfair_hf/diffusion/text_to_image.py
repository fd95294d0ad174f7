"""Somebody else's generator: any text-to-image pipeline of diffusers as a sampler of images under covariates.

    image(covariates, key) = gray(resize(pipeline(render_prompt(covariates), seed = key)))

A prompt is all that such a generator is told, and nothing of an image is abducted: images of one key are same-noise
samples, not counterfactuals. Loaded are configurations, tokenizers and safetensors; no pickle and no code beside them.
"""

import inspect
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch
import torch.nn.functional as F
import transformers
from diffusers import AutoPipelineForText2Image, DiffusionPipeline
from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING
from huggingface_hub import ModelCard, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..access import component_names
from ..arguments import checked
from ..domains.preset import Preset
from ..domains.prompts import render_prompt
from ..errors import InputError, shown
from ..records import check_regular, file_inside, file_sha256, fingerprint
from ..training.devices import local_device

__all__ = ["SavedTextToImage", "TextToImage", "TextToImageOutput", "draws_from_prompts", "find_text_to_image"]

INDEX, CARD = "model_index.json", "README.md"
READ = (".json", ".safetensors", ".txt", ".model")
"""Suffixes of what is loaded of a component; `.model` is sentencepiece's vocabulary."""

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5")
LIBRARIES = ("diffusers", "transformers", "stable_diffusion", "deepfloyd_if")
"""Where a component's class may be from: the libraries, and modules of diffusers that define a safety checker."""

KINDS = (
    diffusers.ModelMixin,
    diffusers.SchedulerMixin,
    transformers.PreTrainedModel,
    PreTrainedTokenizerBase,
    transformers.ImageProcessingMixin,
)
"""What a component's class may be. None is one of the Auto classes, which run or ask to run the code of a directory."""

RENAMED = {"CLIPFeatureExtractor": "CLIPImageProcessor"}
"""Classes by the names that older releases of transformers gave them."""

PIPELINES: dict[str, Any] = {one.__name__: one for one in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()}
"""diffusers' text-to-image pipelines by the name of their class."""

KEYS = 2**62
LUMINANCE = (0.299, 0.587, 0.114)
"""Of red, green and blue in gray: ITU-R BT.601, which Pillow uses."""


class SavedTextToImage(NamedTuple):
    """A text-to-image pipeline as described by its files, before its weights are loaded.

    `name` is that of its directory or Hub repository, `pipeline` its class, `revision` the identity of its files and
    adapter, `license` what its model card says, None where it says nothing.
    """

    directory: Path
    name: str
    pipeline: str
    revision: str
    license: str | None
    absent: tuple[str, ...]
    """Components that its configuration knows, and that it does without."""

    lora_weights: Path | None
    tokenizers: Mapping[str, Any]
    prompt_limits: Mapping[str, int]
    """Tokens that each text encoder reads, by the name of its tokenizer; further ones it would leave out."""

    def longest(self, prompt: str) -> tuple[int, int] | None:
        """Tokens of a prompt and the most that an encoder reads, where no encoder reads all of it; else None."""
        counts = {
            name: len(tokenizer(prompt, truncation=False, verbose=False).input_ids)
            for name, tokenizer in self.tokenizers.items()
        }
        if not counts or any(count <= self.prompt_limits[name] for name, count in counts.items()):
            return None
        name = max(counts, key=lambda one: self.prompt_limits[one])
        return counts[name], self.prompt_limits[name]

    def check_prompt(self, prompt: str, name: str = "prompt") -> None:
        """Raise InputError for a prompt that no text encoder reads as a whole: covariates would be lost silently.

        Args:
            prompt: a text.
            name: of the argument that it is.
        """
        if (found := self.longest(prompt)) is not None:
            count, limit = found
            remedy = "give the preset a shorter template" if name == "prompt" else "give a shorter one"
            raise InputError(
                f"{name}: {shown(prompt)} has {count} tokens, and the text encoder of {self.name} reads {limit}, so "
                f"that what stands at its end would be lost; {remedy}."
            )


def draws_from_prompts(config: Mapping[str, Any]) -> bool:
    """Whether a pipeline's configuration, its model_index.json, is that of a text-to-image pipeline of diffusers."""
    name = config.get("_class_name")
    # a list names a class in a file beside the weights
    return isinstance(name, str) and name in PIPELINES and "controlnet" not in config


@checked
def find_text_to_image(path: str | Path, lora_weights: str | Path | None = None) -> SavedTextToImage:
    """Find a text-to-image pipeline and check all of it but the numbers in its weights.

    Args:
        path: its directory, or its name on the Hub.
        lora_weights: a file of adapter weights in safetensors, or the folder of one.

    Raises:
        InputError: no pipeline of diffusers, one that does not draw from prompts, weights that are no safetensors, a
            component that is missing or of another library, a tokenizer that can't be loaded.
    """
    directory, name = _located(path)
    index = directory / INDEX
    check_regular(index, f"text_to_image: {index}", "give a directory that a pipeline of diffusers was saved to")
    try:
        config = json.loads(file_inside(directory, INDEX).read_bytes())
    except (OSError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise InputError(
            f"text_to_image: {path} has no readable {INDEX}; give a directory that a pipeline of diffusers was saved "
            "to, or its name on the Hub."
        )
    if not draws_from_prompts(config):
        raise InputError(
            f"text_to_image: {path} is a {shown(config.get('_class_name'))}, which draws no images from prompts alone; "
            "give a text-to-image pipeline of diffusers, such as a StableDiffusionPipeline."
        )
    pipeline = config["_class_name"]
    files = [index, *_component_files(directory, config)]
    hashes = {file.relative_to(directory).as_posix(): file_sha256(file) for file in files}
    adapter = None if lora_weights is None else _adapter(Path(lora_weights))
    if adapter is not None:
        hashes["lora_weights"] = file_sha256(adapter)
    tokenizers = _tokenizers(directory, config)
    return SavedTextToImage(
        directory,
        name,
        pipeline,
        fingerprint(hashes),
        _license(directory, name),
        tuple(one for one, value in config.items() if value == [None, None]),
        adapter,
        tokenizers,
        {one: _limit(tokenizer, pipeline) for one, tokenizer in tokenizers.items()},
    )


def _located(path: str | Path) -> tuple[Path, str]:
    if Path(path).exists():
        if not Path(path).is_dir():
            raise InputError(
                f"text_to_image: {path} is a file; give the directory of a pipeline (`save_pretrained` of diffusers)."
            )
        return Path(path), Path(path).resolve().name
    try:
        return Path(DiffusionPipeline.download(str(path), use_safetensors=True)), str(path)
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise InputError(
            f"text_to_image: there is no directory {str(path)!r}, and no pipeline in safetensors of that name on the "
            f"Hub that can be read ({(str(error).splitlines() or [type(error).__name__])[0].rstrip('.')})."
        ) from None


def _component_files(directory: Path, config: Mapping[str, Any]) -> list[Path]:
    """What is loaded of a pipeline's components."""
    files: list[Path] = []
    for name in component_names(config, directory / INDEX):
        library, kind = config[name]
        if library not in LIBRARIES:
            raise InputError(
                f"text_to_image: component {name} of {directory} is a {kind} of {library!r}, whose code would be run; "
                f"allowed: {', '.join(LIBRARIES)}."
            )
        if _class(library, kind, name) is None:
            wanted = "tokenizer" if name.startswith("tokenizer") else "network, scheduler, tokenizer or image processor"
            raise InputError(
                f"text_to_image: component {name} of {directory} is a {shown(kind)} of {library!r}, which is no class "
                f"of a {wanted}; save the pipeline by save_pretrained."
            )
        folder = file_inside(directory, name)
        if not folder.is_dir():
            raise InputError(
                f"text_to_image: {folder} is missing, but {INDEX} names it; save or download the whole pipeline anew."
            )
        found = [file_inside(directory, f"{name}/{one.name}") for one in folder.iterdir() if one.is_file()]
        own = [one for one in found if one.suffix in READ]
        pickles = sorted(one.name for one in found if one.suffix in PICKLES)
        if pickles and not any(one.suffix == ".safetensors" for one in own):
            raise InputError(
                f"text_to_image: {folder / pickles[0]} is a pickle, which can run code when it is opened; where you "
                "trust it, load the pipeline yourself and save it by save_pretrained(..., safe_serialization=True)."
            )
        files += own
    for name, value in config.items():
        encoder = name.replace("tokenizer", "text_encoder")
        if name.startswith("tokenizer") and value == [None, None] and config.get(encoder) not in (None, [None, None]):
            raise InputError(f"text_to_image: {directory} has no {name} for its {encoder}; save the pipeline with it.")
    return sorted(files)


def _class(library: str, kind: str, component: str) -> Any:
    """A component's class, None for one that is none of KINDS; a tokenizer is a tokenizer."""
    modules = {"transformers": transformers, "diffusers": diffusers}
    found = getattr(modules.get(library) or getattr(diffusers.pipelines, library), RENAMED.get(kind, kind), None)
    kinds = (PreTrainedTokenizerBase,) if component.startswith("tokenizer") else KINDS
    # a class that needs another library is there without it, too, and says so when it is loaded
    absent = isinstance(found, transformers.utils.import_utils.DummyObject)
    return found if absent or (isinstance(found, type) and issubclass(found, kinds)) else None


def _adapter(path: Path) -> Path:
    """The file of an adapter's weights."""
    found = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if len(found) != 1 or not found[0].is_file() or found[0].suffix != ".safetensors":
        raise InputError(
            f"lora_weights: {path} is not one file of adapter weights in safetensors; give the file "
            "pytorch_lora_weights.safetensors, or the folder that holds it alone."
        )
    return found[0]


def _tokenizers(directory: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name in (one for one in component_names(config, directory / INDEX) if one.startswith("tokenizer")):
        kind = _class(config[name][0], config[name][1], name)
        try:
            found[name] = kind.from_pretrained(directory / name, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # transformers and tokenizers raise whatever their parsers do
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise InputError(
                f"text_to_image: {directory / name} cannot be loaded ({reason}); save the pipeline anew."
            ) from None
    return found


def _limit(tokenizer: Any, pipeline: str) -> int:
    """Tokens that the encoder reads: CLIP's all of its own, a language model's as many as the pipeline hands on."""
    own = int(min(tokenizer.model_max_length, 2**31))
    if "CLIP" in type(tokenizer).__name__:
        return own
    call = inspect.signature(PIPELINES[pipeline].__call__).parameters.get("max_sequence_length")
    return own if call is None or not isinstance(call.default, int) else min(own, call.default)


def _license(directory: Path, name: str) -> str | None:
    """What the model card says; None without a card or a licence on it."""
    path = directory / CARD
    try:
        if not path.is_file() and "/" in name:
            path = Path(hf_hub_download(name, CARD))
        found = ModelCard(path.read_text(encoding="utf-8")).data.to_dict().get("license")
    except Exception:  # no card, no Hub, or no YAML: nothing is said
        return None
    return found if isinstance(found, str) and found else None


class _Configuration(NamedTuple):
    resolution: int


class TextToImageOutput(NamedTuple):
    """Images float32 `[B, C, H, W]` in [0, 1], keys `[B, 1]` and the covariates' noise behind them."""

    images: Tensor
    noise: Tensor
    covariate_noise: Mapping[str, Tensor] | None
    residual: None = None


class TextToImage:
    """A loaded text-to-image pipeline with the interface of a sampler.

    Images are made at the pipeline's own size, cut to their central square, averaged down to `resolution` (bilinear,
    antialiased; never up), and in gray by luminance where the preset has one channel. What a safety checker blacked out
    is NaN, so that nobody keeps it.

    Args:
        saved: its files.
        preset: the domain, whose `prompt` is the template.
        scm: the model of covariates.
        resolution: height and width of the images in pixels.
        negative_prompt: what images shall not show.
        dtype: precision of the networks.

    Raises:
        InputError: the pipeline can't be loaded or makes smaller images, the adapter does not fit, or the pipeline
            takes no negative prompt.
    """

    def __init__(
        self,
        saved: SavedTextToImage,
        preset: Preset,
        scm: Any,
        resolution: int,
        negative_prompt: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.saved, self.preset, self.scm, self.config = saved, preset, scm, _Configuration(resolution)
        self.pipeline = _loaded(saved, dtype)
        self._takes = inspect.signature(self.pipeline.__call__).parameters
        # a true_cfg_scale of 1, the default, leaves the negative prompt unread
        if negative_prompt is not None and ("negative_prompt" not in self._takes or "true_cfg_scale" in self._takes):
            raise InputError(f"negative_prompt: {saved.pipeline} does not use one; leave it out.")
        self._negative_prompt = negative_prompt
        size = _own_size(self.pipeline)
        if size is not None and size < resolution:
            raise InputError(
                f"resolution: {resolution} is more than the {size} pixels that {saved.name} makes; give at most that."
            )
        self.pipeline.set_progress_bar_config(disable=True)
        self.pipeline.to(local_device())

    def sample_noise(self, generator: Sequence[torch.Generator]) -> Tensor:
        """The key of each subject's image noise, int64 `[B, 1]`.

        Args:
            generator: one per row.
        """
        return torch.stack([torch.randint(KEYS, (1,), generator=one) for one in generator])

    def __call__(
        self,
        covariates: Mapping[str, Sequence[Any]],
        noise: Tensor,
        covariate_noise: Mapping[str, Tensor] | None = None,
        do: Mapping[str, Sequence[Any]] | None = None,
        context: Sequence[Mapping[str, str]] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        output_type: str = "pt",
        **unused: None,
    ) -> TextToImageOutput:
        """Images of covariates, each from the noise of its own key, whatever else is in the batch.

        Args:
            covariates: decoded values `[B]` by name.
            noise: keys `[B, 1]`.
            covariate_noise: returned as it is.
            do: decoded values `[B]` that take the place of covariates; the prompt is all that changes.
            context: what prompts say of each row beside covariates, `[B]` of text by name.
            num_inference_steps: the pipeline's own by default.
            guidance_scale: the pipeline's own by default.
            output_type: "pt".
            **unused: what only a generator that abducts takes.

        Raises:
            InputError: an image is given, which needs abduction; a prompt that no text encoder reads as a whole, or
                a setting that the pipeline does not take.
        """
        if given := [name for name, value in unused.items() if value is not None]:
            raise InputError(f"{given[0]}: is for a generator that abducts an image's noise; {_NO_ABDUCTION}.")
        table = {**covariates, **(do or {})}
        rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
        said = [{}] * len(rows) if context is None else context
        prompts = [render_prompt(self.preset, row, one) for row, one in zip(rows, said, strict=True)]
        for prompt in dict.fromkeys(prompts):
            self.saved.check_prompt(prompt)
        settings: dict[str, Any] = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
        settings = {name: value for name, value in settings.items() if value is not None}
        if self._negative_prompt is not None:
            settings["negative_prompt"] = [self._negative_prompt] * len(prompts)
        for name in settings:
            if name not in self._takes:
                raise InputError(f"{name}: {self.saved.pipeline} does not take it; leave it out.")
        # on the CPU, whose random numbers are the same beside any device
        generators = [torch.Generator().manual_seed(int(key)) for key in noise[:, 0].tolist()]
        try:
            output = self.pipeline(prompt=prompts, generator=generators, output_type="pt", **settings)
        except (TypeError, ValueError) as error:
            raise InputError(f"text_to_image: {self.saved.name} cannot draw ({_first_line(error)}).") from None
        images = _resized(output.images.float().cpu().clamp(0, 1), self.config.resolution)
        if self.preset.channels == 1:
            images = (images * torch.tensor(LUMINANCE)[:, None, None]).sum(dim=1, keepdim=True)
        flagged = torch.tensor(getattr(output, "nsfw_content_detected", None) or [False] * len(prompts))
        images[flagged] = torch.nan
        return TextToImageOutput(images, noise, covariate_noise)


_NO_ABDUCTION = "a text-to-image pipeline knows the noise of no image but its own, so that it has no counterfactuals"


def _loaded(saved: SavedTextToImage, dtype: torch.dtype) -> Any:
    with warnings.catch_warnings():
        # of configurations that strangers wrote for another version
        warnings.simplefilter("ignore")
        try:
            pipeline = AutoPipelineForText2Image.from_pretrained(
                saved.directory,
                use_safetensors=True,
                local_files_only=True,
                torch_dtype=dtype,
                **dict.fromkeys(saved.absent),
            )
        except Exception as error:  # each component raises its own
            raise InputError(
                f"text_to_image: {saved.directory} cannot be loaded ({_first_line(error)}); save the pipeline anew."
            ) from None
        if saved.lora_weights is not None:
            _adapt(pipeline, saved)
    return pipeline


def _adapt(pipeline: Any, saved: SavedTextToImage) -> None:
    path = saved.lora_weights
    assert path is not None
    if not hasattr(pipeline, "load_lora_weights"):
        raise InputError(f"lora_weights: {saved.pipeline} takes no adapter; leave it out.")
    try:
        pipeline.load_lora_weights(path.parent, weight_name=path.name, use_safetensors=True, local_files_only=True)
        found = pipeline.get_list_adapters()
    except Exception as error:  # diffusers, peft and torch each raise their own of shapes and names
        raise InputError(f"lora_weights: {path} does not fit {saved.name} ({_first_line(error)}).") from None
    if not any(found.values()):
        raise InputError(
            f"lora_weights: {path} has no weights for the networks of {saved.name}; give an adapter of this pipeline."
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")


def _own_size(pipeline: Any) -> int | None:
    """Pixels of a side that a pipeline makes by default, where it says so."""
    network = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    size = getattr(pipeline, "default_sample_size", None) or getattr(
        getattr(network, "config", None), "sample_size", None
    )
    factor = getattr(pipeline, "vae_scale_factor", None)
    return size * factor if isinstance(size, int) and isinstance(factor, int) else None


def _resized(images: Tensor, resolution: int) -> Tensor:
    """The central square of images `[B, 3, H, W]`, averaged to `[B, 3, resolution, resolution]`."""
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = images[..., top : top + side, left : left + side]
    if side < resolution:
        raise InputError(f"resolution: {resolution} is more than the {side} pixels that the pipeline makes.")
    size = (resolution, resolution)
    return square if side == resolution else F.interpolate(square, size, mode="bilinear", antialias=True)
