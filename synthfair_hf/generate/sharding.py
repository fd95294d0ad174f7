"""How a plan's subjects are divided into shards, and their rows into files named as in `layout`.

a split for evaluation, or a small one    so many subjects after each other: one file
a large train                             those of one stratum and tenth of `draw`: a file for each cell they show
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..views.layout import TENTHS, train_file, word
from .rows import Shard

if TYPE_CHECKING:
    from .plan import GenerationPlan

__all__ = ["divide"]


def divide(plan: "GenerationPlan") -> Iterator[Shard]:
    """The shards of a plan, in order; none crosses a split, and no file is without rows."""
    for split, subjects in plan.subjects.items():
        if split == "train" and plan.partitioned:
            yield from _partitions(plan)
            continue
        parts = _parts(plan, subjects)
        for index, part in enumerate(parts):
            stem = f"{split}-{index:05d}-of-{len(parts):05d}"
            yield Shard(split, part, stem, {f"data/{stem}.parquet": range(len(plan.cells))})


def _partitions(plan: "GenerationPlan") -> Iterator[Shard]:
    design, edges = plan.design, np.arange(1, TENTHS) / TENTHS
    for stratum in plan.stratum_names:
        subjects = np.array(plan.groups["train", stratum])
        draws = design.draws["train"][design.offsets("train", subjects)]
        tenths = np.searchsorted(edges, draws, side="right")
        groups = dict(zip(plan.strata, stratum, strict=True))
        stem = "-".join(["train", *(word(group) for group in stratum)])
        for tenth in range(TENTHS):
            for index, part in enumerate(_parts(plan, subjects[tenths == tenth].tolist())):
                files = {
                    train_file({**groups, **plan.cells[member]}, tenth, index): [member]
                    for member in np.flatnonzero(design.rows("train", part)).tolist()
                }
                yield Shard("train", part, f"{stem}-{tenth}-{index:05d}", files)


def _parts(plan: "GenerationPlan", subjects: Sequence[int]) -> list[Sequence[int]]:
    starts = range(0, len(subjects), plan.subjects_per_shard)
    return [subjects[start : start + plan.subjects_per_shard] for start in starts]
