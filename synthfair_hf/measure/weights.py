"""Weights of networks that measure, loaded if they were trained on training patients alone.

    directory = {record.json, config.json, diffusion_pytorch_model.safetensors},    record.counts["seen"] = {"train": n}

Figures of a network on patients that it was trained on would be too good, so others than `train` are not allowed.
Pickle is never read.
"""

import json
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..access import recorded_access, restrict
from ..errors import InputError
from ..records import Record, file_inside, file_sha256

__all__ = ["WEIGHTS", "load_weights", "weights_fingerprint"]

WEIGHTS = "diffusion_pytorch_model.safetensors"
"""The name diffusers gives a model's weights."""

Network = TypeVar("Network", bound=nn.Module)


def weights_fingerprint(directory: str | Path) -> str:
    """Identity of the weights saved in a directory; InputError where there are none."""
    path = file_inside(Path(directory), WEIGHTS)
    if not path.is_file():
        raise InputError(f"{directory}: holds no {WEIGHTS}; give the output directory of a finished training.")
    return file_sha256(path)[:16]


def load_weights(directory: str | Path, network: type[Network], noun: str) -> Network:
    """The network saved in a directory, frozen and in evaluation mode.

    Args:
        directory: with record.json, config.json and the weights.
        network: its class, built from the entries of config.json.
        noun: its name in messages; `train_<noun>` is the function that trains it.

    Raises:
        InputError: for missing or damaged files, pickle weights, any split but `train` in the record, and an access
            that was recorded of other weights.
    """
    directory = Path(directory)
    article = "an" if noun[0] in "aeiou" else "a"
    for name in ("record.json", "config.json", WEIGHTS):
        file_inside(directory, name)
        if not (directory / name).is_file():
            raise InputError(
                f"{directory}: not a saved {noun} (no {name}); only safetensors that "
                f"`train_{noun}` wrote are loaded, never pickle."
            )
    seen = Record.read(directory / "record.json").counts.get("seen")
    if not isinstance(seen, dict) or set(seen) != {"train"}:
        splits = ", ".join(seen) if isinstance(seen, dict) else ""
        raise InputError(
            f"{directory}: {article} {noun} must have been trained on training patients alone; its record names "
            f"{splits or 'no split'}, allowed: train; train one by `train_{noun}`."
        )
    try:
        config = json.loads((directory / "config.json").read_bytes())
        settings = {name: value for name, value in config.items() if not name.startswith("_")}
        # Built without memory, so that no random numbers are used for weights that are read next.
        with torch.device("meta"):
            built = network(**settings)
        built.load_state_dict(load_file(directory / WEIGHTS), assign=True)
    except (
        OSError,
        RecursionError,
        ValueError,
        TypeError,
        LookupError,
        RuntimeError,
        AttributeError,
        SafetensorError,
    ) as error:
        raise InputError(
            f"{directory}: not {article} {noun} that can be loaded ({str(error).splitlines()[0]})."
        ) from None
    # last, so that damage is told as damage
    recorded_access(directory)
    restrict(built, directory)
    return built.requires_grad_(False).eval()
