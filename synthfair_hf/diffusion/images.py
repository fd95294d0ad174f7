"""Images as users have them, as the pipeline takes them, and as it gives them.

    PIL image            of any mode: EXIF orientation applied, alpha dropped, palettes and inks as their colours
    numpy array          [H, W], [H, W, C], [B, H, W] or [B, H, W, C]
    torch tensor         [H, W], [C, H, W], [B, H, W] or [B, C, H, W]
    list of these        one image or batch each

Three axes are a batch of gray images where the first has one entry per row, otherwise one image wherever an axis can be
channels: the first or last of 1, 3 or 4. [H, W, 2] and [H, W, 5 to 8] are neither, unless H is the number of rows.

Whole numbers count from black, 0, to white: 255 of 8 bits, and of 16 bits what is white in a file of the same levels
(`domains.images.full_scale`); floats are in [0, 1]. Colours become gray by luminance where the generator makes gray
images, and gray three equal colours where it makes colours.

What has the generator's size is taken as it is, to the bit. Anything else is prepared as images of training are: the
square at its centre at twice the generator's size (`domains.images.centre_square`), and means of 2 x 2 pixels.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..domains.images import LUMINANCE, centre_square, full_scale, halve
from ..errors import InputError, counted, with_article

__all__ = [
    "OUTPUT_TYPES",
    "NonFiniteOutput",
    "finite_rows",
    "prepare_images",
    "separate_images",
    "sound_rows",
    "to_output",
    "to_pil",
    "warn_of_clipping",
]

LOGGER = logging.getLogger(__name__)

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
"""Forms of images that the pipeline gives; "latent" is what its network works on."""

CHANNELS = (1, 3, 4)
"""Lengths of an axis that is taken for gray, colours, or colours with alpha."""

NARROWEST = 8
"""Pixels of a side that are taken for channels instead."""

OVERFLOW = 1e4
"""No noise is as large, only guidance that overflows."""

FARTHEST = 3.5
"""No image is farther from middle gray, 0.5: noise of seven standard deviations would be."""

CLIPPED, MARGIN = 0.1, 0.1
"""Share of an image's pixels, farther than this outside of [0, 1], above which its clipping is told."""

ALLOWED = "a PIL image, an array or tensor of them, or a list"


class NonFiniteOutput(InputError):
    """Some rows of a pipeline's output are NaN, infinite or so far from [0, 1] as not even noise is.

    Clipped, they would be black, white or both.

    Args:
        output: the pipeline's output, as for output_type="pt", in which images of those rows are NaN.
        rows: their numbers.
    """

    def __init__(self, output: Any, rows: Sequence[int]) -> None:
        found = "the image is" if len(output.images) == 1 else f"images {', '.join(map(str, rows))} are"
        super().__init__(
            f"{found} not finite (NaN, infinite, or outside of -3 to 4, where black is 0 and white 1); lower "
            "guidance_scale where it is large, use float32 or bfloat16 instead of float16, or check the generator's "
            "weights."
        )
        self.output = output


def finite_rows(values: Tensor) -> Tensor:
    """Which rows of noise `[B, ...]` are finite and no overflow, bool `[B]`."""
    # false of NaN
    return (values.abs() < OVERFLOW).flatten(1).all(dim=1)


def sound_rows(images: Tensor) -> Tensor:
    """Which images `[B, C, H, W]`, before they are clipped, are finite and nowhere beyond FARTHEST, bool `[B]`."""
    return ((images - 0.5).abs() <= FARTHEST).flatten(1).all(dim=1)


def warn_of_clipping(images: Tensor, argument: str) -> None:
    """Log that many pixels of some images become black or white when they are clipped.

    Args:
        images: `[B, C, H, W]`, before.
        argument: the guidance to lower.
    """
    shares = ((images - 0.5).abs() > 0.5 + MARGIN).flatten(1).float().mean(dim=1)
    if rows := (shares > CLIPPED).nonzero()[:, 0].tolist():
        LOGGER.warning(
            "%s: %s of %s clipped to black or white, up to %.0f %% of the pixels; lower it",
            argument,
            counted(len(rows), "image"),
            len(images),
            100 * shares.max(),
        )


