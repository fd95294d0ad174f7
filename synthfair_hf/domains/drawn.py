"""Worlds that are drawn: equations of covariates and of an image, with every randomness outside them.

    number := low + span sigmoid(location(parents) + scale e)         e ~ N(0, 1)
    level  := argmax_k (logit_k(parents) + g_k)                       g_k ~ Gumbel(0, 1)
    image  := draw(covariates, parts)                                 parts ~ N(0, 1), several arrays

Noise e, g and parts are independent of each other, so that do(x) with all of them held is the exact counterfactual:
covariates that x does not cause, and what they alone draw, stay bit-equal.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, unknown
from ..records import fingerprint, row_generator
from ..schema import Schema
from .preset import Preset
from .source import patient_split

__all__ = ["RESOLUTIONS", "Array", "DrawnSource", "DrawnWorld", "Equations", "Noise", "grain_on", "is_level", "spline"]

Array = np.ndarray
Parents = Mapping[str, Array]
"""Encoded causes `[n]` of a covariate, by name."""

Term = float | Callable[[Parents], Any]
"""A constant, or a function of the parents `[n]`."""

RESOLUTIONS = (16, 1024)
"""Least and most pixels of an image's side."""


def is_level(schema: Schema, parents: Parents, name: str, level: str) -> Array:
    """1 where a cause has this level, else 0, float64 `[n]`.

    Args:
        schema: of the covariates.
        parents: encoded causes.
        name: of a categorical one.
        level: one of its levels.
    """
    return (parents[name] == schema[name].levels.index(level)).astype(np.float64)


@dataclass(frozen=True)
class Equations:
    """The structural equations of a preset's covariates.

    `numbers` has (low, span, location, scale) of each continuous one, `logits` a logit for each level of the others.
    Both depend on the encoded parents `[n]` that the preset's edges name: an edge that is missing there cannot
    go unnoticed.
    """

    preset: Preset
    numbers: Mapping[str, tuple[float, float, Term, float]]
    logits: Mapping[str, Mapping[str, Term]]

    def sample_noise(self, rng: np.random.Generator) -> dict[str, Array]:
        """Noise of one subject by covariate, float32: `[1]` standard normal, or `[levels]` Gumbel."""
        drawn = {
            one.name: rng.gumbel(size=len(one.levels)) if one.categorical else rng.standard_normal(1)
            for one in self.preset.covariates.walk()
        }
        return {name: values.astype(np.float32) for name, values in drawn.items()}

    def covariates(self, noise: Mapping[str, Array], do: Mapping[str, Any] | None = None) -> dict[str, Array]:
        """Encoded covariates `[n]` by name, under do(...) if given.

        Args:
            noise: by covariate, `[n, 1]` standard normal or `[n, levels]` Gumbel.
            do: by name, a level name or a number in the unit of the variable, or one of them per row.

        Raises:
            InputError: an unknown variable, a value that it cannot have, or another number of values than n.
        """
        n = len(next(iter(noise.values())))
        forced = {name: self._forced(name, value, n) for name, value in (do or {}).items()}
        found: dict[str, Array] = {}
        for name in self.preset.covariates.names:  # causes stand before their effects in these presets
            parents = {cause: found[cause] for cause, effect in self.preset.edges if effect == name}
            found[name] = forced[name] if name in forced else self._evaluate(name, parents, noise[name])
        return found

    def _forced(self, name: str, value: Any, n: int) -> Array:
        schema = self.preset.covariates
        if name not in schema:
            raise unknown("do", name, schema.names)
        values = list(value) if isinstance(value, list | tuple | np.ndarray) else [value] * n
        if len(values) != n:
            raise InputError(f"do[{name!r}]: {len(values)} values for {n} subjects; give one, or one each.")
        return schema[name].encode(values, f"do[{name!r}]", known=True)

    def _evaluate(self, name: str, parents: Parents, noise: Array) -> Array:
        if name in self.numbers:
            low, span, location, scale = self.numbers[name]
            value = low + span / (1 + np.exp(-(_term(location, parents) + scale * noise[:, 0].astype(np.float64))))
            return value.astype(np.float32)
        logits = [np.broadcast_to(_term(logit, parents), len(noise)) for logit in self.logits[name].values()]
        return np.argmax(np.stack(logits, axis=1) + noise, axis=1).astype(np.int64)


def _term(term: Term, parents: Parents) -> Any:
    return term(parents) if callable(term) else term


