"""Training of a generator on a source: the causal model on its covariates, the network on its images.

The network starts untrained, or from a saved generator's weights, whose image that it predicts may be widened by a
variance. Settings are checked before data is read; what trains a saved generator further is in `further_training`.
"""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from ..access import held_access
from ..arguments import Count, Guidance, checked
from ..causal.scm import StructuralCausalModel
from ..domains.chest_xray.nih_chestxray14 import read_table
from ..domains.chest_xray.scanners import AcquisitionWorld, assign_scanners
from ..domains.findings import is_label
from ..domains.joined import JoinedFolders, SourceFolder
from ..domains.preset import UNCHANGED, Network, NetworkChanges, Preset
from ..domains.registry import WORLD_SEED, open_source
from ..domains.source import Source, access_to
from ..errors import InputError, counted
from ..records import Access, Record, file_sha256, fingerprint, row_generator, strictest
from ..training.checkpoints import check_output_dir
from ..training.config import TrainingConfig
from ..training.devices import local_device
from ..training.examples import TrainingExamples
from ..training.origins import as_recorded, origins_in
from .autoencoders import Autoencoder, check_latents, compression, open_autoencoder, revision_of
from .inputs import check_settings, strengths
from .latent_cache import CachedLatents
from .pipeline import CausalDiffusionPipeline, check_resolution
from .solver import ReversibleFlowScheduler
from .start import Start
from .training_run import TrainingRun, coverage_counts

__all__ = ["fit_scm", "train_generator"]

NOT_ENCODED = "cache_latents: pixels are not encoded; give vae as well, or leave it out."

CHECKED = 16
"""Training images whose latents are looked at before training."""

LogitMean = Annotated[float, Field(ge=-10, le=10)]
LogitStd = Annotated[float, Field(gt=0, le=10)]

GRAIN_SHIFT = 0.4
"""Of the solver's levels for a network that predicts a variance: grain is drawn in the last, the first are smooth."""


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
    start = None
    if pretrained_model_name_or_path is not None:
        start = Start.find(pretrained_model_name_or_path, vae, network)
    if resolution is None:
        resolution = preset.resolution if start is None else start.saved.resolution
    preset = preset.model_copy(update={"network": _network(preset, network, start, vae)})
    autoencoder = _autoencoder(vae, preset, resolution)
    if cache_latents is not None and autoencoder is None and start is None:
        raise InputError(NOT_ENCODED)
    labels = None if covariate_table is None else _labels(covariate_table, source_dir, preset)
    examples_of = partial(_examples, preset=preset, resolution=resolution, start=start, seed=config.seed)
    source = open_source(source_dir, preset, resolution, check=examples_of)
    preset, examples = examples_of(source)

    accesses: list[Access] = ["open" if source_dir is None else access_to(source, access)]
    accesses += [] if start is None else [start.saved.access]
    inputs = {"source": source.fingerprint, "access": strictest(*accesses)}
    counts: dict[str, Any] = {
        "source": source.counts,
        "training_images": len(examples),
        **coverage_counts(None if start is None else start.saved, source, preset, examples.rows),
    }
    if labels is None:
        table = {name: [column[row] for row in examples.rows] for name, column in source.table.items()}
    else:
        columns, counts["covariate_table"], inputs["covariate_table"] = labels
        table = {name: column for name, column in columns.items() if name in preset.covariates}

    trained = None if start is None else CausalDiffusionPipeline.load(start.saved.directory)
    if trained is not None:
        autoencoder = trained.vae
    if autoencoder is not None:
        autoencoder.to(local_device())
    elif cache_latents is not None:
        raise InputError(NOT_ENCODED)
    if autoencoder is not None and vae is not None:
        inputs |= {"vae": revision_of(autoencoder), "access": held_access(inputs["access"], autoencoder)}
        first = [examples[(row, row)]["image"] for row in range(min(len(examples), CHECKED))]
        check_latents(vae, autoencoder, torch.stack(first).to(autoencoder.device))

    torch.manual_seed(config.seed)
    pipeline = _untrained(preset, resolution, autoencoder)
    if start is not None and trained is not None:
        start.continue_in(pipeline, trained)
        inputs["initial_weights"] = start.saved.revision
        counts["origins"] = as_recorded(origins_in(start.saved.directory))
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
    counts["mechanisms"] = fit_scm(pipeline.scm, table, config.seed)
    if gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
    given = {"location": logit_mean, "scale": logit_std}
    levels = {name: number for name, number in given.items() if number is not None}
    if levels:
        inputs["noise_levels"] = ", ".join(f"{name} {number}" for name, number in levels.items())
    run = TrainingRun(pipeline, examples, config, inputs, counts)
    objective = run.matching(**levels)
    if autoencoder is None or cache_latents is None:
        return run.train_networks(objective)
    inputs["cached_latents"] = str(cache_latents)
    return run.train_networks(objective, _cached(run, autoencoder, cache_latents))


