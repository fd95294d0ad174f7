"""What a plan consists of: rows, and the shards in which they are generated and stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Row", "Shard"]


@dataclass(frozen=True, slots=True)
class Shard:
    """What is generated and recorded at a time: subjects of one split, and the files that hold their rows.

    `files` maps a path in the data set to the members of every family, as places in the plan's `cells`, that it holds.
    """

    split: str
    subjects: Sequence[int]
    stem: str
    files: Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Row:
    """One member of a subject's family: the factors' values in `cell`, everything else the subject's own.

    `member` is the cell's place in the plan's `cells`; a family may lack some. `seed` is that of the subject's first
    draw; `stratum` names the subject's group of each stratified variable. `recipe` is the place of the
    subject's context in the plan's `recipes`, if there are any.
    """

    id: str
    split: str
    subject: int
    subject_id: str
    member: int
    cell: Mapping[str, Any]
    seed: int
    draw: float
    stratum: tuple[str, ...]
    recipe: int | None = None
