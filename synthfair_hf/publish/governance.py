"""Governance of a data set, for people and machines: what was checked at each stage, by which record, what is missing.

    governance.json           `Governance`: stages, each with statements and what is missing; never with neither
    governance.schema.json    its JSON Schema
    governance.html           the page, printed from governance.json alone

A statement has the file that says so, with its sha256, and its figures as that file has them.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import Checked
from ..records import write_together, written
from .pages import render

__all__ = ["STAGES", "Evidence", "Figure", "Governance", "Missing", "Stage", "StageName", "Statement", "write_pages"]

StageName = Literal["sources", "training", "calibration", "generation", "gate", "release", "audit", "monitoring"]

STAGES: dict[StageName, tuple[str, str]] = {
    "sources": ("where images and covariates come from, their licence and access", "data steward"),
    "training": ("how the generator was trained", "model developer"),
    "calibration": ("how strongly an intervention acts, and by whose measure", "model developer"),
    "generation": ("what was planned and written", "data set producer"),
    "gate": ("soundness of counterfactuals, realism, memorisation, quality gate", "independent evaluator"),
    "release": ("documents, licence and publisher", "publisher"),
    "audit": ("performance of a classifier by group", "reviewer of the deploying institution"),
    "monitoring": ("drift and alarms of the running classifier", "operator of the deploying institution"),
}
"""What each stage is about, and the role that decides whether what was checked there is enough."""


class _Part(Checked, BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Figure(_Part):
    """A number of a record; null where it is undefined, with its n all the same."""

    name: str
    value: float | None
    low: float | None = Field(default=None, description="lower end of its 95 % interval, where the record has one")
    high: float | None = None
    n: int | None = Field(default=None, description="of what it is a figure: images, rows, windows, as its name says")


class Evidence(_Part):
    """The file that says so."""

    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Statement(_Part):
    """What was checked or recorded."""

    checked: str = Field(min_length=1)
    figures: tuple[Figure, ...] = ()
    record: Evidence


class Missing(_Part):
    """What no record tells, and what to do about it."""

    missing: str = Field(min_length=1)
    remedy: str = Field(min_length=1)


class Stage(_Part):
    """One stage in the life of a data set."""

    stage: StageName
    decides: str
    statements: tuple[Statement, ...]
    missing: tuple[Missing, ...]

    @model_validator(mode="after")
    def _says_something(self) -> "Stage":
        if not self.statements and not self.missing:
            raise ValueError(f"stage {self.stage} has neither a statement nor what is missing")
        return self


class Governance(_Part):
    """One data set through its stages, all of them, in their order."""

    format: Literal["synthfair governance 1"] = "synthfair governance 1"
    version: str = Field(description="of the package that wrote this")
    data_set: str = Field(description="identity of the stored bytes")
    plan: str
    model_revision: str
    stages: tuple[Stage, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> "Governance":
        if [one.stage for one in self.stages] != list(STAGES):
            raise ValueError("stages are not those of STAGES in their order")
        return self


def write_pages(directory: Path, found: Governance) -> list[Path]:
    """Write the three files together; returns their paths.

    Args:
        directory: made where it is absent.
        found: what they say.
    """
    page = render("governance.html.jinja", found=found, about={name: about for name, (about, _) in STAGES.items()})
    directory.mkdir(parents=True, exist_ok=True)
    files = {
        directory / "governance.json": written(found.model_dump(mode="json")),
        directory / "governance.schema.json": written(Governance.model_json_schema()),
        directory / "governance.html": page.encode(),
    }
    write_together(files)
    return list(files)
