"""Scoreboards of generators, measured in worlds: one record per run, one page printed from the records.

    DIR/soundness-<world>.json     rows of measure.soundness: identity, the generator, and the oracle where there is
                                   one; the same network with random weights beside the trained one
    DIR/realism-<world>.json       distances of samples to held-out images, and to the training images; texture, and
                                   whether a network can tell them apart
    DIR/suspicious-<world>.png     the samples nearest to training images, beside these: never published
    DIR/README.md                  the page

A scoreboard is measured on test images; a generator's default strengths are chosen by `calibration` on validation
images.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..access import RECORD
from ..arguments import Count, Guidance, Seed, checked
from ..diffusion.generator import load_generator
from ..diffusion.inputs import check_settings, strengths
from ..diffusion.pipeline import CausalDiffusionPipeline
from ..diffusion.saved import DEFAULT_GENERATOR, SavedGenerator, find_generator
from ..domains.chest_xray.nih_bounding_boxes import lung_field, read_boxes
from ..domains.joined import SourceFolder
from ..domains.worlds import Counterfactuals, World, open_world
from ..errors import InputError, counted, shown, unknown
from ..progress import progress_bar
from ..publish.editions import edition
from ..publish.pages import render
from ..records import (
    Record,
    file_sha256,
    library_versions,
    row_generator,
    row_seed,
    writable_directory,
    write_atomically,
)
from ..schema import Schema
from ..training.origins import TAUGHT, origins_in, origins_of, relation
from .autoencoder import load_encoder
from .discrimination import discrimination, halves
from .interventions import Effect
from .locality import boxed_findings, score_locality
from .memorisation import memorisation, standard_pixels, suspicious_png
from .noise import noise_spread, untrained
from .pairs import REAL, score_pairs
from .predictors import AttributePredictor, load_predictor
from .realism import realism, realism_by_group
from .soundness import MEASURED, Encoder, check_interventions, score
from .systems import Identity, Oracle
from .texture import texture
from .weights import weights_fingerprint

__all__ = [
    "PipelineSystem",
    "inputs_of",
    "measure_realism",
    "measure_soundness",
    "open_for",
    "open_predictors",
    "write_page",
]

CALIBRATION = "calibration.json"
"""Where a generator's strengths were chosen, beside its record."""

BATCH = 32
FEW = 8
"""Images that random weights answer."""
N_BOOTSTRAP = 1000
"""Bootstrap replicates of every figure's interval."""


class PipelineSystem:
    """A generator as a system to be measured.

    What is sampled for image i depends on (seed, row i) only. The noise of the images first and last abducted is
    cached, so that many interventions on the observations, or several on one counterfactual, abduct them once.

    Args:
        name: of the system in rows.
        pipeline: the generator.
        seed: of everything that is sampled.
        **settings: of every call of the pipeline.
    """

    def __init__(self, name: str, pipeline: CausalDiffusionPipeline, seed: int = 0, **settings: Any) -> None:
        self.name, self.pipeline, self.seed, self.settings = name, pipeline, seed, settings
        self._known: dict[tuple[int, ...], list[tuple[bytes, dict[str, Any]]]] = {}
        """By rows, the digest and noise of the images and covariates abducted first and last."""

    def counterfactual(
        self, image: Tensor, covariates: dict[str, list[Any]], do: dict[str, list[Any]], rows: Sequence[int]
    ) -> Counterfactuals:
        """The pipeline's counterfactual."""
        generator = [torch.Generator().manual_seed(row_seed(self.seed, row)) for row in rows]
        arguments: dict[str, Any] = {"covariates": covariates, "do": do, "generator": generator, "output_type": "pt"}
        settled = json.dumps([covariates, self.settings.get("num_inference_steps")])
        observation = hashlib.sha256(image.numpy().tobytes() + settled.encode()).digest()
        abducted = self._known.setdefault(tuple(rows), [])
        known = next((noise for digest, noise in abducted if digest == observation), None)
        output = self.pipeline(**arguments, **({"image": image} if known is None else known), **self.settings)
        if known is None:
            noise = {name: getattr(output, name) for name in ("noise", "covariate_noise", "residual")}
            abducted[1:] = [(observation, noise)]
        return Counterfactuals(torch.as_tensor(output.images), output.covariates)