def separate_images(image: Any, rows: int | None = None) -> list[Image.Image | np.ndarray]:
    """Single images, PIL's or arrays `[H, W]` or `[C, H, W]`, of one, a batch, or a list.

    Args:
        image: one image, a batch, or a list.
        rows: how many are expected, where that is known.

    Raises:
        InputError: for anything that is no image.
    """
    images = list(_separate(image, rows))
    if not images:
        raise InputError(f"image: holds no image; give {ALLOWED}, or leave it out.")
    return images


def prepare_images(
    images: Sequence[Image.Image | np.ndarray], expected: tuple[int, int, int, int], strict: bool = False
) -> Tensor:
    """Images as one tensor of the generator's channels and size.

    Args:
        images: as `separate_images` gives them.
        expected: the shape `(B, C, R, R)`.
        strict: refuse what is not of the expected mode and size already.

    Returns:
        Float32 of the expected shape, in [0, 1].

    Raises:
        InputError: for another number of images, and for values that are not in [0, 1].
    """
    rows, channels, side, _ = expected
    if len(images) != rows:
        raise InputError(f"image: {len(images)} images for {rows} rows; give one image per row of `covariates`.")
    if strict:
        for one in images:
            _check_strictly(one, channels, side)
    return torch.from_numpy(np.stack([_fit(_in_channels(_colours(one, channels), channels), side) for one in images]))


def to_output(images: Tensor, output_type: str) -> list[Image.Image] | np.ndarray | Tensor:
    """Images `[B, C, H, W]` in [0, 1] in one of OUTPUT_TYPES: PIL, `[B, H, W, C]` of numpy, or as they are."""
    if output_type == "pil":
        return to_pil(images)
    return images.permute(0, 2, 3, 1).numpy() if output_type == "np" else images


def to_pil(images: Tensor) -> list[Image.Image]:
    """Images in 8 bits, of mode L or RGB."""
    arrays = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array) for array in arrays]


def _separate(image: Any, rows: int | None = None) -> Iterator[Image.Image | np.ndarray]:
    """Single images: PIL's, and arrays `[H, W]` or `[C, H, W]`."""
    if isinstance(image, list | tuple):
        for one in image:
            if isinstance(one, list | tuple):
                raise InputError(f"image: a list of lists is not supported; give {ALLOWED}.")
            yield from _separate(one)
    elif isinstance(image, Image.Image):
        yield image
    elif isinstance(image, np.ndarray | Tensor):
        array = _as_array(image)
        if 0 in array.shape:
            raise InputError(f"image: unexpected shape {array.shape}; it holds no pixels.")
        if array.ndim == 2:
            yield array
        elif array.ndim == 3:
            gray = rows is not None and len(array) == rows > 1
            single = None if gray else _channels_first(array, first=isinstance(image, Tensor))
            if single is None and not gray and array.shape[-1] <= NARROWEST:
                raise InputError(
                    f"image: unexpected shape {array.shape}, of {array.shape[-1]} channels or of {len(array)} images; "
                    "give 1, 3 or 4 channels, such as image[..., :1] for gray with alpha, or one gray image per row of "
                    "`covariates`."
                )
            yield from [single] if single is not None else array
        elif array.ndim == 4 and (batch := _channels_first(array, first=isinstance(image, Tensor))) is not None:
            yield from batch
        else:
            raise InputError(
                f"image: unexpected shape {array.shape}; give arrays [H, W], [H, W, C] or [B, H, W, C], or tensors "
                "[H, W], [C, H, W] or [B, C, H, W], with 1, 3 or 4 channels."
            )
    else:
        raise InputError(f"image: {with_article(type(image).__name__)} is not supported; give {ALLOWED}.")


def _as_array(image: np.ndarray | Tensor) -> np.ndarray:
    """An array of a number type that says what white is."""
    if np.ma.is_masked(image):
        raise InputError("image: some pixels are masked; give all of them, such as image.filled(0) has for black.")
    try:
        if isinstance(image, Tensor):
            image = image.detach().cpu()
            image = (image.float() if image.is_floating_point() else image).numpy()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise InputError(
            f"image: a tensor that can't be read ({str(error).splitlines()[0]}); give a dense one."
        ) from None
    if image.dtype not in (np.uint8, np.uint16, np.bool_) and not np.issubdtype(image.dtype, np.floating):
        raise InputError(f"image: {image.dtype} is not supported; give uint8, uint16, or floats in [0, 1].")
    return image


