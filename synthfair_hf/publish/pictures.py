"""Pictures inside pages: an image as PNG, and what became darker or brighter of it, by one colour scale everywhere."""

import base64
import io

import numpy as np
from PIL import Image

__all__ = ["DIFFERENCE_COLOURS", "DIFFERENCE_LIMIT", "data_uri", "difference_png", "image_png"]

DIFFERENCE_LIMIT = 0.25
"""Share of the gray range at which the difference map of one image saturates."""

BLUE, BLACK, RED = np.array([(70, 150, 255), (13, 13, 13), (255, 96, 70)], dtype=np.float64)
"""Colours of a difference map at -limit, 0 and +limit; linear in between."""

DIFFERENCE_COLOURS = [f"rgb({', '.join(f'{channel:.0f}' for channel in colour)})" for colour in (BLUE, BLACK, RED)]
"""The same as a style sheet has them."""


def image_png(image: np.ndarray) -> bytes:
    """An image `[H, W]` or `[3, H, W]` in [0, 1] as PNG."""
    return _png(255 * (np.moveaxis(image, 0, -1) if image.ndim == 3 else image))


def difference_png(difference: np.ndarray, limit: float) -> bytes:
    """A signed difference of gray levels or luminance as an RGB image in PNG: blue where darker, red where brighter.

    Args:
        difference: `[H, W]` in [-1, 1].
        limit: end of the colour scale, above 0.
    """
    signed = np.clip(difference / limit, -1, 1)[:, :, None]
    colours = BLACK + np.abs(signed) * (np.where(signed < 0, BLUE, RED) - BLACK)
    return _png(colours)


def data_uri(png: bytes) -> str:
    """The address under which a page holds a PNG file itself."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _png(levels: np.ndarray) -> bytes:
    """Levels in [0, 255] as PNG."""
    file = io.BytesIO()
    Image.fromarray(levels.round().astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