def open_for(saved: SavedGenerator, world: str, directory: SourceFolder | None, split: str, limit: int | None) -> World:
    """Open a world for a generator, at its resolution; no image is generated yet.

    Args:
        saved: the generator.
        world: name of the world.
        directory: the world's data; None for one that generates its own.
        split: of the images.
        limit: images at most; None for all.

    Raises:
        InputError: for a world of other covariates, or planted scanners that the generator was not trained on.
    """
    if world == "acquisition" and not saved.planted_scanner:
        raise InputError(
            f"world: acquisition plants scanners, but {saved.directory.name} was trained on radiographs whose own "
            "scanner is recorded; give a generator trained on planted ones."
        )
    opened = open_world(world, split, limit, directory=directory, resolution=saved.resolution, preset=saved.preset)
    if opened.covariates != saved.preset.covariates:
        raise InputError(
            f"world: {world} has {', '.join(opened.covariates.names)}, but {saved.directory.name} has "
            f"{', '.join(saved.preset.covariates.names)}; give a generator trained for this world's covariates and "
            "levels."
        )
    return opened


def open_predictors(saved: SavedGenerator, directories: Sequence[str | Path]) -> dict[str, AttributePredictor]:
    """Load trained predictors of a generator's covariates at its resolution.

    Args:
        saved: the generator.
        directories: of the predictors, of different names.

    Returns:
        The predictors by the names of their directories.

    Raises:
        InputError: for a name that is used twice, and a predictor that does not fit the generator.
    """
    predictors: dict[str, AttributePredictor] = {}
    for directory in map(Path, directories):
        if directory.name in (*predictors, MEASURED):
            raise InputError(f"predictors: the name of {directory} is in use; give directories of other names.")
        predictors[directory.name] = load_predictor(directory, saved.preset.covariates)
        predictors[directory.name].features(_blank(saved))
    return predictors


def _open_encoder(saved: SavedGenerator, directory: str | Path) -> Encoder:
    """A trained autoencoder's encoder of images of the generator's resolution."""
    encoder = load_encoder(directory)
    encoder(_blank(saved))
    return encoder


def _blank(saved: SavedGenerator) -> Tensor:
    """Images to try a network on, so that another resolution is an error now and not after hours of sampling."""
    return torch.zeros(2, saved.preset.channels, saved.resolution, saved.resolution)


def inputs_of(
    saved: SavedGenerator, world: World, predictors: Sequence[str | Path], encoder: str | Path | None = None
) -> dict[str, str]:
    """The inputs of a measurement, by fingerprints.

    Args:
        saved: the generator.
        world: the world it was measured in.
        predictors: directories of the predictors that measured.
        encoder: directory of the autoencoder, if there was one.
    """
    networks = {f"predictor {Path(one).name}": Path(one) for one in predictors}
    if encoder is not None:
        networks[f"encoder {Path(encoder).name}"] = Path(encoder)
    weights = {name: weights_fingerprint(directory) for name, directory in networks.items()}
    return {"generator": saved.revision, "world": world.fingerprint, **weights}


def relations(saved: SavedGenerator, directories: Sequence[str | Path]) -> dict[str, str]:
    """Whether each predictor learned from what a generator did (`training.origins`), by its name.

    Args:
        saved: the generator, with its calibration, if any.
        directories: of the predictors.
    """
    records = [Record.read(path) for name in (RECORD, CALIBRATION) if (path := saved.directory / name).exists()]
    origins = [one for record in records for one in origins_of(record)] or origins_of(None)
    teachers = {
        part
        for record in records
        for name, value in record.inputs.items()
        if name.startswith(("predictor", "judge"))
        for part in value.split(", ")
    }
    return {
        Path(one).name: TAUGHT if weights_fingerprint(one) in teachers else relation(origins, origins_in(one))
        for one in directories
    }


