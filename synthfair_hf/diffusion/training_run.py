"""A generator in training: its pipeline, what it learns from, and what its record says of both."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset

from ..access import RECORD
from ..domains.chest_xray.scanners import AcquisitionWorld
from ..domains.preset import Preset
from ..domains.source import Source
from ..records import Record
from ..training.config import TrainingConfig, architecture
from ..training.examples import TrainingExamples
from ..training.loop import train
from .coverage import Coverage
from .objective import FlowMatchingObjective
from .pipeline import CausalDiffusionPipeline
from .saved import SavedGenerator

__all__ = ["TrainingRun", "coverage_counts"]

GRAIN_LEVELS = {"location": -1.0, "scale": 1.5}
"""Noise levels at which a network that also predicts a variance is trained: a fifth below 0.1, where that acts."""


@dataclass
class TrainingRun:
    """One training of a pipeline's parts.

    Args:
        pipeline: saved at the end, with the parts that an objective trains.
        examples: the source's training images.
        config: settings of the run.
        inputs: of the record, with the access of the pipeline.
        counts: of the record.
    """

    pipeline: CausalDiffusionPipeline
    examples: TrainingExamples
    config: TrainingConfig
    inputs: dict[str, str]
    counts: dict[str, Any]

    def matching(self, **levels: float) -> FlowMatchingObjective:
        """Flow matching of the pipeline's networks, at these noise levels; by default those of its prediction."""
        pipeline = self.pipeline
        grain = pipeline.preset.network.prediction_type == "sample_and_variance"
        return FlowMatchingObjective(
            pipeline.unet,
            pipeline.covariate_encoder,
            pipeline.config.space_to_depth,
            pipeline.vae,
            **{**(GRAIN_LEVELS if grain else {}), **levels},
        )

    def train_networks(self, objective: nn.Module, made: Dataset[dict[str, Tensor]] | None = None) -> Record:
        """Minimise an objective of the pipeline's networks, and save the pipeline.

        Args:
            objective: of the training loop.
            made: what was made of the examples, and is learned from in their place.
        """
        networks = (self.pipeline.unet, self.pipeline.covariate_encoder)
        self.inputs["architecture"] = architecture(*(one.config for one in networks))
        return self.train(objective, made)

    def train(self, objective: nn.Module, made: Dataset[dict[str, Tensor]] | None = None) -> Record:
        """The same of other parts of the pipeline."""
        self.pipeline.register_to_config(access=self.inputs["access"])
        save = partial(self.pipeline.save_pretrained, safe_serialization=True)
        examples = self.examples if made is None else made
        return train(objective, examples, self.config, save, self.inputs, self.counts)


def coverage_counts(start: SavedGenerator | None, source: Source, preset: Preset, rows: list[int]) -> dict[str, Any]:
    """The counts of training images by cell, of a generator's first images and of these; none where some are unknown.

    A scanner that is planted is another one each time that an image is seen.
    """
    drawn = ("scanner",) if isinstance(source, AcquisitionWorld) else ()
    own = Coverage.count(preset, source.table, rows, drawn)
    if start is None:
        return own.counts
    record = start.directory / RECORD
    if record.exists() and Record.read(record).inputs.get("source") == source.fingerprint:
        return own.counts
    return {} if start.coverage is None else (start.coverage + own).counts
