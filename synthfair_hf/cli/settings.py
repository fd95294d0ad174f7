"""What a verb is, and the flags that several verbs share.

A field is a flag, called by its alias where it has one: the field bears the name that the public function gives its
argument. A field that is a model itself, such as a training run's settings, stands for the flags of its own fields.

    class      verb            docstring  its description          `example`  a command that runs
    field      flag            description  its line of help       `Words`    how several words make its value
"""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from ..domains.presets import PRESETS
from ..records import Access

__all__ = [
    "Generator",
    "KnownAccess",
    "License",
    "OutputDirectory",
    "OwnPreset",
    "Preset",
    "Seed",
    "Start",
    "Steps",
    "VerbSettings",
    "like",
]


def like(model: type[BaseModel], name: str) -> Any:
    """A field of a model of the library: its default, range and line of help."""
    return model.model_fields[name]


OwnPreset = Annotated[
    str | None,
    Field(
        description=f"domain: {', '.join(PRESETS)}, or a YAML file of your own; by default that of an ingested folder, "
        "else chest_xray"
    ),
]
Preset = Annotated[str, Field(description=f"domain: {', '.join(PRESETS)}, or a YAML file of your own")]
Start = Annotated[str, Field(description="saved pipeline to start from: a directory, or its name on the Hub")]
Generator = Annotated[str | None, Field(description="saved pipeline; the shipped one by default")]
OutputDirectory = Annotated[Path, Field(description="directory that is written")]
Seed = Annotated[int, Field(ge=0, lt=2**63, description="of everything that is drawn")]
License = Annotated[str | None, Field(description="licence identifier for the card")]
KnownAccess = Annotated[
    Access | None,
    Field(
        description="who may see the source; by default as its data set or its record tells, else unknown; only what "
        "is open is published openly"
    ),
]
Steps = Annotated[int | None, Field(description="solver steps; the generator's own by default")]


class VerbSettings(BaseModel):
    """Settings of a verb: checked and frozen; unknown ones are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    verb: ClassVar[str]
    example: ClassVar[str]
    renamed_flags: ClassVar[Mapping[str, str]] = {}
    """Flags that go by another name now."""
    library_names: ClassVar[Mapping[str, str]] = {}
    """Arguments of functions that the verb's own calls, with the flags that give them."""
    continues: ClassVar[bool] = False
    """Whether the same command goes on with what an interrupted one began."""

    @abstractmethod
    def run(self) -> int | None:
        """Call the verb's function, and print what came out; returns the exit status, None for 0."""

    def given(self) -> dict[str, Any]:
        """The settings by name, without those that are None: the function's own defaults stand for them."""
        return {name: value for name, value in self if value is not None}
