"""Verbs that write and check what is said of a data set or generator, and that publish it."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..errors import InputError, counted
from .settings import License, OutputDirectory, VerbSettings
from .words import Positional

__all__ = ["Card", "Governance", "Push", "Validate"]


class Card(VerbSettings):
    """Write the card of a data set or generator anew from its records; of a data set Croissant and figures too."""

    verb = "card"
    example = "synthfair --creator my-lab --url https://huggingface.co/datasets/my-lab/synthfair"
    directory: Annotated[Path, Positional("DIR")] = Field(description="data set or saved pipeline")
    license: License = None
    creator: str | None = Field(None, description="person or organisation that publishes it; by default as before")
    url: str | None = Field(None, description="address of its page; by default as before")
    date_published: str | None = Field(None, description="day of publication, as 2026-01-31; by default as before")
    scoreboard: Path | None = Field(
        None, description="directory that `measure` wrote for its generator, whose figures are printed from then on"
    )
    leaderboard: Path | None = Field(
        None, description="directory that `benchmark` wrote for the data set, whose figures are printed from then on"
    )
    hub_model_id: str | None = Field(None, description="OWNER/NAME of a generator on the Hub; by default as before")
    datasets: tuple[str, ...] | None = Field(
        None, description="OWNER/NAME of data sets on the Hub that a generator was trained on; by default as before"
    )

    def run(self) -> None:
        from ..generate.documents import write_card

        for path in write_card(**dict(self)):
            print(f"wrote {path}")


class Validate(VerbSettings):
    """Compare card, records and settings of a data set or generator with each other; images are not read."""

    verb = "validate"
    example = "synthfair"
    directory: Annotated[Path, Positional("DIR")] = Field(description="data set or saved pipeline")

    def run(self) -> int:
        from ..generate.documents import validate

        problems = validate(self.directory)
        for problem in problems:
            print(problem)
        told = f"{counted(len(problems), 'problem')}" if problems else "card and records agree"
        print(f"{self.directory}: {told}")
        return 1 if problems else 0


class Governance(VerbSettings):
    """Write what was checked of a data set, from sources to monitoring, and what is missing: a page, and JSON."""

    verb = "governance"
    example = "synthfair --audit audit --monitoring monitoring --output_dir governance"
    directory: Annotated[Path, Positional("DIR")] = Field(description="data set that `synthfair generate` wrote")
    pretrained_model_name_or_path: Annotated[
        str | None, Field(description="generator that made it; without one its records are named as missing")
    ] = None
    scoreboard: Path | None = Field(None, description="directory that `synthfair measure` wrote, of that generator")
    audit: tuple[Path, ...] = Field((), description="directories that `synthfair audit` wrote")
    monitoring: tuple[Path, ...] = Field((), description="directories that `synthfair monitor` wrote")
    output_dir: OutputDirectory

    def run(self) -> None:
        from ..generate.governance import write_governance

        for stage in write_governance(**dict(self)).stages:
            told = f"{counted(len(stage.statements), 'statement')}, {len(stage.missing)} missing"
            print(f"{stage.stage}: {told}")
            for one in stage.missing:
                print(f"  missing: {one.missing}")
        print(f"wrote {self.output_dir}/governance.html, governance.json and governance.schema.json")


class Push(VerbSettings):
    """Push a data set or a generator to the Hub as a tagged release; the same command goes on after a break."""

    verb = "push"
    continues = True
    example = "synthfair --hub_dataset_id my-lab/synthfair"
    directory: Annotated[Path, Positional("DIR")] = Field(description="data set or saved pipeline")
    hub_dataset_id: str | None = Field(None, description="OWNER/NAME of the data set repository on the Hub")
    hub_model_id: str | None = Field(None, description="OWNER/NAME of the model repository, for a saved pipeline")
    private: bool = Field(False, description="private repository; access is approved by hand for restricted images")
    tag: str | None = Field(None, description="of this release; the identity of its bytes by default")
    permission: str | None = Field(
        None, description="who permits what is restricted to be public, and where; it is published"
    )
    scoreboard: Path | None = Field(
        None, description="directory that `measure` wrote, for the card; without it figures are not measured"
    )
    license: License = None
    datasets: tuple[str, ...] | None = Field(
        None, description="OWNER/NAME of data sets on the Hub that the generator was trained on"
    )

    def run(self) -> None:
        from ..diffusion.generator import push_generator
        from ..generate.publish import publish

        if (self.hub_dataset_id is None) == (self.hub_model_id is None):
            raise InputError("hub_dataset_id, hub_model_id: give one of them, for a data set or for a generator.")
        arguments = self.given()
        if self.hub_dataset_id is None:
            release = push_generator(**arguments)
        else:
            for name in ("scoreboard", "license", "datasets"):
                if name in arguments:
                    raise InputError(f"{name}: is for a generator; give --hub_model_id, or leave it out.")
            release = publish(**arguments)
        print(
            f"{release.url} at {release.tag} ({release.commit[:7]}): {counted(release.uploaded, 'file')} sent, "
            f"{release.already_there} there already"
        )
