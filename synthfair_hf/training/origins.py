"""Origins: the images that a network was learned from, also by way of what it started from or was taught by.

    origin        = (source, part)              fingerprint of a source; its patients: all, generator or judge
    independent  <=>  every origin of the generator is of the generators' patients, and of the predictor of the judges'

The parts never meet (`domains.source.part_split`), as long as one patient has one identifier in both. Sources that
differ may still show the same patients, so that nothing else is called independent. Causal models, which see no image,
are left out of account.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..access import RECORD
from ..records import Record

__all__ = ["INDEPENDENT", "SAME", "TAUGHT", "UNKNOWN", "Origin", "as_recorded", "origins_in", "origins_of", "relation"]

INDEPENDENT, SAME, UNKNOWN = "independent: other patients", "same images as the generator", "unknown"
TAUGHT = "used to train or calibrate the generator"
"""What is said of a predictor that measures a generator."""

WHATEVER = ("adapters", "preferences", "judge")
"""Inputs of a generator that was taught by something whose images are not recorded."""

RECORDED = ("initial_weights", "predictor")
"""Beginnings of inputs whose images `counts["origins"]` tells, in records written since there were origins."""


class Origin(NamedTuple):
    """A source that something was learned from, and whose of its patients."""

    source: str | None
    """Its fingerprint; None where it is not recorded."""
    part: str = "all"


def origins_of(record: Record | None) -> list[Origin]:
    """The images behind what a record was written of.

    Args:
        record: of a training or calibration; None where there is none.

    Returns:
        Its own source first, then others; one whose source is None stands for all that is not recorded.
    """
    if record is None:
        return [Origin(None)]
    source = record.inputs.get("source", record.inputs.get("world"))
    found = [Origin(source, (record.counts.get("source") or {}).get("part", "all"))]
    found += [Origin(*one) for one in record.counts.get("origins", ())]
    unrecorded = "origins" not in record.counts and any(name.startswith(RECORDED) for name in record.inputs)
    if unrecorded or any(name in record.inputs for name in WHATEVER):
        found.append(Origin(None))
    return list(dict.fromkeys(found))


def origins_in(directory: str | Path) -> list[Origin]:
    """The same of what is saved in a directory with record.json."""
    path = Path(directory) / RECORD
    return origins_of(Record.read(path) if path.exists() else None)


def as_recorded(*origins: Iterable[Origin]) -> list[list[str | None]]:
    """Origins of several as `counts["origins"]` of a record, each once."""
    return [list(one) for one in dict.fromkeys(one for several in origins for one in several)]


def relation(generator: Iterable[Origin], predictor: Iterable[Origin]) -> str:
    """Whether a predictor learned from images that a generator was learned from: INDEPENDENT, SAME or UNKNOWN.

    Args:
        generator: origins of the generator, its calibration and whatever taught it.
        predictor: origins of the predictor.
    """
    generator, predictor = list(generator), list(predictor)
    if {one.source for one in generator} & {one.source for one in predictor} - {None}:
        return SAME
    parts = {one.part for one in generator}, {one.part for one in predictor}
    return INDEPENDENT if parts == ({"generator"}, {"judge"}) else UNKNOWN
