"""Subjects: the observations whose counterfactuals a data set holds.

A subject is a real observation of a source, whose noise is abducted, or a draw from the causal model and the pipeline,
whose noise is known. Either way it has values, an image and the noise that reproduces both. It depends on its own seed,
never on its batch.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..domains.findings import findings_of
from ..domains.images import from_batch, to_batch
from ..domains.source import Source
from ..errors import InputError, unknown
from ..records import fingerprint
from ..schema import Schema
from .generator import Sampler
from .plan import GenerationPlan
from .rows import Row

__all__ = [
    "ModelSubjects",
    "Observation",
    "SourceSubjects",
    "choose",
    "columns",
    "is_sound",
    "lacking",
    "pixels",
    "source_values",
    "stacked",
]

BLOCK, BLOCKS = 8, 128
"""Candidates drawn at a time for a subject, and how often before its stratum counts as out of the model's reach."""
LISTED = 4
"""Covariates that a message names."""


@dataclass(frozen=True)
class Observation:
    """One subject as observed: decoded `values`, `image` and the noise behind both.

    `image` is float32 `[H, W]`, or `[3, H, W]` in colours, in [0, 1].
    `noise` is `[2, C, H, W]`, `covariate_noise` by name `[]` or `[K]`. `rejected` counts candidates not taken.
    `residual` `[C, H, W]` is the reconstruction error of a lossy decoder, None for a lossless one: without it, every
    counterfactual would differ from the observation by the loss as well.
    """

    values: dict[str, Any]
    image: np.ndarray
    noise: Tensor
    covariate_noise: dict[str, Tensor]
    seed: int
    rejected: int = 0
    residual: Tensor | None = None


def is_sound(image: np.ndarray) -> bool:
    """Whether an image `[H, W]` or `[3, H, W]` is finite and, at 8 bits, not constant."""
    planes = image.reshape(-1, *image.shape[-2:])
    return bool(np.isfinite(image).all()) and any(
        round(float(one.max()) * 255) > round(float(one.min()) * 255) for one in planes
    )


def pixels(images: Tensor, channels: int) -> np.ndarray:
    """Images `[B, C, H, W]` as float32 arrays, `[B, H, W]` of one channel and `[B, 3, H, W]` of three.

    Args:
        images: of as many channels, or more where an autoencoder makes colours of gray images.
        channels: the preset's.
    """
    return from_batch(images[:, :channels].float().cpu().numpy())


