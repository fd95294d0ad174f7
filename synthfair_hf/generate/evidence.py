"""What a record says, as evidence: its fields asked for by name at any depth, and its digest with each statement."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..publish.governance import Evidence, Figure, Missing, Statement
from ..records import Entries, Record, file_sha256

__all__ = ["RecordFile", "Said", "interval", "missing", "strict"]

Said = Iterator[Statement | Missing]


class RecordFile:
    """A record whose fields are asked for by name, at any depth; an absent one is an error.

    Args:
        path: of the file.
        name: as it is told.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.record = Record.read(path)
        self.evidence = Evidence(file=name, sha256=file_sha256(path))

    def stage(self, stage: str) -> "RecordFile":
        """This record; InputError unless it is of this stage."""
        if self.record.stage != stage:
            raise InputError(f"{self.path}: is a record of {self.record.stage!r}; give one of {stage!r}.")
        return self

    def __call__(self, *names: str) -> Any:
        """A field, or an entry inside it; InputError where it is absent."""
        field, *inner = names
        value = strict(getattr(self.record, field), field, self.path)
        for name in inner:
            value = value[name]
        return value

    def says(self, text: str, *figures: Figure) -> Statement:
        """What this record tells."""
        return Statement(checked=text, figures=figures, record=self.evidence)


def strict(value: Any, field: str, path: Path) -> Any:
    """A value of a record, of which every absent entry is named.

    Args:
        value: as JSON holds it.
        field: of the record.
        path: of its file.
    """
    if isinstance(value, Mapping):
        return Entries({name: strict(one, f"{field}.{name}", path) for name, one in value.items()}, field, path)
    if isinstance(value, list):
        return [strict(one, f"{field}[{place}]", path) for place, one in enumerate(value)]
    return value


def missing(text: str, remedy: str) -> Missing:
    """What no record tells, and what to do.

    Args:
        text: what is missing.
        remedy: what to do.
    """
    return Missing(missing=text, remedy=remedy)


def interval(name: str, row: Mapping[str, Any], n: int | None) -> Figure:
    """A figure with the keys that records of audits and of memorisation have.

    Args:
        name: of the figure.
        row: of a record.
        n: of what it is.
    """
    return Figure(name=name, value=row["value"], low=row["low"], high=row["high"], n=n)
