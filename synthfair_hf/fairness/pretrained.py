"""Image classifiers of `transformers`, by their directory, their repository on the Hub, or their configuration.

    open_classifier("DIR")                   weights that `save_pretrained` wrote, with the image processor beside them
    open_classifier("OWNER/NAME", "edema")   of the Hub; which of its labels is the finding
    open_classifier("config.json", to_fit=True)    random weights, drawn by the seed of each fit

Only weights as safetensors are opened, and no code of a repository is run. What the image processor does is done in
torch, so that gradients reach the pixels, and checked on one image against the processor itself. Gray images are
repeated where the network takes colours. Without a processor images keep their resolution, with mean and standard
deviation 1/2. The directory of an `ImageClassifier` is opened as one.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import transformers
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from torch.nn import functional

from ..access import RECORD, recorded_access
from ..arguments import checked
from ..errors import InputError, unknown
from ..progress import without_bars
from ..records import Access, fingerprint, written
from ..training.devices import local_device
from .adapter import AdaptedClassifier
from .classifier import ImageClassifier, load_classifier
from .labelled import LabelledImages

__all__ = ["CONFIG", "PretrainedClassifier", "open_classifier"]

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
SAFELY = {"local_files_only": True, "trust_remote_code": False}

INTERPOLATION = {0: "nearest-exact", 1: "bicubic", 2: "bilinear", 3: "bicubic"}
"""By the number of Pillow's filter; transformers takes bicubic for Lanczos in torch as well."""

PROBE = 64
"""Side of the image that the preprocessing is checked on, in pixels."""


