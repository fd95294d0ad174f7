"""Where images come from: every data set that can be opened, by name.

To add one: its reader, and its place in READERS.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from ..arguments import checked
from ..errors import InputError, unknown
from .brain_mri.adni import ADNI
from .brain_mri.ixi import IXI
from .brain_mri.oasis1 import OASIS1
from .brain_mri.phantom import BrainPhantom
from .chest_xray.brax import Brax
from .chest_xray.chexpert import CheXpert
from .chest_xray.chexpert_plus import CheXpertPlus
from .chest_xray.mimic_cxr import MimicCXR
from .chest_xray.nih_chestxray14 import NIHChestXray14
from .chest_xray.padchest import PadChest
from .chest_xray.rsna_pneumonia import RSNAPneumonia
from .chest_xray.scanners import AcquisitionWorld
from .chest_xray.vindr_cxr import VinDrCXR
from .dermatology.fitzpatrick17k import Fitzpatrick17k
from .dermatology.ham10000 import HAM10000
from .dermatology.isic import ISIC
from .dermatology.phantom import SkinPhantom
from .drawn import DrawnSource
from .faces.utkface import UTKFace
from .hub_dataset import store_images
from .imagefolder import Examine, ImageFolder
from .ingested import is_ingested, read_metadata
from .joined import JoinedFolders, JoinedSource, SourceFolder
from .morphomnist.source import MorphoMNIST
from .phantom.phantom import SUBJECTS, PhantomSource
from .preset import Preset
from .presets import PRESETS, findings_among, preset_with
from .readers import DataSetFolder, Reader
from .source import Source

__all__ = ["DRAWN", "READERS", "SOURCES", "WORLD_SEED", "describe_sources", "open_images", "open_joined", "open_source"]

LOGGER = logging.getLogger(__name__)

WORLD_SEED = 0
"""Seed of the planted acquisition and of the phantom: one fixed world, the same in every run."""

READERS: dict[str, type[Reader]] = {
    reader.name: reader
    for reader in (
        *(MimicCXR, CheXpert, CheXpertPlus, NIHChestXray14, PadChest, VinDrCXR, Brax, RSNAPneumonia),
        *(HAM10000, ISIC, Fitzpatrick17k, OASIS1, IXI, ADNI, UTKFace),
    )
}
"""Data sets in their own layouts, by name."""

DRAWN: dict[str, Callable[[], DrawnSource]] = {
    "phantom": lambda: PhantomSource(SUBJECTS, WORLD_SEED),
    "dermatology_phantom": lambda: DrawnSource(SkinPhantom(), SUBJECTS, WORLD_SEED),
    "brain_mri_phantom": lambda: DrawnSource(BrainPhantom(), SUBJECTS, WORLD_SEED),
}
"""Data sets whose images are drawn, and that have no directory."""

GRAY = ("morphomnist", "phantom")
"""Data sets that have no colours, whatever a preset says."""

SOURCES = ("imagefolder", "datasets", "morphomnist", *DRAWN, *READERS)
"""Names of the data sets that can be opened."""


@checked
def open_source(
    directory: SourceFolder | None,
    preset: Preset,
    resolution: int,
    dataset_name: str | None = None,
    check: Callable[[Source], object] | None = None,
) -> Source:
    """The images of a data set with the preset's covariates.

    Where the preset has a scanner and the data set does not, scanners are planted (`chest_xray.scanners`).

    Args:
        directory: where the data set is, or a `DataSetFolder` that also says how it is read, or `JoinedFolders` for
            several as one; None for what is in DRAWN.
        preset: the domain; covariates that it does not name are not read.
        resolution: height and width in pixels that images will have.
        dataset_name: a name in SOURCES; by default that of the `DataSetFolder`, or the preset's own name where it is
            one, else "imagefolder". Of several, each folder names its own.
        check: what needs covariates and patients alone; of a folder of images it is called before one of them is read,
            with a source of all its rows. It sees more images than there will be where some are quarantined.

    Raises:
        InputError: for an unknown name, a directory that is missing or holds something else, columns that cannot be
            mapped, and for radiographs without a view, by which scanners are assigned.
    """
    if isinstance(directory, JoinedFolders) and (len(directory.folders) > 1 or preset.covariates.site):
        if dataset_name is not None:
            raise InputError(f"dataset_name: {dataset_name} is for one folder; let each of several name its own.")

        def check_joined(joined: JoinedSource) -> None:
            _tell(joined, preset)
            if check is not None:
                check(_with_scanners(joined, directory, joined.domain))

        joined = open_joined(directory, preset, resolution, check_joined)
        return _with_scanners(joined, directory, joined.domain)
    if isinstance(directory, JoinedFolders):
        (directory,) = directory.folders.values()
    folder = DataSetFolder(directory=directory) if isinstance(directory, str | Path) else directory
    chosen = dataset_name or (None if folder is None else folder.dataset_name)
    name = _name(chosen, preset, None if folder is None else Path(folder))
    if name in DRAWN:
        if folder is not None:
            raise InputError(f"source_dir: {directory} is not for the {name}, whose images are drawn; leave it out.")
        return DRAWN[name]()
    if folder is None:
        raise InputError(f"source_dir: not given; {chosen or preset.name} needs the folder of its images.")
    folder = folder.model_copy(update={"dataset_name": name})
    root = Path(folder)
    if name == "morphomnist":
        if folder.mapping:
            argument = "columns" if folder.columns else "image_column"
            raise InputError(f"{argument}: {', '.join(folder.mapping.values())}: {name} has no table; leave it out.")
        if folder.fit != "crop":
            raise InputError(f"fit: {folder.fit} is not for {name}, whose images are square; leave it out.")
        if folder.patients != "all":
            raise InputError(f"patients: {folder.patients} is not for {name}, which has none; leave it out.")
        return _with_scanners(MorphoMNIST(root, preset, resolution), root, preset)

    def check_rows(images: ImageFolder) -> None:
        _tell(images, preset)
        if check is not None:
            check(_with_scanners(images, root, preset))

    return _with_scanners(open_images(folder, preset, resolution, check_rows), root, preset)


def open_images(
    folder: str | Path | DataSetFolder,
    preset: Preset,
    resolution: int,
    check: Callable[[ImageFolder], object],
    examine: Examine | None = None,
    site: str | None = None,
) -> ImageFolder:
    """The images of a folder as they are, on their own scanners.

    Args:
        folder: of images with a metadata.csv, or a `DataSetFolder` that names another layout.
        preset: the domain; covariates that it does not name are not read.
        resolution: height and width in pixels that images will have.
        check: what needs covariates and patients alone, called before an image is read.
        examine: what reads the images, as `ImageFolder` takes it.
        site: name of the folder where it is one of several, which an error tells.

    Raises:
        InputError: as `open_source`.
    """
    root = Path(folder)
    if not isinstance(folder, DataSetFolder):
        return ImageFolder(root, preset, resolution, check=check, examine=examine)
    columns, image_column = dict(folder.columns), folder.image_column
    if folder.dataset_name in READERS:
        table = READERS[folder.dataset_name](root, preset, folder.uncertain).table()
        table.others_in = preset_with(table.others, folder.dataset_name)
    elif folder.dataset_name == "datasets":
        root, table = store_images(folder)
        # the column holds the images themselves
        columns.pop("file_name", None)
        image_column = None
    else:
        table = read_metadata(root)
    table.map_columns(columns, preset, image_column, site)
    return ImageFolder(
        root, preset, resolution, check=check, table=table, examine=examine, fit=folder.fit, patients=folder.patients
    )


def open_joined(
    folders: JoinedFolders, preset: Preset, resolution: int, check: Callable[[JoinedSource], object]
) -> JoinedSource:
    """Several folders of images as one source, on their own scanners.

    Args:
        folders: by the names of their sites.
        preset: the domain; where it lacks a site it gets one, if there are several.
        resolution: height and width in pixels that images will have.
        check: what needs covariates and patients alone, called when all tables are read and no image is.

    Raises:
        InputError: as `open_source` and `JoinedSource`; for a data set that is no folder of images.
    """
    domain = preset.with_site(folders.folders)
    site = domain.covariates.site
    for folder in folders.folders.values():
        if (name := _name(folder.dataset_name, preset, Path(folder))) in ("morphomnist", *DRAWN):
            raise InputError(f"source_dir: {folder} is read as {name}, which is not joined with others; leave it out.")

    def joined(sources: dict[str, ImageFolder]) -> JoinedSource:
        return JoinedSource(sources, preset, folders.shared_patients)

    def opened(places: tuple[str, ...], tables: dict[str, ImageFolder]) -> dict[str, ImageFolder]:
        """The sources of these places; the tables of those that follow are read before the images of the first."""
        if not places:
            check(joined(tables))
            return {}
        place, *others = places
        known = [v.name for v in domain.covariates.walk() if v != site and place not in v.unobserved_at]
        own = domain.model_copy(update={"covariates": domain.covariates.subset(known)})
        following: dict[str, ImageFolder] = {}

        def go_on(images: ImageFolder) -> None:
            following.update(opened(tuple(others), {**tables, place: images}))

        folder = folders.folders[place]
        folder = folder.model_copy(update={"dataset_name": _name(folder.dataset_name, preset, Path(folder))})
        return {place: open_images(folder, own, resolution, go_on, site=place), **following}

    return joined(opened(tuple(folders.folders), {}))


def _name(chosen: str | None, preset: Preset, directory: Path | None) -> str:
    """The name of a data set: the one chosen, or the preset's where it is one, else imagefolder.

    What was ingested is a folder of images, whatever data set it was of.
    """
    ingested = directory is not None and chosen is None and is_ingested(directory)
    name = chosen or (preset.name if preset.name in SOURCES and not ingested else "imagefolder")
    if name not in SOURCES:
        raise unknown("dataset_name", name, SOURCES)
    if name in GRAY and preset.channels != 1:
        raise InputError(
            f"dataset_name: {name} has gray images, and the preset {preset.name} channels: {preset.channels}; give a "
            "preset of gray images (channels: 1), or another data set."
        )
    return name


def _tell(source: Source, preset: Preset) -> None:
    """Warn of what the source tells of nobody, before anything is learned without it."""
    absent = [one.name for one in preset.covariates.walk() if one.optional and one.name not in source.covariates]
    if absent:
        LOGGER.warning("%s: %s of %s not told of any image, and left out", source.name, ", ".join(absent), preset.name)


def _with_scanners(source: Source, directory: object, preset: Preset) -> Source:
    """The source itself, or on planted scanners where the preset has a scanner and the source does not."""
    if "scanner" not in preset.covariates or "scanner" in source.covariates:
        return source
    if preset.channels != 1:
        raise InputError(
            f"{directory}: no column 'scanner' in metadata.csv; scanners are planted on gray radiographs alone, and "
            f"the preset {preset.name} has channels: {preset.channels}; add the column, or take the covariate out."
        )
    if "view" not in source.covariates:
        raise InputError(
            f"{directory}: no column 'view' in metadata.csv, by which the preset {preset.name} plants scanners; "
            "add it, or give the preset of its own domain, such as one that `synthfair preset` drafts."
        )
    return AcquisitionWorld(source, WORLD_SEED, preset)


def describe_sources(name: str | None = None) -> list[str]:
    """What `synthfair sources` prints: each data set with its covariates, terms and what to download.

    Args:
        name: of one data set; all by default.

    Raises:
        InputError: an unknown name.
    """
    if name is not None and name not in SOURCES:
        raise unknown("name", name, SOURCES)
    told = {**OTHERS, **{one: _description(reader) for one, reader in READERS.items()}}
    return [line for one, lines in told.items() if name in (None, one) for line in lines]


OTHERS = {
    "imagefolder": (
        "imagefolder: a folder with a metadata.csv of your own",
        "  covariates  those of the preset that are its columns, or that are mapped to columns",
        "  download    nothing: metadata.csv with file_name and patient_id, and the images that it names",
        "  access      as you say; unknown where you do not",
    ),
    "datasets": (
        "datasets: any data set of the Hub, as OWNER/NAME, or of `datasets` on this machine",
        "  covariates  as for imagefolder; a column patient_id, or one that is mapped to it",
        "  download    nothing: the library fetches it",
        "  access      as you say; unknown where you do not",
    ),
    "morphomnist": (
        "morphomnist: digits with thickness and intensity, of the preset of that name",
        "  download    train.npz and test.npz",
    ),
    **{name: (f"{name}: a world that is drawn, of the preset of that name", "  download    nothing") for name in DRAWN},
}
"""What is told of the data sets that have no reader."""


def _description(reader: type[Reader]) -> tuple[str, ...]:
    return (
        f"{reader.name}: {reader.title}",
        f"  covariates  {', '.join(reader.covariates)}",
        f"  presets     {'; '.join(_told(PRESETS[one], reader) for one in reader.presets) or 'one of your own'}",
        f"  download    {reader.download.removeprefix('needs ')}",
        f"  access      {reader.access}; {reader.license}",
        f"  from        {reader.request}",
    )


def _told(preset: Preset, reader: type[Reader]) -> str:
    """The name of a preset, with what a data set never tells of it."""
    known = {*reader.covariates, *findings_among(preset, reader.labels)}
    never = [one.name for one in preset.covariates.walk() if one.optional and one.name not in known]
    return f"{preset.name} (never told: {', '.join(never)})" if never else preset.name
