"""Calibration: how strongly, and below which noise level, the change of each covariate should act.

    error(k, strength) = L1 to the exact counterfactual under do(k)                where the world knows it
                       = (d_k + mean over j != k of d_j) / 2                       elsewhere
    d_j = |AUC on counterfactuals - AUC on real images|, or |change of mean absolute error| / standard deviation of j

A change that is too weak shows in d_k, an off-target effect in the others: each side counts half, however many
attributes there are. It is measured on validation images, for values that differ from the observed one, with what k
causes held. Attributes that the world measures in images without learning are measured so, the others by predictors.
Predictors can score unrealistic images well (do(view) at scale 2 erased radiographs), so the weakest change is saved
whose error is within TOLERANCE of the least; against the exact counterfactual, that of the least error.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

from ..access import RECORD, recorded_access, sealed
from ..arguments import Count, Seed, checked
from ..diffusion.generator import load_generator
from ..diffusion.saved import SavedGenerator, find_generator
from ..domains.joined import SourceFolder
from ..domains.source import access_to
from ..domains.worlds import Counterfactuals, World
from ..errors import InputError
from ..records import Access, Record, library_versions, strictest
from ..training.origins import as_recorded, origins_in
from .distances import l1
from .interventions import forced_change, hold
from .predictors import AttributePredictor, agreement
from .scoreboard import PipelineSystem, inputs_of, open_for, open_predictors
from .systems import answer

__all__ = ["LEVELS", "SCALES", "TOLERANCE", "calibrate", "choose"]

SCALES = (1.0, 2.0)
LEVELS = (1.0, 0.75, 0.5)
"""The strengths tried."""

TOLERANCE = 0.02
"""Errors that differ by less count as equal: a few hundred images resolve no finer difference."""


@checked
def calibrate(
    pretrained_model_name_or_path: str | Path,
    world: str,
    source_dir: SourceFolder | None = None,
    predictors: Sequence[str | Path] = (),
    limit: Count | None = None,
    scales: Sequence[float] = SCALES,
    levels: Sequence[float] = LEVELS,
    seed: Seed = 0,
    access: Access | None = None,
) -> Record:
    """Choose scale and level of each covariate and save them as the defaults of a saved pipeline.

    Args:
        pretrained_model_name_or_path: directory of the pipeline, into which defaults and calibration.json are written.
        world: name of the world (`domains.worlds`) on whose validation images errors are measured.
        source_dir: the world's data; None for one that generates its own.
        predictors: directories of attribute predictors, needed where the world knows no exact counterfactual.
        limit: images at most; all by default.
        scales: guidance scales that are tried.
        levels: noise levels that are tried.
        seed: of the values of do().
        access: to the world's data; by default as the generator's record has it of the same data, else unknown. The
            generator takes it over where it is stricter than its own, and that of the predictors too.

    Returns:
        The record, with the error of every strength by covariate.

    Raises:
        InputError: for a pipeline that is not a local directory, a world that does not fit it, or no predictor where
            one is needed.
    """
    directory = Path(pretrained_model_name_or_path)
    if not (directory / "model_index.json").is_file():
        raise InputError(
            f"pretrained_model_name_or_path: {directory} is not a saved pipeline on this machine, and the strengths "
            "are written into it; give the output directory of a finished `synthfair train`."
        )
    saved = find_generator(directory)
    opened = open_for(saved, world, source_dir, "validation", limit)
    opened_predictors = open_predictors(saved, predictors)
    strictness = strictest(
        saved.access,
        "open" if source_dir is None else access or _recorded_access_to(opened, saved),
        access_to(opened, "open"),
        *(recorded_access(Path(one), silent="open") for one in predictors),
    )
    pipeline = load_generator(saved)
    before = {by: _predict(opened, one, opened.images) for by, one in opened_predictors.items()}
    system = PipelineSystem(directory.name, pipeline)
    errors: dict[str, list[dict[str, float]]] = {}
    chosen: dict[str, dict[str, float]] = {}
    for name in opened.covariates.names:
        do = hold(opened, {name: forced_change(opened, name, seed)}, opened.table, "direct")
        truth = opened.truth(do)
        if truth is None and not opened_predictors:
            raise InputError(
                f"predictors: {world} knows no exact counterfactual of do({name}); give a predictor's directory."
            )
        errors[name] = []
        for level, scale in tqdm(list(product(levels, scales)), desc=f"do({name})"):
            system.settings = {"guidance_scale": {name: scale}, "intervention_level": {name: level}}
            changed = answer(system, opened, opened.images, opened.table, do)
            if truth is not None:
                error = float(l1(changed.images, truth.images).mean())
            else:
                error = _prediction_error(opened, name, opened_predictors, before, changed)
            errors[name].append({"scale": scale, "level": level, "error": round(error, 5)})
        chosen[name] = choose(errors[name], TOLERANCE if truth is None else 0)
    record = Record(
        stage="calibrate",
        inputs={**inputs_of(saved, opened, predictors), "access": strictness},
        settings={
            "world": world,
            "split": "validation",
            "limit": limit,
            "seed": seed,
            "num_inference_steps": pipeline.config.default_steps,
        },
        versions=library_versions(),
        counts={
            "images": len(opened.images),
            "source": opened.source_counts,
            "origins": as_recorded(*map(origins_in, predictors)),
        },
        measured={"errors": errors, "chosen": chosen},
    )
    record.write(directory / "calibration.json")
    pipeline.register_to_config(
        default_guidance_scale={name: one["scale"] for name, one in chosen.items()},
        default_intervention_level={name: one["level"] for name, one in chosen.items()},
        access=strictness,
    )
    pipeline.save_config(directory)
    if (directory / RECORD).exists():
        trained = Record.read(directory / RECORD)
        trained = trained.model_copy(update={"inputs": {**trained.inputs, "access": strictness}})
        sealed(trained, directory).write(directory / RECORD)
    return record


def _recorded_access_to(world: World, saved: SavedGenerator) -> Access:
    """The access to a world's data, where a generator's record names it as that of its training images."""
    path = saved.directory / RECORD
    known = path.exists() and Record.read(path).inputs.get("source") == world.fingerprint
    return saved.access if known else "unknown"


def choose(tried: Sequence[Mapping[str, float]], tolerance: float) -> dict[str, float]:
    """The weakest strength whose error is near the least.

    Args:
        tried: scale, level and error of each.
        tolerance: by how much the error may exceed the least, 0 or more.

    Returns:
        That of the least scale, then the least level.
    """
    least = min(one["error"] for one in tried)
    enough = [one for one in tried if one["error"] <= least + tolerance]
    return dict(min(enough, key=lambda one: (one["scale"], one["level"])))


def _predict(world: World, predictor: AttributePredictor, images: Tensor) -> dict[str, np.ndarray]:
    """Attributes of images: measured where the world can measure them without learning, else predicted."""
    return {
        **predictor.predict(images),
        **{name: measure(images) for name, measure in world.measured_attributes.items()},
    }


def _prediction_error(
    world: World,
    target: str,
    predictors: Mapping[str, AttributePredictor],
    before: Mapping[str, Mapping[str, np.ndarray]],
    changed: Counterfactuals,
) -> float:
    """How much predictions on counterfactuals are worse, or suspiciously better, than those on the real images."""
    parts: dict[bool, list[float]] = {True: [], False: []}
    for by, predictor in predictors.items():
        after = _predict(world, predictor, changed.images)
        for name in world.covariates.names:
            variable = world.covariates[name]
            real = agreement(variable, before[by][name], world.table[name])
            requested = agreement(variable, after[name], changed.covariates[name])
            figure = "auc" if variable.categorical else "mae"
            spread = 1.0 if variable.categorical else float(np.std(world.training[name]))
            if real[figure] is not None and requested[figure] is not None:
                parts[name == target].append(abs(requested[figure] - real[figure]) / spread)  # type: ignore[operator]
    return float(np.mean([np.mean(side) for side in parts.values() if side]))
