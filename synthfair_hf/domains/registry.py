"""Where images come from: every data set that can be opened, by name. To add one: its file, and its line in SOURCES."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..arguments import checked
from ..errors import InputError, unknown
from .chest_xray.scanners import AcquisitionWorld
from .imagefolder import ImageFolder
from .morphomnist.source import MorphoMNIST
from .phantom.phantom import SUBJECTS, PhantomSource
from .preset import Preset
from .source import Source

__all__ = ["SOURCES", "WORLD_SEED", "open_source"]

WORLD_SEED = 0
"""Seed of the planted acquisition and of the phantom: one fixed world, the same in every run."""


def _phantom(directory: str | Path | None, preset: Preset, resolution: int) -> Source:
    if directory is not None:
        raise InputError(f"source_dir: {directory} is not for the phantom, whose images are drawn; leave it out.")
    return PhantomSource(SUBJECTS, WORLD_SEED)


SOURCES: dict[str, Callable[[Any, Preset, int], Source]] = {
    "imagefolder": ImageFolder,
    "morphomnist": MorphoMNIST,
    "phantom": _phantom,
}
"""What reads a data set's directory, `(directory, preset, resolution)`, by the name of the data set."""

DRAWN = ("phantom",)
"""Data sets whose images are drawn, and that have no directory."""


@checked
def open_source(
    directory: str | Path | None,
    preset: Preset,
    resolution: int,
    dataset_name: str | None = None,
    check: Callable[[Source], object] | None = None,
) -> Source:
    """The images of a data set with the preset's covariates.

    Where the preset has a scanner and the data set does not, scanners are planted (`chest_xray.scanners`).

    Args:
        directory: where the data set is; None for what is in DRAWN.
        preset: the domain; covariates that it does not name are not read.
        resolution: height and width in pixels that images will have.
        dataset_name: a name in SOURCES; by default the preset's own name where it is one, else "imagefolder".
        check: what needs covariates and patients alone; of a folder of images it is called before one of them is read,
            with a source of all its rows. It sees more images than there will be where some are quarantined.

    Raises:
        InputError: for an unknown name, a directory that is missing or holds something else, and for radiographs
            without a view, by which scanners are assigned.
    """
    name = dataset_name or (preset.name if preset.name in SOURCES else "imagefolder")
    if name not in SOURCES:
        raise unknown("dataset_name", name, SOURCES)
    if directory is None and name not in DRAWN:
        raise InputError(f"source_dir: not given; {preset.name} needs the folder of its images.")
    if check is not None and directory is not None and name == "imagefolder":
        tabled = check
        source: Source = ImageFolder(
            directory, preset, resolution, check=lambda one: tabled(_with_scanners(one, directory, preset))
        )
    else:
        source = SOURCES[name](directory, preset, resolution)
    return _with_scanners(source, directory, preset)


def _with_scanners(source: Source, directory: str | Path | None, preset: Preset) -> Source:
    """The source itself, or on planted scanners where the preset has a scanner and the source does not."""
    if "scanner" not in preset.covariates or "scanner" in source.covariates:
        return source
    if "view" not in source.covariates:
        raise InputError(f"{directory}: no column 'view' in metadata.csv; scanners are assigned by view; add it.")
    return AcquisitionWorld(source, WORLD_SEED, preset)