@checked
def measure_soundness(
    output_dir: str | Path,
    world: str,
    source_dir: SourceFolder | None = None,
    pretrained_model_name_or_path: str | Path = DEFAULT_GENERATOR,
    predictors: Sequence[str | Path] = (),
    split: str = "test",
    limit: Count | None = None,
    seeds: Sequence[Seed] = (0, 1, 2),
    interventions: Sequence[str] = ("from_marginal",),
    effect: Effect = "total",
    num_inference_steps: Count | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    encoder: str | Path | None = None,
    contrasts: Mapping[str, Sequence[Any]] | None = None,
    boxes: str | Path | None = None,
    variables: Sequence[str] | None = None,
    cycles: Sequence[Count] = (1, 10),
    guidance_scale: Guidance | Mapping[str, Guidance] | None = None,
) -> Record:
    """Score the generator, the identity and, for every do() whose exact counterfactual the world knows, the oracle.

    Where patients have two images, counterfactuals of one are compared with the other (`pairs`); with `boxes`, what
    do(finding) changes with where radiologists saw it (`locality`). Writes `soundness-<world>.json` and the page.

    Args:
        output_dir: where they are written.
        world: name of the world.
        source_dir: the world's data; None for one that generates its own.
        pretrained_model_name_or_path: the saved generator; by default the one inside the package.
        predictors: directories of attribute predictors.
        split: of the images.
        limit: images at most; all by default.
        seeds: of the values of do().
        interventions: how these are chosen, of `interventions.INTERVENTIONS`.
        effect: "total": what do() causes follows; "direct": it is held.
        num_inference_steps: solver steps; the generator's own by default.
        pairs: do()s whose order is exchanged, all by default; each costs two integrations of every image and seed.
        encoder: directory of a trained autoencoder, by which minimality is measured.
        contrasts: by name of a variable, two values whose direct, indirect and total effect is measured.
        boxes: file of radiologists' boxes of ChestX-ray14, nih_bounding_boxes.csv.gz, some of whose images the world
            has.
        variables: that are intervened on; all by default. Every one costs integrations of every image and seed.
        cycles: numbers of reconstructions after which composition is measured; each costs two integrations.
        guidance_scale: strength on changed covariates, for all or by name; the generator's own by default.

    Returns:
        The record, as written.

    Raises:
        InputError: for arguments that are not allowed, before weights are loaded or images generated; for weights that
            don't fit, before anything is scored.
    """
    directory = writable_directory(output_dir)
    if num_inference_steps is not None:
        check_settings(num_inference_steps)
    saved = find_generator(pretrained_model_name_or_path)
    strengths(1.0 if guidance_scale is None else guidance_scale, 1.0, saved.preset.covariates)
    check_interventions(saved.preset.covariates, seeds, interventions, effect, pairs, variables or ())
    if variables is not None and not 0 < len(variables) == len(set(variables)):
        raise InputError(
            f"variables: {', '.join(variables) or 'none'} is invalid; name each variable once, or give all."
        )
    contrasted = _check_contrasts(saved.preset.covariates, contrasts or {})
    boxed = None if boxes is None else read_boxes(boxes)
    opened = open_for(saved, world, source_dir, split, limit)
    if boxed is not None:
        boxed_findings(opened, boxed)
    opened_predictors = open_predictors(saved, predictors)
    encode = None if encoder is None else _open_encoder(saved, encoder)
    pipeline = load_generator(saved)
    steps = pipeline.config.default_steps if num_inference_steps is None else num_inference_steps
    asked: dict[str, Any] = {"num_inference_steps": steps}
    if guidance_scale is not None:
        asked["guidance_scale"] = guidance_scale
    system = PipelineSystem(saved.directory.name, pipeline, **asked)
    scored: Callable[..., list[dict[str, Any]]] = partial(
        score,
        world=opened,
        predictors=opened_predictors,
        seeds=seeds,
        interventions=tuple(interventions),
        effect=effect,
        encoder=encode,
        batch_size=BATCH,
        n_bootstrap=N_BOOTSTRAP,
    )
    names = list(opened.covariates.names if variables is None else variables)
    rows = [
        *scored(Identity(), names=names, pairs=(), cycles=()),
        *scored(system, names=names, pairs=pairs, contrasts=contrasted, cycles=cycles),
    ]
    known = [name for name in names if _truth_is_known(opened, name)]
    if known:
        with_truth = {name: values for name, values in contrasted.items() if name in known}
        rows += scored(Oracle(opened), names=known, pairs=(), cycles=(), contrasts=with_truth)
    given: dict[str, Any] = {"names": names, "limit": limit, "batch_size": BATCH, "n_bootstrap": N_BOOTSTRAP}
    planted = ("scanner",) if saved.planted_scanner else ()
    rows += score_pairs((Identity(), system), opened, opened_predictors, planted, **given)
    measured: dict[str, Any] = {"origins": relations(saved, predictors)}
    if boxed is not None:
        rows += score_locality(system, opened, boxed, **given)
        measured["lungs"] = round(float(lung_field(boxed, saved.resolution).mean()), 3)
    few = opened if len(opened.images) <= FEW else open_for(saved, world, source_dir, split, FEW)
    first: dict[str, Any] = {"seeds": tuple(seeds)[:1], "interventions": interventions[:1], "effect": effect}
    algebra = _algebra(pipeline, system, opened, few, rows, steps, names=names, cycles=cycles, **first)
    settings = {
        "world": world,
        "split": split,
        "images": len(opened.images),
        "seeds": list(seeds),
        "interventions": list(interventions),
        "effect": effect,
        "pairs": None if pairs is None else [list(pair) for pair in pairs],
        **({} if variables is None else {"variables": names}),
        "contrasts": {name: list(values) for name, values in contrasted.items()},
        "draws": N_BOOTSTRAP,  # named as in the records so far
        "num_inference_steps": steps,
        "guidance_scale": asked.get("guidance_scale", pipeline.config.default_guidance_scale),
        "intervention_level": pipeline.config.default_intervention_level,
        **({} if boxes is None else {"boxes": file_sha256(Path(boxes))[:16]}),
    }
    record = Record(
        stage="measure_soundness",
        inputs=inputs_of(saved, opened, predictors, encoder),
        settings=settings,
        versions=library_versions(),
        counts={
            "images": len(opened.images),
            "groups": len(set(opened.groups)),
            "source": opened.source_counts,
        },
        measured={"rows": rows, "algebra": algebra, **measured},
    )
    return _keep(record, directory, f"soundness-{world}")


