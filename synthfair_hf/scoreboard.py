"""Scoreboards: generators measured in worlds. One record per run, one page printed from the records.

    DIR/soundness-<world>.json     rows of measure.soundness: identity, the generator, and the oracle where there is one
    DIR/realism-<world>.json       distances of samples to held-out images, and to the training images
    DIR/README.md                  the page; never typed by hand

A scoreboard is measured on test images; what a generator saves as its defaults is chosen by `calibration` on
validation images.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .cards import ENVIRONMENT
from .diffusion.pipeline import CausalDiffusionPipeline
from .errors import InputError
from .measure.memorisation import memorisation, standard_pixels
from .measure.predictors import WEIGHTS, AttributePredictor, load_predictor
from .measure.realism import realism, realism_by_group
from .measure.soundness import Counterfactuals, Identity, Oracle, score
from .measure.worlds import World, open_world
from .records import Record, file_sha256, library_versions, write_atomically
from .saved import DEFAULT_GENERATOR, SavedGenerator, find_generator
from .schema import Schema

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


class PipelineSystem:
    """A generator as a system to be measured; `settings` go to every call of the pipeline.

    What is drawn for image i depends on (seed, row i) alone. The noise of the images first asked about is remembered,
    so that many questions about the same observations abduct them once.
    """

    def __init__(self, name: str, pipeline: CausalDiffusionPipeline, seed: int = 0, **settings: Any) -> None:
        self.name, self.pipeline, self.seed, self.settings = name, pipeline, seed, settings
        self._known: dict[tuple[int, ...], tuple[bytes, dict[str, Any]]] = {}

    def counterfactual(
        self, image: Tensor, covariates: dict[str, list[Any]], do: dict[str, list[Any]], rows: Sequence[int]
    ) -> Counterfactuals:
        """The pipeline's answer."""
        generator = [torch.Generator().manual_seed(self.seed * 1_000_003 + row) for row in rows]
        asked: dict[str, Any] = {"covariates": covariates, "do": do, "generator": generator, "output_type": "pt"}
        question = hashlib.sha256(image.numpy().tobytes() + json.dumps(covariates).encode()).digest()
        first, known = self._known.get(tuple(rows), (question, {"image": image}))
        output = self.pipeline(**asked, **(known if first == question else {"image": image}), **self.settings)
        noise = {name: getattr(output, name) for name in ("noise", "covariate_noise", "residual")}
        self._known.setdefault(tuple(rows), (question, noise))
        return Counterfactuals(torch.as_tensor(output.images), output.covariates)


def open_for(
    saved: SavedGenerator, world: str, directory: str | Path | None, split: str, limit: int | None
) -> tuple[World, CausalDiffusionPipeline]:
    """A world and the generator for it, which must know the same covariates at the same resolution."""
    opened = open_world(world, split, limit, directory=directory)
    if opened.covariates != saved.preset.covariates or opened.images.shape[-1] != saved.resolution:
        raise InputError(
            f"--world: {world} has {', '.join(opened.covariates.names)} at {opened.images.shape[-1]} pixels, but "
            f"{saved.directory.name} knows {', '.join(saved.preset.covariates.names)} at {saved.resolution}; "
            "give a generator trained for this world's covariates, levels and resolution."
        )
    return opened, saved.load()


def open_predictors(directories: Sequence[str | Path], covariates: Schema) -> dict[str, AttributePredictor]:
    """Trained predictors of these covariates, by the names of their directories, which must differ."""
    predictors: dict[str, AttributePredictor] = {}
    for directory in map(Path, directories):
        if directory.name in (*predictors, "ruler"):
            raise InputError(f"--predictor: {directory} bears a name that is taken; give directories of other names.")
        predictors[directory.name] = load_predictor(directory, covariates)
    return predictors


