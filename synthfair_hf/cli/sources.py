"""Verbs of real images: their domain as a file, the data sets that can be read, and a cleaned copy of one."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from ..domains.images import Fit
from ..domains.ingested import METADATA
from ..domains.preset_file import preset_yaml
from ..domains.presets import PRESETS
from ..domains.readers import DataSetFolder
from ..domains.source import describe_counts
from ..domains.values import Uncertain
from ..errors import InputError, counted
from ..records import check_new_files, write_atomically
from ..views.preset import load_preset
from .folders import SourceFlags
from .output import next_command, print_counts, trial
from .parser import in_flags
from .settings import KnownAccess, OutputDirectory, Preset, VerbSettings, like
from .words import VALUES, Positional

__all__ = ["Ingest", "PresetFile", "Sources"]


class PresetFile(VerbSettings):
    """Print a domain as YAML and check it, or draft one from the table of a folder of images."""

    verb = "preset"
    example = "--from images/metadata.csv --output_file my_domain.yaml"
    library_names: ClassVar = {"findings": "finding"}
    preset: Annotated[str | None, Positional("FILE")] = Field(
        None, description=f"YAML file of your own to check and print, or one of {', '.join(PRESETS)}"
    )
    metadata_file: Path | None = Field(
        None, alias="from", description="metadata.csv beside its images, or their folder; a preset is drafted from it"
    )
    finding: tuple[str, ...] = Field(
        (), description="columns of the table that each are one finding, present or absent; by default those called so"
    )
    columns: Annotated[dict[str, str] | None, VALUES] = Field(
        None,
        alias="column",
        description="columns of the table by covariate, such as age=PatientAge patient_id=PatientID",
    )
    image_column: str | None = like(SourceFlags, "image_column")
    output_file: Path | None = Field(None, description="where the YAML goes; printed by default")

    def run(self) -> None:
        from ..domains.draft import draft_preset

        table, written = self.metadata_file, self.output_file
        if table is not None and table.is_dir():
            table /= METADATA
        if (self.preset is None) == (table is None):
            raise InputError("preset: give FILE to print a preset, or --from metadata.csv to draft one.")
        for name in ("finding", "columns", "image_column"):
            if table is None and getattr(self, name):
                raise InputError(f"{name}: is for a draft; give --from metadata.csv, or leave it out.")
        if written is not None:
            check_new_files("output_file", written)
        remarks: list[str] = []
        if table is None:
            text = preset_yaml(load_preset(str(self.preset)))
        else:
            name = "my_domain" if written is None else written.stem
            preset, remarks = draft_preset(table, name, self.finding, self.columns, self.image_column)
            remarks = [in_flags(remark, PresetFile) for remark in remarks]
            text = preset_yaml(preset, remarks)
        if written is None:
            print(text, end="")
            return
        write_atomically(written, text.encode())
        for remark in remarks:
            print(remark, file=sys.stderr)
        print(f"wrote {written}")
        if table is None:
            return
        print(trial())
        if table.name != METADATA:
            print(f"{table} is to be called {METADATA} first, as which it is read")
        image = () if self.image_column is None else ("--image_column", self.image_column)
        source = ("--source", table.parent, *image, *_column_flags(self.columns))
        print(next_command("train", "--preset", written, *source, "--output_dir", f"runs/{written.stem}"))


def _column_flags(columns: Mapping[str, str] | None) -> tuple[str, ...]:
    """The flags that name these columns by covariate."""
    mapped = [f"{name}={column}" for name, column in (columns or {}).items()]
    return ("--column", *mapped) if mapped else ()


class Sources(VerbSettings):
    """List the data sets that can be read: covariates, licence, access, what to download and where to ask for it."""

    verb = "sources"
    example = "mimic_cxr"
    name: Annotated[str | None, Positional("NAME")] = Field(None, description="one of them; all by default")

    def run(self) -> None:
        from ..domains.registry import describe_sources

        print("\n".join(describe_sources(self.name)))


class Ingest(VerbSettings):
    """Write one cleaned data set of a source, which every verb reads by --source alone; the same command goes on."""

    verb = "ingest"
    continues = True
    example = "chexpert CheXpert-v1.0-small --output_dir chexpert"
    dataset_name: Annotated[str, Positional("NAME")] = Field(
        description="layout of the folder: imagefolder, mimic_cxr, ... (`synthfair sources` lists them)"
    )
    source_dir: Annotated[Path, Positional("DIR")] = Field(description="folder of the data set")
    output_dir: OutputDirectory
    preset: Preset = "chest_xray"
    resolution: int | None = Field(
        None, description="of training in pixels, images are stored at twice that; the preset's by default"
    )
    access: KnownAccess = None
    uncertain: Uncertain = like(SourceFlags, "uncertain")
    columns: Annotated[dict[str, str], VALUES] = like(SourceFlags, "columns")
    image_column: str | None = like(SourceFlags, "image_column")
    fit: Fit = like(SourceFlags, "fit")
    num_proc: int | None = Field(None, description="processes that read images; as many as processors by default")
    dry_run: bool = Field(
        False, description="check the table and print the room and time that are needed; write nothing"
    )

    def run(self) -> None:
        from tqdm import tqdm

        from ..domains.ingest import estimate, ingest

        given = self.given()
        reading = ("dataset_name", "uncertain", "columns", "image_column", "fit")
        folder = DataSetFolder(directory=self.source_dir, **{name: given[name] for name in reading if name in given})
        names = ("output_dir", "resolution", "access", "num_proc")
        arguments = {**{name: given[name] for name in names if name in given}, "preset": load_preset(self.preset)}
        if self.dry_run:
            found = estimate(folder, **arguments)
            print("\n".join(describe_counts(found["counts"])))
            size, free = (tqdm.format_sizeof(found[name], "B") for name in ("bytes", "free"))
            images, time = counted(found["images"], "image"), tqdm.format_interval(found["seconds"])
            print(f"{images} would be read in about {time} and take about {size}; {free} are free")
            return
        record, place = ingest(folder, **arguments), self.output_dir
        print_counts({"source": record.counts})
        print(
            f"wrote {place}, access {record.access}; the key of its names and what was left out are in {place}.private"
        )
        preset = () if self.preset == "chest_xray" else ("--preset", self.preset)
        small = () if self.resolution is None else ("--resolution", self.resolution)
        domain = arguments["preset"].covariates
        with (place / "metadata.csv").open(encoding="utf-8") as file:
            told = file.readline().strip().split(",")
        # a scanner that no table tells is planted in training
        lacks = [one.name for one in domain.walk() if not one.optional and one.name not in (*told, "scanner")]
        if lacks:
            default = ", the default" if self.preset == "chest_xray" else ""
            print(
                f"preset {self.preset}{default}: needs {', '.join(lacks)} as well, which is told of no image; "
                "ingest it with the preset of its own domain, or draft one"
            )
            if self.dataset_name == "imagefolder":
                columns = _column_flags(self.columns)
                print(
                    next_command("preset", "--from", self.source_dir, *columns, "--output_file", f"{place.name}.yaml")
                )
            return
        print(trial())
        print(next_command("train", *preset, *small, "--source", place, "--output_dir", f"runs/{place.name}"))