class Preprocessing(NamedTuple):
    """What becomes of square images in [0, 1] before the network.

    Attributes:
        channels: of the network, 1 or 3.
        size: (height, width) they are resized to; None keeps their resolution.
        crop: (height, width) of the centre that is kept; None keeps all.
        interpolation: of torch.
        scale: factor of images in [0, 1].
        mean: that is subtracted, of each channel or of all.
        std: that the rest is divided by.
    """

    channels: int
    size: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    interpolation: str = "bilinear"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)

    def __call__(self, images: Tensor) -> Tensor:
        """The network's input `[B, channels, h, w]` of images `[B, C, r, r]` in [0, 1]."""
        if images.shape[1] == 1:
            images = images.expand(-1, self.channels, -1, -1)
        if images.shape[1] != self.channels:
            raise InputError(
                f"images: {images.shape[1]} channels, and the classifier takes {self.channels}; give images of its "
                "colours, or a classifier of theirs."
            )
        if self.size is not None and self.size != tuple(images.shape[2:]):
            smooth = self.interpolation != "nearest-exact"
            images = functional.interpolate(images, self.size, mode=self.interpolation, antialias=smooth)
            images = images.clamp(0, 1) if self.interpolation == "bicubic" else images
        if self.crop is not None:
            top, left = ((have - want) // 2 for have, want in zip(images.shape[2:], self.crop, strict=True))
            images = images[:, :, top : top + self.crop[0], left : left + self.crop[1]]
        mean, std = (torch.tensor(one, device=images.device)[:, None, None] for one in (self.mean, self.std))
        return (images * self.scale - mean) / std


class _Network(nn.Module):
    """A model of transformers behind its preprocessing: images `[B, C, r, r]` in [0, 1] to logits `[B, labels]`."""

    def __init__(self, model: Any, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.model, self.preprocessing = model, preprocessing

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=self.preprocessing(images)).logits
        return logits


class PretrainedClassifier(AdaptedClassifier):
    """An image classifier of `transformers`; made by `open_classifier`.

    Args:
        model: of `AutoModelForImageClassification`.
        processor: its image processor's settings, as its file has them, and None where it has none.
        preprocessing: what they amount to.
        label: which of the model's labels is the finding; needed where there are more than two.
        is_random: whether every fit draws the weights anew.
        headless: whether the last layer was not among the weights, so that every fit draws it anew.
        access: to the images that it was trained on.
    """

    def __init__(
        self,
        model: Any,
        processor: Mapping[str, Any] | None,
        preprocessing: Preprocessing,
        label: str | None = None,
        is_random: bool = False,
        headless: bool = False,
        access: Access = "unknown",
    ) -> None:
        labels = list(model.config.id2label.values())
        if label is not None and label not in labels:
            raise unknown("label", label, labels)
        several = model.config.problem_type == "multi_label_classification"
        place = None if label is None else labels.index(label)
        super().__init__(_Network(model, preprocessing), label=place, multi_label=several)
        self.network: _Network
        self.labels, self.processor, self.is_random, self.headless = labels, processor, is_random, headless
        self._access: Access = access

    @property
    def access(self) -> Access:
        """By the record beside the weights; unknown without one, and open of random weights."""
        return "open" if self.is_random else self._access

    @property
    def model(self) -> Any:
        """The model of transformers, such as to train it by its Trainer."""
        return self.network.model

    @property
    def fingerprint(self) -> str:
        """Identity of weights, configuration and preprocessing; of random weights without these."""
        return fingerprint([self._described(), None]) if self.is_random else super().fingerprint

    def _described(self) -> Any:
        names = ("_name_or_path", "transformers_version", "dtype")
        config = {key: value for key, value in self.model.config.to_dict().items() if key not in names}
        return [config, self.network.preprocessing]

    def _logit(self, values: Any, n: int) -> Tensor:
        if self.label is None and len(self.labels) > (1 if self.multi_label else 2):
            raise InputError(
                f"label: not given, and the classifier has {len(self.labels)} labels; say which is the finding, such "
                f"as {self.labels[0]!r}."
            )
        return super()._logit(values, n)

    def _copy(self, seed: int) -> Self:
        made = super()._copy(seed)
        if self.is_random:
            made.network.model = _random_model(self.model.config, seed).to(self.device)
        return made

    def initial(self, examples: LabelledImages, seed: int) -> Self:
        """A copy to fit: of these weights, or random ones; a last layer of more than two labels is drawn anew."""
        made = super().initial(examples, seed)
        made.is_random = made.headless = False
        return made

    def _is_drawn(self, count: int) -> bool:
        return self.headless or super()._is_drawn(count)

    def _replace(self, name: str, layer: nn.Linear) -> None:
        super()._replace(name, layer)
        self.model.config.num_labels = 1
        self.labels = list(self.model.config.id2label.values())

    def save_pretrained(self, save_directory: str | Path, **settings: Any) -> None:
        """Write the model, as transformers does, and its image processor's settings."""
        self.model.save_pretrained(save_directory)
        if self.processor is not None:
            (Path(save_directory) / PROCESSOR).write_bytes(written(dict(self.processor)))


@checked
def open_classifier(
    classifier: str | Path, label: str | None = None, to_fit: bool = False, device: str | None = None
) -> PretrainedClassifier | ImageClassifier:
    """Open a saved classifier, on the device that it then predicts and is fitted on.

    Args:
        classifier: a directory, or the name of a repository on the Hub, with config.json and weights as safetensors.
        label: which of its labels is the finding; needed where it has more than two, unless it is fitted.
        to_fit: whether it is to be fitted: it may then also be a configuration alone (a file, or a directory without
            weights), and weights without a last layer, which every fit draws by its seed.
        device: of the weights, as torch names them; by default this process's GPU, and the CPU without one.

    Returns:
        The classifier, in evaluation mode.

    Raises:
        InputError: there is none that can be opened, or it has no such label, or there is no such device.
    """
    wanted = _device(device)
    place = Path(classifier)
    place = place if place.exists() else _fetch(str(classifier))
    directory, file = (place.parent, place) if place.is_file() else (place, place / CONFIG)
    config = _settings(file)
    if config.get("_class_name") == ImageClassifier.__name__ and directory == place:
        if label is not None:
            raise InputError(f"label: {label!r} is given, and {place} has one output; leave it out.")
        return load_classifier(directory).to(wanted)
    has_weights = directory == place and any(directory.glob("*.safetensors"))
    if not (has_weights or to_fit):
        others = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in directory.glob(pattern))
        told = f"{others[0]}, which may hold code" if others else "no weights"
        raise InputError(f"classifier: {place} has {told}; give a directory with weights as safetensors.")
    read = _config(file)
    if has_weights:
        model, missing = _load(directory, place)
    else:
        # one logit from the beginning; a copy, because setting it changes the labels as well
        read.num_labels = 1
        model, missing = _random_model(read, 0), []
    if missing and (not to_fit or len({name.rpartition(".")[0] for name in missing}) > 1):
        raise InputError(
            f"classifier: {place} lacks {', '.join(missing[:4])} of a {type(model).__name__}; give one that was "
            "trained to classify images."
        )
    processor = _settings(directory / PROCESSOR) if (directory / PROCESSOR).is_file() else None
    prepared = _preprocessing(directory, model.config, processor, place)
    access: Access = recorded_access(directory) if (directory / RECORD).exists() else "unknown"
    return PretrainedClassifier(model, processor, prepared, label, not has_weights, bool(missing), access).to(wanted)


