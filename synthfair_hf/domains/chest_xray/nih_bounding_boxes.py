"""Boxes that radiologists drew around findings of NIH ChestX-ray14: 984 on 880 images.

    pixel (i, j) of an image of r x r is inside  <=>  it shares area with [x, x + width) x [y, y + height),  scaled by
    r / 1024,  i counted from the top, j from the left

Wang et al., ChestX-ray8, CVPR 2017 (NIH Clinical Center).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import InputError
from ...schema import Variable
from ..rows import read_rows

__all__ = ["FIELD", "SIDE", "Box", "box_mask", "box_pixels", "finding_masks", "level_in", "lung_field", "read_boxes"]

SIDE = 1024
"""Height and width of the images that the boxes were drawn on."""

FIELD = 0.05
"""Share of all boxes that cover a pixel of `lung_field`, at least."""

CALLED = {"Infiltrate": "Infiltration"}
"""Labels of ChestX-ray14 that the box file calls otherwise."""

_COLUMNS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")


class Box(NamedTuple):
    """A finding as the file spells it, and its box in pixels of the 1024 x 1024 image; (x, y) is the upper left."""

    finding: str
    x: float
    y: float
    width: float
    height: float


def read_boxes(path: str | Path) -> dict[str, list[Box]]:
    """The boxes of each image by its name in the file, in the file's order.

    Raises:
        InputError: a damaged file, another one, or a box that is empty or leaves the image; with file:line.
    """
    rows = read_rows(Path(path))
    absent = [name for name in _COLUMNS if name not in rows[0][1]]
    if absent:
        raise InputError(
            f"{path}:1: no column {absent[0]!r}; this is not the box file of ChestX-ray14, nih_bounding_boxes.csv.gz."
        )
    boxes: dict[str, list[Box]] = {}
    for line, row in rows:
        name, finding, *cells = (row[column] for column in _COLUMNS)
        try:
            x, y, width, height = map(float, cells)
        except ValueError:
            raise InputError(f"{path}:{line}: {cells} is not a box; give four numbers x, y, w, h.") from None
        # a comparison with NaN is false, so that it is an error as well
        if not (0 <= x < x + width <= SIDE and 0 <= y < y + height <= SIDE):
            raise InputError(f"{path}:{line}: box {cells} is empty or leaves the {SIDE} x {SIDE} image; correct it.")
        boxes.setdefault(name, []).append(Box(finding, x, y, width, height))
    return boxes


def box_pixels(box: Box, resolution: int) -> tuple[slice, slice]:
    """Rows and columns of a box in an uncropped image of `resolution` pixels a side; at least one of each."""
    rows, columns = (
        slice(math.floor(start * resolution / SIDE), math.ceil((start + length) * resolution / SIDE))
        for start, length in ((box.y, box.height), (box.x, box.width))
    )
    return rows, columns


def box_mask(boxes: Iterable[Box], resolution: int) -> np.ndarray:
    """Where an image of `resolution` pixels a side, uncropped, has one of the boxes: bool `[resolution, resolution]`.

    However small, a box has at least one pixel.

    Raises:
        InputError: a resolution below 1.
    """
    if resolution < 1:
        raise InputError(f"resolution: {resolution} is out of range; give 1 or more pixels.")
    mask = np.zeros((resolution, resolution), bool)
    for box in boxes:
        mask[box_pixels(box, resolution)] = True
    return mask


def finding_masks(file_names: Sequence[str], boxes: Mapping[str, Sequence[Box]], resolution: int) -> np.ndarray:
    """Where radiologists saw a finding in each image of a folder: bool `[n, resolution, resolution]`.

    All False of an image without a box. For `fairness.labelled.LabelledImages.masks`, or to see where an edit acted.

    Args:
        file_names: of the images, such as `domains.imagefolder.ImageFolder.file_names`; folder and suffix don't matter,
            so that images stored anew find their boxes. Each shows the whole square image.
        boxes: by name in the file, as `read_boxes` gives them.
        resolution: height and width of the masks in pixels, 1 or more.

    Raises:
        InputError: no image has a box, so these are images of something else.
    """
    by_stem = {Path(name).stem: own for name, own in boxes.items()}
    masks = np.stack([box_mask(by_stem.get(Path(name).stem, ()), resolution) for name in file_names])
    if not masks.any():
        raise InputError(
            f"file_names: none of the {len(file_names)} images has a box; give those of ChestX-ray14 by their names."
        )
    return masks


def lung_field(boxes: Mapping[str, Sequence[Box]], resolution: int) -> np.ndarray:
    """Where findings lie: what FIELD of all boxes, or their mirror images, cover, bool `[resolution, resolution]`.

    A prior for frontal chest radiographs, the same for every image, where no lungs are segmented: of the boxes of
    ChestX-ray14 it holds the lungs with the heart between them, 47 % of the image.

    Args:
        boxes: by name in the file, as `read_boxes` gives them.
        resolution: height and width in pixels, 1 or more.
    """
    masks = [box_mask([box], resolution) for own in boxes.values() for box in own]
    share = np.mean(masks, axis=0)
    field: np.ndarray = (share + share[:, ::-1]) / 2 >= FIELD
    return field


def level_in(box: Box, variable: Variable) -> str | None:
    """The level of a variable that a box shows, such as `present`; None where it shows another finding."""
    level, _ = variable.parse(CALLED.get(box.finding, box.finding))
    return level if isinstance(level, str) and level != variable.levels[0] else None
