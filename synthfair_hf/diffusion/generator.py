"""Saved generators, loaded into memory or pushed to the Hub."""

from pathlib import Path
from typing import Any

from ..arguments import checked
from ..publish.hub.release import Publication
from ..training.devices import local_device
from .pipeline import CausalDiffusionPipeline
from .release import push_directory
from .saved import DEFAULT_GENERATOR, SavedGenerator, find_generator

__all__ = ["load_generator", "push_generator"]


@checked
def load_generator(generator: str | Path | SavedGenerator = DEFAULT_GENERATOR) -> CausalDiffusionPipeline:
    """The pipeline saved in a directory or a Hub repository, on this process's GPU where there is one.

    Args:
        generator: its directory or name on the Hub, or the result of `find_generator`; by default the one inside the
            package.

    Raises:
        InputError: for what is not a whole saved pipeline of this package, in safetensors.
    """
    saved = generator if isinstance(generator, SavedGenerator) else find_generator(generator)
    pipeline = CausalDiffusionPipeline.load(saved.directory)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(local_device())
    return pipeline


@checked
def push_generator(directory: str | Path, hub_model_id: str, **settings: Any) -> Publication:
    """Push a saved pipeline with its card to the Hub.

    Args:
        directory: of the saved pipeline.
        hub_model_id: OWNER/NAME of the model repository.
        **settings: those of `release.push_directory`.

    Raises:
        InputError: as `release.push_directory` does.
    """
    return push_directory(directory, hub_model_id, CausalDiffusionPipeline.load, **settings)
