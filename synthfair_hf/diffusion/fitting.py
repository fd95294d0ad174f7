"""Fitting a generator to a source: the causal model to its covariates, the network to its images.

    train_generator           from untrained weights, or on from a saved generator
    finetune_generator        a saved one, by an attribute predictor's disagreement with its counterfactuals
    rectify_generator         a saved one by reflow, so that fewer solver steps lose less
    super_resolve_generator   a saved one gets an autoencoder, and with it a higher resolution

All go through the one training loop and save a pipeline with its record; settings are checked before data is read.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..access import RECORD, held_access
from ..arguments import Count, Guidance, checked
from ..causal.scm import StructuralCausalModel
from ..domains.chest_xray.nih_chestxray14 import read_table
from ..domains.chest_xray.scanners import AcquisitionWorld, assign_scanners
from ..domains.findings import is_label
from ..domains.joined import JoinedFolders, SourceFolder
from ..domains.preset import UNCHANGED, NetworkChanges, PredictionType, Preset
from ..domains.registry import WORLD_SEED, open_source
from ..domains.source import Source, access_to
from ..errors import InputError, counted
from ..records import Access, Record, file_sha256, fingerprint, row_generator, strictest
from ..schema import SavedPredictor
from ..training.checkpoints import check_output_dir
from ..training.config import AutoencoderTrainingConfig, FinetuningConfig, TrainingConfig, architecture
from ..training.devices import local_device
from ..training.examples import TrainingExamples
from ..training.loop import train
from ..training.origins import as_recorded, origins_in
from .autoencoders import check_latents, compression, open_autoencoder, revision_of
from .coverage import Coverage
from .denoiser import with_variance
from .generator import load_generator
from .inputs import check_settings, strengths
from .latent_cache import CachedLatents
from .objective import STEPS, CounterfactualObjective, FlowMatchingObjective
from .pipeline import CausalDiffusionPipeline, check_resolution
from .reflow import PairedExamples
from .saved import SavedGenerator, find_generator
from .solver import ReversibleFlowScheduler
from .super_resolution import SuperResolutionObjective, build_autoencoder, check_super_resolution

__all__ = [
    "finetune_generator",
    "fit_scm",
    "rectify_generator",
    "super_resolve_generator",
    "train_generator",
]

NOT_ENCODED = "cache_latents: pixels are not encoded; give vae as well, or leave it out."

CHECKED = 16
"""Training images whose latents are looked at before training."""

LogitMean = Annotated[float, Field(ge=-10, le=10)]
LogitStd = Annotated[float, Field(gt=0, le=10)]

NO_LEVELS: Mapping[str, float] = MappingProxyType({})

GRAIN_LEVELS = {"location": -1.0, "scale": 1.5}
"""Noise levels at which a network that also predicts a variance is trained: a fifth below 0.1, where that acts."""

WIDENED = ("sample", "sample_and_variance")
"""What a start predicts, and what may be asked for beside it."""

GRAIN_SHIFT = 0.4
"""Of the solver's levels for such a network: grain is drawn in the last of them, and the first are smooth."""

KEPT_COUNTS, KEPT_INPUTS = ("mechanisms", "covariate_table"), ("graph", "covariate_table", "predictor")
"""Record entries on the causal model and the predictor that a generator trained further takes over."""


def fit_scm(scm: StructuralCausalModel, table: dict[str, list[Any]], seed: int) -> dict[str, Any]:
    """Fit a causal model on a table of covariates.

    A table with a view but no scanner gets scanners from the acquisition world's structural equation. A model with
    findings that are present or absent, of which there may be many, is fitted by counts, and any other by steps
    (`causal.fitting`): what was fitted before would have other weights.

    Args:
        scm: the causal model, fitted in place.
        table: decoded values by covariate, one per row; None is missing.
        seed: of the fit, and of the scanners.

    Returns:
        By mechanism, the numbers of rows and the held-out negative log likelihood.
    """
    if "scanner" in scm.covariates and "scanner" not in table:
        rng = row_generator(WORLD_SEED, seed)
        table = {**table, "scanner": assign_scanners(table["view"], rng)}
    encoded = scm.covariates.encode(table, "table")
    columns = {name: torch.from_numpy(column) for name, column in encoded.items()}
    return scm.fit(columns, seed, by_counts=any(map(is_label, scm.covariates.walk())))


