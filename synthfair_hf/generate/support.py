"""Support of the cells of a plan: how many observations of each a model was trained on.

    support(stratum, cell) = observations in the stratum that show the cell's levels
                             a number: the fewer of those at or below it and those at or above it, among the former

Observations are the generator's training images, where its record counts them (`diffusion.coverage`); there a number
has those of its contrast group, and none outside their range. Of older generators they are a source's training
patients, or draws from the causal model. So a number between observed ones has support, and the farther out it lies the
less; of several numbers the least supported counts. Cells with fewer than FEWEST observations are out of support: there
the generator extrapolates. They are reported, and generated all the same.
"""

import logging
from collections.abc import Mapping
from itertools import product

import numpy as np
import torch

from ..diffusion.coverage import Coverage
from ..domains.cells import FEWEST
from ..domains.preset import Preset
from ..domains.source import Source
from .design import Support, cell_words
from .generator import CausalModel
from .plan import GenerationPlan
from .subjects import lacking, source_values

__all__ = ["FEWEST", "cell_counts", "model_support", "say", "source_support", "trained_support"]

SHOWN = 6
"""Cells that are named in a line."""

DRAWS = 20_000

LOGGER = logging.getLogger(__name__)


def trained_support(plan: GenerationPlan, coverage: Coverage, preset: Preset) -> Support:
    """The support of a plan's cells among the generator's training images.

    Args:
        plan: the cells.
        coverage: of the generator.
        preset: of the generator, by whose contrasts its images are counted; a plan keeps those that it balances.
    """
    counts = {}
    for stratum, cell in product(plan.stratum_names, plan.cells):
        values = {**dict(zip(plan.strata, stratum, strict=True)), **cell}
        counts[cell_words(stratum, cell)] = coverage.number(preset, values)
    return Support(
        observed=f"the generator's {coverage.images} training images",
        out_of_support={cell: count for cell, count in counts.items() if count < FEWEST},
        training_images=coverage.images,
    )


def say(plan: GenerationPlan, counted: bool) -> None:
    """One line about the cells of a plan that are out of support, or about what they were looked for in.

    Args:
        plan: with its support.
        counted: whether the generator is one whose training images are counted, or an exact world.
    """
    support = plan.support
    assert support is not None
    by = (
        ""
        if counted
        else ("; the generator's record does not count its training images, so that it may extrapolate elsewhere too")
    )
    if support.out_of_support:
        cells = ", ".join(f"{cell} ({count})" for cell, count in list(support.out_of_support.items())[:SHOWN])
        more = len(support.out_of_support) - SHOWN
        total = len(plan.stratum_names) * len(plan.cells)
        LOGGER.warning(
            "out of support: %d of %d cells have fewer than %d observations among %s, and the generator extrapolates "
            "there: %s%s%s",
            len(support.out_of_support),
            total,
            FEWEST,
            support.observed,
            cells,
            f" and {more} more" if more > 0 else "",
            by,
        )
    elif not counted:
        LOGGER.warning("out of support: no cell, by %s%s", support.observed, by)


def model_support(plan: GenerationPlan, scm: CausalModel, draws: int = DRAWS, seed: int = 0) -> Support:
    """The support of a plan's cells among so many draws from the model; those out of a covariate's range count not.

    Args:
        plan: the cells.
        scm: the causal model.
        draws: number of draws.
        seed: of the draws.
    """
    covariates = plan.preset.covariates
    columns = {name: column.numpy() for name, column in scm.sample(draws, torch.Generator().manual_seed(seed)).items()}
    inside = np.ones(draws, dtype=bool)
    for variable in covariates.walk():
        if not variable.categorical:
            low, high = variable.bounds
            inside &= (columns[variable.name] >= low) & (columns[variable.name] <= high)
    columns = {name: columns[name][inside] for name in covariates.names}
    return _support(plan, columns, np.arange(inside.sum()), f"{draws} draws from the causal model")


def source_support(plan: GenerationPlan, source: Source) -> Support:
    """The support of a plan's cells among a source's training patients, by their images with complete covariates.

    Args:
        plan: the cells.
        source: the images.
    """
    table = source_values(plan, source)
    kept = [
        index
        for index, split in enumerate(source.splits)
        if split == "train" and not lacking(plan, {name: column[index] for name, column in table.items()})
    ]
    covariates = plan.preset.covariates
    columns = covariates.encode({name: [column[index] for index in kept] for name, column in table.items()})
    _, patients = np.unique([source.patient_ids[index] for index in kept], return_inverse=True)
    return _support(plan, columns, patients, f"{len(set(patients.tolist()))} training patients of {source.name}")


def _support(plan: GenerationPlan, columns: Mapping[str, np.ndarray], observed: np.ndarray, words: str) -> Support:
    counts = cell_counts(plan, columns, observed)
    return Support(observed=words, out_of_support={cell: count for cell, count in counts.items() if count < FEWEST})


def cell_counts(plan: GenerationPlan, columns: Mapping[str, np.ndarray], observed: np.ndarray) -> dict[str, int]:
    """How many are observed in each cell, by its words: `group / level / ...`, strata before factors.

    `columns` are encoded covariates `[B]`, complete; `observed` `[B]` says who each row is of, and counts once.

    Args:
        plan: the cells.
        columns: encoded covariates `[B]` by name, none missing.
        observed: each row's observation, `[B]`; rows of the same one count once.
    """
    covariates, counts = plan.preset.covariates, {}
    for stratum, cell in product(plan.stratum_names, plan.cells):
        inside = np.ones(len(observed), dtype=bool)
        for name, group in zip(plan.strata, stratum, strict=True):
            inside &= _in_group(plan, name, group, columns[name])
        numbers = [name for name in cell if not covariates[name].categorical]
        for name in set(cell) - set(numbers):
            inside &= columns[name] == covariates[name].encode_value(cell[name])
        sides = [inside]
        for name in numbers:
            sides += [inside & (columns[name] <= cell[name]), inside & (columns[name] >= cell[name])]
        counts[cell_words(stratum, cell)] = min(len(np.unique(observed[side])) for side in sides)
    return counts


def _in_group(plan: GenerationPlan, name: str, group: str, column: np.ndarray) -> np.ndarray:
    """Which rows `[B]` are in a group of a variable's contrast."""
    contrast, variable = plan.preset.contrasts[name], plan.preset.covariates[name]
    if contrast.threshold is None:
        return column == variable.encode_value(group)
    return column < contrast.threshold if group == contrast.first else column >= contrast.threshold
