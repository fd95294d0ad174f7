"""Is a protected attribute as frequent in every recipe? Counted on rows, planned or stored.

total variation = max over recipes of  1/2 sum |share of a level in the recipe - its share in all rows|,    0 to 1
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ..schema import Variable
from .plan import GenerationPlan

__all__ = ["balance", "planned_balance", "stored_balance"]

MISSING = -1


def balance(recipes: Sequence[int] | np.ndarray, groups: Sequence[int] | np.ndarray) -> dict[str, float]:
    """How far the groups' shares in a recipe are from those in all rows.

    Args:
        recipes: of each of n rows, from 0 on.
        groups: of each row, from 0 on; MISSING is not counted.

    Returns:
        `total_variation`, 0 where every recipe has every group in the same share; `chi_square` of their independence
        with its `degrees_of_freedom`, about which it is if rows are independent of each other; `n`, rows counted.
    """
    known = np.asarray(groups) != MISSING
    rows, columns = (np.asarray(one, dtype=np.int64)[known] for one in (recipes, groups))
    table = np.zeros((rows.max(initial=0) + 1, columns.max(initial=0) + 1), dtype=np.int64)
    np.add.at(table, (rows, columns), 1)
    table = table[table.any(axis=1)][:, table.any(axis=0)]
    own, all_rows = table.sum(axis=1, keepdims=True), int(table.sum())
    # in whole numbers, so that what is balanced is exactly 0
    apart = np.abs(table * all_rows - own * table.sum(axis=0))
    variation = max((apart.sum(axis=1) / (2 * own[:, 0] * all_rows)).tolist(), default=0.0)
    expected = own * (table.sum(axis=0) / max(all_rows, 1))
    return {
        "total_variation": round(variation, 6),
        "chi_square": round(float(((apart / max(all_rows, 1)) ** 2 / expected).sum()), 3),
        "degrees_of_freedom": max(0, table.shape[0] - 1) * max(0, table.shape[1] - 1),
        "n": all_rows,
    }


def planned_balance(plan: GenerationPlan) -> dict[str, dict[str, float]]:
    """By protected attribute that a plan fixes, a factor or a stratum, the balance of its rows.

    Args:
        plan: with recipes.
    """
    rows = [row for shard in plan.shards() for row in plan.rows(shard)]
    recipes = [row.recipe for row in rows if row.recipe is not None]
    found = {}
    for variable in _protected(plan):
        if variable.name in plan.factors:
            codes = {one: place for place, one in enumerate(dict.fromkeys(cell[variable.name] for cell in plan.cells))}
            groups = [codes[row.cell[variable.name]] for row in rows]
        elif variable.name in plan.strata:
            place = plan.strata.index(variable.name)
            codes = {one: number for number, one in enumerate({stratum[place] for stratum in plan.stratum_names})}
            groups = [codes[row.stratum[place]] for row in rows]
        else:
            continue
        found[variable.name] = balance(recipes, groups)
    return found


def stored_balance(plan: GenerationPlan, paths: Iterable[Path]) -> dict[str, dict[str, float]]:
    """By protected attribute, the balance of what is stored: rows of a factor, subjects of what a family shares.

    Numbers are counted by the two groups of their contrast; one that has none is left out.

    Args:
        plan: with recipes.
        paths: every file of its data set.
    """
    variables = [one for one in _protected(plan) if one.categorical or one.name in plan.preset.contrasts]
    columns = ["subject_id", "recipe", *(one.name for one in variables)]
    tables = [pq.read_table(path, columns=columns, partitioning=None) for path in paths]
    found: dict[str, list[np.ndarray]] = {name: [table[name].to_numpy() for table in tables] for name in columns}
    whole = {name: np.concatenate(parts) for name, parts in found.items()}
    _, firsts = np.unique(whole["subject_id"].astype(str), return_index=True)
    return {
        one.name: balance(whole["recipe"][kept], _groups(plan, one, whole[one.name])[kept])
        for one in variables
        for kept in [slice(None) if one.name in plan.factors else firsts]
    }


def _protected(plan: GenerationPlan) -> Iterator[Variable]:
    return (one for one in plan.preset.covariates.walk() if one.role == "protected")


def _groups(plan: GenerationPlan, variable: Variable, column: np.ndarray) -> np.ndarray:
    """Places of levels, of crossed numbers among those, or of the side of a contrast's threshold."""
    if variable.categorical:
        return np.where(np.isnan(column.astype(float)), MISSING, column).astype(np.int64)
    if variable.name in plan.factors:
        return np.unique(column, return_inverse=True)[1]
    return np.where(np.isnan(column), MISSING, column >= plan.preset.contrasts[variable.name].threshold).astype(int)
