"""Calibration: how strongly, and below which noise level, the change of each covariate should act.

    error(k, strength) = L1 to the exact counterfactual under do(k)                      where the world knows it
                       = (|share_k - 1| / 0.2 + mean over j != k of d_j / 0.03) / 2      elsewhere
    share_k = `gap.share_of_gap`: 1 where do(k) moves predictions of k as far as real images of the other value differ
    d_j = |AUC on counterfactuals - AUC on real images|, or |change of mean absolute error| / standard deviation of j

A change that is too weak or too strong shows in the share, an off-target effect in the others: each side counts half,
and is 1 where it is as far off as is tolerated. It is measured on validation images, for values that differ from the
observed one, with what k causes held. Attributes that the world measures in images without learning are measured so,
the others by predictors. Where no predictor's real gap is above 0 by its interval, no share is known, and off-target
effects decide alone. Predictors can score unrealistic images well (do(view) at scale 2 erased radiographs), so the
weakest change is saved whose error is within TOLERANCE of the least; against the exact counterfactual, that of the
least error.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..access import RECORD, recorded_access, sealed
from ..arguments import Count, Guidance, NoiseLevel, Seed, checked
from ..diffusion.generator import load_generator
from ..diffusion.guidance import Strength
from ..diffusion.inputs import strengths
from ..diffusion.saved import SavedGenerator, find_generator
from ..domains.joined import SourceFolder
from ..domains.source import access_to
from ..domains.worlds import Table, World
from ..errors import InputError, shown, unknown
from ..progress import progress_bar
from ..records import Access, Record, library_versions, strictest
from ..training.origins import as_recorded, origins_in
from .distances import l1
from .gap import real_gap, share_of_gap
from .intervals import bootstrap
from .interventions import forced_change, hold
from .predictors import AttributePredictor, agreement
from .scoreboard import CALIBRATION, PipelineSystem, inputs_of, open_for, open_predictors
from .systems import answer

__all__ = ["LEVELS", "SCALES", "TOLERANCE", "calibrate", "choose", "with_earlier"]

SCALES = (1.0, 2.0)
LEVELS = (1.0, 0.75, 0.5)
"""The strengths tried."""

SHARE, OFF_TARGET = 0.2, 0.03
"""Deviations that are tolerated: of the share of the real gap from 1, and of the others' areas under the curve."""

TOLERANCE = 0.25
"""Errors that differ by less count as equal (shares by a tenth): a few hundred images resolve no finer difference."""


