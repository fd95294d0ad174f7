"""Radiographs of ChestX-ray14 with a region of a finding in some: a radiologist's box, or what a generator changes.

    boxes           what radiologists drew around the finding
    moved_boxes     the same, anywhere in the image with its centre in the lungs (`lung_field`): a control
    changes         the pixels that do(finding = absent) changes most, as many as the boxes cover: |x - x*|, smoothed

All three are of the same images, those with the finding and a box of it, and cover equally many pixels, so that they
differ in where they are alone. x is the radiograph on a planted scanner, in standard exposure, as the generator knows
radiographs: of one as it is, do(finding) changes exposure and collimation. All other covariates are held.
"""

import io
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import interpolate

from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.saved import SavedGenerator
from synthfair_hf.domains.chest_xray.nih_bounding_boxes import box_pixels, level_in, lung_field, read_boxes
from synthfair_hf.domains.chest_xray.scanners import AcquisitionWorld
from synthfair_hf.domains.images import to_batch
from synthfair_hf.domains.readers import DataSetFolder
from synthfair_hf.domains.registry import WORLD_SEED, open_images
from synthfair_hf.errors import InputError
from synthfair_hf.fairness.benchmark.board import unfinished
from synthfair_hf.fairness.labelled import LabelledImages
from synthfair_hf.measure.locality import SMOOTHING, Pixels
from synthfair_hf.records import fingerprint, row_generator, write_atomically

__all__ = ["ATTRIBUTES", "REGIONS", "Radiographs"]

ATTRIBUTES = ("sex", "view")
REGIONS = ("boxes", "moved_boxes", "changes")
BATCH = 8


