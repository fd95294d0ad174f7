"""What will exist, before anything runs.

A plan fixes the subjects with their split, stratum, draw and seed, and each subject's family: one row per cell of the
full crossing of the factors. Shards and rows are derived from (plan, index) and never stored:

    rows = subjects x cells
    draw = (rank + 1/2) / n,  rank = place in a seeded permutation of the n subjects of the same split and stratum

so that every finest cell (split x stratum x factor levels) holds one row per subject, and all cells of a split hold the
same draws. A shard is a number of subjects with their families; where train is large, all are of one stratum and tenth
of `draw`, and its files hold one cell each (`layout`). The bytes of the images follow from the plan, model, source,
library versions and type of device.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from ..causal.graph import CausalGraph
from ..errors import InputError, refusal, unknown
from ..layout import TENTHS, train_file, word
from ..presets import Preset
from ..records import Access, fingerprint
from ..schema import SPLITS
from .rows import Row, Shard

__all__ = ["SCM", "GenerationPlan", "largest_remainder"]

SCM = "scm"
"""The `source` of a plan whose subjects are draws from the model itself."""

SEEDS, STRIDE = 2**32, 0x9E3779B1
"""torch's CPU generators tell this many seeds apart; an odd stride visits each of them once."""

PNG_BYTES_PER_PIXEL = 0.7
ROW_BYTES = 700
"""An 8-bit radiograph as PNG, and a row's other columns with the image's provenance: for estimates of size only."""