@checked
def train_generator(
    preset: Preset,
    source_dir: SourceFolder | None,
    config: TrainingConfig,
    resolution: int | None = None,
    covariate_table: str | Path | None = None,
    default_steps: Count | None = None,
    default_guidance_scale: Guidance | dict[str, Guidance] = 1.0,
    pretrained_model_name_or_path: str | Path | None = None,
    access: Access | None = None,
    vae: str | Path | None = None,
    cache_latents: Count | None = None,
    gradient_checkpointing: bool = False,
    logit_mean: LogitMean | None = None,
    logit_std: LogitStd | None = None,
    network: NetworkChanges = UNCHANGED,
) -> Record:
    """Train a generator on the training patients of a folder and save it as a pipeline in `config.output_dir`.

    Args:
        preset: the domain.
        source_dir: the images and their covariates, or several sources of them (`domains.joined`), of which the causal
            model and the network are told the site; None for a domain that generates its own.
        config: settings of the training run.
        resolution: height and width of the images in pixels; by default the preset's, or that of the start.
        covariate_table: label file of ChestX-ray14 on which the causal model is fitted; by default it is fitted on the
            training patients' own covariates.
        default_steps: solver steps saved with the pipeline, 1 or more; by default 10 of midpoint, or the start's.
        default_guidance_scale: strength on changed covariates saved with the pipeline, 0 or more, for all or by name.
        pretrained_model_name_or_path: saved generator from whose weights training starts, of the same covariates and
            resolution; untrained by default. Its calibrated strengths are not taken over.
        access: to the folder, recorded because it limits what may be published of the generator and its images; by
            default what is recorded of it (`domains.source.access_to`).
        vae: autoencoder of diffusers, its directory or name on the Hub, in whose latents the network works; it is saved
            with the pipeline and not trained. By default the network works on pixels, or in the start's autoencoder.
        cache_latents: encode so many augmentations of each image once, in `config.output_dir`, 1 or more; by default
            every image is encoded whenever it is trained on.
        gradient_checkpointing: compute activations anew for the gradient, which takes less memory and more time.
        logit_mean: mean of the logit of the noise levels that are trained on; the higher, the more of training goes to
            the shapes of an image, and the lower, to its texture. By default 0, or -1 for a network that also predicts
            a variance.
        logit_std: standard deviation of that logit, above 0; by default 1, or 1.5 for such a network.
        network: fields of the preset's network that are replaced; latents are not folded further by default.

    Returns:
        The record, as saved beside the pipeline.

    Raises:
        InputError: for settings that are not allowed, an autoencoder or a start that does not fit, or latents that were
            cached of other images, before any image is read.
    """
    check_settings(10 if default_steps is None else default_steps, argument="default_steps")
    strengths(default_guidance_scale, 1.0, preset.covariates)
    check_output_dir(config)
    start = None if pretrained_model_name_or_path is None else find_generator(pretrained_model_name_or_path)
    if resolution is None:
        resolution = preset.resolution if start is None else start.resolution
    widened = start is not None and (start.preset.network.prediction_type, network.prediction_type) == WIDENED
    for argument, given in (("vae", vae), *network.model_dump().items()):
        if start is not None and given is not None and not (widened and argument == "prediction_type"):
            raise InputError(
                f"{argument}: given beside pretrained_model_name_or_path: {pretrained_model_name_or_path}, which has "
                "its own; leave one of them out."
            )
    built = preset.network if start is None else start.preset.network
    if vae is not None:
        # an autoencoder has folded the pixels already
        built = built.model_copy(update={"space_to_depth": 1})
    built = network.of(built)
    preset = preset.model_copy(update={"network": built})
    autoencoder = None if vae is None else open_autoencoder(vae)
    check_resolution(resolution, built, 1 if autoencoder is None else compression(autoencoder))
    if autoencoder is None and start is None and cache_latents is not None:
        raise InputError(NOT_ENCODED)
    if autoencoder is not None and autoencoder.config.in_channels not in (preset.channels, 3):
        raise InputError(
            f"vae: {vae} takes images of {counted(autoencoder.config.in_channels, 'channel')}, and the preset has "
            f"channels: {preset.channels}; give one of as many, or of 3."
        )
    domain = preset

    def check(source: Source) -> Preset:
        """The domain as the source has it, which must be the start's."""
        own = domain.observed_in(source.covariates).model_copy(update={"resolution": resolution})
        if start is not None and start.preset.channels != own.channels:
            raise InputError(
                f"pretrained_model_name_or_path: {pretrained_model_name_or_path} makes images of "
                f"{counted(start.preset.channels, 'channel')}, and the preset has channels: {own.channels}; give a "
                "generator of the same channels, or none."
            )
        if start is not None and (start.preset.covariates, start.resolution) != (own.covariates, resolution):
            raise InputError(
                f"pretrained_model_name_or_path: {pretrained_model_name_or_path} has {_names(start.preset)} at "
                f"{start.resolution} pixels, not {_names(own)} at {resolution}; give a generator of the same "
                "covariates, levels and resolution, or none."
            )
        TrainingExamples(source, "train", resolution, config.seed)
        return own

    if covariate_table is not None and isinstance(source_dir, JoinedFolders):
        raise InputError(
            f"covariate_table: {covariate_table} is of one data set, and tells no site; leave it out with several "
            "sources."
        )
    known = None if covariate_table is None else read_table(covariate_table, preset.covariates)
    source = open_source(source_dir, preset, resolution, check=check)
    preset = check(source)
    examples = TrainingExamples(source, "train", resolution, config.seed)
    counts: dict[str, Any] = {
        "source": source.counts,
        "training_images": len(examples),
        **_coverage(start, source, preset, examples.rows),
    }
    source_access = "open" if source_dir is None else access_to(source, access)
    inputs = {
        "source": source.fingerprint,
        "access": source_access if start is None else strictest(source_access, start.access),
    }
    if covariate_table is None or known is None:
        table = {name: [column[row] for row in examples.rows] for name, column in source.table.items()}
    else:
        columns, counts["covariate_table"] = known
        table = {name: column for name, column in columns.items() if name in preset.covariates}
        inputs["covariate_table"] = file_sha256(Path(covariate_table))

    trained = None if start is None else CausalDiffusionPipeline.load(start.directory)
    if trained is not None:
        autoencoder = trained.vae
        if autoencoder is None and cache_latents is not None:
            raise InputError(NOT_ENCODED)
    if autoencoder is not None:
        autoencoder.to(local_device())
    if autoencoder is not None and vae is not None:
        inputs |= {"vae": revision_of(autoencoder), "access": held_access(inputs["access"], autoencoder)}
        few = [examples[(row, row)]["image"] for row in range(min(len(examples), CHECKED))]
        check_latents(vae, autoencoder, torch.stack(few).to(autoencoder.device))

    torch.manual_seed(config.seed)
    scm = StructuralCausalModel.from_schema(preset.covariates, preset.edges)
    pipeline = CausalDiffusionPipeline.from_preset(preset, scm, resolution, autoencoder)
    if start is None or trained is None:
        pipeline.register_modules(scheduler=_scheduler(preset.network.prediction_type))
    else:
        kept = ("unet", "covariate_encoder", "scheduler", "vae")
        pipeline.register_modules(**{name: trained.components[name] for name in kept})
        if widened:
            scheduler = _scheduler(preset.network.prediction_type)
            pipeline.register_modules(unet=with_variance(pipeline.unet), scheduler=scheduler)
        inputs["initial_weights"] = start.revision
        counts["origins"] = as_recorded(origins_in(start.directory))
        default_steps = trained.config.default_steps if default_steps is None else default_steps
    pipeline.register_to_config(
        default_steps=10 if default_steps is None else default_steps,
        default_guidance_scale=default_guidance_scale,
        planted_scanner=isinstance(source, AcquisitionWorld),
    )
    # What a finished run saved beside the weights: other defaults are another run.
    inputs["graph"] = fingerprint(sorted(preset.edges))
    scales = [one.scale for one in strengths(default_guidance_scale, 1.0, preset.covariates).values()]
    inputs["defaults"] = fingerprint([pipeline.config.default_steps, scales])
    counts["mechanisms"] = fit_scm(scm, table, config.seed)
    if gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
    given = {"location": logit_mean, "scale": logit_std}
    levels = {name: number for name, number in given.items() if number is not None}
    if levels:
        inputs["noise_levels"] = ", ".join(f"{name} {number:g}" for name, number in levels.items())
    objective = _matching(pipeline, levels)
    if autoencoder is None or cache_latents is None:
        return _minimise(objective, examples, config, pipeline, inputs, counts)
    identity = {
        "source": source.fingerprint,
        "vae": revision_of(autoencoder),
        "resolution": resolution,
        "seed": config.seed,
        "covariates": fingerprint(preset.covariates.model_dump(mode="json")),
    }
    inputs["cached_latents"] = str(cache_latents)
    cached = CachedLatents(examples, autoencoder, config.output_dir / "latents", cache_latents, identity)
    return _minimise(objective, cached, config, pipeline, inputs, counts)


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
    pipeline, examples, inputs, counts = _go_on(saved, source_dir, config, access, further=predictor.access)
    inputs["predictor"] = predictor.revision
    counts["origins"] = as_recorded(origins_in(saved.directory), predictor.origins)
    # "leak" is the off-target weight's name in fingerprints recorded so far
    inputs["counterfactual"] = fingerprint({"weight": float(weight), "leak": float(off_target_weight), "steps": STEPS})
    chosen = strengths(
        pipeline.config.default_guidance_scale, pipeline.config.default_intervention_level, pipeline.covariates
    )
    disagreement = attribute_predictor.to(pipeline.device).disagreement
    objective = CounterfactualObjective(
        _matching(pipeline), pipeline.scheduler, disagreement, weight, off_target_weight, chosen
    )
    return _minimise(objective, examples, config, pipeline, inputs, counts)


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
    if images < 1:
        raise InputError(f"images: {images} is not allowed; give a whole number from 1 on.")
    if config.dataloader_num_workers:
        raise InputError("dataloader_num_workers: must be 0 here: one process makes all pairs and keeps them.")
    check_output_dir(config)
    saved = find_generator(pretrained_model_name_or_path)
    pipeline, examples, inputs, counts = _go_on(saved, source_dir, config, access)
    inputs["pairs"] = fingerprint({"images": images, "num_inference_steps": num_inference_steps})
    paired = PairedExamples(examples, pipeline, images, num_inference_steps)
    return _minimise(_matching(pipeline), paired, config, pipeline, inputs, {**counts, "pairs": len(paired)})


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
    pipeline, examples, inputs, counts = _go_on(saved, source_dir, config, access, resolution)
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
    inputs["autoencoder"] = architecture(autoencoder.config)
    pipeline.register_to_config(access=inputs["access"])
    # the network that knows covariates has seen no further images
    counts.pop("coverage", None)
    if saved.coverage is not None:
        counts |= saved.coverage.counts
    save = partial(pipeline.save_pretrained, safe_serialization=True)
    return train(SuperResolutionObjective(autoencoder), examples, config, save, inputs, counts)


