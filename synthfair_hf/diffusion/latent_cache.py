"""Latents of training images, encoded once and kept on disk, so that no step waits for the autoencoder.

    version v of row i  =  latents of examples[(i, v * rows + i)],    epoch e reads version e mod `versions`

Augmentation comes before the autoencoder, so that each of an image's versions is another augmentation of it, with the
covariates that hold for it. Latents are kept in half precision, in shards of SHARD examples, each written whole or not
at all: a run that was stopped goes on with the next one, and several processes share the work.

    directory/latents.json            which examples and which autoencoder they are of
    directory/00000.safetensors       `latents` and each covariate of the first SHARD examples
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import InputError
from ..progress import progress_bar
from ..records import first_difference, write_atomically
from ..training.examples import TrainingExamples
from .autoencoders import Autoencoder, encode

__all__ = ["CachedLatents"]

SHARD = 512
"""Examples of a file."""

BATCH = 16
"""Images encoded at once."""


class CachedLatents(Dataset[dict[str, Tensor]]):
    """Examples of training with `latents` `[c, h, w]` in place of `image`; keys are those of TrainingExamples.

    Shards that are missing are encoded when this is made.

    Args:
        examples: of training.
        autoencoder: on the device that encodes.
        directory: where the shards are.
        versions: augmentations of each image, 1 or more.
        identity: what the latents depend on, as JSON: another one needs another directory.

    Raises:
        InputError: the directory holds latents of other images, or of another autoencoder.
    """

    def __init__(
        self,
        examples: TrainingExamples,
        autoencoder: Autoencoder,
        directory: Path,
        versions: int,
        identity: Mapping[str, Any],
    ) -> None:
        self.rows, self.versions, self.directory = len(examples), versions, directory
        check_cache(directory, {**identity, "versions": versions})
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(directory / INDEX, json.dumps({**identity, "versions": versions}, indent=2).encode())
        state = PartialState()
        shards = range(-(-self.rows * versions // SHARD))
        missing = [shard for shard in shards if not self._path(shard).exists()][
            state.process_index :: state.num_processes
        ]
        for shard in progress_bar(missing, desc="encoding images", disable=not missing or not state.is_main_process):
            self._write(shard, examples, autoencoder)
        state.wait_for_everyone()
        self._open: dict[int, Any] = {}

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        row, place = key
        shard, offset = divmod(place // self.rows % self.versions * self.rows + row, SHARD)
        if shard not in self._open:
            self._open[shard] = safe_open(self._path(shard), framework="pt")
        kept = self._open[shard]
        example = {name: kept.get_slice(name)[offset] for name in kept.keys()}  # noqa: SIM118 (a file, not a dict)
        return {**example, "latents": example["latents"].float()}

    def __getstate__(self) -> dict[str, Any]:
        # open files do not go to the processes of a data loader
        return {**self.__dict__, "_open": {}}

    def _path(self, shard: int) -> Path:
        return self.directory / f"{shard:05}.safetensors"

    @torch.no_grad()
    def _write(self, shard: int, examples: TrainingExamples, autoencoder: Autoencoder) -> None:
        """Encode the examples of one shard."""
        places = range(shard * SHARD, min((shard + 1) * SHARD, self.rows * self.versions))
        parts: list[dict[str, Tensor]] = []
        for first in range(0, len(places), BATCH):
            # the place of version v of row i is v * rows + i
            chosen = [examples[(place % self.rows, place)] for place in places[first : first + BATCH]]
            columns = {name: torch.stack([one[name] for one in chosen]) for name in chosen[0]}
            images = columns.pop("image").to(autoencoder.device)
            parts.append({**columns, "latents": encode(autoencoder, images * 2 - 1).half().cpu()})
        whole = {name: torch.cat([part[name] for part in parts]).contiguous() for name in parts[0]}
        temporary = self._path(shard).with_suffix(f".{os.getpid()}.tmp")
        save_file(whole, temporary)
        os.replace(temporary, self._path(shard))


INDEX = "latents.json"


def check_cache(directory: Path, identity: Mapping[str, Any]) -> None:
    """Raise InputError where a directory holds latents of another identity; nothing is written."""
    index = directory / INDEX
    if not index.exists():
        return
    try:
        theirs = json.loads(index.read_bytes())
    except (ValueError, RecursionError):
        theirs = {}
    if not isinstance(theirs, dict) or (difference := first_difference(identity, theirs)):
        told = f" ({difference})" if isinstance(theirs, dict) else ""
        raise InputError(
            f"cache_latents: {directory} holds latents of other images or of another autoencoder{told}; remove it, or "
            "give another output_dir."
        )
