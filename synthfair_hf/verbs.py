"""The verbs of the command line as public functions: each composes rooms that do not know each other."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import load_dataset
from PIL import Image

from .cards import write_dataset_card
from .causal.scm import StructuralCausalModel
from .diffusion.inputs import check_settings, encode_covariates, encode_interventions, strengths
from .diffusion.objective import FlowMatchingObjective
from .diffusion.pipeline import CausalDiffusionPipeline, check_resolution
from .errors import InputError
from .generate.plan import SCM, GenerationPlan
from .generate.run import check, generate
from .generate.store import verify
from .presets import MORPHOMNIST, PHANTOM, Preset
from .records import Record, file_sha256, fingerprint, library_versions, write_atomically
from .report import difference_png, write_report
from .saved import DEFAULT_GENERATOR, SavedGenerator, find_generator, load_generator
from .simulators.acquisition import AcquisitionWorld, acquire, assign_scanners, expose
from .simulators.phantom import SUBJECTS, PhantomSource
from .sources.imagefolder import ImageFolder
from .sources.morphomnist import MorphoMNIST
from .sources.nih_chestxray14 import read_table
from .sources.source import Source, read_image
from .training import TrainingConfig, TrainingExamples, check_output_dir, train

__all__ = [
    "DEFAULT_GENERATOR",
    "WORLD_SEED",
    "counterfactual",
    "demo",
    "find_generator",
    "fit_scm",
    "generate_dataset",
    "load_generator",
    "open_source",
    "train_generator",
]

READERS: dict[str, Callable[[str | Path, Preset, int], Source]] = {MORPHOMNIST.name: MorphoMNIST}
"""What reads a domain's folder where it is not images with a metadata.csv."""

WORLD_SEED = 0
"""Seed of the planted acquisition and of the phantom: one fixed world, seen alike by every run."""


def open_source(directory: str | Path | None, preset: Preset, resolution: int) -> Source:
    """The images of a folder, with scanners planted where the preset has a scanner and the folder does not.

    The phantom's images are drawn; it alone needs no folder.
    """
    if preset.name == PHANTOM.name:
        if directory is not None:
            raise InputError(f"--source: {directory} is not for the phantom, whose images are drawn; leave it out.")
        return PhantomSource(SUBJECTS, WORLD_SEED)
    if directory is None:
        raise InputError(f"--source: not given; {preset.name} needs the folder of its images.")
    reader = READERS.get(preset.name, ImageFolder)
    source: Source = reader(directory, preset, resolution)
    if "scanner" in preset.covariates and "scanner" not in source.covariates:
        if "view" not in source.covariates:
            raise InputError(f"{directory}: no column 'view' in metadata.csv; scanners are assigned by view; add it.")
        source = AcquisitionWorld(source, WORLD_SEED, preset)
    return source


