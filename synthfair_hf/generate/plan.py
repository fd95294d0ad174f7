"""What will exist, before anything runs.

A plan fixes the subjects with their split, stratum, draw and seed, and each subject's family: one row per cell of the
full crossing of the factors. Shards and rows are derived from (plan, index) and never stored:

    rows = subjects x cells
    draw = place among the rows of the same split and cell, by a seeded permutation of each stratum (`views.draws`)

so that every finest cell (split x stratum x factor levels) holds one row per subject. A `target` sets shares of levels
and strata instead, and families lack some of their members (`design`).
A shard is a number of subjects with their families; where train is large, all are of one stratum and tenth of `draw`,
and its files hold one cell each (`layout`). The bytes of the images follow from the plan, model, source, library
versions and type of device.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from ..causal.graph import CausalGraph
from ..domains.preset import Preset
from ..domains.prompts import render_prompt
from ..errors import InputError, invalid_settings, named_by_no_text, unknown
from ..records import Access, fingerprint
from ..schema import SPLITS
from ..views.draws import Scheme, parities
from ..views.layout import word
from ..views.manifest import plan_identity
from ..views.shares import Train, levels_of, strata_of, unmet_views
from .allocation import Allocation, checked_fractions, checked_shares
from .design import Design, Support, cell_words, integer
from .numerics import Numerics
from .recipe_table import RecipeTable
from .rows import Row, Shard
from .sampling import Sampling
from .sharding import count_shards, divide

__all__ = ["SCM", "VERSIONS", "GenerationPlan"]

SCM = "scm"
"""The `source` of a plan whose subjects are draws from the model itself."""

VERSIONS = ("draws_version", "png_version", "parquet_version")
"""Of how data sets are written: 1 in plans that name none, and what was begun goes on as it was begun."""

SEEDS, STRIDE = 2**32, 0x9E3779B1
"""torch's CPU generators distinguish this many seeds; an odd stride visits each of them once."""

MOST_CELLS = 1024
"""Members of a family; more were not meant: ten findings crossed are as many."""

SAMPLE = 1000
"""Subjects that are enough to time a batch of images."""

PNG_BYTES_PER_PIXEL = 0.7
ROW_BYTES = 700
"""Of a channel of an 8-bit PNG, and a row's other columns with the image's provenance: for estimates of size only."""