@dataclass(frozen=True)
class Noise:
    """All randomness of n subjects, float32, everything else being an equation.

    covariates: by name, `[n, 1]` standard normal or `[n, levels]` Gumbel; parts: by name, `[n, ...]` standard normal.
    """

    covariates: dict[str, Array]
    parts: dict[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def __getitem__(self, rows: slice | Sequence[int] | Array) -> "Noise":
        covariates = {name: values[rows] for name, values in self.covariates.items()}
        return Noise(covariates, {name: values[rows] for name, values in self.parts.items()})


class DrawnWorld(ABC):
    """A world whose subjects are drawn one by one.

    A subclass says which `parts` of noise an image has, and draws one. `version` is the identity of its equations: it
    is raised by one whenever a change moves a covariate or a pixel of any subject.
    """

    preset: ClassVar[Preset]
    version: ClassVar[int]
    structure: ClassVar[Equations]
    parts: ClassVar[Mapping[str, tuple[int, ...]]]

    @abstractmethod
    def draw(self, covariates: Mapping[str, Any], parts: Mapping[str, Array], resolution: int) -> Array:
        """One image.

        Args:
            covariates: decoded values by name, none missing.
            parts: the subject's noise by the names of `parts`.
            resolution: height and width in pixels.

        Returns:
            float32 in [0, 1], gray `[resolution, resolution]` or in colours `[3, resolution, resolution]`.
        """

    @property
    def schema(self) -> Schema:
        """Its covariates."""
        return self.preset.covariates

    def equations(self) -> list[str]:
        """Identity of the world."""
        return [f"{self.preset.name} equations {self.version}"]

    def sample_noise(self, n: int, seed: int, first: int = 0) -> Noise:
        """The noise of subjects first ... first + n - 1; that of subject i is a function of (seed, i) alone.

        Args:
            n: number of subjects.
            seed: of the world; all three are 0 or more.
            first: the first subject.

        Raises:
            InputError: a negative number.
        """
        if min(n, seed, first) < 0:
            raise InputError(f"n, seed, first: {n}, {seed}, {first} must not be negative; give integers from 0.")
        rngs = [row_generator(seed, first + row) for row in range(n)]
        drawn = [self.structure.sample_noise(rng) for rng in rngs]
        covariates = {
            one.name: np.reshape([row[one.name] for row in drawn], (n, len(one.levels) or 1)).astype(np.float32)
            for one in self.schema.walk()
        }
        parts = {name: np.empty((n, *shape), np.float32) for name, shape in self.parts.items()}
        for row, rng in enumerate(rngs):
            for values in parts.values():
                rng.standard_normal(dtype=np.float32, out=values[row])
        return Noise(covariates, parts)

    def covariates(self, noise: Noise, do: Mapping[str, Any] | None = None) -> dict[str, Array]:
        """Encoded covariates `[n]` by name, under do(...) if given (`Equations.covariates`)."""
        return self.structure.covariates(noise.covariates, do)

    def render(self, covariates: Mapping[str, Array], noise: Noise, resolution: int) -> Array:
        """The images of encoded covariates `[n]`, float32 `[n, r, r]` or `[n, 3, r, r]` in [0, 1].

        Args:
            covariates: encoded `[n]` by name, none missing.
            noise: of n subjects.
            resolution: height and width r in pixels, 16 to 1024.

        Raises:
            InputError: a resolution out of range, or a missing value.
        """
        low, high = RESOLUTIONS
        if not low <= resolution <= high:
            raise InputError(f"resolution: {resolution} is out of range; allowed: {low} to {high} pixels.")
        values = self.schema.decode(covariates)
        for name, column in values.items():
            if None in column or len(column) != len(noise):
                raise InputError(
                    f"covariates[{name!r}]: {len(column)} values with {column.count(None)} missing for {len(noise)} "
                    "subjects; give one known value per subject."
                )
        images = [
            self.draw(
                {name: column[row] for name, column in values.items()},
                {name: part[row] for name, part in noise.parts.items()},
                resolution,
            )
            for row in range(len(noise))
        ]
        return np.stack(images).clip(0, 1).astype(np.float32)

    def counterfactual(self, noise: Noise, do: Mapping[str, Any], resolution: int) -> tuple[Array, dict[str, Array]]:
        """Images and covariates of the same subjects under do(...); with do = {} the observation itself.

        Args:
            noise: of n subjects.
            do: as in `covariates`.
            resolution: height and width in pixels, 16 to 1024.

        Returns:
            Images as `render` gives them, and encoded covariates `[n]` by name.

        Raises:
            InputError: as in `covariates` and `render`.
        """
        covariates = self.covariates(noise, do)
        return self.render(covariates, noise, resolution), covariates

    def members(self, covariates: Mapping[str, Array], keys: Sequence[int], resolution: int) -> Array:
        """Images under encoded covariates `[n]`, of subjects whose noise of the image is that of seed `keys[i]`."""
        subjects = {key: self.sample_noise(1, key).parts for key in dict.fromkeys(keys)}
        parts = {name: np.concatenate([subjects[key][name] for key in keys]) for name in self.parts}
        return self.render(covariates, Noise({}, parts), resolution)


class DrawnSource:
    """Subjects 0 ... num_subjects - 1 of a world of a seed, as a source (`domains.source.Source`).

    Each subject is one patient with one image. Images are drawn when they are needed, so any number of subjects is
    cheap.

    Args:
        world: draws them.
        num_subjects: 1 or more.
        seed: of the world, 0 or more.

    Raises:
        InputError: fewer than one subject.
    """

    def __init__(self, world: Any, num_subjects: int, seed: int) -> None:
        if num_subjects < 1:
            raise InputError(f"num_subjects: {num_subjects} must be positive.")
        self.world, self.covariates, self._seed = world, world.schema, seed
        self.name, self.channels = world.preset.name, world.preset.channels
        # of each subject the covariates' noise is drawn first, and needed alone
        noise = [world.structure.sample_noise(row_generator(seed, index)) for index in range(num_subjects)]
        columns = {name: np.stack([one[name] for one in noise]) for name in self.covariates.names}
        self.table: dict[str, list[Any]] = self.covariates.decode(world.structure.covariates(columns))
        self.patient_ids = [f"{self.name}-{seed}-{index:07d}" for index in range(num_subjects)]
        self.splits = [patient_split(patient) for patient in self.patient_ids]
        self.fingerprint = fingerprint([num_subjects, seed, *world.equations()])
        self.counts: dict[str, Any] = {"images": num_subjects, "patients": num_subjects}

    def __len__(self) -> int:
        return len(self.patient_ids)

    def noise(self, index: int) -> Any:
        """All randomness of a subject."""
        return self.world.sample_noise(1, self._seed, range(len(self))[index])

    def image(self, index: int, resolution: int) -> Array:
        """The subject's image, float32 in [0, 1], as the world draws it."""
        return self.counterfactual(index, {}, resolution)

    def counterfactual(self, index: int, do: Mapping[str, Any], resolution: int) -> Array:
        """The exact image of the same subject under do(...).

        Args:
            index: of the subject.
            do: level names or numbers in the unit, by covariate.
            resolution: height and width in pixels, 16 to 1024.

        Returns:
            float32 in [0, 1], gray `[resolution, resolution]` or in colours `[3, resolution, resolution]`.

        Raises:
            InputError: an unknown variable, a value that it cannot have, or a resolution out of range.
        """
        images: Array = self.world.counterfactual(self.noise(index), do, resolution)[0]
        return images[0]

    def draw(self, index: int, resolution: int, rng: np.random.Generator) -> tuple[Array, dict[str, Any]]:
        """A training example: the image as it is; any number of subjects needs no augmentation."""
        return self.image(index, resolution), {name: values[index] for name, values in self.table.items()}


@lru_cache(maxsize=16)
def spline(grid: int, knots: int) -> Array:
    """Matrix `[grid, knots]` of uniform cubic B-splines; rows sum to 1."""
    position = (np.arange(grid) + 0.5) / grid * (knots - 3)
    distance = np.abs(position[:, None] + 1 - np.arange(knots)[None])
    near, far = 2 / 3 - distance**2 + distance**3 / 2, (2 - distance).clip(0) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def grain_on(grain: Array, resolution: int) -> Array:
    """Fields of grain `[..., g, g]` on other pixels: averaged over each, then scaled back to unit variance."""
    side = grain.shape[-1]
    pixel, cell = np.arange(resolution)[:, None] / resolution, np.arange(side)[None] / side
    overlap = (np.minimum(pixel + 1 / resolution, cell + 1 / side) - np.maximum(pixel, cell)).clip(0)
    weights = (overlap / np.linalg.norm(overlap, axis=1, keepdims=True)).astype(np.float32)
    return weights @ grain @ weights.T