def _channels_first(array: np.ndarray, first: bool) -> np.ndarray | None:
    """`[..., C, H, W]`, whichever axis holds the channels; `first` decides where both could, None where neither can."""
    found = [axis for axis in ((-3, -1) if first else (-1, -3)) if array.shape[axis] in CHANNELS]
    return np.moveaxis(array, found[0], -3) if found else None


def _colours(image: Image.Image | np.ndarray, channels: int) -> np.ndarray:
    """Float32 `[1, H, W]` or `[3, H, W]` in [0, 1]."""
    if isinstance(image, Image.Image):
        image = _decode(image)
    array = image[:3] if image.ndim == 3 else image[None]
    if array.dtype == np.uint8 and len(array) == 3 and channels == 1:
        # rounded to 8 bits, as of a file
        array = np.asarray(Image.fromarray(np.ascontiguousarray(np.moveaxis(array, 0, -1))).convert("L"))[None]
    if array.dtype == np.uint16:
        return (array / full_scale(array)).astype(np.float32)
    if array.dtype.kind != "f":
        return array.astype(np.float32) / np.float32(1 if array.dtype.kind == "b" else 255)
    low, high = float(array.min()), float(array.max())
    # also where one is NaN
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"image: values span {low:g} to {high:g}; expected [0, 1], which (x + 1) / 2 makes of [-1, 1], and x / 255 "
            "of 8-bit levels."
        )
    return array.astype(np.float32)


def _decode(image: Image.Image) -> np.ndarray:
    """The pixels of a PIL image, `[H, W]` or `[3, H, W]`."""
    try:
        image = ImageOps.exif_transpose(image)
        if 0 in image.size:
            raise InputError(f"image: {image.width}x{image.height} holds no pixels.")
        if image.mode in ("1", "L"):
            return np.asarray(image.convert("L"))
        if image.mode == "F":
            return np.asarray(image)
        if image.mode.startswith("I"):
            levels = np.asarray(image)
            if levels.min() < 0 or levels.max() > np.iinfo(np.uint16).max:
                raise InputError(
                    f"image: mode {image.mode} spans {levels.min()} to {levels.max()}; give 16 bits, 0 to 65535."
                )
            return levels.astype(np.uint16)
        # Pillow knows the way from premultiplied gray only by plain gray
        image = image.convert("LA") if image.mode == "La" else image
        return np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
    except InputError:
        raise
    # whatever a file opened only now may hold
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"image: mode {image.mode} can't be read ({reason}); give another image.") from None


def _in_channels(colours: np.ndarray, channels: int) -> np.ndarray:
    """`[channels, H, W]` of `[1, H, W]` or `[3, H, W]`."""
    if len(colours) == channels:
        return colours
    if channels == 1:
        weights = np.array(LUMINANCE, dtype=np.float32)[:, None, None]
        return (weights * colours).sum(axis=0, keepdims=True, dtype=np.float32).clip(0, 1)
    return np.repeat(colours, channels, axis=0)


def _fit(pixels: np.ndarray, side: int) -> np.ndarray:
    """`[C, side, side]`: the pixels themselves where they have this size."""
    height, width = pixels.shape[1:]
    if height == width == side:
        return pixels
    return np.stack([halve(centre_square(one, 2 * side)) for one in pixels])


def _check_strictly(image: Image.Image | np.ndarray, channels: int, side: int) -> None:
    mode = "L" if channels == 1 else "RGB"
    if isinstance(image, Image.Image):
        given, fits = (
            f"mode {image.mode}, {image.width}x{image.height}",
            (image.mode, *image.size) == (mode, side, side),
        )
    else:
        shape = (1, *image.shape) if image.ndim == 2 else image.shape
        given = f"{image.dtype} {'x'.join(map(str, shape))}"
        fits = shape == (channels, side, side) and image.dtype.kind == "f"
    if not fits:
        raise InputError(
            f"image: {given} is not allowed with strict=True; give PIL images of mode {mode} and {side}x{side} pixels, "
            f"or floats [B, {channels}, {side}, {side}] in [0, 1]."
        )
