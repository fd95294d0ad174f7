"""Further training of a saved generator, each on the images that it was trained on.

    finetune_generator        by an attribute predictor's disagreement with its counterfactuals
    rectify_generator         by reflow, so that fewer solver steps lose less
    super_resolve_generator   of an autoencoder beside its networks, and with it a higher resolution

Causal model, default steps and strengths are taken over; settings are checked before data is read.
"""

from pathlib import Path

import torch

from ..access import RECORD
from ..arguments import Count, checked
from ..domains.chest_xray.scanners import AcquisitionWorld
from ..domains.joined import SourceFolder
from ..domains.registry import open_source
from ..domains.source import Source, access_to
from ..errors import InputError
from ..records import Access, Record, fingerprint, strictest
from ..schema import SavedPredictor
from ..training.checkpoints import check_output_dir
from ..training.config import AutoencoderTrainingConfig, FinetuningConfig, TrainingConfig, architecture
from ..training.examples import TrainingExamples
from ..training.origins import as_recorded, origins_in
from .generator import load_generator
from .inputs import check_settings, strengths
from .objective import STEPS, CounterfactualObjective
from .reflow import PairedExamples
from .saved import SavedGenerator, find_generator
from .super_resolution import SuperResolutionObjective, build_autoencoder, check_super_resolution
from .training_run import TrainingRun, coverage_counts

__all__ = ["finetune_generator", "rectify_generator", "super_resolve_generator"]

KEPT_COUNTS, KEPT_INPUTS = ("mechanisms", "covariate_table"), ("graph", "covariate_table", "predictor")
"""Record entries on the causal model and the predictor that a generator trained further takes over."""


@checked
def finetune_generator(
    pretrained_model_name_or_path: str | Path,
    predictor: SavedPredictor,
    source_dir: SourceFolder | None,
    config: FinetuningConfig,
    weight: float = 0.1,
    off_target_weight: float = 1.0,
    access: Access | None = None,
) -> Record:
    """Fine-tune a saved generator by a predictor's disagreement with one counterfactual of each image.

    Causal model, default steps and strengths are taken over.

    Args:
        pretrained_model_name_or_path: the saved generator.
        predictor: trained on training patients alone; measure the result by another one.
        source_dir: the images the generator was trained on; None for a domain that generates its own.
        config: settings of the training run; `train_batch_size` from 2 on.
        weight: of the predictor's disagreement against flow matching (`diffusion.objective`), 0 or more.
        off_target_weight: of the disagreement on covariates that were not changed, 0 or more.
        access: to the source; by default as the generator's record has it, else unknown.

    Returns:
        The record, as saved beside the pipeline.

    Raises:
        InputError: for settings that are not allowed, or a source of other covariates, before any image is read.
    """
    for argument, number in (("weight", weight), ("off_target_weight", off_target_weight)):
        if not 0 <= number < float("inf"):
            raise InputError(f"{argument}: {number:g} is not allowed; give a number from 0 on.")
    if config.train_batch_size < 2:
        raise InputError(
            "train_batch_size: 1 is not allowed; an image takes its new value from another, so give 2 or more."
        )
    check_output_dir(config)
    saved = find_generator(pretrained_model_name_or_path)
    attribute_predictor = predictor.load(saved.preset.covariates)
    # Two blank images, because group norm is undefined for one that is reduced to a single place.
    attribute_predictor.features(torch.zeros(2, saved.preset.channels, saved.resolution, saved.resolution))
    run = _go_on(saved, source_dir, config, access, further=predictor.access)
    run.inputs["predictor"] = predictor.revision
    run.counts["origins"] = as_recorded(origins_in(saved.directory), predictor.origins)
    # "leak" is the off-target weight's name in fingerprints recorded so far
    weights = {"weight": float(weight), "leak": float(off_target_weight), "steps": STEPS}
    run.inputs["counterfactual"] = fingerprint(weights)
    pipeline = run.pipeline
    chosen = strengths(
        pipeline.config.default_guidance_scale, pipeline.config.default_intervention_level, pipeline.covariates
    )
    disagreement = attribute_predictor.to(pipeline.device).disagreement
    matching = run.matching()
    return run.train_networks(
        CounterfactualObjective(matching, pipeline.scheduler, disagreement, weight, off_target_weight, chosen)
    )