def _algebra(
    pipeline: CausalDiffusionPipeline,
    trained: PipelineSystem,
    world: World,
    few: World,
    rows: Sequence[Mapping[str, Any]],
    steps: int,
    **first: Any,
) -> list[dict[str, Any]]:
    """Composition and reversibility of the trained network (of `rows`) and of random weights, and their noise spread.

    What random weights do as well was not learned. They are measured on a few images, as they cost as much as the
    trained ones and their figures hardly vary from image to image.
    """
    random = untrained(pipeline)
    system = PipelineSystem("random weights", random, **trained.settings)
    scored = score(system, few, {}, pairs=(), batch_size=BATCH, n_bootstrap=N_BOOTSTRAP, **first)
    both = [*rows, *scored]
    beginnings, systems = ("composition_l1", "reversibility_l1"), (trained.name, system.name)
    kept = [dict(row) for row in both if row["metric"].startswith(beginnings) and row["system"] in systems]
    labels = {"world": world.name, "metric": "noise_spread", "do": "none", "attribute": "image", "by": "pixels"}
    for name, one, images in ((trained.name, pipeline, world), (system.name, random, few)):
        spread = noise_spread(one, images, steps, BATCH, N_BOOTSTRAP)
        kept.append({"system": name, **labels, "intervention": "none", "effect": first["effect"], **spread})
    return kept


def _check_contrasts(covariates: Schema, contrasts: Mapping[str, Sequence[Any]]) -> dict[str, tuple[Any, Any]]:
    """The two values of each variable, parsed."""
    checked = {}
    for name, values in contrasts.items():
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise InputError(f"contrasts[{name!r}]: {shown(values)} is invalid; give a list of two values.")
        if len(values) != 2:
            raise InputError(f"contrasts[{name!r}]: {counted(len(values), 'value')}; give the two to compare.")
        first, second = (covariates.parse(name, value, "contrasts") for value in values)
        if first == second:
            raise InputError(f"contrasts[{name!r}]: {first} twice; give two values that differ.")
        checked[name] = (first, second)
    return checked