def stacked(noise: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Rows of noise as one batch by name."""
    return {name: torch.stack([row[name] for row in noise]) for name in noise[0]}


def columns(values: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows of values as columns."""
    return {name: [row[name] for row in values] for name in values[0]}


class ModelSubjects:
    """Draws from the causal model and the pipeline, whose noise is known.

    One generator per subject gives candidates until one is in the planned stratum, and then the image noise.
    `render` is the pipeline called with the plan's settings.

    Args:
        plan: what is generated.
        pipeline: the generator.
        render: the pipeline called with the plan's settings.
    """

    attempts = 8
    """Draws of one subject before its images count as out of the model's reach."""

    def __init__(self, plan: GenerationPlan, pipeline: Sampler, render: Callable[..., Any]) -> None:
        self._plan, self._pipeline, self._render = plan, pipeline, render

    def observe(self, rows: Sequence[Row], attempt: int = 0) -> list[Observation]:
        """The subject of each row, drawn from its seed of that attempt.

        Args:
            rows: one of each subject.
            attempt: 0 for the first draw.

        Raises:
            InputError: no candidate is in the planned stratum.
        """
        candidates = [self._candidate(row, attempt) for row in rows]
        noise = self._pipeline.sample_noise([candidate.generator for candidate in candidates])
        result = self._render(
            covariates=columns([candidate.values for candidate in candidates]),
            noise=noise,
            covariate_noise=stacked([candidate.noise for candidate in candidates]),
            **self._plan.told(rows),
        )
        return [
            Observation(one.values, image, own_noise, one.noise, one.generator.initial_seed(), one.rejected)
            for one, image, own_noise in zip(
                candidates, pixels(result.images, self._plan.preset.channels), noise, strict=True
            )
        ]

    def _candidate(self, row: Row, attempt: int) -> "_Candidate":
        generator = torch.Generator().manual_seed(self._plan.subject_seed(row.subject, attempt))
        covariates, given = self._plan.preset.covariates, self._plan.recipe_table.conditions(row.recipe)
        unknown_of: Counter[str] = Counter()
        for block in range(BLOCKS):
            noise = self._pipeline.scm.sample_noise(BLOCK, generator)
            encoded = self._pipeline.scm.evaluate(noise)
            table = covariates.decode({name: encoded[name].tolist() for name in covariates.names})
            for index in range(BLOCK):
                values = {name: column[index] for name, column in table.items()}
                unknown_of.update(lacks := lacking(self._plan, values))
                if (
                    not lacks
                    and _in_range(covariates, values)
                    and self._plan.stratum(values) == row.stratum
                    and given.items() <= values.items()
                ):
                    own_noise = {name: noise[name][index] for name in covariates.names}
                    return _Candidate(values, own_noise, generator, block * BLOCK + index)
        none = f"none of {BLOCKS * BLOCK} draws from the model is in stratum {' / '.join(row.stratum) or 'any'} with "
        if given:
            told = ", ".join(f"{name} {level}" for name, level in given.items())
            raise InputError(f"recipes: {none}{told}; take that recipe out, number {row.recipe} from 0 on.")
        told = _told(unknown_of, "draws")
        raise InputError(
            f"num_subjects: {none}every covariate in range{told}; "
            + ("give other factors or strata." if told else "generate from a source instead.")
        )


@dataclass(frozen=True)
class _Candidate:
    values: dict[str, Any]
    noise: dict[str, Tensor]
    generator: torch.Generator
    rejected: int


def lacking(plan: GenerationPlan, values: Mapping[str, Any]) -> tuple[str, ...]:
    """What is unknown of a subject and must be known, by name; empty for one that a family can be made of.

    What may be unknown, unless the family crosses it or subjects are divided by it, is a finding of several and what is
    unobserved at the subject's site.

    Args:
        plan: the families.
        values: decoded, by name.
    """
    needed, findings = {*plan.factors, *plan.strata}, findings_of(plan.preset)
    several = findings if len(findings) > 1 else []
    return tuple(
        name
        for name, value in values.items()
        if value is None and (name in needed or not (name in several or plan.preset.covariates.may_lack(name, values)))
    )


def _told(lacks: Counter[str], unit: str) -> str:
    """What is unknown of how many candidates, as a part of a sentence; empty where nothing is."""
    names = ", ".join(f"{name} is unknown in {number} {unit}" for name, number in lacks.most_common(LISTED))
    others = len(lacks) - LISTED
    return f" ({names}{f', as are {others} more covariates' if others > 0 else ''})" if lacks else ""


def _in_range(covariates: Schema, values: Mapping[str, Any]) -> bool:
    return all(
        variable.categorical
        or values[variable.name] is None
        or variable.bounds[0] <= values[variable.name] <= variable.bounds[1]
        for variable in covariates.walk()
    )


class SourceSubjects:
    """Real observations, one image per patient, each in its patient's split; their noise is abducted.

    Args:
        plan: what is generated.
        source: the images.
        render: the pipeline called with the plan's settings.

    Raises:
        InputError: the source lacks covariates or patients.
    """

    attempts = 1

    def __init__(self, plan: GenerationPlan, source: Source, render: Callable[..., Any]) -> None:
        self._plan, self._source, self._render = plan, source, render
        self._table = source_values(plan, source)
        self._chosen = choose(plan, source)

    def observe(self, rows: Sequence[Row], attempt: int = 0) -> list[Observation]:
        """The subject of each row; an observation has no second attempt."""
        indices = [self._chosen[row.subject] for row in rows]
        values = [{name: column[index] for name, column in self._table.items()} for index in indices]
        images = [self._image(index) for index in indices]
        result = self._render(
            image=torch.from_numpy(to_batch(images)),
            covariates=columns(values),
            do={},
            generator=[torch.Generator().manual_seed(self._plan.subject_seed(row.subject, attempt)) for row in rows],
        )
        return [
            Observation(
                values[place],
                images[place],
                result.noise[place],
                {name: result.covariate_noise[name][place] for name in self._table},
                self._plan.subject_seed(rows[place].subject, attempt),
                residual=None if result.residual is None else result.residual[place],
            )
            for place in range(len(rows))
        ]

    def _image(self, index: int) -> np.ndarray:
        side, image = self._plan.resolution, self._source.image(index, self._plan.resolution)
        channels = self._plan.preset.channels
        shape = (side, side) if channels == 1 else (channels, side, side)
        if image.shape != shape or not is_sound(image):
            raise InputError(
                f"source {self._source.name}: image {index} is not {side} x {side} pixels, finite and varied"
                f"{'' if channels == 1 else ', in colours'}; remove it from the source."
            )
        return np.ascontiguousarray(image, dtype=np.float32)


def source_values(plan: GenerationPlan, source: Source) -> dict[str, list[Any]]:
    """The source's values of the plan's covariates as the data set will hold them: checked, numbers in float32.

    Args:
        plan: names the covariates.
        source: the images.

    Returns:
        Decoded columns by name; None where missing.

    Raises:
        InputError: the source lacks a covariate, or holds a value that is not allowed.
    """
    covariates = plan.preset.covariates
    for name in covariates.names:
        if name in source.counts.get("not read", {}):
            raise InputError(
                f"source {source.name}: {name} is not read ({source.counts['not read'][name]}); give a source that "
                "knows it, or a generator without it."
            )
        if name not in source.table:
            raise unknown(f"source {source.name}", name, source.table)
    table = {name: source.table[name] for name in covariates.names}
    return covariates.decode(covariates.encode(table, f"source {source.name}"))


def choose(plan: GenerationPlan, source: Source) -> dict[int, int]:
    """The source's image index for every subject of the plan.

    Candidates are each patient's first image of which nothing is `lacking`, in the order of
    sha256(seed, patient), so that the choice does not depend on the source's.

    Args:
        plan: the subjects.
        source: the images.

    Raises:
        InputError: a patient is in two splits, or there are too few patients.
    """
    table = source_values(plan, source)
    splits: dict[str, str] = {}
    first: dict[str, int] = {}
    unknown_of: Counter[str] = Counter()
    for index, (patient, split) in enumerate(zip(source.patient_ids, source.splits, strict=True)):
        if splits.setdefault(patient, split) != split:
            raise InputError(f"source {source.name}: image {index} is in {split}, its patient also in another split.")
        lacks = lacking(plan, {name: column[index] for name, column in table.items()})
        if not lacks:
            first.setdefault(patient, index)
        unknown_of.update(lacks)
    candidates: dict[tuple[str, tuple[str, ...] | None], list[int]] = defaultdict(list)
    for patient in sorted(first, key=lambda patient: fingerprint([plan.seed, patient], length=64)):
        index = first[patient]
        values = {name: table[name][index] for name in plan.strata}
        candidates[source.splits[index], plan.stratum(values)].append(index)
    available = {group: len(candidates[group]) for group in plan.groups}
    for (split, stratum), subjects in plan.groups.items():
        if available[split, stratum] < len(subjects):
            raise InputError(
                f"source {source.name}: {available[split, stratum]} patients with complete covariates in "
                f"{' / '.join((split, *stratum))}, {len(subjects)} needed{_told(unknown_of, 'images')}; the "
                f"largest num_subjects possible is {plan.largest_num_subjects(available)}."
            )
    return {
        subject: index
        for group, subjects in plan.groups.items()
        for subject, index in zip(subjects, candidates[group], strict=False)
    }