@checked
def rectify_generator(
    pretrained_model_name_or_path: str | Path,
    source_dir: SourceFolder | None,
    config: FinetuningConfig,
    images: Count = 2048,
    num_inference_steps: int = 10,
    access: Access | None = None,
) -> Record:
    """Train a saved generator on its own pairs of image and noise (`reflow`).

    Paths between image and noise become straighter than those it learned first, so that few steps lose less. Causal
    model, default steps and strengths are taken over; counterfactuals are paired at scale and level 1.

    Args:
        pretrained_model_name_or_path: the saved generator.
        source_dir: the images the generator was trained on; None for a domain that generates its own.
        config: settings of the training run, with no data loader workers.
        images: training images, each of three pairs, 1 or more.
        num_inference_steps: midpoint steps that make a pair, 1 or more.
        access: to the source; by default as the generator's record has it, else unknown.

    Returns:
        The record, as saved beside the pipeline.

    Raises:
        InputError: for settings that are not allowed, or a source of other covariates, before any image is read.
    """
    check_settings(num_inference_steps, argument="num_inference_steps")
    if config.dataloader_num_workers:
        raise InputError("dataloader_num_workers: must be 0 here: one process makes all pairs and keeps them.")
    check_output_dir(config)
    saved = find_generator(pretrained_model_name_or_path)
    run = _go_on(saved, source_dir, config, access)
    run.inputs["pairs"] = fingerprint({"images": images, "num_inference_steps": num_inference_steps})
    # not the networks that are trained: those of a run that is resumed are not the saved ones any more
    paired = PairedExamples(run.examples, load_generator(saved), images, num_inference_steps)
    run.counts["pairs"] = len(paired)
    return run.train_networks(run.matching(), paired)


@checked
def super_resolve_generator(
    pretrained_model_name_or_path: str | Path,
    source_dir: SourceFolder | None,
    config: AutoencoderTrainingConfig,
    resolution: int,
    access: Access | None = None,
) -> Record:
    """Train an autoencoder whose latents are a saved generator's images, and save both as one pipeline.

    The generator's networks, causal model, default steps and strengths are taken over as they are.

    Args:
        pretrained_model_name_or_path: the saved generator, without an autoencoder.
        source_dir: images of the new resolution; None for a domain that generates its own.
        config: settings of the training run.
        resolution: height and width in pixels, twice or four times the generator's own.
        access: to the source; by default as the generator's record has it, else unknown.

    Returns:
        The record, as saved beside the pipeline.

    Raises:
        InputError: for a resolution or settings that are not allowed, a source of other covariates, or a generator that
            has an autoencoder already.
    """
    saved = find_generator(pretrained_model_name_or_path)
    check_super_resolution(resolution, saved.resolution)
    check_output_dir(config)
    run = _go_on(saved, source_dir, config, access, resolution)
    pipeline = run.pipeline
    if pipeline.vae is not None:
        raise InputError(
            f"pretrained_model_name_or_path: {pretrained_model_name_or_path} has an autoencoder already; give the "
            "generator it was made from."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        autoencoder = build_autoencoder(resolution, saved.resolution, pipeline.image_shape(1)[1])
    pipeline.register_modules(vae=autoencoder)
    preset = saved.preset.model_copy(update={"resolution": resolution})
    pipeline.register_to_config(resolution=resolution, preset=preset.model_dump(mode="json"))
    run.inputs["autoencoder"] = architecture(autoencoder.config)
    # the network that knows covariates has seen no further images
    run.counts.pop("coverage", None)
    if saved.coverage is not None:
        run.counts |= saved.coverage.counts
    return run.train(SuperResolutionObjective(autoencoder))


def _go_on(
    saved: SavedGenerator,
    source_dir: SourceFolder | None,
    config: TrainingConfig,
    access: Access | None,
    resolution: int | None = None,
    further: Access = "open",
) -> TrainingRun:
    """The run that trains a saved generator on these examples, with the inputs and counts of its new record.

    `resolution` is that of the examples, the generator's own by default. `access` is that to the source; where it is
    not given, it is that of the generator's record if it was trained on the same images, else unknown. `further` is
    that to whatever else the generator learns from.
    """
    resolution = saved.resolution if resolution is None else resolution

    def examples_of(source: Source) -> TrainingExamples:
        """The training images of a source, which must have what the generator was trained on."""
        for variable in saved.preset.covariates.walk():
            if variable.name not in source.covariates or source.covariates[variable.name] != variable:
                raise InputError(
                    f"source_dir: {source.name} does not have {variable.name!r} as this generator does; it has "
                    f"{', '.join(source.covariates.names)}; give the source it was trained on."
                )
        if isinstance(source, AcquisitionWorld) and not saved.planted_scanner:
            raise InputError(
                f"source_dir: {source_dir} has no column 'scanner' in metadata.csv, but this generator was trained on "
                "radiographs whose scanner is recorded; add it."
            )
        return TrainingExamples(source, "train", resolution, config.seed)

    source = open_source(source_dir, saved.preset, resolution, check=examples_of)
    examples = examples_of(source)
    counts = {
        "source": source.counts,
        "training_images": len(examples),
        "origins": as_recorded(origins_in(saved.directory)),
        **coverage_counts(saved, source, saved.preset, examples.rows),
    }
    inputs = {"source": source.fingerprint, "initial_weights": saved.revision}
    source_access: Access = "open" if source_dir is None else access_to(source, access)
    if (saved.directory / RECORD).exists():
        record = Record.read(saved.directory / RECORD)
        if access is None and record.inputs.get("source") == source.fingerprint:
            source_access = saved.access
        counts |= {name: record.counts[name] for name in KEPT_COUNTS if name in record.counts}
        inputs |= {name: record.inputs[name] for name in KEPT_INPUTS if name in record.inputs}
    inputs["access"] = strictest(saved.access, source_access, further)
    return TrainingRun(load_generator(saved), examples, config, inputs, counts)
