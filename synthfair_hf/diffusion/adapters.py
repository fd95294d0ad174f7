"""Low-rank adapters of a pipeline's network: loaded from diffusers' file form, on and off, merged and unloaded.

    pipe.load_lora_weights(directory)                                       what `synthfair align` saved
    pipe.fuse_lora(components=["unet"]); pipe.unload_lora_weights()         merged: an ordinary pipeline again

Everything but loading is diffusers' own. Adapters that the package trains name the weights that they were trained on,
and are refused by others; those of before, and of other programs, do not, and load wherever they fit.
"""

import hashlib
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE, LoraBaseMixin
from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin
from safetensors import SafetensorError
from torch import Tensor, nn

from ..errors import InputError
from ..records import file_inside

__all__ = ["TRAINED_ON", "AdapterLoader", "weight_digests"]

TRAINED_ON = "trained_on"
"""Key of `weight_digests` among the metadata of adapters, which diffusers passes over."""

HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def weight_digests(denoiser: nn.Module) -> dict[str, str]:
    """Digests of a network's own weights, whatever adapters it has, rounded to each half precision.

    Two networks are the same where one digest agrees: that of the precision which one of them may be in.

    Args:
        denoiser: the network.
    """
    digests = {name: hashlib.sha256() for name in HALVES}
    own = {name: one for name, one in denoiser.state_dict().items() if ".lora_" not in name}
    for name in sorted(own):
        for half, digest in digests.items():
            rounded = own[name].detach().cpu().to(HALVES[half]).contiguous()
            digest.update(name.replace(".base_layer.", ".").encode() + rounded.view(torch.int16).numpy().tobytes())
    return {name: digest.hexdigest()[:16] for name, digest in digests.items()}


class AdapterLoader(LoraBaseMixin):
    """Gives a pipeline with a `unet` diffusers' LoRA methods."""

    _lora_loadable_modules = ["unet"]  # noqa: RUF012 (diffusers reads a list here)

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | Path | dict[str, Tensor],
        adapter_name: str | None = None,
        weight_name: str = LORA_WEIGHT_NAME_SAFE,
        **settings: Any,
    ) -> None:
        """Load adapters, with keys under `unet.`.

        Args:
            pretrained_model_name_or_path_or_dict: a directory, a Hub repository, or tensors by name.
            adapter_name: the adapters' name in the network; diffusers' own by default.
            weight_name: name of the file, safetensors only.
            **settings: those of diffusers' `lora_state_dict`.

        Raises:
            InputError: for a file that can't be read, holds no adapters, some for layers that this network does not
                have, or such as were trained on other weights.
        """
        source = pretrained_model_name_or_path_or_dict
        where = f"load_lora_weights: {'the tensors given' if isinstance(source, dict) else source}"
        if settings.setdefault("use_safetensors", True) is not True or not weight_name.endswith(".safetensors"):
            raise InputError("use_safetensors: only True is allowed; pickle weights can run code.")
        if not isinstance(source, dict) and Path(source).is_dir():
            file_inside(Path(source), weight_name)
        try:
            weights, alphas, metadata = StableDiffusionLoraLoaderMixin.lora_state_dict(
                source, weight_name=weight_name, return_lora_metadata=True, **settings
            )
            # diffusers itself would load those that fit, and only log the others
            known = {f"unet.{name}" for name, _ in self.unet.named_modules()}
            strange = sorted(name for name in weights if name.partition(".lora")[0] not in known)
            if strange or not weights:
                found = (
                    f"{len(strange)} weights for layers that this network does not have ({strange[0]})"
                    if strange
                    else "no adapters"
                )
                raise InputError(f"{where} holds {found}; give adapters that were trained on this network.")
            told = metadata.get(TRAINED_ON) if isinstance(metadata, dict) else None
            if isinstance(told, dict) and all(told.get(half) != one for half, one in weight_digests(self.unet).items()):
                raise InputError(
                    f"{where} holds adapters of another generator; give those that were trained on this one, before "
                    "any are merged into it."
                )
            self.unet.load_lora_adapter(
                weights,
                prefix="unet",
                adapter_name=adapter_name,
                network_alphas=alphas,
                metadata=metadata,
                _pipeline=self,
            )
        except (LookupError, OSError, RuntimeError, SafetensorError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{where} can't be loaded ({str(error).splitlines()[0]}); give adapters of this network."
            ) from error

    def check_without_adapters(self, argument: str) -> None:
        """Raise InputError where the network has adapters: saved among its weights, they could not be loaded.

        Args:
            argument: named by the error.
        """
        if names := ", ".join(getattr(self.unet, "peft_config", {})):
            raise InputError(
                f"{argument}: the network has adapters ({names}); call pipe.unload_lora_weights() to save it without "
                "them, or before it pipe.fuse_lora(components=['unet']) to save it with them merged."
            )