def _truth_is_known(world: World, name: str) -> bool:
    """Whether the world knows the exact counterfactual of do(name) for another value than the observed."""
    values = world.table[name]
    other = next((value for value in world.training[name] if value != values[0]), values[0])
    return world.truth({name: [other]}, [0]) is not None


@checked
def measure_realism(
    output_dir: str | Path,
    world: str,
    predictor: str | Path,
    source_dir: SourceFolder | None = None,
    pretrained_model_name_or_path: str | Path = DEFAULT_GENERATOR,
    split: str = "test",
    limit: Count | None = None,
    group: str | None = None,
    seed: Seed = 0,
) -> Record:
    """Compare samples with held-out images of the same covariates.

    Realism is measured overall and by level of `group`; nearest-training distances of samples are compared with those
    of the held-out images. Writes `realism-<world>.json`, the page, and a picture of the samples nearest to training
    images.

    Args:
        output_dir: where they are written.
        world: name of the world.
        predictor: directory of an attribute predictor, trained on training images alone, whose features are compared.
        source_dir: the world's data; None for one that generates its own.
        pretrained_model_name_or_path: the saved generator; by default the one inside the package.
        split: of the held-out images, validation or test.
        limit: images at most; all by default.
        group: covariate with levels; none by default.
        seed: of everything that is sampled.

    Returns:
        The record, as written.

    Raises:
        InputError: for arguments that are not allowed, before weights are loaded or images generated; for a predictor
            that does not fit, before anything is sampled.
    """
    directory = writable_directory(output_dir)
    if seed < 0:
        raise InputError(f"seed: {seed} is not allowed; give a whole number from 0 on.")
    if split == "train":
        raise InputError("split: 'train' is not allowed, because memorisation is measured against it; give another.")
    saved = find_generator(pretrained_model_name_or_path)
    if group is not None and group not in saved.preset.covariates:
        raise unknown("group", group, saved.preset.covariates.names)
    if group is not None and not saved.preset.covariates[group].categorical:
        raise InputError(f"group: {group} is continuous; give a variable with levels, or none.")
    opened = open_for(saved, world, source_dir, split, limit)
    (encoder,) = open_predictors(saved, [predictor]).values()
    pipeline = load_generator(saved)
    generated, training = _samples(pipeline, opened, seed), opened.training_images()
    count, originals = len(generated), len(training) // (1 + opened.augmented_copies)
    groups = [None] * count if group is None else opened.table[group]
    pixels = [standard_pixels(images) for images in (generated, opened.images, training)]
    features = [encoder.features(images) for images in (generated, opened.images, training)]
    # Real against real at the same n: the figures of a perfect generator.
    chosen = row_generator(seed).permutation(originals)[:count]
    others = features[2][chosen]
    half = halves(opened.groups, seed)
    # Of 8 bits, as the real ones were: rounding is no sign of the generator.
    drawn, real, trained = (_rounded(one) for one in (generated, opened.images, training[chosen]))
    patients = opened.groups
    one_half, other_half = (
        [name for name, one in zip(patients, half, strict=True) if one == side] for side in (True, False)
    )
    measured = {
        "features": realism_by_group(features[1], features[0], groups, groups, seed),
        "training_films": realism(features[1], others, seed),  # named as in the records so far
        "origins": relations(saved, [predictor]),
        "texture": {
            "generated": texture(real, drawn, patients, patients),
            "training_images": texture(real, trained, patients, [f"training {row}" for row in chosen]),
        },
        "discrimination": {
            "generated": discrimination(real, drawn, patients, patients, seed),
            "real_halves": discrimination(real[half], real[~half], one_half, other_half, seed) if half.any() else None,
        },
        "noise_spread": noise_spread(pipeline, opened, batch_size=BATCH, n_bootstrap=N_BOOTSTRAP),
        "memorisation": {
            "pixels": memorisation(pixels[0], pixels[1], pixels[2], opened.groups),
            "features": memorisation(features[0], features[1], features[2], opened.groups),
        },
    }
    record = Record(
        stage="measure_realism",
        inputs=inputs_of(saved, opened, [predictor]),
        settings={"world": world, "split": split, "images": count, "group": group, "seed": seed},
        versions=library_versions(),
        counts={
            "images": count,
            "training_images": originals,
            "augmented_examples": len(training) - originals,
            "source": opened.source_counts,
        },
        measured=measured,
    )
    directory.mkdir(parents=True, exist_ok=True)
    picture = suspicious_png(generated, training, originals, measured["memorisation"]["pixels"]["suspicious"])
    write_atomically(directory / f"suspicious-{world}.png", picture)
    return _keep(record, directory, f"realism-{world}")