def _device(name: str | None) -> torch.device:
    """A device that tensors can be made on; InputError for another."""
    try:
        return torch.empty(0, device=name or local_device()).device
    except (RuntimeError, AssertionError, NotImplementedError):  # unknown names, or torch built without it
        raise InputError(
            f"device: {name!r} is none that torch has here; give 'cpu' or 'cuda:0', or leave it out."
        ) from None


def _fetch(repository: str) -> Path:
    """The local copy of a Hub repository."""
    try:
        return Path(snapshot_download(repository, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # of the name, the network, or the Hub
        told = _first_line(error).rstrip(".")
        raise InputError(
            f"classifier: there is no directory {repository!r}, and no Hub repository of that name that can be read "
            f"({told}); give a directory that save_pretrained wrote, or OWNER/NAME."
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _settings(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(
            f"classifier: {path} is no readable configuration; give a directory with config.json, as save_pretrained "
            "writes it."
        )
    return found


def _config(file: Path) -> Any:
    """The configuration of a model that classifies images."""
    try:
        found = transformers.AutoConfig.from_pretrained(file, **SAFELY)
    except Exception as error:  # whatever a library finds wrong with somebody's file
        raise InputError(
            f"classifier: {file} can't be read ({_first_line(error).rstrip('.')}); give a configuration that "
            "transformers reads without code of its own."
        ) from None
    if type(found) not in transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise InputError(
            f"classifier: {file} is of a {found.model_type}, which classifies no images; give a model of "
            "AutoModelForImageClassification, such as a resnet or vit."
        )
    return found


def _load(directory: Path, place: Path) -> tuple[Any, list[str]]:
    """A model with its weights, and the names of those that it lacks, which are drawn."""
    try:
        with torch.random.fork_rng(devices=[]), _quietly():
            torch.manual_seed(0)
            model, told = transformers.AutoModelForImageClassification.from_pretrained(
                directory, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **SAFELY
            )
    except Exception as error:  # whatever a library finds wrong with somebody's files
        raise InputError(
            f"classifier: {place} can't be loaded ({_first_line(error).rstrip('.')}); give it as save_pretrained "
            "wrote it."
        ) from None
    return model, sorted(told["missing_keys"])


@contextmanager
def _quietly() -> Iterator[None]:
    """Without a bar of progress, and reports of weights that are refused in a sentence here."""
    told = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        with without_bars(transformers.logging):
            yield
    finally:
        transformers.logging.set_verbosity(told)


def _random_model(config: Any, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return transformers.AutoModelForImageClassification.from_config(copy.deepcopy(config))
        except Exception as error:  # sizes that do not fit each other
            raise InputError(
                f"classifier: no {config.model_type} can be made of its configuration "
                f"({_first_line(error).rstrip('.')}); correct it."
            ) from None


def _preprocessing(directory: Path, config: Any, processor: Mapping[str, Any] | None, place: Path) -> Preprocessing:
    """What the image processor of a directory does, in torch."""
    if processor is None:
        return Preprocessing(int(getattr(config, "num_channels", 3)))
    try:
        # Pillow's, because torchvision is no dependency
        opened = transformers.AutoImageProcessor.from_pretrained(directory, backend="pil", **SAFELY)
    except Exception as error:  # whatever a library finds wrong with somebody's file
        raise InputError(
            f"classifier: the image processor of {place} can't be loaded ({_first_line(error).rstrip('.')}); give one "
            "that transformers reads without code of its own, or none."
        ) from None
    asked = opened.to_dict()
    normalised = asked.get("do_normalize", False)
    mean, std = (
        tuple(map(float, np.atleast_1d(asked[name]))) if normalised else (number,)
        for name, number in (("image_mean", 0.0), ("image_std", 1.0))
    )
    channels = int(getattr(config, "num_channels", max(3, len(mean))))
    if {len(mean), len(std)} - {1, channels}:
        raise InputError(
            f"classifier: the image processor of {place} is for {len(mean)} channels, and the model for {channels}; "
            "give the processor that it was trained with."
        )
    size, crop = None, None
    if asked.get("do_resize") and asked.get("size"):
        size, crop = _sizes(dict(asked["size"]), asked.get("crop_pct"), place)
    if asked.get("do_center_crop") and asked.get("crop_size"):
        crop = _sizes(dict(asked["crop_size"]), None, place)[0]
    scale = 255 * float(asked.get("rescale_factor", 1 / 255)) if asked.get("do_rescale") else 255.0
    found = Preprocessing(
        channels, size, crop, INTERPOLATION.get(int(asked.get("resample") or 2), "bilinear"), scale, mean, std
    )
    _compare(opened, found, place)
    return found


def _sizes(size: Mapping[str, Any], share: float | None, place: Path) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """What square images are resized to, and cropped to: ConvNeXt's keep a share of a larger image below 384 pixels."""
    edge = size.get("shortest_edge")
    if edge is None and size.get("height") and size.get("width"):
        return (int(size["height"]), int(size["width"])), None
    if edge is None or size.get("longest_edge"):
        raise InputError(
            f"classifier: the image processor of {place} resizes to {dict(size)}; give one with height and width, or "
            "shortest_edge."
        )
    if share is None or edge >= 384:
        return (int(edge), int(edge)), None
    larger = int(edge / share)
    return (larger, larger), (int(edge), int(edge))


def _compare(opened: Any, found: Preprocessing, place: Path) -> None:
    """Raise InputError where the processor makes other pixels of an image than the preprocessing."""
    ramp = np.linspace(20, 230, PROBE)
    probe = np.stack([ramp[:, None] * 0.6 + ramp * 0.4, ramp[::-1, None] * 0.5 + ramp * 0.5, ramp[:, None] + 0 * ramp])
    probe = probe[: found.channels].round().astype(np.uint8)
    try:
        theirs = np.asarray(opened(probe, input_data_format="channels_first")["pixel_values"][0], dtype=np.float64)
        ours = found(torch.from_numpy(probe)[None].float() / 255)[0].double().numpy()
        # images are 8-bit between its steps
        near = theirs.shape == ours.shape and np.abs(theirs - ours).max() <= 4 / 255 * found.scale / min(found.std)
    except Exception:  # whatever it does not take
        near = False
    if not near:
        raise InputError(
            f"classifier: the image processor of {place} does more than resize, crop, rescale and normalise; give one "
            "that does no more, or none."
        )
