"""Low-rank adapters of a denoiser, the only weights that alignment trains.

    W x  ->  W x + (alpha / rank) B A x,     A [rank, in] random, B [out, rank] = 0 at the start

(Hu et al. 2022), on the attention's projections alone. With B = 0 the policy is the reference at the start, and with
the adapters off it is the reference at any time: no second network is held. The layers are peft's, the file is
diffusers': the pipeline's `load_lora_weights(directory)` reads it, and so does
`denoiser.load_lora_adapter(directory, prefix="unet", use_safetensors=True)` of plain diffusers.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY, LORA_WEIGHT_NAME_SAFE
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save
from torch import nn

from ..diffusion.adapters import TRAINED_ON, weight_digests
from ..diffusion.denoiser import Denoiser
from ..errors import InputError
from ..records import write_atomically

__all__ = ["TARGET_MODULES", "adapter_parameters", "add_lora", "reference", "save_lora"]

TARGET_MODULES = ("to_q", "to_k", "to_v", "to_out.0")
"""Ends of the names of the layers that get adapters: every projection of every attention."""

ADAPTER = "default"
"""peft's own name for an adapter that has none."""


def add_lora(denoiser: Denoiser, rank: int, alpha: float, seed: int) -> None:
    """Freeze a denoiser and add adapters; its output is unchanged, because B is zero.

    Args:
        denoiser: the network, changed in place.
        rank: of the adapters, 1 or more.
        alpha: their scale, times rank.
        seed: of A.

    Raises:
        InputError: where it has adapters already.
    """
    if getattr(denoiser, "peft_config", None):
        raise InputError("denoiser: has adapters already; unload them, or start from the generator without them.")
    denoiser.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(TARGET_MODULES))
    # peft draws A from the global generator, on the CPU
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser.add_adapter(config, adapter_name=ADAPTER)


def adapter_parameters(denoiser: Denoiser) -> list[nn.Parameter]:
    """The adapters' own weights, in the network's order; InputError where there are none."""
    found = [parameter for name, parameter in denoiser.named_parameters() if f".{ADAPTER}." in name]
    if not found:
        raise InputError("denoiser: has no adapters; call add_lora first.")
    return found


@contextmanager
def reference(denoiser: Denoiser) -> Iterator[None]:
    """Inside, the adapters are off: the denoiser is the one that alignment started from, to the bit.

    Afterwards, also after an exception, every adapter is on or off, and trained or not, as it was before.
    """
    layers = [module for module in denoiser.modules() if isinstance(module, BaseTunerLayer)]
    # peft switches gradients with the adapters, so both are remembered
    on = [not layer.disable_adapters for layer in layers]
    trained = [(parameter, parameter.requires_grad) for layer in layers for parameter in layer.parameters()]
    try:
        for layer in layers:
            layer.enable_adapters(False)
        yield
    finally:
        for layer, was_on in zip(layers, on, strict=True):
            layer.enable_adapters(was_on)
        for parameter, was_trained in trained:
            parameter.requires_grad_(was_trained)


def save_lora(denoiser: Denoiser, directory: Path) -> Path:
    """Write the adapters as `pytorch_lora_weights.safetensors`, keys under `unet.`, equal adapters to equal bytes.

    Args:
        denoiser: with adapters of `add_lora`.
        directory: where the file is written.

    Returns:
        The file's path. Rank and alpha are in its metadata, where diffusers looks for them, and what the adapters were
        trained on, where the pipeline's `load_lora_weights` looks for it.
    """
    adapter_parameters(denoiser)
    weights = get_peft_model_state_dict(denoiser, adapter_name=ADAPTER)
    tensors = {f"unet.{name}": tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    config = denoiser.peft_config[ADAPTER]
    settings = {"r": config.r, "lora_alpha": config.lora_alpha, "target_modules": sorted(config.target_modules)}
    told = {**{f"unet.{name}": value for name, value in settings.items()}, TRAINED_ON: weight_digests(denoiser)}
    metadata = json.dumps(told, sort_keys=True)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / LORA_WEIGHT_NAME_SAFE
    # one entry alone: several are written in any order
    write_atomically(path, save(tensors, {LORA_ADAPTER_METADATA_KEY: metadata}))
    return path