def _network(preset: Preset, changes: NetworkChanges, start: Start | None, vae: str | Path | None) -> Network:
    """The network that is trained: the start's, or the preset's, with these changes."""
    network = preset.network if start is None else start.saved.preset.network
    if vae is not None:
        # an autoencoder has folded the pixels already
        network = network.model_copy(update={"space_to_depth": 1})
    return changes.of(network)


def _autoencoder(vae: str | Path | None, preset: Preset, resolution: int) -> Autoencoder | None:
    """The autoencoder that is given; InputError where it, or the network, does not fit images of this resolution."""
    autoencoder = None if vae is None else open_autoencoder(vae)
    check_resolution(resolution, preset.network, 1 if autoencoder is None else compression(autoencoder))
    if autoencoder is not None and autoencoder.config.in_channels not in (preset.channels, 3):
        raise InputError(
            f"vae: {vae} takes images of {counted(autoencoder.config.in_channels, 'channel')}, and the preset has "
            f"channels: {preset.channels}; give one of as many, or of 3."
        )
    return autoencoder


def _labels(
    covariate_table: str | Path, source_dir: SourceFolder | None, preset: Preset
) -> tuple[dict[str, list[Any]], dict[str, Any], str]:
    """The columns of a label file, its counts and its sha256."""
    if isinstance(source_dir, JoinedFolders):
        raise InputError(
            f"covariate_table: {covariate_table} is of one data set, and tells no site; leave it out with several "
            "sources."
        )
    return *read_table(covariate_table, preset.covariates), file_sha256(Path(covariate_table))


def _examples(
    source: Source, preset: Preset, resolution: int, start: Start | None, seed: int
) -> tuple[Preset, TrainingExamples]:
    """The domain as a source has it, which must be the start's, and the source's training images."""
    own = preset.observed_in(source.covariates).model_copy(update={"resolution": resolution})
    if start is not None:
        start.check(own)
    return own, TrainingExamples(source, "train", resolution, seed)


def _untrained(preset: Preset, resolution: int, autoencoder: Autoencoder | None) -> CausalDiffusionPipeline:
    """A pipeline with an untrained network and causal model."""
    scm = StructuralCausalModel.from_schema(preset.covariates, preset.edges)
    pipeline = CausalDiffusionPipeline.from_preset(preset, scm, resolution, autoencoder)
    shift = GRAIN_SHIFT if preset.network.prediction_type == "sample_and_variance" else 1.0
    # at equal cost midpoint is nearer than Euler
    pipeline.register_modules(scheduler=ReversibleFlowScheduler(base="midpoint", shift=shift))
    return pipeline


def _cached(run: TrainingRun, autoencoder: Autoencoder, versions: int) -> CachedLatents:
    """Latents of the training images, which depend on these settings."""
    examples = run.examples
    identity = {
        "source": examples.source.fingerprint,
        "vae": revision_of(autoencoder),
        "resolution": examples.resolution,
        "seed": examples.seed,
        "covariates": fingerprint(run.pipeline.preset.covariates.model_dump(mode="json")),
    }
    return CachedLatents(examples, autoencoder, run.config.output_dir / "latents", versions, identity)


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
