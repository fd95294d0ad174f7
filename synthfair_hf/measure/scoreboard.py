"""Scoreboards: generators measured in worlds. One record per run, one page printed from the records.

    DIR/soundness-<world>.json     rows of measure.soundness: identity, the generator, and the oracle where there is one
    DIR/realism-<world>.json       distances of samples to held-out images, and to the training images
    DIR/suspicious-<world>.png     the samples nearest to training images, beside these: never published
    DIR/README.md                  the page; never typed by hand

A scoreboard is measured on test images; what a generator saves as its defaults is chosen by `calibration` on
validation images.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..diffusion.generator import load_generator
from ..diffusion.inputs import check_settings
from ..diffusion.pipeline import CausalDiffusionPipeline
from ..diffusion.saved import DEFAULT_GENERATOR, SavedGenerator, find_generator
from ..domains.worlds import Counterfactuals, World, open_world
from ..errors import InputError, unknown
from ..publish.editions import edition
from ..publish.pages import render
from ..records import Record, library_versions, row_generator, row_seed, writable_directory, write_atomically
from ..schema import Schema
from .autoencoder import load_encoder
from .memorisation import memorisation, standard_pixels, suspicious_png
from .predictors import AttributePredictor, load_predictor
from .realism import realism, realism_by_group
from .soundness import Encoder, check_questions, score
from .systems import Identity, Oracle
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

BATCH = 32
N_BOOTSTRAP = 1000
"""Bootstrap replicates of every figure's interval."""


class PipelineSystem:
    """A generator as a system to be measured; `settings` go to every call of the pipeline.

    What is drawn for image i depends on (seed, row i) alone. The noise of the images first asked about, and of those
    last abducted, is remembered: many questions about the observations, or one after another about an answer, abduct
    them once.
    """

    def __init__(self, name: str, pipeline: CausalDiffusionPipeline, seed: int = 0, **settings: Any) -> None:
        self.name, self.pipeline, self.seed, self.settings = name, pipeline, seed, settings
        self._known: dict[tuple[int, ...], list[tuple[bytes, dict[str, Any]]]] = {}
        """By rows, the first and the last images and covariates abducted, by their digest, and their noise."""

    def counterfactual(
        self, image: Tensor, covariates: dict[str, list[Any]], do: dict[str, list[Any]], rows: Sequence[int]
    ) -> Counterfactuals:
        """The pipeline's answer."""
        generator = [torch.Generator().manual_seed(row_seed(self.seed, row)) for row in rows]
        asked: dict[str, Any] = {"covariates": covariates, "do": do, "generator": generator, "output_type": "pt"}
        settled = json.dumps([covariates, self.settings.get("num_inference_steps")])
        question = hashlib.sha256(image.numpy().tobytes() + settled.encode()).digest()
        abducted = self._known.setdefault(tuple(rows), [])
        known = next((noise for digest, noise in abducted if digest == question), None)
        output = self.pipeline(**asked, **({"image": image} if known is None else known), **self.settings)
        if known is None:
            noise = {name: getattr(output, name) for name in ("noise", "covariate_noise", "residual")}
            abducted[1:] = [(question, noise)]
        return Counterfactuals(torch.as_tensor(output.images), output.covariates)


def open_for(saved: SavedGenerator, world: str, directory: str | Path | None, split: str, limit: int | None) -> World:
    """A world for a generator, which must know the same covariates, at its resolution; no image is drawn yet."""
    if world == "acquisition" and not saved.planted_scanner:
        raise InputError(
            f"world: acquisition plants scanners, but {saved.directory.name} was trained on films whose own scanner "
            "is known; give a generator of planted ones."
        )
    opened = open_world(world, split, limit, directory=directory, resolution=saved.resolution)
    if opened.covariates != saved.preset.covariates:
        raise InputError(
            f"world: {world} has {', '.join(opened.covariates.names)}, but {saved.directory.name} knows "
            f"{', '.join(saved.preset.covariates.names)}; give a generator trained for this world's covariates and "
            "levels."
        )
    return opened


def open_predictors(saved: SavedGenerator, directories: Sequence[str | Path]) -> dict[str, AttributePredictor]:
    """Trained predictors of a generator's covariates at its resolution, by the names of their directories, which must
    differ.
    """
    predictors: dict[str, AttributePredictor] = {}
    for directory in map(Path, directories):
        if directory.name in (*predictors, "ruler"):
            raise InputError(f"predictors: {directory} bears a name that is taken; give directories of other names.")
        predictors[directory.name] = load_predictor(directory, saved.preset.covariates)
        predictors[directory.name].features(_blank(saved))
    return predictors


def _open_encoder(saved: SavedGenerator, directory: str | Path) -> Encoder:
    """A trained autoencoder's encoder of images of the generator's resolution."""
    encoder = load_encoder(directory)
    encoder(_blank(saved))
    return encoder


def _blank(saved: SavedGenerator) -> Tensor:
    """Images to try a reader with: another resolution is refused by it now, not after hours of sampling."""
    return torch.zeros(2, 1, saved.resolution, saved.resolution)


