"""Image files: the one place where they are opened, by decoders that are listed, upright, and with their own contrast.

    open_image(path or bytes) -> what Pillow decodes, turned as its EXIF orientation says
    gray(image)               -> luminance, float32 [H, W] in [0, 1]:  level / full scale
    colours(image)            -> red, green and blue, float32 [3, H, W] in [0, 1]; of a gray image three equal ones

Pillow tries every decoder that it has, and that of EPS starts Ghostscript: only FORMATS are decoded here, whatever a
file is called. The full scale is that of the file, never the image's own minimum and maximum, so that copies of one
image in 8 and 16 bits are alike:

    8 bits     255
    PGM        65535, to which Pillow scales what the file calls its largest level; 4095 in a TIFF of 12 bits
    16 bits    65535, or 2^16 - 2^(16 - b) where zeros follow, if all levels are those of b = 8, 10 or 12 bits widened:
                   shifted, repeated, or multiplied by 65535 / (2^b - 1)
               else 2^b - 1 of the least b in 8, 10, 12, 14 that holds every level, where those of a detector were
                   stored as they are
               else 65535

White is 0 in a TIFF that says so (MinIsWhite), whatever its bits: the level is then full scale - level.

What levels alone cannot tell: a dark image of 16 bits without a level above 16383 is read as one of 14 bits, and one of
10, 12 or 14 bits that would fit fewer is read as such, both too bright; 9, 11 and 13 bits as the next depth, 15 bits as
16, too dark. Multiples of 16 below 256 alone are 8 bits, or a dark image of 12 bits widened: a PNG's levels are scaled
to its depth, so there they are the second, and in a TIFF the first. Files of such depths say what they mean as DICOM,
as PGM, or widened to 16 bits.

Colours have 8 bits: of 16-bit RGB Pillow keeps the high byte. A palette is its colours, alpha is dropped, and levels
are taken as those of sRGB: embedded ICC profiles are not applied. CMYK, LAB, HSV and YCbCr are refused, since what they
look like depends on a profile or a convention that files rarely name; JPEGs in YCbCr are RGB once decoded.

Every image that becomes another size keeps its aspect and loses its longer side's ends, or is `padded` first where a
source says so: `centre_square`, then means of 2 x 2, `halve`.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from ..errors import InputError
from ..records import check_regular

__all__ = [
    "FORMATS",
    "LUMINANCE",
    "MAX_PIXELS",
    "Fit",
    "Plane",
    "centre_square",
    "colours",
    "from_batch",
    "full_scale",
    "gray",
    "halve",
    "is_in_colours",
    "look_up",
    "luminance",
    "open_image",
    "padded",
    "planes",
    "size",
    "to_batch",
    "tones",
]

Plane = np.ndarray | Image.Image
"""Luminance or one colour: float32 `[H, W]` in [0, 1], or of 8 bits an image of mode L, which is no copy of it."""

Fit = Literal["crop", "pad"]
"""How an image becomes square: by `centre_square`, or `padded` before it."""

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "JPEG2000", "GIF", "PPM")
"""Pillow's names of the formats that are decoded: none of them starts a program."""

MAX_PIXELS = 80_000_000
"""Larger images are an error before a pixel is decoded: no detector has that many, so it is a decompression bomb."""

DETECTOR_BITS = (8, 10, 12, 14)
"""Depths whose levels are found unscaled in files of 16 bits: those of detectors, which have no other."""

WIDENED_BITS = (8, 10, 12)
"""Depths that are recognised after they were widened to 16 bits; steps of 4, as of 14, may be of any processing."""

BLOCK = 2**15
"""Pixels whose levels are looked up at a time."""

FULL_SCALE, WHITE_IS_ZERO, AS_THEY_ARE = "full_scale", "white_is_zero", "as_they_are"
"""Entries of `Image.info` for what a file says of its levels: its full scale, whether 0 is white, and whether its
format leaves them as they are instead of scaling them to its depth."""

GRAY_MODES, COLOUR_MODES = ("1", "L", "LA"), ("RGB", "RGBA", "P")
"""Pillow's names of what is read at 8 bits."""

SLIGHT, GRID = 16, 64
"""Levels by which the colours of a gray image may differ, where it was compressed or photographed; pixels a side."""

