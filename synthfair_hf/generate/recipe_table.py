"""The recipes of a plan: which of their variables are covariates of its subjects, and which are columns of their own.

a covariate of the acquisition      the subject is drawn with its level
anything else                       column `context_<name>`, and part of the prompt of a generator that reads one
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..domains.preset import Preset
from ..errors import InputError

__all__ = ["MOST_RECIPES", "RecipeTable"]

MOST_RECIPES = 10_000
"""They are part of the plan, and every record that holds the plan holds them."""


@dataclass(frozen=True)
class RecipeTable:
    """Contexts by place, all of the same variables; a place of None is that of a subject without one."""

    recipes: Sequence[dict[str, str]]
    preset: Preset

    @property
    def variables(self) -> tuple[str, ...]:
        """Names, in order; none without recipes."""
        return tuple(self.recipes[0]) if self.recipes else ()

    @property
    def said(self) -> tuple[str, ...]:
        """Variables that are no covariates."""
        return tuple(name for name in self.variables if name not in self.preset.covariates)

    def column(self, name: str) -> str:
        """The column of rows that holds a variable."""
        return name if name in self.preset.covariates else f"context_{name}"

    def context(self, place: int | None) -> dict[str, str]:
        """What a recipe says beside covariates."""
        return {} if place is None else {name: self.recipes[place][name] for name in self.said}

    def conditions(self, place: int | None) -> dict[str, str]:
        """The covariates that a recipe gives to its subjects."""
        found = {} if place is None else self.recipes[place]
        return {name: level for name, level in found.items() if name in self.preset.covariates}

    def check(self, factors: Collection[str], strata: Collection[str]) -> None:
        """Check that a plan can use the recipes.

        Args:
            factors: what its families cross.
            strata: what its strata balance.

        Raises:
            InputError: for no or too many recipes, other variables than the first has, one that a column or the plan
                already fixes, and a level that there is not.
        """
        if not self.variables or len(self.recipes) > MOST_RECIPES:
            raise InputError(
                f"recipes: {len(self.recipes)} of {len(self.variables)} variables are not allowed; give 1 to "
                f"{MOST_RECIPES} of one or more."
            )
        for place, recipe in enumerate(self.recipes):
            if tuple(recipe) != self.variables:
                raise InputError(f"recipes[{place}]: not of the first's variables; give {', '.join(self.variables)}.")
        covariates = self.preset.covariates
        for name in self.variables:
            if name not in covariates:
                if self.column(name) in covariates:
                    raise InputError(f"recipes: {self.column(name)} is a covariate, too; give {name} another name.")
                continue
            if name in factors or name in strata:
                fixed = "crossed by every family" if name in factors else "balanced as a stratum"
                raise InputError(f"recipes: {name} is {fixed}; write recipes without it, or plan without it.")
            if covariates[name].role != "acquisition" or not covariates[name].categorical:
                raise InputError(f"recipes: {name} is no level of how images are acquired; write recipes without it.")
            for place, recipe in enumerate(self.recipes):
                if recipe[name] not in covariates[name].levels:
                    covariates[name].encode_value(recipe[name], f"recipes[{place}].{name}", known=True)
                    raise InputError(f"recipes[{place}].{name}: {recipe[name]!r} is an alias; give the level itself.")