def inputs_of(saved: SavedGenerator, world: World, predictors: Sequence[str | Path]) -> dict[str, str]:
    """What a measurement was made of, by fingerprints."""
    weights = {f"predictor {Path(one).name}": file_sha256(Path(one) / WEIGHTS)[:16] for one in predictors}
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
) -> Record:
    """Score the generator, the identity and, for every do() whose truth the world knows, the oracle.

    `pairs` are the do()s to commute, all by default; each costs four integrations of every image and seed. Writes
    `soundness-<world>.json` and the page. Raises InputError before anything is scored.
    """
    _check_seeds(seeds)
    saved = find_generator(pretrained_model_name_or_path)
    readers = open_predictors(predictors, saved.preset.covariates)
    directory = _writable(output_dir)
    opened, pipeline = open_for(saved, world, source_dir, split, limit)
    steps = pipeline.config.default_steps if num_inference_steps is None else num_inference_steps
    system = PipelineSystem(saved.directory.name, pipeline, num_inference_steps=steps)
    asked: dict[str, Any] = {"interventions": tuple(interventions), "effect": effect, "batch_size": BATCH}
    known = [name for name in opened.covariates.names if _truth_is_known(opened, name)]
    rows = [
        *score(Identity(), opened, readers, seeds, pairs=(), cycles=(), **asked),
        *score(system, opened, readers, seeds, pairs=pairs, **asked),
    ]
    if known:
        rows += score(Oracle(opened), opened, readers, seeds, names=known, pairs=(), cycles=(), **asked)
    settings = {
        "world": world,
        "split": split,
        "images": len(opened.images),
        "seeds": list(seeds),
        "interventions": list(interventions),
        "effect": effect,
        "num_inference_steps": steps,
        "guidance_scale": pipeline.config.default_guidance_scale,
        "intervention_level": pipeline.config.default_intervention_level,
    }
    record = Record(
        stage="measure_soundness",
        inputs=inputs_of(saved, opened, predictors),
        settings=settings,
        versions=library_versions(),
        counts={"images": len(opened.images), "groups": len(set(opened.groups))},
        measured={"rows": rows},
    )
    return _keep(record, directory, f"soundness-{world}")


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
    and their nearest-training distances to those of the held-out images. Writes `realism-<world>.json` and the page.

    The encoder is a predictor trained on training images alone.
    """
    if split == "train":
        raise InputError("--split: 'train' is what samples are compared with for copies; give validation or test.")
    saved = find_generator(pretrained_model_name_or_path)
    encoder = load_predictor(predictor, saved.preset.covariates)
    directory = _writable(output_dir)
    opened, pipeline = open_for(saved, world, source_dir, split, limit)
    if group is not None and not opened.covariates[group].categorical:
        raise InputError(f"--group: {group} is continuous; give a variable with levels, or none.")
    samples = []
    rows = range(len(opened.images))
    for first in tqdm(range(0, len(rows), BATCH), desc="sampling"):
        batch = rows[first : first + BATCH]
        output = pipeline(
            covariates={name: [column[row] for row in batch] for name, column in opened.table.items()},
            generator=[torch.Generator().manual_seed(seed * 1_000_003 + row) for row in batch],
            output_type="pt",
        )
        samples.append(torch.as_tensor(output.images))
    generated, training = torch.cat(samples), opened.training_images()
    groups = [None] * len(rows) if group is None else opened.table[group]
    pixels = [standard_pixels(images) for images in (generated, opened.images, training)]
    features = [encoder.features(images) for images in (generated, opened.images, training)]
    # Real against real at the same n: what the figures are when nothing is wrong.
    originals = len(training) // (1 + opened.draws)
    others = features[2][np.random.default_rng(seed).permutation(originals)[: len(rows)]]
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
    return _keep(record, directory, f"realism-{world}")


def _check_seeds(seeds: Sequence[int]) -> None:
    if not seeds or min(seeds) < 0:
        raise InputError(f"--seeds: {list(seeds)} is not allowed; give whole numbers from 0 on.")


def _writable(output_dir: str | Path) -> Path:
    """The directory of records, known to be one before hours of scoring need it."""
    directory = Path(output_dir)
    for place in (directory, *directory.parents):
        if place.exists() and not place.is_dir():
            raise InputError(f"--output_dir: {place} is a file; give a directory.")
    return directory


def _keep(record: Record, directory: Path, name: str) -> Record:
    directory.mkdir(parents=True, exist_ok=True)
    record.write(directory / f"{name}.json")
    write_page(directory)
    return record


SECTIONS = {
    "Axioms": ("composition", "factual", "reversibility", "commutativity", "nondescendants"),
    "True pixels": ("true_",),
    "Effectiveness and leak": ("mae", "delta_mae", "accuracy", "auc", "delta_auc"),
}
"""Sections of the page by the beginnings of metrics' names."""


def write_page(directory: str | Path) -> Path:
    """Print every record of a directory as one page, README.md."""
    directory = Path(directory)
    soundness = [_table(Record.read(path)) for path in sorted(directory.glob("soundness-*.json"))]
    realism = [Record.read(path) for path in sorted(directory.glob("realism-*.json"))]
    page = ENVIRONMENT.get_template("scoreboard.md.jinja").render(soundness=soundness, realism=realism)
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
