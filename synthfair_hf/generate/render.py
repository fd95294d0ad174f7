"""The pipeline under a plan's settings, in batches that fit the device, and its images as files.

    render(rows) = render(first half) + render(second half)     where the device has no memory for all rows at once

A row depends on its own noise and seed and never on its batch, so that halving changes nothing but rounding.
"""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..errors import InputError
from .plan import GenerationPlan
from .subjects import is_sound

if TYPE_CHECKING:
    from ..diffusion.pipeline import CausalDiffusionPipeline

__all__ = ["SYNTHETIC_XMP", "Rendered", "Renderer", "encode_png"]

SYNTHETIC_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>'
    "</rdf:RDF></x:xmpmeta>"
)
"""The IPTC statement, inside each synthetic PNG, that a trained model made it."""


class Rendered(NamedTuple):
    """What generation takes of the pipeline's answer: images `[B, C, H, W]` and noise, each row by row."""

    images: Tensor
    noise: Tensor
    covariate_noise: dict[str, Tensor] | None
    residual: Tensor | None


class Renderer:
    """Calls the pipeline with the plan's steps and strength. `limit` is how many rows may fit, where that is known."""

    def __init__(self, pipeline: "CausalDiffusionPipeline", plan: GenerationPlan) -> None:
        self._pipeline, self._plan = pipeline, plan
        self.limit: int | None = None

    def __call__(self, covariates: Mapping[str, list[Any]], **rows: Any) -> Rendered:
        """The answer for these rows; `rows` are further arguments of the pipeline, each with one entry per row.

        Raises InputError when the device has no room for a single row.
        """
        rows = {**rows, "covariates": covariates}
        count = len(next(iter(covariates.values())))
        if self.limit is None or count <= self.limit:
            states = [one.get_state() for one in rows.get("generator", ())]
            try:
                found = self._pipeline(
                    **rows,
                    num_inference_steps=self._plan.num_inference_steps,
                    guidance_scale=self._plan.guidance_scale,
                    output_type="pt",
                )
                return Rendered(torch.as_tensor(found.images), found.noise, found.covariate_noise, found.residual)
            except torch.OutOfMemoryError:
                # what the failed call held is free only after this block
                self.limit = count // 2
            for one, state in zip(rows.get("generator", ()), states, strict=True):
                one.set_state(state)
            if not self.limit:
                raise InputError(
                    f"resolution: the device has no memory for one image of {self._plan.resolution} pixels; "
                    "use a larger device, or a generator of lower resolution."
                )
        # parts that do not fit either lower the limit for those after them, but not where these begin
        size = self.limit
        parts = [
            self(**{name: _take(value, slice(start, start + size)) for name, value in rows.items()})
            for start in range(0, count, size)
        ]
        return Rendered(*(_join(values) for values in zip(*parts, strict=True)))


def _take(value: Any, rows: slice) -> Any:
    if isinstance(value, Mapping):
        return {name: column[rows] for name, column in value.items()}
    return None if value is None else value[rows]


def _join(parts: tuple[Any, ...]) -> Any:
    if isinstance(parts[0], Mapping):
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return None if parts[0] is None else torch.cat(parts)


def encode_png(image: np.ndarray, synthetic: bool) -> bytes | None:
    """An image `[H, W]` in [0, 1] as 8-bit grayscale PNG, rounded; None when it is NaN, infinite or constant."""
    if not is_sound(image):
        return None
    statement = PngInfo()
    if synthetic:
        statement.add_itxt("XML:com.adobe.xmp", SYNTHETIC_XMP)
    buffer = io.BytesIO()
    Image.fromarray(np.rint(image.clip(0, 1) * 255).astype(np.uint8)).save(buffer, "PNG", pnginfo=statement)
    return buffer.getvalue()
