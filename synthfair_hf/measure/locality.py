"""Locality: whether do(finding) changes an image where a radiologist saw the finding.

    e            (x - x*)^2 of a pixel, summed over channels, as a share of its sum over the image
    box_energy_ratio               sum over images of e in the boxes  /  its mean over all places that these may move to
    pointing_game                  share of images whose largest smoothed |x - x*| lies in a box (Zhang et al. 2018)
    pointing_game_of_moved_boxes   the same, expected of boxes at such a place
    change_in_lungs                e in the lungs

A box may move to every place inside the image whose centre lies in the lungs: expectations are over all of these, so
nothing is drawn. By chance the ratio is 1. An image that did not change has no place of change, and is left out.
What the finding causes is held.

No mask of lungs is at hand: `lungs` are a prior, where boxes of any finding lie
(`domains.chest_xray.nih_bounding_boxes.lung_field`), the same in every image.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from ..domains.chest_xray.nih_bounding_boxes import Box, box_pixels, level_in, lung_field
from ..domains.worlds import World
from ..errors import InputError
from .intervals import Statistic, bootstrap, mean_of
from .interventions import hold
from .soundness import tidy_row
from .systems import CounterfactualModel, answer

__all__ = ["SMOOTHING", "Pixels", "boxed_findings", "locality", "score_locality"]

SMOOTHING = 0.02
"""Standard deviation of the Gaussian by which the pointing game smooths, relative to the width of the image."""


Pixels = tuple[slice, slice]
"""Rows and columns of a rectangle."""


Boxed = dict[tuple[str, str], dict[int, list[Box]]]
"""By variable and the level that boxes show, the images that have it, by their place in the listing."""


def boxed_findings(world: World, boxes: Mapping[str, Sequence[Box]]) -> Boxed:
    """The images of a world's split that have a finding, and boxes of it.

    Args:
        world: images of ChestX-ray14 by the names of their files, whatever their folders and suffixes.
        boxes: as `domains.chest_xray.nih_bounding_boxes.read_boxes` gives them.

    Raises:
        InputError: no image has a box of what it has.
    """
    by_stem = {Path(name).stem: own for name, own in boxes.items()}
    found: Boxed = defaultdict(lambda: defaultdict(list))
    for place, name in enumerate(world.listing.file_names):
        for box in by_stem.get(Path(name).stem, ()):
            for variable in world.covariates.walk():
                level = level_in(box, variable) if variable.categorical and variable.role == "finding" else None
                if level is not None and world.listing.covariates[variable.name][place] == level:
                    found[variable.name, level][place].append(box)
    if not found:
        raise InputError(
            f"boxes: of {len(world.listing.file_names)} images none has a box of a finding that it has; give the box "
            "file of ChestX-ray14 with its images under their own names, in a split that has some, or leave it out."
        )
    return found


def score_locality(
    model: CounterfactualModel,
    world: World,
    boxes: Mapping[str, Sequence[Box]],
    names: Sequence[str] | None = None,
    limit: int | None = None,
    batch_size: int = 32,
    n_bootstrap: int = 1000,
) -> list[dict[str, Any]]:
    """Every metric of this module for one system in one world, as the tidy rows of `soundness.score`.

    Every finding is taken away, do(its first level), from the images that have it and boxes of it.

    Args:
        model: the system.
        world: of whose split every image with a box is used, a patient's second too.
        boxes: of the whole file, which also tells where the lungs are.
        names: findings that are taken away; all by default.
        limit: images of each finding at most; all by default.
        batch_size: images per call of the system.
        n_bootstrap: number of bootstrap replicates of every interval.

    Raises:
        InputError: as of `boxed_findings`.
    """
    rows: list[dict[str, Any]] = []
    lungs = lung_field(boxes, world.resolution)
    for (name, level), found in boxed_findings(world, boxes).items():
        if names is not None and name not in names:
            continue
        places = list(found)[:limit]
        table = {one: [column[place] for place in places] for one, column in world.listing.covariates.items()}
        images, absent = world.read(places), world.covariates[name].levels[0]
        do = hold(world, {name: [absent] * len(places)}, table, "direct")
        changed = answer(model, world, images, table, do, batch_size).images
        pixels = [[box_pixels(box, world.resolution) for box in found[place]] for place in places]
        kept, statistics = locality(images.numpy(), changed.numpy(), pixels, lungs)
        groups = [world.listing.groups[places[row]] for row in kept]
        for metric, statistic in statistics.items():
            estimate = bootstrap([statistic], [groups], n_bootstrap=n_bootstrap)
            labels = (metric, name, "image", "boxes", f"{level} -> {absent}")
            rows.append(tidy_row(model.name, world.name, labels, "direct", estimate))
    return rows


def locality(
    images: np.ndarray, counterfactuals: np.ndarray, boxes: Sequence[Sequence[Pixels]], lungs: np.ndarray
) -> tuple[list[int], dict[str, Statistic]]:
    """The figures of this module.

    Args:
        images: `[n, C, H, W]`.
        counterfactuals: of the same shape.
        boxes: of each image, one or more.
        lungs: bool `[H, W]`.

    Returns:
        Numbers of the m images that changed, and by metric the statistic of these.
    """
    squares = ((images - counterfactuals).astype(np.float64) ** 2).sum(axis=1)
    totals = squares.sum(axis=(1, 2))
    changed = [row for row, total in enumerate(totals) if total > 0]
    found = np.array(
        [_figures(squares[row] / totals[row], boxes[row], lungs) for row in changed], dtype=np.float64
    ).reshape(-1, 5)
    inside, moved, hit, expected, in_lungs = found.T

    def ratio(weights: np.ndarray) -> np.ndarray:
        chance = weights @ moved
        return np.divide(weights @ inside, chance, out=np.full(len(weights), np.nan), where=chance > 0)

    return changed, {
        "box_energy_ratio": ratio,
        "pointing_game": mean_of(hit),
        "pointing_game_of_moved_boxes": mean_of(expected),
        "change_in_lungs": mean_of(in_lungs),
    }


def _figures(energy: np.ndarray, boxes: Sequence[Pixels], lungs: np.ndarray) -> tuple[float, float, bool, float, float]:
    """Of one image: energy in its boxes, in moved ones; whether it points into one, and chance; energy in the lungs."""
    smoothed = gaussian_filter(np.sqrt(energy), SMOOTHING * energy.shape[1], mode="nearest")
    row, column = np.unravel_index(smoothed.argmax(), smoothed.shape)
    point = np.zeros(energy.shape)
    point[row, column] = 1
    inside, moved, misses, hit = 0.0, 0.0, 1.0, False
    for (own, mean), (has, chance) in zip(_moved(energy, boxes, lungs), _moved(point, boxes, lungs), strict=True):
        inside, moved = inside + own, moved + mean
        hit, misses = hit or has > 0.5, misses * (1 - chance)
    return inside, moved, hit, 1 - misses, float(energy[lungs].sum())


def _moved(values: np.ndarray, boxes: Sequence[Pixels], lungs: np.ndarray) -> Iterator[tuple[float, float]]:
    """Sum of values in each box, and the mean of the sums over the places that it may move to."""
    table = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    table[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    for rows, columns in boxes:
        height, width = rows.stop - rows.start, columns.stop - columns.start
        sums = table[height:, width:] - table[:-height, width:] - table[height:, :-width] + table[:-height, :-width]
        centres = lungs[height // 2 :, width // 2 :][: sums.shape[0], : sums.shape[1]]
        # a box that is too large for its centre to reach the lungs stays where it is
        own = float(sums[rows.start, columns.start])
        yield own, float(sums[centres].mean()) if centres.any() else own
