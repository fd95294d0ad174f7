"""Checks and encodings of the pipeline's arguments, none of which needs the network."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..causal.mechanisms import Covariates, Generators
from ..domains.findings import findings_of
from ..domains.preset import Preset
from ..errors import InputError, unknown, with_article
from ..schema import Schema
from .guidance import Strength
from .images import OUTPUT_TYPES

__all__ = [
    "Request",
    "as_columns",
    "check_callback",
    "check_covariate_noise",
    "check_generator",
    "check_sample_guidance",
    "check_settings",
    "check_tensor",
    "encode_covariates",
    "encode_interventions",
    "may_be_unknown",
    "parse_counterfactual",
    "strengths",
    "with_unknown",
]


SCALE = "a number from 0 on (1 is no guidance) that float32 can hold"
LARGEST = float(np.finfo(np.float32).max)
"""A guidance scale that float32 can hold."""
MOST_STEPS = 10_000
"""Solver steps that can be meant."""


@dataclass(frozen=True)
class Request:
    """Arguments of one call of the pipeline, checked and encoded.

    Args:
        factual: encoded covariates by name, `[B]`.
        may_lack: covariates that a counterfactual can do without.
        interventions: encoded values by name, `[B]`; None for a sample.
        pixels: of the images, `[B, C, R, R]` in [0, 1], where any are given.
        noise: of the images, `[B, 2, c, h, w]`, where it is given.
        covariate_noise: by name, where it is given.
        residual: of the images, `[B, C, R, R]`, where it is given.
        generator: one, or one per row.
        steps: of the solver.
        strengths: of changed covariates by their places.
        sample_scale: strength on all covariates of a sample.
        callback_inputs: names of the tensors that the callback is given.
    """

    factual: Covariates
    may_lack: tuple[str, ...]
    interventions: Covariates | None
    pixels: Tensor | None
    noise: Tensor | None
    covariate_noise: Mapping[str, Tensor] | None
    residual: Tensor | None
    generator: Generators
    steps: int
    strengths: dict[int, Strength]
    sample_scale: float
    callback_inputs: Sequence[str] = ()

    @property
    def guided(self) -> bool:
        """Whether any guidance is asked for."""
        return self.sample_scale > 1 or any(one.scale > 1 for one in self.strengths.values())

    @property
    def rows(self) -> int:
        """Number of rows, B."""
        return len(next(iter(self.factual.values())))


def check_settings(num_inference_steps: Any, output_type: str = "pt", argument: str = "num_inference_steps") -> int:
    """The number of steps; InputError unless settings are allowed.

    Args:
        num_inference_steps: a whole number from 1 to MOST_STEPS, Python's or numpy's.
        output_type: one of OUTPUT_TYPES.
        argument: the name of the steps in messages.
    """
    steps = plain(num_inference_steps)
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
        raise InputError(
            f"{argument}: {_shown(num_inference_steps)} is not allowed; give a whole number from 1 to {MOST_STEPS}."
        )
    if not isinstance(output_type, str) or output_type not in OUTPUT_TYPES:
        raise unknown("output_type", output_type, OUTPUT_TYPES)
    return steps


def check_sample_guidance(scale: Any, do: Any) -> float:
    """The scale; InputError unless it is a number from 0 on, and 1 where `do` is given."""
    number = _number("sample_guidance_scale", scale, 0, LARGEST, SCALE)
    if do is not None and number != 1:
        raise InputError(
            f"sample_guidance_scale: {scale!r} is for samples; with do={{...}}, give guidance_scale, which acts on the "
            "covariates that changed."
        )
    return number


def check_generator(generator: Any, rows: int) -> Generators:
    """The generator, or a list of one per row; InputError for anything else."""
    if generator is None or isinstance(generator, torch.Generator):
        return generator
    if not isinstance(generator, list | tuple) or not all(isinstance(one, torch.Generator) for one in generator):
        raise InputError(
            f"generator: {_shown(generator)} is not allowed; give torch.Generator().manual_seed(...), one or one per "
            "row, with a seed from 0 to 2**63 - 1."
        )
    if len(generator) != rows:
        raise InputError(f"generator: {len(generator)} generators for {rows} rows; give one, or one per row.")
    return list(generator)


def check_callback(callback: Any, names: Any, allowed: Sequence[str]) -> None:
    """Raise InputError unless the callback is a function, or None, and the names of its tensors are allowed."""
    if callback is not None and not callable(callback):
        raise InputError(
            f"callback_on_step_end: {with_article(type(callback).__name__)} is not a function; give one of (pipeline, "
            "step, timestep, tensors)."
        )
    if not isinstance(names, list | tuple):
        raise InputError(f"callback_on_step_end_tensor_inputs: {names!r} is not a list; give ['latents'].")
    for name in names:
        if name not in allowed:
            raise unknown("callback_on_step_end_tensor_inputs", name, allowed)


def check_tensor(
    argument: str, value: Any, expected: tuple[int, ...], finite: bool = True, needed: bool = False
) -> None:
    """Raise InputError unless a value, where there is one or it is needed, is a finite tensor of the expected shape."""
    if value is None and not needed:
        return
    if not isinstance(value, Tensor) or tuple(value.shape) != expected:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"{argument}: unexpected shape {shape}; expected {expected}, that of an earlier output's.")
    if not value.is_floating_point() or value.is_meta or value.layout != torch.strided:
        kind = value.dtype if not value.is_floating_point() else "one without values" if value.is_meta else value.layout
        raise InputError(f"{argument}: {kind} is not supported; give a dense tensor of floats.")
    if finite and not torch.isfinite(value).all():
        raise InputError(f"{argument}: some values are not finite; give those of an earlier output.")


def check_covariate_noise(noise: Any, schema: Schema, rows: int) -> None:
    """Raise InputError unless the noise, where there is one, is that of every covariate: `[B]`, or `[B, levels]`."""
    if noise is None:
        return
    if not isinstance(noise, Mapping) or set(noise) != set(schema.names):
        given = ", ".join(map(str, noise)) if isinstance(noise, Mapping) else type(noise).__name__
        raise InputError(f"covariate_noise: names {given or '(none)'}; expected {', '.join(schema.names)}.")
    for variable in schema.walk():
        expected = (rows, len(variable.levels)) if variable.categorical else (rows,)
        check_tensor(f"covariate_noise[{variable.name!r}]", noise[variable.name], expected)


def strengths(guidance_scale: Any, intervention_level: Any, schema: Schema) -> dict[int, Strength]:
    """Strengths of changed covariates.

    Args:
        guidance_scale: 0 or more; one number for all or numbers by name, 1 for names left out.
        intervention_level: 0.001 to 1, likewise.
        schema: the covariates.

    Returns:
        The strength of each covariate by its place in the schema.

    Raises:
        InputError: for unknown names and numbers out of range.
    """
    scales = _by_name("guidance_scale", guidance_scale, schema, 0, LARGEST, SCALE)
    levels = _by_name("intervention_level", intervention_level, schema, 1e-3, 1, "a noise level from 0.001 to 1")
    return {place: Strength(scales[name], levels[name]) for place, name in enumerate(schema.names)}


def _by_name(argument: str, given: Any, schema: Schema, low: float, high: float, remedy: str) -> dict[str, float]:
    """One finite number in [low, high] per covariate; 1 for names left out."""
    named = dict(given) if isinstance(given, Mapping) else dict.fromkeys(schema.names, given)
    numbers = dict.fromkeys(schema.names, 1.0)
    for name, value in named.items():
        if name not in schema:
            raise unknown(argument, name, schema.names)
        where = f"{argument}[{name!r}]" if isinstance(given, Mapping) else argument
        numbers[name] = _number(where, value, low, high, remedy)
    return numbers


def _number(where: str, value: Any, low: float, high: float, remedy: str) -> float:
    """A number in [low, high], Python's or numpy's."""
    number = plain(value)
    # false of NaN, and of integers that no float can hold
    if isinstance(number, bool) or not isinstance(number, int | float) or not low <= number <= high:
        raise InputError(f"{where}: {_shown(value)} is not allowed; give {remedy}.")
    return float(number)


def plain(value: Any) -> Any:
    """The numbers, text and lists of numpy, pandas and torch as Python's; anything else as it is."""
    convert = getattr(value, "tolist", None)
    return convert() if callable(convert) else value


