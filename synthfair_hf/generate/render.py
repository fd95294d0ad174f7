"""The pipeline under a plan's settings, in batches that fit the device, and its images as files.

    render(rows) = render(first half) + render(second half)     where the device has no memory for all rows at once

A row depends on its own noise and seed and never on its batch, so that halving changes nothing but rounding. A compiled
network sees batches of one size alone, filled up where rows are fewer: a program for any size would be chosen by the
sizes that came before, which differ in a resumed run.
"""

import copy
import io
import warnings
from collections.abc import Mapping
from contextlib import suppress
from textwrap import shorten
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..diffusion.images import NonFiniteOutput
from ..errors import InputError
from .generator import Sampler
from .numerics import Numerics
from .plan import GenerationPlan
from .subjects import is_sound

if TYPE_CHECKING:
    from ..diffusion.denoiser import Denoiser

__all__ = ["EDITED", "MODEL", "WORLD", "Rendered", "Renderer", "encode_png", "prepared", "statement"]

MODEL, EDITED, WORLD = "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia"
"""What made an image, in the words of the IPTC's digital source types: a trained model, the same from an image that was
observed, or an algorithm alone."""

XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about=""{}/></rdf:RDF></x:xmpmeta>'
)
SOURCE_TYPE = (
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/{}"'
)
IDENTIFIER = ' xmlns:dc="http://purl.org/dc/elements/1.1/" dc:identifier="{}"'
"""What stands inside each PNG, in XMP: that it is no photograph (IPTC), and which row of which plan it is (Dublin
Core)."""


class Rendered(NamedTuple):
    """The part of the pipeline's output that generation uses: images `[B, C, H, W]` and noise, each row by row."""

    images: Tensor
    noise: Tensor
    covariate_noise: dict[str, Tensor] | None
    residual: Tensor | None


class Renderer:
    """Calls the pipeline with the plan's steps, strength and numerics. `limit` is how many rows may fit, where known.

    Args:
        pipeline: the generator, which is not changed.
        plan: its settings.

    Raises:
        InputError: the network is to be compiled and cannot be.
    """

    def __init__(self, pipeline: Sampler, plan: GenerationPlan) -> None:
        self._original, self._plan = pipeline, plan
        # a text-to-image pipeline was loaded in its precision
        self._pipeline = pipeline if plan.sampling is not None else prepared(pipeline, plan, plan.batch_size)
        self.limit: int | None = None

    def __call__(self, covariates: Mapping[str, list[Any]], **rows: Any) -> Rendered:
        """Images and noise of these rows.

        Args:
            covariates: decoded values `[B]` by name.
            **rows: further arguments of the pipeline, each with one entry per row.

        Raises:
            InputError: the device has no memory for a single row.
        """
        rows = {**rows, "covariates": covariates}
        count = len(next(iter(covariates.values())))
        if self.limit is None or count <= self.limit:
            states = [one.get_state() for one in rows.get("generator", ())]
            try:
                return self._rendered(rows)
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
            if self._plan.compile:
                self._pipeline = prepared(self._original, self._plan, self.limit)
        # parts that do not fit either lower the limit for those after them, but not where these begin
        size = self.limit
        parts = [
            self(**{name: _take(value, slice(start, start + size)) for name, value in rows.items()})
            for start in range(0, count, size)
        ]
        return Rendered(*(_join(values) for values in zip(*parts, strict=True)))

    def _rendered(self, rows: Mapping[str, Any]) -> Rendered:
        try:
            found = self._pipeline(
                **rows,
                num_inference_steps=self._plan.num_inference_steps,
                guidance_scale=self._plan.guidance_scale,
                output_type="pt",
            )
        except NonFiniteOutput as error:
            # subjects whose images are NaN are drawn again
            found = error.output
        return Rendered(torch.as_tensor(found.images), found.noise, found.covariate_noise, found.residual)


