"""The stroke of a written digit: how thick it is, and the same digit with a thicker or thinner pen.

    stroke    = [ floor(255 smooth(cubic(image))) >= middle of its range ],  on a grid finer by `scale`
    thickness = 2 / scale * mean over the medial axis of the distance to the background          [pixels]
    thicken   = dilation (or erosion, where negative) by an element of radius floor(scale |change| / 2)

The definitions are those of Morpho-MNIST (Castro et al., JMLR 20, 2019), whose cubic scaling with smoothing by a third
of the scale is linear and separable: two matrices. The medial axis peels off pixels from the outside inwards as long as
the rest stays in one piece; pixels of equal rank go in raster order. Everything is numpy; images are in [0, 1].
"""

from functools import cache

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter1d, label, maximum_filter, zoom

__all__ = ["binarise", "element", "mean_thickness", "medial_axis", "reduce", "thicken"]

CELLS = 2**24
"""Pixels of the fine grid that are worked on at once."""


@cache
def _smoothing(side: int, scale: int) -> np.ndarray:
    """Gaussian smoothing of `side` samples by a third of the scale, `[side, side]`."""
    return gaussian_filter1d(np.eye(side), scale / 3, axis=0)


def _resize(matrix: np.ndarray, factor: float, order: int) -> np.ndarray:
    """Spline interpolation of the columns of a matrix at `factor` times as many places."""
    return zoom(matrix, (factor, 1), order=order, mode="mirror", grid_mode=True)


@cache
def _expansion(side: int, scale: int) -> np.ndarray:
    """Cubic upscaling of `side` samples, `[side * scale, side]`."""
    return _resize(np.eye(side), scale, order=3).astype(np.float32)


@cache
def _reduction(side: int, scale: int) -> np.ndarray:
    """Smoothing, then cubic downscaling to `side` samples, `[side, side * scale]`."""
    return _resize(_smoothing(side * scale, scale), 1 / scale, order=3).astype(np.float32)


def binarise(images: np.ndarray, scale: int) -> np.ndarray:
    """Strokes of images `[n, side, side]` in [0, 1], bool `[n, side * scale, side * scale]`; empty without contrast.

    Args:
        images: `[n, side, side]` in [0, 1].
        scale: grid cells of a pixel in each direction.
    """
    side, images = images.shape[-1], images.astype(np.float32)
    grow, smooth = _expansion(side, scale), _smoothing(side * scale, scale).astype(np.float32)
    # Cubic interpolation overshoots at edges; the image's own range bounds it before it is smoothed.
    large = (grow @ images @ grow.T).clip(
        images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True)
    )
    levels = np.floor(255 * (smooth @ large @ smooth.T))
    low, high = levels.min(axis=(1, 2), keepdims=True), levels.max(axis=(1, 2), keepdims=True)
    return (high > low) & (levels >= (low + high) / 2)