def _shown(value: Any) -> str:
    """A value as a message repeats it."""
    try:
        text = " ".join(repr(value).split())
    # whatever it is, it is not what was asked for
    except Exception:
        text = with_article(type(value).__name__)
    return text if len(text) <= 120 else f"{text[:120]}..."


def as_columns(
    covariates: Any, schema: Schema, images: int | None = None, unneeded: Collection[str] = ()
) -> dict[str, list[Any]]:
    """Covariates as lists of one value per row.

    Args:
        covariates: by name, a value for every row, or a sequence of one per row.
        schema: the covariates.
        images: number of images, by which single values are repeated where all are single; 1 by default.
        unneeded: covariates that may be left out, as an error tells.

    Raises:
        InputError: for anything else.
    """
    if covariates is None or (isinstance(covariates, Mapping) and not covariates):
        raise InputError(f"covariates: not given; {schema.needed(unneeded)}; a value or a list of them each.")
    if not isinstance(covariates, Mapping):
        raise InputError(
            f"covariates: {with_article(type(covariates).__name__)} is not allowed; give {{name: [values]}}."
        )
    values = {name: plain(column) for name, column in covariates.items()}
    columns = {name: [plain(one) for one in column] for name, column in values.items() if _is_column(column)}
    rows = row_count(columns) or (1 if images is None else images)
    return {name: columns[name] if name in columns else [value] * rows for name, value in values.items()}


