"""Images of pairs as bytes of a file and back: 8-bit gray or RGB, every pixel kept."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..domains.images import open_image
from ..errors import InputError

__all__ = ["read_pixels", "stack", "to_png"]


def to_png(image: Tensor) -> bytes:
    """A PNG file of an image uint8 `[C, r, r]`, C 1 or 3."""
    pixels = image.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if len(image) == 1 else pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def read_pixels(data: bytes, where: str) -> Tensor:
    """Read an image file.

    Args:
        data: its bytes, 8-bit gray or RGB.
        where: what the error message begins with.

    Returns:
        Pixels uint8 `[C, height, width]`, C 1 or 3.

    Raises:
        InputError: for any other file.
    """
    image = open_image(data, where)
    mode, pixels = image.mode, np.array(image)
    if mode not in ("L", "RGB"):
        raise InputError(f"{where}: pixel mode {mode} is not supported; give 8-bit gray (L) or RGB.")
    return torch.from_numpy(pixels[None] if mode == "L" else pixels.transpose(2, 0, 1).copy())


def stack(images: Sequence[Tensor], where: Sequence[str]) -> Tensor:
    """Stack images of one size.

    Args:
        images: `[C, height, width]` each.
        where: by image, what the error message begins with.

    Returns:
        The images `[n, C, height, width]`.

    Raises:
        InputError: for images of several sizes.
    """
    for image, place in zip(images, where, strict=True):
        if image.shape != images[0].shape:
            found, first = (" x ".join(map(str, one.shape)) for one in (image, images[0]))
            raise InputError(f"{place}: {found} (channels, height, width), but {where[0]} {first}; give one size.")
    return torch.stack(list(images))