def fit_scm(scm: StructuralCausalModel, table: dict[str, list[Any]], seed: int) -> dict[str, Any]:
    """Fit a causal model on columns of decoded values; returns what was fitted on how many rows.

    A table with a view but no scanner gets scanners from the acquisition world's structural equation.
    """
    if "scanner" in scm.covariates and "scanner" not in table:
        rng = np.random.default_rng([WORLD_SEED, seed])
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
) -> Record:
    """Train a generator on the training patients of a folder and save it as a pipeline in `config.output_dir`.

    `covariate_table` is the label file of ChestX-ray14, on which the causal model is fitted; without it the model is
    fitted on the training patients' own covariates. Defaults are saved with the pipeline; steps are 10, or those of the
    start. The network starts untrained, or from the weights of `pretrained_model_name_or_path`, which must know the
    same covariates at the same resolution; strengths calibrated for these are not taken over.
    """
    check_settings(10 if default_steps is None else default_steps)
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
            f"--pretrained_model_name_or_path: {pretrained_model_name_or_path} knows {_knowledge(start.preset)} at "
            f"{start.resolution} pixels, not {_knowledge(preset)} at {resolution}; give a generator of the same "
            "covariates, levels and resolution, or none."
        )
    examples = TrainingExamples(source, "train", resolution, config.seed)
    counts: dict[str, Any] = {"source": source.counts, "training_images": len(examples)}
    inputs = {"source": source.fingerprint}
    if covariate_table is None:
        table = {name: [column[row] for row in examples.rows] for name, column in source.table.items()}
    else:
        table, counts["covariate_table"] = read_table(covariate_table, preset.covariates)
        inputs["covariate_table"] = file_sha256(Path(covariate_table))

    torch.manual_seed(config.seed)
    scm = StructuralCausalModel.from_schema(preset.covariates, preset.edges)
    pipeline = CausalDiffusionPipeline.from_preset(preset, scm, resolution)
    if start is not None:
        trained = CausalDiffusionPipeline.load(start.directory)
        pipeline.register_modules(unet=trained.unet, covariate_encoder=trained.covariate_encoder)
        inputs["initial_weights"] = start.revision
        default_steps = trained.config.default_steps if default_steps is None else default_steps
    pipeline.register_to_config(
        default_steps=10 if default_steps is None else default_steps, default_guidance_scale=default_guidance_scale
    )
    counts["mechanisms"] = fit_scm(scm, table, config.seed)
    objective = FlowMatchingObjective(
        pipeline.unet, pipeline.covariate_encoder, space_to_depth=pipeline.config.space_to_depth
    )
    networks = {"unet": pipeline.unet.config, "covariate_encoder": pipeline.covariate_encoder.config}
    # diffusers' own entries (underscored) list names in an order that changes from process to process
    settings = {
        part: {name: value for name, value in config.items() if not name.startswith("_")}
        for part, config in networks.items()
    }
    inputs["architecture"] = fingerprint(json.loads(json.dumps(settings, default=str)))

    def save(directory: Path) -> None:
        objective.eval()
        pipeline.save_pretrained(directory, safe_serialization=True)

    return train(objective, examples, config, save, inputs, counts)


def _knowledge(preset: Preset) -> str:
    return ", ".join(preset.covariates.names)