def row_count(covariates: Any) -> int | None:
    """The number of rows of columns by name, of the longest where they differ; None where there are none."""
    columns = map(plain, covariates.values()) if isinstance(covariates, Mapping) else ()
    return max((len(column) for column in columns if _is_column(column)), default=None)


def _is_column(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def encode_covariates(
    covariates: Any, schema: Schema, images: int | None = None, unneeded: Collection[str] = ()
) -> Covariates:
    """Encode columns of covariates.

    Args:
        covariates: decoded values by name, one for every row or one per row.
        schema: the covariates.
        images: number of images, for `as_columns`.
        unneeded: covariates that may be left out, as an error tells.

    Returns:
        Tensors `[B]` by name.

    Raises:
        InputError: for anything else than allowed values.
    """
    encoded = schema.encode(as_columns(covariates, schema, images, unneeded), unneeded=unneeded)
    if not len(next(iter(encoded.values()))):
        raise InputError("covariates: the columns are empty; give one value per row.")
    return {name: torch.from_numpy(column) for name, column in encoded.items()}


def encode_interventions(do: Any, schema: Schema, rows: int) -> Covariates:
    """Encode interventions.

    Args:
        do: by name one value for all rows, or a sequence of one per row; None and {} are no intervention.
        schema: the covariates.
        rows: number of rows, B.

    Returns:
        Tensors `[B]` by name.

    Raises:
        InputError: for unknown names, values that are not allowed and other numbers of values.
    """
    if do is not None and not isinstance(do, Mapping):
        raise InputError(
            f"do: {with_article(type(do).__name__)} is not allowed; give {{name: value}}, or {{}} for no intervention."
        )
    encoded = {}
    for name, value in (do or {}).items():
        if name not in schema:
            raise unknown("do", name, schema.names)
        value = plain(value)
        column = [plain(one) for one in value] if _is_column(value) else [value] * rows
        if len(column) != rows:
            raise InputError(f"do[{name!r}]: {len(column)} values for {rows} rows; give one value, or one per row.")
        encoded[name] = torch.from_numpy(schema[name].encode(column, f"do[{name!r}]", known=True))
    return encoded


def may_be_unknown(preset: Preset) -> tuple[str, ...]:
    """The covariates of an image that its counterfactual can do without.

    These are how it was taken, where that causes no other, and each finding of several. They are left to the null
    token, and stay unknown unless they are intervened on; the causal model draws those that have effects from their
    posterior given what is known (`causal.scm`).
    """
    causes = {cause for cause, _ in preset.edges}
    findings = findings_of(preset)
    return tuple(
        one.name
        for one in preset.covariates.walk()
        if (one.role == "acquisition" and one.categorical and one.name not in causes)
        or (len(findings) > 1 and one.name in findings)
    )


def with_unknown(covariates: Any, preset: Preset) -> Any:
    """Columns by name, with None for those left out that may be unknown, or are unobserved at every site of the rows.

    What are no columns, or none, stays as it is.
    """
    if not isinstance(covariates, Mapping) or not covariates:
        return covariates
    unobserved = preset.covariates.unobserved_in({name: plain(column) for name, column in covariates.items()})
    return {**dict.fromkeys((*may_be_unknown(preset), *unobserved)), **covariates}


def parse_counterfactual(
    covariates: Mapping[str, Any], do: Mapping[str, Any], preset: Preset
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The covariates of one image and interventions on it, as values of the schema.

    Args:
        covariates: by name: level names in any spelling, numbers in the variable's unit, or their text.
        do: interventions, likewise.
        preset: the domain.

    Returns:
        The covariates, None where they may be unknown and are; the interventions; the names of those unknown.

    Raises:
        InputError: a name or value that is not allowed, or a covariate that is missing and must not be.
    """
    schema, may_lack = preset.covariates, may_be_unknown(preset)
    covariates = {name: _parsed(schema, name, value, "covariates") for name, value in covariates.items()}
    do = {name: _parsed(schema, name, value, "do", known=True) for name, value in do.items()}
    unknown = [
        name
        for name in schema.names
        if covariates.get(name) is None and (name in may_lack or schema.may_lack(name, covariates))
    ]
    covariates |= dict.fromkeys(unknown)
    table = {name: [value] for name, value in covariates.items()}
    for name, column in encode_covariates(table, schema, unneeded=may_lack).items():
        if name not in unknown and (column.isnan().any() or (column < 0).any()):
            raise InputError(f"covariates[{name!r}]: is missing; give it for a counterfactual.")
    encode_interventions(do, schema, rows=1)
    return covariates, do, unknown


def _parsed(schema: Schema, name: str, value: Any, argument: str, known: bool = False) -> Any:
    """A value as `Schema.parse` has it; a level in whatever case and spacing a table may, as `Diabetic Retinopathy`."""
    if name in schema and isinstance(value, str) and schema[name].categorical:
        level, _ = schema[name].parse(value)
        value = value if level is None else level
    return schema.parse(name, value, argument, known)
