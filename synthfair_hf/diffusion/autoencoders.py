"""Autoencoders of diffusers whose latents a network may work in: opened, asked for their size, and checked on images.

    z = (E(x) - shift) * scale,    x = D(z / scale + shift),    x centred to [-1, 1]

`scale` and `shift` stand in the autoencoder's configuration. An autoencoder of colours is given gray images as three
equal colours, and of its answer the mean is taken.
"""

import hashlib
import json
from pathlib import Path
from typing import TypeAlias, get_args

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from diffusers.utils import logging
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from torch import Tensor

from ..access import RECORD, recorded_access, restrict
from ..errors import InputError, unknown
from ..records import Access, fingerprint

__all__ = ["Autoencoder", "check_latents", "compression", "decode", "encode", "open_autoencoder", "revision_of"]

Autoencoder: TypeAlias = AutoencoderKL | AutoencoderTiny

KINDS: dict[str, type[Autoencoder]] = {kind.__name__: kind for kind in (AutoencoderKL, AutoencoderTiny)}
"""Classes of autoencoders that are loaded, by the name in their config.json."""

SPREAD = (0.3, 3.0)
"""Standard deviations of latents that a network can be trained on; the noise that they are mixed with has 1."""


def open_autoencoder(path: str | Path) -> Autoencoder:
    """Load an autoencoder, in safetensors, which is not trained further.

    Args:
        path: its directory, that of a pipeline that holds one in `vae`, or the name of a Hub repository of either. One
            that was trained on restricted images keeps their access (`access.held_access`).

    Raises:
        InputError: for what is no autoencoder of KINDS, and for one whose weights are missing or no safetensors.
    """
    directory = Path(path) if Path(path).exists() else _downloaded(str(path))
    if (directory / "vae" / "config.json").is_file():
        directory = directory / "vae"
    try:
        config = json.loads((directory / "config.json").read_bytes())
        kind = config["_class_name"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        raise InputError(
            f"vae: {path} is not a saved autoencoder (no readable config.json); give the directory or Hub name of one, "
            "or of a pipeline that holds one."
        ) from None
    if kind not in KINDS:
        raise unknown(f"vae: {path}", str(kind), KINDS)
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        found: Autoencoder = KINDS[kind].from_pretrained(directory, use_safetensors=True)
    except (OSError, RuntimeError, SafetensorError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(f"vae: {path} can't be loaded ({reason}); only whole ones in safetensors are.") from None
    finally:
        logging.set_verbosity(level)
    found.register_to_config(_name_or_path="")
    if (access := _access_behind(directory)) is not None:
        restrict(found, access=access)
    return found.requires_grad_(False).eval()


def _access_behind(directory: Path) -> Access | None:
    """Access to the images of an autoencoder that was trained or saved by this package, or is part of a generator."""
    for place in (directory, directory.parent):
        if (place / RECORD).exists():
            return recorded_access(place)
        if (index := place / "model_index.json").is_file():
            access = json.loads(index.read_bytes()).get("access")
            return access if access in (None, *get_args(Access)) else "unknown"
    return None


def _downloaded(name: str) -> Path:
    """The local copy of a Hub repository's autoencoder."""
    files = [f"{folder}{file}" for folder in ("", "vae/") for file in ("config.json", RECORD, "*.safetensors")]
    try:
        return Path(snapshot_download(name, allow_patterns=[*files, "model_index.json"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"vae: there is no directory {name}, and nothing of that name on the Hub ({reason}); check the name."
        ) from None


def compression(autoencoder: Autoencoder) -> int:
    """Pixels of a side for each of its latents."""
    config = autoencoder.config
    maps = config.get("encoder_block_out_channels", config.get("block_out_channels"))
    return int(2 ** (len(maps) - 1))


def encode(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    """Latents of images.

    Args:
        autoencoder: of images in `in_channels`.
        images: `[B, 1|3, H, W]`, centred to [-1, 1].

    Returns:
        `[B, c, h, w]`, in the precision of the images; the posterior's mean where the autoencoder has one.
    """
    config = autoencoder.config
    if images.shape[1] == 1 and config.in_channels == 3:
        images = images.expand(-1, 3, -1, -1)
    found = autoencoder.encode(images.to(autoencoder.dtype))
    latents = found.latents if hasattr(found, "latents") else found.latent_dist.mean
    return (latents.to(images.dtype) - (config.get("shift_factor") or 0)) * config.scaling_factor


def decode(autoencoder: Autoencoder, latents: Tensor, channels: int | None = None) -> Tensor:
    """Images of latents.

    Args:
        autoencoder: whose latents they are.
        latents: `[B, c, h, w]`.
        channels: of the images, 1 or 3; by default the autoencoder's own. Of colours, one is their mean.

    Returns:
        `[B, channels, H, W]`, centred to [-1, 1], in the precision of the latents.
    """
    config = autoencoder.config
    scaled = latents / config.scaling_factor + (config.get("shift_factor") or 0)
    images = autoencoder.decode(scaled.to(autoencoder.dtype)).sample.to(latents.dtype)
    return images.mean(dim=1, keepdim=True) if channels == 1 else images


def check_latents(path: object, autoencoder: Autoencoder, images: Tensor) -> None:
    """Raise InputError where a network can't be trained on the latents of these images, `[B, C, H, W]` in [0, 1]."""
    with torch.no_grad():
        spread = float(encode(autoencoder, images * 2 - 1).std())
    # false of NaN
    if not SPREAD[0] <= spread <= SPREAD[1]:
        scale = autoencoder.config.scaling_factor
        remedy = f"set it to {scale / spread:.3g}" if 0 < spread < float("inf") else "give another autoencoder"
        raise InputError(
            f"vae: {path} has latents of these images with a standard deviation of {spread:.3g} under its "
            f"scaling_factor {scale:g}, where {SPREAD[0]:g} to {SPREAD[1]:g} can be trained on; {remedy}."
        )


def revision_of(autoencoder: Autoencoder) -> str:
    """Fingerprint of an autoencoder's configuration and weights, wherever it lies."""
    settings = {name: value for name, value in autoencoder.config.items() if not name.startswith("_")}
    digest = hashlib.sha256()
    for name, weight in sorted(autoencoder.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)} ".encode())
        digest.update(weight.contiguous().reshape(-1).view(torch.uint8).cpu().numpy().tobytes())
    return fingerprint([json.loads(json.dumps(settings, default=str)), digest.hexdigest()])