def reduce(strokes: np.ndarray, scale: int) -> np.ndarray:
    """Strokes `[n, side * scale, side * scale]` as images uint8 `[n, side, side]`.

    Args:
        strokes: bool or float `[n, side * scale, side * scale]`.
        scale: grid cells of a pixel in each direction.
    """
    shrink = _reduction(strokes.shape[-1] // scale, scale)
    return (255 * (shrink @ strokes.astype(np.float32) @ shrink.T).clip(0, 1)).astype(np.uint8)


def mean_thickness(images: np.ndarray, scale: int) -> np.ndarray:
    """Thickness `[n]` in pixels of images `[n, side, side]` in [0, 1]; 0 for an empty image.

    Args:
        images: `[n, side, side]` in [0, 1].
        scale: grid cells of a pixel in each direction, on which it is measured.
    """
    batch = max(1, CELLS // (images.shape[-1] * scale) ** 2)
    means = []
    for start in range(0, len(images), batch):
        axis, distance = medial_axis(binarise(images[start : start + batch], scale))
        means.append((distance * axis).sum(axis=(1, 2)) / axis.sum(axis=(1, 2)).clip(min=1))
    return 2 * np.concatenate([np.zeros(0), *means]) / scale


def medial_axis(strokes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The medial axis of strokes, bool `[n, height, width]`, and everywhere the distance to the background in pixels.

    Every stroke needs some background. Pixels are visited by distance, the more exposed ones last among equals, and
    removed unless the table of `_needed` says that they end a line or hold two pieces together. The images do not
    affect each other, so that step k of the loop visits pixel k of every image.
    """
    distance = np.stack([distance_transform_edt(stroke) for stroke in strokes]).astype(np.float64)
    left = np.pad(strokes, ((0, 0), (1, 1), (1, 1))).astype(np.uint8)
    width = left.shape[2]
    offsets = np.array([row * width + column for row in (-1, 0, 1) for column in (-1, 0, 1)])
    pixels = left.ravel()
    first = np.arange(len(left)) * left[0].size

    ordered = []
    for stroke, depth, start in zip(left, distance, first, strict=True):
        places = np.flatnonzero(stroke)
        surrounded = pixels[start + places[:, None] + offsets].sum(axis=1, dtype=np.int64)
        squared = np.rint(depth[stroke[1:-1, 1:-1] > 0] ** 2).astype(np.int64)
        ordered.append(places[np.argsort(squared * 9 + 9 - surrounded, kind="stable")])
    # Images with fewer pixels wait at their corner of the margin, which is empty and stays so.
    visits = np.zeros((max(map(len, ordered)), len(left)), np.int64)
    for index, places in enumerate(ordered):
        visits[: len(places), index] = places
    table, powers = _needed(), 2 ** np.arange(9)
    for places in visits + first:
        pixels[places] = table[pixels[places[:, None] + offsets] @ powers]
    return left[:, 1:-1, 1:-1].astype(bool), distance


@cache
def _needed() -> np.ndarray:
    """Whether the centre of a 3 x 3 pattern must stay, uint8 `[512]`; pixel k in raster order has the value 2^k.

    It stays unless its neighbours are one 8-connected piece of two or more pixels.
    """
    table = np.zeros(512, np.uint8)
    for code in range(512):
        pattern = (code >> np.arange(9) & 1).reshape(3, 3)
        if pattern[1, 1]:
            pattern[1, 1] = 0
            table[code] = label(pattern, np.ones((3, 3)))[1] != 1 or pattern.sum() < 2
    return table


@cache
def element(radius: int, scale: int) -> np.ndarray:
    """The structuring element, bool `[2 radius + 1, 2 radius + 1]`: a square that loses its corners as it grows.

    It is what remains, above zero, of a disk of radius `scale * radius` after smoothing and linear downscaling.

    Args:
        radius: in grid cells, 0 or more.
        scale: of the disk that it is made of.
    """
    if radius == 0:
        return np.ones((1, 1), bool)
    places = np.arange(-scale * radius, scale * radius + 1)
    disk = places[:, None] ** 2 + places**2 <= (scale * radius) ** 2
    shrink = _resize(_smoothing(len(places), scale), (2 * radius + 1) / len(places), order=1)
    return shrink @ disk @ shrink.T > 0


def thicken(stroke: np.ndarray, change: float, scale: int) -> np.ndarray:
    """A stroke `[height, width]` made `change` pixels of the image thicker; thinner where negative.

    Args:
        stroke: bool `[height, width]`.
        change: of the thickness, in pixels.
        scale: grid cells of a pixel in each direction.
    """
    shape = element(int(scale * abs(change) / 2), scale)
    return _dilate(stroke, shape) if change >= 0 else ~_dilate(~stroke, shape)


def _dilate(stroke: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Dilation by a convex symmetric element, as the union of dilations by the rectangles that it is the union of."""
    widths = shape.sum(axis=1)
    grown = np.zeros(stroke.shape, np.uint8)
    for width in np.unique(widths):
        size = (int((widths >= width).sum()), int(width))
        grown |= maximum_filter(stroke.astype(np.uint8), size=size, mode="constant")
    return grown.astype(bool)
