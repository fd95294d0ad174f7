"""The verbs of the command line as public functions: each composes rooms that do not know each other."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .causal.scm import StructuralCausalModel
from .diffusion.objective import FlowMatchingObjective
from .diffusion.pipeline import CausalDiffusionPipeline
from .errors import InputError
from .presets import Preset
from .records import Record, file_sha256, fingerprint
from .schema import Schema
from .simulators.acquisition import SCANNERS, AcquisitionWorld, assign_scanner
from .sources.imagefolder import ImageFolder
from .sources.nih_chestxray14 import read_table
from .sources.source import Source
from .training import TrainingConfig, TrainingExamples, train

__all__ = ["DEFAULT_GENERATOR", "WORLD_SEED", "fit_scm", "open_source", "train_generator"]

DEFAULT_GENERATOR = Path(__file__).parent / "pretrained" / "chest_xray_64"
"""The generator inside the package."""

WORLD_SEED = 0
"""Seed of the planted acquisition: one fixed world, so that every run sees the same scanner for the same film."""


def open_source(directory: str | Path, preset: Preset, resolution: int) -> Source:
    """The images of a folder, with scanners planted where the preset has a scanner and the folder does not."""
    source: Source = ImageFolder(directory, preset, resolution)
    if "scanner" in preset.covariates and "scanner" not in source.covariates:
        if "view" not in source.covariates:
            raise InputError(f"{directory}: no column 'view' in metadata.csv; scanners are assigned by view; add it.")
        source = AcquisitionWorld(source, WORLD_SEED, preset)
    return source


def fit_scm(preset: Preset, table: dict[str, list[Any]], seed: int) -> tuple[StructuralCausalModel, dict[str, Any]]:
    """A causal model fitted on columns of decoded values, and what was fitted on how many rows.

    A table with a view but no scanner gets scanners from the acquisition world's structural equation.
    """
    if "scanner" in preset.covariates and "scanner" not in table:
        rng = np.random.default_rng([WORLD_SEED, seed])
        gumbel = rng.gumbel(size=(len(table["view"]), len(SCANNERS)))
        scanners = [assign_scanner(view, noise) for view, noise in zip(table["view"], gumbel, strict=True)]
        table = {**table, "scanner": scanners}
    scm = StructuralCausalModel.from_schema(preset.covariates, preset.edges)
    return scm, scm.fit(_tensors(preset.covariates, table), seed)


def _tensors(covariates: Schema, table: dict[str, list[Any]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(column) for name, column in covariates.encode(table, "table").items()}


def train_generator(
    preset: Preset,
    source_dir: str | Path,
    config: TrainingConfig,
    resolution: int | None = None,
    covariate_table: str | Path | None = None,
    default_steps: int = 10,
    default_guidance_scale: float = 1.0,
) -> Record:
    """Train a generator on the training patients of a folder and save it as a pipeline in `config.output_dir`.

    `covariate_table` is the label file of ChestX-ray14, on which the causal model is fitted; without it the model is
    fitted on the training patients' own covariates.
    """
    resolution = resolution or preset.resolution
    source = open_source(source_dir, preset, resolution)
    preset = preset.restrict(source.covariates.names)
    examples = TrainingExamples(source, "train", resolution, config.seed)
    counts: dict[str, Any] = {"source": source.counts, "training_images": len(examples)}
    inputs = {"source": source.fingerprint}
    if covariate_table is None:
        table = {name: [column[row] for row in examples.rows] for name, column in source.table.items()}
    else:
        table, counts["covariate_table"] = read_table(covariate_table, preset.covariates)
        inputs["covariate_table"] = file_sha256(Path(covariate_table))
    scm, counts["mechanisms"] = fit_scm(preset, table, config.seed)

    torch.manual_seed(config.seed)
    pipeline = CausalDiffusionPipeline.from_preset(preset, scm, resolution)
    pipeline.register_to_config(default_steps=default_steps, default_guidance_scale=default_guidance_scale)
    objective = FlowMatchingObjective(
        pipeline.unet, pipeline.covariate_encoder, space_to_depth=pipeline.config.space_to_depth
    )

    architecture = {name: dict(part.config) for name, part in pipeline.components.items() if part is not None}
    inputs["architecture"] = fingerprint(json.loads(json.dumps(architecture, default=str)))

    def save(directory: Path) -> None:
        objective.eval()
        pipeline.save_pretrained(directory, safe_serialization=True)

    return train(objective, examples, config, save, inputs, counts)