def largest_remainder(total: int, fractions: Sequence[float]) -> list[int]:
    """Non-negative integers that sum to `total`, each less than one away from its share; ties go to the first."""
    whole = math.fsum(fractions)
    quotas = [total * fraction / whole for fraction in fractions]
    counts = [math.floor(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda index: counts[index] - quotas[index])
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return counts


class GenerationPlan(BaseModel):
    """Everything that decides what a data set will contain; two plans with one fingerprint give the same rows.

    `preset` is the domain, restricted to the model's covariates, and takes over the plan's own factors, strata and
    balanced contrasts. Every factor is crossed over its `levels`: all of them for a categorical variable; a continuous
    one must be given its values, in its unit. Files of train hold one cell and one tenth of `draw` each from
    `partitioned_from` subjects a stratum on. `source` is the name of the data set the subjects come from, or "scm" for
    draws from the model; `access` is the strictest of what model and source were made from. `gate` is the identity of
    what reads every image, if anything does; a family that it refuses is drawn `gate_attempts` times in all, and
    `gate_tolerance` says by how much a continuous factor may be missed. Raises InputError, one sentence, for anything
    that cannot be planned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preset: Preset
    model_revision: str
    num_subjects: PositiveInt = Field(le=2**28)
    seed: int = 0
    factors: tuple[str, ...] = Field(default_factory=lambda settings: settings["preset"].factors)
    levels: dict[str, tuple[float | str, ...]] = {}
    split_fractions: dict[str, float] = SPLITS
    subjects_per_shard: PositiveInt = 100
    partitioned_from: PositiveInt = 500
    batch_size: PositiveInt = 16
    num_inference_steps: PositiveInt | None = None
    guidance_scale: float | None = Field(default=None, ge=0)
    resolution: PositiveInt = Field(default_factory=lambda settings: settings["preset"].resolution)
    source: str = SCM
    source_fingerprint: str | None = None
    access: Access = "unknown"
    gate: str | None = None
    gate_attempts: PositiveInt = Field(default=1, le=8)
    gate_tolerance: dict[str, float] = {}

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise refusal(error, "plan", type(self).model_fields) from None

    @model_validator(mode="after")
    def _can_be_planned(self) -> "GenerationPlan":
        covariates = self.preset.covariates
        for name in self.factors:
            if name not in covariates:
                raise unknown("factors", name, covariates.names)
            if not covariates[name].categorical and name not in self.levels:
                raise InputError(
                    f"factors: {name} is continuous; in Python give the values to cross as levels={{{name!r}: [...]}}; "
                    "the command line crosses categorical factors only."
                )
        if len(set(self.factors)) < len(self.factors):
            raise InputError(f"factors: {', '.join(self.factors)} names a variable twice; name each once.")
        for name, levels in self.levels.items():
            if name not in self.factors:
                raise unknown("levels", name, self.factors)
            if not levels or len(set(covariates[name].encode(levels, f"levels[{name!r}]").tolist())) < len(levels):
                raise InputError(f"levels[{name!r}]: {list(levels)} must be one or more distinct values.")
        for name in self.strata:
            if name not in self.preset.contrasts:
                raise InputError(f"strata: {name} has no contrast in preset {self.preset.name}; give it one.")
        self._check_words()
        self._check_gate()
        self._check_fractions()
        self._check_num_subjects()
        balanced = {name: contrast for name, contrast in self.preset.contrasts.items() if self._keeps_balance(name)}
        own = {"factors": self.factors, "strata": self.strata, "contrasts": balanced}
        # a validator may still change what is frozen for everybody else
        object.__setattr__(self, "preset", self.preset.model_copy(update=own))
        return self

    def _keeps_balance(self, name: str) -> bool:
        """Whether equally many of a factor's crossed levels lie in each group of its contrast; true of all others."""
        if name not in self.factors:
            return True
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
                    "call them so that letters, digits, dots, + or - tell them apart."
                )

    def _check_gate(self) -> None:
        if self.gate is None and (self.gate_attempts > 1 or self.gate_tolerance):
            raise InputError("gate_attempts, gate_tolerance: are for a gate, and none is given; give one, or neither.")
        if self.source != SCM and self.gate_attempts > 1:
            raise InputError("gate_attempts: a real observation cannot be drawn again; leave it at 1 with a source.")

    def _check_fractions(self) -> None:
        for split, fraction in self.split_fractions.items():
            if split not in SPLITS:
                raise unknown("split_fractions", split, SPLITS)
            if fraction < 0:
                raise InputError(f"split_fractions[{split!r}]: {fraction:g} is negative; allowed: 0 to 1.")
        if abs(math.fsum(self._fractions) - 1) > 1e-6:
            raise InputError(f"split_fractions: they sum to {math.fsum(self._fractions):g}; they must sum to 1.")

    def _check_num_subjects(self) -> None:
        per_stratum, left_over = divmod(self.num_subjects, self.num_strata)
        if not left_over and self._fills_splits(per_stratum):
            return
        # from here on every split gets a subject by its whole share alone
        ample = math.ceil(1 / min(fraction for fraction in self._fractions if fraction))
        first = per_stratum if per_stratum > ample else 1
        possible = (
            count * self.num_strata for count in range(first, max(per_stratum, ample) + 2) if self._fills_splits(count)
        )
        nearest = min(possible, key=lambda number: abs(number - self.num_subjects))
        raise InputError(
            f"num_subjects: {self.num_subjects} cannot give every split equally many subjects, one or more, in each of "
            f"{self.num_strata} strata; the nearest possible number is {nearest}."
        )

    def _fills_splits(self, per_stratum: int) -> bool:
        counts = largest_remainder(per_stratum, self._fractions)
        return all(count > 0 for count, fraction in zip(counts, self._fractions, strict=True) if fraction)

    @property
    def _fractions(self) -> list[float]:
        return [self.split_fractions.get(split, 0.0) for split in SPLITS]

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the plan: any changed setting changes it, the order of keys never does.

        The preset's network is left out: `model_revision` decides what is drawn, whatever is built by default today.
        """
        return fingerprint(self.model_dump(mode="json", exclude={"preset": {"network"}}))

    @property
    def strata(self) -> tuple[str, ...]:
        """Variables whose contrast groups receive equally many subjects; a crossed one is balanced by the family."""
        return tuple(name for name in self.preset.strata if name not in self.factors)

    @cached_property
    def stratum_names(self) -> list[tuple[str, ...]]:
        """Every stratum, as the group of each variable in `strata`."""
        contrasts = [self.preset.contrasts[name] for name in self.strata]
        return list(product(*((contrast.first, contrast.second) for contrast in contrasts)))

    @property
    def num_strata(self) -> int:
        """Number of strata; 1 without stratified variables."""
        return len(self.stratum_names)

    @cached_property
    def cells(self) -> list[dict[str, Any]]:
        """The full crossing of the factors' values: one dict per member of a family. Numbers are float32-exact."""
        variables = [self.preset.covariates[name] for name in self.factors]
        values = [
            variable.decode(variable.encode(self.levels.get(variable.name, variable.levels))) for variable in variables
        ]
        return [dict(zip(self.factors, cell, strict=True)) for cell in product(*values)]

    @property
    def num_rows(self) -> int:
        """Rows of the whole data set."""
        return self.num_subjects * len(self.cells)

    @cached_property
    def subjects(self) -> dict[str, range]:
        """Subjects of each split that has any; within a split they take its strata in turn."""
        sizes = [count * self.num_strata for count in largest_remainder(self._per_stratum, self._fractions)]
        ends = np.cumsum(sizes).tolist()
        ranges = {split: range(end - size, end) for split, size, end in zip(SPLITS, sizes, ends, strict=True)}
        return {split: subjects for split, subjects in ranges.items() if subjects}

    @property
    def _per_stratum(self) -> int:
        return self.num_subjects // self.num_strata

    @property
    def groups(self) -> dict[tuple[str, tuple[str, ...]], range]:
        """Subjects of each (split, stratum)."""
        return {
            (split, stratum): subjects[index :: self.num_strata]
            for split, subjects in self.subjects.items()
            for index, stratum in enumerate(self.stratum_names)
        }

    def largest_num_subjects(self, available: Mapping[tuple[str, tuple[str, ...]], int]) -> int:
        """The largest `num_subjects` that so many candidates in each of the `groups` allow; 0 when none does."""
        fewest = [min(available.get((split, stratum), 0) for stratum in self.stratum_names) for split in SPLITS]
        for count in range(self._per_stratum, 0, -1):
            needed = largest_remainder(count, self._fractions)
            if self._fills_splits(count) and all(one <= most for one, most in zip(needed, fewest, strict=True)):
                return count * self.num_strata
        return 0

    @cached_property
    def _draws(self) -> dict[str, np.ndarray]:
        """Draws of each split's subjects, in their order."""
        draws = {split: np.empty(len(subjects)) for split, subjects in self.subjects.items()}
        for (split, stratum), subjects in self.groups.items():
            random = np.random.default_rng(_integer(self.seed, "draw", split, stratum))
            first = self.subjects[split].start
            draws[split][np.array(subjects) - first] = (random.permutation(len(subjects)) + 0.5) / len(subjects)
        return draws

    @cached_property
    def _first_seed(self) -> int:
        return _integer(self.seed, "subject")

    def subject_seed(self, subject: int, attempt: int = 0) -> int:
        """Seed in [0, 2^32) of a subject's attempt-th draw, distinct for all subjects and the first 16 attempts."""
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
        shards: list[Shard] = []
        for split, subjects in self.subjects.items():
            if split == "train" and self.partitioned:
                shards += self._partitions()
                continue
            parts = self._parts(subjects)
            for index, part in enumerate(parts):
                stem = f"{split}-{index:05d}-of-{len(parts):05d}"
                shards.append(Shard(split, part, stem, {f"data/{stem}.parquet": range(len(self.cells))}))
        return shards

    def _partitions(self) -> Iterator[Shard]:
        first, draws = self.subjects["train"].start, self._draws["train"]
        for stratum in self.stratum_names:
            subjects = np.array(self.groups["train", stratum])
            tenths = np.searchsorted(np.arange(1, TENTHS) / TENTHS, draws[subjects - first], side="right")
            groups = dict(zip(self.strata, stratum, strict=True))
            stem = "-".join(["train", *(word(group) for group in stratum)])
            for tenth in range(TENTHS):
                for index, part in enumerate(self._parts(subjects[tenths == tenth].tolist())):
                    files = {
                        train_file({**groups, **cell}, tenth, index): [member] for member, cell in enumerate(self.cells)
                    }
                    yield Shard("train", part, f"{stem}-{tenth}-{index:05d}", files)

    def _parts(self, subjects: Sequence[int]) -> list[Sequence[int]]:
        starts = range(0, len(subjects), self.subjects_per_shard)
        return [subjects[start : start + self.subjects_per_shard] for start in starts]

    def rows(self, shard: Shard) -> list[Row]:
        """The rows of a shard: families one after another, each in the order of `cells`."""
        first = self.subjects[shard.split].start
        width = len(str(len(self.cells) - 1))
        rows = []
        for subject in shard.subjects:
            subject_id = f"{self.fingerprint[:8]}-{subject:07d}"
            seed, draw = self.subject_seed(subject), float(self._draws[shard.split][subject - first])
            stratum = self.stratum_names[(subject - first) % self.num_strata]
            rows += [
                Row(f"{subject_id}-{member:0{width}d}", shard.split, subject, subject_id, cell, seed, draw, stratum)
                for member, cell in enumerate(self.cells)
            ]
        return rows

    @cached_property
    def acted_on(self) -> tuple[str, ...]:
        """The factors and everything they cause, in schema order: naming them all in `do` fixes every covariate."""
        return self._with_effects(self.factors)

    @cached_property
    def _graph(self) -> CausalGraph:
        return CausalGraph(self.preset.covariates.names, self.preset.edges)

    def _with_effects(self, names: Sequence[str]) -> tuple[str, ...]:
        reached = {*names, *self._graph.descendants(names)}
        return tuple(name for name in self.preset.covariates.names if name in reached)

    def intervention(self, cell: Mapping[str, Any], factual: Mapping[str, Any]) -> dict[str, Any]:
        """The smallest `do` that brings a subject into a cell and leaves its other covariates as they are.

        It sets the factors that differ, and holds everything they cause at the cell's or the subject's value. An empty
        one says that the cell is the subject's own.
        """
        changed = [name for name in self.factors if cell[name] != factual[name]]
        return {name: cell.get(name, factual[name]) for name in self._with_effects(changed)}

    def summary(self) -> dict[str, Any]:
        """What a dry run tells: counts by split, the family's factors and levels, and an estimate of bytes."""
        shards = [shard.split for shard in self.shards()]
        return {
            "plan": self.fingerprint,
            "subjects": {split: len(subjects) for split, subjects in self.subjects.items()},
            "rows": {split: len(subjects) * len(self.cells) for split, subjects in self.subjects.items()},
            "shards": {split: shards.count(split) for split in self.subjects},
            "factors": {name: list(dict.fromkeys(cell[name] for cell in self.cells)) for name in self.factors},
            "family_size": len(self.cells),
            "strata": [" / ".join(stratum) for stratum in self.stratum_names if stratum],
            "cells": len(self.subjects) * self.num_strata * len(self.cells),
            "estimated_bytes": round(self.num_rows * (self.resolution**2 * PNG_BYTES_PER_PIXEL + ROW_BYTES)),
        }


def _integer(*parts: object) -> int:
    """An integer in [0, 2^63) from the sha256 of the parts."""
    return int(fingerprint(parts, length=16), 16) >> 1