def generate_dataset(
    output_dir: str | Path,
    num_subjects: int,
    seed: int = 0,
    pretrained_model_name_or_path: str | Path = DEFAULT_GENERATOR,
    source_dir: str | Path | None = None,
    dry_run: bool = False,
    license: str | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Plan and write a data set with its card; returns the plan's summary.

    Subjects are draws from the generator's causal model, or real observations of `source_dir`; `license` is then
    unknown unless said. `settings` are further fields of GenerationPlan. Everything is checked before the weights are
    loaded; the same call continues an interrupted run; `dry_run` writes nothing.
    """
    if license is None:
        license = "cc-by-4.0" if source_dir is None else "unknown"
    saved = find_generator(pretrained_model_name_or_path)
    source = None if source_dir is None else open_source(source_dir, saved.preset, saved.resolution)
    plan = GenerationPlan(
        preset=saved.preset,
        model_revision=saved.revision,
        num_subjects=num_subjects,
        seed=seed,
        resolution=saved.resolution,
        source=SCM if source is None else source.name,
        source_fingerprint=None if source is None else source.fingerprint,
        **settings,
    )
    check(plan, output_dir, source)
    if not dry_run:
        record = generate(plan, saved.load(), output_dir, source)
        write_dataset_card(Path(output_dir), plan.preset, record, license)
    return plan.summary()


DIFFERENCE_LIMIT = 0.25
"""Share of the gray range at which a difference map saturates."""


def counterfactual(
    image: str | Path,
    covariates: dict[str, Any],
    do: dict[str, Any],
    output_dir: str | Path,
    seed: int = 0,
    pretrained_model_name_or_path: str | Path = DEFAULT_GENERATOR,
    num_inference_steps: int | None = None,
    guidance_scale: float | dict[str, float] | None = None,
    intervention_level: float | dict[str, float] | None = None,
    already_acquired: bool = False,
) -> dict[str, Any]:
    """The counterfactual of one radiograph file, written as observation.png, counterfactual.png and difference.png.

    The named scanner is planted on the film first, as it is on every training film, unless the film comes from a
    SynthFair data set and is `already_acquired`. Returns the counterfactual's covariates. The difference is blue where
    the film became darker, red where brighter, saturated at DIFFERENCE_LIMIT. Bad input is refused before the weights
    are loaded.
    """
    directory = Path(output_dir)
    for place in (directory, *directory.parents):
        if place.exists() and not place.is_dir():
            raise InputError(f"--output_dir: {place} is a file; give a directory.")
    if seed < 0:
        raise InputError(f"--seed: {seed} is not allowed; give a whole number from 0 on.")
    saved = find_generator(pretrained_model_name_or_path)
    covariates, do = _typed("--covariates", covariates, saved), _typed("--do", do, saved)
    table = {name: [value] for name, value in covariates.items()}
    for name, column in encode_covariates(table, saved.preset.covariates).items():
        if column.isnan().any() or (column < 0).any():
            raise InputError(f"--covariates: {name} is missing; a counterfactual needs every covariate.")
    encode_interventions(do, saved.preset.covariates, rows=1)
    check_settings(1 if num_inference_steps is None else num_inference_steps)
    strengths(
        1.0 if guidance_scale is None else guidance_scale,
        1.0 if intervention_level is None else intervention_level,
        saved.preset.covariates,
    )
    observed = read_image(Path(image), saved.resolution)
    if "scanner" in covariates and not already_acquired:
        noise = np.random.default_rng(seed).standard_normal(observed.shape, dtype=np.float32)
        observed = acquire(expose(observed), covariates["scanner"], noise)
    output = saved.load()(
        image=torch.from_numpy(observed)[None, None],
        covariates=table,
        do=do,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        intervention_level=intervention_level,
        generator=torch.Generator().manual_seed(seed),
        output_type="pt",
    )
    changed = torch.as_tensor(output.images)[0, 0].numpy()
    directory.mkdir(parents=True, exist_ok=True)
    for name, pixels in (("observation", observed), ("counterfactual", changed)):
        Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(directory / f"{name}.png")
    write_atomically(directory / "difference.png", difference_png(changed - observed, DIFFERENCE_LIMIT))
    answer = {name: column[0] for name, column in output.covariates.items()}
    record = Record(
        stage="counterfactual",
        inputs={"generator": saved.revision, "image": file_sha256(Path(image))},
        settings={
            "image": Path(image).name,
            "covariates": covariates,
            "do": do,
            "seed": seed,
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "intervention_level": intervention_level,
            "already_acquired": already_acquired,
        },
        versions=library_versions(),
        measured={"counterfactual": answer},
    )
    record.write(directory / "counterfactual.json")
    return answer


def _typed(argument: str, values: Mapping[str, Any], saved: SavedGenerator) -> dict[str, Any]:
    """Words of the command line as the schema's types: numbers for continuous covariates, names for the others."""
    typed = {}
    for name, value in values.items():
        typed[name] = value
        if isinstance(value, str) and name in saved.preset.covariates and not saved.preset.covariates[name].categorical:
            try:
                typed[name] = float(value)
            except ValueError:
                raise InputError(f"{argument}: {name}={value} is not a number; write it as {name}=61.") from None
    return typed


DEMO_VIEWS = ("full", "sex_imbalanced_90_10", "finding_scanner_correlated_90_10")


def demo(output_dir: str | Path = "synthfair", seed: int = 0) -> dict[str, Any]:
    """Generate a small data set, verify it, load three views and write the report; returns what was found.

    28 subjects: 20, 4 and 4 in train, validation and test, half of them under 50 years, 12 images each.
    """
    directory = Path(output_dir)
    generate_dataset(directory, num_subjects=28, seed=seed, subjects_per_shard=10)
    problems = verify(directory)
    if problems:
        raise InputError(f"{directory}: {problems[0]}")
    views: dict[str, Any] = {}
    for name in DEMO_VIEWS:
        train = load_dataset("synthfair", name, data_dir=str(directory), split="train")
        views[name] = {"train rows": len(train), "image": train[0]["image"].size}
        for attribute in ("sex", "finding"):
            labels = train.features[attribute]
            counts = np.bincount(train[attribute], minlength=len(labels.names))
            views[name] |= dict(zip(labels.names, counts.tolist(), strict=True))
    return {"problems": problems, "views": views, "report": str(write_report(directory))}