@checked
def calibrate(
    pretrained_model_name_or_path: str | Path,
    world: str,
    source_dir: SourceFolder | None = None,
    predictors: Sequence[str | Path] = (),
    limit: Count | None = None,
    variables: Sequence[str] | None = None,
    scales: Sequence[Guidance] = SCALES,
    levels: Sequence[NoiseLevel] = LEVELS,
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
        variables: covariates whose change is calibrated; all by default. Others keep the defaults they have.
        scales: guidance scales that are tried.
        levels: noise levels that are tried.
        seed: of the values of do().
        access: to the world's data; by default as the generator's record has it of the same data, else unknown. The
            generator takes it over where it is stricter than its own, and that of the predictors too.

    Returns:
        The record, with the error of every strength by covariate, and where predictors tell it, the share of the real
        gap (None where none reads the covariate) and the mean off-target change; covariates that were calibrated
        before, by the same predictors on the same data, stay in it.

    Raises:
        InputError: for a pipeline that is not a local directory, a world that does not fit it, strengths that are not
            allowed, or no predictor where one is needed.
    """
    directory = Path(pretrained_model_name_or_path)
    if not (directory / "model_index.json").is_file():
        raise InputError(
            f"pretrained_model_name_or_path: {directory} is not a saved pipeline on this machine, and the strengths "
            "are written into it; give the output directory of a finished `synthfair train`."
        )
    saved = find_generator(directory)
    names = saved.preset.covariates.names if variables is None else variables
    for name in names:
        if name not in saved.preset.covariates:
            raise unknown("variables", name, saved.preset.covariates.names)
    for argument, tried in (("variables", names), ("scales", scales), ("levels", levels)):
        if len(set(tried)) < max(len(tried), 1):
            raise InputError(
                f"{argument}: {shown(list(tried))} is empty or has one twice; give one or more, each once."
            )
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
    errors: dict[str, list[dict[str, Any]]] = {}
    chosen: dict[str, dict[str, Any]] = {}
    for name in names:
        values = forced_change(opened, name, seed)
        do = hold(opened, {name: values}, opened.table, "direct")
        truth = opened.truth(do)
        if truth is None and not opened_predictors:
            raise InputError(
                f"predictors: {world} knows no exact counterfactual of do({name}); give a predictor's directory."
            )
        errors[name] = []
        for level, scale in progress_bar(list(product(levels, scales)), desc=f"do({name})"):
            system.settings = {"guidance_scale": {name: scale}, "intervention_level": {name: level}}
            changed = answer(system, opened, opened.images, opened.table, do)
            if truth is not None:
                found: dict[str, Any] = {"error": round(float(l1(changed.images, truth.images).mean()), 5)}
            else:
                after = {by: _predict(opened, one, changed.images) for by, one in opened_predictors.items()}
                found = _off_by(opened, name, values, before, after, changed.covariates)
            errors[name].append({"scale": scale, "level": level} | found)
        chosen[name] = choose(errors[name], TOLERANCE if truth is None else 0) | {"images": len(opened.images)}
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
    if (directory / CALIBRATION).exists():
        record = with_earlier(record, Record.read(directory / CALIBRATION))
    record.write(directory / CALIBRATION)
    config = pipeline.config
    kept = strengths(config.default_guidance_scale, config.default_intervention_level, opened.covariates)
    own = dict(zip(opened.covariates.names, kept.values(), strict=True))
    strength = {**own, **{name: Strength(one["scale"], one["level"]) for name, one in chosen.items()}}
    pipeline.register_to_config(
        default_guidance_scale={name: one.scale for name, one in strength.items()},
        default_intervention_level={name: one.level for name, one in strength.items()},
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


def with_earlier(record: Record, earlier: Record) -> Record:
    """A record with what an earlier one says of other covariates, where both are of the same world and predictors.

    Args:
        record: of this calibration.
        earlier: of one before it, of the same generator.

    Returns:
        The record; each chosen strength names the number of images that it was chosen on.
    """
    if _measured_by(record) != _measured_by(earlier):
        return record
    counted = {"images": earlier.counts["images"]}
    chosen = {name: counted | one for name, one in earlier.measured["chosen"].items()} | record.measured["chosen"]
    errors = earlier.measured["errors"] | record.measured["errors"]
    return record.model_copy(update={"measured": {"errors": errors, "chosen": chosen}})


def _measured_by(record: Record) -> tuple[dict[str, str], dict[str, Any]]:
    """World, data, predictors and solver steps of a calibration."""
    # the generator's revision changes with every strength that is saved in it
    inputs = {name: value for name, value in record.inputs.items() if name not in ("generator", "access")}
    return inputs, {name: record.settings[name] for name in ("world", "split", "num_inference_steps")}


def choose(tried: Sequence[Mapping[str, Any]], tolerance: float) -> dict[str, Any]:
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


def _off_by(
    world: World,
    target: str,
    values: list[Any],
    before: Mapping[str, Mapping[str, np.ndarray]],
    after: Mapping[str, Mapping[str, np.ndarray]],
    covariates: Table,
) -> dict[str, float | None]:
    """Error, share of the real gap and mean off-target change of one strength, means over the predictors.

    `before` and `after` are predictions on the images and on their counterfactuals, of `covariates`, by predictor.
    """
    others = world.covariates.subset(set(world.covariates.names) - {target})
    variable, shares, changes = world.covariates[target], [], []
    for by, real in before.items():
        gap = bootstrap([real_gap(variable, others, world.table, real[target])], [world.groups])
        if gap.low is not None and gap.low > 0:
            given = (variable, others, world.table, values, real[target], after[by][target])
            shares.append(float(share_of_gap(*given)(np.ones((1, len(values))))[0]))
        for other in others.walk():
            known = agreement(other, real[other.name], world.table[other.name])
            requested = agreement(other, after[by][other.name], covariates[other.name])
            figure = "auc" if other.categorical else "mae"
            spread = 1.0 if other.categorical else float(np.std(world.training[other.name]))
            if known[figure] is not None and requested[figure] is not None:
                changes.append(abs(requested[figure] - known[figure]) / spread)  # type: ignore[operator]
    sides = [[abs(share - 1) / SHARE for share in shares], [change / OFF_TARGET for change in changes]]
    return {
        "error": round(float(np.mean([np.mean(side) for side in sides if side])), 5),
        "share_of_gap": round(float(np.mean(shares)), 5) if shares else None,
        "off_target": round(float(np.mean(changes)), 5) if changes else None,
    }