TONES = (np.arange(256) / np.float32(255)).astype(np.float32).tolist()
"""Of each level in 8 bits."""

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue, those of Pillow."""

_BITS, _PHOTOMETRIC = 258, 262  # tags of a TIFF; the second is 0 for MinIsWhite


def open_image(file: Path | bytes, where: str | None = None) -> Image.Image:
    """The one image of a file, decoded, upright, in the file's own mode.

    Args:
        file: its path, or its bytes.
        where: what an error begins with; the path by default.

    Raises:
        InputError: it is no file, as pipes and devices are not; it is of none of FORMATS, damaged, has several frames,
            or more than MAX_PIXELS.
    """
    where = where or (str(file) if isinstance(file, Path) else "image")
    if isinstance(file, Path):
        check_regular(file, where, "name an image")
    try:
        # never by name: Pillow would map the pixels of a turned TIFF into memory by the wrong size
        opened = io.BytesIO(file) if isinstance(file, bytes) else file.open("rb")
        with opened, Image.open(opened, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{where}: {image.width}x{image.height} pixels exceed {MAX_PIXELS}; not decoded.")
            if getattr(image, "n_frames", 1) > 1:
                raise InputError(f"{where}: has several frames; give one frame per file.")
            levels = _levels(image)
            image.load()
            # dropped with the rest of alpha, of which Pillow would warn where it is in bytes
            image.info.pop("transparency", None)
            ImageOps.exif_transpose(image, in_place=True)
            image.info.update(levels)
            return image
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{where}: not a readable image (unknown format).") from None
    except Exception as error:
        # a damaged file fails in decoders and in its metadata in more ways than Pillow documents
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"{where}: not a readable image ({reason}).") from None


def _levels(image: Image.Image) -> dict[str, int | bool]:
    """What the file of an image with more than 8 bits says of its levels; Pillow itself turns those of 8 bits."""
    if not image.mode.startswith("I"):
        return {}
    if image.format == "PPM":
        return {FULL_SCALE: 65535}
    if not isinstance(image, TiffImageFile):
        return {}
    full = {FULL_SCALE: 4095} if image.tag_v2.get(_BITS) == (12,) else {}
    return full | {AS_THEY_ARE: True} | ({WHITE_IS_ZERO: True} if image.tag_v2.get(_PHOTOMETRIC) == 0 else {})


def planes(image: Image.Image, where: str, channels: int) -> list[Plane]:
    """The luminance of an image, or its red, green and blue; of a gray one all three are its luminance.

    Args:
        image: 8-bit gray or colour, or 16-bit gray, with what `open_image` noted of its levels.
        where: what an error begins with.
        channels: 1, luminance, or 3, colours.

    Raises:
        InputError: a mode that is not luminance, or levels outside 16 bits.
    """
    if image.mode in COLOUR_MODES and channels == 3:
        return list(image.convert("RGB").split())
    return [_luminance(image, where)] * channels


def _luminance(image: Image.Image, where: str) -> Plane:
    if image.mode.startswith("I"):
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 65535:
            raise InputError(f"{where}: levels span {levels.min()} to {levels.max()}; allowed: 0 to 65535.")
        levels = levels.astype(np.uint16, copy=False)
        white = image.info.get(FULL_SCALE) or full_scale(levels, scaled=not image.info.get(AS_THEY_ARE))
        every = np.arange(2**16) / white
        return look_up((1 - every if image.info.get(WHITE_IS_ZERO) else every).astype(np.float32), levels)
    if image.mode in GRAY_MODES + COLOUR_MODES:
        return image if image.mode == "L" else image.convert("RGB").convert("L")
    raise InputError(f"{where}: pixel mode {image.mode} is not supported; allowed: 8-bit gray or RGB, 16-bit.")


def tones(plane: Plane) -> np.ndarray:
    """A plane as float32 `[H, W]` in [0, 1]."""
    if isinstance(plane, np.ndarray):
        return plane
    return np.divide(np.asarray(plane), np.float32(255), dtype=np.float32)


def gray(image: Image.Image, where: str) -> np.ndarray:
    """An image as luminance, float32 `[H, W]` in [0, 1]; arguments and errors are those of `planes`."""
    return tones(*planes(image, where, 1))


def colours(image: Image.Image, where: str) -> np.ndarray:
    """An image as red, green and blue, float32 `[3, H, W]` in [0, 1]; arguments and errors are those of `planes`."""
    return np.stack([tones(plane) for plane in planes(image, where, 3)])


def is_in_colours(path: Path) -> bool:
    """Whether an image's red, green and blue differ by more than SLIGHT in more than 1 % of a grid of its pixels.

    An image in a gray mode, or of more than MAX_PIXELS, is not decoded, and of a JPEG an eighth as many pixels a side.

    Args:
        path: of an image; where it can't be read, whoever reads it will say so.
    """
    try:
        with path.open("rb") as opened, Image.open(opened, formats=FORMATS) as image:
            if image.mode not in COLOUR_MODES or image.width * image.height > MAX_PIXELS:
                return False
            image.draft("RGB", (GRID, GRID))
            image.load()
            image.info.pop("transparency", None)
            levels = np.asarray(image.convert("RGB").resize((GRID, GRID), Image.Resampling.NEAREST)).astype(np.int16)
    # damaged files fail in more ways than Pillow documents
    except Exception:
        return False
    return bool(np.quantile(np.ptp(levels, axis=-1), 0.99) > SLIGHT)


def look_up(table: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """`table[levels]`, an entry for every level, by rows whose indices stay in the processor's cache.

    Args:
        table: of all levels that the type of `levels` can hold.
        levels: unsigned `[H, W]`.

    Returns:
        Of the table's type, `[H, W]`.
    """
    found = np.empty(levels.shape, dtype=table.dtype)
    rows = max(1, BLOCK // levels.shape[1])
    for top in range(0, len(levels), rows):
        # no level is cut; numpy would hold the result twice to be able to refuse one
        np.take(table, levels[top : top + rows], out=found[top : top + rows], mode="clip")
    return found


def full_scale(levels: np.ndarray, scaled: bool = True) -> int:
    """The level that is white in a file of 16 bits.

    Args:
        levels: of the whole image, 0 to 65535.
        scaled: whether the format scales levels to its depth, as PNG does, so that few dark ones may be of more bits.
    """
    seen, flat = np.zeros(2**16, dtype=bool), levels.ravel()
    for start in range(0, len(flat), BLOCK):
        seen[flat[start : start + BLOCK]] = True
        # not widened, whatever other levels there are: of those the largest decides
        if np.count_nonzero(seen) > 2 ** max(WIDENED_BITS):
            seen[flat.max()] = True
            break
    present = np.flatnonzero(seen)
    if not scaled and present[-1] < 2**8:
        return 2**8 - 1
    for bits in WIDENED_BITS:
        if len(present) > 2**bits:
            continue
        stored, step = present >> (16 - bits), 2 ** (16 - bits)
        repeated = stored * step + (stored >> max(0, 2 * bits - 16))
        if np.array_equal(present, repeated) or _is_scaled(present, bits):
            return 65535
        if not (present % step).any():
            return 2**16 - step
    return next((2**bits - 1 for bits in DETECTOR_BITS if present[-1] < 2**bits), 65535)


def _is_scaled(present: np.ndarray, bits: int) -> bool:
    """Whether levels are those of fewer bits times 65535 / (2^bits - 1), rounded or cut."""
    exact = np.rint(present * (2**bits - 1) / 65535) * 65535 / (2**bits - 1)
    return np.array_equal(present, np.rint(exact)) or np.array_equal(present, np.floor(exact + 1e-9))


def centre_square(pixels: Plane, side: int) -> np.ndarray:
    """The square at the centre of an image, resized by Lanczos: aspect is kept, and ends of the longer side are cut.

    Args:
        pixels: a plane, or three as an array `[3, H, W]`.
        side: height and width of what is returned.

    Returns:
        float32 `[side, side]` or `[3, side, side]` in [0, 1].
    """
    if isinstance(pixels, np.ndarray) and pixels.ndim == 3:
        return np.stack([centre_square(one, side) for one in pixels])
    width, height = size(pixels)
    length = min(height, width)
    top, left = (height - length) // 2, (width - length) // 2
    if isinstance(pixels, np.ndarray):
        square = Image.fromarray(np.ascontiguousarray(pixels[top : top + length, left : left + length]))
    else:
        whole = pixels if width == height else pixels.crop((left, top, left + length, top + length))
        # in memory that Pillow keeps: an array of floats as large as the image takes longer to allocate than to fill
        square = whole.point(TONES, "F")
    return np.asarray(square.resize((side, side), Image.Resampling.LANCZOS)).clip(0, 1)


def padded(pixels: Plane) -> Plane:
    """A whole image as a square, `[..., H, W]` to `[..., S, S]`, S = max(H, W): black on both sides of the shorter.

    Args:
        pixels: a plane, or several as an array.
    """
    width, height = size(pixels)
    side = max(height, width)
    beside = [((side - length) // 2, (side - length + 1) // 2) for length in (height, width)]
    if isinstance(pixels, np.ndarray):
        return np.pad(pixels, [*[(0, 0)] * (pixels.ndim - 2), *beside])
    (top, bottom), (left, right) = beside
    return ImageOps.expand(pixels, (left, top, right, bottom))


def size(pixels: Plane) -> tuple[int, int]:
    """Width and height of a plane, or of an array `[..., H, W]`."""
    if isinstance(pixels, np.ndarray):
        height, width = pixels.shape[-2:]
        return width, height
    return pixels.size


def halve(image: np.ndarray) -> np.ndarray:
    """Means over 2 x 2 pixels, `[2r, 2r] -> [r, r]` or `[3, 2r, 2r] -> [3, r, r]`, float32."""
    if image.ndim == 3:
        return np.stack([halve(one) for one in image])
    half = len(image) // 2
    means: np.ndarray = image.reshape(half, 2, half, 2).mean(axis=(1, 3), dtype=np.float32)
    return means


def luminance(image: np.ndarray) -> np.ndarray:
    """The luminance `[H, W]` of an image `[3, H, W]`, by the weights of LUMINANCE; a gray one `[H, W]` is its own."""
    if image.ndim == 2:
        return image
    return np.tensordot(np.array(LUMINANCE, dtype=image.dtype), image, axes=1)


def to_batch(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images of a source as the networks take them: `[r, r]` or `[3, r, r]` each, `[n, C, r, r]` together."""
    stacked = np.stack(images)
    return stacked[:, None] if stacked.ndim == 3 else stacked


def from_batch(images: np.ndarray) -> np.ndarray:
    """The inverse of `to_batch`: `[n, r, r]` of gray images `[n, 1, r, r]`; those in colours stay `[n, 3, r, r]`."""
    return images[:, 0] if images.shape[1] == 1 else images