class Radiographs:
    """All images of a folder for one finding.

    Args:
        folder: with the images.
        boxes: the file of boxes.
        saved: the generator; its domain has the finding.
        finding: to classify.
        resolution: of the classifier's images.

    Raises:
        InputError: no image has the finding and a box of it.
    """

    def __init__(
        self, folder: DataSetFolder, boxes: Path, saved: SavedGenerator, finding: str, resolution: int
    ) -> None:
        self.saved, self.preset, self.finding, self.resolution = saved, saved.preset, finding, resolution
        self.source = open_images(folder, self.preset, saved.resolution, check=lambda images: None)
        self.planted = AcquisitionWorld(self.source, WORLD_SEED, self.preset)
        if len(self.planted) != len(self.source):
            raise InputError(f"source: {self.planted.counts['unknown view']} images of unknown view; leave them out.")
        self.variable, self.all_boxes = saved.preset.covariates[finding], read_boxes(boxes)
        by_stem = {Path(name).stem: own for name, own in self.all_boxes.items()}
        present = saved.preset.contrasts[finding].first
        values = self.source.table[finding]
        self.boxes = {
            row: own
            for row, name in enumerate(self.source.file_names)
            if values[row] == present
            and (own := [one for one in by_stem.get(Path(name).stem, ()) if level_in(one, self.variable) == present])
        }
        """By row, the boxes of the finding."""
        if not self.boxes:
            raise InputError(f"boxes: of no image with {finding}; give those of these images.")
        self.splits = np.array(self.source.splits)

    @cached_property
    def examples(self) -> LabelledImages:
        """Every image as it is, with its groups, and without masks."""
        return self._examples([self.source.image(row, self.resolution) for row in range(len(self.source))])

    def scanned(self, rows: Sequence[int], scanner: str) -> LabelledImages:
        """Rows taken anew on a planted scanner, in standard exposure."""
        return self._examples([self.planted.counterfactual(row, scanner, self.resolution) for row in rows], rows)

    def _examples(self, images: Sequence[np.ndarray], rows: Sequence[int] | None = None) -> LabelledImages:
        rows = range(len(images)) if rows is None else rows
        schema, present = self.preset.covariates, self.preset.contrasts[self.finding].first
        table = {name: [self.source.table[name][row] for row in rows] for name in (self.finding, *ATTRIBUTES)}
        return LabelledImages(
            torch.from_numpy(np.rint(to_batch(images) * 255).astype(np.uint8)),
            torch.tensor([int(value == present) for value in table[self.finding]]),
            {name: torch.from_numpy(schema[name].encode(table[name]).astype(np.int64)) for name in ATTRIBUTES},
            {name: schema[name].levels for name in ATTRIBUTES},
            np.array([self.source.patient_ids[row] for row in rows]),
            access=self.source.access,
        )

    def masks(self, region: str, rows: Sequence[int], directory: Path, guidance_scale: float) -> torch.Tensor:
        """The region of every image, bool `[n, 1, r, r]`; empty without a box, and outside of `rows`.

        Args:
            region: one of REGIONS.
            rows: whose regions are made.
            directory: keeps counterfactuals.
            guidance_scale: of do(finding).
        """
        marked = [row for row in rows if row in self.boxes]
        masks = torch.zeros(len(self.source), 1, self.resolution, self.resolution, dtype=torch.bool)
        changes = self.changes(marked, directory, guidance_scale) if region == "changes" else {}
        lungs = lung_field(self.all_boxes, self.resolution)
        for row in marked:
            rng, drawn = row_generator(0, row), np.zeros((self.resolution, self.resolution), bool)
            for box in self.boxes[row]:
                pixels = box_pixels(box, self.resolution)
                drawn[moved(pixels, lungs, rng) if region == "moved_boxes" else pixels] = True
            masks[row, 0] = torch.from_numpy(largest(changes[row], int(drawn.sum())) if changes else drawn)
        return masks

    def changes(self, rows: Sequence[int], directory: Path, guidance_scale: float) -> dict[int, np.ndarray]:
        """|x - x*| under do(finding = absent) by row, float16 `[r, r]`."""
        key = fingerprint([self.saved.revision, self.planted.fingerprint, self.finding, guidance_scale, list(rows)])
        parts = [rows[first : first + BATCH] for first in range(0, len(rows), BATCH)]
        paths = [directory / f"{self.finding}-{key}-{place}.npy" for place in range(len(parts))]
        directory.mkdir(parents=True, exist_ok=True)
        pipeline = None
        for place in unfinished(paths):
            pipeline = pipeline or load_generator(self.saved)
            file = io.BytesIO()
            np.save(file, self._changed(pipeline, parts[place], guidance_scale))
            write_atomically(paths[place], file.getvalue())
            print(f"counterfactuals {place + 1}/{len(parts)}", flush=True)
        return dict(zip(rows, np.concatenate([np.load(path) for path in paths]), strict=True))

    def _changed(self, pipeline: CausalDiffusionPipeline, rows: Sequence[int], guidance_scale: float) -> np.ndarray:
        names, absent = self.preset.covariates.names, self.preset.contrasts[self.finding].second
        images = torch.from_numpy(to_batch([self.planted.image(row, self.saved.resolution) for row in rows]))
        covariates = {name: [self.planted.table[name][row] for row in rows] for name in names}
        held = pipeline.scm.graph.descendants([self.finding]) - {self.finding}
        output = pipeline(
            images,
            covariates=covariates,
            do={**{name: covariates[name] for name in held}, self.finding: [absent] * len(rows)},
            guidance_scale={self.finding: guidance_scale},
            generator=[torch.Generator().manual_seed(row) for row in rows],
            output_type="pt",
        )
        change = (torch.as_tensor(output.images) - images).abs()
        return interpolate(change, size=(self.resolution, self.resolution), mode="area")[:, 0].half().numpy()


def moved(pixels: Pixels, lungs: np.ndarray, rng: np.random.Generator) -> Pixels:
    """A rectangle anywhere inside the image with its centre in the lungs, or where it is if there is no such place.

    Args:
        pixels: its rows and columns.
        lungs: bool `[r, r]`.
        rng: draws the place.
    """
    height, width = (side.stop - side.start for side in pixels)
    places = np.argwhere(lungs[height // 2 :, width // 2 :][: len(lungs) - height + 1, : len(lungs) - width + 1])
    if not len(places):
        return pixels
    row, column = rng.choice(places).tolist()
    return slice(row, row + height), slice(column, column + width)


def largest(change: np.ndarray, count: int) -> np.ndarray:
    """The pixels that changed most, smoothed as the pointing game smooths: bool `[r, r]`.

    Args:
        change: |x - x*| `[r, r]`.
        count: number of pixels.
    """
    smoothed = gaussian_filter(change.astype(np.float64), SMOOTHING * len(change), mode="nearest")
    mask = np.zeros(smoothed.size, bool)
    mask[np.argsort(-smoothed, axis=None, kind="stable")[:count]] = True
    return mask.reshape(smoothed.shape)