def inputs_of(
    saved: SavedGenerator, world: World, predictors: Sequence[str | Path], encoder: str | Path | None = None
) -> dict[str, str]:
    """What a measurement was made of, by fingerprints."""
    readers = {f"predictor {Path(one).name}": Path(one) for one in predictors}
    if encoder is not None:
        readers[f"encoder {Path(encoder).name}"] = Path(encoder)
    weights = {name: weights_fingerprint(directory) for name, directory in readers.items()}
    return {"generator": saved.revision, "world": world.fingerprint, **weights}


def measure_soundness(
    output_dir: str | Path,
    world: str,
    source_dir: str | Path | None = None,
    pretrained_model_name_or_path: str | Path = DEFAULT_GENERATOR,
    predictors: Sequence[str | Path] = (),
    split: str = "test",
    limit: int | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    interventions: Sequence[str] = ("from_marginal",),
    effect: str = "total",
    num_inference_steps: int | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    encoder: str | Path | None = None,
    contrasts: Mapping[str, Sequence[Any]] | None = None,
) -> Record:
    """Score the generator, the identity and, for every do() whose truth the world knows, the oracle.

    `pairs` are the do()s to commute, all by default; each costs two integrations of every image and seed. `encoder` is
    the directory of a trained autoencoder, by which minimality is measured. `contrasts` are two values of a variable,
    by name, for its direct, indirect and total effect. Writes `soundness-<world>.json` and the page. Raises InputError
    before weights are loaded or images drawn, and where it is the weights that are at fault, before anything is scored.
    """
    directory = writable_directory(output_dir)
    if num_inference_steps is not None:
        check_settings(num_inference_steps)
    saved = find_generator(pretrained_model_name_or_path)
    check_questions(saved.preset.covariates, seeds, interventions, effect, pairs)
    contrasted = _check_contrasts(saved.preset.covariates, contrasts or {})
    opened = open_for(saved, world, source_dir, split, limit)
    readers = open_predictors(saved, predictors)
    encode = None if encoder is None else _open_encoder(saved, encoder)
    pipeline = load_generator(saved)
    steps = pipeline.config.default_steps if num_inference_steps is None else num_inference_steps
    system = PipelineSystem(saved.directory.name, pipeline, num_inference_steps=steps)
    asked: dict[str, Any] = {
        "interventions": tuple(interventions),
        "effect": effect,
        "encoder": encode,
        "batch_size": BATCH,
        "n_bootstrap": N_BOOTSTRAP,
    }
    known = [name for name in opened.covariates.names if _truth_is_known(opened, name)]
    rows = [
        *score(Identity(), opened, readers, seeds, pairs=(), cycles=(), **asked),
        *score(system, opened, readers, seeds, pairs=pairs, contrasts=contrasted, **asked),
    ]
    if known:
        answered = {name: values for name, values in contrasted.items() if name in known}
        questions: dict[str, Any] = {"names": known, "pairs": (), "cycles": (), "contrasts": answered}
        rows += score(Oracle(opened), opened, readers, seeds, **questions, **asked)
    settings = {
        "world": world,
        "split": split,
        "images": len(opened.images),
        "seeds": list(seeds),
        "interventions": list(interventions),
        "effect": effect,
        "pairs": None if pairs is None else [list(pair) for pair in pairs],
        "contrasts": {name: list(values) for name, values in contrasted.items()},
        "draws": N_BOOTSTRAP,
        "num_inference_steps": steps,
        "guidance_scale": pipeline.config.default_guidance_scale,
        "intervention_level": pipeline.config.default_intervention_level,
    }
    record = Record(
        stage="measure_soundness",
        inputs=inputs_of(saved, opened, predictors, encoder),
        settings=settings,
        versions=library_versions(),
        counts={"images": len(opened.images), "groups": len(set(opened.groups))},
        measured={"rows": rows},
    )
    return _keep(record, directory, f"soundness-{world}")


def _check_contrasts(covariates: Schema, contrasts: Mapping[str, Sequence[Any]]) -> dict[str, tuple[Any, Any]]:
    """Two values of each variable that is named, numbers where they are its."""
    checked = {}
    for name, values in contrasts.items():
        if len(values) != 2:
            raise InputError(f"contrasts[{name!r}]: {len(values)} values; give the two to compare.")
        first, second = (covariates.parse(name, value, "contrasts") for value in values)
        checked[name] = (first, second)
    return checked


def _truth_is_known(world: World, name: str) -> bool:
    """Whether the world answers do(name) with another value than the observed."""
    values = world.table[name]
    other = next((value for value in world.training[name] if value != values[0]), values[0])
    return world.truth({name: [other]}, [0]) is not None


