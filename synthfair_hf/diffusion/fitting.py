"""Fitting a generator to a source: the causal model to its covariates, the network to its images.

    train_generator        from the start, or on from a saved one
    finetune_generator     a saved one, so that predictors read from its counterfactuals what was asked for
    straighten_generator   a saved one, so that fewer solver steps lose less
    enlarge_generator      a saved one gets an autoencoder, and with it more pixels

All go through the one training loop and save a pipeline with its record; settings are checked before data is read.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..causal.scm import StructuralCausalModel
from ..domains.chest_xray.nih_chestxray14 import read_table
from ..domains.chest_xray.scanners import AcquisitionWorld, assign_scanners
from ..domains.preset import Preset
from ..domains.registry import WORLD_SEED, open_source
from ..errors import InputError
from ..records import Access, Record, file_sha256, fingerprint, row_generator, strictest
from ..schema import SavedPredictor
from ..training.checkpoints import check_output_dir
from ..training.config import AutoencoderTrainingConfig, FinetuningConfig, TrainingConfig, architecture
from ..training.examples import TrainingExamples
from ..training.loop import train
from .enlargement import EnlargementObjective, build_autoencoder, check_enlargement
from .generator import load_generator
from .inputs import check_settings, strengths
from .objective import STEPS, CounterfactualObjective, FlowMatchingObjective
from .pipeline import CausalDiffusionPipeline, check_resolution
from .reflow import PairedExamples
from .saved import SavedGenerator, find_generator
from .solver import ReversibleFlowScheduler

__all__ = [
    "enlarge_generator",
    "finetune_generator",
    "fit_scm",
    "straighten_generator",
    "train_generator",
]

KEPT_COUNTS, KEPT_INPUTS = ("mechanisms", "covariate_table"), ("graph", "covariate_table", "predictor")
"""What a record says of the causal model, and of who judged: it holds of what is trained on from there."""


def fit_scm(scm: StructuralCausalModel, table: dict[str, list[Any]], seed: int) -> dict[str, Any]:
    """Fit a causal model on columns of decoded values; returns what was fitted on how many rows.

    A table with a view but no scanner gets scanners from the acquisition world's structural equation.
    """
    if "scanner" in scm.covariates and "scanner" not in table:
        rng = row_generator(WORLD_SEED, seed)
        table = {**table, "scanner": assign_scanners(table["view"], rng)}
    encoded = scm.covariates.encode(table, "table")
    return scm.fit({name: torch.from_numpy(column) for name, column in encoded.items()}, seed)


def train_generator(
    preset: Preset,
    source_dir: str | Path | None,
    config: TrainingConfig,
    resolution: int | None = None,
    covariate_table: str | Path | None = None,
    default_steps: int | None = None,
    default_guidance_scale: float | dict[str, float] = 1.0,
    pretrained_model_name_or_path: str | Path | None = None,
    access: Access = "unknown",
) -> Record:
    """Train a generator on the training patients of a folder and save it as a pipeline in `config.output_dir`.

    `covariate_table` is the label file of ChestX-ray14, on which the causal model is fitted; without it the model is
    fitted on the training patients' own covariates. Defaults are saved with the pipeline; steps are 10 of midpoint, or
    those of the start. The network starts untrained, or from the weights of `pretrained_model_name_or_path`, which must
    know the same covariates at the same resolution; strengths calibrated for these are not taken over. `access` to the
    folder is recorded, for what may be published of the generator and its images.
    """
    check_settings(10 if default_steps is None else default_steps, argument="default_steps")
    strengths(default_guidance_scale, 1.0, preset.covariates)
    check_output_dir(config)
    start = None if pretrained_model_name_or_path is None else find_generator(pretrained_model_name_or_path)
    if resolution is None:
        resolution = preset.resolution if start is None else start.resolution
    if start is not None:
        preset = preset.model_copy(update={"network": start.preset.network})
    check_resolution(resolution, preset.network)
    source = open_source(source_dir, preset, resolution)
    preset = preset.restrict(source.covariates.names).model_copy(update={"resolution": resolution})
    if start is not None and (start.preset.covariates, start.resolution) != (preset.covariates, resolution):
        raise InputError(
            f"pretrained_model_name_or_path: {pretrained_model_name_or_path} knows {_knowledge(start.preset)} at "
            f"{start.resolution} pixels, not {_knowledge(preset)} at {resolution}; give a generator of the same "
            "covariates, levels and resolution, or none."
        )
    examples = TrainingExamples(source, "train", resolution, config.seed)
    counts: dict[str, Any] = {"source": source.counts, "training_images": len(examples)}
    known = "open" if source_dir is None else access
    inputs = {
        "source": source.fingerprint,
        "access": known if start is None else strictest(known, start.access),
    }
    if covariate_table is None:
        table = {name: [column[row] for row in examples.rows] for name, column in source.table.items()}
    else:
        table, counts["covariate_table"] = read_table(covariate_table, preset.covariates)
        inputs["covariate_table"] = file_sha256(Path(covariate_table))

    torch.manual_seed(config.seed)
    scm = StructuralCausalModel.from_schema(preset.covariates, preset.edges)
    pipeline = CausalDiffusionPipeline.from_preset(preset, scm, resolution)
    if start is None:
        # at equal cost nearer than Euler's (`diffusion.solver`)
        pipeline.register_modules(scheduler=ReversibleFlowScheduler(base="midpoint"))
    else:
        trained = CausalDiffusionPipeline.load(start.directory)
        kept = ("unet", "covariate_encoder", "scheduler", "vae")
        pipeline.register_modules(**{name: trained.components[name] for name in kept})
        inputs["initial_weights"] = start.revision
        default_steps = trained.config.default_steps if default_steps is None else default_steps
    pipeline.register_to_config(
        default_steps=10 if default_steps is None else default_steps,
        default_guidance_scale=default_guidance_scale,
        planted_scanner=isinstance(source, AcquisitionWorld),
    )
    # What a finished run saved beside the weights: another wish is another run.
    inputs["graph"] = fingerprint(sorted(preset.edges))
    scales = [one.scale for one in strengths(default_guidance_scale, 1.0, preset.covariates).values()]
    inputs["defaults"] = fingerprint([pipeline.config.default_steps, scales])
    counts["mechanisms"] = fit_scm(scm, table, config.seed)
    return _minimise(_matching(pipeline), examples, config, pipeline, inputs, counts)


def finetune_generator(
    pretrained_model_name_or_path: str | Path,
    predictor: SavedPredictor,
    source_dir: str | Path | None,
    config: FinetuningConfig,
    weight: float = 0.1,
    leak: float = 1.0,
    access: Access | None = None,
) -> Record:
    """Train a saved generator on, with a predictor that judges one counterfactual of each image.

    `weight` and `leak` are those of `diffusion.objective`. The predictor must have seen training patients alone;
    measure the result by another one. Causal model, default steps and strengths are taken over.
    """
    for argument, number in (("weight", weight), ("leak", leak)):
        if not 0 <= number < float("inf"):
            raise InputError(f"{argument}: {number:g} is not allowed; give a number from 0 on.")
    if config.train_batch_size < 2:
        raise InputError("train_batch_size: 1 is not allowed; an image takes another's value, so give 2 or more.")
    check_output_dir(config)
    saved = find_generator(pretrained_model_name_or_path)
    reader = predictor.load(saved.preset.covariates)
    # Two blank images: of one that is reduced to a single place, group norm can tell nothing.
    reader.features(torch.zeros(2, 1, saved.resolution, saved.resolution))
    pipeline, examples, inputs, counts = _go_on(saved, source_dir, config, access)
    inputs["predictor"] = predictor.revision
    inputs["counterfactual"] = fingerprint({"weight": float(weight), "leak": float(leak), "steps": STEPS})
    chosen = strengths(
        pipeline.config.default_guidance_scale, pipeline.config.default_intervention_level, pipeline.covariates
    )
    judge = reader.to(pipeline.device).disagreement
    objective = CounterfactualObjective(_matching(pipeline), pipeline.scheduler, judge, weight, leak, chosen)
    return _minimise(objective, examples, config, pipeline, inputs, counts)


def straighten_generator(
    pretrained_model_name_or_path: str | Path,
    source_dir: str | Path | None,
    config: FinetuningConfig,
    images: int = 2048,
    num_inference_steps: int = 10,
    access: Access | None = None,
) -> Record:
    """Train a saved generator on pairs (`reflow`) of so many training images, made in so many midpoint steps.

    Paths between image and noise are straighter than those it learned first, so that few steps lose less. Causal model,
    default steps and strengths are taken over; counterfactuals are paired at scale and level 1.
    """
    check_settings(num_inference_steps, argument="num_inference_steps")
    if images < 1:
        raise InputError(f"images: {images} is not allowed; give a whole number from 1 on.")
    if config.dataloader_num_workers:
        raise InputError("dataloader_num_workers: must be 0 here: one process makes all pairs and remembers them.")
    check_output_dir(config)
    saved = find_generator(pretrained_model_name_or_path)
    pipeline, examples, inputs, counts = _go_on(saved, source_dir, config, access)
    inputs["pairs"] = fingerprint({"images": images, "num_inference_steps": num_inference_steps})
    paired = PairedExamples(examples, pipeline, images, num_inference_steps)
    return _minimise(_matching(pipeline), paired, config, pipeline, inputs, {**counts, "pairs": len(paired)})


def enlarge_generator(
    pretrained_model_name_or_path: str | Path,
    source_dir: str | Path | None,
    config: AutoencoderTrainingConfig,
    resolution: int,
    access: Access | None = None,
) -> Record:
    """Train an autoencoder whose latents are a saved generator's images, and save both as one of more pixels.

    `resolution` is twice or four times the generator's own. Its networks, causal model, default steps and strengths are
    taken over as they are.
    """
    saved = find_generator(pretrained_model_name_or_path)
    check_enlargement(resolution, saved.resolution)
    check_output_dir(config)
    pipeline, examples, inputs, counts = _go_on(saved, source_dir, config, access, resolution)
    if pipeline.vae is not None:
        raise InputError(
            f"pretrained_model_name_or_path: {pretrained_model_name_or_path} has an autoencoder already; give the "
            "generator it was made of."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        autoencoder = build_autoencoder(resolution, saved.resolution, pipeline.image_shape(1)[1])
    pipeline.register_modules(vae=autoencoder)
    preset = saved.preset.model_copy(update={"resolution": resolution})
    pipeline.register_to_config(resolution=resolution, preset=preset.model_dump(mode="json"))
    inputs["autoencoder"] = architecture(autoencoder.config)
    save = partial(pipeline.save_pretrained, safe_serialization=True)
    return train(EnlargementObjective(autoencoder), examples, config, save, inputs, counts)


def _go_on(
    saved: SavedGenerator,
    source_dir: str | Path | None,
    config: TrainingConfig,
    access: Access | None,
    resolution: int | None = None,
) -> tuple[CausalDiffusionPipeline, TrainingExamples, dict[str, str], dict[str, Any]]:
    """A saved generator, the examples it is to be trained on, at its own resolution by default, and what its record
    says of both.

    `access` is that to the source. Of films other than those that the start's record names nobody has said it, so that
    it is unknown where it is not given.
    """
    resolution = saved.resolution if resolution is None else resolution
    source = open_source(source_dir, saved.preset, resolution)
    for variable in saved.preset.covariates.walk():
        if variable.name not in source.covariates or source.covariates[variable.name] != variable:
            raise InputError(
                f"source_dir: {source.name} does not know {variable.name!r} as this generator does; it knows "
                f"{', '.join(source.covariates.names)}; give the source it was trained on."
            )
    if isinstance(source, AcquisitionWorld) and not saved.planted_scanner:
        raise InputError(
            f"source_dir: {source_dir} has no column 'scanner' in metadata.csv, but this generator was trained on "
            "films whose scanner is known; add it."
        )
    examples = TrainingExamples(source, "train", resolution, config.seed)
    counts = {"source": source.counts, "training_images": len(examples)}
    inputs = {"source": source.fingerprint, "initial_weights": saved.revision}
    known: Access = "open" if source_dir is None else access or "unknown"
    if (saved.directory / "record.json").exists():
        record = Record.read(saved.directory / "record.json")
        if access is None and record.inputs.get("source") == source.fingerprint:
            known = saved.access
        counts |= {name: record.counts[name] for name in KEPT_COUNTS if name in record.counts}
        inputs |= {name: record.inputs[name] for name in KEPT_INPUTS if name in record.inputs}
    inputs["access"] = strictest(saved.access, known)
    return load_generator(saved), examples, inputs, counts


def _matching(pipeline: CausalDiffusionPipeline) -> FlowMatchingObjective:
    return FlowMatchingObjective(
        pipeline.unet, pipeline.covariate_encoder, pipeline.config.space_to_depth, pipeline.vae
    )


def _minimise(
    objective: nn.Module,
    examples: Dataset[dict[str, Tensor]],
    config: TrainingConfig,
    pipeline: CausalDiffusionPipeline,
    inputs: dict[str, str],
    counts: dict[str, Any],
) -> Record:
    """Run the training loop and save the pipeline whose networks the objective trains."""
    inputs = {**inputs, "architecture": architecture(pipeline.unet.config, pipeline.covariate_encoder.config)}
    save = partial(pipeline.save_pretrained, safe_serialization=True)
    return train(objective, examples, config, save, inputs, counts)


def _knowledge(preset: Preset) -> str:
    return ", ".join(preset.covariates.names)
