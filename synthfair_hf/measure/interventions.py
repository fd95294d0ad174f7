"""The values of do(), and what it holds fixed.

Figures of the two ways to choose values cannot be compared with each other, so rows name theirs. do(a = a') changes a
and, in effect "total", what a causes; in effect "direct" that is held at the values it had.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from ..domains.worlds import Table, World
from ..errors import InputError
from ..records import row_generator

__all__ = ["INTERVENTIONS", "Effect", "bins", "forced_change", "from_marginal", "hold"]

Effect = Literal["total", "direct"]


def from_marginal(world: World, name: str, seed: int) -> list[Any]:
    """Values from a permutation of the training values, so that their marginal is kept.

    Args:
        world: the images.
        name: of the variable.
        seed: of the permutation.

    Returns:
        One value per image.
    """
    values = world.training[name]
    rng = row_generator(seed, world.covariates.names.index(name))
    order = np.concatenate([rng.permutation(len(values)) for _ in range(-(-len(world.groups) // len(values)))])
    return [values[index] for index in order[: len(world.groups)]]


def forced_change(world: World, name: str, seed: int) -> list[Any]:
    """Values that differ from the observed ones: another level, or a training value from another quintile.

    Args:
        world: the images.
        name: of the variable.
        seed: of the choice.

    Returns:
        One value per image.

    Raises:
        InputError: where all training values lie in one quintile.
    """
    variable, values = world.covariates[name], world.training[name]
    rng = row_generator(seed, world.covariates.names.index(name))
    own, pool = bins(world, name, world.table[name]), bins(world, name, values)
    allowed = np.arange(len(variable.levels)) if variable.categorical else np.unique(pool)
    members = {bin_: np.flatnonzero(pool == bin_) for bin_ in allowed.tolist()}
    drawn = []
    for bin_ in own:
        others = allowed[allowed != bin_]
        if not len(others):
            raise InputError(f"training[{name!r}]: all values lie in one bin; forced_change needs two or more.")
        chosen = int(rng.choice(others))
        drawn.append(variable.levels[chosen] if variable.categorical else values[rng.choice(members[chosen])])
    return drawn


INTERVENTIONS: dict[str, Callable[[World, str, int], list[Any]]] = {
    "from_marginal": from_marginal,
    "forced_change": forced_change,
}
"""Ways to choose the values of do(); their figures cannot be compared with each other."""


def bins(world: World, name: str, values: Sequence[Any]) -> np.ndarray:
    """Bins of values: level indices, or quintiles of the training values.

    Args:
        world: has the training values.
        name: of the variable.
        values: decoded, one per image.

    Returns:
        Integers `[n]`.
    """
    variable = world.covariates[name]
    if variable.categorical:
        return variable.encode(values)
    return np.searchsorted(np.quantile(world.training[name], [0.2, 0.4, 0.6, 0.8]), values, side="right")


def hold(world: World, do: Table, covariates: Table, effect: Effect) -> dict[str, list[Any]]:
    """The intervention of an effect.

    Args:
        world: knows what a variable causes.
        do: values by name, one per image.
        covariates: values by name that are held.
        effect: "total" leaves `do` as it is; "direct" adds the descendants of its variables, at `covariates`.

    Returns:
        Values by name, one per image.
    """
    if effect == "total":
        return dict(do)
    caused = {other for name in do for other in world.effects(name)} - set(do)
    return {**{name: covariates[name] for name in sorted(caused)}, **do}