def prepared(pipeline: Sampler, numerics: Numerics, rows: int) -> Sampler:
    """A pipeline whose network has these numerics; the same one where all are default.

    Weights are cast once; autocast, which casts them at every call, was neither quicker nor nearer to composition.

    Args:
        pipeline: the generator, which is not changed.
        numerics: precision, memory format, and whether the network is compiled.
        rows: batch size that it is compiled for.

    Raises:
        InputError: the network cannot be compiled.
    """
    if len(numerics.plain) == len(Numerics.model_fields):
        return pipeline
    # a world has no network, and a plan for it no numerics
    twin: Any = copy.copy(pipeline)
    network = copy.deepcopy(twin.unet)
    if numerics.mixed_precision == "bf16":
        network.bfloat16()
    if numerics.channels_last:
        network.to(memory_format=torch.channels_last)
    twin.unet = network
    if numerics.compile:
        _compile(network, rows)
        _try(twin, rows)
    return twin


def _compile(network: "Denoiser", rows: int) -> None:
    """Let a network be evaluated by its own program for `rows` rows, as often as the rows of a batch need."""
    program = torch.compile(network.forward, dynamic=False, fullgraph=True)

    def forward(*inputs: Any, **named: Any) -> tuple[Tensor]:
        count, parts = len(inputs[0]), []
        for start in range(0, count, rows):
            index = torch.arange(start, start + rows, device=inputs[0].device).clamp(max=count - 1)
            part = [_rows_at(value, index) for value in inputs]
            parts.append(program(*part, **{name: _rows_at(value, index) for name, value in named.items()})[0])
        return (torch.cat(parts)[:count],)

    network.forward = forward


def _rows_at(value: Any, index: Tensor) -> Any:
    return value.index_select(0, index) if isinstance(value, Tensor) else value


def _try(pipeline: Any, rows: int) -> None:
    """One step, so that a failure to compile is found before anything is written."""
    # takes a second or two to load
    from torch._dynamo.exc import TorchDynamoException

    unknown = {name: [None] * rows for name in pipeline.covariates.names}
    try:
        # a lack of memory is found again, and handled, by the first batch
        with warnings.catch_warnings(), suppress(torch.OutOfMemoryError):
            # a compiler's remarks on the insides of torch and diffusers
            warnings.simplefilter("ignore")
            pipeline(covariates=unknown, num_inference_steps=1, generator=torch.Generator(), output_type="pt")
    except TorchDynamoException as error:
        reason = shorten(str(error).split("\n\n")[0], 200)
        raise InputError(
            f"compile: the network cannot be compiled here ({reason}); install a C++ compiler, or leave it out."
        ) from None


def _take(value: Any, rows: slice) -> Any:
    if isinstance(value, Mapping):
        return {name: column[rows] for name, column in value.items()}
    return None if value is None else value[rows]


def _join(parts: tuple[Any, ...]) -> Any:
    if isinstance(parts[0], Mapping):
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return None if parts[0] is None else torch.cat(parts)


def statement(made_by: str | None, identifier: str | None) -> str | None:
    """What a PNG says of itself, as XMP; None where there is nothing to say.

    Args:
        made_by: MODEL, EDITED, WORLD, or None for an observation.
        identifier: the row's id, which begins with that of its plan; None in files of `png_version` 1.
    """
    said = "" if made_by is None else SOURCE_TYPE.format(made_by)
    said += "" if identifier is None else IDENTIFIER.format(identifier)
    return XMP.format(said) if said else None


def encode_png(image: np.ndarray, said: str | None) -> bytes | None:
    """An image as 8-bit PNG, gray or RGB, rounded; None when it is NaN, infinite or constant.

    Args:
        image: `[H, W]`, or `[3, H, W]` in colours, in [0, 1].
        said: its `statement`.
    """
    if not is_sound(image):
        return None
    info = PngInfo()
    if said is not None:
        info.add_itxt("XML:com.adobe.xmp", said)
    buffer = io.BytesIO()
    levels = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
    Image.fromarray(levels if levels.ndim == 2 else np.moveaxis(levels, 0, -1)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()
