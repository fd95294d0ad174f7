"""Checks and encodings of the pipeline's arguments, none of which needs the network."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..causal.mechanisms import Covariates
from ..domains.preset import Preset
from ..errors import InputError, unknown
from ..schema import Schema
from .guidance import Strength

__all__ = [
    "check_sample_guidance",
    "check_settings",
    "encode_covariates",
    "encode_interventions",
    "may_be_unknown",
    "prepare_image",
    "strengths",
]


SCALE = "a number from 0 on (1 is no guidance)"


def check_settings(num_inference_steps: Any, output_type: str = "pt", argument: str = "num_inference_steps") -> None:
    """Raise InputError unless settings are allowed.

    Args:
        num_inference_steps: 1 or more.
        output_type: "pil" or "pt".
        argument: the name of the steps in messages.
    """
    if isinstance(num_inference_steps, bool) or not isinstance(num_inference_steps, int) or num_inference_steps < 1:
        raise InputError(f"{argument}: {num_inference_steps!r} is not allowed; give a whole number from 1 on.")
    if output_type not in ("pil", "pt"):
        raise unknown("output_type", output_type, ("pil", "pt"))


def check_sample_guidance(scale: Any, do: Any) -> None:
    """Raise InputError unless the scale is a number from 0 on, and 1 where `do` is given."""
    _check_number("sample_guidance_scale", scale, 0, math.inf, SCALE)
    if do is not None and scale != 1:
        raise InputError(
            f"sample_guidance_scale: {scale!r} is for samples; with do={{...}}, give guidance_scale, which acts on the "
            "covariates that changed."
        )


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
    scales = _by_name("guidance_scale", guidance_scale, schema, 0, math.inf, SCALE)
    levels = _by_name("intervention_level", intervention_level, schema, 1e-3, 1, "a noise level from 0.001 to 1")
    return {place: Strength(scales[name], levels[name]) for place, name in enumerate(schema.names)}


def _by_name(argument: str, given: Any, schema: Schema, low: float, high: float, remedy: str) -> dict[str, float]:
    """One finite number in [low, high] per covariate; 1 for names left out."""
    named = dict(given) if isinstance(given, Mapping) else dict.fromkeys(schema.names, given)
    for name, value in named.items():
        if name not in schema:
            raise unknown(argument, name, schema.names)
        where = f"{argument}[{name!r}]" if isinstance(given, Mapping) else argument
        _check_number(where, value, low, high, remedy)
    return {name: float(named.get(name, 1)) for name in schema.names}


def _check_number(where: str, value: Any, low: float, high: float, remedy: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        raise InputError(f"{where}: {value!r} is not allowed; give {remedy}.")


def encode_covariates(covariates: Any, schema: Schema) -> Covariates:
    """Encode columns of covariates.

    Args:
        covariates: decoded values by name, one per row.
        schema: the covariates.

    Returns:
        Tensors `[B]` by name.

    Raises:
        InputError: for anything else than columns of allowed values.
    """
    if covariates is None or (isinstance(covariates, Mapping) and not covariates):
        raise InputError(f"covariates: not given; needed: {', '.join(schema.names)}, a list of values each.")
    if not isinstance(covariates, Mapping):
        raise InputError(f"covariates: a {type(covariates).__name__} is not allowed; give {{name: [values]}}.")
    for name, column in covariates.items():
        if isinstance(column, str) or not isinstance(column, Sequence | np.ndarray):
            raise InputError(
                f"covariates[{name!r}]: {column!r} is not a list; give one value per row, as [{column!r}]."
            )
    encoded = schema.encode(covariates)
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
            f"do: a {type(do).__name__} is not allowed; give {{name: value}}, or {{}} for no intervention."
        )
    encoded = {}
    for name, value in (do or {}).items():
        if name not in schema:
            raise unknown("do", name, schema.names)
        if isinstance(value, Tensor | np.ndarray):
            value = value.tolist()
        column = list(value) if isinstance(value, list | tuple) else [value] * rows
        if len(column) != rows:
            raise InputError(f"do[{name!r}]: {len(column)} values for {rows} rows; give one value, or one per row.")
        if any(one is None for one in column):
            raise InputError(f"do[{name!r}]: None is not a value; leave {name} out of `do` for no intervention on it.")
        encoded[name] = torch.from_numpy(schema[name].encode(column, f"do[{name!r}]"))
    return encoded


def may_be_unknown(preset: Preset) -> tuple[str, ...]:
    """The covariates of an image that its counterfactual can do without: how it was taken, where that causes no other.

    They are left to the null token, and stay unknown unless they are intervened on.
    """
    causes = {cause for cause, _ in preset.edges}
    return tuple(
        one.name
        for one in preset.covariates.walk()
        if one.role == "acquisition" and one.categorical and one.name not in causes
    )


def prepare_image(image: Any, expected: tuple[int, int, int, int]) -> Tensor:
    """Images as a tensor.

    Args:
        image: a tensor in [0, 1], or 8-bit grayscale PIL images.
        expected: the shape `(B, C, H, W)`.

    Returns:
        Float32 of the expected shape.

    Raises:
        InputError: for anything else.
    """
    if isinstance(image, Image.Image):
        image = [image]
    if isinstance(image, list):
        for one in image:
            if not isinstance(one, Image.Image) or one.mode != "L":
                kind = f"mode {one.mode}" if isinstance(one, Image.Image) else type(one).__name__
                raise InputError(
                    f"image: {kind} is not supported; give 8-bit grayscale PIL images (mode L) or a tensor."
                )
        if len({one.size for one in image}) > 1:
            raise InputError("image: the images differ in size; give all of them in the pipeline's size.")
        image = torch.stack([torch.from_numpy(np.asarray(one, dtype=np.float32) / 255)[None] for one in image])
    if not isinstance(image, Tensor) or tuple(image.shape) != expected:
        shape = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise InputError(f"image: unexpected shape {shape}; expected {expected}: one image per row of `covariates`.")
    if not torch.isfinite(image).all() or image.min() < 0 or image.max() > 1:
        raise InputError(f"image: values span {image.min():g} to {image.max():g}; expected [0, 1].")
    return image.float()