def _go_on(
    saved: SavedGenerator,
    source_dir: SourceFolder | None,
    config: TrainingConfig,
    access: Access | None,
    resolution: int | None = None,
    further: Access = "open",
) -> tuple[CausalDiffusionPipeline, TrainingExamples, dict[str, str], dict[str, Any]]:
    """A saved generator, the examples it is to be trained on, and the inputs and counts of its new record.

    `resolution` is that of the examples, the generator's own by default. `access` is that to the source; where it is
    not given, it is that of the generator's record if it was trained on the same images, else unknown. `further` is
    that to whatever else the generator learns from.
    """
    resolution = saved.resolution if resolution is None else resolution

    def check(source: Source) -> None:
        """The source must have what the generator was trained on."""
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
        TrainingExamples(source, "train", resolution, config.seed)

    source = open_source(source_dir, saved.preset, resolution, check=check)
    check(source)
    examples = TrainingExamples(source, "train", resolution, config.seed)
    counts = {
        "source": source.counts,
        "training_images": len(examples),
        "origins": as_recorded(origins_in(saved.directory)),
        **_coverage(saved, source, saved.preset, examples.rows),
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
    return load_generator(saved), examples, inputs, counts


def _coverage(start: SavedGenerator | None, source: Source, preset: Preset, rows: list[int]) -> dict[str, Any]:
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


def _scheduler(prediction_type: PredictionType) -> ReversibleFlowScheduler:
    """The solver of a network that is trained from here on: at equal cost midpoint is nearer than Euler."""
    return ReversibleFlowScheduler(
        base="midpoint", shift=GRAIN_SHIFT if prediction_type == "sample_and_variance" else 1.0
    )


def _matching(pipeline: CausalDiffusionPipeline, levels: Mapping[str, float] = NO_LEVELS) -> FlowMatchingObjective:
    """The objective of a pipeline's networks; noise levels that are not given are those of its kind of prediction."""
    grain = pipeline.preset.network.prediction_type == "sample_and_variance"
    return FlowMatchingObjective(
        pipeline.unet,
        pipeline.covariate_encoder,
        pipeline.config.space_to_depth,
        pipeline.vae,
        **{**(GRAIN_LEVELS if grain else {}), **levels},
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
    pipeline.register_to_config(access=inputs["access"])
    save = partial(pipeline.save_pretrained, safe_serialization=True)
    return train(objective, examples, config, save, inputs, counts)


def _names(preset: Preset) -> str:
    return ", ".join(preset.covariates.names)