def measure_realism(
    output_dir: str | Path,
    world: str,
    predictor: str | Path,
    source_dir: str | Path | None = None,
    pretrained_model_name_or_path: str | Path = DEFAULT_GENERATOR,
    split: str = "test",
    limit: int | None = None,
    group: str | None = None,
    seed: int = 0,
) -> Record:
    """Compare samples, with the covariates of the held-out images, to these images, overall and by level of `group`;
    and their nearest-training distances to those of the held-out images. Writes `realism-<world>.json`, the page, and
    a picture of the samples nearest to training images.

    The encoder is a predictor trained on training images alone. Raises InputError before weights are loaded or images
    drawn, and for a predictor at fault before anything is sampled.
    """
    directory = writable_directory(output_dir)
    if seed < 0:
        raise InputError(f"seed: {seed} is not allowed; give a whole number from 0 on.")
    if split == "train":
        raise InputError("split: 'train' is what samples are compared with for copies; give validation or test.")
    saved = find_generator(pretrained_model_name_or_path)
    if group is not None and group not in saved.preset.covariates:
        raise unknown("group", group, saved.preset.covariates.names)
    if group is not None and not saved.preset.covariates[group].categorical:
        raise InputError(f"group: {group} is continuous; give a variable with levels, or none.")
    opened = open_for(saved, world, source_dir, split, limit)
    (encoder,) = open_predictors(saved, [predictor]).values()
    pipeline = load_generator(saved)
    samples = []
    rows = range(len(opened.images))
    for first in tqdm(range(0, len(rows), BATCH), desc="sampling"):
        batch = rows[first : first + BATCH]
        output = pipeline(
            covariates={name: [column[row] for row in batch] for name, column in opened.table.items()},
            generator=[torch.Generator().manual_seed(row_seed(seed, row)) for row in batch],
            output_type="pt",
        )
        samples.append(torch.as_tensor(output.images))
    generated, training = torch.cat(samples), opened.training_images()
    groups = [None] * len(rows) if group is None else opened.table[group]
    pixels = [standard_pixels(images) for images in (generated, opened.images, training)]
    features = [encoder.features(images) for images in (generated, opened.images, training)]
    # Real against real at the same n: what the figures are when nothing is wrong.
    originals = len(training) // (1 + opened.augmented_copies)
    others = features[2][row_generator(seed).permutation(originals)[: len(rows)]]
    measured = {
        "features": realism_by_group(features[1], features[0], groups, groups, seed),
        "training_films": realism(features[1], others, seed),
        "memorisation": {
            "pixels": memorisation(pixels[0], pixels[1], pixels[2], opened.groups),
            "features": memorisation(features[0], features[1], features[2], opened.groups),
        },
    }
    record = Record(
        stage="measure_realism",
        inputs=inputs_of(saved, opened, [predictor]),
        settings={"world": world, "split": split, "images": len(rows), "group": group, "seed": seed},
        versions=library_versions(),
        counts={"images": len(rows), "training_images": originals, "augmented_examples": len(training) - originals},
        measured=measured,
    )
    directory.mkdir(parents=True, exist_ok=True)
    picture = suspicious_png(generated, training, originals, measured["memorisation"]["pixels"]["suspicious"])
    write_atomically(directory / f"suspicious-{world}.png", picture)
    return _keep(record, directory, f"realism-{world}")


def _keep(record: Record, directory: Path, name: str) -> Record:
    directory.mkdir(parents=True, exist_ok=True)
    record.write(directory / f"{name}.json")
    write_page(directory)
    return record


SECTIONS = {
    "Axioms": ("composition", "factual", "reversibility", "commutativity", "nondescendants"),
    "True pixels": ("true_",),
    "Effectiveness and leak": ("mae", "delta_mae", "accuracy", "auc", "delta_auc"),
    "Minimality": ("minimality",),
    "Effects": ("total_effect", "direct_effect", "indirect_effect"),
}
"""Sections of the page by the beginnings of metrics' names."""


def write_page(directory: str | Path) -> Path:
    """Print every record of a directory as one page, README.md."""
    directory = Path(directory)
    soundness = [_table(Record.read(path)) for path in sorted(directory.glob("soundness-*.json"))]
    realism = [Record.read(path) for path in sorted(directory.glob("realism-*.json"))]
    page = render("scoreboard.md.jinja", soundness=soundness, realism=realism, edition=edition)
    write_atomically(directory / "README.md", page.encode())
    return directory / "README.md"


def _table(record: Record) -> dict[str, Any]:
    """A record's rows with systems as columns, by section."""
    rows = record.measured["rows"]
    systems = list(dict.fromkeys(row["system"] for row in rows))
    sections: dict[str, list[dict[str, Any]]] = {}
    for title, beginnings in SECTIONS.items():
        lines: dict[tuple[str, ...], dict[str, Any]] = {}
        for row in rows:
            # Readers' own figures on the real images (do = "none") have a table of their own.
            if row["metric"].startswith(beginnings) and (row["do"] != "none" or title == "Axioms"):
                key = tuple(row[name] for name in ("metric", "do", "attribute", "by", "intervention"))
                lines.setdefault(key, {})[row["system"]] = row
        sections[title] = [
            {"key": key, "cells": [cells.get(system) for system in systems]} for key, cells in lines.items()
        ]
    own = [row for row in rows if row["do"] == "none" and row["attribute"] != "image" and row["system"] == systems[0]]
    return {"record": record, "systems": systems, "sections": sections, "own": own}
