"""Weights of networks that judge: what training saved is loaded again if it saw training patients alone.

    directory = {record.json, config.json, diffusion_pytorch_model.safetensors},    record.counts["seen"] = {"train": n}

A network that saw other patients would grade its own homework, so it is refused. Pickle is never read.
"""

import json
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..errors import InputError
from ..records import Record, file_sha256

__all__ = ["WEIGHTS", "load_weights", "weights_fingerprint"]

WEIGHTS = "diffusion_pytorch_model.safetensors"
"""The name diffusers gives a model's weights."""

Network = TypeVar("Network", bound=nn.Module)


def weights_fingerprint(directory: str | Path) -> str:
    """Identity of the weights saved in a directory; InputError where there are none."""
    path = Path(directory) / WEIGHTS
    if not path.is_file():
        raise InputError(f"{directory}: holds no {WEIGHTS}; give the output directory of a finished training.")
    return file_sha256(path)[:16]


def load_weights(directory: str | Path, network: type[Network], noun: str) -> Network:
    """The network saved in a directory, frozen and in evaluation mode, if it saw training patients alone.

    network: its class, built from the entries of config.json.
    noun: what messages call it; `train_<noun>` is what trains it.

    Raises InputError for missing or damaged files, pickle weights, and any split but `train` in the record.
    """
    directory = Path(directory)
    article = "an" if noun[0] in "aeiou" else "a"
    for name in ("record.json", "config.json", WEIGHTS):
        if not (directory / name).is_file():
            raise InputError(
                f"{directory}: not a saved {noun} (no {name}); only safetensors that "
                f"`train_{noun}` wrote are loaded, never pickle."
            )
    seen = Record.read(directory / "record.json").counts.get("seen")
    if not isinstance(seen, dict) or set(seen) != {"train"}:
        told = ", ".join(seen) if isinstance(seen, dict) else "nothing"
        raise InputError(
            f"{directory}: {article} {noun} that saw other than training patients is refused; its record names "
            f"{told or 'nothing'}, allowed: train; train one by `train_{noun}`."
        )
    try:
        config = json.loads((directory / "config.json").read_bytes())
        settings = {name: value for name, value in config.items() if not name.startswith("_")}
        # Built without memory, so that nothing random is drawn for weights that are read next.
        with torch.device("meta"):
            built = network(**settings)
        built.load_state_dict(load_file(directory / WEIGHTS), assign=True)
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, AttributeError, SafetensorError) as error:
        raise InputError(
            f"{directory}: not {article} {noun} that can be loaded ({str(error).splitlines()[0]})."
        ) from None
    return built.requires_grad_(False).eval()
