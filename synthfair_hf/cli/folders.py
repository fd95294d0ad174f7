"""The flags of a folder of images, or of several, and what the library takes for them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from ..domains.images import Fit
from ..domains.ingested import ingested_preset
from ..domains.joined import JoinedFolders
from ..domains.preset import Preset
from ..domains.readers import DataSetFolder
from ..domains.source import Patients
from ..domains.values import Uncertain
from ..errors import InputError, unknown
from ..views.preset import load_preset
from .words import VALUES

__all__ = [
    "ExternalSource",
    "ObservedSource",
    "RealSource",
    "RepairSource",
    "Source",
    "SourceFlags",
    "WorldSource",
    "own_preset",
]


class SourceFlags(BaseModel):
    """The flags of a folder of images, or of several as one source, and of how they are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_dir: tuple[Path, ...] | None = Field(
        None,
        alias="source",
        description="folder with metadata.csv and images, or of a data set; several are joined, as DIR or NAME=DIR; "
        "the phantom needs none",
    )
    dataset_name: tuple[str, ...] | None = Field(
        None,
        description="layout of the folder, or of each: imagefolder, mimic_cxr, ... (`synthfair sources` lists them)",
    )
    uncertain: Uncertain = Field("missing", description="what labels count as that their authors call uncertain")
    columns: Annotated[dict[str, str], VALUES] = Field(
        {},
        alias="column",
        description="columns of the table by covariate, such as age=PatientAge patient_id=PatientID; of one of several "
        "NAME.age=PatientAge",
    )
    image_column: str | None = Field(None, description="column of the table that names the images")
    shared_patients: tuple[str, ...] = Field(
        (), description="names of sources that give the same people the same patient_id"
    )
    fit: Fit = Field("crop", description="how images become square: crop their ends, or pad them with black")
    patients: Patients = Field(
        "all",
        description="whose images are read: all, or one of two parts that never meet, by which a generator is learned "
        "(generator) and the predictors that judge it (judge); both have the test patients, from which neither "
        "learns, and held_out has them with the judges' validation patients, for measuring",
    )


def _folder(flags: SourceFlags) -> Path | DataSetFolder | JoinedFolders | None:
    """The folder, or the folders, as the library takes them."""
    # in the order of the flags: a set has none, and the first is named by an error
    names_given = [name for name in type(flags).model_fields if name in flags.model_fields_set]
    given = {name: getattr(flags, name) for name in names_given if name != "source_dir"}
    if flags.source_dir is None:
        for name in given:
            raise InputError(
                f"source_dir: not given, but {name} is for a folder of images; give it, or leave both out."
            )
        return None
    shared, names = given.pop("shared_patients", ()), given.pop("dataset_name", (None,))
    if len(names) not in (1, len(flags.source_dir)):
        raise InputError(
            f"dataset_name: {len(names)} names for {len(flags.source_dir)} folders; give one for each, or one for all."
        )
    sites, folders = zip(*map(_named, flags.source_dir), strict=True)
    if len(folders) == 1 and sites == (None,):
        if shared:
            raise InputError(f"shared_patients: {', '.join(shared)}: is for several sources, and one is given.")
        named = given if names[0] is None else {**given, "dataset_name": names[0]}
        return DataSetFolder(directory=folders[0], **named) if named else folders[0]
    columns = given.pop("columns", {})
    joined = JoinedFolders.of(
        [
            DataSetFolder(directory=folder, dataset_name=name, **given)
            for folder, name in zip(folders, names * len(folders) if len(names) == 1 else names, strict=True)
        ],
        sites,
        shared,
    )
    own = {place: {name: column for name, column in columns.items() if "." not in name} for place in joined.folders}
    for name, column in columns.items():
        place, dot, covariate = name.rpartition(".")
        if dot and place not in own:
            raise unknown("columns", name, [f"{one}.{covariate}" for one in own])
        if dot:
            own[place][covariate] = column
    folders_of = {place: one.model_copy(update={"columns": own[place]}) for place, one in joined.folders.items()}
    return joined.model_copy(update={"folders": folders_of})


def _one_folder(flags: SourceFlags) -> Path | DataSetFolder | None:
    """The one folder, as the library takes it."""
    folder = _folder(flags)
    if not isinstance(folder, JoinedFolders):
        return folder
    if len(folder.folders) > 1:
        raise InputError(f"source_dir: {len(folder.folders)} folders are given; a test beside is on one; give one.")
    (one,) = folder.folders.values()
    return one


def _named(word: Path) -> tuple[str | None, Path]:
    """A folder and the name of its site, from DIR, which may have an equals sign in its name, or NAME=DIR."""
    name, equals, folder = str(word).partition("=")
    if not equals or not name or not folder or "/" in name or word.exists():
        return None, word
    return name, Path(folder)


def _flags(alias: str, description: str, read: Any = _folder) -> Any:
    """These flags, with a name and a description of the folder of their own, and how they are read."""
    folder: Any = (tuple[Path, ...] | None, Field(None, alias=alias, description=description))
    return Annotated[create_model("SourceFlags", __base__=SourceFlags, source_dir=folder), AfterValidator(read)]


if TYPE_CHECKING:
    # what `_folder` makes of the flags
    Source = Path | DataSetFolder | JoinedFolders | None
    WorldSource = Path | DataSetFolder | JoinedFolders | None
    RealSource = Path | DataSetFolder | JoinedFolders | None
    ObservedSource = Path | DataSetFolder | JoinedFolders | None
    RepairSource = Path | DataSetFolder | JoinedFolders | None
    ExternalSource = Path | DataSetFolder | None
else:
    Source = Annotated[SourceFlags, AfterValidator(_folder)]
    WorldSource = _flags("source", "the world's data; the phantom needs none")
    RealSource = _flags("source", "real images that realism compares with; the phantom needs none")
    ObservedSource = _flags(
        "source",
        "observe subjects from this folder instead of drawing them; with --text_to_image fit the causal model that "
        "draws them on it",
    )
    RepairSource = _flags("source", "where its subjects were observed, for repair")
    ExternalSource = _flags(
        "external", "folder of real images with metadata.csv, or a data set, for a test beside", _one_folder
    )


def own_preset(name: str | None, source: Source) -> Preset:
    """The preset that is named; without a name that of an ingested folder, which is said, or chest_xray."""
    folders = list(source.folders.values()) if isinstance(source, JoinedFolders) else [source] if source else []
    names = [] if name else [one for folder in folders if (one := ingested_preset(Path(folder)))]
    if not names:
        return load_preset(name or "chest_xray")
    first, *others = map(load_preset, names)
    if len(names) < len(folders) or any(one != first for one in others):
        raise InputError(
            f"preset: not given, and {', '.join(map(str, folders))} were not all ingested for one; give one that suits "
            "all of them."
        )
    print(f"preset: {first.name}, for which {folders[0]} was ingested")
    return first
