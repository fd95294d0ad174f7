"""What audit, detection and mitigation ask of a classifier: two protocols, the second for those that are fitted.

    logit(x)    of the finding being present, P(present | x) = 1 / (1 + e^-logit)
    h(x)        features: the input of the last linear layer;     logit = w h + b  where the classifier has that hook

`classifier.ImageClassifier` has all of it, `adapter.AdaptedClassifier` as much of it as the network that it is around.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..records import Access
from .labelled import LabelledImages

__all__ = ["Classifier", "Hook", "TrainableClassifier", "check_hooks", "weights_hash"]

Hook = Literal["features", "last layer"]
"""What a network may have beside a logit: features `[B, d]`, and a linear layer of them whose output is the logit."""


class Classifier(Protocol):
    """A classifier to audit, and to detect what it exploits."""

    @property
    def fingerprint(self) -> str:
        """Identity of weights and preprocessing, for records; "unknown" of a function."""

    def logits(self, images: Tensor) -> Tensor:
        """Logits float32 `[n]` of images uint8 `[n, C, H, W]`, on the CPU; InputError for images that do not fit."""

    def features(self, images: Tensor) -> Tensor:
        """Features float32 `[n, d]` of images uint8 `[n, C, H, W]`, on the CPU; InputError where there are none."""


class TrainableClassifier(Classifier, Protocol):
    """A classifier to fit: a `torch.nn.Module` from images `[B, C, H, W]` in [0, 1] to logits `[B]`.

    Attributes:
        head: the last layer, from features `[B, d]` to logits `[B, 1]`, where `hooks` has it.
    """

    head: nn.Linear

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """What the network has beside a logit."""

    @property
    def access(self) -> Access:
        """Access to the images that the weights were trained on; open where they are random."""

    @property
    def device(self) -> torch.device:
        """The device of the weights."""

    def initial(self, examples: LabelledImages, seed: int) -> Self:
        """A network to fit on `examples`: a copy with these weights, or random ones drawn from `seed`."""

    def embed(self, images: Tensor) -> Tensor:
        """Features `[B, d]` of images in [0, 1], differentiably; only where `hooks` has them."""

    def save_pretrained(self, save_directory: str | Path, **settings: Any) -> None:
        """Write configuration and weights, as safetensors, into a directory."""

    # of torch.nn.Module

    def __call__(self, images: Tensor) -> Tensor:
        """Logits `[B]` of images `[B, C, H, W]` in [0, 1], differentiably."""

    def train(self, mode: bool = True) -> Self:
        """Set to training."""

    def eval(self) -> Self:
        """Set to evaluation."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is trained."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What is trained, by name."""

    def state_dict(self) -> dict[str, Any]:
        """Weights and buffers by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take over weights and buffers."""


def check_hooks(classifier: TrainableClassifier, needed: Iterable[Hook], method: str) -> None:
    """Raise InputError where a classifier lacks a hook that a method needs."""
    lacking = [hook for hook in needed if hook not in classifier.hooks]
    if lacking:
        told = {
            "features": "features, and no linear layer of this classifier has them as its input",
            "last layer": "a last linear layer, and the logit of this classifier is not the output of one",
        }
        raise InputError(f"classifier: {method} needs {told[lacking[0]]}; give another classifier, or another method.")


def weights_hash(module: nn.Module) -> str:
    """16 hex digits of the sha256 of a module's parameters and buffers, with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, Tensor):
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