class GenerationPlan(Numerics, BaseModel):
    """Everything that decides what a data set will contain; two plans with one fingerprint give the same rows.

    `preset` is the domain, restricted to the model's covariates, and takes over the plan's own factors, strata and
    balanced contrasts. Every factor is crossed over its `levels`: all of them for a categorical variable; a continuous
    one must be given its values, in its unit. `target` gives shares of the levels of factors, and of the two contrast
    groups of any other variable, which becomes a stratum; what it does not name is balanced, and what it names is not,
    so that `preset` no longer promises views of it. Files of train hold one cell and one tenth of `draw` each from
    `partitioned_from` subjects a stratum on. `world` names the world that is its own generator, if none was trained:
    then every counterfactual is exact. `source` is the name of the data set the subjects come from, or "scm" for
    draws from the model; `access` is the strictest of what model and source were made from. `gate` is the identity of
    the attribute predictor of the quality gate, if there is one; a family that does not pass is drawn `gate_attempts`
    times in all, and `gate_tolerance` is the largest allowed difference of a continuous factor. `support` lists cells
    that are rare in the model's training data; where its images were counted, rows say whether theirs is one of them.
    `sampling` is given where a text-to-image pipeline makes the images, from prompts: the members of a family are then
    same-noise samples, not counterfactuals. `recipes` are contexts (`recipes.read_recipes`), of which each subject has
    one, by its rank. `draws_version` is that of `views.draws`, `png_version` that of what each PNG says of itself
    (`render.statement`), `parquet_version` that of how files hold the images (`store`); a plan that was stored without
    one has version 1.

    Raises:
        InputError: settings that cannot be planned, in one sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preset: Preset
    model_revision: str
    num_subjects: PositiveInt = Field(le=2**28, description="families to generate")
    seed: int = Field(0, description="of subjects and their noise")
    factors: tuple[str, ...] = Field(
        default_factory=lambda settings: settings["preset"].factors,
        description="variables that each family crosses; the preset's by default",
    )
    levels: dict[str, tuple[float | str, ...]] = Field({}, description="values of a factor to cross, in its unit")
    split_fractions: dict[str, float] = SPLITS
    subjects_per_shard: PositiveInt = Field(100, description="subjects whose families one shard holds")
    partitioned_from: PositiveInt = 500
    batch_size: PositiveInt = Field(16, description="images that the network makes at a time")
    num_inference_steps: PositiveInt | None = Field(None, description="solver steps; the generator's own by default")
    guidance_scale: float | None = Field(
        default=None, ge=0, description="strength on changed covariates; the generator's own by default"
    )
    resolution: PositiveInt = Field(default_factory=lambda settings: settings["preset"].resolution)
    world: str | None = None
    source: str = SCM
    source_fingerprint: str | None = None
    access: Access = "unknown"
    gate: str | None = None
    gate_attempts: PositiveInt = Field(
        default=1, le=8, description="how often a family that does not pass the quality gate is drawn in all"
    )
    gate_tolerance: dict[str, float] = Field(
        {}, description="largest difference of a predicted from the requested number"
    )
    target: dict[str, dict[str, float]] = Field(
        {}, description="shares of levels or groups, from 0 to 1; what is not named is balanced"
    )
    support: Support | None = None
    sampling: Sampling | None = None
    draws_version: Literal[1, 2] = 2
    png_version: Literal[1, 2] = 2
    parquet_version: Literal[1, 2] = 2
    recipes: tuple[dict[str, str], ...] = ()

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise invalid_settings(error, "plan", type(self).model_fields) from None
        except TypeError as error:
            raise named_by_no_text(error, "plan") from None

    @model_validator(mode="after")
    def _can_be_planned(self) -> "GenerationPlan":
        covariates = self.preset.covariates
        for name in self.factors:
            if name not in covariates:
                raise unknown("factors", name, covariates.names)
            if not covariates[name].categorical and name not in self.levels:
                raise InputError(
                    f"factors: {name} is continuous; give the values to cross as levels of {name}, in "
                    f"{covariates[name].unit}."
                )
        if len(set(self.factors)) < len(self.factors):
            raise InputError(f"factors: {', '.join(self.factors)} names a variable twice; name each once.")
        for name, levels in self.levels.items():
            if name not in self.factors:
                raise unknown("levels", name, self.factors)
            for level in levels if covariates[name].categorical else ():
                # by its own name, which is part of the plan's identity
                if level not in covariates[name].levels:
                    raise unknown(f"levels[{name!r}]", level, covariates[name].levels)
            codes = covariates[name].encode(levels, f"levels[{name!r}]", known=True)
            if not levels or len(set(codes.tolist())) < len(levels):
                raise InputError(f"levels[{name!r}]: {list(levels)} must be one or more distinct values.")
        cells = math.prod(len(self._levels(name)) for name in self.factors)
        if cells > MOST_CELLS:
            raise InputError(
                f"factors: crossing {', '.join(self.factors)} makes families of {cells} images; cross fewer variables "
                f"or levels, for at most {MOST_CELLS} (what is not crossed keeps the subject's value)."
            )
        for name in self.target:
            if name not in self.factors and name not in self.preset.contrasts:
                raise unknown("target", name, dict.fromkeys((*self.factors, *self.preset.contrasts)))
        for name in self.strata:
            if name not in self.preset.contrasts:
                raise InputError(f"strata: {name} has no contrast in preset {self.preset.name}; give it one.")
        self._check_words()
        # a validator may still change what is frozen for everybody else
        target = {name: checked_shares(name, self._levels(name), shares) for name, shares in self.target.items()}
        object.__setattr__(self, "target", target)
        self._check_gate()
        self._check_world()
        self._check_recipes()
        self._allocation.check()
        balanced = {name: contrast for name, contrast in self.preset.contrasts.items() if self._keeps_balance(name)}
        factors, strata = (tuple(name for name in names if name not in target) for names in (self.factors, self.strata))
        own = {"factors": factors, "strata": strata, "contrasts": balanced}
        object.__setattr__(self, "preset", self.preset.model_copy(update=own))
        return self

    def _keeps_balance(self, name: str) -> bool:
        """Whether equally many of a factor's crossed levels lie in each group of its contrast; true of all others."""
        if name not in self.factors:
            return True
        if name in self.target:
            return False
        contrast, groups = self.preset.contrasts[name], [self._group(name, cell[name]) for cell in self.cells]
        return 0 < groups.count(contrast.first) == groups.count(contrast.second)

    def _check_words(self) -> None:
        """Levels and groups whose names in paths are equal would overwrite each other's files."""
        named = {name: self.preset.covariates[name].levels for name in self.factors}
        for name in self.strata:
            named[name] = (self.preset.contrasts[name].first, self.preset.contrasts[name].second)
        for name, levels in named.items():
            if len(set(map(word, levels))) < len(levels):
                raise InputError(
                    f"{name}: two of {', '.join(map(repr, levels))} have one name in paths ({word(levels[0])}, ...); "
                    "rename them so that letters, digits, dots, + or - differ."
                )

    def _check_gate(self) -> None:
        if self.gate is None and (self.gate_attempts > 1 or self.gate_tolerance):
            raise InputError("gate_attempts, gate_tolerance: are for a gate, and none is given; give one, or neither.")
        if self.source != SCM and self.gate_attempts > 1:
            raise InputError("gate_attempts: a real observation cannot be drawn again; leave it at 1 with a source.")

    def _check_world(self) -> None:
        networks = ("num_inference_steps", "guidance_scale", *Numerics.model_fields)
        given = [name for name in networks if getattr(self, name) != type(self).model_fields[name].default]
        if self.world is not None and given:
            raise InputError(f"{given[0]}: is for a network, and the world {self.world} has none; leave it out.")
        if self.sampling is None:
            return
        if self.source != SCM:
            raise InputError(
                f"source: subjects cannot be observed in {self.source} by {self.sampling.generator}, because a "
                "text-to-image pipeline abducts no image's noise; draw them."
            )
        for name in ("channels_last", "compile"):
            if getattr(self, name):
                raise InputError(f"{name}: is for a network of this package; leave it out with a text-to-image one.")

    def _check_recipes(self) -> None:
        if self.recipes and self.source != SCM:
            raise InputError("recipes: a real observation has a context of its own; leave them out with a source.")
        if self.recipes:
            self.recipe_table.check(self.factors, self.strata)

    @cached_property
    def recipe_table(self) -> RecipeTable:
        """What each recipe says of a subject."""
        return RecipeTable(self.recipes, self.preset)

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the plan, `views.manifest.plan_identity` of its settings."""
        return plan_identity(self.model_dump(mode="json"))

    @model_serializer(mode="wrap")
    def _as_stored(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what plans did not name at first: their files stay as they were written."""
        found: dict[str, Any] = handler(self)
        absent = {
            **{name: getattr(self, name) == 1 for name in VERSIONS},
            "sampling": self.sampling is None,
            "recipes": not self.recipes,
        }
        return {name: value for name, value in found.items() if not absent.get(name, False)}

    def prompt(self, values: Mapping[str, Any], recipe: int | None = None) -> str:
        """The prompt for an image.

        Args:
            values: decoded covariates by name.
            recipe: the place of its context, if it has one.
        """
        return render_prompt(self.preset, values, self.recipe_table.context(recipe))

    def told(self, rows: Sequence[Row]) -> dict[str, list[dict[str, str]]]:
        """What a generator is called with beside the covariates of rows: their contexts, where these say anything."""
        table = self.recipe_table
        return {"context": [table.context(row.recipe) for row in rows]} if table.said else {}

    @property
    def shows_support(self) -> bool:
        """Whether rows have a column `out_of_support`: where the generator's training images were counted."""
        return self.support is not None and self.support.training_images is not None

    def is_out_of_support(self, row: Row) -> bool:
        """Whether a row's cell is among those out of support."""
        return self.support is not None and cell_words(row.stratum, row.cell) in self.support.out_of_support

    @property
    def strata(self) -> tuple[str, ...]:
        """Variables whose contrast groups receive equally many subjects, then those whose groups have a target.

        A crossed one is left to the family.
        """
        return strata_of(self.preset, self.factors, self.target)

    def _levels(self, name: str) -> Sequence[float | str]:
        """What a variable is balanced or targeted over: a factor's levels, another's contrast groups."""
        return levels_of(name, self.preset, self.factors, self.levels)

    @cached_property
    def stratum_names(self) -> list[tuple[str, ...]]:
        """Every stratum, as the group of each variable in `strata`."""
        return list(product(*(map(str, self._levels(name)) for name in self.strata)))

    @cached_property
    def cells(self) -> list[dict[str, Any]]:
        """The full crossing of the factors' values: one dict per member of a family. Numbers are float32-exact."""
        variables = [self.preset.covariates[name] for name in self.factors]
        values = [variable.decode(variable.encode(self._levels(variable.name))) for variable in variables]
        return [dict(zip(self.factors, cell, strict=True)) for cell in product(*values)]

    def _shares(self, names: Sequence[str]) -> list[list[float]]:
        """The shares of these variables' levels: the target's, or equal ones."""
        levels = {name: self._levels(name) for name in names}
        return [
            list(self.target.get(name, dict.fromkeys(map(str, one), 1 / len(one))).values())
            for name, one in levels.items()
        ]

    @cached_property
    def _allocation(self) -> Allocation:
        shares = tuple(map(math.prod, product(*self._shares(self.strata))))
        fractions = checked_fractions(self.split_fractions)
        return Allocation(self.num_subjects, fractions, shares, not set(self.strata) & set(self.target))

    @cached_property
    def design(self) -> Design:
        """Splits, strata, draws and families of the subjects."""
        shares = self._shares(self.factors) if set(self.factors) & set(self.target) else None
        levels = [len(self._levels(name)) for name in self.factors]
        everybody_shows_all = shares is None or all(len(set(one)) == 1 for one in shares)
        complete = self._allocation.balanced and everybody_shows_all
        scheme = Scheme(self.draws_version, len(self.stratum_names), parities(levels), complete)
        return Design(self._allocation, self.stratum_names, scheme, shares, self.seed)

    @property
    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields}

    @cached_property
    def train(self) -> Train:
        """The training subjects, from which the shares of views follow."""
        train = Train.of(self.preset, self._settings)
        assert train is not None, "a plan has all settings"
        return train

    @property
    def num_rows(self) -> int:
        """Rows of the whole data set."""
        return sum(self._rows.values())

    @cached_property
    def _rows(self) -> dict[str, int]:
        found = dict.fromkeys(self.subjects, 0)
        for split, stratum in self.groups:
            found[split] += int(self.design.totals(split, stratum).sum())
        return found

    def count(self, shard: Shard) -> int:
        """Rows of a shard."""
        return int(self.design.rows(shard.split, shard.subjects).sum())

    @property
    def subjects(self) -> dict[str, range]:
        """Subjects of each split that has any."""
        return self.design.subjects

    @property
    def groups(self) -> dict[tuple[str, tuple[str, ...]], range]:
        """Subjects of each (split, stratum)."""
        return self.design.groups

    def largest_num_subjects(self, available: Mapping[tuple[str, tuple[str, ...]], int]) -> int:
        """The largest `num_subjects` that so many candidates in each of the `groups` allow; 0 when none does."""
        return self._allocation.largest(
            [[available.get((split, stratum), 0) for stratum in self.stratum_names] for split in SPLITS]
        )

    @cached_property
    def _first_seed(self) -> int:
        return integer(self.seed, "subject")

    def subject_seed(self, subject: int, attempt: int = 0) -> int:
        """Seed in [0, 2^32) of a subject's attempt-th draw, distinct for all subjects and the first 16 attempts.

        Args:
            subject: 0 to num_subjects - 1.
            attempt: 0 to 15.
        """
        return (self._first_seed + (attempt * self.num_subjects + subject) * STRIDE) % SEEDS

    def stratum(self, values: Mapping[str, Any]) -> tuple[str, ...] | None:
        """The stratum of a subject with these values; None when a level belongs to neither group of a contrast."""
        groups = [group for name in self.strata if (group := self._group(name, values[name]))]
        return tuple(groups) if len(groups) == len(self.strata) else None

    def _group(self, name: str, value: Any) -> str | None:
        """The group of a variable's contrast that a value belongs to, if any."""
        contrast = self.preset.contrasts[name]
        if contrast.threshold is not None:
            return contrast.first if value < contrast.threshold else contrast.second
        return value if value in (contrast.first, contrast.second) else None

    @cached_property
    def partitioned(self) -> bool:
        """Whether files of train hold one cell and one tenth of `draw` each."""
        groups = [subjects for (split, _), subjects in self.groups.items() if split == "train"]
        return min(map(len, groups), default=0) >= self.partitioned_from

    def shards(self) -> list[Shard]:
        """The shards of the data set, in order; none crosses a split."""
        return list(divide(self.design, self.cells, self.strata, self.subjects_per_shard, self.partitioned))

    def rows(self, shard: Shard) -> list[Row]:
        """The rows of a shard: families one after another, each in the order of `cells`."""
        split, design = shard.split, self.design
        first, width = self.subjects[split].start, len(str(len(self.cells) - 1))
        rows = []
        draws_of = design.draws(split, shard.subjects).tolist()
        recipes: list[int] | list[None] = [None] * len(shard.subjects)
        if self.recipes:
            recipes = design.recipes(split, shard.subjects, len(self.recipes)).tolist()
        for subject, draws, recipe in zip(shard.subjects, draws_of, recipes, strict=True):
            subject_id, offset = f"{self.fingerprint[:8]}-{subject:07d}", subject - first
            stratum = self.stratum_names[design.stratum_of[split][offset]]
            rows += [
                Row(
                    f"{subject_id}-{member:0{width}d}",
                    split,
                    subject,
                    subject_id,
                    member,
                    self.cells[member],
                    self.subject_seed(subject),
                    draws[design.scheme.parities[member]],
                    stratum,
                    recipe,
                )
                for member in design.members(split, offset)
            ]
        return rows

    def _recipes_in_use(self) -> dict[str, Any]:
        """Number and identity of the recipes, and how many of them have a subject of each split."""
        number, most = len(self.recipes), dict.fromkeys(self.subjects, 0)
        for (split, _), subjects in self.groups.items():
            most[split] = max(most[split], min(len(subjects), number))
        return {"number": number, "fingerprint": fingerprint(self.recipes), "in_use": most}

    @cached_property
    def acted_on(self) -> tuple[str, ...]:
        """The factors and everything they cause, in schema order: with all known ones in `do`, these are fixed."""
        return self._with_effects(self.factors)

    @cached_property
    def _graph(self) -> CausalGraph:
        return CausalGraph(self.preset.covariates.names, self.preset.edges)

    def _with_effects(self, names: Sequence[str]) -> tuple[str, ...]:
        reached = {*names, *self._graph.descendants(names)}
        return tuple(name for name in self.preset.covariates.names if name in reached)

    def intervention(self, cell: Mapping[str, Any], factual: Mapping[str, Any]) -> dict[str, Any]:
        """The smallest `do` that brings a subject into a cell and leaves its other covariates as they are.

        It sets the factors that differ, and holds everything they cause at the cell's or the subject's value; what is
        unknown of the subject stays so. An empty one says that the cell is the subject's own.

        Args:
            cell: values of the factors.
            factual: the subject's own covariates.
        """
        changed = [name for name in self.factors if cell[name] != factual[name]]
        held = {name: cell.get(name, factual[name]) for name in self._with_effects(changed)}
        return {name: value for name, value in held.items() if value is not None}

    def sample(self) -> "GenerationPlan":
        """A plan of a thousand subjects or so, or this one if it has fewer, for what is the same of any number."""
        number = self._allocation._replace(num_subjects=min(self.num_subjects, SAMPLE)).nearest
        return self if number >= self.num_subjects else type(self)(**{**self._settings, "num_subjects": number})

    def summary(self) -> dict[str, Any]:
        """The figures of a dry run: counts by split, factors and levels, target, support, and an estimate of bytes."""
        pixels = self.resolution**2 * self.preset.channels
        return {
            "plan": self.fingerprint,
            "subjects": {split: len(subjects) for split, subjects in self.subjects.items()},
            "rows": dict(self._rows),
            "shards": count_shards(self.design, self.subjects_per_shard, self.partitioned),
            "factors": {name: list(dict.fromkeys(cell[name] for cell in self.cells)) for name in self.factors},
            "family_size": len(self.cells),
            "strata": [" / ".join(stratum) for stratum in self.stratum_names if stratum],
            "target": self.target,
            # a rare level may have no row in a small split
            "cells": sum(int((self.design.totals(*group) > 0).sum()) for group in self.groups),
            "views_not_listed": unmet_views(self.preset, self.train),
            "support": None if self.support is None else self.support.model_dump(),
            **({"recipes": self._recipes_in_use()} if self.recipes else {}),
            "estimated_bytes": round(self.num_rows * (pixels * PNG_BYTES_PER_PIXEL + ROW_BYTES)),
        }