def _rounded(images: Tensor) -> Tensor:
    return (255 * images).round() / 255


def _samples(pipeline: CausalDiffusionPipeline, world: World, seed: int) -> Tensor:
    """A sample for the covariates of every image of the world, `[n, C, H, W]` in [0, 1]."""
    samples, rows = [], range(len(world.images))
    for first in progress_bar(range(0, len(rows), BATCH), desc="sampling"):
        batch = rows[first : first + BATCH]
        output = pipeline(
            covariates={name: [column[row] for row in batch] for name, column in world.table.items()},
            generator=[torch.Generator().manual_seed(row_seed(seed, row)) for row in batch],
            output_type="pt",
        )
        samples.append(torch.as_tensor(output.images))
    return torch.cat(samples)


def _keep(record: Record, directory: Path, name: str) -> Record:
    directory.mkdir(parents=True, exist_ok=True)
    record.write(directory / f"{name}.json")
    write_page(directory)
    return record


SECTIONS = {
    "Axioms": ("composition", "factual", "reversibility", "commutativity", "nondescendants"),
    "True pixels": ("true_",),
    "Effectiveness and off-target effects": ("mae", "delta_mae", "accuracy", "auc", "delta_auc", "share_of_gap"),
    "Locality": ("box_energy", "pointing_game", "change_in_lungs"),
    "Same-patient pairs": ("pair_",),
    "Minimality": ("minimality",),
    "Effects": ("total_effect", "direct_effect", "indirect_effect"),
}
"""Sections of the page by the beginnings of metrics' names."""


def write_page(directory: str | Path) -> Path:
    """Print every record of a directory as one page, README.md; returns its path."""
    directory = Path(directory)
    soundness = [_table(Record.read(path)) for path in sorted(directory.glob("soundness-*.json"))]
    realism = [Record.read(path) for path in sorted(directory.glob("realism-*.json"))]
    page = render("scoreboard.md.jinja", soundness=soundness, realism=realism, edition=edition)
    write_atomically(directory / "README.md", page.encode())
    return directory / "README.md"


def _table(record: Record) -> dict[str, Any]:
    """A record's rows with systems as columns, by section, each with what is said of the predictor."""
    rows, origins = record.measured["rows"], record.measured.get("origins", {})
    systems = list(dict.fromkeys(row["system"] for row in rows if row["system"] != REAL))
    sections: dict[str, dict[str, Any]] = {}
    for title, beginnings in SECTIONS.items():
        lines: dict[tuple[str, ...], dict[str, Any]] = {}
        for row in rows:
            # Predictors' own figures on the real images (do = "none") have a table of their own.
            if row["metric"].startswith(beginnings) and (row["do"] != "none" or title == "Axioms"):
                key = tuple(row[name] for name in ("metric", "do", "attribute", "by", "intervention"))
                lines.setdefault(key, {})[row["system"]] = row
        columns = [*systems, REAL] if any(REAL in cells for cells in lines.values()) else systems
        found = [
            {"key": key, "cells": [cells.get(system) for system in columns], "origin": origins.get(key[3], "")}
            for key, cells in lines.items()
        ]
        sections[title] = {"systems": columns, "lines": found}
    own = [row for row in rows if row["do"] == "none" and row["attribute"] != "image" and row["system"] == systems[0]]
    algebra = record.measured.get("algebra", [])
    compared: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in algebra:
        compared.setdefault(tuple(row[name] for name in ("metric", "do", "intervention")), {})[row["system"]] = row
    weights = list(dict.fromkeys(row["system"] for row in algebra))
    algebra_lines = [{"key": key, "cells": [cells.get(one) for one in weights]} for key, cells in compared.items()]
    return {
        "record": record,
        "sections": sections,
        "own": own,
        "origins": origins,
        "weights": weights,
        "algebra": [line for line in algebra_lines if all(line["cells"])],
    }
